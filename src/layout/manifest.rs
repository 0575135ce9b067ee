//! `manifest.json`: what an export says of itself, and what is read of it again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::modality::Modality;
use crate::precision::Precision;

/// Everything in the folder but the manifest itself and the reports, which may hold times.
#[derive(Debug, Serialize)]
pub struct Manifest {
    pub tool: &'static str,
    pub tool_version: &'static str,
    /// What every file's metadata holds.
    pub metadata: BTreeMap<String, String>,
    /// The model as it was built, at the image size and in the dialect that were asked for.
    pub config: serde_json::Value,
    /// How pixels and rows of token ids are made, in words, and where that is from.
    pub inputs: BTreeMap<&'static str, Rule>,
    pub options: BTreeMap<&'static str, serde_json::Value>,
    pub files: Vec<ManifestFile>,
}

/// A rule for one input.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    pub rule: String,
    /// Files that say so, or what is assumed.
    pub source: String,
    /// Whether no file says so.
    pub assumed: bool,
}

/// What a file of the folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A graph with one tower or both.
    Model,
    /// A graph with an image tower and labels.
    Classifier,
    /// Weights of a graph, in a file of their own.
    Weights,
    /// The weights under open_clip's names.
    Checkpoint,
    Tokenizer,
    /// The model's configuration in the form of the folder's runtime.
    Config,
    /// How its runtime prepares images.
    Preprocessor,
    /// A classifier's labels, one a line.
    Labels,
    /// The page that classifies photographs.
    Page,
}

/// A file of the folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct ManifestFile {
    /// From the folder, with `/` between parts.
    pub path: String,
    pub role: Role,
    /// Of graphs and their weights: which towers are inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modalities: Vec<Modality>,
    /// Of graphs and their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Of graphs: files that their weights are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}
