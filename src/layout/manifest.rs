//! `manifest.json`: what an export says of itself, and what is read of it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::modality::Modality;
use crate::output::MANIFEST;
use crate::precision::Precision;

/// Everything in the folder but the manifest itself and the reports, which may hold times.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Name of the program that wrote the folder.
    pub tool: &'static str,
    /// Version of that program.
    pub tool_version: &'static str,
    /// What every file's metadata holds.
    pub metadata: BTreeMap<String, String>,
    /// The model as it was built, at the image size and in the dialect that were asked for.
    pub config: serde_json::Value,
    /// How pixels and rows of token ids are made, in words, and where that is from.
    pub inputs: BTreeMap<&'static str, Rule>,
    /// Options of the export that decide the bytes of the files.
    pub options: BTreeMap<&'static str, serde_json::Value>,
    /// Files of the folder.
    pub files: Vec<ManifestFile>,
}

/// A rule for one input.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// The rule in one sentence.
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
    /// A graph with one tower.
    Tower,
    /// A graph with both towers and their logits.
    Combined,
    /// A graph with an image tower and labels.
    Classifier,
    /// Weights of a graph, in a file of their own.
    Weights,
    /// The weights under open_clip's names.
    Checkpoint,
    /// Vocabulary and settings of the tokenizer.
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

impl Role {
    /// Whether the file is a graph, which can be run.
    pub fn is_graph(self) -> bool {
        matches!(self, Role::Tower | Role::Combined | Role::Classifier)
    }
}

/// A file of the folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct ManifestFile {
    /// From the folder, with `/` between parts.
    pub path: String,
    /// What the file is for.
    pub role: Role,
    /// What a tower embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<Modality>,
    /// Of graphs and their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Of graphs: files that their weights are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal; absent where hashing was turned off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The graphs that the manifest of a folder lists, in its order; None where there is no manifest, or one of an earlier
/// version, which does not say what files are for.
///
/// # Errors
/// Why the manifest cannot be read, or which file that it lists is not in the folder.
pub fn graphs(folder: &Path) -> Result<Option<Vec<PathBuf>>, String> {
    #[derive(Deserialize)]
    struct Listed {
        files: Vec<ListedFile>,
    }
    #[derive(Deserialize)]
    struct ListedFile {
        path: PathBuf,
        role: Role,
    }
    let text = match crate::files::read_json(&folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let Ok(Listed { files }) = serde_json::from_str::<Listed>(&text) else { return Ok(None) };
    if let Some(file) = files.iter().find(|file| !crate::files::is_inside(&file.path)) {
        return Err(format!("it lists `{}`, which is not in the folder", file.path.display()));
    }
    Ok(Some(files.into_iter().filter(|file| file.role.is_graph()).map(|file| folder.join(file.path)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_those_the_manifest_lists() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(graphs(folder.path()).unwrap(), None);
        write(MANIFEST, r#"{"files": [{"path": "a.onnx", "size": 1}]}"#);
        assert_eq!(graphs(folder.path()).unwrap(), None, "roles are not said");
        write(
            MANIFEST,
            r#"{"files": [{"path": "b.onnx", "role": "tower"}, {"path": "b.onnx_data", "role": "weights"},
                {"path": "c.onnx", "role": "combined"}]}"#,
        );
        for name in ["a.onnx", "b.onnx", "b.onnx_data"] {
            write(name, "");
        }
        assert_eq!(
            graphs(folder.path()).unwrap(),
            Some(vec![folder.path().join("b.onnx"), folder.path().join("c.onnx")])
        );
    }
}
