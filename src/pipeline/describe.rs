//! What an export says of itself: metadata of the files, and the manifest.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::digest::Digest;
use super::export::Export;
use super::select::Selected;
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::layout::manifest::{Manifest, ManifestFile};
use crate::onnx::write::{ExternalData, Written};
use crate::ports::PixelFormat;
use crate::towers::Logits;

/// What scales and kept layers rest on, where something was run to choose them.
#[derive(Default)]
pub struct Measured {
    /// SHA-256 of the file of inputs.
    pub inputs: Option<String>,
    /// The engine that is asked first.
    pub engine: Option<String>,
}

/// The key of the checkpoint's digest.
pub const SOURCE_SHA256: &str = "source_sha256";

/// What both files say of themselves.
pub fn metadata(
    request: &Export,
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    logits: &Logits,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut set = |key: &str, value: String| out.insert(key.to_owned(), value);
    set("tool", env!("CARGO_PKG_NAME").to_owned());
    set("tool_version", env!("CARGO_PKG_VERSION").to_owned());
    set("source_file", checkpoint.file_name());
    if request.hash {
        set(SOURCE_SHA256, Digest::PENDING.to_owned());
    }
    set("model", config.model.clone());
    set("family", config.family.to_string());
    set("dialect", config.dialect.to_string());
    set("target", request.build.target.profile.name.to_owned());
    set("embed_dim", config.embed_dim.to_string());
    set("normalized", request.build.normalize.to_string());
    set("license", config.license.clone().unwrap_or_else(|| "unknown".to_owned()));
    out.extend(logits.metadata());
    out
}

pub fn image_metadata(config: &ModelConfig, pixels: PixelFormat) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("preprocess".to_owned(), json!(config.preprocess_cfg).to_string())]);
    if let PixelFormat::Bytes { last, resize, .. } = pixels {
        let (axes, size) = (if last { "NHWC" } else { "NCHW" }, if resize { ", of any size" } else { "" });
        out.insert("pixels".to_owned(), format!("uint8 {axes}{size}; preprocessing is inside"));
    }
    if let Some(vit) = config.vision_cfg.vit() {
        out.insert("patch_size".to_owned(), vit.patch_size.to_string());
    }
    if let Some([height, width]) = config.vision_cfg.image_size() {
        out.insert("image_size".to_owned(), format!("{height}x{width}"));
    }
    out
}

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

pub fn manifest(
    request: &Export,
    selected: &Selected,
    metadata: &BTreeMap<String, String>,
    (files, beside): (&[Written], &[Written]),
    measured: &Measured,
) -> String {
    let config = &selected.config;
    let all = [metadata.clone(), image_metadata(config, request.build.ports.pixels), text_metadata(config)];
    let size = request.image_size.map(|[height, width]| format!("{height}x{width}"));
    let manifest = Manifest {
        tool: env!("CARGO_PKG_NAME"),
        tool_version: env!("CARGO_PKG_VERSION"),
        metadata: all.into_iter().flatten().collect(),
        config: config.to_json(),
        inputs: selected.inputs().into(),
        options: BTreeMap::from([
            ("form", json!(request.form.name())),
            ("layout", json!(request.layout.name())),
            ("last_hidden_state", json!(request.build.ports.hidden)),
            ("patch_tokens", json!(request.build.ports.patches)),
            ("static", json!(request.build.batch)),
            ("image", json!(request.build.ports.pixels.name())),
            ("resize", json!(request.build.ports.pixels.resizes())),
            ("tokens", json!(if request.build.ports.int32 { "int32" } else { "int64" })),
            ("normalize", json!(request.build.normalize)),
            ("target", json!(request.build.target.profile.name)),
            ("fold", json!(request.build.fold)),
            ("last_block", json!(request.build.last_block)),
            ("map_query", json!(request.build.map_query)),
            ("text_cut", json!(request.build.text_cut)),
            ("dynamic_text", json!(request.build.dynamic_text)),
            ("plain_depthwise", json!(request.build.plain_depthwise)),
            ("image_size", json!(size)),
            ("precision", json!(request.precisions.iter().map(|p| p.name()).collect::<Vec<_>>())),
            ("keep", json!(request.narrowing.keep)),
            ("keep_nothing", json!(request.narrowing.keep_nothing)),
            ("reduce_range", json!(request.narrowing.reduce_range)),
            ("zero_points", json!(request.narrowing.zero_points)),
            ("max_drop", json!(request.max_drop)),
            ("calibrate", json!(measured.inputs)),
            ("measured_with", json!(measured.engine)),
            ("dialect", json!(request.choice.dialect)),
            ("hash", json!(request.hash)),
            ("external_data", json!(request.external() == ExternalData::Always)),
            ("opset", json!(request.build.target.opset)),
            ("ir_version", json!(request.build.target.ir_version())),
        ]),
        files: files
            .iter()
            .map(|f| (request.layout.place(&file_name(&f.path)), f))
            .chain(beside.iter().map(|f| (f.path.clone(), f)))
            .map(|(path, f)| ManifestFile { path: slashed(&path), size: f.size, sha256: f.sha256.clone() })
            .collect(),
    };
    pretty(&manifest)
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
