//! Settings of the library as flags, and errors as the one line that users read.

use clip_onnx::embed;
use clip_onnx::engine;
use clip_onnx::pipeline::{self, Setting};
use clip_onnx::verify;

use super::plain::message;

/// The flag of a setting; of those that are on where nothing is said, the flag that turns them off.
fn flag(setting: Setting) -> &'static str {
    match setting {
        Setting::Checkpoint => "the checkpoint",
        Setting::Model => "--model",
        Setting::Config => "--config",
        Setting::Dialect => "--dialect",
        Setting::WeightsPrefix => "--weights-prefix",
        Setting::Only => "--only",
        Setting::Adapter => "--adapter",
        Setting::ImageSize => "--image-size",
        Setting::Tokenizer => "--tokenizer",
        Setting::Folder => "--out",
        Setting::Replace => "--force",
        Setting::Hash => "--no-hash",
        Setting::ExternalData => "--external-data",
        Setting::Target => "--target",
        Setting::Opset => "--opset",
        Setting::Combined => "--combined",
        Setting::ZeroShot => "--labels",
        Setting::Batch => "--static",
        Setting::DynamicText => "--dynamic-text",
        Setting::Normalize => "--no-normalize",
        Setting::Pixels => "--image-type",
        Setting::Resize => "--resize",
        Setting::Tokens => "--token-type",
        Setting::Outputs => "--outputs",
        Setting::Precisions => "--precision",
        Setting::Exclude => "--exclude",
        Setting::AutoExclude => "--no-auto-exclude",
        Setting::ReduceRange => "--reduce-range",
        Setting::ZeroPoints => "--zero-points",
        Setting::Calibrate => "--calibrate",
        Setting::MaxDrop => "--max-drop",
        Setting::Layout => "--layout",
        Setting::Demo => "--demo",
        Setting::Verify => "--no-verify",
        Setting::Bench => "--bench",
        Setting::Engines => "--engine",
        Setting::Library => "--ort-lib",
        Setting::Reference => "--reference",
        Setting::Batches => "--batches",
        _ => "a setting",
    }
}

/// A sentence of the library with its settings spelled as flags.
pub fn spelled(text: &str) -> String {
    Setting::ALL.iter().fold(text.to_owned(), |text, setting| text.replace(&setting.to_string(), flag(*setting)))
}

/// An error, its causes and what would help, in one line.
pub fn error(error: &anyhow::Error) -> String {
    let remedy = error.chain().find_map(|cause| {
        let of_pipeline = cause.downcast_ref::<pipeline::Error>().and_then(pipeline::Error::remedy);
        let of_embed = || cause.downcast_ref::<embed::Error>().and_then(embed::Error::remedy);
        let of_verify = || cause.downcast_ref::<verify::Error>().and_then(verify::Error::remedy);
        let of_engine = || cause.downcast_ref::<engine::Error>().and_then(engine::Error::remedy);
        of_pipeline.or_else(of_embed).or_else(of_verify).or_else(of_engine)
    });
    let chain = format!("{error:#}");
    message(&spelled(&remedy.map_or(chain.clone(), |remedy| format!("{chain}; {remedy}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_spelled_as_flags() {
        let text = format!("{} and {} mobile", Setting::Batch, Setting::Target);
        assert_eq!(spelled(&text), "--static and --target mobile");
        let unspelled: Vec<_> = Setting::ALL.iter().filter(|setting| flag(**setting) == "a setting").collect();
        assert!(unspelled.is_empty(), "{unspelled:?}");
    }
}
