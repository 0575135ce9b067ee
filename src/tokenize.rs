//! Sentences as rows of token ids, as a model's authors make them.
//!
//! CLIP's vocabulary is built in; SigLIP's is not, and comes from a `tokenizer.json` the user names.

use std::path::Path;

use crate::config::ModelConfig;
use crate::setting::Setting;
use clip::Spelling;

#[cfg(not(feature = "embed"))]
mod absent;
#[cfg(feature = "embed")]
mod clean;
mod clip;
#[cfg(feature = "embed")]
mod mend;
#[cfg(feature = "embed")]
mod tokenizer;
#[cfg(feature = "embed")]
mod trusted;

#[cfg(not(feature = "embed"))]
pub use absent::{Tokenizer, adds};
#[cfg(feature = "embed")]
pub use tokenizer::{Tokenizer, adds};

/// What can be wrong with a tokenizer or a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("model `{model}` has a vocabulary that is not built in")]
    Missing { model: String },
    #[error("{path} is not a readable tokenizer.json: {reason}; transformers' repository of the same model has one")]
    Read { path: String, reason: String },
    #[error("{path} is not the tokenizer of `{model}`: {reason}")]
    Unfit { path: String, model: String, reason: String },
    #[error("a sentence cannot be tokenized: {0}")]
    Encode(String),
    #[error("model `{model}` has no text tower")]
    NoTexts { model: String },
    #[error("tokenizers are not part of this build")]
    NotBuilt,
}

impl Error {
    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Error::Missing { .. } => format!(
                "name its tokenizer.json with {} (transformers' repository of the same model has one)",
                Setting::Tokenizer
            ),
            Error::NotBuilt => "build the crate with the feature `embed`".to_owned(),
            Error::NoTexts { .. } | Error::Read { .. } | Error::Unfit { .. } | Error::Encode(_) => return None,
        })
    }
}

/// Whether a model's vocabulary is built in.
pub fn built_in(config: &ModelConfig) -> bool {
    !config.family.is_siglip() && config.text_cfg.as_ref().is_some_and(|text| text.vocab_size == clip::SIZE)
}

/// Whether a `tokenizer.json` has the vocabulary and the merges that are built in.
pub fn is_built_in(json: &serde_json::Value) -> bool {
    let own = clip::tokenizer_json(Spelling::Transformers);
    let same = |place: &str| json.pointer(place).is_some_and(|found| Some(found) == own.pointer(place));
    // Merges come as pairs, or as lines.
    let merges = |json: &serde_json::Value| -> Option<Vec<String>> {
        let merges = json.pointer("/model/merges")?.as_array()?.iter();
        let line = |merge: &serde_json::Value| match merge {
            serde_json::Value::String(line) => Some(line.clone()),
            pair => Some(format!("{} {}", pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)),
        };
        merges.map(line).collect()
    };
    same("/model/vocab") && merges(json) == merges(&own)
}

/// The text of a `tokenizer.json`: of the file named, else of CLIP's vocabulary.
///
/// # Errors
/// [`Error::Read`].
pub fn json(file: Option<&Path>) -> Result<String, Error> {
    let Some(path) = file else { return Ok(clip::tokenizer_json(Spelling::Transformers).to_string()) };
    let wrong = |e: std::io::Error| Error::Read { path: path.display().to_string(), reason: e.to_string() };
    crate::files::read_json(path).map_err(wrong)
}
