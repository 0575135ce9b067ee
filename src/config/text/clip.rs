//! The text transformer of CLIP, SigLIP and most of MobileCLIP. Radford et al. 2021; open_clip's `TextTransformer`.

use super::{AT, TextFamily, TextFields, TextModel};
use crate::config::check::{Problem, ensure};
use crate::config::{Clean, Dialect, Family, Transformer};

/// Pre-norm blocks and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipText {
    /// Widths and number of the blocks.
    pub blocks: Transformer,
    /// False: every position attends to every position, padding too.
    pub causal: bool,
}

impl ClipText {
    pub(super) fn read(f: &TextFields) -> Result<ClipText, Problem> {
        for (field, given) in [
            ("repmixer_kernel", f.repmixer_kernel.is_some()),
            ("repmixer_mlp_dim", f.repmixer_mlp_dim.is_some()),
            ("bn_eps", f.bn_eps.is_some()),
            ("reparameterized", f.reparameterized.is_some()),
        ] {
            let expected = "no such field with model_type `transformer`";
            ensure(!given, &format!("{AT}{field}"), "given", expected)?;
        }
        Ok(ClipText { blocks: f.transformer(), causal: !f.no_causal_mask })
    }
}

impl TextFamily for ClipText {
    fn check(&self) -> Result<(), Problem> {
        self.blocks.check(AT)
    }

    fn blocks(&self) -> &Transformer {
        &self.blocks
    }

    fn is_causal(&self) -> bool {
        self.causal
    }

    fn sees_earlier_alone(&self) -> bool {
        self.causal
    }

    fn clean(&self, lineage: Family, dialect: Dialect) -> Clean {
        lineage.clean(dialect)
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        None
    }

    fn open_clip_lacks(&self) -> Option<&'static str> {
        None
    }

    fn write(&self, fields: &mut TextFields) {
        fields.model_type = TextModel::Transformer;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known::refusal;
    use crate::config::text::TextTower;
    use crate::config::{ModelConfig, TextCfg, TextPool, known};

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        let all = known().filter_map(|config| config.text_cfg.clone());
        let same = |text: TextCfg| assert_eq!(TextCfg::try_from(TextFields::from(text.clone())).unwrap(), text);
        assert!(all.filter(|text| matches!(text.tower, TextTower::Transformer(_))).map(same).count() > 50);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (field, value, message) in [
            ("heads", json!(7), "text_cfg.heads is 7, expected a divisor of width 512"),
            ("bn_eps", json!(1e-5), "text_cfg.bn_eps is given, expected no such field with model_type `transformer`"),
            ("model_type", json!("mct"), "text_cfg.repmixer_kernel is absent, expected [1, an odd number]"),
            ("eot_id", json!(49_408), "text_cfg.eot_id is 49408, expected an id below vocab_size 49408"),
            ("pad_id", json!(-1), "text_cfg.pad_id is -1, expected an id below"),
            ("context_length", json!(5000), "text_cfg.context_length is 5000, expected at most 4096"),
            ("mlp", json!(4), "unknown field `mlp`"),
        ] {
            let error = refusal("ViT-B-32", &format!("/text_cfg/{field}"), Some(value));
            assert!(error.contains(message), "{field}: {error}");
        }
    }

    #[test]
    fn it_answers_for_itself() {
        let clip = ModelConfig::named("ViT-B-32").unwrap();
        assert!(
            clip.text_cfg.as_ref().unwrap().ends_where_pooled()
                && clip.text_cfg.as_ref().unwrap().tower.family().is_causal()
        );
        assert_eq!(clip.clean(), Some(Clean::Mended));
        let last = clip.with(|model| model.text_cfg.as_mut().unwrap().pool_type = TextPool::Last).unwrap();
        assert!(!last.text_cfg.as_ref().unwrap().ends_where_pooled());
        // Padding is attended to.
        assert!(!ModelConfig::named("MobileCLIP-S2").unwrap().text_cfg.as_ref().unwrap().ends_where_pooled());
    }

    #[test]
    fn each_lineage_is_cleaned_as_its_authors_do() {
        for (model, dialect, clean) in [
            ("ViT-B-16-SigLIP", Dialect::Original, Clean::None),
            ("ViT-B-16-SigLIP", Dialect::OpenClip, Clean::Canonical),
            ("ViT-B-16-SigLIP", Dialect::Transformers, Clean::Unpunctuated),
            ("ViT-B-16-SigLIP2", Dialect::Original, Clean::Lower),
            ("ViT-B-16-SigLIP2", Dialect::OpenClip, Clean::Canonical),
            ("ViT-B-16-SigLIP2", Dialect::Transformers, Clean::Lower),
            ("ViT-B-32", Dialect::OpenClip, Clean::Mended),
            ("ViT-B-32", Dialect::Transformers, Clean::None),
            ("MobileCLIP-B", Dialect::Original, Clean::Mended),
        ] {
            let mut config = ModelConfig::named(model).unwrap().in_dialect(dialect).unwrap();
            assert_eq!(config.clean(), Some(clean), "{model} {dialect}");
            config.set_clean(Some(Clean::Spaced));
            assert_eq!(config.clean(), Some(Clean::Spaced));
        }
    }
}
