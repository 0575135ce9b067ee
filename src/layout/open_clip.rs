//! open_clip's own configuration of a model, which Immich reads too.
//!
//! Fields: open_clip `model_configs/*.json` and `PreprocessCfg`.

use serde_json::{Value, json};

use crate::config::trunks::{self, Timm};
use crate::config::{
    Act, Blocks, Dialect, Encoder, Interpolation, ModelConfig, Pool, ResizeMode, TextCfg, TextPool, Transformer,
    VisionCfg, Vit,
};

/// `open_clip_config.json` of a repository, from which open_clip builds the model itself.
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
        // From a folder open_clip loads the tokenizer that is in it, whatever the name here.
        model["text_cfg"]["hf_tokenizer_name"] = json!(config.model);
        model["text_cfg"]["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    Ok(json!({ "model_cfg": model, "preprocess_cfg": preprocess_cfg(config) }))
}

/// `model_cfg`: sizes, activations, and how sentences are cleaned. Fields are left out where they are
/// open_clip's defaults.
pub fn model_cfg(config: &ModelConfig) -> Value {
    let mut out = json!({"embed_dim": config.embed_dim, "vision_cfg": {}, "text_cfg": {}});
    if let Some(text) = &config.text_cfg {
        text_cfg(&mut out, text);
    }
    let cfg = &mut out["vision_cfg"];
    if let Some([height, width]) = config.image_size() {
        cfg["image_size"] = if height == width { json!(height) } else { json!([height, width]) };
    }
    let dims = config.vision_cfg.as_ref().map(|vision| vision.family().dims());
    if let Some(patch_size) = dims.and_then(|dims| dims.patch_size) {
        cfg["patch_size"] = json!(patch_size);
    }
    // A tower that is more than a ViT's blocks is timm's in open_clip, which knows its sizes by its name.
    if let Some(Blocks { transformer, pre_norm }) = dims.and_then(|dims| dims.blocks) {
        cfg["width"] = json!(transformer.width);
        cfg["layers"] = json!(transformer.layers);
        cfg["head_width"] = json!(transformer.width / transformer.heads);
        mlp_and_norm(cfg, &transformer);
        if !pre_norm {
            cfg["no_ln_pre"] = json!(true);
        }
        if let Some(VisionCfg::Vit(Vit { encoder: Encoder { pool: Pool::Avg { norm_after, .. }, .. }, .. })) =
            config.vision_cfg
        {
            cfg["pool_type"] = json!("avg");
            cfg["final_ln_after_pool"] = json!(norm_after);
        }
    }
    if config.family.is_siglip() && config.dialect == Dialect::OpenClip {
        out["text_cfg"]["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    out
}

/// The text tower's fields, and QuickGELU, which is the whole model's.
fn text_cfg(out: &mut Value, text: &TextCfg) {
    let blocks = text.blocks();
    let mut cfg = json!({
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": blocks.width,
        "heads": blocks.heads,
        "layers": blocks.layers,
        "no_causal_mask": !text.tower.family().is_causal(),
    });
    mlp_and_norm(&mut cfg, blocks);
    match text.pool_type {
        TextPool::Argmax => {}
        TextPool::Last => cfg["pool_type"] = json!("last"),
        TextPool::First => cfg["pool_type"] = json!("first"),
        TextPool::Eos => {
            cfg["pool_type"] = json!("eos");
            cfg["eos_id"] = json!(text.eot_id);
        }
    }
    match text.head {
        None => cfg["proj_type"] = json!("none"),
        Some(head) if head.bias => cfg["proj_bias"] = json!(true),
        Some(_) => {}
    }
    match blocks.act {
        Act::Gelu => {}
        Act::GeluTanh => cfg["act_kwargs"] = json!({"approximate": "tanh"}),
        Act::QuickGelu => out["quick_gelu"] = json!(true),
    }
    out["text_cfg"] = cfg;
}

/// The fields of a section for MLPs, norms and layer scales that differ from open_clip's defaults.
fn mlp_and_norm(section: &mut Value, blocks: &Transformer) {
    if blocks.layer_scale {
        // What training begins with: the weights hold the numbers themselves.
        section["ls_init_value"] = json!(1e-5);
    }
    if blocks.mlp_dim != 4 * blocks.width {
        section["mlp_ratio"] = json!(blocks.mlp_dim as f64 / blocks.width as f64);
    }
    if blocks.norm_eps != 1e-5 {
        // In the decimal digits of the float32, not in those of its float64.
        section["norm_kwargs"] = json!({ "eps": blocks.norm_eps.to_string().parse::<f64>().unwrap_or(1e-5) });
    }
}

/// What of the rule for pixels open_clip cannot do; None where it can do all.
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
    let to = cfg.resize_to.filter(|to| Some(*to) != config.image_size());
    to.map(|[height, width]| format!("resizing to {height} x {width} pixels before the crop"))
}

/// `preprocess_cfg`: how pixels are made.
pub fn preprocess_cfg(config: &ModelConfig) -> Value {
    let cfg = &config.preprocess_cfg;
    let [height, width] = config.image_size().unwrap_or([224, 224]);
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
