//! timm's image towers alone, as the `config.json` of its repositories names them: an architecture, and what differs from it.
//!
//! Source: timm `models/_hub.py` (`save_config_for_hf`), `models/vision_transformer.py`, `models/fastvit.py`, `models/eva.py`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::config::check::Problem;
use crate::config::{
    Act, ClassToken, Dialect, Encoder, Error, Family, FastVit, Head, Model, ModelConfig, Naming, PatchEmbed,
    PatchWeight, Pool, PreprocessCfg, Stem, Transformer, VisionCfg, Vit, trunks,
};

/// Width, depth, heads and ratio of the MLP of timm's ViTs.
const SIZES: &[(&str, usize, usize, usize, f64)] = &[
    ("xsmall", 256, 10, 4, 4.0),
    ("small", 384, 12, 6, 4.0),
    ("medium", 512, 12, 8, 4.0),
    ("betwixt", 640, 12, 10, 4.0),
    ("base", 768, 12, 12, 4.0),
    ("large", 1024, 24, 16, 4.0),
    ("so400m", 1152, 27, 16, 3.7362),
    ("huge", 1280, 32, 16, 4.0),
    ("giant", 1408, 40, 16, 48.0 / 11.0),
    ("giantopt", 1536, 40, 16, 4.0),
    ("gigantic", 1664, 48, 16, 64.0 / 13.0),
];

/// Of `model_args`: settings of training, and those that other fields repeat.
const OF_TRAINING: &[&str] = &[
    "attn_drop_rate",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_size",
    "fix_init",
    "patch_drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "weight_init",
];

/// A tower of timm, and the ratio that its MLPs follow where the width changes.
struct Architecture {
    tower: VisionCfg,
    family: Family,
    mlp_ratio: f64,
}

/// timm's configuration as one of ours, of an image tower alone; None where `text` is none of timm's.
///
/// # Errors
/// [`Error::Timm`] for an architecture or a value that cannot be followed.
pub fn model(origin: &str, text: &str) -> Result<Option<ModelConfig>, Error> {
    let Ok(json) = serde_json::from_str::<Value>(text) else { return Ok(None) };
    let Some(name) = json.get("architecture").and_then(Value::as_str) else { return Ok(None) };
    let wrong = |problem| Error::Timm { path: origin.to_owned(), problem };
    let config = read(name, &json).and_then(ModelConfig::new);
    config.map(Some).map_err(wrong)
}

fn read(name: &str, json: &Value) -> Result<Model, Problem> {
    const FIELDS: [&str; 6] =
        ["architecture", "num_classes", "num_features", "global_pool", "model_args", "pretrained_cfg"];
    for (field, value) in json.as_object().into_iter().flatten() {
        if !FIELDS.contains(&field.as_str()) && !value.is_null() {
            return Err(Problem::new(field, value, "absent: it is not known"));
        }
    }
    // What follows the dot names weights.
    let name = name.split('.').next().unwrap_or(name);
    let found = architecture(name).ok_or_else(|| {
        Problem::new(
            "architecture",
            name,
            "vit_*_siglip_*, vit_*_clip_*, eva02_*_clip_*, vit_base_mci_224 or fastvit_mci0 to 4",
        )
    })?;
    let Architecture { mut tower, family, mlp_ratio } = found;
    let none = Map::new();
    let args = Args(json.get("model_args").and_then(Value::as_object).unwrap_or(&none));
    args.known()?;
    let classes = match json.get("num_classes").filter(|value| !value.is_null()).or(args.0.get("num_classes")) {
        None => 0,
        Some(found) => integer(found).ok_or_else(|| Problem::new("num_classes", found, "an integer"))?,
    };
    let head = (classes > 0).then_some(Head { bias: true });
    let size = match (args.size("img_size")?, json.pointer("/pretrained_cfg/input_size").and_then(Value::as_array)) {
        (Some(size), _) => Some(size),
        (None, Some(input)) => match &input[..] {
            [_, height, width] => integer(height).zip(integer(width)).map(|(height, width)| [height, width]),
            _ => None,
        },
        (None, None) => None,
    };
    let (width, pool) = match &mut tower {
        VisionCfg::Vit(vit) => {
            args.vit(vit, mlp_ratio)?;
            vit.image_size = size.unwrap_or(vit.image_size);
            vit.encoder.head = head;
            let pool = match vit.encoder.pool {
                Pool::Map { .. } => "map",
                Pool::Token => "token",
                Pool::Avg { .. } => "avg",
            };
            (vit.encoder.blocks.width, pool)
        }
        VisionCfg::Eva(eva) => {
            eva.image_size = size.unwrap_or(eva.image_size);
            eva.patch_size = args.integer("patch_size", eva.patch_size)?;
            eva.layers = args.integer("depth", eva.layers)?;
            eva.heads = args.integer("num_heads", eva.heads)?;
            let width = args.integer("embed_dim", eva.width)?;
            if width != eva.width || args.0.contains_key("mlp_ratio") {
                eva.mlp_dim = (width as f64 * args.number("mlp_ratio", mlp_ratio)?) as usize;
            }
            eva.width = width;
            eva.head = head;
            (width, "token")
        }
        VisionCfg::FastVit(fastvit) => {
            args.fastvit(fastvit)?;
            fastvit.image_size = size.unwrap_or(fastvit.image_size);
            fastvit.head = head;
            (fastvit.final_width(), "avg")
        }
        VisionCfg::NaflexVit(_) => return Err(Problem::new("architecture", name, "a model for images of one size")),
    };
    for (field, found) in
        [("global_pool", json.get("global_pool")), ("model_args.global_pool", args.0.get("global_pool"))]
    {
        if found.is_some_and(|found| !found.is_null() && found != pool) {
            return Err(Problem::new(field, found.unwrap_or(&Value::Null), format!("`{pool}`, which {name} has")));
        }
    }
    let license = json.pointer("/pretrained_cfg/license").and_then(Value::as_str).map(str::to_owned);
    Ok(Model {
        model: name.to_owned(),
        family,
        naming: Naming::OpenClip,
        dialect: Dialect::OpenClip,
        license,
        embed_dim: if classes > 0 { classes } else { width },
        logit_scale_max: None,
        logit_bias: false,
        vision_cfg: Some(tower),
        text_cfg: None,
        preprocess_cfg: if family.is_siglip() { PreprocessCfg::siglip() } else { PreprocessCfg::clip() },
        dialects: BTreeMap::new(),
        namings: BTreeMap::new(),
    })
}

/// The tower of this name, with its own sizes.
fn architecture(name: &str) -> Option<Architecture> {
    if let Some(vit) = vit(name) {
        return Some(vit);
    }
    let known = trunks::known_with(name).next()?;
    let tower = known.vision_cfg.clone()?;
    let mlp_ratio = match &tower {
        // Two thirds of four: SwiGLU has three matrices.
        VisionCfg::Eva(_) => 8.0 / 3.0,
        _ => 4.0,
    };
    Some(Architecture { tower, family: known.family, mlp_ratio })
}

/// CLIP's and SigLIP's ViTs, by the parts of their names.
fn vit(name: &str) -> Option<Architecture> {
    let mut parts = name.strip_prefix("vit_")?.split('_');
    let size = parts.next()?;
    let patch: usize = parts.next()?.strip_prefix("patch")?.parse().ok()?;
    let rest: Vec<&str> = parts.collect();
    let (&resolution, kind) = rest.split_last()?;
    let side: usize = resolution.parse().ok()?;
    let &(_, mut width, layers, mut heads, mlp_ratio) = SIZES.iter().find(|(named, ..)| *named == size)?;
    let (siglip, pool_of_clip) = match kind {
        ["clip"] | ["clip", "quickgelu"] => (false, true),
        ["plus", "clip"] => {
            (width, heads) = (896, 14);
            (false, true)
        }
        ["siglip"] | ["siglip", "gap"] => (true, false),
        _ => return None,
    };
    let tanh = siglip
        && (patch == 32 || size == "giantopt" || (size, patch) == ("so400m", 16) || (size, side) == ("large", 512));
    let act = match (kind.contains(&"quickgelu"), tanh) {
        (true, _) => Act::QuickGelu,
        (_, true) => Act::GeluTanh,
        _ => Act::Gelu,
    };
    let mlp_dim = (width as f64 * mlp_ratio) as usize;
    let pool = match kind {
        _ if pool_of_clip => Pool::Token,
        [_, "gap"] => Pool::Avg { class_token: false, norm_after: false },
        _ => Pool::Map { heads, mlp_dim },
    };
    let blocks = Transformer {
        width,
        layers,
        heads,
        mlp_dim,
        act,
        norm_eps: if siglip { 1e-6 } else { 1e-5 },
        layer_scale: false,
    };
    let tower = VisionCfg::Vit(Vit {
        image_size: [side; 2],
        stem: Stem::Patches(PatchEmbed { size: patch, weight: PatchWeight::Conv, bias: siglip }),
        class_token: if siglip { ClassToken::None } else { ClassToken::Positioned },
        encoder: Encoder { pre_norm: !siglip, blocks, final_norm: true, pool, head: None },
    });
    let family = if siglip { Family::Siglip } else { Family::Clip };
    Some(Architecture { tower, family, mlp_ratio })
}

fn integer(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// `model_args`: what differs from the architecture.
struct Args<'a>(&'a Map<String, Value>);

impl Args<'_> {
    fn wrong(&self, field: &str, expected: &str) -> Problem {
        Problem::new(format!("model_args.{field}"), self.0.get(field).unwrap_or(&Value::Null), expected)
    }

    /// That every argument is followed.
    fn known(&self) -> Result<(), Problem> {
        const FOLLOWED: &[&str] = &[
            "img_size",
            "patch_size",
            "embed_dim",
            "depth",
            "num_heads",
            "mlp_ratio",
            "num_classes",
            "in_chans",
            "global_pool",
            "layers",
            "embed_dims",
        ];
        let channels = self.integer("in_chans", 3)?;
        if channels != 3 {
            return Err(self.wrong("in_chans", "3"));
        }
        let other = |name: &&String| !FOLLOWED.contains(&name.as_str()) && !OF_TRAINING.contains(&name.as_str());
        match self.0.iter().find(|(name, value)| other(name) && !value.is_null()) {
            Some((name, _)) => Err(self.wrong(name, "absent: it is not followed")),
            None => Ok(()),
        }
    }

    fn integer(&self, field: &str, default: usize) -> Result<usize, Problem> {
        match self.0.get(field).filter(|value| !value.is_null()) {
            None => Ok(default),
            Some(found) => integer(found).filter(|n| *n > 0).ok_or_else(|| self.wrong(field, "a positive integer")),
        }
    }

    fn number(&self, field: &str, default: f64) -> Result<f64, Problem> {
        match self.0.get(field).filter(|value| !value.is_null()) {
            None => Ok(default),
            Some(found) => {
                found.as_f64().filter(|n| (0.01..=64.0).contains(n)).ok_or_else(|| self.wrong(field, "0.01 to 64"))
            }
        }
    }

    /// A size that is a number, or height and width.
    fn size(&self, field: &str) -> Result<Option<[usize; 2]>, Problem> {
        let Some(found) = self.0.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        let pair = match found {
            Value::Array(sides) => match &sides[..] {
                [height, width] => integer(height).zip(integer(width)).map(|(height, width)| [height, width]),
                _ => None,
            },
            one => integer(one).map(|side| [side; 2]),
        };
        pair.map(Some).ok_or_else(|| self.wrong(field, "a number, or [height, width]"))
    }

    fn list(&self, field: &str, count: usize) -> Result<Option<Vec<usize>>, Problem> {
        let Some(found) = self.0.get(field).filter(|value| !value.is_null()) else { return Ok(None) };
        let list: Option<Vec<usize>> = found.as_array().and_then(|list| list.iter().map(integer).collect());
        let list = list.filter(|list| list.len() == count);
        list.map(Some).ok_or_else(|| self.wrong(field, &format!("{count} integers")))
    }

    fn vit(&self, vit: &mut Vit, mlp_ratio: f64) -> Result<(), Problem> {
        if let Stem::Patches(patches) = &mut vit.stem {
            patches.size = self.integer("patch_size", patches.size)?;
        }
        let blocks = &mut vit.encoder.blocks;
        let width = self.integer("embed_dim", blocks.width)?;
        if width != blocks.width || self.0.contains_key("mlp_ratio") {
            blocks.mlp_dim = (width as f64 * self.number("mlp_ratio", mlp_ratio)?) as usize;
        }
        blocks.width = width;
        blocks.layers = self.integer("depth", blocks.layers)?;
        blocks.heads = self.integer("num_heads", blocks.heads)?;
        if let Pool::Map { heads, mlp_dim } = &mut vit.encoder.pool {
            (*heads, *mlp_dim) = (blocks.heads, blocks.mlp_dim);
        }
        Ok(())
    }

    fn fastvit(&self, fastvit: &mut FastVit) -> Result<(), Problem> {
        let count = fastvit.stages.len();
        let (layers, widths) = (self.list("layers", count)?, self.list("embed_dims", count)?);
        for (at, stage) in fastvit.stages.iter_mut().enumerate() {
            if let Some(layers) = &layers {
                stage.layers = layers[at];
            }
            if let Some(widths) = &widths {
                stage.width = widths[at];
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(json: &Value) -> Result<ModelConfig, String> {
        model("config.json", &json.to_string()).map(Option::unwrap).map_err(|e| e.to_string())
    }

    /// The towers that known models have, where open_clip names them by timm's name.
    #[test]
    fn names_give_the_towers_of_known_models() {
        let mut compared = 0;
        for name in trunks::names() {
            let known: Vec<ModelConfig> = trunks::known_with(&name).collect();
            let Some(VisionCfg::Vit(expected)) = &known[0].vision_cfg else { continue };
            if !matches!(expected.stem, Stem::Patches(_)) {
                continue;
            }
            let found = vit(&name).unwrap_or_else(|| panic!("{name}"));
            let VisionCfg::Vit(mut found) = found.tower else { panic!("{name}") };
            found.encoder.head = expected.encoder.head;
            assert_eq!(&found, expected, "{name}");
            compared += 1;
        }
        assert!(compared > 10, "{compared}");
    }

    #[test]
    fn arguments_are_followed_or_refused_by_name() {
        let with = |field: &str, value: Value| {
            parse(&json!({"architecture": "vit_base_patch16_siglip_224.webli", "num_classes": 0, "num_features": 768,
                "global_pool": "map", "model_args": {field: value}}))
        };
        let config = with("embed_dim", json!(96)).unwrap();
        assert_eq!(
            (config.embed_dim, config.image_size(), config.has(crate::modality::Modality::Text)),
            (96, Some([224; 2]), false)
        );
        let dims =
            |config: &ModelConfig| config.vision_cfg.as_ref().unwrap().family().dims().blocks.unwrap().transformer;
        assert_eq!(dims(&config).mlp_dim, 384);
        assert_eq!(dims(&with("mlp_ratio", json!(2)).unwrap()).mlp_dim, 1536);
        for (field, value) in [
            ("in_chans", json!(1)),
            ("global_pool", json!("avg")),
            ("qkv_bias", json!(false)),
            ("num_heads", json!(5)),
            ("img_size", json!("large")),
        ] {
            let error = with(field, value).unwrap_err();
            assert!(error.contains(field) || error.contains("vision_cfg.heads"), "{field}: {error}");
        }
        let error = parse(&json!({"architecture": "resnet50"})).unwrap_err();
        assert!(error.contains("architecture is resnet50"), "{error}");
        assert!(model("config.json", r#"{"model_type": "clip"}"#).unwrap().is_none());
    }
}
