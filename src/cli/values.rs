//! Values of flags: names with a line of help each, numbers with bounds.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clip_onnx::config::{Dialect, known};
use clip_onnx::engine::EngineKind;
use clip_onnx::layout::Layout;
use clip_onnx::modality::Modality;
use clip_onnx::onnx::target::{PROFILES, Profile};
use clip_onnx::pipeline::TokenType;
use clip_onnx::precision::Precision;
use clip_onnx::providers::Provider;

/// Values by name, each with its line of help.
fn named<T: Clone + Send + Sync + 'static>(rows: Vec<(String, &'static str, T)>) -> impl TypedValueParser<Value = T> {
    let values = rows.iter().map(|(name, help, _)| PossibleValue::new(name.clone()).help(*help));
    PossibleValuesParser::new(values.collect::<Vec<_>>()).try_map(move |given| {
        let row = rows.iter().find(|(name, ..)| *name == given);
        row.map(|(.., value)| value.clone()).ok_or("not one of the values")
    })
}

/// A number of bytes, such as `4G`: K, M and G are powers of 1024.
///
/// # Errors
/// When it is none.
pub fn bytes(given: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes above 0, such as 4G or 512M".to_owned();
    let digits = given.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let shift = match given[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or_else(expected)
}

pub fn engine() -> impl TypedValueParser<Value = EngineKind> {
    named(EngineKind::ALL.map(|kind| (kind.name().to_owned(), engine_help(kind), kind)).to_vec())
}

fn engine_help(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Tract => "built in, one thread",
        EngineKind::OnnxRuntime => "needs --ort-lib or ORT_DYLIB_PATH",
    }
}

pub fn precision() -> impl TypedValueParser<Value = Precision> {
    named(Precision::ALL.map(|precision| (precision.name().to_owned(), precision.scheme().summary, precision)).to_vec())
}

pub fn provider() -> impl TypedValueParser<Value = Provider> {
    named(Provider::ALL.map(|provider| (provider.name().to_lowercase(), provider.summary(), provider)).to_vec())
}

pub fn layout() -> impl TypedValueParser<Value = Layout> {
    named(Layout::ALL.map(|layout| (layout.name().to_owned(), layout.summary(), layout)).to_vec())
}

pub fn target() -> impl TypedValueParser<Value = &'static Profile> {
    named(PROFILES.map(|profile| (profile.name.to_owned(), profile.runtimes, profile)).to_vec())
}

pub fn dialect() -> impl TypedValueParser<Value = Dialect> {
    let help = |dialect| match dialect {
        Dialect::Original => "the authors' code (big_vision, Apple)",
        Dialect::OpenClip => "open_clip's code",
        Dialect::Transformers => "transformers' code",
    };
    named(Dialect::ALL.map(|dialect| (dialect.to_string(), help(dialect), dialect)).to_vec())
}

pub fn modality() -> impl TypedValueParser<Value = Modality> {
    named(Modality::ALL.map(|tower| (tower.name().to_owned(), "", tower)).to_vec())
}

pub fn token_type() -> impl TypedValueParser<Value = TokenType> {
    named([TokenType::Int32, TokenType::Int64].map(|kind| (kind.name().to_owned(), "", kind)).to_vec())
}

/// Element type and axes of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageType {
    Float,
    Uint8,
    Uint8Nchw,
}

pub fn image_type() -> impl TypedValueParser<Value = ImageType> {
    named(vec![
        ("float".to_owned(), "preprocessed, float32 [batch_size, 3, H, W]", ImageType::Float),
        ("uint8".to_owned(), "decoded, [batch_size, H, W, 3 or 4]; alpha is dropped", ImageType::Uint8),
        ("uint8-nchw".to_owned(), "decoded, [batch_size, 3 or 4, H, W]; alpha is dropped", ImageType::Uint8Nchw),
    ])
}

/// An output besides the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraOutput {
    LastHiddenState,
    PatchTokens,
}

pub fn extra_output() -> impl TypedValueParser<Value = ExtraOutput> {
    named(vec![
        (
            "last_hidden_state".to_owned(),
            "every position of both towers' last block, as in transformers",
            ExtraOutput::LastHiddenState,
        ),
        ("patch_tokens".to_owned(), "every patch of an image after the last LayerNorm", ExtraOutput::PatchTokens),
    ])
}

/// Names of known models: completed by shells, and checked by the library, which suggests the closest one.
#[derive(Clone)]
pub struct ModelName;

impl TypedValueParser for ModelName {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(known().map(|config| PossibleValue::new(config.model.clone()))))
    }
}

pub fn drop(text: &str) -> Result<f64, String> {
    let drop = text.trim().parse::<f64>().ok().filter(|drop| *drop > 0.0 && *drop < 2.0);
    drop.ok_or_else(|| "expected how far a cosine may fall below 1, such as 0.01".to_owned())
}

pub fn image_size(text: &str) -> Result<[usize; 2], String> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let size = match text.split_once(['x', 'X']) {
        Some((height, width)) => number(height).zip(number(width)),
        None => number(text).map(|side| (side, side)),
    };
    size.map(|(height, width)| [height, width]).ok_or_else(|| "expected pixels as N or HEIGHTxWIDTH".to_owned())
}

pub fn batch(text: &str) -> Result<usize, String> {
    count(text, "a batch size")
}

pub fn threads(text: &str) -> Result<usize, String> {
    count(text, "a number of threads")
}

pub fn text_length(text: &str) -> Result<usize, String> {
    count(text, "a number of tokens")
}

fn count(text: &str, what: &str) -> Result<usize, String> {
    let count = text.trim().parse::<usize>().ok().filter(|n| (1..=1024).contains(n));
    count.ok_or_else(|| format!("expected {what} from 1 to 1024"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_sizes_are_height_by_width() {
        assert_eq!(image_size("224"), Ok([224, 224]));
        assert_eq!(image_size("384x256"), Ok([384, 256]));
        for wrong in ["", "0", "-1", "12x", "x", "1x2x3", "99999999999999999999"] {
            assert!(image_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let parsed = ["4G", "512m", "7", "1K"].map(|text| bytes(text).unwrap());
        assert_eq!(parsed, [4 << 30, 512 << 20, 7, 1 << 10]);
        for wrong in ["", "G", "0", "4GG", "-1", "1.5G", "99999999999999999999", "17179869184G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
