//! `manifest.json` of an export.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Error;
use super::artifacts::{Artifact, Files};
use super::companions::Companion;
use super::metadata::{image_metadata, metadata, text_metadata};
use super::model::Model;
use super::request::Export;
use super::resolve::Recipe;
use super::workspace::Workspace;
use crate::files::file_name;
use crate::layout::manifest::{Manifest, ManifestFile, Role};
use crate::modality::Modality;
use crate::onnx::write::{ExternalData, Written};
use crate::output::{MANIFEST, pretty};
use crate::towers;

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
    let mut shared = metadata(recipe, model, logits);
    work.with_digest(&mut shared)?;
    let all = [shared.clone(), image_metadata(config, recipe.build.ports.pixels), text_metadata(config)];
    let manifest = Manifest {
        tool: env!("CARGO_PKG_NAME"),
        tool_version: env!("CARGO_PKG_VERSION"),
        metadata: all.into_iter().flatten().collect(),
        config: config.to_json(),
        inputs: model.selected.inputs().into_iter().collect(),
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
