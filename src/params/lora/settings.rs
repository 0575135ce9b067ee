//! `adapter_config.json`: by what an adapter's products are scaled, and what it asks for besides.

use serde_json::Value;

use super::Error;

/// The part of an adapter's settings that merging needs; the rest is of training.
#[derive(Clone, Debug)]
pub struct Settings {
    alpha: f64,
    /// Alphas of modules whose names end so; the first that fits counts.
    patterns: Vec<(String, f64)>,
    /// Scaled by the root of the rank.
    by_root: bool,
    /// The rank of every module, where all have one.
    pub rank: Option<usize>,
    /// Whether rows have lengths that were trained.
    pub dora: bool,
    /// Whether whole modules are replaced.
    pub saves_modules: bool,
}

/// Settings that say how an adapter was trained, or how it is loaded elsewhere: merging does not depend on them. Which
/// tensors there are follows from the file.
const OF_TRAINING: &[&str] = &[
    "arrow_config",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "kasa_config",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "monteclora_config",
    "peft_version",
    "qalora_group_size",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];

/// Settings of other methods, which have to be off.
const OFF: &[&str] = &[
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
];

/// Ways of beginning that change the weights of the base model too.
const CHANGES_BASE: &[&str] = &["pissa", "olora", "corda", "loftq", "lora_ga"];

impl Settings {
    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// [`Error::Parse`], or [`Error::Setting`] for one that is not followed.
    pub fn parse(text: &str) -> Result<Settings, Error> {
        let bad = |reason: String| Error::Parse { reason };
        let json: Value = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let fields = json.as_object().ok_or_else(|| bad("it is no object".to_owned()))?;
        let wrong = |field: &str, found: &Value, expected| Error::Setting {
            field: field.to_owned(),
            found: found.to_string(),
            expected,
        };
        let positive = |field: &str, value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
            number.ok_or_else(|| wrong(field, value, "a positive number"))
        };
        let mut alpha = None;
        let mut settings =
            Settings { alpha: 0.0, patterns: vec![], by_root: false, rank: None, dora: false, saves_modules: false };
        let flag = |field: &str, value: &Value| value.as_bool().ok_or_else(|| wrong(field, value, "true or false"));
        for (field, value) in fields {
            let idle = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(values) => values.is_empty(),
                Value::Object(values) => values.is_empty(),
                _ => false,
            };
            match field.as_str() {
                "peft_type" if value != "LORA" => return Err(wrong(field, value, "LORA")),
                "peft_type" => {}
                "lora_alpha" => alpha = Some(positive(field, value)?),
                "use_rslora" => settings.by_root = flag(field, value)?,
                "use_dora" => settings.dora = flag(field, value)?,
                "modules_to_save" => settings.saves_modules = !idle,
                "r" => {
                    let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok()).filter(|rank| *rank > 0);
                    settings.rank = Some(rank.ok_or_else(|| wrong(field, value, "a positive integer"))?);
                }
                "alpha_pattern" | "rank_pattern" if !value.is_object() && !value.is_null() => {
                    return Err(wrong(field, value, "an object of names and numbers"));
                }
                "alpha_pattern" => {
                    for (pattern, value) in value.as_object().into_iter().flatten() {
                        let plain = pattern.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
                        if !plain {
                            let found = Value::String(pattern.clone());
                            return Err(wrong(field, &found, "names of modules, not regular expressions"));
                        }
                        settings.patterns.push((pattern.clone(), positive(field, value)?));
                    }
                }
                "init_lora_weights" => {
                    let changes = |text: &str| CHANGES_BASE.iter().any(|start| text.starts_with(start));
                    if value.as_str().is_some_and(changes) {
                        let expected = "one that leaves the base model's weights as they are; convert the adapter with PEFT's save_pretrained(path_initial_model_for_weight_conversion=…)";
                        return Err(wrong(field, value, expected));
                    }
                }
                known if OF_TRAINING.contains(&known) || idle => {}
                known if OFF.contains(&known) => return Err(wrong(field, value, "null: it is not followed")),
                _ => return Err(wrong(field, value, "a setting of LoRA: it is not known")),
            }
        }
        if json.get("rank_pattern").and_then(Value::as_object).is_some_and(|patterns| !patterns.is_empty()) {
            settings.rank = None;
        }
        settings.alpha = alpha.ok_or_else(|| bad("it has no lora_alpha".to_owned()))?;
        if json.get("peft_type").is_none() {
            return Err(bad("it has no peft_type".to_owned()));
        }
        Ok(settings)
    }

    /// What the product of a module is multiplied by.
    pub fn scale(&self, module: &str, rank: usize) -> f64 {
        // PEFT's patterns are regular expressions, in which a dot stands for any character.
        let ends = |pattern: &str| {
            let Some(start) = module.len().checked_sub(pattern.len()) else { return false };
            let same = module.bytes().skip(start).zip(pattern.bytes()).all(|(m, p)| m == p || p == b'.');
            same && (start == 0 || module.as_bytes()[start - 1] == b'.')
        };
        let found = self.patterns.iter().find(|(pattern, _)| ends(pattern));
        let alpha = found.map_or(self.alpha, |(_, alpha)| *alpha);
        if self.by_root { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_alpha_rank_and_patterns() {
        let parse = |text: &str| Settings::parse(text).unwrap();
        let json = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"0.q": 4, "q": 2}}"#;
        let plain = parse(json);
        let scales = ["layers.0.q", "layers.1.q", "layers.1.v", "layers.10.q"].map(|module| plain.scale(module, 4));
        assert_eq!(scales, [1.0, 0.5, 2.0, 0.5]);
        assert_eq!(parse(r#"{"peft_type": "LORA", "lora_alpha": 8, "use_rslora": true}"#).scale("q", 4), 4.0);
    }

    #[test]
    fn every_setting_is_followed_or_refused_by_name() {
        for (field, value) in [
            ("peft_type", "\"IA3\""),
            ("use_qalora", "true"),
            ("init_lora_weights", "\"pissa_niter_4\""),
            ("target_parameters", "[\"x\"]"),
            ("something_new", "1"),
            ("lora_alpha", "0"),
        ] {
            let rest = if field == "peft_type" { "" } else { ", \"peft_type\": \"LORA\"" };
            let alpha = if field == "lora_alpha" { "" } else { ", \"lora_alpha\": 1" };
            let error = Settings::parse(&format!("{{\"{field}\": {value}{rest}{alpha}}}")).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        assert!(Settings::parse(r#"{"peft_type": "LORA", "something_new": null, "lora_alpha": 1}"#).is_ok());
    }
}
