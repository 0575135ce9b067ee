//! How pixels become patches.

use serde::{Deserialize, Serialize};

use super::AT;
use crate::config::Act;
use crate::config::check::{Problem, dims, ensure, eps, widths};

/// What comes before a ViT's positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Stem {
    /// Each patch times one matrix.
    Patches(PatchEmbed),
    /// Several convolutions. Xiao et al. 2021.
    Convs(ConvStem),
}

impl Stem {
    /// Side of a patch in pixels.
    pub fn patch_size(&self) -> usize {
        match self {
            Stem::Patches(patches) => patches.size,
            Stem::Convs(stem) => stem.stride(),
        }
    }

    /// Rows and columns of patches in an image of `size` pixels; what is left of the last whole patch is unused.
    pub fn grid(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|side| side / self.patch_size())
    }

    /// Whether it makes patches of images of `size`, `width` channels each.
    pub(super) fn check(&self, size: [usize; 2], width: usize) -> Result<(), Problem> {
        match self {
            Stem::Patches(patches) => patches.check(),
            Stem::Convs(stem) => {
                stem.check(width)?;
                let (made, grid) = (size.map(|side| stem.outputs(side)), self.grid(size));
                let of = |field: fn(&StemConv) -> usize| stem.convs.iter().map(field).collect::<Vec<_>>();
                let (kernels, strides, paddings) = (of(|c| c.kernel), of(|c| c.stride), of(|c| c.padding));
                let found = format!("kernels {kernels:?}, strides {strides:?}, paddings {paddings:?}");
                let expected = format!(
                    "convolutions that make {}x{} patches of {}x{} pixels, not {}x{}",
                    grid[0], grid[1], size[0], size[1], made[0], made[1]
                );
                ensure(made == grid, "vision_cfg.conv_stem", found, expected)
            }
        }
    }
}

/// One matrix for all patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchEmbed {
    /// Side of a patch in pixels.
    pub size: usize,
    /// Form in which the checkpoint stores the matrix.
    pub weight: PatchWeight,
    /// Whether a bias is added after the matrix product.
    pub bias: bool,
}

impl PatchEmbed {
    pub(super) fn check(&self) -> Result<(), Problem> {
        dims(AT, &[("patch_size", self.size)])
    }
}

/// How the source has the matrix; the product is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchWeight {
    /// A convolution with stride equal to its kernel.
    Conv,
    /// A matrix over patches flattened as (y, x, channel).
    Linear,
}

/// Convolutions before a ViT: all but the last without bias, followed by BatchNorm and the activation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvStem {
    /// Convolutions in the order of computation.
    pub convs: Vec<StemConv>,
    /// Epsilon of every BatchNorm.
    pub bn_eps: f32,
    /// Activation after every convolution but the last.
    pub act: Act,
    /// Whether the last convolution has a bias.
    pub bias: bool,
}

/// A square convolution of a [`ConvStem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StemConv {
    /// Output channels.
    pub channels: usize,
    /// Side of the kernel, in inputs.
    pub kernel: usize,
    /// Distance between outputs, in inputs, on both axes.
    pub stride: usize,
    /// Zeros added on each of the four sides.
    pub padding: usize,
}

impl ConvStem {
    /// Of all convolutions together: the side of a patch in pixels.
    pub fn stride(&self) -> usize {
        self.convs.iter().fold(1, |product: usize, conv| product.saturating_mul(conv.stride))
    }

    /// Outputs along an axis of `side` pixels.
    fn outputs(&self, side: usize) -> usize {
        self.convs.iter().fold(side, |n, conv| {
            (n + 2 * conv.padding).checked_sub(conv.kernel).map_or(0, |rest| rest / conv.stride + 1)
        })
    }

    fn check(&self, width: usize) -> Result<(), Problem> {
        let at = "vision_cfg.conv_stem.";
        for conv in &self.convs {
            widths(at, &[("channels", conv.channels), ("kernels", conv.kernel), ("strides", conv.stride)])?;
            let good = conv.padding < conv.kernel;
            ensure(good, "vision_cfg.conv_stem.paddings", conv.padding, "less than the kernel")?;
        }
        eps(at, "bn_eps", self.bn_eps)?;
        let last = self.convs.last().map_or(0, |conv| conv.channels);
        ensure(last == width, "vision_cfg.conv_stem.channels", last, format!("width {width} last"))?;
        dims(AT, &[("patch_size", self.stride())])
    }
}

/// `patch_embed` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchEmbedName {
    Conv,
    Linear,
    ConvStem,
}

/// `conv_stem` in JSON: one entry of each list a convolution.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvStemFields {
    channels: Vec<usize>,
    kernels: Vec<usize>,
    strides: Vec<usize>,
    paddings: Vec<usize>,
    bn_eps: f32,
    act: Act,
}

/// The fields of a ViT's JSON that are its [`Stem`].
pub struct StemFields {
    pub patch_size: usize,
    pub patch_embed: PatchEmbedName,
    pub patch_bias: bool,
    pub conv_stem: Option<ConvStemFields>,
}

impl From<PatchEmbed> for StemFields {
    fn from(PatchEmbed { size, weight, bias }: PatchEmbed) -> StemFields {
        let patch_embed = match weight {
            PatchWeight::Conv => PatchEmbedName::Conv,
            PatchWeight::Linear => PatchEmbedName::Linear,
        };
        StemFields { patch_size: size, patch_embed, patch_bias: bias, conv_stem: None }
    }
}

impl From<Stem> for StemFields {
    fn from(stem: Stem) -> StemFields {
        let stem = match stem {
            Stem::Patches(patches) => return patches.into(),
            Stem::Convs(stem) => stem,
        };
        let of = |field: fn(&StemConv) -> usize| stem.convs.iter().map(field).collect();
        StemFields {
            patch_size: stem.stride(),
            patch_embed: PatchEmbedName::ConvStem,
            patch_bias: stem.bias,
            conv_stem: Some(ConvStemFields {
                channels: of(|conv| conv.channels),
                kernels: of(|conv| conv.kernel),
                strides: of(|conv| conv.stride),
                paddings: of(|conv| conv.padding),
                bn_eps: stem.bn_eps,
                act: stem.act,
            }),
        }
    }
}

impl TryFrom<StemFields> for Stem {
    type Error = Problem;

    fn try_from(fields: StemFields) -> Result<Stem, Problem> {
        let at = "vision_cfg.conv_stem";
        let StemFields { patch_size, patch_embed, patch_bias, conv_stem } = fields;
        let weight = match patch_embed {
            PatchEmbedName::Conv => PatchWeight::Conv,
            PatchEmbedName::Linear => PatchWeight::Linear,
            PatchEmbedName::ConvStem => {
                let absent = || Problem::new(at, "absent", "given with patch_embed `conv_stem`");
                let stem = conv_stem.ok_or_else(absent)?.stem(patch_bias)?;
                let expected = format!("patch_size {patch_size} as their product");
                ensure(stem.stride() == patch_size, "vision_cfg.conv_stem.strides", stem.stride(), expected)?;
                return Ok(Stem::Convs(stem));
            }
        };
        ensure(conv_stem.is_none(), at, "given", "no such field without patch_embed `conv_stem`")?;
        Ok(Stem::Patches(PatchEmbed { size: patch_size, weight, bias: patch_bias }))
    }
}

impl ConvStemFields {
    fn stem(self, bias: bool) -> Result<ConvStem, Problem> {
        let ConvStemFields { channels, kernels, strides, paddings, bn_eps, act } = self;
        let (count, lengths) = (channels.len(), [kernels.len(), strides.len(), paddings.len()]);
        let found = format!("{count} channels, {lengths:?} others");
        ensure(count >= 1 && lengths == [count; 3], "vision_cfg.conv_stem", found, "one entry a convolution")?;
        let entries = channels.into_iter().zip(kernels).zip(strides).zip(paddings);
        let convs =
            entries.map(|(((channels, kernel), stride), padding)| StemConv { channels, kernel, stride, padding });
        Ok(ConvStem { convs: convs.collect(), bn_eps, act, bias })
    }
}
