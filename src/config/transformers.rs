//! A transformers `config.json` as our configuration: CLIPModel, SiglipModel, Siglip2Model.
//!
//! `save_pretrained` leaves out what equals the class's default, so defaults here are those of
//! `CLIPConfig`, `SiglipConfig` and `Siglip2Config`.
//! Source: transformers `models/{clip,siglip,siglip2}/configuration_*.py`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::Problem;
use super::{
    Act, Dialect, Error, Family, Interpolation, ModelConfig, Naming, PatchEmbed, PreprocessCfg, Proj, ResizeMode,
    TextCfg, TextModel, TextPool, VisionCfg, VisionPool, VitCfg, known,
};

pub(crate) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
pub(crate) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// In CLIP configurations written before the token ids were corrected; the model then pools at the
/// largest id (`CLIPTextTransformer.forward`).
const LEGACY_EOS: i64 = 2;

/// The end token of both SigLIP vocabularies. Their configurations carry CLIP's ids, which the
/// model does not look at.
const SIGLIP_EOT: i64 = 1;

/// One section of the file, with its place for messages.
struct Section<'a> {
    at: &'static str,
    fields: &'a Value,
}

fn problem(field: String, found: impl ToString, expected: impl Into<String>) -> Problem {
    Problem { field, found: found.to_string(), expected: expected.into() }
}

impl Section<'_> {
    fn read<T>(
        &self,
        name: &str,
        default: T,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Problem> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => parse(value).ok_or_else(|| problem(format!("{}.{name}", self.at), value, expected)),
        }
    }

    fn size(&self, name: &str, default: usize) -> Result<usize, Problem> {
        self.read(name, default, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn id(&self, name: &str, default: i64) -> Result<i64, Problem> {
        self.read(name, default, "an id", Value::as_i64)
    }

    fn eps(&self, default: f32) -> Result<f32, Problem> {
        self.read("layer_norm_eps", default, "a number", |v| v.as_f64().map(|n| n as f32))
    }

    fn act(&self, default: Act) -> Result<Act, Problem> {
        let expected = "gelu, gelu_pytorch_tanh or quick_gelu";
        self.read("hidden_act", default, expected, |v| match v.as_str()? {
            "gelu" | "gelu_python" => Some(Act::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate" => Some(Act::GeluTanh),
            "quick_gelu" => Some(Act::QuickGelu),
            _ => None,
        })
    }
}

impl ModelConfig {
    /// A transformers configuration as one of ours; None where the text is none of transformers'
    /// (one of those has `model_type` at its root, and no `vision_cfg`).
    ///
    /// Where a known model has the same architecture, its name, licence, token ids and
    /// preprocessing are taken.
    ///
    /// # Errors
    /// [`Error::Transformers`] for an architecture or a value that cannot be followed.
    pub fn from_transformers(origin: &str, text: &str) -> Result<Option<ModelConfig>, Error> {
        let Ok(json) = serde_json::from_str::<Value>(text) else { return Ok(None) };
        let Some(model_type) = json.get("model_type").and_then(Value::as_str) else { return Ok(None) };
        if json.get("vision_cfg").is_some() {
            return Ok(None);
        }
        let wrong = |problem| Error::Transformers { path: origin.to_owned(), problem };
        for (section, fields) in json.as_object().into_iter().flatten() {
            let named = section.starts_with("vision_config") || section.starts_with("text_config");
            if named && !fields.is_object() && !fields.is_null() {
                return Err(wrong(problem(section.clone(), fields, "an object")));
            }
        }
        let config = match model_type {
            "clip" => clip(&json),
            "siglip" => siglip(&json, Family::Siglip),
            "siglip2" => siglip(&json, Family::Siglip2),
            other => Err(problem("model_type".to_owned(), other, "clip, siglip or siglip2")),
        };
        let mut config = config.map_err(wrong)?;
        config.check().map_err(wrong)?;
        if let Some(name) = json.get("_name_or_path").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            if !name.is_empty() {
                name.clone_into(&mut config.model);
            }
        }
        Ok(Some(config.like_known()))
    }

    /// With what weights do not tell from the known model of the same architecture, if there is one.
    fn like_known(mut self) -> ModelConfig {
        let architecture = |config: &ModelConfig| {
            let text =
                TextCfg { pad_id: 0, sot_id: None, eot_id: 0, pool_type: TextPool::Last, ..config.text_cfg.clone() };
            (config.embed_dim, config.logit_bias, config.vision_cfg.clone(), text)
        };
        let mine = architecture(&self);
        let alike = known()
            .filter_map(|config| config.for_file(Naming::Transformers, Dialect::Transformers).ok())
            .find(|config| architecture(config) == mine);
        if let Some(alike) = alike {
            let TextCfg { pool_type, eot_id, .. } = self.text_cfg;
            (self.text_cfg.pad_id, self.text_cfg.sot_id) = (alike.text_cfg.pad_id, alike.text_cfg.sot_id);
            // The id that is looked for stays what the file says.
            self.text_cfg.eot_id = if pool_type == TextPool::Eos { eot_id } else { alike.text_cfg.eot_id };
            (self.model, self.family, self.license) = (alike.model, alike.family, alike.license);
            self.preprocess_cfg = alike.preprocess_cfg;
        }
        self
    }
}

fn sections(json: &Value) -> (Section<'_>, Section<'_>) {
    let section = |at: &'static str| Section { at, fields: json.get(at).unwrap_or(&Value::Null) };
    (section("vision_config"), section("text_config"))
}

fn three_channels(vision: &Section) -> Result<(), Problem> {
    let channels = vision.size("num_channels", 3)?;
    if channels == 3 {
        return Ok(());
    }
    Err(problem("vision_config.num_channels".to_owned(), channels, "3"))
}

fn clip(json: &Value) -> Result<ModelConfig, Problem> {
    let (mut vision, mut text) = sections(json);
    // Fields of old, which `CLIPConfig` still puts over the sections, the class's defaults with them.
    for (section, old) in [(&mut vision, "vision_config_dict"), (&mut text, "text_config_dict")] {
        if let Some(fields) = json.get(old).filter(|fields| fields.is_object()) {
            *section = Section { at: old, fields };
        }
    }
    three_channels(&vision)?;
    let embed_dim = Section { at: "config", fields: json }.size("projection_dim", 512)?;
    let side = vision.size("image_size", 224)?;
    let vocab_size = text.size("vocab_size", 49_408)?;
    let eos = text.id("eos_token_id", 49_407)?;
    let (sot_id, eot_id, pool_type) = if eos == LEGACY_EOS {
        let last = vocab_size as i64 - 1;
        (last - 1, last, TextPool::Argmax)
    } else {
        (text.id("bos_token_id", 49_406)?, eos, TextPool::Eos)
    };
    Ok(ModelConfig {
        model: "CLIP".to_owned(),
        family: Family::Clip,
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim,
        logit_scale_max: None,
        logit_bias: false,
        vision_cfg: VisionCfg::Vit(VitCfg {
            image_size: Some([side; 2]),
            pos_grid: None,
            patch_size: vision.size("patch_size", 32)?,
            width: vision.size("hidden_size", 768)?,
            layers: vision.size("num_hidden_layers", 12)?,
            heads: vision.size("num_attention_heads", 12)?,
            mlp_dim: vision.size("intermediate_size", 3072)?,
            act: vision.act(Act::QuickGelu)?,
            norm_eps: vision.eps(1e-5)?,
            patch_embed: PatchEmbed::Conv,
            patch_bias: false,
            conv_stem: None,
            class_token: true,
            pos_embed_class: true,
            pre_norm: true,
            final_norm: true,
            pool: VisionPool::Token,
            map_heads: None,
            map_mlp_dim: None,
            proj: Proj::Linear,
            proj_bias: false,
        }),
        text_cfg: TextCfg {
            model_type: TextModel::Transformer,
            context_length: text.size("max_position_embeddings", 77)?,
            vocab_size,
            width: text.size("hidden_size", 512)?,
            layers: text.size("num_hidden_layers", 12)?,
            heads: text.size("num_attention_heads", 8)?,
            mlp_dim: text.size("intermediate_size", 2048)?,
            act: text.act(Act::QuickGelu)?,
            norm_eps: text.eps(1e-5)?,
            no_causal_mask: false,
            repmixer_kernel: None,
            repmixer_mlp_dim: None,
            bn_eps: None,
            reparameterized: None,
            pool_type,
            proj: Proj::Linear,
            proj_bias: false,
            // For people to read; the class's defaults may be beyond a small vocabulary.
            pad_id: text.id("pad_token_id", 1)?.clamp(0, vocab_size as i64 - 1),
            sot_id: (0..vocab_size as i64).contains(&sot_id).then_some(sot_id),
            eot_id,
        },
        preprocess_cfg: preprocess(CLIP_MEAN, CLIP_STD, ResizeMode::Shortest, None),
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}

fn siglip(json: &Value, family: Family) -> Result<ModelConfig, Problem> {
    let (vision, text) = sections(json);
    three_channels(&vision)?;
    let pools = vision.read("vision_use_head", true, "true", Value::as_bool)?;
    if !pools {
        return Err(problem("vision_config.vision_use_head".to_owned(), pools, "true"));
    }
    let width = vision.size("hidden_size", 768)?;
    let text_width = text.size("hidden_size", 768)?;
    let (heads, mlp_dim) = (vision.size("num_attention_heads", 12)?, vision.size("intermediate_size", 3072)?);
    let naflex = family == Family::Siglip2;
    let patches = vision.size("num_patches", 256)?;
    let grid = patches.isqrt();
    if naflex && grid * grid != patches {
        return Err(problem("vision_config.num_patches".to_owned(), patches, "a square number"));
    }
    let projection = text.size("projection_size", text_width)?;
    if projection != width {
        let expected = format!("vision_config.hidden_size {width}");
        return Err(problem("text_config.projection_size".to_owned(), projection, expected));
    }
    let vit = VitCfg {
        image_size: if naflex { None } else { Some([vision.size("image_size", 224)?; 2]) },
        pos_grid: naflex.then_some([grid; 2]),
        patch_size: vision.size("patch_size", 16)?,
        width,
        layers: vision.size("num_hidden_layers", 12)?,
        heads,
        mlp_dim,
        act: vision.act(Act::GeluTanh)?,
        norm_eps: vision.eps(1e-6)?,
        patch_embed: if naflex { PatchEmbed::Linear } else { PatchEmbed::Conv },
        patch_bias: true,
        conv_stem: None,
        class_token: false,
        pos_embed_class: false,
        pre_norm: false,
        final_norm: true,
        pool: VisionPool::Map,
        map_heads: Some(heads),
        map_mlp_dim: Some(mlp_dim),
        proj: Proj::None,
        proj_bias: false,
    };
    let resize_mode = if naflex { ResizeMode::Naflex } else { ResizeMode::Squash };
    let vocab_size = text.size("vocab_size", 32_000)?;
    Ok(ModelConfig {
        model: if naflex { "SigLIP2" } else { "SigLIP" }.to_owned(),
        family,
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim: width,
        logit_scale_max: None,
        logit_bias: true,
        vision_cfg: if naflex { VisionCfg::NaflexVit(vit) } else { VisionCfg::Vit(vit) },
        text_cfg: TextCfg {
            model_type: TextModel::Transformer,
            context_length: text.size("max_position_embeddings", 64)?,
            vocab_size,
            width: text_width,
            layers: text.size("num_hidden_layers", 12)?,
            heads: text.size("num_attention_heads", 12)?,
            mlp_dim: text.size("intermediate_size", 3072)?,
            act: text.act(Act::GeluTanh)?,
            norm_eps: text.eps(1e-6)?,
            no_causal_mask: true,
            repmixer_kernel: None,
            repmixer_mlp_dim: None,
            bn_eps: None,
            reparameterized: None,
            pool_type: TextPool::Last,
            proj: Proj::Linear,
            proj_bias: true,
            pad_id: text.id("pad_token_id", 1)?.clamp(0, vocab_size as i64 - 1),
            sot_id: None,
            eot_id: SIGLIP_EOT,
        },
        preprocess_cfg: preprocess([0.5; 3], [0.5; 3], resize_mode, Some([-1.0, 1.0])),
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}

fn preprocess(mean: [f64; 3], std: [f64; 3], resize_mode: ResizeMode, range: Option<[f64; 2]>) -> PreprocessCfg {
    let naflex = resize_mode == ResizeMode::Naflex;
    let interpolation = if naflex { Interpolation::Bilinear } else { Interpolation::Bicubic };
    PreprocessCfg { mean, std, interpolation, antialias: true, resize_mode, value_range: range }
}

/// What a `preprocessor_config.json` says of pixels, over what was assumed; the resampling filters
/// are PIL's numbers.
///
/// # Errors
/// [`Error::Parse`] or [`Error::Transformers`], naming `origin`.
pub fn preprocessor(origin: &str, text: &str, assumed: &PreprocessCfg) -> Result<PreprocessCfg, Error> {
    let json: Value = serde_json::from_str(text).map_err(|source| Error::Parse {
        path: origin.to_owned(),
        field: "the file".to_owned(),
        source,
    })?;
    let mut out = assumed.clone();
    let three = |name: &str, good: fn(f64) -> bool, expected: &str| -> Result<Option<[f64; 3]>, Error> {
        let Some(found) = json.get(name).filter(|v| !v.is_null()) else { return Ok(None) };
        let values = found.as_array().and_then(|v| v.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
        let values: Option<[f64; 3]> = values.and_then(|v| v.try_into().ok());
        let wrong =
            || Error::Transformers { path: origin.to_owned(), problem: problem(name.to_owned(), found, expected) };
        values.filter(|v| v.iter().all(|&v| good(v))).map(Some).ok_or_else(wrong)
    };
    let mean = three("image_mean", f64::is_finite, "three numbers")?;
    let std = three("image_std", |v| v.is_finite() && v > 0.0, "three numbers above 0")?;
    if (mean, std) != (None, None) {
        let (mean, std) = (mean.unwrap_or(out.mean), std.unwrap_or(out.std));
        if (mean, std) != (out.mean, out.std) {
            out.value_range = (mean == [0.5; 3] && std == [0.5; 3]).then_some([-1.0, 1.0]);
            (out.mean, out.std) = (mean, std);
        }
    }
    match json.get("resample").and_then(Value::as_u64) {
        Some(2) => out.interpolation = Interpolation::Bilinear,
        Some(3) => out.interpolation = Interpolation::Bicubic,
        _ => {}
    }
    Ok(out)
}
