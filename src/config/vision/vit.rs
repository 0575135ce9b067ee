//! ViT over images of one size: CLIP, SigLIP, MobileCLIP-B. Dosovitskiy et al. 2021; timm's `VisionTransformer`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stem::{ConvStemFields, PatchEmbed, PatchEmbedName, PatchWeight, Stem, StemFields};
use super::{AT, Blocks, Dims, ImageInput, OpenClipForm, PositionLayout, Positions, VisionCfg, VisionFamily};
use crate::config::check::{self, Problem, dims, divides, ensure, widths};
use crate::config::parts::Proj;
use crate::config::trunks::{Timm, lacks};
use crate::config::{Act, Head, Transformer};

/// A vision transformer: pre-norm blocks; q, k, v and all linear layers with bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Vit {
    /// Height, width in pixels.
    pub image_size: [usize; 2],
    /// How pixels become patches.
    pub stem: Stem,
    /// Whether a learned token precedes the patches.
    pub class_token: ClassToken,
    /// Everything after the positions are added.
    pub encoder: Encoder,
}

/// The learned token in front of the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassToken {
    /// Patches alone.
    None,
    /// With a position of its own, the first.
    Positioned,
    /// Positions are the patches' alone.
    Unpositioned,
}

impl ClassToken {
    /// Whether there is a class token, with or without a position.
    pub fn is_some(self) -> bool {
        self != ClassToken::None
    }
}

/// All of a ViT behind its positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoder {
    /// LayerNorm before the blocks.
    pub pre_norm: bool,
    /// Widths and number of the blocks.
    pub blocks: Transformer,
    /// LayerNorm after the blocks, before pooling.
    pub final_norm: bool,
    /// How one vector is made of all positions.
    pub pool: Pool,
    /// Projection to the embedding; None where the pooled vector is the embedding.
    pub head: Option<Head>,
}

/// How one vector is made of all positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Attention of one learned query, then x + MLP(LayerNorm(x)).
    Map {
        /// Attention heads; a divisor of the width.
        heads: usize,
        /// Hidden width of the MLP.
        mlp_dim: usize,
    },
    /// Position 0.
    Token,
    /// Mean over patches.
    Avg {
        /// Whether a class token precedes them, which is not averaged.
        class_token: bool,
        /// Whether the final LayerNorm is of the mean, not of each position.
        norm_after: bool,
    },
}

impl Vit {
    /// OpenAI's ViT-B/32: what other configurations that describe CLIP's image tower build on.
    pub(in crate::config) const CLIP: Vit = Vit {
        image_size: [224; 2],
        stem: Stem::Patches(PatchEmbed { size: 32, weight: PatchWeight::Conv, bias: false }),
        class_token: ClassToken::Positioned,
        encoder: Encoder {
            pre_norm: true,
            blocks: Transformer {
                width: 768,
                layers: 12,
                heads: 12,
                mlp_dim: 3072,
                act: Act::QuickGelu,
                norm_eps: 1e-5,
                layer_scale: false,
            },
            final_norm: true,
            pool: Pool::Token,
            head: Some(Head { bias: false }),
        },
    };

    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.stem.grid(self.image_size)
    }

    fn described(&self) -> String {
        let ([height, width], blocks) = (self.image_size, &self.encoder.blocks);
        let patch = self.stem.patch_size();
        format!(
            "{} channels, {} blocks and patches of {patch}, for {height} x {width} pixels",
            blocks.width, blocks.layers
        )
    }

    /// The name of timm's SigLIP tower of these sizes.
    fn siglip(&self) -> Option<String> {
        let blocks = &self.encoder.blocks;
        let (name, ..) = NAMED.iter().find(|(_, width, layers)| (*width, *layers) == (blocks.width, blocks.layers))?;
        let [side, _] = Some(self.image_size).filter(|[height, width]| height == width)?;
        let patch = self.stem.patch_size();
        let timm = |(size, p, sides): &&(&str, usize, &[usize])| size == name && *p == patch && sides.contains(&side);
        SIGLIP.iter().find(timm).map(|_| format!("vit_{name}_patch{patch}_siglip_{side}"))
    }
}

impl Encoder {
    pub(super) fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        self.blocks.check(AT)?;
        if let Pool::Map { heads, mlp_dim } = self.pool {
            widths(AT, &[("map_heads", heads), ("map_mlp_dim", mlp_dim)])?;
            divides(AT, "map_heads", heads, self.blocks.width)?;
        }
        Head::check(self.head, AT, self.blocks.width, embed_dim)
    }

    pub(super) fn dims(&self, patch_size: usize) -> Dims {
        let blocks = Blocks { transformer: self.blocks, pre_norm: self.pre_norm };
        Dims { patch_size: Some(patch_size), blocks: Some(blocks) }
    }
}

/// Sizes timm has SigLIP's towers in: patch, and pixels of a side.
const SIGLIP: &[(&str, usize, &[usize])] = &[
    ("base", 32, &[256]),
    ("base", 16, &[224, 256, 384, 512]),
    ("large", 16, &[256, 384, 512]),
    ("so400m", 14, &[224, 378, 384]),
    ("so400m", 16, &[256, 384, 512]),
    ("giantopt", 16, &[256, 384]),
];

/// timm's names of widths and depths.
const NAMED: &[(&str, usize, usize)] =
    &[("base", 768, 12), ("large", 1024, 24), ("so400m", 1152, 27), ("giantopt", 1536, 40)];

impl VisionFamily for Vit {
    fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        // What the image is divided by comes first.
        dims(AT, &[("patch_size", self.stem.patch_size())])?;
        self.encoder.check(embed_dim)?;
        check::image_size(self.image_size, self.stem.patch_size())?;
        self.stem.check(self.image_size, self.encoder.blocks.width)
    }

    fn input(&self) -> ImageInput {
        ImageInput::Pixels(self.image_size)
    }

    fn positions(&self) -> Option<Positions> {
        let prefix = usize::from(self.class_token == ClassToken::Positioned);
        let layout = PositionLayout::Sequence { prefix };
        Some(Positions { grid: self.grid(), width: self.encoder.blocks.width, layout })
    }

    fn at_image_size(&self, size: [usize; 2]) -> Result<VisionCfg, Problem> {
        Ok(VisionCfg::Vit(Vit { image_size: size, ..self.clone() }))
    }

    fn act(&self) -> Act {
        self.encoder.blocks.act
    }

    fn dims(&self) -> Dims {
        self.encoder.dims(self.stem.patch_size())
    }

    fn head(&self) -> Option<Head> {
        self.encoder.head
    }

    fn head_mut(&mut self) -> &mut Option<Head> {
        &mut self.encoder.head
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        None
    }

    fn timm(&self) -> Result<Option<Timm>, String> {
        let of = |name: &str, pool: &'static str, proj: Value| Ok(Some(Timm { name: name.to_owned(), pool, proj }));
        let blocks = &self.encoder.blocks;
        let sizes = (blocks.width, blocks.layers, self.stem.patch_size(), self.image_size);
        match (self.encoder.pool, &self.stem) {
            (Pool::Map { .. }, _) => match self.siglip() {
                Some(name) => of(&name, "map", json!("none")),
                None => lacks(format!("SigLIP tower of {}", self.described())),
            },
            (_, Stem::Convs(_)) => match sizes {
                (768, 12, _, [224, 224]) => of("vit_base_mci_224", "token", Value::Null),
                _ => lacks(format!("ViT behind a convolution stem of {}", self.described())),
            },
            (..) if self.encoder.head.is_some_and(|head| head.bias) => match sizes {
                (1024, 24, 14, [224, 224]) => of("vit_large_patch14_clip_224", "token", Value::Null),
                _ => lacks(format!("ViT with a biased projection of {}", self.described())),
            },
            (Pool::Token | Pool::Avg { .. }, _) if self.class_token.is_some() => Ok(None),
            (..) => lacks(format!("ViT without a class token of {}", self.described())),
        }
    }

    fn open_clip_form(&self) -> OpenClipForm {
        match (self.encoder.pool, &self.stem, self.encoder.head) {
            (Pool::Map { .. }, ..) => OpenClipForm::Siglip,
            (_, Stem::Convs(_), _) | (.., Some(Head { bias: true })) => OpenClipForm::TimmVit,
            _ => OpenClipForm::Native,
        }
    }
}

/// [`Vit`] as JSON has it. Field names are open_clip's where it has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitFields {
    image_size: [usize; 2],
    patch_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
    mlp_dim: usize,
    act: Act,
    norm_eps: f32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    layer_scale: bool,
    patch_embed: PatchEmbedName,
    /// Of the patch embedding, or of the stem's last convolution.
    patch_bias: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conv_stem: Option<ConvStemFields>,
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

/// `pool` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolName {
    Map,
    Token,
    Avg,
    AvgThenNorm,
}

impl PoolName {
    /// With `map_heads` and `map_mlp_dim`.
    pub fn read(self, heads: Option<usize>, mlp_dim: Option<usize>) -> Result<Pool, Problem> {
        let fields = [("map_heads", heads), ("map_mlp_dim", mlp_dim)];
        if self == PoolName::Map {
            let [heads, mlp_dim] = fields.map(|(field, value)| {
                value.ok_or_else(|| Problem::new(format!("{AT}{field}"), "absent", "a number with pool `map`"))
            });
            return Ok(Pool::Map { heads: heads?, mlp_dim: mlp_dim? });
        }
        for (field, value) in fields {
            ensure(value.is_none(), &format!("{AT}{field}"), "given", "no such field without pool `map`")?;
        }
        Ok(match self {
            PoolName::Token | PoolName::Map => Pool::Token,
            PoolName::Avg => Pool::Avg { class_token: false, norm_after: false },
            PoolName::AvgThenNorm => Pool::Avg { class_token: false, norm_after: true },
        })
    }
}

impl From<Pool> for PoolName {
    fn from(pool: Pool) -> PoolName {
        match pool {
            Pool::Map { .. } => PoolName::Map,
            Pool::Token => PoolName::Token,
            Pool::Avg { norm_after: false, .. } => PoolName::Avg,
            Pool::Avg { norm_after: true, .. } => PoolName::AvgThenNorm,
        }
    }
}

impl TryFrom<VitFields> for Vit {
    type Error = Problem;

    fn try_from(f: VitFields) -> Result<Vit, Problem> {
        let VitFields { patch_size, patch_embed, patch_bias, conv_stem, .. } = f;
        let class_token = match (f.class_token, f.pos_embed_class) {
            (false, false) => ClassToken::None,
            (true, true) => ClassToken::Positioned,
            (true, false) => ClassToken::Unpositioned,
            (false, true) => return Err(Problem::new("vision_cfg.pos_embed_class", true, "false without class_token")),
        };
        let blocks = Transformer {
            width: f.width,
            layers: f.layers,
            heads: f.heads,
            mlp_dim: f.mlp_dim,
            act: f.act,
            norm_eps: f.norm_eps,
            layer_scale: f.layer_scale,
        };
        Ok(Vit {
            image_size: f.image_size,
            stem: StemFields { patch_size, patch_embed, patch_bias, conv_stem }.try_into()?,
            class_token,
            encoder: Encoder {
                pre_norm: f.pre_norm,
                blocks,
                final_norm: f.final_norm,
                pool: match f.pool.read(f.map_heads, f.map_mlp_dim)? {
                    Pool::Avg { norm_after, .. } => Pool::Avg { class_token: class_token.is_some(), norm_after },
                    pool => pool,
                },
                head: Head::read(AT, f.proj, f.proj_bias)?,
            },
        })
    }
}

impl From<Vit> for VitFields {
    fn from(Vit { image_size, stem, class_token, encoder }: Vit) -> VitFields {
        let Encoder { pre_norm, blocks, final_norm, pool, head } = encoder;
        let Transformer { width, layers, heads, mlp_dim, act, norm_eps, layer_scale } = blocks;
        let StemFields { patch_size, patch_embed, patch_bias, conv_stem } = stem.into();
        let (map_heads, map_mlp_dim) = match pool {
            Pool::Map { heads, mlp_dim } => (Some(heads), Some(mlp_dim)),
            Pool::Token | Pool::Avg { .. } => (None, None),
        };
        let (proj, proj_bias) = Head::write(head);
        VitFields {
            image_size,
            patch_size,
            width,
            layers,
            heads,
            mlp_dim,
            act,
            norm_eps,
            layer_scale,
            patch_embed,
            patch_bias,
            conv_stem,
            class_token: class_token.is_some(),
            pos_embed_class: class_token == ClassToken::Positioned,
            pre_norm,
            final_norm,
            pool: pool.into(),
            map_heads,
            map_mlp_dim,
            proj,
            proj_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known::refusal;
    use crate::config::{ModelConfig, known};

    fn vit(name: &str) -> Vit {
        let Some(VisionCfg::Vit(vit)) = &ModelConfig::named(name).unwrap().vision_cfg else { panic!("{name}") };
        vit.clone()
    }

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        let vits = known().filter_map(|config| match &config.vision_cfg {
            Some(VisionCfg::Vit(vit)) => Some(vit.clone()),
            _ => None,
        });
        assert!(vits.map(|vit| assert_eq!(Vit::try_from(VitFields::from(vit.clone())).unwrap(), vit)).count() > 40);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (model, field, value, message) in [
            ("ViT-B-32", "heads", json!(5), "vision_cfg.heads is 5, expected a divisor of width 768"),
            ("ViT-B-32", "layers", json!(0), "vision_cfg.layers is 0, expected 1 to"),
            ("ViT-B-32", "norm_eps", json!(0), "vision_cfg.norm_eps is 0"),
            (
                "ViT-B-32",
                "class_token",
                json!(false),
                "vision_cfg.pos_embed_class is true, expected false without class",
            ),
            (
                "ViT-B-32",
                "map_heads",
                json!(8),
                "vision_cfg.map_heads is given, expected no such field without pool `map`",
            ),
            ("ViT-B-32", "pool", json!("map"), "vision_cfg.map_heads is absent, expected a number with pool `map`"),
            ("ViT-B-32", "proj", json!("none"), "vision_cfg.proj is `none`, expected `linear`, as width 768 is not"),
            (
                "ViT-B-32",
                "image_size",
                json!([16, 32]),
                "image size is 16x32, expected sides of at least one patch (32",
            ),
            ("ViT-B-32", "patch_embed", json!("conv_stem"), "vision_cfg.conv_stem is absent, expected given with"),
            ("ViT-B-32", "pos_grid", json!([7, 7]), "unknown field `pos_grid`"),
            ("ViT-B-16-SigLIP", "map_heads", json!(7), "vision_cfg.map_heads is 7, expected a divisor of width 768"),
            (
                "ViT-B-16-SigLIP",
                "proj_bias",
                json!(true),
                "vision_cfg.proj_bias is true, expected false with proj `none`",
            ),
            ("MobileCLIP-B", "patch_size", json!(8), "vision_cfg.conv_stem.strides is 16, expected patch_size 8"),
            ("MobileCLIP-B", "patch_embed", json!("conv"), "vision_cfg.conv_stem is given, expected no such field"),
            (
                "MobileCLIP-B",
                "conv_stem/strides",
                json!([4, 2]),
                "vision_cfg.conv_stem is 3 channels, [3, 2, 3] others",
            ),
            ("MobileCLIP-B", "conv_stem/paddings", json!([4, 0, 0]), "conv_stem.paddings is 4, expected less than"),
            ("MobileCLIP-B", "conv_stem/kernels", json!([9, 2, 2]), "expected convolutions that make 14x14 patches"),
        ] {
            let error = refusal(model, &format!("/vision_cfg/{field}"), Some(value));
            assert!(error.contains(message), "{model} {field}: {error}");
        }
    }

    #[test]
    fn it_answers_for_itself() {
        let clip = vit("ViT-B-32");
        assert_eq!((clip.input(), clip.act()), (ImageInput::Pixels([224, 224]), Act::Gelu));
        assert_eq!(clip.positions().unwrap().shape(), [1, 50, 768]);
        let Dims { patch_size, blocks } = clip.dims();
        assert_eq!(
            (patch_size, blocks.unwrap().transformer, blocks.unwrap().pre_norm),
            (Some(32), clip.encoder.blocks, true)
        );
        assert_eq!((clip.timm().unwrap(), clip.open_clip_form()), (None, OpenClipForm::Native));
        assert_eq!(clip.head(), Some(Head { bias: false }));

        // The class token has no position there; the convolutions' strides are the patch.
        let stem = vit("MobileCLIP-B");
        assert_eq!(stem.positions().unwrap().shape(), [1, 196, 768]);
        assert_eq!((stem.dims().patch_size, stem.open_clip_form()), (Some(16), OpenClipForm::TimmVit));
        assert_eq!(stem.timm().unwrap().unwrap().name, "vit_base_mci_224");

        let siglip = vit("ViT-B-16-SigLIP");
        assert_eq!((siglip.head(), siglip.open_clip_form()), (None, OpenClipForm::Siglip));
        let VisionCfg::Vit(larger) = siglip.at_image_size([240, 224]).unwrap() else { panic!("a ViT") };
        assert_eq!((larger.grid(), larger.timm().is_err()), ([15, 14], true));
    }
}
