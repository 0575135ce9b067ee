//! open_clip's own configuration of a model, which Immich reads too.
//!
//! Fields: open_clip `model_configs/*.json` and `PreprocessCfg`.

use serde_json::{Value, json};

use crate::config::{Dialect, Interpolation, ModelConfig, ResizeMode};

/// `model_cfg`: sizes, and how sentences are cleaned.
pub fn model_cfg(config: &ModelConfig) -> Value {
    let text = &config.text_cfg;
    let mut out = json!({
        "embed_dim": config.embed_dim,
        "vision_cfg": {},
        "text_cfg": {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "no_causal_mask": text.no_causal_mask,
        },
    });
    if let Some([height, width]) = config.vision_cfg.image_size() {
        out["vision_cfg"]["image_size"] = if height == width { json!(height) } else { json!([height, width]) };
    }
    if let Some(vit) = config.vision_cfg.vit() {
        out["vision_cfg"]["patch_size"] = json!(vit.patch_size);
        out["vision_cfg"]["width"] = json!(vit.width);
        out["vision_cfg"]["layers"] = json!(vit.layers);
    }
    if config.family.is_siglip() && config.dialect == Dialect::OpenClip {
        out["text_cfg"]["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    out
}

/// `preprocess_cfg`: how pixels are made.
pub fn preprocess_cfg(config: &ModelConfig) -> Value {
    let cfg = &config.preprocess_cfg;
    let [height, width] = config.vision_cfg.image_size().unwrap_or([224, 224]);
    json!({
        "size": [height, width],
        "mode": "RGB",
        "mean": cfg.mean,
        "std": cfg.std,
        "interpolation": match cfg.interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
        },
        "resize_mode": if cfg.resize_mode == ResizeMode::Shortest { "shortest" } else { "squash" },
        "fill_color": 0,
    })
}
