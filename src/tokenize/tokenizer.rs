//! The tokenizer of a model: its rows of ids, with start, end and padding.

use std::path::Path;

use super::clip::{self, Spelling};
use super::trusted::{self, SENTENCE};
use super::{Error, built_in, json};
use crate::config::{Clean, Dialect, ModelConfig, TextCfg};
use crate::guard::guarded;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    clean: Clean,
    /// Ids of a row.
    context: usize,
    sot: Option<i64>,
    eot: i64,
    pad: i64,
    /// Ids the model has rows for.
    vocabulary: usize,
    /// The tokenizer's path and the model, for error messages.
    name: (String, String),
}

/// End tokens of existing vocabularies.
const ENDS: [&str; 4] = ["</s>", "<eos>", "<|endoftext|>", "<end_of_text>"];

/// Whether a `tokenizer.json` puts a model's start token before texts, and its end token behind them; None where it
/// cannot be read.
pub fn adds(json: &serde_json::Value, text: &TextCfg) -> Option<(bool, bool)> {
    let inner = parse(&json.to_string()).ok()?;
    let encoded = guarded(|| inner.encode("a", true)).ok()?.ok()?;
    let ids: Vec<i64> = encoded.get_ids().iter().map(|&id| i64::from(id)).collect();
    Some((ids.first().copied() == text.sot_id, ids.last() == Some(&text.eot_id)))
}

/// Reads a `tokenizer.json`; panics of the crate that reads it become errors.
fn parse(text: &str) -> Result<tokenizers::Tokenizer, String> {
    trusted::check(text)?;
    // By `FromStr`, whose code is compiled in the tokenizers crate; its generic functions would be compiled here.
    let parsed = guarded(|| text.parse().map_err(|e: tokenizers::Error| e.to_string())).unwrap_or_else(Err);
    parsed.map(|mut tokenizer: tokenizers::Tokenizer| {
        // Rows are truncated and padded by the model's own rules.
        let _ = tokenizer.with_truncation(None);
        tokenizer.with_padding(None);
        tokenizer
    })
}

impl Tokenizer {
    /// Of a model: from `file` where one is named, else built in.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Read`], or [`Error::Unfit`] when the file is another model's.
    pub fn new(config: &ModelConfig, file: Option<&Path>) -> Result<Tokenizer, Error> {
        let (Some(of), Some(clean)) = (&config.text_cfg, config.clean()) else {
            return Err(Error::NoTexts { model: config.model.clone() });
        };
        let (path, text) = match file {
            Some(path) => (path.display().to_string(), json(Some(path))?),
            None if built_in(config) => {
                let spelling =
                    if config.dialect == Dialect::Transformers { Spelling::Transformers } else { Spelling::OpenClip };
                ("CLIP's tokenizer".to_owned(), clip::tokenizer_json(spelling).to_string())
            }
            None => return Err(Error::Missing { model: config.model.clone() }),
        };
        let inner = parse(&text).map_err(|reason| Error::Read { path: path.clone(), reason })?;
        let text = of;
        let unfit = |reason: String| Error::Unfit { path: path.clone(), model: config.model.clone(), reason };
        let found = inner.get_vocab_size(true);
        // mT5's vocabulary has a hundred entries for training that no model has rows for.
        if found > text.vocab_size + text.vocab_size / 100 + 256 {
            return Err(unfit(format!("it has {found} entries, the model has rows for {}", text.vocab_size)));
        }
        let ends: Vec<i64> = ENDS.iter().filter_map(|end| inner.token_to_id(end)).map(i64::from).collect();
        if !ends.is_empty() && !ends.contains(&text.eot_id) {
            return Err(unfit(format!("it ends sentences with id {}, the model's end with {}", ends[0], text.eot_id)));
        }
        Ok(Tokenizer {
            inner,
            clean,
            context: text.context_length,
            sot: text.sot_id,
            eot: text.eot_id,
            pad: text.pad_id,
            vocabulary: text.vocab_size,
            name: (path, config.model.clone()),
        })
    }

    /// The token of an id.
    pub fn token(&self, id: i64) -> Option<String> {
        let token = self.inner.id_to_token(u32::try_from(id).ok()?)?;
        // CLIP's special tokens in the spelling of transformers' files.
        Some(clip::Spelling::Transformers.mark_of(&token).to_owned())
    }

    /// Ids of a row.
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// A row of ids: start where there is one, the sentence, end, padding. A sentence that is too long is truncated, and
    /// ends with the end token all the same.
    ///
    /// # Errors
    /// [`Error::Encode`]; [`Error::Unfit`] for an id the model has no row for.
    pub fn row(&self, sentence: &str) -> Result<Vec<i64>, Error> {
        Ok(self.row_and_cut(sentence)?.0)
    }

    /// The same, and whether the sentence was truncated.
    ///
    /// # Errors
    /// As [`Tokenizer::row`].
    pub fn row_and_cut(&self, sentence: &str) -> Result<(Vec<i64>, bool), Error> {
        if sentence.len() > SENTENCE {
            return Err(Error::Encode(format!("it has {} bytes; expected at most {SENTENCE}", sentence.len())));
        }
        let encode = || self.inner.encode(self.clean.apply(sentence).as_ref(), false);
        let encoded = guarded(encode).map_err(Error::Encode)?.map_err(|e| Error::Encode(e.to_string()))?;
        let ids = encoded.get_ids().iter().map(|&id| i64::from(id));
        let mut row: Vec<i64> = self.sot.into_iter().chain(ids).collect();
        let cut = row.len() >= self.context;
        row.truncate(self.context.saturating_sub(1));
        row.push(self.eot);
        row.resize(self.context, self.pad);
        match row.iter().find(|&&id| id >= self.vocabulary as i64) {
            Some(id) => Err(Error::Unfit {
                path: self.name.0.clone(),
                model: self.name.1.clone(),
                reason: format!("it gives the id {id} in `{sentence}`, the model has rows for {}", self.vocabulary),
            }),
            None => Ok((row, cut)),
        }
    }
}
