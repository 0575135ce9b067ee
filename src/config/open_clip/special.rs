//! Ids that tokenizers put around texts. open_clip's configurations name the tokenizer alone.
//!
//! Source: open_clip `tokenizer.py` (`HFTokenizer`), and the tokenizers' own configurations.

use serde_json::Value;

use super::section::Section;
use crate::config::check::Problem;

/// Start, end and padding of a row.
pub struct Special {
    pub start: Option<i64>,
    pub end: i64,
    pub pad: i64,
}

/// Ids that tokenizers put around texts, by a part of their names: they are in no configuration.
const TOKENIZERS: &[(&str, Special)] = &[
    ("SigLIP2", Special { start: None, end: 1, pad: 0 }),
    ("SigLIP", Special { start: None, end: 1, pad: 1 }),
    ("mt5-", Special { start: None, end: 1, pad: 0 }),
    ("xlm-", Special { start: Some(0), end: 2, pad: 1 }),
    ("roberta-", Special { start: Some(0), end: 2, pad: 1 }),
    ("bert-", Special { start: Some(101), end: 102, pad: 0 }),
];

/// The ids of the tokenizer that is named, or the last two of CLIP's vocabulary, and 0.
pub fn special_ids(section: Section, vocab_size: usize) -> Result<Special, Problem> {
    let strips = match section.get("tokenizer_kwargs").and_then(|kwargs| kwargs.get("strip_sep_token")) {
        None | Some(Value::Null) => false,
        Some(found) => {
            found.as_bool().ok_or_else(|| section.wrong("tokenizer_kwargs", "strip_sep_token as true or false"))?
        }
    };
    let last = (vocab_size as i64 - 1).max(0);
    let name = section.text("hf_tokenizer_name", "")?;
    let named = TOKENIZERS.iter().find(|(part, _)| name.contains(part)).map(|(_, special)| special);
    let Special { start, mut end, pad } = match named.filter(|special| special.end <= last) {
        Some(special) => Special { ..*special },
        None => Special { start: Some((last - 1).max(0)), end: last, pad: 0 },
    };
    let pad = section.id("pad_id", pad)?;
    if strips {
        // open_clip puts padding in the place of the separator that ends texts.
        end = pad;
    }
    Ok(Special { start, end, pad })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_follow_the_tokenizer_that_is_named() {
        let ids = |name: &str, words: usize, kwargs: Value| {
            let fields = json!({"hf_tokenizer_name": name, "tokenizer_kwargs": kwargs});
            let Special { start, end, pad } = special_ids(Section { at: "", fields: &fields }, words).unwrap();
            (start, end, pad)
        };
        let none = || Value::Null;
        assert_eq!(ids("timm/ViT-B-16-SigLIP", 32_000, none()), (None, 1, 1));
        assert_eq!(ids("timm/ViT-B-16-SigLIP2", 256_000, none()), (None, 1, 0));
        assert_eq!(ids("facebook/xlm-v-base", 901_629, none()), (Some(0), 2, 1));
        assert_eq!(ids("google/mt5-base", 250_100, none()), (None, 1, 0));
        assert_eq!(ids("bert-base-uncased", 32_000, none()), (Some(101), 102, 0));
        // The separator becomes padding.
        assert_eq!(ids("bert-base-uncased", 32_000, json!({"strip_sep_token": true})), (Some(101), 0, 0));
        assert_eq!(ids("", 49_408, none()), (Some(49_406), 49_407, 0));
        // Ids beyond a small vocabulary are not those of the tokenizer.
        assert_eq!(ids("bert-base-uncased", 100, none()), (Some(98), 99, 0));
    }
}
