//! Known models with another context, vocabulary or image size, found from the shapes of a file that has no configuration.

use super::select::differences;
use crate::config::{ClassToken, ModelConfig, VisionCfg};
use crate::params::Params;

/// What a model has otherwise, in words.
pub struct Stretched {
    pub config: ModelConfig,
    pub changes: String,
}

/// Those of `known` whose tensors are the file's once these three sizes are the file's; of models that come to the same, the
/// first.
pub fn stretched(known: impl Iterator<Item = ModelConfig>, params: &Params) -> Vec<Stretched> {
    let mut out: Vec<Stretched> = vec![];
    for config in known {
        let Some(found) = stretch(&config, params) else { continue };
        let same = |other: &Stretched| {
            (&other.config.vision_cfg, &other.config.text_cfg) == (&found.config.vision_cfg, &found.config.text_cfg)
        };
        if !out.iter().any(same) {
            out.push(found);
        }
    }
    out
}

fn stretch(config: &ModelConfig, params: &Params) -> Option<Stretched> {
    let shape = |name: &str| params.shapes().find(|(stored, _)| *stored == name).map(|(_, shape)| shape);
    let mut changes = Vec::new();
    let mut out = config.clone();
    if let (Some(VisionCfg::Vit(vit)), Some(found)) = (&config.vision_cfg, shape("visual.pos_embed")) {
        let prefix = usize::from(vit.class_token == ClassToken::Positioned);
        let &[1, positions, _] = &found[..] else { return None };
        let side = positions.checked_sub(prefix)?.isqrt();
        if [side; 2] != vit.grid() {
            let pixels = side.checked_mul(vit.stem.patch_size())?;
            out = out.at_image_size([pixels; 2]).ok()?;
            changes.push(format!("images of {pixels} pixels"));
        }
    }
    if let (Some(text), Some(positions), Some(table)) =
        (&config.text_cfg, shape("text.pos_embed"), shape("text.token_embedding.weight"))
    {
        let (&[context, _], &[words, _]) = (&positions[..], &table[..]) else { return None };
        if context != text.context_length {
            changes.push(format!("a context of {context} ids"));
        }
        if words != text.vocab_size {
            changes.push(format!("a vocabulary of {words}"));
        }
        let change = |text: &mut crate::config::TextCfg| (text.context_length, text.vocab_size) = (context, words);
        out = out.with(|model| model.text_cfg.iter_mut().for_each(change)).ok()?;
    }
    let fits = !changes.is_empty() && differences(&out, params).is_empty();
    fits.then(|| Stretched { config: out, changes: changes.join(", ") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::config::{Dialect, Naming, known};
    use crate::params::open_clip;
    use crate::params::{Params, Reading};
    use crate::tensor::Tensor;
    use crate::towers;

    /// Names and shapes of a model under open_clip's names.
    fn params(config: &ModelConfig) -> Params {
        let map = open_clip::native();
        let wanted = towers::wanted(config).unwrap();
        let named =
            wanted.into_iter().flat_map(|(name, wanted)| map.backwards(&name, &Tensor::zeros(&wanted.shape)).unwrap());
        Params::from_checkpoint(&Checkpoint::from_tensors(Path::new("x"), named.collect()), &Reading::default())
            .unwrap()
    }

    fn all() -> impl Iterator<Item = ModelConfig> {
        known().filter_map(|config| config.for_file(Naming::OpenClip, Dialect::OpenClip).ok())
    }

    #[test]
    fn a_context_a_vocabulary_or_an_image_size_may_be_another() {
        let base = all().find(|config| config.model == "ViT-B-32-quickgelu").unwrap();
        let longer = base.with(|model| model.text_cfg.as_mut().unwrap().context_length = 40).unwrap();
        let larger = longer.at_image_size([256; 2]).unwrap();
        let more = base.with(|model| model.text_cfg.as_mut().unwrap().vocab_size += 2).unwrap();
        for (config, said) in [
            (&longer, "a context of 40 ids"),
            (&larger, "images of 256 pixels, a context of 40 ids"),
            (&more, "a vocabulary of 49410"),
        ] {
            let found = stretched(all(), &params(config));
            assert!(
                found.iter().any(|found| found.config.text_cfg == config.text_cfg && found.changes == said),
                "{said}"
            );
        }
        // A width is none of them.
        let wider = base
            .with(|model| {
                model.text_cfg.as_mut().unwrap().tower =
                    crate::config::TextTower::Transformer(crate::config::ClipText {
                        blocks: crate::config::Transformer { mlp_dim: 8, ..*base.text_cfg.as_ref().unwrap().blocks() },
                        causal: true,
                    })
            })
            .unwrap();
        assert!(stretched(all(), &params(&wider)).is_empty());
    }
}
