//! `models/*.json` as types: every architectural choice is a field here.
//!
//! Field names in JSON are open_clip's where it has them. Nothing has a default and nothing is inferred from which
//! tensors happen to be present: a graph is built from these fields, and the tensors are then read strictly. A field
//! that does not apply is left out.
//!
//! In memory, what depends on a choice is part of that choice: the heads of a MAP head are fields of
//! [`Pool::Map`], and only a [`Vit`] has an image size. What types cannot exclude is checked when a [`ModelConfig`] is
//! made, so there is none that contradicts itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::read_json;
use crate::modality::Modality;
use crate::setting::Setting;

mod check;
mod dialect;
mod known;
mod open_clip;
mod parts;
mod preprocess;
mod processor;
mod registry;
mod text;
mod timm;
mod tokens;
mod transformers;
pub mod trunks;
mod vision;

pub use check::Problem;
pub use dialect::{Dialect, Naming};
pub use known::{known, names};
pub use open_clip::OpenClipJson;
pub use parts::{Act, Head, Transformer};
pub(crate) use preprocess::{CLIP_MEAN, CLIP_STD};
pub use preprocess::{Interpolation, NAFLEX_PATCHES, PreprocessCfg, ResizeMode};
pub use processor::processor;
pub use registry::{Registered, registry};
pub use text::{ClipText, MctText, RepMixer, TextCfg, TextFamily, TextPool, TextTower};
pub use timm::{model as timm_model, pretrained_cfg};
pub use tokens::{Clean, SpecialIds, special_ids};
pub use transformers::is_type as is_transformers_type;
pub use vision::*;

/// What can be wrong with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system could not open or read the file.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// Path of the file.
        path: String,
        /// What the operating system reported.
        error: std::io::Error,
    },
    /// Not JSON, or JSON of another structure than a model configuration.
    #[error("{path} is not a model configuration: {}{error}", of_field(field))]
    Parse {
        /// Path of the file.
        path: String,
        /// Path of the field that could not be parsed, such as `vision_cfg.width`.
        field: String,
        /// What the JSON parser reported.
        error: serde_json::Error,
    },
    /// A field is out of range, or contradicts another one.
    #[error("{path}: {problem}")]
    Check {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// A transformers `config.json` of a model that is not supported.
    #[error("{path} is a transformers configuration that cannot be followed: {problem}")]
    Transformers {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// An `open_clip_config.json` of a model that is not supported.
    #[error("{path} is an open_clip configuration that cannot be followed: {problem}")]
    OpenClip {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// timm's `config.json` of a model that is not supported.
    #[error("{path} is a configuration of timm that cannot be followed: {problem}")]
    Timm {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// Preprocessing of images that is not supported.
    #[error(
        "{path} makes pixels in a way that cannot be followed: {problem}. Correct the file, or give the whole configuration with {}",
        Setting::Config
    )]
    Pixels {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// A tokenizer setting that is not supported.
    #[error(
        "{path} makes rows of token ids in a way that cannot be followed: {problem}. Correct the file, or remove it"
    )]
    Tokens {
        /// Path of the file.
        path: String,
        /// Which field it is, and which values it may have.
        problem: Problem,
    },
    /// No built-in model has this name.
    #[error("no model is named `{name}`; {hint}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Similar names, or where to find all of them.
        hint: String,
    },
    /// The model has no configuration for this dialect.
    #[error("model `{model}` has no `{dialect}` dialect; it has {known}")]
    NoDialect {
        /// Name of the model.
        model: String,
        /// The dialect that was asked for.
        dialect: Dialect,
        /// Dialects of the model, separated by commas.
        known: String,
    },
}

/// One model: both towers, what the checkpoint carries besides them, and how its pixels are made.
///
/// `V` and `T` are the towers' own types, or their fields as JSON has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model<V = VisionCfg, T = TextCfg> {
    /// open_clip's name where it has one.
    pub model: String,
    /// Lineage of the weights.
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
    /// Image tower; None where the model is a text tower alone.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub vision_cfg: Option<V>,
    /// Text tower; None where the model is an image tower alone.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub text_cfg: Option<T>,
    /// Preprocessing of images.
    pub preprocess_cfg: PreprocessCfg,
    /// What other dialects change, as a patch over the fields above.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub dialects: BTreeMap<Dialect, serde_json::Value>,
    /// What the file has differently under another naming: a bias that is stored or not.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub namings: BTreeMap<Naming, serde_json::Value>,
}

/// A [`Model`] that graphs can be built from: its fields are in range and fit together. They are read through
/// `Deref`, and changed by [`ModelConfig::with`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ModelConfig(Model);

impl Deref for ModelConfig {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

/// Lineage; says what is published together and under which licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Google's SigLIP. Zhai et al. 2023.
    Siglip,
    /// Google's SigLIP 2, NaFlex included. Tschannen et al. 2025.
    Siglip2,
    /// OpenAI's CLIP, and models of its architecture. Radford et al. 2021.
    Clip,
    /// Apple's MobileCLIP. Vasu et al. 2024.
    Mobileclip,
    /// Apple's MobileCLIP2. Faghri et al. 2025.
    Mobileclip2,
}

impl Family {
    /// Either SigLIP: a vocabulary of its own, text without a causal mask, a sigmoid for logits.
    pub fn is_siglip(self) -> bool {
        matches!(self, Family::Siglip | Family::Siglip2)
    }

    /// How this lineage's sentences are cleaned in a dialect.
    pub(crate) fn clean(self, dialect: Dialect) -> Clean {
        match (self, dialect) {
            (Family::Siglip, Dialect::Original) => Clean::None,
            (Family::Siglip2, Dialect::Original | Dialect::Transformers) => Clean::Lower,
            (Family::Siglip | Family::Siglip2, Dialect::OpenClip) => Clean::Canonical,
            (Family::Siglip, Dialect::Transformers) => Clean::Unpunctuated,
            // transformers' CLIP tokenizer composes and lowers itself.
            (Family::Clip | Family::Mobileclip | Family::Mobileclip2, Dialect::Transformers) => Clean::None,
            (Family::Clip | Family::Mobileclip | Family::Mobileclip2, Dialect::Original | Dialect::OpenClip) => {
                Clean::Mended
            }
        }
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

impl Model {
    fn read(fields: Model<vision::VisionFields, text::TextFields>) -> Result<Model, Problem> {
        Ok(Model {
            model: fields.model,
            family: fields.family,
            naming: fields.naming,
            dialect: fields.dialect,
            license: fields.license,
            embed_dim: fields.embed_dim,
            logit_scale_max: fields.logit_scale_max,
            logit_bias: fields.logit_bias,
            vision_cfg: fields.vision_cfg.map(TryInto::try_into).transpose()?,
            text_cfg: fields.text_cfg.map(TryInto::try_into).transpose()?,
            preprocess_cfg: fields.preprocess_cfg,
            dialects: fields.dialects,
            namings: fields.namings,
        })
    }
}

/// The field that an error is about; nothing where it is about the whole file.
fn of_field(field: &str) -> String {
    if matches!(field, "." | "?") { String::new() } else { format!("{field}: ") }
}

impl ModelConfig {
    /// Checks the fields.
    ///
    /// # Errors
    /// The first field that is out of range or contradicts another one.
    pub fn new(model: Model) -> Result<ModelConfig, Problem> {
        model.check()?;
        Ok(ModelConfig(model))
    }

    /// The same model with some fields changed, checked.
    ///
    /// # Errors
    /// As [`ModelConfig::new`].
    pub fn with(&self, change: impl FnOnce(&mut Model)) -> Result<ModelConfig, Problem> {
        let mut model = self.0.clone();
        change(&mut model);
        ModelConfig::new(model)
    }

    /// Reads and checks a configuration file: of the form of `models/`, a transformers `config.json`, or an
    /// `open_clip_config.json`. Of the latter pixels are read too.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Parse`] or [`Error::Check`], each naming `path`.
    pub fn read(path: &Path) -> Result<ModelConfig, Error> {
        let name = path.display().to_string();
        let text = read_json(path).map_err(|error| Error::Read { path: name.clone(), error })?;
        if let Some(config) = ModelConfig::from_transformers(&name, &text)? {
            return Ok(config);
        }
        if let Some(config) = timm_model(&name, &text)? {
            return Ok(config);
        }
        match OpenClipJson::parse(&name, &text) {
            Ok(Some(file)) => {
                let (mut config, _) = file.model()?;
                if let Some((pixels, _)) = file.pixels(&config)? {
                    config.0.preprocess_cfg = pixels;
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
        let fields = serde_path_to_error::deserialize(&mut json).map_err(|e| Error::Parse {
            path: origin.to_owned(),
            field: e.path().to_string(),
            error: e.into_inner(),
        })?;
        let config = Model::read(fields).and_then(ModelConfig::new);
        config.map_err(|problem| Error::Check { path: origin.to_owned(), problem })
    }

    /// The same model for images of `size` pixels, height and width; NaFlex becomes a ViT of that size. The position
    /// table has to be resampled to the same grid.
    ///
    /// # Errors
    /// A size the tower cannot be made for.
    pub fn at_image_size(&self, size: [usize; 2]) -> Result<ModelConfig, Problem> {
        let Some(vision) = &self.vision_cfg else {
            return Err(Problem::new(
                "image size",
                format!("{}x{}", size[0], size[1]),
                "none: there is no image tower",
            ));
        };
        let vision_cfg = Some(vision.family().at_image_size(size)?);
        let mut preprocess_cfg = self.preprocess_cfg.at_size(vision.image_size(), size);
        if vision.input().is_patches() {
            preprocess_cfg = PreprocessCfg { resize_mode: ResizeMode::Squash, max_patches: None, ..preprocess_cfg };
        }
        self.with(|model| (model.vision_cfg, model.preprocess_cfg) = (vision_cfg, preprocess_cfg))
    }

    /// The same model with pixels made by another rule.
    ///
    /// # Errors
    /// A rule whose fields contradict each other.
    pub fn set_preprocess(&mut self, cfg: PreprocessCfg) -> Result<(), Problem> {
        cfg.check()?;
        self.0.preprocess_cfg = cfg;
        Ok(())
    }

    /// Other names for the tensors, of the same model.
    pub fn set_naming(&mut self, naming: Naming) {
        self.0.naming = naming;
    }

    /// Another way of cleaning sentences; None: as the lineage and the dialect do.
    pub fn set_clean(&mut self, clean: Option<Clean>) {
        self.0.text_cfg.iter_mut().for_each(|text| text.clean = clean);
    }

    /// Rows of ids without a start token.
    pub fn remove_start(&mut self) {
        self.0.text_cfg.iter_mut().for_each(|text| text.sot_id = None);
    }

    /// How sentences are cleaned; None without a text tower.
    pub fn clean(&self) -> Option<Clean> {
        let text = self.text_cfg.as_ref()?;
        Some(text.clean.unwrap_or_else(|| text.tower.family().clean(self.family, self.dialect)))
    }

    /// Whether there is this tower.
    pub fn has(&self, tower: Modality) -> bool {
        match tower {
            Modality::Image => self.vision_cfg.is_some(),
            Modality::Text => self.text_cfg.is_some(),
        }
    }

    /// The same model without a tower.
    pub fn remove(&mut self, tower: Modality) {
        match tower {
            Modality::Image => self.0.vision_cfg = None,
            Modality::Text => self.0.text_cfg = None,
        }
    }

    /// Takes away the projection of a tower alone, whose pooled features are the embedding then.
    pub fn remove_projection(&mut self) {
        let width = match (&mut self.0.vision_cfg, &mut self.0.text_cfg) {
            (Some(vision), _) => {
                *vision.head_mut() = None;
                vision.family().dims().blocks.map(|blocks| blocks.transformer.width)
            }
            (None, Some(text)) => {
                text.head = None;
                Some(text.blocks().width)
            }
            (None, None) => None,
        };
        self.0.embed_dim = width.unwrap_or(self.0.embed_dim);
    }

    /// Whether a tower has a projection to the embedding.
    pub fn has_projection(&self) -> bool {
        let image = self.vision_cfg.as_ref().and_then(|vision| vision.family().head());
        image.or(self.text_cfg.as_ref().and_then(|text| text.head)).is_some()
    }

    /// Height and width of images in pixels, where there is an image tower and they are fixed.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        self.vision_cfg.as_ref()?.image_size()
    }

    /// Whether images come as patches, any number of them.
    pub fn takes_patches(&self) -> bool {
        self.vision_cfg.as_ref().is_some_and(|vision| vision.input().is_patches())
    }

    /// The image tower as it is with its training-time branches folded. False where it was so before, or has none.
    pub fn fold_image_branches(&mut self) -> bool {
        self.0
            .vision_cfg
            .as_mut()
            .and_then(VisionCfg::reparameterized_mut)
            .is_some_and(|folded| !std::mem::replace(folded, true))
    }

    /// The same for the text tower.
    pub fn fold_text_branches(&mut self) -> bool {
        self.0
            .text_cfg
            .as_mut()
            .and_then(TextCfg::reparameterized_mut)
            .is_some_and(|folded| !std::mem::replace(folded, true))
    }

    /// Gives the image tower's projection a bias; false where it has one, or there is no projection.
    pub fn add_image_head_bias(&mut self) -> bool {
        self.0
            .vision_cfg
            .as_mut()
            .and_then(|vision| vision.head_mut().as_mut())
            .is_some_and(|head| !std::mem::replace(&mut head.bias, true))
    }

    /// JSON of the form of `models/`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
