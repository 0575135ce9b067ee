//! What an export says of itself, as `manifest.json`.

use std::collections::BTreeMap;

use serde::Serialize;

/// `manifest.json`: everything in the folder but itself and the report, which may hold times.
#[derive(Debug, Serialize)]
pub struct Manifest {
    pub tool: &'static str,
    pub tool_version: &'static str,
    /// What every file's metadata holds.
    pub metadata: BTreeMap<String, String>,
    /// The model as it was built, after `--image-size` and `--dialect`.
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

#[derive(Debug, Serialize)]
pub struct ManifestFile {
    pub path: String,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}
