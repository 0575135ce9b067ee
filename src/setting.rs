//! Settings of an export by name, as errors speak of them. Programs spell them for their users.

use std::fmt;

/// One thing that a request may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// Path of the checkpoint.
    Checkpoint,
    /// Name of a built-in model.
    Model,
    /// Configuration file of the model.
    Config,
    /// Library whose numbers are followed.
    Dialect,
    /// Start of the names of the model's tensors, where a checkpoint holds several models.
    WeightsPrefix,
    /// The one tower that is exported of two.
    Only,
    /// LoRA adapters that are merged into the weights.
    Adapter,
    /// Height and width of images, in pixels.
    ImageSize,
    /// The model's `tokenizer.json`.
    Tokenizer,
    /// Output folder.
    Folder,
    /// Whether an earlier export is replaced.
    Replace,
    /// Whether SHA-256 sums are computed.
    Hash,
    /// Whether weights always go to files of their own.
    ExternalData,
    /// Profile of runtimes.
    Target,
    /// ONNX operator set version.
    Opset,
    /// Both towers in one graph, with logits.
    Combined,
    /// A classifier with the embeddings of labels as constants.
    ZeroShot,
    /// Fixed batch size.
    Batch,
    /// Texts of any length up to the context.
    DynamicText,
    /// Whether embeddings are L2-normalized in the graph.
    Normalize,
    /// Format of image inputs.
    Pixels,
    /// Whether the graph resizes images.
    Resize,
    /// Element type of token ids.
    Tokens,
    /// Outputs besides embeddings.
    Outputs,
    /// Precisions to write.
    Precisions,
    /// Layers that stay in higher precision, by parts of their names.
    Exclude,
    /// Whether layers that lose much more than the others stay in higher precision.
    AutoExclude,
    /// int8 weights between −63 and 63, for x86 CPUs without VNNI.
    ReduceRange,
    /// Whether blocks of int4 weights have zero points.
    ZeroPoints,
    /// Images and texts that activations are measured with.
    Calibrate,
    /// Largest loss of cosine in other precisions than float32.
    MaxDrop,
    /// Names of files, inputs and outputs, as a runtime expects them.
    Layout,
    /// A web page that classifies photographs with the export.
    Demo,
    /// Whether files are loaded and run after writing.
    Verify,
    /// Whether files are timed.
    Bench,
    /// Engines that run files.
    Engines,
    /// ONNX Runtime's shared library.
    Library,
    /// Reference embeddings to compare with.
    Reference,
    /// Batch sizes to verify at.
    Batches,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Setting] = &[
        Setting::Checkpoint,
        Setting::Model,
        Setting::Config,
        Setting::Dialect,
        Setting::WeightsPrefix,
        Setting::Only,
        Setting::Adapter,
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
            Setting::WeightsPrefix => "source.weights_prefix",
            Setting::Only => "source.only",
            Setting::Adapter => "source.adapters",
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
