//! A transformers `config.json` as our configuration: CLIPModel, MetaClip2Model, SiglipModel, Siglip2Model, and their
//! towers alone.
//!
//! `save_pretrained` leaves out what equals the class's default, so defaults here are those of
//! `CLIPConfig`, `SiglipConfig` and `Siglip2Config`.
//! Source: transformers `models/{clip,metaclip_2,chinese_clip,altclip,siglip,siglip2}/configuration_*.py`.

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
            layer_scale: false,
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
        if let Some(found) = json.get("quantization_config").filter(|found| !found.is_null()) {
            let method = found.get("quant_method").unwrap_or(found);
            return Err(wrong(problem(
                "quantization_config".to_owned(),
                method,
                "absent: weights that are not quantized",
            )));
        }
        for (section, fields) in json.as_object().into_iter().flatten() {
            let named = section.starts_with("vision_config") || section.starts_with("text_config");
            if named && !fields.is_object() && !fields.is_null() {
                return Err(wrong(problem(section.clone(), fields, "an object")));
            }
        }
        let config = Type::parse(model_type).and_then(|kind| kind.model(&json));
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

/// Towers of a `model_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Towers {
    Both,
    Image,
    Text,
    /// Both, of which the text tower is none that is supported.
    ImageOfTwo,
}

/// Whose towers they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kin {
    Clip,
    /// CLIP's towers; the end token's id is what the configuration says.
    MetaClip2,
    Siglip(Family),
}

struct Type {
    kin: Kin,
    towers: Towers,
    /// Width of the embedding, where `projection_dim` is left out.
    projection: usize,
}

/// Every `model_type` that is read.
const TYPES: &[(&str, Type)] = &[
    ("clip", Type::of(Kin::Clip, Towers::Both)),
    ("clip_vision_model", Type::of(Kin::Clip, Towers::Image)),
    ("clip_text_model", Type::of(Kin::Clip, Towers::Text)),
    ("metaclip_2", Type::of(Kin::MetaClip2, Towers::Both)),
    ("metaclip_2_vision_model", Type::of(Kin::MetaClip2, Towers::Image)),
    ("metaclip_2_text_model", Type::of(Kin::MetaClip2, Towers::Text)),
    ("chinese_clip", Type::of(Kin::Clip, Towers::ImageOfTwo)),
    ("altclip", Type { projection: 768, ..Type::of(Kin::Clip, Towers::ImageOfTwo) }),
    ("siglip", Type::of(Kin::Siglip(Family::Siglip), Towers::Both)),
    ("siglip_vision_model", Type::of(Kin::Siglip(Family::Siglip), Towers::Image)),
    ("siglip_text_model", Type::of(Kin::Siglip(Family::Siglip), Towers::Text)),
    ("siglip2", Type::of(Kin::Siglip(Family::Siglip2), Towers::Both)),
    ("siglip2_vision_model", Type::of(Kin::Siglip(Family::Siglip2), Towers::Image)),
    ("siglip2_text_model", Type::of(Kin::Siglip(Family::Siglip2), Towers::Text)),
];

/// Whether this `model_type` is read, with both towers if it has two.
pub fn is_type(model_type: &str) -> bool {
    TYPES.iter().any(|(name, found)| *name == model_type && found.towers != Towers::ImageOfTwo)
}

impl Type {
    const fn of(kin: Kin, towers: Towers) -> Type {
        Type { kin, towers, projection: 512 }
    }

    fn parse(model_type: &str) -> Result<&'static Type, Problem> {
        let expected = || {
            let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        };
        let found = TYPES.iter().find(|(name, _)| *name == model_type).map(|(_, found)| found);
        found.ok_or_else(|| problem("model_type".to_owned(), model_type, expected()))
    }

    fn model(&self, json: &Value) -> Result<Model, Problem> {
        let root = |at: &'static str| Section { at, fields: json };
        let section = |at: &'static str| Section { at, fields: json.get(at).unwrap_or(&Value::Null) };
        let (vision, text) = match self.towers {
            Towers::Both | Towers::ImageOfTwo => (section("vision_config"), section("text_config")),
            // The fields are at the root.
            Towers::Image | Towers::Text => (root("config"), root("config")),
        };
        let has = |tower: Towers| matches!(self.towers, Towers::Both) || self.towers == tower;
        let image = has(Towers::Image) || self.towers == Towers::ImageOfTwo;
        match self.kin {
            Kin::Siglip(family) => siglip(image.then_some(vision), has(Towers::Text).then_some(text), family),
            Kin::Clip | Kin::MetaClip2 => {
                let projected = match self.towers {
                    Towers::Both | Towers::ImageOfTwo => true,
                    Towers::Image | Towers::Text => names_projection(json),
                };
                let dim = projected.then(|| root("config").size("projection_dim", self.projection)).transpose()?;
                let (vision, text) = (image.then_some(vision), has(Towers::Text).then_some(text));
                let legacy = self.kin == Kin::Clip;
                if legacy && self.towers == Towers::Both {
                    // Legacy fields, which `CLIPConfig` still overwrites the sections with, defaults included.
                    let old = |at: &'static str, section| {
                        let fields = json.get(at).filter(|fields| fields.is_object());
                        fields.map_or(section, |fields| Some(Section { at, fields }))
                    };
                    return clip(old("vision_config_dict", vision), old("text_config_dict", text), dim, legacy);
                }
                clip(vision, text, dim, legacy)
            }
        }
    }
}

/// Whether the class that wrote a configuration of one tower has a projection; where none is named, it may have one.
fn names_projection(json: &Value) -> bool {
    let Some(classes) = json.get("architectures").and_then(Value::as_array) else { return true };
    classes.iter().filter_map(Value::as_str).any(|class| class.ends_with("WithProjection"))
}

fn three_channels(vision: &Section) -> Result<(), Problem> {
    let channels = vision.size("num_channels", 3)?;
    if channels == 3 {
        return Ok(());
    }
    Err(problem(format!("{}.num_channels", vision.at), channels, "3"))
}

/// A CLIP; `dim` is the width of projections, where there are any, and `legacy` whether the end token's id 2 stands for
/// the largest one.
fn clip(vision: Option<Section>, text: Option<Section>, dim: Option<usize>, legacy: bool) -> Result<Model, Problem> {
    let head = dim.map(|_| Head { bias: false });
    let vision_cfg = vision.map(|vision| clip_vision(&vision, head)).transpose()?;
    let text_cfg = text.map(|text| clip_text(&text, head, legacy)).transpose()?;
    let width = vision_cfg.as_ref().map(|vision| vision.encoder.blocks.width);
    let width = width.or(text_cfg.as_ref().map(|text| text.blocks().width));
    Ok(Model {
        model: "CLIP".to_owned(),
        family: Family::Clip,
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim: dim.or(width).unwrap_or(0),
        logit_scale_max: None,
        logit_bias: false,
        vision_cfg: vision_cfg.map(VisionCfg::Vit),
        text_cfg,
        preprocess_cfg: PreprocessCfg::clip(),
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}

fn clip_vision(vision: &Section, head: Option<Head>) -> Result<Vit, Problem> {
    three_channels(vision)?;
    let blocks = vision.blocks([768, 12, 3072], Act::QuickGelu, 1e-5)?;
    Ok(Vit {
        image_size: [vision.size("image_size", 224)?; 2],
        stem: Stem::Patches(PatchEmbed {
            size: vision.size("patch_size", 32)?,
            weight: PatchWeight::Conv,
            bias: false,
        }),
        encoder: Encoder { blocks, head, ..Vit::CLIP.encoder },
        ..Vit::CLIP
    })
}

fn clip_text(text: &Section, head: Option<Head>, legacy: bool) -> Result<TextCfg, Problem> {
    let vocab_size = text.vocabulary(49_408)?;
    let eos = text.id("eos_token_id", 49_407)?;
    let (sot_id, eot_id, pool_type) = if legacy && eos == LEGACY_EOS {
        let last = vocab_size as i64 - 1;
        (last - 1, last, TextPool::Argmax)
    } else {
        (text.id("bos_token_id", if legacy { 49_406 } else { 0 })?, eos, TextPool::Eos)
    };
    Ok(TextCfg {
        context_length: text.size("max_position_embeddings", 77)?,
        vocab_size,
        tower: TextTower::Transformer(ClipText {
            blocks: text.blocks([512, 8, 2048], Act::QuickGelu, 1e-5)?,
            causal: true,
        }),
        pool_type,
        head,
        // Only described, not used; the class's default may be beyond a small vocabulary.
        pad_id: text.id("pad_token_id", 1)?.clamp(0, vocab_size as i64 - 1),
        sot_id: (0..vocab_size as i64).contains(&sot_id).then_some(sot_id),
        eot_id,
        clean: None,
    })
}

fn siglip(vision: Option<Section>, text: Option<Section>, family: Family) -> Result<Model, Problem> {
    let naflex = family == Family::Siglip2;
    let image = vision.as_ref().map(|vision| siglip_vision(vision, naflex)).transpose()?;
    // A `siglip` folder with this vocabulary is SigLIP 2 for images of one size.
    let vocabulary = text.as_ref().map(|text| text.vocabulary(32_000)).transpose()?;
    let is_gemma = naflex || vocabulary == Some(GEMMA);
    let text_cfg = text.map(|text| siglip_text(&text, is_gemma)).transpose()?;
    let width = image.as_ref().map(|(_, width)| *width);
    let (embed_dim, projection) = match (width, &text_cfg) {
        (Some(width), Some((_, projection))) if width != *projection => {
            let expected = format!("vision_config.hidden_size {width}");
            return Err(problem("text_config.projection_size".to_owned(), projection, expected));
        }
        (width, text) => (width, text.as_ref().map(|(_, projection)| *projection)),
    };
    Ok(Model {
        model: if naflex { "SigLIP2" } else { "SigLIP" }.to_owned(),
        family: if is_gemma { Family::Siglip2 } else { family },
        naming: Naming::Transformers,
        dialect: Dialect::Transformers,
        license: None,
        embed_dim: embed_dim.or(projection).unwrap_or(0),
        logit_scale_max: None,
        // Of both towers together.
        logit_bias: embed_dim.is_some() && projection.is_some(),
        vision_cfg: image.map(|(vision, _)| vision),
        text_cfg: text_cfg.map(|(text, _)| text),
        preprocess_cfg: if naflex { PreprocessCfg::naflex() } else { PreprocessCfg::siglip() },
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}

/// SigLIP's image tower and its width, which is that of the embedding.
fn siglip_vision(vision: &Section, naflex: bool) -> Result<(VisionCfg, usize), Problem> {
    three_channels(vision)?;
    let pools = vision.read("vision_use_head", true, "true", Value::as_bool)?;
    if !pools {
        return Err(problem(format!("{}.vision_use_head", vision.at), pools, "true"));
    }
    let blocks = vision.blocks([768, 12, 3072], Act::GeluTanh, 1e-6)?;
    let (width, heads, mlp_dim) = (blocks.width, blocks.heads, blocks.mlp_dim);
    let patches = vision.size("num_patches", 256)?;
    let grid = patches.isqrt();
    if naflex && grid * grid != patches {
        return Err(problem(format!("{}.num_patches", vision.at), patches, "a square number"));
    }
    let patches = |weight| -> Result<PatchEmbed, Problem> {
        Ok(PatchEmbed { size: vision.size("patch_size", 16)?, weight, bias: true })
    };
    let tower = if naflex {
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
    Ok((tower, width))
}

/// SigLIP's text tower and the width of its projection.
fn siglip_text(text: &Section, is_gemma: bool) -> Result<(TextCfg, usize), Problem> {
    let vocab_size = text.vocabulary(32_000)?;
    let blocks = text.blocks([768, 12, 3072], Act::GeluTanh, 1e-6)?;
    let projection = text.size("projection_size", blocks.width)?;
    let cfg = TextCfg {
        context_length: text.size("max_position_embeddings", 64)?,
        vocab_size,
        tower: TextTower::Transformer(ClipText { blocks, causal: false }),
        pool_type: TextPool::Last,
        head: Some(Head { bias: true }),
        pad_id: text.id("pad_token_id", if is_gemma { GEMMA_PAD } else { 1 })?.clamp(0, vocab_size as i64 - 1),
        sot_id: None,
        eot_id: SIGLIP_EOT,
        clean: None,
    };
    Ok((cfg, projection))
}
