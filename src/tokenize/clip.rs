//! CLIP's byte-pair encoding, built in: merges as OpenAI published them with CLIP
//! (`bpe_simple_vocab_16e6.txt`, MIT licence, © 2021 OpenAI), the 48 894 of them that the model knows.

use serde_json::{Value, json};

const MERGES: &str = include_str!("clip_merges.txt");

/// Words, as transformers finds them.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// As open_clip's case-insensitive pattern finds them in Python: only contractions depend on case, and the one mark whose
/// capital is a letter (a Greek subscript iota) matches no class.
#[cfg(feature = "embed")]
const WORDS_OF_ANY_CASE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{345}]+";

/// Spelling of the start and end tokens.
#[derive(Clone, Copy)]
pub enum Spelling {
    /// open_clip's, where such words in a sentence become these tokens.
    #[cfg(feature = "embed")]
    OpenClip,
    /// transformers', and every `tokenizer.json`'s.
    Transformers,
}

impl Spelling {
    fn marks(self) -> [&'static str; 2] {
        match self {
            #[cfg(feature = "embed")]
            Spelling::OpenClip => ["<start_of_text>", "<end_of_text>"],
            Spelling::Transformers => ["<|startoftext|>", "<|endoftext|>"],
        }
    }

    /// The pattern of words. JavaScript has no flag inside a pattern; transformers' is of lower case alone.
    fn words(self) -> &'static str {
        match self {
            #[cfg(feature = "embed")]
            Spelling::OpenClip => WORDS_OF_ANY_CASE,
            Spelling::Transformers => WORDS,
        }
    }

    /// This spelling of a token that may be the start or end token in the other.
    #[cfg(feature = "embed")]
    pub fn mark_of(self, token: &str) -> &str {
        let ours = Spelling::OpenClip.marks();
        ours.iter().position(|mark| *mark == token).map_or(token, |at| self.marks()[at])
    }
}

/// Entries of the vocabulary.
pub const SIZE: usize = 49408;

/// The characters that stand for bytes, in the order of the vocabulary.
fn bytes() -> Vec<char> {
    let visible = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let shown = (0..256u32).filter(visible);
    let others = (0..256u32).filter(|b| !visible(b)).enumerate().map(|(n, _)| 256 + n as u32);
    shown.chain(others).filter_map(char::from_u32).collect()
}

/// A `tokenizer.json` of it, of the form of those transformers loads.
pub fn tokenizer_json(spelling: Spelling) -> Value {
    let bytes = bytes();
    let merges = || MERGES.lines().filter_map(|line| line.split_once(' '));
    let marks = spelling.marks();
    let tokens = bytes
        .iter()
        .map(char::to_string)
        .chain(bytes.iter().map(|byte| format!("{byte}</w>")))
        .chain(merges().map(|(a, b)| format!("{a}{b}")))
        .chain(marks.map(str::to_owned));
    let vocab: serde_json::Map<String, Value> = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let words = spelling.words();
    let ids = [SIZE - 2, SIZE - 1];
    let mark = |at: usize| {
        json!({"id": ids[at], "content": marks[at], "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": true, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [mark(0), mark(1)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [marks[1], ids[1]], "cls": [marks[0], ids[0]],
                           "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": marks[1], "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges().map(|(a, b)| json!([a, b])).collect::<Vec<_>>()},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_whole() {
        let json = tokenizer_json(Spelling::Transformers);
        assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), SIZE);
        assert_eq!((bytes()[0], bytes()[255], bytes().len()), ('!', 'Ń', 256));
    }
}
