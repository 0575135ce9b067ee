//! What is in a folder that an export wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use crate::config::ModelConfig;
use crate::engine::Signature;
use crate::engine::signature::precision;
use crate::files::{hex, is_inside};
use crate::modality::Modality;
use crate::onnx::read::summary;
use crate::output::MANIFEST;
use crate::ports::PROBABILITIES;
use crate::precision::Precision;

/// The part of `manifest.json` that is needed.
#[derive(Deserialize)]
struct Manifest {
    tool: String,
    metadata: BTreeMap<String, String>,
    config: serde_json::Value,
    files: Vec<ManifestFile>,
}

/// A file; manifests of earlier versions have no more than its path.
#[derive(Deserialize)]
struct ManifestFile {
    path: PathBuf,
    /// `tower`, `combined` or `classifier`, of files that are run.
    role: Option<String>,
    /// `image` or `text`, of a tower.
    modality: Option<String>,
    precision: Option<String>,
}

/// A folder's model, and its files.
pub struct Folder {
    pub path: PathBuf,
    /// SHA-256 of the manifest, which has those of the files.
    pub sha256: String,
    pub config: ModelConfig,
    /// What its files say of themselves.
    pub metadata: BTreeMap<String, String>,
    pub towers: Vec<TowerFile>,
    /// All files of models, external weights too.
    pub files: Vec<PathBuf>,
    /// Whether it holds a classifier, with labels inside.
    pub has_labels: bool,
}

/// One tower; a file that holds both is listed once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerFile {
    pub modality: Modality,
    pub precision: Precision,
    pub path: PathBuf,
}

impl Folder {
    /// Reads what is in the folder at `path`.
    ///
    /// # Errors
    /// [`Error::Folder`] when no export wrote it; what reading its files reports.
    pub fn read(path: &Path) -> Result<Folder, Error> {
        let wrong = |reason: String| Error::Folder { path: path.display().to_string(), reason };
        let file = path.join(MANIFEST);
        let text = crate::files::read_json(&file).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
        if manifest.tool != env!("CARGO_PKG_NAME") {
            return Err(wrong(format!("{MANIFEST} is of {}", manifest.tool)));
        }
        let config = ModelConfig::parse(&file.display().to_string(), &manifest.config.to_string())
            .map_err(|error| Error::Config(Box::new(error)))?;
        let (mut towers, mut has_labels) = (Vec::new(), false);
        if let Some(file) = manifest.files.iter().find(|file| !is_inside(&file.path)) {
            return Err(wrong(format!("{MANIFEST} lists `{}`, which is not in the folder", file.path.display())));
        }
        for file in manifest.files.iter().filter(|file| file.path.extension().is_some_and(|e| e == "onnx")) {
            let content = match file.content() {
                Some(content) => content,
                None => look_into(&path.join(&file.path))?,
            };
            has_labels |= content.has_labels;
            let tower = |modality| TowerFile { modality, precision: content.precision, path: path.join(&file.path) };
            towers.extend(content.modalities.iter().copied().map(tower));
        }
        let sha256 = hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
        let files = manifest.files.iter().map(|file| path.join(&file.path)).collect();
        Ok(Folder { path: path.to_owned(), sha256, config, metadata: manifest.metadata, towers, files, has_labels })
    }
}

/// What is in an ONNX file.
struct Content {
    modalities: Vec<Modality>,
    precision: Precision,
    has_labels: bool,
}

impl ManifestFile {
    /// As the manifest describes it; None where it does not.
    fn content(&self) -> Option<Content> {
        let precision = Precision::parse(self.precision.as_deref()?)?;
        let role = self.role.as_deref()?;
        let modalities = match role {
            "tower" => {
                let modality = self.modality.as_deref()?;
                vec![Modality::ALL.into_iter().find(|one| one.name() == modality)?]
            }
            "combined" => Modality::ALL.to_vec(),
            "classifier" => vec![Modality::Image],
            _ => return None,
        };
        Some(Content { modalities, precision, has_labels: role == "classifier" })
    }
}

/// As the file describes itself.
fn look_into(path: &Path) -> Result<Content, Error> {
    let summary = summary(path)?;
    // What is no tower is not run.
    let towers = Signature::of(&summary).unwrap_or_default();
    Ok(Content {
        modalities: towers.iter().map(Signature::modality).collect(),
        precision: precision(&summary),
        has_labels: summary.outputs.iter().any(|output| output.name == PROBABILITIES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_what_files_are() {
        let content = |json: &str| serde_json::from_str::<ManifestFile>(json).unwrap().content();
        let tower =
            content(r#"{"path": "a.onnx", "role": "tower", "modality": "text", "precision": "int8", "size": 9}"#);
        let tower = tower.unwrap();
        assert_eq!(
            (tower.modalities, tower.precision, tower.has_labels),
            (vec![Modality::Text], Precision::Int8, false)
        );
        let classifier = content(r#"{"path": "a.onnx", "role": "classifier", "precision": "fp32"}"#).unwrap();
        assert!(classifier.has_labels && classifier.modalities == [Modality::Image]);
        assert_eq!(content(r#"{"path": "a", "role": "combined", "precision": "fp32"}"#).unwrap().modalities.len(), 2);
        // Of these one has to look into the file.
        for json in [
            r#"{"path": "a.onnx"}"#,
            r#"{"path": "a.onnx", "role": "tower", "precision": "fp32"}"#,
            r#"{"path": "a.onnx", "role": "something new", "modality": "text", "precision": "fp32"}"#,
            r#"{"path": "a.onnx", "role": "combined", "precision": "int2"}"#,
        ] {
            assert!(content(json).is_none(), "{json}");
        }
    }
}
