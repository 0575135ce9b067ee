//! Settings of an export by name, as errors speak of them. Programs spell them for their users.

use std::fmt;

/// One thing that a request may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    Checkpoint,
    Model,
    Config,
    Dialect,
    ImageSize,
    Tokenizer,
    Folder,
    Replace,
    Hash,
    ExternalData,
    Target,
    Opset,
    Combined,
    ZeroShot,
    Batch,
    DynamicText,
    Normalize,
    Pixels,
    Resize,
    Tokens,
    Outputs,
    Precisions,
    Exclude,
    AutoExclude,
    ReduceRange,
    ZeroPoints,
    Calibrate,
    MaxDrop,
    Layout,
    Demo,
    Verify,
    Bench,
    Engines,
    Library,
    Reference,
    Batches,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Setting] = &[
        Setting::Checkpoint,
        Setting::Model,
        Setting::Config,
        Setting::Dialect,
        Setting::ImageSize,
        Setting::Tokenizer,
        Setting::Folder,
        Setting::Replace,
        Setting::Hash,
        Setting::ExternalData,
        Setting::Target,
        Setting::Opset,
        Setting::Combined,
        Setting::ZeroShot,
        Setting::Batch,
        Setting::DynamicText,
        Setting::Normalize,
        Setting::Pixels,
        Setting::Resize,
        Setting::Tokens,
        Setting::Outputs,
        Setting::Precisions,
        Setting::Exclude,
        Setting::AutoExclude,
        Setting::ReduceRange,
        Setting::ZeroPoints,
        Setting::Calibrate,
        Setting::MaxDrop,
        Setting::Layout,
        Setting::Demo,
        Setting::Verify,
        Setting::Bench,
        Setting::Engines,
        Setting::Library,
        Setting::Reference,
        Setting::Batches,
    ];

    /// The field of the library, such as `graph.batch`.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Checkpoint => "source.checkpoint",
            Setting::Model => "source.model",
            Setting::Config => "ModelChoice::File",
            Setting::Dialect => "source.dialect",
            Setting::ImageSize => "source.image_size",
            Setting::Tokenizer => "source.tokenizer",
            Setting::Folder => "output.folder",
            Setting::Replace => "output.replace",
            Setting::Hash => "output.hash",
            Setting::ExternalData => "output.external_data",
            Setting::Target => "graph.target",
            Setting::Opset => "graph.target.opset",
            Setting::Combined => "Artifacts::Combined",
            Setting::ZeroShot => "Artifacts::ZeroShot",
            Setting::Batch => "graph.batch",
            Setting::DynamicText => "graph.dynamic_text",
            Setting::Normalize => "graph.normalize",
            Setting::Pixels => "graph.pixels",
            Setting::Resize => "PixelFormat::Bytes.resize",
            Setting::Tokens => "graph.tokens",
            Setting::Outputs => "graph.outputs",
            Setting::Precisions => "precision.precisions",
            Setting::Exclude => "precision.exclude",
            Setting::AutoExclude => "precision.auto_exclude",
            Setting::ReduceRange => "precision.reduce_range",
            Setting::ZeroPoints => "precision.zero_points",
            Setting::Calibrate => "precision.calibrate",
            Setting::MaxDrop => "precision.max_drop",
            Setting::Layout => "layout.layout",
            Setting::Demo => "layout.demo",
            Setting::Verify => "proof.verify",
            Setting::Bench => "proof.bench",
            Setting::Engines => "proof.engines",
            Setting::Library => "engines.library",
            Setting::Reference => "proof.reference",
            Setting::Batches => "proof.batches",
        }
    }
}

/// Its field, in backticks: what a program that has other names for settings replaces.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name())
    }
}
