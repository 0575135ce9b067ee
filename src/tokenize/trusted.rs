//! What a `tokenizer.json` may ask of the tokenizers crate, which takes some of it unchecked: memory, and lengths.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Bytes of a sentence, at most. No model takes more than 8192 tokens.
pub const SENTENCE: usize = 1 << 16;

/// How many times as long a sentence may become while it is normalised.
const GROWTH: f64 = 64.0;

/// Normalizers and pre-tokenizers, at most.
const STEPS: usize = 64;

/// Values that a post-processor is described by, at most: ids are put around a sentence for each piece of a template.
const TEMPLATE: usize = 2000;

/// Letters of a word that WordPiece cuts into pieces, at most: time grows by their square.
const WORD: u64 = 1000;

/// The parts of the file that are looked at.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Model {
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<u64>,
}

/// The merges alone, read where there is a prefix.
#[derive(Deserialize)]
struct Merges {
    model: MergesOfModel,
}

#[derive(Deserialize)]
struct MergesOfModel {
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Two parts, or a line of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(IgnoredAny, String),
    Line(String),
}

/// Checks what the tokenizers crate does not.
///
/// # Errors
/// What is wrong, in words.
pub fn check(json: &str) -> Result<(), String> {
    let outline: Outline = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let mut steps = Vec::new();
    for part in [&outline.normalizer, &outline.pre_tokenizer] {
        flatten(part, &mut steps);
    }
    if steps.len() > STEPS {
        return Err(format!("it has {} steps before its model; expected at most {STEPS}", steps.len()));
    }
    let parts = nodes(&outline.post_processor);
    if parts > TEMPLATE {
        return Err(format!("its post_processor has {parts} parts; expected at most {TEMPLATE}"));
    }
    if let Some(letters) = outline.model.max_input_chars_per_word.filter(|&letters| letters > WORD) {
        return Err(format!("its words have up to {letters} letters; expected at most {WORD}"));
    }
    let mut growth = 1.0;
    for step in &steps {
        if step["type"] == "Precompiled" {
            check_charsmap(step["precompiled_charsmap"].as_str().unwrap_or_default())?;
        }
        growth *= grows(step);
    }
    if growth > GROWTH {
        return Err(format!(
            "its normalizer may make a sentence {growth} times as long; expected at most {GROWTH} times"
        ));
    }
    match outline.model.continuing_subword_prefix.filter(|prefix| !prefix.is_empty()) {
        Some(prefix) => check_merges(json, &prefix),
        None => Ok(()),
    }
}

/// The steps of a normalizer or a pre-tokenizer, those of sequences in their places.
fn flatten<'a>(part: &'a Value, steps: &mut Vec<&'a Value>) {
    for list in ["normalizers", "pretokenizers"] {
        part[list].as_array().into_iter().flatten().for_each(|step| flatten(step, steps));
    }
    steps.push(part);
}

/// How many values there are in one.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// How many times as long a text may become in one step.
fn grows(step: &Value) -> f64 {
    match step["type"].as_str() {
        Some("Replace") => {}
        // Two bytes for one that is not ASCII.
        Some("ByteLevel") => return 2.0,
        // Once for each word, where there are many.
        Some("Prepend") => return step["prepend"].as_str().unwrap_or_default().len().max(1) as f64,
        _ => return 1.0,
    }
    let content = step["content"].as_str().unwrap_or_default().len().max(1) as f64;
    match step["pattern"]["String"].as_str().map(str::len) {
        // Nothing is found between all letters, and so it is by some regular expressions.
        Some(0) => content + 1.0,
        Some(length) => (content / length as f64).max(1.0),
        // One that may match nothing is asked of; most match a letter or more.
        None if step["pattern"]["Regex"].as_str().is_some_and(may_match_nothing) => content + 1.0,
        None => content,
    }
}

/// Whether a regular expression may match between two letters: where it is not known, it does.
fn may_match_nothing(pattern: &str) -> bool {
    pattern.contains(['*', '?', '^', '$', '|'])
        || pattern.contains("{0")
        || pattern.contains("{,")
        || pattern.contains('\\')
}

/// The table that a Precompiled normalizer begins with says how long it is, and so much is allocated.
fn check_charsmap(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("its precompiled_charsmap is empty; remove that normalizer".to_owned());
    }
    let bytes = text.trim_end_matches('=').len() / 4 * 3 + 2;
    match charsmap_table(text) {
        Some(length) if length % 4 == 0 && length + 4 <= bytes => Ok(()),
        _ => Err("its precompiled_charsmap is damaged: its table is longer than the whole".to_owned()),
    }
}

/// The length of the table, of which the first six letters of base64 hold four bytes.
fn charsmap_table(text: &str) -> Option<usize> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text
        .as_bytes()
        .first_chunk::<6>()?
        .iter()
        .try_fold(0u64, |bits, letter| Some(bits << 6 | LETTERS.iter().position(|one| one == letter)? as u64))?;
    usize::try_from(((bits >> 4) as u32).swap_bytes()).ok()
}

/// A merge's second part loses the prefix, byte by byte, whether or not it has it.
fn check_merges(json: &str, prefix: &str) -> Result<(), String> {
    let merges: Merges = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let second = |merge: &'_ Merge| match merge {
        Merge::Pair(_, second) => second.clone(),
        Merge::Line(line) => line.split_once(' ').map_or(String::new(), |(_, second)| second.to_owned()),
    };
    match merges.model.merges.iter().map(second).find(|second| !second.starts_with(prefix)) {
        Some(second) => {
            Err(format!("it merges `{second}`, which does not begin with continuing_subword_prefix `{prefix}`"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_models_have_is_taken() {
        for normalizer in [
            r#"null"#,
            r#"{"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]}"#,
            r#"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}"#,
            r#"{"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]}"#,
        ] {
            let json = format!(
                r#"{{"normalizer": {normalizer}, "model": {{"type": "BPE", "continuing_subword_prefix": "", "merges": ["a b"]}}}}"#
            );
            assert_eq!(check(&json), Ok(()), "{normalizer}");
        }
    }

    #[test]
    fn tables_of_charsmaps_are_measured() {
        // The bytes 4, 0, 0, 0, then four of the table.
        assert_eq!(charsmap_table("BAAAAAECAwQ="), Some(4));
        assert_eq!(check_charsmap("BAAAAAECAwQ="), Ok(()));
        assert!(check_charsmap("DAAAAAECAwQ=").is_err() && check_charsmap("BA").is_err());
    }

    #[test]
    fn what_would_take_memory_or_panic_is_refused() {
        let replace =
            format!(r#"{{"type": "Replace", "pattern": {{"String": "a"}}, "content": "{}"}}"#, "a".repeat(50));
        for (json, said) in [
            (
                format!(r#"{{"normalizer": {{"type": "Sequence", "normalizers": [{replace}, {replace}]}}}}"#),
                "2500 times",
            ),
            (r#"{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////fw=="}}"#.to_owned(), "damaged"),
            (r#"{"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}}"#.to_owned(), "empty"),
            (r#"{"model": {"continuing_subword_prefix": "\u2581", "merges": [["a", "b"]]}}"#.to_owned(), "merges `b`"),
            (r#"{"model": {"continuing_subword_prefix": "@", "merges": ["a @b", "a"]}}"#.to_owned(), "merges ``"),
            (
                r#"{"model": {"max_input_chars_per_word": 9223372036854775807}}"#.to_owned(),
                "9223372036854775807 letters",
            ),
            (format!(r#"{{"post_processor": [{}]}}"#, vec!["0"; 3000].join(",")), "3001 parts"),
            (
                format!(r#"{{"normalizer": {{"normalizers": [{}]}}}}"#, vec![r#"{"type": "NFC"}"#; 70].join(",")),
                "72 steps",
            ),
            (r#"{"decoder""#.to_owned(), "EOF"),
        ] {
            let error = check(&json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
