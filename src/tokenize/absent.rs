//! What stands in for tokenizers in a build without the feature `embed`.

use std::convert::Infallible;
use std::path::Path;

use super::Error;
use crate::config::{ModelConfig, TextCfg};

/// A model's tokenizer; there is none in this build.
pub struct Tokenizer(Infallible);

/// Whether a `tokenizer.json` adds start and end: not known in this build.
pub fn adds(_: &serde_json::Value, _: &TextCfg) -> Option<(bool, bool)> {
    None
}

impl Tokenizer {
    /// # Errors
    /// [`Error::NotBuilt`].
    pub fn new(_: &ModelConfig, _: Option<&Path>) -> Result<Tokenizer, Error> {
        Err(Error::NotBuilt)
    }

    /// What a `tokenizer.json` calls an id.
    pub fn token(&self, _: i64) -> Option<String> {
        match self.0 {}
    }

    /// Positions of a row.
    pub fn context_length(&self) -> usize {
        match self.0 {}
    }

    /// A row of ids, and whether the text was cut.
    ///
    /// # Errors
    /// None: there is no tokenizer.
    pub fn row_and_cut(&self, _: &str) -> Result<(Vec<i64>, bool), Error> {
        match self.0 {}
    }
}
