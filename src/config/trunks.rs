//! Which of timm's models open_clip builds an image tower from; it knows them by name only.
//!
//! Names: timm `vision_transformer.py`, `fastvit.py`; pools: open_clip `model_configs/*.json`. Each family of towers
//! knows its own: [`super::VisionFamily::timm`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Dialect, ModelConfig, Naming, known};

/// As open_clip's `timm_…` fields have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timm {
    /// `timm_model_name`.
    pub name: String,
    /// `timm_pool`: `map`, `token` or `avg`.
    pub pool: &'static str,
    /// `timm_proj`: `"none"` where the pooled vector is the embedding; null where timm's classifier is the projection.
    pub proj: Value,
}

/// The error of a family that timm has no model of.
pub(super) fn lacks<T>(what: String) -> Result<T, String> {
    Err(format!("timm, whose models open_clip makes image towers of, has no {what}"))
}

/// timm's model of an image tower; none where open_clip has an architecture of its own.
///
/// # Errors
/// What timm has no model for.
pub fn model(config: &ModelConfig) -> Result<Option<Timm>, String> {
    config.vision_cfg.as_ref().map_or(Ok(None), |vision| vision.family().timm())
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
