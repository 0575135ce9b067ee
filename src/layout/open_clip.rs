//! open_clip's own configuration of a model, which Immich reads too.
//!
//! Fields: open_clip `model_configs/*.json` and `PreprocessCfg`.

use serde_json::{Value, json};

use crate::config::trunks::{self, Timm};
use crate::config::{Act, Dialect, Interpolation, ModelConfig, Proj, ResizeMode, TextPool};

/// `open_clip_config.json` of a repository, from which open_clip makes the model itself.
///
/// # Errors
/// What open_clip has no model for.
pub fn hub_config(config: &ModelConfig) -> Result<Value, String> {
    let mut model = model_cfg(config);
    if let Some(Timm { name, pool, proj }) = trunks::model(config)? {
        let image_size = model["vision_cfg"]["image_size"].take();
        model["custom_text"] = json!(true);
        model["vision_cfg"] = json!({
            "timm_model_name": name,
            "timm_model_pretrained": false,
            "timm_pool": pool,
            "timm_proj": proj,
            "image_size": image_size,
        });
    }
    if config.logit_bias {
        model["init_logit_bias"] = json!(-10);
    }
    if config.family.is_siglip() {
        // Of a folder open_clip takes the tokenizer that is in it, whatever this says.
        model["text_cfg"]["hf_tokenizer_name"] = json!(config.model);
        model["text_cfg"]["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    Ok(json!({ "model_cfg": model, "preprocess_cfg": preprocess_cfg(config) }))
}

/// `model_cfg`: sizes, activations, and how sentences are cleaned. Fields are left out where they are
/// open_clip's defaults.
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
    let ratio = |mlp_dim: usize, width: usize| mlp_dim as f64 / width.max(1) as f64;
    let eps = |eps: f32| json!({ "eps": eps.to_string().parse::<f64>().unwrap_or(1e-5) });
    let cfg = &mut out["text_cfg"];
    if text.mlp_dim != 4 * text.width {
        cfg["mlp_ratio"] = json!(ratio(text.mlp_dim, text.width));
    }
    match text.pool_type {
        TextPool::Argmax => {}
        TextPool::Last => cfg["pool_type"] = json!("last"),
        TextPool::First => cfg["pool_type"] = json!("first"),
        TextPool::Eos => {
            cfg["pool_type"] = json!("eos");
            cfg["eos_id"] = json!(text.eot_id);
        }
    }
    if text.proj == Proj::None {
        cfg["proj_type"] = json!("none");
    }
    if text.proj_bias {
        cfg["proj_bias"] = json!(true);
    }
    if text.norm_eps != 1e-5 {
        cfg["norm_kwargs"] = eps(text.norm_eps);
    }
    match text.act {
        Act::Gelu => {}
        Act::GeluTanh => cfg["act_kwargs"] = json!({"approximate": "tanh"}),
        Act::QuickGelu => out["quick_gelu"] = json!(true),
    }
    if let Some([height, width]) = config.vision_cfg.image_size() {
        out["vision_cfg"]["image_size"] = if height == width { json!(height) } else { json!([height, width]) };
    }
    if let Some(vit) = config.vision_cfg.vit() {
        let cfg = &mut out["vision_cfg"];
        cfg["patch_size"] = json!(vit.patch_size);
        cfg["width"] = json!(vit.width);
        cfg["layers"] = json!(vit.layers);
        cfg["head_width"] = json!(vit.width / vit.heads.max(1));
        if vit.mlp_dim != 4 * vit.width {
            cfg["mlp_ratio"] = json!(ratio(vit.mlp_dim, vit.width));
        }
        if !vit.pre_norm {
            cfg["no_ln_pre"] = json!(true);
        }
        if vit.norm_eps != 1e-5 {
            cfg["norm_kwargs"] = eps(vit.norm_eps);
        }
    }
    if config.family.is_siglip() && config.dialect == Dialect::OpenClip {
        out["text_cfg"]["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    out
}

/// In what a rule for pixels is none of open_clip's; None where all is well.
pub fn lacks(config: &ModelConfig) -> Option<String> {
    let cfg = &config.preprocess_cfg;
    if !matches!(cfg.interpolation, Interpolation::Bilinear | Interpolation::Bicubic) {
        return Some(format!("resizing by {}", cfg.interpolation));
    }
    if cfg.resize_mode == ResizeMode::None {
        return Some("photographs that are not resized".to_owned());
    }
    if cfg.longest_edge.is_some() {
        return Some("a longest edge".to_owned());
    }
    let to = cfg.resize_to.filter(|to| Some(*to) != config.vision_cfg.image_size());
    to.map(|[height, width]| format!("resizing to {height} x {width} pixels before the crop"))
}

/// `preprocess_cfg`: how pixels are made.
pub fn preprocess_cfg(config: &ModelConfig) -> Value {
    let cfg = &config.preprocess_cfg;
    let [height, width] = config.vision_cfg.image_size().unwrap_or([224, 224]);
    let [mean, std] = cfg.of_unit_range();
    json!({
        "size": [height, width],
        "mode": "RGB",
        "mean": mean,
        "std": std,
        "interpolation": cfg.interpolation,
        "resize_mode": match cfg.resize_mode {
            ResizeMode::Naflex | ResizeMode::None => ResizeMode::Squash,
            mode => mode,
        },
        "fill_color": cfg.fill_color.map_or(0, |[red, ..]| red),
    })
}
