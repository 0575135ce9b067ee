//! A transformers `config.json` as our configuration: CLIPModel, SiglipModel, Siglip2Model.
//!
//! `save_pretrained` leaves out what equals the class's default, so defaults here are those of
//! `CLIPConfig`, `SiglipConfig` and `Siglip2Config`.
//! Source: transformers `models/{clip,siglip,siglip2}/configuration_*.py`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::Problem;
use super::{
    Act, Dialect, Error, Family, ModelConfig, Naming, PatchEmbed, PreprocessCfg, Proj, TextCfg, TextModel, TextPool,
    VisionCfg, VisionPool, VitCfg,
};

/// In CLIP configurations written before the token ids were corrected; the model then pools at the
/// largest id (`CLIPTextTransformer.forward`).
const LEGACY_EOS: i64 = 2;

/// The end token of both SigLIP vocabularies. Their configurations carry CLIP's ids, which the
/// model does not look at.
const SIGLIP_EOT: i64 = 1;

/// Entries of Gemma's vocabulary, which SigLIP 2 has, and its padding.
const GEMMA: usize = 256_000;
const GEMMA_PAD: i64 = 0;

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
            patch_size: vision.size("patch_size", 32)?,
            width: vision.size("hidden_size", 768)?,
            layers: vision.size("num_hidden_layers", 12)?,
            heads: vision.size("num_attention_heads", 12)?,
            mlp_dim: vision.size("intermediate_size", 3072)?,
            act: vision.act(Act::QuickGelu)?,
            norm_eps: vision.eps(1e-5)?,
            ..VitCfg::CLIP
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
            clean: None,
        },
        preprocess_cfg: PreprocessCfg::clip(),
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
    let vocab_size = text.size("vocab_size", 32_000)?;
    // A `siglip` folder with this vocabulary is SigLIP 2 for images of one size.
    let is_gemma = naflex || vocab_size == GEMMA;
    Ok(ModelConfig {
        model: if naflex { "SigLIP2" } else { "SigLIP" }.to_owned(),
        family: if is_gemma { Family::Siglip2 } else { family },
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
            pad_id: text.id("pad_token_id", if is_gemma { GEMMA_PAD } else { 1 })?.clamp(0, vocab_size as i64 - 1),
            sot_id: None,
            eot_id: SIGLIP_EOT,
            clean: None,
        },
        preprocess_cfg: if naflex { PreprocessCfg::naflex() } else { PreprocessCfg::siglip() },
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}
