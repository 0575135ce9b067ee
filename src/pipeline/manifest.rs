//! What an export says of itself: metadata of the files, and `manifest.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Error;
use super::artifacts::{Artifact, Files};
use super::digest::Digest;
use super::model::Model;
use super::request::Export;
use super::resolve::Recipe;
use super::workspace::Workspace;
use crate::config::ModelConfig;
use crate::layout::manifest::{Manifest, ManifestFile, Role};
use crate::modality::Modality;
use crate::onnx::write::{ExternalData, Written};
use crate::output::MANIFEST;
use crate::ports::PixelFormat;
use crate::towers::{self, Logits};

/// What scales and excluded layers rest on, where graphs were run to choose them.
#[derive(Clone, Debug, Default)]
pub struct Calibrated {
    /// SHA-256 of the file of inputs.
    pub inputs: Option<String>,
    /// The engine that is asked first.
    pub engine: Option<String>,
}

/// The key of the checkpoint's digest.
pub const SOURCE_SHA256: &str = "source_sha256";

/// What all files say of themselves.
pub fn metadata(recipe: &Recipe, model: &Model, logits: &Logits) -> BTreeMap<String, String> {
    let config = &model.selected.config;
    let mut out = BTreeMap::new();
    let mut set = |key: &str, value: String| out.insert(key.to_owned(), value);
    set("tool", env!("CARGO_PKG_NAME").to_owned());
    set("tool_version", env!("CARGO_PKG_VERSION").to_owned());
    set("source_file", model.checkpoint.file_name());
    if recipe.hash {
        set(SOURCE_SHA256, Digest::PENDING.to_owned());
    }
    set("model", config.model.clone());
    set("family", config.family.to_string());
    set("dialect", config.dialect.to_string());
    set("target", recipe.build.target.profile.name.to_owned());
    set("embed_dim", config.embed_dim.to_string());
    set("normalized", recipe.build.normalize.to_string());
    set("license", config.license.clone().unwrap_or_else(|| "unknown".to_owned()));
    out.extend(logits.metadata());
    out
}

/// What files with an image tower say besides.
pub fn image_metadata(config: &ModelConfig, pixels: PixelFormat) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("preprocess".to_owned(), json!(config.preprocess_cfg).to_string())]);
    if let PixelFormat::Bytes { last, resize, .. } = pixels {
        let (axes, size) = (if last { "NHWC" } else { "NCHW" }, if resize { ", of any size" } else { "" });
        out.insert("pixels".to_owned(), format!("uint8 {axes}{size}; preprocessing is inside"));
    }
    if let Some(patch) = config.vision_cfg.family().dims().patch_size {
        out.insert("patch_size".to_owned(), patch.to_string());
    }
    if let Some([height, width]) = config.vision_cfg.image_size() {
        out.insert("image_size".to_owned(), format!("{height}x{width}"));
    }
    out
}

/// What files with a text tower say besides.
pub fn text_metadata(config: &ModelConfig) -> BTreeMap<String, String> {
    let text = &config.text_cfg;
    let mut out = BTreeMap::from([
        ("context_length".to_owned(), text.context_length.to_string()),
        ("vocab_size".to_owned(), text.vocab_size.to_string()),
        ("pad_id".to_owned(), text.pad_id.to_string()),
        ("eot_id".to_owned(), text.eot_id.to_string()),
    ]);
    if let Some(id) = text.sot_id {
        out.insert("sot_id".to_owned(), id.to_string());
    }
    out
}

/// Writes `manifest.json`; gives what all files say of themselves, with the checkpoint's digest.
///
/// # Errors
/// What reading the checkpoint or writing the file reports.
pub fn write(
    request: &Export,
    recipe: &Recipe,
    model: &Model,
    files: &Files,
    companions: &[Companion],
    work: &Workspace,
) -> Result<BTreeMap<String, String>, Error> {
    let config = &model.selected.config;
    let logits = towers::logits(config, &model.params).map_err(|source| model.wrong(source))?;
    let mut shared = metadata(recipe, model, &logits);
    work.with_digest(&mut shared)?;
    let all = [shared.clone(), image_metadata(config, recipe.build.ports.pixels), text_metadata(config)];
    let manifest = Manifest {
        tool: env!("CARGO_PKG_NAME"),
        tool_version: env!("CARGO_PKG_VERSION"),
        metadata: all.into_iter().flatten().collect(),
        config: config.to_json(),
        inputs: model.selected.inputs().into(),
        options: options(request, recipe, files),
        files: files
            .artifacts
            .iter()
            .flat_map(|artifact| of_artifact(artifact, recipe))
            .chain(
                companions.iter().map(|companion| entry(&companion.written, &companion.written.path, companion.role)),
            )
            .collect(),
    };
    work.write(PathBuf::from(MANIFEST), pretty(&manifest).as_bytes())?;
    Ok(shared)
}

fn options(request: &Export, recipe: &Recipe, files: &Files) -> BTreeMap<&'static str, serde_json::Value> {
    let (build, quantize) = (&recipe.build, &recipe.quantize);
    let size = request.source.image_size.map(|[height, width]| format!("{height}x{width}"));
    BTreeMap::from([
        ("form", json!(recipe.artifacts.name())),
        ("layout", json!(recipe.layout.name())),
        ("last_hidden_state", json!(build.ports.hidden)),
        ("patch_tokens", json!(build.ports.patches)),
        ("static", json!(build.batch)),
        ("image", json!(build.ports.pixels.name())),
        ("resize", json!(build.ports.pixels.resizes())),
        ("tokens", json!(if build.ports.int32 { "int32" } else { "int64" })),
        ("normalize", json!(build.normalize)),
        ("target", json!(build.target.profile.name)),
        ("fold", json!(build.fold)),
        ("last_block", json!(build.last_block)),
        ("map_query", json!(build.map_query)),
        ("text_cut", json!(build.text_cut)),
        ("dynamic_text", json!(build.dynamic_text)),
        ("plain_depthwise", json!(build.plain_depthwise)),
        ("image_size", json!(size)),
        ("precision", json!(recipe.precisions.iter().map(|p| p.name()).collect::<Vec<_>>())),
        ("keep", json!(quantize.exclude)),
        ("keep_nothing", json!(!quantize.auto_exclude)),
        ("reduce_range", json!(quantize.reduce_range)),
        ("zero_points", json!(quantize.zero_points)),
        ("max_drop", json!(recipe.max_drop)),
        ("calibrate", json!(files.calibrated.inputs)),
        ("measured_with", json!(files.calibrated.engine)),
        ("dialect", json!(request.source.dialect)),
        ("hash", json!(recipe.hash)),
        ("external_data", json!(recipe.external == ExternalData::Always)),
        ("opset", json!(build.target.opset)),
        ("ir_version", json!(build.target.ir_version())),
    ])
}

/// A file that goes with the models.
pub struct Companion {
    pub written: Written,
    pub role: Role,
}

/// A model's entry, and its weights' where they are in a file of their own.
fn of_artifact(artifact: &Artifact, recipe: &Recipe) -> Vec<ManifestFile> {
    let (role, modality) = match artifact.graph.as_str() {
        "vision_model" => (Role::Tower, Some(Modality::Image)),
        "text_model" => (Role::Tower, Some(Modality::Text)),
        "classifier" => (Role::Classifier, None),
        _ => (Role::Combined, None),
    };
    let place = |file: &Written| recipe.layout.place(&file_name(&file.path));
    let mut entries: Vec<ManifestFile> = artifact
        .written
        .iter()
        .enumerate()
        .map(|(at, file)| ManifestFile {
            modality,
            precision: Some(artifact.precision),
            ..entry(file, &place(file), if at == 0 { role } else { Role::Weights })
        })
        .collect();
    let data: Vec<String> = entries.iter().skip(1).map(|entry| entry.path.clone()).collect();
    if let Some(model) = entries.first_mut() {
        model.data = data;
    }
    entries
}

fn entry(file: &Written, path: &Path, role: Role) -> ManifestFile {
    ManifestFile {
        path: slashed(path),
        role,
        modality: None,
        precision: None,
        data: vec![],
        size: file.size,
        sha256: file.sha256.clone(),
    }
}

/// A path in the folder as manifests have it on every system.
fn slashed(path: &Path) -> String {
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

pub fn pretty(value: &impl serde::Serialize) -> String {
    // Our own structs, with string keys: this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
