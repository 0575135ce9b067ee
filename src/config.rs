//! `models/*.json` as structs: every architectural choice is a field here.
//!
//! Field names are open_clip's where it has them. Nothing has a default and nothing is inferred
//! from which tensors happen to be present: a graph is built from these fields, and the tensors
//! are then read strictly. A field that does not apply is left out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::read_text;

mod check;
mod dialect;
mod known;
mod open_clip;
mod preprocess;
mod processor;
mod timm;
mod tokens;
mod transformers;
pub mod trunks;

pub use check::{Problem, check_image_size};
pub use dialect::{Dialect, Naming};
pub use known::{known, names};
pub use open_clip::OpenClipJson;
pub(crate) use preprocess::{CLIP_MEAN, CLIP_STD};
pub use preprocess::{Interpolation, NAFLEX_PATCHES, PreprocessCfg, ResizeMode};
pub use processor::processor;
pub use timm::pretrained_cfg;
pub use tokens::{Clean, SpecialIds, special_ids};

/// What can be wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be read: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is not a model configuration: {field}: {source}")]
    Parse { path: String, field: String, source: serde_json::Error },
    #[error("{path}: {problem}")]
    Check { path: String, problem: Problem },
    #[error("{path} is a transformers configuration that cannot be followed: {problem}")]
    Transformers { path: String, problem: Problem },
    #[error("{path} is an open_clip configuration that cannot be followed: {problem}")]
    OpenClip { path: String, problem: Problem },
    #[error(
        "{path} makes pixels in a way that cannot be followed: {problem}. Correct the file, or give the whole configuration with --config"
    )]
    Pixels { path: String, problem: Problem },
    #[error(
        "{path} makes rows of token ids in a way that cannot be followed: {problem}. Correct the file, or remove it"
    )]
    Tokens { path: String, problem: Problem },
    #[error("no model is named `{name}`; {hint}")]
    Unknown { name: String, hint: String },
    #[error("model `{model}` has no `{dialect}` dialect; it has {known}")]
    NoDialect { model: String, dialect: Dialect, known: String },
}

/// One model: both towers, what the checkpoint carries beside them, and how its pixels are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// open_clip's name where it has one.
    pub model: String,
    pub family: Family,
    /// How the published file names its tensors.
    pub naming: Naming,
    /// Whose numbers these fields give.
    pub dialect: Dialect,
    /// SPDX-like id of the released weights' licence; null where there is none to name.
    pub license: Option<String>,
    /// Width of both towers' output.
    pub embed_dim: usize,
    /// `exp(logit_scale)` is clamped to it.
    pub logit_scale_max: Option<f32>,
    /// Whether the checkpoint has one.
    pub logit_bias: bool,
    pub vision_cfg: VisionCfg,
    pub text_cfg: TextCfg,
    pub preprocess_cfg: PreprocessCfg,
    /// What other dialects change, as a patch over the fields above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dialects: BTreeMap<Dialect, serde_json::Value>,
    /// What the file has differently under another naming: a bias that is stored or not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namings: BTreeMap<Naming, serde_json::Value>,
}

/// Lineage; says what is published together and under which licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Siglip,
    Siglip2,
    Clip,
    Mobileclip,
    Mobileclip2,
}

impl Family {
    /// Either SigLIP: a vocabulary of its own, every place seen, a sigmoid for logits.
    pub fn is_siglip(self) -> bool {
        matches!(self, Family::Siglip | Family::Siglip2)
    }
}

macro_rules! display_as_json {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match serde_json::to_value(self) {
                    Ok(serde_json::Value::String(text)) => f.write_str(&text),
                    _ => Err(fmt::Error),
                }
            }
        }
    )*};
}
display_as_json!(Family, Naming, Dialect, Act, Interpolation, ResizeMode, Clean);

/// The image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type", rename_all = "lowercase")]
pub enum VisionCfg {
    /// Of fixed image size.
    Vit(VitCfg),
    /// Over a variable sequence of patches.
    NaflexVit(VitCfg),
    /// MobileCLIP's hybrid of convolutions and attention.
    FastVit(FastVitCfg),
}

impl VisionCfg {
    /// The fields of a ViT, NaFlex or not.
    pub fn vit(&self) -> Option<&VitCfg> {
        match self {
            VisionCfg::Vit(vit) | VisionCfg::NaflexVit(vit) => Some(vit),
            VisionCfg::FastVit(_) => None,
        }
    }

    /// Height, width in pixels, where it is fixed.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        match self {
            VisionCfg::Vit(vit) | VisionCfg::NaflexVit(vit) => vit.image_size,
            VisionCfg::FastVit(fastvit) => Some(fastvit.image_size),
        }
    }

    /// Activation of the blocks.
    pub fn act(&self) -> Act {
        match self {
            VisionCfg::Vit(vit) | VisionCfg::NaflexVit(vit) => vit.act,
            VisionCfg::FastVit(fastvit) => fastvit.act,
        }
    }
}

/// A vision transformer: pre-norm blocks; q, k, v and all linears with bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitCfg {
    /// Height, width in pixels; of `vit` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[usize; 2]>,
    /// Rows and columns of the stored positions; of `naflexvit` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pos_grid: Option<[usize; 2]>,
    /// Patches are `patch_size` × `patch_size` pixels, row-major.
    pub patch_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    pub act: Act,
    /// Of every LayerNorm in the tower.
    pub norm_eps: f32,
    pub patch_embed: PatchEmbed,
    /// Of the patch embedding, or of the stem's last convolution.
    pub patch_bias: bool,
    /// With `conv_stem` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conv_stem: Option<ConvStemCfg>,
    pub class_token: bool,
    /// Whether the class token has a position, the first.
    pub pos_embed_class: bool,
    /// LayerNorm before the blocks.
    pub pre_norm: bool,
    /// LayerNorm after the blocks, before pooling.
    pub final_norm: bool,
    pub pool: VisionPool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_heads: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_mlp_dim: Option<usize>,
    pub proj: Proj,
    pub proj_bias: bool,
}

impl VitCfg {
    /// OpenAI's ViT-B/32: what other configurations that describe CLIP's image tower build on.
    pub(crate) const CLIP: VitCfg = VitCfg {
        image_size: Some([224; 2]),
        pos_grid: None,
        patch_size: 32,
        width: 768,
        layers: 12,
        heads: 12,
        mlp_dim: 3072,
        act: Act::QuickGelu,
        norm_eps: 1e-5,
        patch_embed: PatchEmbed::Conv,
        patch_bias: false,
        conv_stem: None,
        class_token: true,
        pos_embed_class: true,
        pre_norm: true,
        final_norm: true,
        pool: VisionPool::Token,
        map_heads: None,
        map_mlp_dim: None,
        proj: Proj::Linear,
        proj_bias: false,
    };

    /// Rows and columns of patches in an image of `size` pixels; what is left of the last whole
    /// patch is unused.
    pub fn grid_of(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|n| n / self.patch_size)
    }

    /// Rows and columns of the positions the checkpoint stores.
    pub fn stored_grid(&self) -> [usize; 2] {
        match (self.pos_grid, self.image_size) {
            (Some(grid), _) => grid,
            (None, Some(size)) => self.grid_of(size),
            (None, None) => [0, 0],
        }
    }
}

/// Convolutions before a ViT, one entry each: all but the last without bias, followed by BatchNorm
/// and the activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvStemCfg {
    pub channels: Vec<usize>,
    pub kernels: Vec<usize>,
    pub strides: Vec<usize>,
    pub paddings: Vec<usize>,
    pub bn_eps: f32,
    pub act: Act,
}

/// FastViT as MobileCLIP has it. Vasu et al. 2023, 2024. Kernels are the architecture's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastVitCfg {
    pub image_size: [usize; 2],
    pub act: Act,
    /// Of the norm before attention.
    pub norm_eps: f32,
    /// Blocks, channels, MLP expansion and mixer of each stage.
    pub stage_layers: Vec<usize>,
    pub embed_dims: Vec<usize>,
    pub mlp_ratios: Vec<f64>,
    pub token_mixers: Vec<TokenMixer>,
    /// Position convolution before the stage's blocks.
    pub pos_embs: Vec<bool>,
    /// Squeeze-and-excite in the downsampling into the stage.
    pub se_downsamples: Vec<bool>,
    /// 1 × 1 branches beside the stem's 3 × 3, before folding.
    pub stem_use_scale_branch: bool,
    pub attn_norm: AttnNorm,
    pub head_dim: usize,
    pub se_rd_ratio_downsample: f64,
    pub se_rd_divisor_downsample: usize,
    pub se_rd_ratio_final: f64,
    pub se_rd_divisor_final: usize,
    /// Channels of the last convolution over those of the last stage.
    pub final_expansion: f64,
    /// Of every BatchNorm but the one before attention.
    pub bn_eps: f32,
    /// Branches folded to one convolution each, by the authors' tool.
    pub reparameterized: bool,
    pub pool: VisionPool,
    pub proj: Proj,
    pub proj_bias: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMixer {
    RepMixer,
    Attention,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttnNorm {
    #[serde(rename = "batch_norm")]
    BatchNorm,
    /// LayerNorm over channels.
    #[serde(rename = "layer_norm_2d")]
    LayerNorm2d,
}

/// The text tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCfg {
    pub model_type: TextModel,
    pub context_length: usize,
    pub vocab_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    pub act: Act,
    pub norm_eps: f32,
    /// True: every place sees every place, padding too.
    pub no_causal_mask: bool,
    /// Of `mct` only: the convolution along the text, the MLP beside it, its BatchNorms, and
    /// whether the branches are folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repmixer_kernel: Option<[usize; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repmixer_mlp_dim: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bn_eps: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparameterized: Option<bool>,
    pub pool_type: TextPool,
    pub proj: Proj,
    pub proj_bias: bool,
    /// The tokenizer's ids. `sot_id` is null where rows have no start token.
    pub pad_id: i64,
    pub sot_id: Option<i64>,
    pub eot_id: i64,
    /// How sentences are cleaned, where it is not as the model's family and dialect do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<Clean>,
}

impl TextCfg {
    /// Rows of ids in words, such as `77 ids, start 49406, end 49407, padding 0`.
    pub fn describe(&self) -> String {
        let start = self.sot_id.map_or_else(String::new, |id| format!("start {id}, "));
        let clean = self.clean.map_or_else(String::new, |clean| format!(", cleaned: {clean}"));
        format!("{} ids, {start}end {}, padding {}{clean}", self.context_length, self.eot_id, self.pad_id)
    }

    /// Whether nothing behind the pooled place reaches the embedding: each place sees those before it
    /// alone, and each row is pooled where it ends.
    pub fn ends_where_pooled(&self) -> bool {
        let at_end = matches!(self.pool_type, TextPool::Argmax | TextPool::Eos);
        // RepMixers look ahead, whatever the mask of the layers between them.
        !self.no_causal_mask && self.model_type == TextModel::Transformer && at_end
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextModel {
    Transformer,
    /// MobileCLIP-S0's: a RepMixer block before the layers and one after them.
    Mct,
}

/// Activation of the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// x Φ(x).
    Gelu,
    /// Its tanh approximation, Flax's default.
    GeluTanh,
    /// x σ(1.702 x), OpenAI's.
    QuickGelu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchEmbed {
    /// A convolution with stride equal to its kernel.
    Conv,
    /// A matrix over patches flattened as (y, x, channel).
    Linear,
    /// Several convolutions, as `conv_stem` says.
    ConvStem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisionPool {
    /// Attention of one learned query, then x + MLP(LayerNorm(x)).
    Map,
    /// Place 0.
    Token,
    /// Mean over places.
    Avg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPool {
    /// Last place.
    Last,
    /// Place of the largest id.
    Argmax,
    /// Place 0.
    First,
    /// First place of `eot_id`.
    Eos,
}

/// The matrix after pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proj {
    None,
    Linear,
}

impl ModelConfig {
    /// Reads and checks a configuration file: of the form of `models/`, a transformers `config.json`, or an
    /// `open_clip_config.json`. Of the latter pixels are read too.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Parse`] or [`Error::Check`], each naming `path`.
    pub fn read(path: &Path) -> Result<ModelConfig, Error> {
        let name = path.display().to_string();
        let text = read_text(path).map_err(|source| Error::Read { path: name.clone(), source })?;
        if let Some(config) = ModelConfig::from_transformers(&name, &text)? {
            return Ok(config);
        }
        match OpenClipJson::parse(&name, &text) {
            Ok(Some(file)) => {
                let (mut config, _) = file.model()?;
                if let Some((pixels, _)) = file.pixels(&config)? {
                    config.preprocess_cfg = pixels;
                }
                Ok(config)
            }
            Ok(None) | Err(_) => ModelConfig::parse(&name, &text),
        }
    }

    /// Parses and checks a configuration; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::Check`].
    pub fn parse(origin: &str, text: &str) -> Result<ModelConfig, Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        let config: ModelConfig = serde_path_to_error::deserialize(&mut json).map_err(|e| Error::Parse {
            path: origin.to_owned(),
            field: e.path().to_string(),
            source: e.into_inner(),
        })?;
        config.check().map_err(|problem| Error::Check { path: origin.to_owned(), problem })?;
        Ok(config)
    }

    /// The same model for images of `size` pixels, height and width; NaFlex becomes a ViT of that
    /// size. The position table has to be resampled alike.
    ///
    /// # Errors
    /// A size the patches do not fit.
    pub fn at_image_size(&self, size: [usize; 2]) -> Result<ModelConfig, Problem> {
        let mut config = self.clone();
        let mut vit = match &self.vision_cfg {
            VisionCfg::Vit(vit) | VisionCfg::NaflexVit(vit) => vit.clone(),
            // It has no positions to resample.
            VisionCfg::FastVit(fastvit) => {
                config.preprocess_cfg = config.preprocess_cfg.at_size(Some(fastvit.image_size), size);
                config.vision_cfg = VisionCfg::FastVit(FastVitCfg { image_size: size, ..fastvit.clone() });
                config.check()?;
                return Ok(config);
            }
        };
        check_image_size(&vit, size)?;
        if matches!(self.vision_cfg, VisionCfg::NaflexVit(_)) {
            let p = vit.patch_size;
            if size.iter().any(|side| side % p != 0) {
                let near = size.map(|side| (side / p).max(1) * p);
                return Err(Problem {
                    field: "image size".to_owned(),
                    found: format!("{}x{}", size[0], size[1]),
                    expected: format!("multiples of the patch size {p} for NaFlex, such as {}x{}", near[0], near[1]),
                });
            }
            vit.pos_grid = None;
            vit.patch_embed = PatchEmbed::Conv;
            config.preprocess_cfg.resize_mode = ResizeMode::Squash;
            config.preprocess_cfg.max_patches = None;
        }
        config.preprocess_cfg = config.preprocess_cfg.at_size(vit.image_size, size);
        vit.image_size = Some(size);
        config.vision_cfg = VisionCfg::Vit(vit);
        Ok(config)
    }

    /// JSON of the form of `models/`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
