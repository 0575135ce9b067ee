//! Which project's tensor names a file uses, and which project's code its model is to agree with.

use serde::{Deserialize, Serialize};

use super::{Error, ModelConfig};

/// Spelling of a checkpoint's tensor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// big_vision's `.npz`, by Google: SigLIP and SigLIP 2.
    BigVision,
    /// Apple's MobileCLIP checkpoints.
    Apple,
    /// open_clip, timm's trunks included.
    OpenClip,
    /// Hugging Face transformers.
    Transformers,
}

impl Naming {
    /// The code that a file of this naming is to agree with, unless something says otherwise.
    pub fn dialect(self) -> Dialect {
        match self {
            Naming::BigVision | Naming::Apple => Dialect::Original,
            Naming::OpenClip => Dialect::OpenClip,
            Naming::Transformers => Dialect::Transformers,
        }
    }
}

/// Which code defines the correct results: the same weights are run differently by different projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The authors' own code.
    Original,
    /// open_clip's code.
    OpenClip,
    /// Hugging Face transformers' code.
    Transformers,
}

impl Dialect {
    /// All of them, in the order messages list them.
    pub const ALL: [Dialect; 3] = [Dialect::Original, Dialect::OpenClip, Dialect::Transformers];

    /// Reads the spelling used on the command line and in metadata.
    pub fn parse(text: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|d| d.to_string() == text)
    }
}

impl ModelConfig {
    /// The same model as another dialect runs it.
    ///
    /// # Errors
    /// [`Error::NoDialect`] when the model does not say what that dialect changes.
    pub fn in_dialect(&self, dialect: Dialect) -> Result<ModelConfig, Error> {
        if dialect == self.dialect {
            return Ok(self.clone());
        }
        let Some(patch) = self.dialects.get(&dialect) else {
            let known: Vec<String> =
                std::iter::once(&self.dialect).chain(self.dialects.keys()).map(Dialect::to_string).collect();
            return Err(Error::NoDialect { model: self.model.clone(), dialect, known: known.join(", ") });
        };
        let mut value = self.to_json();
        overlay(&mut value, patch);
        value["dialect"] = serde_json::Value::String(dialect.to_string());
        if let Some(fields) = value.as_object_mut() {
            fields.remove("dialects");
        }
        ModelConfig::parse(&format!("{} in dialect {dialect}", self.model), &value.to_string())
    }

    /// The same model as a file of this naming holds it, run as this dialect runs it.
    ///
    /// # Errors
    /// As [`ModelConfig::in_dialect`].
    pub fn for_file(&self, naming: Naming, dialect: Dialect) -> Result<ModelConfig, Error> {
        let mut config = self.in_dialect(dialect)?;
        if let Some(patch) = self.namings.get(&naming) {
            let mut value = config.to_json();
            overlay(&mut value, patch);
            config = ModelConfig::parse(&format!("{} under {naming} names", self.model), &value.to_string())?;
        }
        config.0.naming = naming;
        (config.0.dialects, config.0.namings) = Default::default();
        Ok(config)
    }
}

fn overlay(value: &mut serde_json::Value, patch: &serde_json::Value) {
    match (value, patch) {
        (serde_json::Value::Object(value), serde_json::Value::Object(patch)) => {
            for (key, patch) in patch {
                overlay(value.entry(key.clone()).or_insert(serde_json::Value::Null), patch);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}
