//! The configuration files that transformers.js, optimum and fastembed read with the towers.
//!
//! Fields: transformers `CLIPConfig`, `SiglipConfig`, `CLIPImageProcessor`, `SiglipImageProcessor`.

use serde_json::{Value, json};

use crate::config::{Act, Blocks, Dialect, Dims, ModelConfig, ResizeMode, TextCfg, Transformer};
use crate::tokenize;

fn act(act: Act) -> &'static str {
    match act {
        Act::Gelu => "gelu",
        Act::GeluTanh => "gelu_pytorch_tanh",
        Act::QuickGelu => "quick_gelu",
    }
}

/// The fields of a section that are those of transformer blocks.
fn blocks(section: &mut Value, blocks: &Transformer) {
    let Transformer { width, layers, heads, mlp_dim, act: of, norm_eps, .. } = *blocks;
    section["hidden_size"] = json!(width);
    section["intermediate_size"] = json!(mlp_dim);
    section["num_hidden_layers"] = json!(layers);
    section["num_attention_heads"] = json!(heads);
    section["hidden_act"] = json!(act(of));
    section["layer_norm_eps"] = json!(norm_eps);
}

/// `config.json`: what a runtime has to know to choose its class, and the sizes of the towers. A tower that is more than a
/// ViT's blocks has no fields for its sizes here.
pub fn config(config: &ModelConfig) -> Value {
    let (kind, class) = if config.family.is_siglip() { ("siglip", "Siglip") } else { ("clip", "CLIP") };
    // SigLIP's classes of one tower give what its model does; CLIP's are two.
    let projected = if config.family.is_siglip() { "" } else { "WithProjection" };
    let mut out = match (vision(config, kind), text(config, kind)) {
        (Some(vision), Some(text)) => json!({
            "architectures": [format!("{class}Model")],
            "model_type": kind,
            "projection_dim": config.embed_dim,
            "text_config": text,
            "vision_config": vision,
        }),
        (Some(mut vision), None) => {
            vision["architectures"] = json!([format!("{class}VisionModel{projected}")]);
            vision
        }
        (None, text) => {
            let mut text = text.unwrap_or_default();
            text["architectures"] = json!([format!("{class}TextModel{projected}")]);
            text
        }
    };
    out["_name_or_path"] = json!(config.model);
    out
}

fn text(config: &ModelConfig, kind: &str) -> Option<Value> {
    let text = config.text_cfg.as_ref()?;
    let mut out = json!({
        "model_type": format!("{kind}_text_model"),
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "projection_dim": config.embed_dim,
        "projection_size": config.embed_dim,
        "pad_token_id": text.pad_id,
        "bos_token_id": text.sot_id,
        "eos_token_id": text.eot_id,
    });
    blocks(&mut out, text.blocks());
    Some(out)
}

fn vision(config: &ModelConfig, kind: &str) -> Option<Value> {
    let vision = config.vision_cfg.as_ref()?;
    let mut out = json!({"model_type": format!("{kind}_vision_model"), "projection_dim": config.embed_dim});
    if let Some([height, width]) = vision.image_size() {
        out["image_size"] = if height == width { json!(height) } else { json!([height, width]) };
    }
    let Dims { patch_size, blocks: of } = vision.family().dims();
    if let Some(patch_size) = patch_size {
        out["patch_size"] = json!(patch_size);
    }
    if let Some(Blocks { transformer, .. }) = of {
        blocks(&mut out, &transformer);
    }
    Some(out)
}

/// What of the rule for pixels an image processor cannot do; None where it can do all.
pub fn lacks(config: &ModelConfig) -> Option<String> {
    let cfg = &config.preprocess_cfg;
    if cfg.resize_mode == ResizeMode::Longest {
        return Some("filling photographs up to the tower's shape".to_owned());
    }
    let [height, width] = cfg.resize_to.or(config.image_size()).unwrap_or([224, 224]);
    let by_two = cfg.resize_mode == ResizeMode::Shortest && height != width && cfg.code != Some(Dialect::Transformers);
    let by_two = by_two && config.dialect != Dialect::Transformers;
    by_two.then(|| format!("resizing to cover {height} x {width} pixels"))
}

/// `preprocessor_config.json`.
pub fn preprocessor(config: &ModelConfig) -> Value {
    let cfg = &config.preprocess_cfg;
    let [height, width] = config.image_size().unwrap_or([224, 224]);
    let mut out = json!({
        "do_convert_rgb": true,
        "do_resize": cfg.resize_mode != ResizeMode::None,
        "do_rescale": cfg.rescale_factor != Some(1.0),
        "do_normalize": true,
        "image_mean": cfg.mean,
        "image_std": cfg.std,
        "resample": cfg.interpolation.number(),
        "rescale_factor": cfg.factor(),
    });
    let side = |[height, width]: [usize; 2]| json!({"height": height, "width": width});
    let (to, crops) = (cfg.resize_to.unwrap_or([height, width]), cfg.resize_to.is_some());
    let is_shortest = cfg.resize_mode == ResizeMode::Shortest;
    out["size"] = if is_shortest { json!({"shortest_edge": to[0].min(to[1])}) } else { side(to) };
    if let Some(longest) = cfg.longest_edge {
        out["size"]["longest_edge"] = json!(longest);
    }
    out["do_center_crop"] = json!(is_shortest || crops || (cfg.resize_mode == ResizeMode::None && cfg.crop));
    if out["do_center_crop"] == json!(true) {
        out["crop_size"] = side([height, width]);
    }
    // SigLIP's image processor has no crop.
    let plain = out["do_center_crop"] == json!(false) && config.family.is_siglip();
    let kind = if plain { "SiglipImageProcessor" } else { "CLIPImageProcessor" };
    out["image_processor_type"] = json!(kind);
    out["processor_class"] = json!(if config.family.is_siglip() { "SiglipProcessor" } else { "CLIPProcessor" });
    out
}

/// `tokenizer_config.json` and `special_tokens_map.json`; `token` gives an id's token.
pub fn tokenizer(config: &ModelConfig, text: &TextCfg, token: impl Fn(i64) -> Option<String>) -> [Value; 2] {
    let mut special = serde_json::Map::new();
    // Where padding does not reach the embedding it may be any token, and the end token occurs in no sentence; CLIP's
    // id 0, with which towers that attend to padding were trained, is `!`.
    let pad = if text.ends_where_pooled() { text.eot_id } else { text.pad_id };
    let ids = [("bos_token", text.sot_id), ("eos_token", Some(text.eot_id)), ("pad_token", Some(pad))];
    for (key, id) in ids {
        if let Some(token) = id.and_then(&token) {
            special.insert(key.to_owned(), json!(token));
        }
    }
    // transformers' class for CLIP looks for the special tokens of CLIP's own vocabulary.
    let is_clips = tokenize::built_in(config);
    let mut out = json!({
        "tokenizer_class": if is_clips { "CLIPTokenizer" } else { "PreTrainedTokenizerFast" },
        "model_max_length": text.context_length,
        "padding_side": "right",
        "model_input_names": ["input_ids"],
        "do_lower_case": is_clips,
    });
    special.iter().for_each(|(key, token)| out[key] = token.clone());
    [out, Value::Object(special)]
}
