//! What does not go together, as a table: two settings, when, and why.

use super::Asked;
use crate::config::ModelConfig;
use crate::layout::{Layout, open_clip};
use crate::modality::Modality;
use crate::precision::Precision;
use crate::setting::Setting;
use crate::towers;

/// When two settings do not go together.
pub(super) enum When {
    /// Whenever both are given.
    Always,
    /// Where this holds too.
    If(fn(&Asked) -> bool),
}

/// Two settings that do not go together.
pub(super) struct Conflict {
    pub(super) a: Setting,
    pub(super) b: Setting,
    pub(super) when: When,
    pub(super) reason: &'static str,
    /// What would make it possible: how, and by which setting.
    pub(super) instead: Option<Instead>,
}

/// A way out other than to leave something out: how, and by which setting.
pub type Instead = (&'static str, Setting);

const fn conflict(a: Setting, b: Setting, reason: &'static str) -> Conflict {
    Conflict { a, b, when: When::Always, reason, instead: None }
}

const fn conflict_if(a: Setting, b: Setting, when: fn(&Asked) -> bool, reason: &'static str) -> Conflict {
    Conflict { a, b, when: When::If(when), reason, instead: None }
}

/// What does not go together with NaFlex, which takes patches.
const fn naflex(a: Setting, reason: &'static str) -> Conflict {
    let instead = Some(("freeze the size of its images with", Setting::ImageSize));
    Conflict { a, b: Setting::Model, when: When::If(|asked| asked.is_naflex()), reason, instead }
}

/// What has no effect on the precisions that are asked for.
const fn unused(b: Setting, when: fn(&Asked) -> bool, reason: &'static str) -> Conflict {
    let instead = Some(("ask for another precision with", Setting::Precisions));
    Conflict { a: Setting::Precisions, b, when: When::If(when), reason, instead }
}

/// All pairs, in the order in which they are looked at. [`Setting::Target`] is given where the target fixes every axis,
/// [`Setting::Layout`] where it is not [`Layout::Plain`], [`Setting::Model`] where the model is known.
pub(super) const CONFLICTS: &[Conflict] = &[
    conflict(Setting::Batch, Setting::DynamicText, "one fixes every axis, the other leaves the length of texts free"),
    conflict(Setting::Target, Setting::DynamicText, "one fixes every axis, the other leaves the length of texts free"),
    conflict(Setting::Batch, Setting::Resize, "one fixes every axis, the other leaves height and width free"),
    conflict(Setting::Target, Setting::Resize, "one fixes every axis, the other leaves height and width free"),
    conflict(Setting::Batch, Setting::Calibrate, "calibration runs batches of several sizes"),
    conflict(
        Setting::Target,
        Setting::Calibrate,
        "calibration runs batches of several sizes, and the target fixes one",
    ),
    conflict(Setting::Batch, Setting::MaxDrop, "cosines are measured in batches of several sizes"),
    conflict(
        Setting::Target,
        Setting::MaxDrop,
        "cosines are measured in batches of several sizes, and the target fixes one",
    ),
    conflict(Setting::Normalize, Setting::Combined, "logits compare embeddings, which are normalised"),
    conflict(
        Setting::Normalize,
        Setting::ZeroShot,
        "labels and images are compared by embeddings, which are normalised",
    ),
    conflict_if(
        Setting::Normalize,
        Setting::Layout,
        |asked| asked.layout().normalizes() == Some(true),
        "its runtime takes normalised embeddings",
    ),
    conflict(Setting::Verify, Setting::Reference, "nothing is run that could be compared"),
    conflict(Setting::Verify, Setting::Batches, "nothing is run"),
    conflict(Setting::Verify, Setting::Bench, "nothing is run that could be timed"),
    conflict_if(Setting::Verify, Setting::Engines, |asked| !asked.request.runs(), "nothing is run"),
    conflict_if(Setting::Verify, Setting::Library, |asked| !asked.request.runs(), "nothing is run"),
    unused(
        Setting::Exclude,
        |asked| asked.none_is(|p| !matches!(p, Precision::Fp32 | Precision::Fp16)),
        "no layer of it can stay in higher precision",
    ),
    unused(
        Setting::AutoExclude,
        |asked| asked.none_is(Precision::is_quantized),
        "no layer of it is kept in higher precision",
    ),
    unused(Setting::ReduceRange, |asked| asked.none_is(|p| p == Precision::Int8), "it is for int8"),
    unused(
        Setting::ZeroPoints,
        |asked| asked.none_is(|p| matches!(p, Precision::Int4 | Precision::Int4Fp16)),
        "it is for int4",
    ),
    unused(Setting::Calibrate, |asked| asked.none_is(Precision::is_quantized), "it has no scales to calibrate"),
    unused(Setting::MaxDrop, |asked| asked.none_is(|p| p != Precision::Fp32), "float32 loses nothing"),
    conflict_if(
        Setting::Batch,
        Setting::Batches,
        |asked| asked.request.graph.batch.is_some_and(|rows| asked.request.proof.batch_sizes() != [rows]),
        "the files take no other number of rows",
    ),
    conflict_if(
        Setting::Target,
        Setting::Batches,
        |asked| asked.request.proof.batch_sizes() != [1],
        "the target fixes one row",
    ),
    conflict(Setting::Combined, Setting::Calibrate, "activations of both towers in one file are not measured"),
    conflict(Setting::Combined, Setting::MaxDrop, "both towers in one file are not measured as one"),
    conflict(Setting::ZeroShot, Setting::Tokens, "its labels are inside, it takes no tokens"),
    conflict(Setting::ZeroShot, Setting::DynamicText, "its labels are inside, it takes no tokens"),
    conflict(Setting::Demo, Setting::Combined, "the page takes two towers"),
    conflict(Setting::Demo, Setting::ZeroShot, "the page takes two towers"),
    conflict_if(
        Setting::Combined,
        Setting::Layout,
        |asked| !matches!(asked.layout(), Layout::Hf | Layout::OpenClip),
        "it has no place for one file with both towers",
    ),
    conflict(Setting::ZeroShot, Setting::Layout, "it has no place for a classifier"),
    conflict(Setting::Outputs, Setting::Combined, "it has outputs of its own"),
    conflict(Setting::Outputs, Setting::ZeroShot, "it has outputs of its own"),
    conflict_if(
        Setting::Outputs,
        Setting::Layout,
        |asked| !matches!(asked.layout(), Layout::Hf | Layout::OpenClip),
        "its runtime says which outputs there are",
    ),
    conflict_if(
        Setting::Resize,
        Setting::Layout,
        |asked| asked.feeds_other_pixels(),
        "its runtime feeds images of one size",
    ),
    conflict_if(
        Setting::Pixels,
        Setting::Layout,
        |asked| asked.feeds_other_pixels(),
        "its runtime feeds images in its own form",
    ),
    conflict_if(Setting::Tokens, Setting::Layout, |asked| asked.feeds_other_tokens(), "its runtime feeds int32"),
    Conflict {
        a: Setting::Resize,
        b: Setting::Opset,
        when: When::If(|asked| !asked.request.graph.target.can_resize()),
        reason: "resizing that averages pixels begins with opset 18",
        instead: Some(("choose a later one with", Setting::Opset)),
    },
    naflex(
        Setting::Layout,
        "the model takes patches, their mask and positions, which the layout's runtime does not make",
    ),
    naflex(Setting::Batch, "the model takes any number of patches, whatever the batch"),
    naflex(Setting::Target, "the target fixes every axis, and the model takes any number of patches"),
    naflex(Setting::Demo, "the model takes patches, which the page does not make"),
    naflex(Setting::Resize, "the model takes patches, no images"),
    naflex(Setting::Pixels, "the model takes patches, no images"),
];

/// Why two settings do not go together for a model, where they do not.
pub(super) type OfModel = fn(&Asked, &ModelConfig) -> Option<String>;

/// Which of these towers a model has not.
fn without(config: &ModelConfig, needed: &[Modality]) -> Option<String> {
    let missing = needed.iter().find(|tower| !config.has(**tower))?;
    Some(format!("there is no {missing} tower"))
}

/// Rules whose reason depends on the model: two settings that do not go together, and why, if so.
pub(super) const OF_MODELS: &[(Setting, Setting, OfModel)] = &[
    (Setting::Combined, Setting::Model, |_, config| without(config, &Modality::ALL)),
    (Setting::ZeroShot, Setting::Model, |_, config| without(config, &Modality::ALL)),
    (Setting::Demo, Setting::Model, |_, config| without(config, &Modality::ALL)),
    (Setting::Layout, Setting::Model, |asked, config| match asked.layout() {
        Layout::Plain | Layout::Hf => None,
        Layout::Immich | Layout::ImmichUint8 | Layout::ClipAsService | Layout::OpenClip => {
            without(config, &Modality::ALL)
        }
    }),
    (Setting::DynamicText, Setting::Model, |_, config| without(config, &[Modality::Text])),
    (Setting::Tokens, Setting::Model, |_, config| without(config, &[Modality::Text])),
    (Setting::Tokenizer, Setting::Model, |_, config| without(config, &[Modality::Text])),
    (Setting::Pixels, Setting::Model, |_, config| without(config, &[Modality::Image])),
    (Setting::Resize, Setting::Model, |_, config| without(config, &[Modality::Image])),
    (Setting::Layout, Setting::Model, |asked, config| match asked.layout() {
        Layout::OpenClip => open_clip::hub_config(config).err(),
        _ => None,
    }),
    (Setting::Layout, Setting::Model, |asked, config| {
        let (layout, model) = (asked.layout(), &config.model);
        layout.lacks(config).map(|what| format!("{} does not know {what}, which {model} needs", layout.name()))
    }),
    (Setting::Resize, Setting::Model, |_, config| towers::cannot_resize(config)),
];
