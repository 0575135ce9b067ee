//! The models of `models/`, built into the program: a new JSON there needs no code.

use std::sync::OnceLock;

use super::{Error, ModelConfig};

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
    /// A known model by name, case aside.
    ///
    /// # Errors
    /// [`Error::Unknown`], with the names nearest to the one asked for.
    pub fn named(name: &str) -> Result<&'static ModelConfig, Error> {
        if let Some(config) = known().find(|config| config.model.eq_ignore_ascii_case(name)) {
            return Ok(config);
        }
        let asked = name.to_lowercase();
        let words: Vec<&str> = asked.split(['-', '_', '/']).filter(|w| !w.is_empty()).collect();
        let shared = |known: &str| {
            let known = known.to_lowercase();
            words.iter().filter(|&&word| known.split('-').any(|k| k == word)).count()
        };
        let mut near: Vec<(usize, &str)> = names().into_iter().map(|known| (shared(known), known)).collect();
        near.sort_by_key(|&(shared, _)| std::cmp::Reverse(shared));
        let best = near.first().map_or(0, |&(shared, _)| shared);
        let near: Vec<&str> =
            near.iter().take_while(|&&(shared, _)| best > 0 && shared == best).take(6).map(|&(_, n)| n).collect();
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
        let error = ModelConfig::named("resnet").unwrap_err().to_string();
        assert!(error.contains("`clip-onnx models`"), "{error}");
    }
}
