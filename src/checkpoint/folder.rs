//! The checkpoint in a folder, as hubs and libraries lay folders out.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use crate::files::{is_inside, read_json};

/// What a folder's checkpoint is called, the first one present being taken. timm's repositories hold
/// an image tower alone as `model.safetensors` beside open_clip's file, which therefore goes first.
const NAMES: &[&str] = &[
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Endings of other checkpoints, where a folder holds one alone.
const ENDINGS: &[&str] = &["safetensors", "pt", "pth", "bin", "ckpt", "npz"];

/// Files of training and of adapters, which are no checkpoints of models.
const NOT_MODELS: &[&str] = &["adapter_model.", "optimizer.", "scheduler.", "training_args.", "rng_state", "scaler."];

/// A module of sentence-transformers' `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

/// The checkpoint in a folder: under one of the usual names, in the module that sentence-transformers lists, in the snapshot
/// that a hub's cache refers to, or the only one there is.
///
/// # Errors
/// [`Error::Directory`], [`Error::Several`], [`Error::Pipeline`] or [`Error::Modules`].
pub fn in_folder(folder: &Path) -> Result<PathBuf, Error> {
    // It says what is done with the model beside it.
    if let Some(module) = sentence_transformers(folder)? {
        return in_folder(&module);
    }
    if let Some(found) = NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    if let Some(snapshot) = snapshot(folder) {
        return in_folder(&snapshot);
    }
    if folder.join("model_index.json").is_file() {
        let towers: Vec<&str> = ["text_encoder", "text_encoder_2", "image_encoder"]
            .into_iter()
            .filter(|name| folder.join(name).is_dir())
            .collect();
        return Err(Error::Pipeline { towers: towers.join(", ") });
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let is_one = ENDINGS.contains(&&*ending) && !NOT_MODELS.iter().any(|start| name.starts_with(start));
        if is_one && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::Directory { expected: NAMES.join(", ") }),
        several => {
            let names: Vec<_> = several
                .iter()
                .take(5)
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                .collect();
            Err(Error::Several { count: several.len(), names: names.join(", ") })
        }
    }
}

/// The folder of the CLIP model in a folder of sentence-transformers; None where it is none.
fn sentence_transformers(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let Ok(text) = read_json(&folder.join("modules.json")) else { return Ok(None) };
    let bad = |reason: String| Error::Modules { reason };
    let modules: Vec<Module> = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let class = |module: &Module| module.class.rsplit('.').next().unwrap_or_default().to_owned();
    let mut model = None;
    for module in &modules {
        match &*class(module) {
            "CLIPModel" | "Transformer" if model.is_none() => model = Some(&module.path),
            // Embeddings are normalised here too.
            "Normalize" => {}
            other => return Err(bad(format!("module {other} is not followed"))),
        }
    }
    let path = model.ok_or_else(|| bad("it lists no CLIPModel".to_owned()))?;
    if !path.is_empty() && !is_inside(Path::new(path)) {
        return Err(bad(format!("module path `{path}` is not in the folder")));
    }
    let inner = folder.join(path);
    if path.is_empty() {
        // At the root, under one of the usual names.
        return Ok(None);
    }
    if !inner.is_dir() {
        return Err(bad(format!("module path `{path}` is not there")));
    }
    Ok(Some(inner))
}

/// The snapshot that a folder of a hub's cache (`models--organisation--name`) refers to as `main`, or its only one.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    if let Ok(revision) = read_json(&folder.join("refs/main")) {
        let named = snapshots.join(revision.trim());
        return (is_inside(Path::new(revision.trim())) && named.is_dir()).then_some(named);
    }
    let mut all = std::fs::read_dir(snapshots).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_checkpoint_is_found_where_libraries_put_it() {
        let modules = r#"[{"path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]"#;
        for (files, expected) in [
            (&[("model.safetensors", ""), ("other.pt", "")][..], "model.safetensors"),
            (&[("epoch_1.pt", ""), ("optimizer.pt", ""), ("README.md", "")], "epoch_1.pt"),
            (&[("modules.json", modules), ("0_CLIPModel/pytorch_model.bin", "")], "0_CLIPModel/pytorch_model.bin"),
            (
                &[("refs/main", "b"), ("snapshots/a/model.safetensors", ""), ("snapshots/b/model.safetensors", "")],
                "snapshots/b/model.safetensors",
            ),
            (&[("snapshots/a/model.safetensors", "")], "snapshots/a/model.safetensors"),
        ] {
            let folder = tree(files);
            assert_eq!(in_folder(folder.path()).unwrap(), folder.path().join(expected));
        }
    }

    #[test]
    fn what_is_not_one_checkpoint_is_named() {
        let dense = r#"[{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.Dense"}]"#;
        let outside = r#"[{"path": "../elsewhere", "type": "x.CLIPModel"}]"#;
        for (files, said) in [
            (&[("a.pt", ""), ("b.pt", "")][..], "a.pt, b.pt"),
            (&[("README.md", "")], "none of open_clip_model.safetensors"),
            (&[("modules.json", dense)], "module Dense is not followed"),
            (&[("modules.json", outside)], "is not in the folder"),
            (&[("model_index.json", "{}"), ("text_encoder/model.safetensors", "")], "text_encoder"),
        ] {
            let error = in_folder(tree(files).path()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
