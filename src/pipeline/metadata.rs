//! What the files of an export say of themselves (`metadata_props`).

use std::collections::BTreeMap;

use serde_json::json;

use super::digest::{Digest, SOURCE_SHA256};
use super::model::Model;
use super::resolve::Recipe;
use crate::config::ModelConfig;
use crate::ports::PixelFormat;
use crate::towers::Logits;

/// What all files say of themselves.
pub fn metadata(recipe: &Recipe, model: &Model, logits: Option<Logits>) -> BTreeMap<String, String> {
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
    if !model.adapters.names.is_empty() {
        set("adapters", model.adapters.names.join(", "));
    }
    set("license", config.license.clone().unwrap_or_else(|| "unknown".to_owned()));
    out.extend(logits.iter().flat_map(Logits::metadata));
    out
}

/// What files with an image tower say besides.
pub fn image_metadata(config: &ModelConfig, pixels: PixelFormat) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("preprocess".to_owned(), json!(config.preprocess_cfg).to_string())]);
    if let PixelFormat::Bytes { last, resize, .. } = pixels {
        let (axes, size) = (if last { "NHWC" } else { "NCHW" }, if resize { ", of any size" } else { "" });
        out.insert("pixels".to_owned(), format!("uint8 {axes}{size}; preprocessing is inside"));
    }
    if let Some(patch) = config.vision_cfg.as_ref().and_then(|vision| vision.family().dims().patch_size) {
        out.insert("patch_size".to_owned(), patch.to_string());
    }
    if let Some([height, width]) = config.image_size() {
        out.insert("image_size".to_owned(), format!("{height}x{width}"));
    }
    out
}

/// What files with a text tower say besides.
pub fn text_metadata(config: &ModelConfig) -> BTreeMap<String, String> {
    let Some(text) = &config.text_cfg else { return BTreeMap::new() };
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
