//! open_clip's configurations: `open_clip_config.json` of a repository, and the `model_configs/*.json` it is made of.
//!
//! Fields and their defaults: open_clip `model.py` (`CLIPVisionCfg`, `CLIPTextCfg`), `factory.py`,
//! `transform.py` (`PreprocessCfg`).

use std::collections::BTreeMap;

use section::{Section, problem};
use serde_json::Value;
use special::{Special, special_ids};

use super::check::Problem;
use super::{
    Clean, ClipText, Dialect, Encoder, Error, Family, Head, Interpolation, Model, ModelConfig, Naming, OpenClipForm,
    PatchEmbed, PatchWeight, Pool, PreprocessCfg, ResizeMode, Stem, TextCfg, TextPool, TextTower, Transformer,
    VisionCfg, Vit, trunks,
};

mod section;
mod special;

/// Such a file, parsed.
#[derive(Clone, Debug)]
pub struct OpenClipJson {
    origin: String,
    model_cfg: Value,
    preprocess_cfg: Option<Value>,
}

/// Entries of Gemma's vocabulary, which SigLIP 2 has.
const GEMMA: usize = 256_000;

/// Blocks of other forms.
const OTHER_BLOCKS: &[&str] =
    &["block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"];

impl OpenClipJson {
    /// Parses `open_clip_config.json` or a file of open_clip's `model_configs/`; None where the text is neither.
    ///
    /// # Errors
    /// [`Error::Parse`] when it is not JSON.
    pub fn parse(origin: &str, text: &str) -> Result<Option<OpenClipJson>, Error> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::Parse {
            path: origin.to_owned(),
            field: "the file".to_owned(),
            error,
        })?;
        let plain = || {
            // Our own configurations have these two fields as well, and `naming`.
            let is = json.get("embed_dim").is_some() && json.get("vision_cfg").is_some();
            (is && json.get("naming").is_none()).then(|| json.clone())
        };
        let Some(model_cfg) = json.get("model_cfg").cloned().or_else(plain) else { return Ok(None) };
        let preprocess_cfg = json.get("preprocess_cfg").filter(|value| !value.is_null()).cloned();
        Ok(Some(OpenClipJson { origin: origin.to_owned(), model_cfg, preprocess_cfg }))
    }

    fn section<'a>(&'a self, at: &'static str, name: &str) -> Section<'a> {
        Section { at, fields: self.model_cfg.get(name).unwrap_or(&Value::Null) }
    }

    fn wrong(&self, problem: Problem) -> Error {
        Error::OpenClip { path: self.origin.clone(), problem }
    }

    /// timm's model, where the image tower is one.
    pub fn timm_model(&self) -> Option<&str> {
        self.model_cfg.get("vision_cfg")?.get("timm_model_name")?.as_str()
    }

    /// Whether all GELUs are QuickGELU.
    pub fn is_quick(&self) -> bool {
        self.model_cfg.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false)
    }

    /// A known model whose image tower is timm's model named in the file: if there are several, one with a vocabulary
    /// of the same size. None where the file names none.
    fn trunk(&self) -> Result<Option<ModelConfig>, Problem> {
        let Some(name) = self.timm_model() else { return Ok(None) };
        let words = self.section("", "text_cfg").size("vocab_size", 49_408)?;
        let mut all: Vec<ModelConfig> = trunks::known_with(name).collect();
        let fits = all.iter().position(|known| known.text_cfg.as_ref().is_some_and(|text| text.vocab_size == words));
        if all.is_empty() {
            let known = trunks::names().into_iter().collect::<Vec<_>>().join(", ");
            return Err(problem("model_cfg.vision_cfg.timm_model_name".to_owned(), name, format!("one of {known}")));
        }
        Ok(Some(all.swap_remove(fits.unwrap_or(0))))
    }

    /// The model, and warnings for the user. Its image tower is that of a known model, where the file names timm's, or
    /// open_clip's own ViT.
    ///
    /// # Errors
    /// [`Error::OpenClip`] for a field or a value that cannot be followed.
    pub fn model(&self) -> Result<(ModelConfig, Vec<String>), Error> {
        let wrong = |problem| self.wrong(problem);
        let trunk = self.trunk().map_err(wrong)?;
        let trunk = trunk.as_ref();
        let root = Section { at: "model_cfg.", fields: &self.model_cfg };
        root.only(&[&[
            "embed_dim",
            "vision_cfg",
            "text_cfg",
            "quick_gelu",
            "custom_text",
            "init_logit_scale",
            "init_logit_bias",
            "nonscalar_logit_scale",
            "output_dict",
            "multimodal_cfg",
        ]])
        .and_then(|()| root.refuse(&["multimodal_cfg", "nonscalar_logit_scale"]))
        .map_err(wrong)?;
        let embed_dim = root.size("embed_dim", 0).map_err(wrong)?;
        let quick = root.flag("quick_gelu", false).map_err(wrong)?;
        let (mut notes, text) = (Vec::new(), self.section("model_cfg.text_cfg.", "text_cfg"));
        let text_cfg = text_cfg(text, quick, &mut notes).map_err(wrong)?;
        let vision = self.section("model_cfg.vision_cfg.", "vision_cfg");
        let mut model = match trunk {
            Some(trunk) => {
                timm_tower(vision, trunk).map_err(wrong)?;
                Model { embed_dim, text_cfg: Some(text_cfg), ..Model::clone(trunk) }
            }
            None => {
                let vision_cfg = VisionCfg::Vit(vit(vision, quick).map_err(wrong)?);
                native(embed_dim, vision_cfg, text_cfg)
            }
        };
        model.logit_bias = root.get("init_logit_bias").is_some();
        if let Some(trunk) = trunk.filter(|trunk| trunk.family.is_siglip()) {
            let words = |config: &Model| config.text_cfg.as_ref().map(|text| text.vocab_size);
            if words(trunk) != words(&model) {
                // The image tower is that of another model.
                let is_gemma = words(&model) == Some(GEMMA);
                model.family = if is_gemma { Family::Siglip2 } else { Family::Siglip };
                model.model = if is_gemma { "SigLIP2" } else { "SigLIP" }.to_owned();
            }
        }
        let config = ModelConfig::new(model).map_err(wrong)?;
        Ok((config.like_known(), notes))
    }

    /// The preprocessing of `preprocess_cfg` for the towers of `config`, and warnings for the user; None where the file
    /// has none.
    ///
    /// # Errors
    /// [`Error::Pixels`] for a field or a value that cannot be followed.
    pub fn pixels(&self, config: &ModelConfig) -> Result<Option<(PreprocessCfg, Vec<String>)>, Error> {
        let Some(fields) = &self.preprocess_cfg else { return Ok(None) };
        let section = Section { at: "preprocess_cfg.", fields };
        let found = pixels(section, config);
        found.map(Some).map_err(|problem| Error::Pixels { path: self.origin.clone(), problem })
    }
}

/// A model of open_clip's own ViT.
fn native(embed_dim: usize, vision_cfg: VisionCfg, text_cfg: TextCfg) -> Model {
    Model {
        model: "CLIP".to_owned(),
        family: Family::Clip,
        naming: Naming::OpenClip,
        dialect: Dialect::OpenClip,
        license: None,
        embed_dim,
        logit_scale_max: None,
        logit_bias: false,
        vision_cfg: Some(vision_cfg),
        text_cfg: Some(text_cfg),
        preprocess_cfg: PreprocessCfg::clip(),
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    }
}

fn image_size(section: Section) -> Result<Option<[usize; 2]>, Problem> {
    let expected = "a number, or [height, width]";
    let Some(found) = section.get("image_size") else { return Ok(None) };
    let sides: Option<Vec<usize>> = match found {
        Value::Array(sides) => sides.iter().map(|side| side.as_u64().and_then(|n| usize::try_from(n).ok())).collect(),
        one => one.as_u64().and_then(|n| usize::try_from(n).ok()).map(|side| vec![side; 2]),
    };
    let sides = sides.and_then(|sides| <[usize; 2]>::try_from(sides).ok());
    sides.map(Some).ok_or_else(|| section.wrong("image_size", expected))
}

/// open_clip's own ViT.
fn vit(section: Section, quick: bool) -> Result<Vit, Problem> {
    section.only(&[
        &[
            "layers",
            "width",
            "head_width",
            "mlp_ratio",
            "patch_size",
            "image_size",
            "patch_dropout",
            "attentional_pool",
        ],
        &["attn_pooler_queries", "attn_pooler_heads", "no_ln_pre", "pos_embed_type", "pool_type", "output_tokens"],
        &[
            "final_ln_after_pool",
            "ls_init_value",
            "act_kwargs",
            "norm_kwargs",
            "timm_model_name",
            "timm_model_pretrained",
            "timm_pool",
            "timm_proj",
        ],
        &["timm_proj_bias", "timm_drop", "timm_drop_path"],
        OTHER_BLOCKS,
    ])?;
    section.refuse(OTHER_BLOCKS)?;
    section.refuse(&["attentional_pool", "timm_model_name"])?;
    if section.get("layers").is_some_and(Value::is_array) {
        return Err(
            section.wrong("layers", "a number of blocks: lists are those of ModifiedResNet, which is not supported")
        );
    }
    // Of one position, the norm after pooling is the one before it.
    let norm_after = section.flag("final_ln_after_pool", false)?;
    let pool = match section.text("pool_type", "tok")? {
        "tok" => Pool::Token,
        "avg" => Pool::Avg { class_token: true, norm_after },
        _ => return Err(section.wrong("pool_type", "tok or avg")),
    };
    match section.text("pos_embed_type", "learnable")? {
        // Both are stored as a table.
        "learnable" | "sin_cos_2d" => {}
        _ => return Err(section.wrong("pos_embed_type", "learnable or sin_cos_2d")),
    }
    let width = section.size("width", 768)?;
    let head_width = section.size("head_width", 64)?;
    let blocks = Transformer {
        width,
        layers: section.size("layers", 12)?,
        heads: width.checked_div(head_width).unwrap_or(0),
        mlp_dim: section.mlp_dim(width)?,
        act: section.act(quick)?,
        norm_eps: section.eps()?,
        layer_scale: section.get("ls_init_value").is_some(),
    };
    let size = section.size("patch_size", 16)?;
    Ok(Vit {
        image_size: image_size(section)?.unwrap_or([224, 224]),
        stem: Stem::Patches(PatchEmbed { size, weight: PatchWeight::Conv, bias: false }),
        encoder: Encoder { blocks, pool, pre_norm: !section.flag("no_ln_pre", false)?, ..Vit::CLIP.encoder },
        ..Vit::CLIP
    })
}

/// Refuses what the file says of timm's tower where the known model has something else.
fn timm_tower(section: Section, trunk: &ModelConfig) -> Result<(), Problem> {
    section.only(&[
        &["timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"],
        &["timm_drop_path", "image_size", "patch_dropout", "patch_size", "output_tokens"],
        // open_clip does not read these where there is timm's tower.
        &["layers", "width", "head_width", "mlp_ratio", "norm_kwargs", "act_kwargs", "no_ln_pre"],
    ])?;
    let size = image_size(section)?;
    if let (Some(found), Some(expected)) = (size, trunk.image_size())
        && found != expected
    {
        let expected = format!("{}x{}, which {} has", expected[0], expected[1], trunk.model);
        return Err(problem(format!("{}image_size", section.at), format!("{}x{}", found[0], found[1]), expected));
    }
    let linear = match section.get("timm_proj").map(|value| value.as_str()) {
        // With `null` and with `none` the projection is the tower's own classifier, if it has one.
        None | Some(Some("none" | "")) => false,
        Some(Some("linear")) => true,
        Some(_) => return Err(section.wrong("timm_proj", "none or linear")),
    };
    // Behind a MAP head the projection is outside timm's tower; others have it as their classifier.
    let tower = trunk.vision_cfg.as_ref().map(VisionCfg::family);
    let is_map = tower.is_some_and(|tower| tower.open_clip_form() == OpenClipForm::Siglip);
    let projected = tower.is_some_and(|tower| tower.head().is_some());
    if is_map && linear != projected || !is_map && linear {
        let expected = format!("what {} has", trunk.model);
        return Err(section.wrong("timm_proj", &expected));
    }
    Ok(())
}

fn text_cfg(section: Section, quick: bool, notes: &mut Vec<String>) -> Result<TextCfg, Problem> {
    section.only(&[
        &["context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "width", "heads"],
        &["layers", "mlp_ratio", "embed_cls", "pad_id", "eos_id", "no_causal_mask", "pool_type", "proj_bias"],
        &["proj_type", "output_tokens", "act_kwargs", "norm_kwargs", "hf_model_name", "hf_model_pretrained"],
        &["hf_proj_type", "hf_pooler_type", "ls_init_value"],
        OTHER_BLOCKS,
    ])?;
    if section.get("hf_model_name").is_some() {
        return Err(section.wrong("hf_model_name", "absent: text towers of transformers are not supported"));
    }
    section.refuse(OTHER_BLOCKS)?;
    section.refuse(&["embed_cls"])?;
    let vocab_size = section.size("vocab_size", 49_408)?;
    let last = (vocab_size as i64 - 1).max(0);
    let pool_type = match section.text("pool_type", "argmax")? {
        "argmax" => TextPool::Argmax,
        "last" => TextPool::Last,
        "first" => TextPool::First,
        "eos" => TextPool::Eos,
        _ => return Err(section.wrong("pool_type", "argmax, last, first or eos")),
    };
    let eos = section.id("eos_id", 2)?;
    if pool_type == TextPool::Eos && vocab_size == 49_408 && eos != last {
        notes.push(format!(
            "the model looks for id {eos} at the end of texts (text_cfg.eos_id), and CLIP's tokenizer ends them with {last}: name another with `source.tokenizer`"
        ));
    }
    let width = section.size("width", 512)?;
    let blocks = Transformer {
        width,
        layers: section.size("layers", 12)?,
        heads: section.size("heads", 8)?,
        mlp_dim: section.mlp_dim(width)?,
        act: section.act(quick)?,
        norm_eps: section.eps()?,
        layer_scale: section.get("ls_init_value").is_some(),
    };
    let causal = !section.flag("no_causal_mask", false)?;
    let bias = section.flag("proj_bias", false)?;
    let head = match (section.text("proj_type", "linear")?, bias) {
        // open_clip makes one matrix of both.
        ("linear" | "mlp", _) => Some(Head { bias }),
        ("none", false) => None,
        ("none", true) => return Err(section.wrong("proj_bias", "false with proj_type `none`")),
        _ => return Err(section.wrong("proj_type", "linear, mlp or none")),
    };
    let Special { start, end, pad } = special_ids(section, vocab_size)?;
    Ok(TextCfg {
        context_length: section.size("context_length", 77)?,
        vocab_size,
        tower: TextTower::Transformer(ClipText { blocks, causal }),
        pool_type,
        head,
        pad_id: pad,
        sot_id: start,
        eot_id: if pool_type == TextPool::Eos { eos } else { end },
        clean: clean(section)?,
    })
}

/// `tokenizer_kwargs`: how sentences are cleaned.
fn clean(section: Section) -> Result<Option<Clean>, Problem> {
    let kwargs = section.get("tokenizer_kwargs").and_then(Value::as_object);
    for (name, value) in kwargs.into_iter().flatten() {
        let known = ["clean", "strip_sep_token"].contains(&name.as_str());
        if !known && !value.is_null() {
            return Err(problem(format!("{}tokenizer_kwargs.{name}", section.at), value, "clean or strip_sep_token"));
        }
    }
    let named = kwargs.and_then(|kwargs| kwargs.get("clean")).filter(|value| !value.is_null());
    match (named.map(Value::as_str), section.get("hf_tokenizer_name").is_some()) {
        (Some(Some("canonicalize")), _) => Ok(Some(Clean::Canonical)),
        (Some(Some("lower")), _) => Ok(Some(Clean::Mended)),
        (Some(Some("whitespace")), _) => Ok(Some(Clean::Spaced)),
        (Some(_), _) => Err(section.wrong("tokenizer_kwargs", "clean as lower, whitespace or canonicalize")),
        // open_clip keeps the case for transformers' tokenizers.
        (None, true) => Ok(Some(Clean::Spaced)),
        (None, false) => Ok(None),
    }
}

/// `preprocess_cfg`.
fn pixels(section: Section, config: &ModelConfig) -> Result<(PreprocessCfg, Vec<String>), Problem> {
    section.only(&[&["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"]])?;
    let mut notes = Vec::new();
    let three = |name: &str, default: [f64; 3], least: f64| match section.get(name) {
        None => Ok(default),
        Some(found) => {
            let values: Option<Vec<f64>> = match found {
                Value::Array(values) => values.iter().map(Value::as_f64).collect(),
                one => one.as_f64().map(|value| vec![value; 3]),
            };
            let values = values.and_then(|values| <[f64; 3]>::try_from(values).ok());
            let values = values.filter(|values| values.iter().all(|value| value.is_finite() && *value > least));
            values.ok_or_else(|| section.wrong(name, "three numbers"))
        }
    };
    let clip = PreprocessCfg::clip();
    let (mean, std) = (three("mean", clip.mean, f64::NEG_INFINITY)?, three("std", clip.std, 0.0)?);
    if section.text("mode", "RGB")? != "RGB" {
        return Err(section.wrong("mode", "RGB"));
    }
    let interpolation = match section.text("interpolation", "bicubic")? {
        // For `random` in training, open_clip evaluates with its default.
        "bicubic" | "random" => Interpolation::Bicubic,
        "bilinear" => Interpolation::Bilinear,
        _ => return Err(section.wrong("interpolation", "bicubic, bilinear or random")),
    };
    let resize_mode = match section.text("resize_mode", "shortest")? {
        "shortest" => ResizeMode::Shortest,
        "longest" => ResizeMode::Longest,
        "squash" => ResizeMode::Squash,
        _ => return Err(section.wrong("resize_mode", "shortest, longest or squash")),
    };
    let fill = section.size("fill_color", 0)?;
    let fill = u8::try_from(fill).map_err(|_| section.wrong("fill_color", "0 to 255"))?;
    if let (Some(found), Some([height, width])) = (section.get("size"), config.image_size()) {
        let is =
            *found == serde_json::json!([height, width]) || (height == width && *found == serde_json::json!(height));
        if !is {
            notes.push(format!(
                "preprocess_cfg.size is {found}: passed over, as open_clip does, for the {height}x{width} of the tower"
            ));
        }
    }
    let cfg = PreprocessCfg {
        mean,
        std,
        interpolation,
        resize_mode,
        fill_color: (resize_mode == ResizeMode::Longest && fill > 0).then_some([fill; 3]),
        code: (config.dialect != Dialect::OpenClip).then_some(Dialect::OpenClip),
        ..clip
    };
    let cfg = cfg.with_value_range();
    cfg.check()?;
    Ok((cfg, notes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known;

    fn read(json: &Value) -> Result<(ModelConfig, Vec<String>), String> {
        let file = OpenClipJson::parse("open_clip_config.json", &json.to_string()).unwrap().unwrap();
        let (mut config, mut notes) = file.model().map_err(|e| e.to_string())?;
        if let Some((cfg, more)) = file.pixels(&config).map_err(|e| e.to_string())? {
            config.set_preprocess(cfg).unwrap();
            notes.extend(more);
        }
        Ok((config, notes))
    }

    #[test]
    fn what_is_left_out_is_open_clips_default() {
        let json = json!({"model_cfg": {"embed_dim": 512, "quick_gelu": true, "vision_cfg": {"patch_size": 32}, "text_cfg": {}}});
        let (config, notes) = read(&json).unwrap();
        let known = known().find(|known| known.model == "ViT-B-32-quickgelu").unwrap();
        assert_eq!((&config.vision_cfg, config.embed_dim), (&known.vision_cfg, known.embed_dim));
        assert_eq!(config.text_cfg, known.text_cfg);
        assert_eq!(config.preprocess_cfg, known.preprocess_cfg);
        assert!(notes.is_empty());
    }

    #[test]
    fn every_field_is_followed_or_refused_by_name() {
        let with = |place: &str, field: &str, value: Value| {
            let mut json =
                json!({"model_cfg": {"embed_dim": 16, "vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": {}});
            json.pointer_mut(place).unwrap()[field] = value;
            read(&json)
        };
        let (vision, text, pixels) = ("/model_cfg/vision_cfg", "/model_cfg/text_cfg", "/preprocess_cfg");
        for (place, field, value) in [
            (vision, "attentional_pool", json!(true)),
            (vision, "pool_type", json!("none")),
            (vision, "layers", json!([3, 4, 6, 3])),
            (vision, "timm_model_name", json!("resnet50")),
            (vision, "something", json!(1)),
            (text, "hf_model_name", json!("xlm-roberta-base")),
            (text, "embed_cls", json!(true)),
            (text, "proj_type", json!("conv")),
            (text, "something", json!(1)),
            ("/model_cfg", "multimodal_cfg", json!({})),
            (pixels, "interpolation", json!("lanczos")),
            (pixels, "resize_mode", json!("crop")),
            (pixels, "mode", json!("L")),
            (pixels, "std", json!([0, 1, 1])),
            (pixels, "something", json!(1)),
        ] {
            let error = with(place, field, value).unwrap_err();
            assert!(error.contains(field), "{field}: {error}");
        }
        let (config, _) = with(vision, "no_ln_pre", json!(true)).unwrap();
        assert!(!config.vision_cfg.as_ref().unwrap().family().dims().blocks.unwrap().pre_norm);
        let (config, notes) = with(pixels, "size", json!(336)).unwrap();
        assert_eq!(config.vision_cfg.as_ref().unwrap().image_size(), Some([224, 224]));
        assert!(notes[0].contains("preprocess_cfg.size is 336"), "{notes:?}");
    }
}
