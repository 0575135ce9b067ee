//! clip-as-service (clip-server 0.8), which runs a folder instead of a model it knows by name, and preprocesses
//! photographs and sentences as it does for that model.

use crate::config::{self, Interpolation, ModelConfig, PreprocessCfg, ResizeMode};
use crate::setting::Setting;
use crate::tokenize;

/// Tokens of a sentence.
const CONTEXT: usize = 77;
/// Image sizes of the models it knows, in pixels.
const SIZES: [usize; 6] = [224, 240, 288, 336, 384, 448];

/// In what its preprocessing differs from the model's; None where it does not.
pub fn misfed(config: &ModelConfig) -> Option<String> {
    let [mean, std] = &config.preprocess_cfg.of_unit_range();
    let PreprocessCfg { interpolation, resize_mode, resize_to, longest_edge, .. } = &config.preprocess_cfg;
    let side = config.image_size().filter(|[height, width]| height == width).map(|[side, _]| side);
    let differs = [
        ("vocabulary", !tokenize::built_in(config)),
        ("context length", config.text_cfg.as_ref().is_none_or(|text| text.context_length != CONTEXT)),
        ("image size", side.is_none_or(|side| !SIZES.contains(&side))),
        ("mean and deviation", (mean, std) != (&config::CLIP_MEAN, &config::CLIP_STD)),
        (
            "resizing",
            (interpolation, resize_mode) != (&Interpolation::Bicubic, &ResizeMode::Shortest)
                || resize_to.is_some()
                || longest_edge.is_some(),
        ),
    ];
    let differs: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect();
    (!differs.is_empty()).then(|| {
        format!(
            "clip-as-service feeds what OpenAI's CLIP takes, and {} has another {}; for other runtimes take another {}",
            config.model,
            differs.join(", another "),
            Setting::Layout
        )
    })
}
