//! Ids of padding, start and end in a tokenizer's own files: `tokenizer_config.json`, `special_tokens_map.json` and
//! `tokenizer.json`, in transformers' form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::Problem;
use super::{Error, ModelConfig, TextPool};

/// How sentences are cleaned before they are tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clean {
    /// Not at all, or by the tokenizer itself: big_vision's SigLIP, transformers' CLIP.
    None,
    /// Lower case only: big_vision's SigLIP 2.
    Lower,
    /// Encoding repaired as ftfy does, HTML entities decoded, whitespace collapsed, lower case: open_clip's `lower`.
    Mended,
    /// The same without lower case: open_clip's `whitespace`.
    Spaced,
    /// As `Mended`, with `_` as a space and ASCII punctuation removed: open_clip's `canonicalize`.
    Canonical,
    /// ASCII punctuation removed, `_` too, whitespace collapsed, lower case: transformers' SigLIP.
    Unpunctuated,
}

impl Clean {
    /// The cleaning of a class of transformers' tokenizers, which is not in its `tokenizer.json`.
    pub fn of_class(class: &str) -> Clean {
        match class.trim_end_matches("Fast") {
            "SiglipTokenizer" => Clean::Unpunctuated,
            "Siglip2Tokenizer" => Clean::Lower,
            _ => Clean::None,
        }
    }
}

/// Ids and settings of the files; None where they have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Id of `pad_token`.
    pub pad: Option<i64>,
    /// Id of `bos_token`.
    pub start: Option<i64>,
    /// Id of `eos_token`.
    pub end: Option<i64>,
    /// `add_bos_token`: whether rows begin with the start.
    pub adds_start: Option<bool>,
    /// `model_max_length`, where it is a limit.
    pub longest: Option<usize>,
}

/// A file's name, for error messages, and its contents.
type File<'a> = (&'a str, &'a Value);

/// Reads the files; of several that have a field, the first counts.
///
/// # Errors
/// [`Error::Tokens`] for a setting that is not supported, naming the file.
pub fn special_ids(files: &[File]) -> Result<SpecialIds, Error> {
    let token = |name: &str| {
        files.iter().find_map(|(origin, json)| {
            let found = json.get(name)?;
            // A token, or an object that holds it.
            let text = found.as_str().or_else(|| found.get("content")?.as_str())?;
            Some((*origin, text))
        })
    };
    let id = |name: &str| -> Result<Option<i64>, Error> {
        let Some((origin, text)) = token(name) else { return Ok(None) };
        if let Some(id) = files.iter().find_map(|(_, json)| id_of(json, text)) {
            return Ok(Some(id));
        }
        // Without a vocabulary among the files the id is unknown.
        let has_vocabulary = files.iter().any(|(_, json)| json.pointer("/model/vocab").is_some());
        if !has_vocabulary {
            return Ok(None);
        }
        let problem = Problem {
            field: name.to_owned(),
            found: format!("`{text}`"),
            expected: "a token of the tokenizer.json beside it".to_owned(),
        };
        Err(Error::Tokens { path: origin.to_owned(), problem })
    };
    let setting = |name: &str| files.iter().find_map(|(origin, json)| Some((*origin, json.get(name)?)));
    for (name, expected) in [("padding_side", "right"), ("truncation_side", "right")] {
        if let Some((origin, found)) = setting(name).filter(|(_, found)| found.as_str() != Some(expected)) {
            let problem =
                Problem { field: name.to_owned(), found: found.to_string(), expected: format!("\"{expected}\"") };
            return Err(Error::Tokens { path: origin.to_owned(), problem });
        }
    }
    let longest = setting("model_max_length").and_then(|(_, found)| found.as_u64());
    Ok(SpecialIds {
        pad: id("pad_token")?,
        start: id("bos_token")?,
        end: id("eos_token")?,
        adds_start: setting("add_bos_token").and_then(|(_, found)| found.as_bool()),
        // Without a limit, the files have a number far beyond any context length.
        longest: longest.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= 1 << 20),
    })
}

/// The id of a token: among those added, or in the vocabulary.
fn id_of(json: &Value, token: &str) -> Option<i64> {
    let content = |value: &Value| value.get("content").and_then(Value::as_str) == Some(token);
    let added = json.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let decoder = json.get("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let found = added.filter(|value| content(value)).find_map(|value| value.get("id")?.as_i64());
    let found = found.or_else(|| decoder.filter(|(_, value)| content(value)).find_map(|(id, _)| id.parse().ok()));
    found.or_else(|| match json.pointer("/model/vocab")? {
        Value::Object(vocabulary) => vocabulary.get(token)?.as_i64(),
        // Unigram: pairs of token and score, in the order of ids.
        Value::Array(vocabulary) => {
            let at = vocabulary.iter().position(|pair| pair.get(0).and_then(Value::as_str) == Some(token))?;
            i64::try_from(at).ok()
        }
        _ => None,
    })
}

impl SpecialIds {
    /// Replaces the ids that were assumed by those of the files; gives warnings for the user.
    pub fn apply(&self, config: &mut ModelConfig) -> Vec<String> {
        let family = config.family;
        let Some(text) = &mut config.0.text_cfg else { return vec![] };
        let mut notes = Vec::new();
        let within = |id: Option<i64>| id.filter(|id| (0..text.vocab_size as i64).contains(id));
        let [pad, start, end] = [self.pad, self.start, self.end].map(within);
        for (name, found, kept) in [("pad", self.pad, pad), ("start", self.start, start), ("end", self.end, end)] {
            if let (Some(found), None) = (found, kept) {
                notes.push(format!(
                    "the tokenizer's {name} token has id {found}, and the model rows for {}: it is not taken",
                    text.vocab_size
                ));
            }
        }
        text.pad_id = pad.unwrap_or(text.pad_id);
        if family.is_siglip() {
            text.eot_id = end.unwrap_or(text.eot_id);
            if self.adds_start == Some(true) {
                text.sot_id = start.or(text.sot_id);
            }
        } else {
            text.sot_id = start.or(text.sot_id);
            match (text.pool_type, end) {
                // The model pools at the id of its configuration.
                (TextPool::Eos, Some(end)) if end != text.eot_id => notes.push(format!(
                    "the tokenizer ends texts with id {end}, the model looks for {}: texts end with the model's",
                    text.eot_id
                )),
                (_, Some(end)) => text.eot_id = end,
                (_, None) => {}
            }
        }
        if let Some(longest) = self.longest.filter(|longest| *longest < text.context_length && family.is_siglip()) {
            notes.push(format!(
                "model_max_length is {longest}, the model has {} positions: texts are filled up to all of them",
                text.context_length
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_found_in_every_form_of_a_vocabulary() {
        let config = json!({"pad_token": "<pad>", "eos_token": {"content": "<eos>"}, "add_bos_token": false,
                            "padding_side": "right", "model_max_length": 1e30});
        let expected = SpecialIds { pad: Some(0), start: None, end: Some(1), adds_start: Some(false), longest: None };
        for vocabulary in [
            json!({"model": {"vocab": {"<pad>": 0, "<eos>": 1}}}),
            json!({"model": {"vocab": [["<pad>", 0.0], ["<eos>", -1.0]]}}),
            json!({"added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 1, "content": "<eos>"}], "model": {"vocab": {}}}),
            json!({"added_tokens_decoder": {"0": {"content": "<pad>"}, "1": {"content": "<eos>"}}}),
        ] {
            let found = special_ids(&[("tokenizer_config.json", &config), ("tokenizer.json", &vocabulary)]).unwrap();
            assert_eq!(found, expected, "{vocabulary}");
        }
        // No vocabulary, no ids.
        assert_eq!(special_ids(&[("tokenizer_config.json", &config)]).unwrap().pad, None);
    }

    #[test]
    fn settings_that_are_not_supported_are_refused() {
        let vocabulary = json!({"model": {"vocab": {"a": 0}}});
        for (config, said) in [
            (json!({"padding_side": "left"}), "padding_side is \"left\", expected \"right\""),
            (json!({"pad_token": "<none>"}), "pad_token is `<none>`"),
        ] {
            let error = special_ids(&[("tokenizer_config.json", &config), ("tokenizer.json", &vocabulary)]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
