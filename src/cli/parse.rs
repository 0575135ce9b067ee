//! Values of flags.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clip_onnx::config::Dialect;
use clip_onnx::engine::EngineKind;
use clip_onnx::layout::Layout;
use clip_onnx::onnx::target::{PROFILES, Profile};
use clip_onnx::pipeline::TokenType;
use clip_onnx::precision::Precision;
use clip_onnx::providers::Provider;

pub fn engine_parser() -> impl TypedValueParser<Value = EngineKind> {
    let names = PossibleValuesParser::new(EngineKind::ALL.map(EngineKind::name));
    names.try_map(|name| EngineKind::parse(&name).ok_or("expected the name of an engine"))
}

pub fn parse_precision(text: &str) -> Result<Precision, String> {
    let names: Vec<&str> = Precision::ALL.iter().map(|precision| precision.name()).collect();
    Precision::parse(text).ok_or_else(|| format!("expected {}", names.join(", ")))
}

pub fn parse_drop(text: &str) -> Result<f64, String> {
    let drop = text.trim().parse::<f64>().ok().filter(|drop| *drop > 0.0 && *drop < 2.0);
    drop.ok_or_else(|| "expected how far a cosine may fall below 1, such as 0.01".to_owned())
}

pub fn parse_provider(text: &str) -> Result<Provider, String> {
    let names: Vec<String> = Provider::ALL.iter().map(|provider| provider.name().to_lowercase()).collect();
    Provider::parse(text).ok_or_else(|| format!("expected {}", names.join(", ")))
}

pub fn parse_layout(text: &str) -> Result<Layout, String> {
    let names: Vec<&str> = Layout::ALL.iter().map(|layout| layout.name()).collect();
    Layout::parse(text).ok_or_else(|| format!("expected {}", names.join(", ")))
}

pub fn parse_profile(text: &str) -> Result<&'static Profile, String> {
    let found = PROFILES.into_iter().find(|profile| profile.name == text);
    found.ok_or_else(|| format!("expected {}", PROFILES.map(|profile| profile.name).join(", ")))
}

pub fn parse_dialect(text: &str) -> Result<Dialect, String> {
    Dialect::parse(text).ok_or_else(|| "expected `original`, `open_clip` or `transformers`".to_owned())
}

pub fn parse_tokens_type(text: &str) -> Result<TokenType, String> {
    let found = [TokenType::Int32, TokenType::Int64].into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| "expected int32 or int64".to_owned())
}

pub fn parse_image_size(text: &str) -> Result<[usize; 2], String> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let size = match text.split_once(['x', 'X']) {
        Some((height, width)) => number(height).zip(number(width)),
        None => number(text).map(|side| (side, side)),
    };
    size.map(|(height, width)| [height, width]).ok_or_else(|| "expected pixels as N or HEIGHTxWIDTH".to_owned())
}

pub fn parse_batch(text: &str) -> Result<usize, String> {
    parse_count(text, "a batch size")
}

pub fn parse_threads(text: &str) -> Result<usize, String> {
    parse_count(text, "a number of threads")
}

pub fn parse_tokens(text: &str) -> Result<usize, String> {
    parse_count(text, "a number of tokens")
}

fn parse_count(text: &str, what: &str) -> Result<usize, String> {
    let count = text.trim().parse::<usize>().ok().filter(|n| (1..=1024).contains(n));
    count.ok_or_else(|| format!("expected {what} from 1 to 1024"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_sizes_are_height_by_width() {
        assert_eq!(parse_image_size("224"), Ok([224, 224]));
        assert_eq!(parse_image_size("384x256"), Ok([384, 256]));
        for wrong in ["", "0", "-1", "12x", "x", "1x2x3", "99999999999999999999"] {
            assert!(parse_image_size(wrong).is_err(), "{wrong}");
        }
    }
}
