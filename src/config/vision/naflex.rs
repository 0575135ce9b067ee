//! NaFlex: a ViT over a variable number of patches, each image with its own height and width.
//! Tschannen et al. 2025 (SigLIP 2), §2.4.2.

use serde::{Deserialize, Serialize};

use super::stem::{PatchEmbed, PatchEmbedName, PatchWeight, Stem, StemFields};
use super::vit::{ClassToken, Encoder, Pool, PoolName, Vit};
use super::{AT, Dims, ImageInput, OpenClipForm, PositionLayout, Positions, VisionCfg, VisionFamily};
use crate::config::check::{self, Problem, dims, ensure};
use crate::config::parts::Proj;
use crate::config::trunks::{Timm, lacks};
use crate::config::{Act, Head, Transformer};
use crate::setting::Setting;

/// SigLIP 2's tower over patches: no class token, a MAP head.
#[derive(Clone, Debug, PartialEq)]
pub struct NaflexVit {
    /// Rows and columns of the stored positions, which are resampled for each image.
    pub grid: [usize; 2],
    /// The matrix from patches to channels.
    pub patches: PatchEmbed,
    /// LayerNorm before the blocks.
    pub pre_norm: bool,
    /// Widths and number of the blocks.
    pub blocks: Transformer,
    /// LayerNorm after the blocks, before pooling.
    pub final_norm: bool,
    /// Attention heads of the MAP head; a divisor of the width.
    pub map_heads: usize,
    /// Hidden width of the MAP head's MLP.
    pub map_mlp_dim: usize,
    /// Projection to the embedding; None where the pooled vector is the embedding.
    pub head: Option<Head>,
}

impl NaflexVit {
    /// All of it behind the positions.
    pub fn encoder(&self) -> Encoder {
        Encoder {
            pre_norm: self.pre_norm,
            blocks: self.blocks,
            final_norm: self.final_norm,
            pool: Pool::Map { heads: self.map_heads, mlp_dim: self.map_mlp_dim },
            head: self.head,
        }
    }
}

impl VisionFamily for NaflexVit {
    fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        self.patches.check()?;
        self.encoder().check(embed_dim)?;
        dims("vision_cfg.pos_grid.", &[("rows", self.grid[0]), ("columns", self.grid[1])])
    }

    fn input(&self) -> ImageInput {
        ImageInput::Patches { size: self.patches.size }
    }

    fn positions(&self) -> Option<Positions> {
        Some(Positions { grid: self.grid, width: self.blocks.width, layout: PositionLayout::Grid })
    }

    /// A ViT of that size, whose positions are those NaFlex has for it.
    fn at_image_size(&self, size: [usize; 2]) -> Result<VisionCfg, Problem> {
        let patch = self.patches.size;
        check::image_size(size, patch)?;
        if size.iter().any(|side| side % patch != 0) {
            let [height, width] = size.map(|side| side / patch * patch);
            return Err(Problem::new(
                "image size",
                format!("{}x{}", size[0], size[1]),
                format!("multiples of the patch size {patch} for NaFlex, such as {height}x{width}"),
            ));
        }
        let patches = PatchEmbed { weight: PatchWeight::Conv, ..self.patches };
        Ok(VisionCfg::Vit(Vit {
            image_size: size,
            stem: Stem::Patches(patches),
            class_token: ClassToken::None,
            encoder: self.encoder(),
        }))
    }

    fn act(&self) -> Act {
        self.blocks.act
    }

    fn dims(&self) -> Dims {
        self.encoder().dims(self.patches.size)
    }

    fn head(&self) -> Option<Head> {
        self.head
    }

    fn head_mut(&mut self) -> &mut Option<Head> {
        &mut self.head
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        None
    }

    fn timm(&self) -> Result<Option<Timm>, String> {
        lacks(format!("NaFlex tower in open_clip's form; freeze it with {}", Setting::ImageSize))
    }

    fn open_clip_form(&self) -> OpenClipForm {
        OpenClipForm::Siglip
    }
}

/// [`NaflexVit`] as JSON has it: a ViT's fields, with `pos_grid` for `image_size`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NaflexFields {
    pos_grid: [usize; 2],
    patch_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
    mlp_dim: usize,
    act: Act,
    norm_eps: f32,
    patch_embed: PatchEmbedName,
    patch_bias: bool,
    class_token: bool,
    pos_embed_class: bool,
    pre_norm: bool,
    final_norm: bool,
    pool: PoolName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map_heads: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    map_mlp_dim: Option<usize>,
    proj: Proj,
    proj_bias: bool,
}

impl TryFrom<NaflexFields> for NaflexVit {
    type Error = Problem;

    fn try_from(f: NaflexFields) -> Result<NaflexVit, Problem> {
        for (field, value) in [("class_token", f.class_token), ("pos_embed_class", f.pos_embed_class)] {
            ensure(!value, &format!("{AT}{field}"), value, "false for `naflexvit`")?;
        }
        let Pool::Map { heads: map_heads, mlp_dim: map_mlp_dim } = f.pool.read(f.map_heads, f.map_mlp_dim)? else {
            let pool = format!("`{}`", format!("{:?}", f.pool).to_lowercase());
            return Err(Problem::new("vision_cfg.pool", pool, "`map` for `naflexvit`"));
        };
        let weight = match f.patch_embed {
            PatchEmbedName::Conv => PatchWeight::Conv,
            PatchEmbedName::Linear => PatchWeight::Linear,
            PatchEmbedName::ConvStem => {
                return Err(Problem::new(
                    "vision_cfg.patch_embed",
                    "`conv_stem`",
                    "`linear` or `conv` for `naflexvit`",
                ));
            }
        };
        Ok(NaflexVit {
            grid: f.pos_grid,
            patches: PatchEmbed { size: f.patch_size, weight, bias: f.patch_bias },
            pre_norm: f.pre_norm,
            blocks: Transformer {
                width: f.width,
                layers: f.layers,
                heads: f.heads,
                mlp_dim: f.mlp_dim,
                act: f.act,
                norm_eps: f.norm_eps,
                layer_scale: false,
            },
            final_norm: f.final_norm,
            map_heads,
            map_mlp_dim,
            head: Head::read(AT, f.proj, f.proj_bias)?,
        })
    }
}

impl From<NaflexVit> for NaflexFields {
    fn from(vit: NaflexVit) -> NaflexFields {
        let Transformer { width, layers, heads, mlp_dim, act, norm_eps, .. } = vit.blocks;
        let StemFields { patch_size, patch_embed, patch_bias, .. } = vit.patches.into();
        let (proj, proj_bias) = Head::write(vit.head);
        NaflexFields {
            pos_grid: vit.grid,
            patch_size,
            width,
            layers,
            heads,
            mlp_dim,
            act,
            norm_eps,
            patch_embed,
            patch_bias,
            class_token: false,
            pos_embed_class: false,
            pre_norm: vit.pre_norm,
            final_norm: vit.final_norm,
            pool: PoolName::Map,
            map_heads: Some(vit.map_heads),
            map_mlp_dim: Some(vit.map_mlp_dim),
            proj,
            proj_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ModelConfig;
    use crate::config::known::refusal;

    const MODEL: &str = "ViT-B-16-SigLIP2-NaFlex";

    fn naflex() -> NaflexVit {
        let Some(VisionCfg::NaflexVit(vit)) = &ModelConfig::named(MODEL).unwrap().vision_cfg else { panic!("{MODEL}") };
        vit.clone()
    }

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        assert_eq!(NaflexVit::try_from(NaflexFields::from(naflex())).unwrap(), naflex());
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (field, value, message) in [
            ("image_size", json!([224, 224]), "unknown field `image_size`"),
            ("class_token", json!(true), "vision_cfg.class_token is true, expected false for `naflexvit`"),
            ("pos_embed_class", json!(true), "vision_cfg.pos_embed_class is true, expected false for `naflexvit`"),
            ("pool", json!("avg"), "vision_cfg.map_heads is given, expected no such field without pool `map`"),
            ("patch_embed", json!("conv_stem"), "vision_cfg.patch_embed is `conv_stem`, expected `linear` or `conv`"),
            ("pos_grid", json!([0, 16]), "vision_cfg.pos_grid.rows is 0, expected 1 to"),
            ("patch_size", json!(0), "vision_cfg.patch_size is 0, expected 1 to"),
        ] {
            let error = refusal(MODEL, &format!("/vision_cfg/{field}"), Some(value));
            assert!(error.contains(message), "{field}: {error}");
        }
        assert!(refusal(MODEL, "/vision_cfg/pos_grid", None).contains("missing field `pos_grid`"));
    }

    #[test]
    fn it_answers_for_itself() {
        let vit = naflex();
        assert_eq!(vit.input(), ImageInput::Patches { size: 16 });
        assert_eq!(vit.positions().unwrap().shape(), [16, 16, 768]);
        assert_eq!((vit.dims().patch_size, vit.act(), vit.head()), (Some(16), Act::GeluTanh, None));
        assert!(vit.timm().unwrap_err().contains("NaFlex"));
    }

    #[test]
    fn at_one_image_size_it_is_a_vit() {
        let config = ModelConfig::named(MODEL).unwrap().at_image_size([256, 128]).unwrap();
        let Some(VisionCfg::Vit(vit)) = &config.vision_cfg else { panic!("a ViT") };
        assert_eq!((vit.grid(), vit.encoder), ([16, 8], naflex().encoder()));
        assert_eq!(config.preprocess_cfg.resize_mode, crate::config::ResizeMode::Squash);
        for (size, message) in [
            ([250, 128], "image size is 250x128, expected multiples of the patch size 16 for NaFlex, such as 240x128"),
            ([8, 128], "image size is 8x128, expected sides of at least one patch (16 pixels)"),
        ] {
            let error = ModelConfig::named(MODEL).unwrap().at_image_size(size).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
