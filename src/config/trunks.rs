//! Which of timm's models open_clip makes a model's image tower of; it knows them by name alone.
//!
//! Names: timm `vision_transformer.py`, `fastvit.py`; pools: open_clip `model_configs/*.json`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Dialect, FastVitCfg, ModelConfig, Naming, VisionCfg, VisionPool, VitCfg, known};

/// As open_clip's `timm_…` fields have it.
pub struct Timm {
    pub name: String,
    pub pool: &'static str,
    pub proj: Value,
}

/// Sizes timm has SigLIP's towers in: patch, and pixels of a side.
const SIGLIP: &[(&str, usize, &[usize])] = &[
    ("base", 32, &[256]),
    ("base", 16, &[224, 256, 384, 512]),
    ("large", 16, &[256, 384, 512]),
    ("so400m", 14, &[224, 378, 384]),
    ("so400m", 16, &[256, 384, 512]),
    ("giantopt", 16, &[256, 384]),
];

/// timm's names of widths and depths.
const NAMED: &[(&str, usize, usize)] =
    &[("base", 768, 12), ("large", 1024, 24), ("so400m", 1152, 27), ("giantopt", 1536, 40)];

/// timm's model of an image tower; none where open_clip has an architecture of its own.
///
/// # Errors
/// What timm has no model for.
pub fn model(config: &ModelConfig) -> Result<Option<Timm>, String> {
    let lacks = |what: String| Err(format!("timm, whose models open_clip makes image towers of, has no {what}"));
    let of = |name: String, pool: &'static str, proj: Value| Ok(Some(Timm { name, pool, proj }));
    match &config.vision_cfg {
        VisionCfg::NaflexVit(_) => lacks("NaFlex tower in open_clip's form; freeze it with --image-size".to_owned()),
        VisionCfg::FastVit(fastvit) => match mci(fastvit) {
            Some(size) => of(format!("fastvit_mci{size}"), "avg", Value::Null),
            None => lacks(format!("FastViT with stages of {:?} blocks", fastvit.stage_layers)),
        },
        VisionCfg::Vit(vit) if vit.pool == VisionPool::Map => match siglip(vit) {
            Some(name) => of(name, "map", json!("none")),
            None => lacks(format!("SigLIP tower of {}", described(vit))),
        },
        VisionCfg::Vit(vit) if vit.conv_stem.is_some() => match (vit.width, vit.layers, vit.image_size) {
            (768, 12, Some([224, 224])) => of("vit_base_mci_224".to_owned(), "token", Value::Null),
            _ => lacks(format!("ViT behind a convolution stem of {}", described(vit))),
        },
        VisionCfg::Vit(vit) if vit.proj_bias => match (vit.width, vit.layers, vit.patch_size, vit.image_size) {
            (1024, 24, 14, Some([224, 224])) => of("vit_large_patch14_clip_224".to_owned(), "token", Value::Null),
            _ => lacks(format!("ViT with a biased projection of {}", described(vit))),
        },
        VisionCfg::Vit(vit) if vit.pool != VisionPool::Token || !vit.class_token => {
            lacks(format!("ViT without a class token of {}", described(vit)))
        }
        VisionCfg::Vit(_) => Ok(None),
    }
}

/// Known models, as open_clip runs them, whose image tower is timm's of this name.
pub fn known_with(name: &str) -> impl Iterator<Item = ModelConfig> {
    let in_dialect = known().filter_map(|known| known.for_file(Naming::OpenClip, Dialect::OpenClip).ok());
    in_dialect.filter(move |known| matches!(model(known), Ok(Some(timm)) if timm.name == name))
}

/// The names of timm's models that are image towers of known models.
pub fn names() -> BTreeSet<String> {
    let in_dialect = known().filter_map(|known| known.for_file(Naming::OpenClip, Dialect::OpenClip).ok());
    in_dialect.filter_map(|known| model(&known).ok().flatten()).map(|timm| timm.name).collect()
}

fn described(vit: &VitCfg) -> String {
    let [height, width] = vit.image_size.unwrap_or_default();
    format!(
        "{} channels, {} blocks and patches of {}, for {height} x {width} pixels",
        vit.width, vit.layers, vit.patch_size
    )
}

fn siglip(vit: &VitCfg) -> Option<String> {
    let (name, ..) = NAMED.iter().find(|(_, width, layers)| (*width, *layers) == (vit.width, vit.layers))?;
    let side = vit.image_size.filter(|[height, width]| height == width)?[0];
    let (_, patch, _) =
        SIGLIP.iter().find(|(size, patch, sides)| size == name && *patch == vit.patch_size && sides.contains(&side))?;
    Some(format!("vit_{name}_patch{patch}_siglip_{side}"))
}

/// The number in the name of MobileCLIP's tower of these stages.
fn mci(fastvit: &FastVitCfg) -> Option<char> {
    let same =
        |known: &FastVitCfg| (&known.stage_layers, &known.embed_dims) == (&fastvit.stage_layers, &fastvit.embed_dims);
    let known = known().find(|known| matches!(&known.vision_cfg, VisionCfg::FastVit(known) if same(known)))?;
    known.model.chars().last().filter(char::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_models_have_the_names_open_clip_gives_them() {
        let name = |model: &str| {
            let config = known().find(|known| known.model == model).unwrap();
            let config = config.in_dialect(Dialect::OpenClip).unwrap_or_else(|_| config.clone());
            super::model(&config).unwrap().map(|timm| timm.name)
        };
        for (model, expected) in [
            ("ViT-B-16-SigLIP", "vit_base_patch16_siglip_224"),
            ("ViT-SO400M-14-SigLIP2-378", "vit_so400m_patch14_siglip_378"),
            ("ViT-gopt-16-SigLIP2-384", "vit_giantopt_patch16_siglip_384"),
            ("MobileCLIP-S1", "fastvit_mci1"),
            ("MobileCLIP2-S4", "fastvit_mci4"),
            ("MobileCLIP-B", "vit_base_mci_224"),
            ("MobileCLIP2-L-14", "vit_large_patch14_clip_224"),
        ] {
            assert_eq!(name(model).as_deref(), Some(expected), "{model}");
        }
        assert_eq!(name("ViT-B-32"), None);
    }
}
