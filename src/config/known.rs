//! The models of `models/`, built into the program: a new JSON there needs no code.

use std::sync::OnceLock;

use super::{Error, Model, ModelConfig, TextPool};
use crate::modality::Modality;

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

/// Whether two models have the same tensors and activations. How text is pooled and its ids are not compared.
fn same_architecture(one: &Model, other: &Model) -> bool {
    let text = |model: &Model| {
        model.text_cfg.as_ref().map(|text| (text.context_length, text.vocab_size, text.head, text.tower.clone()))
    };
    (one.embed_dim, one.logit_bias) == (other.embed_dim, other.logit_bias)
        && one.vision_cfg == other.vision_cfg
        && text(one) == text(other)
}

impl ModelConfig {
    /// With what configurations of other libraries leave out, from the known model of the same architecture, if there
    /// is one: its name and licence, preprocessing and token ids. `self` says how its file names tensors.
    pub(super) fn like_known(mut self) -> ModelConfig {
        let in_dialect = known().filter_map(|config| config.for_file(self.naming, self.dialect).ok());
        let in_dialect = in_dialect.map(|config| config.with_towers_of(&self));
        let alike: Vec<ModelConfig> = in_dialect.filter(|config| same_architecture(config, &self)).collect();
        // Two of one architecture differ in whose weights they are: the one of the same name is preferred.
        let alike = alike.iter().find(|known| known.model == self.model).or(alike.first()).cloned();
        if let Some(ModelConfig(alike)) = alike {
            if let (Some(text), Some(alike)) = (&mut self.0.text_cfg, &alike.text_cfg) {
                (text.pad_id, text.sot_id) = (alike.pad_id, alike.sot_id);
                // The id that is looked for stays what the file says.
                text.eot_id = if text.pool_type == TextPool::Eos { text.eot_id } else { alike.eot_id };
            }
            (self.0.model, self.0.family, self.0.license) = (alike.model, alike.family, alike.license);
            (self.0.preprocess_cfg, self.0.logit_scale_max) = (alike.preprocess_cfg, alike.logit_scale_max);
        }
        self
    }

    /// This model with the towers alone that another one has.
    #[must_use]
    pub fn with_towers_of(mut self, other: &ModelConfig) -> ModelConfig {
        Modality::ALL.into_iter().filter(|tower| !other.has(*tower)).for_each(|tower| self.remove(tower));
        if !other.has(Modality::Text) || !other.has(Modality::Image) {
            self.0.logit_bias = other.logit_bias;
        }
        self
    }

    /// The preprocessing of some published weights of this architecture, where it is not the one assumed; from the
    /// `pretrained` table of open_clip 3.3.
    pub fn published_otherwise(&self) -> Option<&'static str> {
        Some(match self.model.as_str() {
            "ViT-L-14" => "LAION-2B's weights of it (laion2b_s32b_b82k) take mean and std 0.5",
            "ViT-H-14-quickgelu" => "DFN5B's weights of it are fed squashed images",
            _ => return None,
        })
    }

    /// A known model by name, in upper or lower case.
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
        // Those about as similar as the most similar one.
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

/// The error of a known model's JSON with one field changed: a pointer, and the value; none removes the field.
#[cfg(test)]
pub(super) fn refusal(name: &str, pointer: &str, value: Option<serde_json::Value>) -> String {
    let (_, text) = KNOWN.iter().find(|(known, _)| *known == name).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
    let (section, field) = pointer.rsplit_once('/').unwrap();
    let section = json.pointer_mut(section).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => section.insert(field.to_owned(), value),
        None => section.remove(field),
    };
    ModelConfig::parse("config.json", &json.to_string()).unwrap_err().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_models_is_written_back_as_it_was_read() {
        assert!(KNOWN.len() > 50);
        for (name, text) in KNOWN {
            let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
            as_floats(&mut json);
            assert_eq!(ModelConfig::named(name).unwrap().to_json(), json, "{name}");
        }
    }

    /// Numbers as the fields' types write them: eps has the precision of float32, `value_range` has no integers.
    fn as_floats(json: &mut serde_json::Value) {
        for (key, value) in json.as_object_mut().unwrap() {
            match (key.as_str(), &mut *value) {
                ("norm_eps" | "bn_eps", number) => *number = (number.as_f64().unwrap() as f32).into(),
                ("value_range", serde_json::Value::Array(ends)) => {
                    ends.iter_mut().for_each(|end| *end = end.as_f64().unwrap().into());
                }
                // Patches are kept as they are.
                ("dialects" | "namings", _) => {}
                (_, fields @ serde_json::Value::Object(_)) => as_floats(fields),
                _ => {}
            }
        }
    }

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
