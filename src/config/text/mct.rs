//! MobileCLIP-S0's text tower: RepMixer blocks, convolutions along the text, around a transformer.
//! Vasu et al. 2024 (MobileCLIP), §4.1 (Text-RepMixer).

use super::{AT, TextFamily, TextFields, TextModel};
use crate::config::check::{Problem, ensure, eps, widths};
use crate::config::{Clean, Dialect, Family, Transformer};

/// A RepMixer block, transformer layers, another RepMixer block.
#[derive(Clone, Debug, PartialEq)]
pub struct MctText {
    /// Widths and number of the transformer layers.
    pub blocks: Transformer,
    /// Whether the transformer layers have a causal mask; RepMixers have none.
    pub causal: bool,
    /// The RepMixer blocks before and after the layers, of the same shape.
    pub mixer: RepMixer,
}

/// The RepMixer blocks before and after the layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepMixer {
    /// Positions the convolution spans: an odd number.
    pub kernel: usize,
    /// Hidden width of the MLP after the convolution.
    pub mlp_dim: usize,
    /// Epsilon of every BatchNorm of the blocks.
    pub bn_eps: f32,
    /// Branches folded to one convolution, by the authors' tool.
    pub reparameterized: bool,
}

impl MctText {
    pub(super) fn read(f: &TextFields) -> Result<MctText, Problem> {
        fn given<T>(field: &str, value: Option<T>, expected: &str) -> Result<T, Problem> {
            let expected = format!("{expected} with model_type `mct`");
            value.ok_or_else(|| Problem::new(format!("{AT}{field}"), "absent", expected))
        }
        let [height, kernel] = given("repmixer_kernel", f.repmixer_kernel, KERNEL)?;
        ensure(height == 1, "text_cfg.repmixer_kernel", format!("[{height}, {kernel}]"), KERNEL)?;
        let mixer = RepMixer {
            kernel,
            mlp_dim: given("repmixer_mlp_dim", f.repmixer_mlp_dim, "a number")?,
            bn_eps: given("bn_eps", f.bn_eps, "a number")?,
            reparameterized: given("reparameterized", f.reparameterized, "true or false")?,
        };
        Ok(MctText { blocks: f.transformer(), causal: !f.no_causal_mask, mixer })
    }
}

const KERNEL: &str = "[1, an odd number]";

impl TextFamily for MctText {
    fn check(&self) -> Result<(), Problem> {
        self.blocks.check(AT)?;
        let RepMixer { kernel, mlp_dim, bn_eps, .. } = self.mixer;
        let odd = kernel % 2 == 1 && kernel <= 1 << 10;
        ensure(odd, "text_cfg.repmixer_kernel", format!("[1, {kernel}]"), KERNEL)?;
        widths(AT, &[("repmixer_mlp_dim", mlp_dim)])?;
        eps(AT, "bn_eps", bn_eps)
    }

    fn blocks(&self) -> &Transformer {
        &self.blocks
    }

    fn is_causal(&self) -> bool {
        self.causal
    }

    /// Convolutions see later positions, whatever the mask of the layers between them.
    fn sees_earlier_alone(&self) -> bool {
        false
    }

    fn clean(&self, lineage: Family, dialect: Dialect) -> Clean {
        lineage.clean(dialect)
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        Some(&mut self.mixer.reparameterized)
    }

    fn open_clip_lacks(&self) -> Option<&'static str> {
        Some("a text tower with RepMixer blocks")
    }

    fn write(&self, fields: &mut TextFields) {
        let RepMixer { kernel, mlp_dim, bn_eps, reparameterized } = self.mixer;
        fields.model_type = TextModel::Mct;
        fields.repmixer_kernel = Some([1, kernel]);
        fields.repmixer_mlp_dim = Some(mlp_dim);
        fields.bn_eps = Some(bn_eps);
        fields.reparameterized = Some(reparameterized);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known::refusal;
    use crate::config::text::TextTower;
    use crate::config::{ModelConfig, TextCfg};

    const MODEL: &str = "MobileCLIP-S0";

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        let text = ModelConfig::named(MODEL).unwrap().text_cfg.clone().unwrap();
        assert_eq!(TextCfg::try_from(TextFields::from(text.clone())).unwrap(), text);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (field, value, message) in [
            (
                "repmixer_kernel",
                Some(json!([3, 11])),
                "text_cfg.repmixer_kernel is [3, 11], expected [1, an odd number]",
            ),
            (
                "repmixer_kernel",
                Some(json!([1, 10])),
                "text_cfg.repmixer_kernel is [1, 10], expected [1, an odd number]",
            ),
            ("repmixer_mlp_dim", Some(json!(0)), "text_cfg.repmixer_mlp_dim is 0"),
            ("bn_eps", Some(json!(0)), "text_cfg.bn_eps is 0, expected above 0"),
            ("repmixer_mlp_dim", None, "text_cfg.repmixer_mlp_dim is absent, expected a number with model_type `mct`"),
            (
                "reparameterized",
                None,
                "text_cfg.reparameterized is absent, expected true or false with model_type `mct`",
            ),
            ("model_type", Some(json!("transformer")), "text_cfg.repmixer_kernel is given, expected no such field"),
        ] {
            let error = refusal(MODEL, &format!("/text_cfg/{field}"), value);
            assert!(error.contains(message), "{field}: {error}");
        }
    }

    #[test]
    fn it_answers_for_itself() {
        let config = ModelConfig::named(MODEL).unwrap();
        let causal = config.with(|model| {
            let TextTower::Mct(mct) = &mut model.text_cfg.as_mut().unwrap().tower else { panic!("an MCT") };
            mct.causal = true;
        });
        let causal = causal.unwrap();
        // Its convolutions see later positions, mask or no mask.
        assert!(
            causal.text_cfg.as_ref().unwrap().tower.family().is_causal()
                && !causal.text_cfg.as_ref().unwrap().ends_where_pooled()
        );
        assert!(
            config
                .text_cfg
                .as_ref()
                .unwrap()
                .tower
                .family()
                .open_clip_lacks()
                .is_some_and(|what| what.contains("RepMixer"))
        );
        let mut folded = config.clone();
        assert!(folded.fold_text_branches() && !folded.fold_text_branches());
        assert_eq!(folded.to_json()["text_cfg"]["reparameterized"], true);
    }
}
