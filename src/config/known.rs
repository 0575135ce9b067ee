//! The models of `models/`, built into the program: a new JSON there needs no code.

use std::sync::OnceLock;

use super::{Error, ModelConfig, TextCfg, TextPool};

// `KNOWN: &[(&str, &str)]`, file stem and text, sorted; written by proto/build.rs.
include!(concat!(env!("OUT_DIR"), "/models.rs"));

fn all() -> &'static [Result<ModelConfig, String>] {
    static ALL: OnceLock<Vec<Result<ModelConfig, String>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let parse = |&(name, text): &(&str, &str)| {
            let config = ModelConfig::parse(&format!("models/{name}.json"), text).map_err(|e| e.to_string())?;
            if config.model != name {
                return Err(format!("models/{name}.json calls itself `{}`", config.model));
            }
            Ok(config)
        };
        KNOWN.iter().map(parse).collect()
    })
}

/// Every model that is known, by name.
pub fn known() -> impl Iterator<Item = &'static ModelConfig> {
    all().iter().filter_map(|config| config.as_ref().ok())
}

/// The names of [`known`].
pub fn names() -> Vec<&'static str> {
    known().map(|config| config.model.as_str()).collect()
}

impl ModelConfig {
    /// With what configurations of other libraries do not tell, from the known model of the same architecture, if there
    /// is one: its name and licence, what pixels and tokens are assumed. `self` says how its file names tensors.
    pub(super) fn like_known(mut self) -> ModelConfig {
        let architecture = |config: &ModelConfig| {
            let text = TextCfg {
                pad_id: 0,
                sot_id: None,
                eot_id: 0,
                pool_type: TextPool::Last,
                clean: None,
                ..config.text_cfg.clone()
            };
            (config.embed_dim, config.logit_bias, config.vision_cfg.clone(), text)
        };
        let mine = architecture(&self);
        let in_dialect = known().filter_map(|config| config.for_file(self.naming, self.dialect).ok());
        let alike: Vec<ModelConfig> = in_dialect.filter(|config| architecture(config) == mine).collect();
        // Two of one architecture differ in whose weights they are: what one of them is called is kept.
        let alike = alike.iter().find(|known| known.model == self.model).or(alike.first()).cloned();
        if let Some(alike) = alike {
            let TextCfg { pool_type, eot_id, .. } = self.text_cfg;
            (self.text_cfg.pad_id, self.text_cfg.sot_id) = (alike.text_cfg.pad_id, alike.text_cfg.sot_id);
            // The id that is looked for stays what the file says.
            self.text_cfg.eot_id = if pool_type == TextPool::Eos { eot_id } else { alike.text_cfg.eot_id };
            (self.model, self.family, self.license) = (alike.model, alike.family, alike.license);
            (self.preprocess_cfg, self.logit_scale_max) = (alike.preprocess_cfg, alike.logit_scale_max);
        }
        self
    }

    /// What some weights of this architecture are published with instead of the pixels that are assumed; from the
    /// `pretrained` table of open_clip 3.3.
    pub fn published_otherwise(&self) -> Option<&'static str> {
        Some(match self.model.as_str() {
            "ViT-L-14" => "LAION-2B's weights of it (laion2b_s32b_b82k) take mean and std 0.5",
            "ViT-H-14-quickgelu" => "DFN5B's weights of it are fed squashed images",
            _ => return None,
        })
    }

    /// A known model by name, case aside.
    ///
    /// # Errors
    /// [`Error::Unknown`], with the names nearest to the one asked for.
    pub fn named(name: &str) -> Result<&'static ModelConfig, Error> {
        if let Some(config) = known().find(|config| config.model.eq_ignore_ascii_case(name)) {
            return Ok(config);
        }
        let plain = |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let asked = plain(name);
        let mut near: Vec<(f64, &str)> = names()
            .into_iter()
            .map(|known| (strsim::normalized_damerau_levenshtein(&asked, &plain(known)), known))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        // Those that are about as near as the nearest.
        let best = near.first().map_or(0.0, |&(likeness, _)| likeness);
        let least = (best - 0.06).max(0.5);
        let near: Vec<&str> =
            near.iter().take_while(|&&(likeness, _)| likeness >= least).take(6).map(|&(_, n)| n).collect();
        let hint = match near[..] {
            [] => "`clip-onnx models` lists them".to_owned(),
            _ => format!("did you mean {}? `clip-onnx models` lists all", near.join(", ")),
        };
        Err(Error::Unknown { name: name.to_owned(), hint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_models_parses_in_each_of_its_dialects() {
        for config in all() {
            let config = config.as_ref().unwrap_or_else(|e| panic!("{e}"));
            for &dialect in config.dialects.keys() {
                let other = config.in_dialect(dialect).unwrap();
                assert_eq!(other.dialect, dialect);
                assert_eq!(other.embed_dim, config.embed_dim);
            }
        }
    }

    #[test]
    fn a_mistyped_name_is_answered_with_its_neighbours() {
        let error = ModelConfig::named("ViT-B-16-SigLIP-255").unwrap_err().to_string();
        assert!(error.contains("did you mean ViT-B-16-SigLIP"), "{error}");
        for (asked, meant) in
            [("ViT-B32", "ViT-B-32"), ("vitb16siglip2", "ViT-B-16-SigLIP2"), ("mobileclip_s2", "MobileCLIP-S2")]
        {
            let error = ModelConfig::named(asked).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean {meant}")), "{error}");
        }
        let error = ModelConfig::named("resnet").unwrap_err().to_string();
        assert!(error.contains("`clip-onnx models`"), "{error}");
    }
}
