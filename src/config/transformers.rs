//! A transformers `config.json` as our configuration: CLIPModel, SiglipModel, Siglip2Model.
//!
//! `save_pretrained` leaves out what equals the class's default, so defaults here are those of
//! `CLIPConfig`, `SiglipConfig` and `Siglip2Config`.
//! Source: transformers `models/{clip,siglip,siglip2}/configuration_*.py`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check::{Problem, dims};
use super::{
    Act, ClassToken, ClipText, Dialect, Encoder, Error, Family, Head, Model, ModelConfig, NaflexVit, Naming,
    PatchEmbed, PatchWeight, Pool, PreprocessCfg, Stem, TextCfg, TextPool, TextTower, Transformer, VisionCfg, Vit,
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

/// One section of the file, with its path for error messages.
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
        self.read(name, default, "an integer", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// `vocab_size`, which the ids below it are held against.
    fn vocabulary(&self, default: usize) -> Result<usize, Problem> {
        let found = self.size("vocab_size", default)?;
        dims(self.at, &[(".vocab_size", found)])?;
        Ok(found)
    }

    fn id(&self, name: &str, default: i64) -> Result<i64, Problem> {
        self.read(name, default, "an id", Value::as_i64)
    }

    /// Transformer blocks, with these defaults for width, heads, MLP width, activation and eps.
    fn blocks(&self, [width, heads, mlp_dim]: [usize; 3], act: Act, norm_eps: f32) -> Result<Transformer, Problem> {
        Ok(Transformer {
            width: self.size("hidden_size", width)?,
            layers: self.size("num_hidden_layers", 12)?,
            heads: self.size("num_attention_heads", heads)?,
            mlp_dim: self.size("intermediate_size", mlp_dim)?,
            act: self.act(act)?,
            norm_eps: self.eps(norm_eps)?,
        })
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
        let mut config = config.and_then(ModelConfig::new).map_err(wrong)?;
        if let Some(name) = json.get("_name_or_path").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            if !name.is_empty() {
                name.clone_into(&mut config.0.model);
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

fn clip(json: &Value) -> Result<Model, Problem> {
    let (mut vision, mut text) = sections(json);
    // Legacy fields, which `CLIPConfig` still overwrites the sections with, defaults included.
    for (section, old) in [(&mut vision, "vision_config_dict"), (&mut text, "text_config_dict")] {
        if let Some(fields) = json.get(old).filter(|fields| fields.is_object()) {
            *section = Section { at: old, fields };
        }
    }
    three_channels(&vision)?;
    let embed_dim = Section { at: "config", fields: json }.size("projection_dim", 512)?;
    let side = vision.size("image_size", 224)?;
    let vocab_size = text.vocabulary(49_408)?;
    let eos = text.id("eos_token_id", 49_407)?;
    let (sot_id, eot_id, pool_type) = if eos == LEGACY_EOS {
        let last = vocab_size as i64 - 1;
        (last - 1, last, TextPool::Argmax)
    } else {
        (text.id("bos_token_id", 49_406)?, eos, TextPool::Eos)
    };
    Ok(Model {
        model: "CLIP".to_owned(),
        family: Family::Clip,
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim,
        logit_scale_max: None,
        logit_bias: false,
        vision_cfg: VisionCfg::Vit(Vit {
            image_size: [side; 2],
            stem: Stem::Patches(PatchEmbed {
                size: vision.size("patch_size", 32)?,
                weight: PatchWeight::Conv,
                bias: false,
            }),
            encoder: Encoder { blocks: vision.blocks([768, 12, 3072], Act::QuickGelu, 1e-5)?, ..Vit::CLIP.encoder },
            ..Vit::CLIP
        }),
        text_cfg: TextCfg {
            context_length: text.size("max_position_embeddings", 77)?,
            vocab_size,
            tower: TextTower::Transformer(ClipText {
                blocks: text.blocks([512, 8, 2048], Act::QuickGelu, 1e-5)?,
                causal: true,
            }),
            pool_type,
            head: Some(Head { bias: false }),
            // Only described, not used; the class's default may be beyond a small vocabulary.
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

fn siglip(json: &Value, family: Family) -> Result<Model, Problem> {
    let (vision, text) = sections(json);
    three_channels(&vision)?;
    let pools = vision.read("vision_use_head", true, "true", Value::as_bool)?;
    if !pools {
        return Err(problem("vision_config.vision_use_head".to_owned(), pools, "true"));
    }
    let blocks = vision.blocks([768, 12, 3072], Act::GeluTanh, 1e-6)?;
    let text_blocks = text.blocks([768, 12, 3072], Act::GeluTanh, 1e-6)?;
    let (width, heads, mlp_dim) = (blocks.width, blocks.heads, blocks.mlp_dim);
    let naflex = family == Family::Siglip2;
    let patches = vision.size("num_patches", 256)?;
    let grid = patches.isqrt();
    if naflex && grid * grid != patches {
        return Err(problem("vision_config.num_patches".to_owned(), patches, "a square number"));
    }
    let projection = text.size("projection_size", text_blocks.width)?;
    if projection != width {
        let expected = format!("vision_config.hidden_size {width}");
        return Err(problem("text_config.projection_size".to_owned(), projection, expected));
    }
    let patches = |weight| -> Result<PatchEmbed, Problem> {
        Ok(PatchEmbed { size: vision.size("patch_size", 16)?, weight, bias: true })
    };
    let vision_cfg = if naflex {
        VisionCfg::NaflexVit(NaflexVit {
            grid: [grid; 2],
            patches: patches(PatchWeight::Linear)?,
            pre_norm: false,
            blocks,
            final_norm: true,
            map_heads: heads,
            map_mlp_dim: mlp_dim,
            head: None,
        })
    } else {
        let pool = Pool::Map { heads, mlp_dim };
        VisionCfg::Vit(Vit {
            image_size: [vision.size("image_size", 224)?; 2],
            stem: Stem::Patches(patches(PatchWeight::Conv)?),
            class_token: ClassToken::None,
            encoder: Encoder { pre_norm: false, blocks, final_norm: true, pool, head: None },
        })
    };
    let vocab_size = text.vocabulary(32_000)?;
    // A `siglip` folder with this vocabulary is SigLIP 2 for images of one size.
    let is_gemma = naflex || vocab_size == GEMMA;
    Ok(Model {
        model: if naflex { "SigLIP2" } else { "SigLIP" }.to_owned(),
        family: if is_gemma { Family::Siglip2 } else { family },
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim: width,
        logit_scale_max: None,
        logit_bias: true,
        vision_cfg,
        text_cfg: TextCfg {
            context_length: text.size("max_position_embeddings", 64)?,
            vocab_size,
            tower: TextTower::Transformer(ClipText { blocks: text_blocks, causal: false }),
            pool_type: TextPool::Last,
            head: Some(Head { bias: true }),
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
