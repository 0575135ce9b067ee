//! What is asked of an export, in groups: each step of the work is handed its own group or what was resolved from it.

use std::path::{Path, PathBuf};

use super::labels::ZeroShot;
use crate::config::{Dialect, ModelConfig};
use crate::engine::Engines;
use crate::layout::Layout;
use crate::modality::Modality;
use crate::onnx::Target;
use crate::onnx::target::Profile;
use crate::ports::PixelFormat;
use crate::precision::Precision;
use crate::verify;

/// A checkpoint to export, and how. Built with [`Export::new`] and the methods below, or field by field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Export {
    /// What is exported.
    pub source: Source,
    /// Where files go.
    pub output: Output,
    /// What graphs take, compute and give.
    pub graph: GraphOptions,
    /// Precisions of the weights, and how they are quantized.
    pub precision: PrecisionOptions,
    /// Names and folders that the files' runtime expects.
    pub layout: LayoutOptions,
    /// What is run after writing.
    pub proof: ProofOptions,
}

/// Where the weights are, and of which model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Source {
    /// A file as published, the index of a sharded checkpoint, or a folder that holds one of them.
    pub checkpoint: PathBuf,
    /// Which model it is, or that it is to be detected.
    pub model: ModelChoice,
    /// Whose numbers to follow; those of the naming the file has where nothing is said.
    pub dialect: Option<Dialect>,
    /// Start of the names of the model's tensors, where the checkpoint holds several models.
    pub weights_prefix: Option<String>,
    /// The one tower that is exported of two.
    pub only: Option<Modality>,
    /// Folders of LoRA adapters by PEFT, which are merged into the weights in this order.
    pub adapters: Vec<PathBuf>,
    /// Height and width in pixels to build for instead of the model's own. NaFlex becomes a ViT of that size.
    pub image_size: Option<[usize; 2]>,
    /// The model's `tokenizer.json`, where its vocabulary is not built in.
    pub tokenizer: Option<PathBuf>,
}

/// How the model of a checkpoint is chosen.
#[derive(Clone, Debug, Default)]
pub enum ModelChoice {
    /// From what the checkpoint records, the configuration in its folder, or names and shapes.
    #[default]
    Detect,
    /// A known model, by name.
    Named(String),
    /// A configuration file.
    File(PathBuf),
    /// A configuration in memory.
    Given(Box<ModelConfig>),
}

/// What is written, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// The folder to write, whole or not at all.
    pub folder: PathBuf,
    /// Replace the folder where it is an export of this tool.
    pub replace: bool,
    /// Compute the SHA-256 of the checkpoint and of every file, and check the checkpoint's own sums.
    pub hash: bool,
    /// Weights in an external data file, whatever their size.
    pub external_data: bool,
}

/// Which files there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Artifacts {
    /// `vision_model.onnx` and `text_model.onnx`.
    #[default]
    Towers,
    /// `model.onnx`: both towers and their logits.
    Combined,
    /// `classifier.onnx`: the image tower, and the probability of each of these labels.
    ZeroShot(ZeroShot),
}

impl Artifacts {
    /// What manifests call it.
    pub fn name(&self) -> &'static str {
        match self {
            Artifacts::Towers => "towers",
            Artifacts::Combined => "combined",
            Artifacts::ZeroShot(_) => "classifier",
        }
    }
}

/// Element type of token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// int32.
    Int32,
    /// int64.
    Int64,
}

impl TokenType {
    /// What flags and manifests call it.
    pub fn name(self) -> &'static str {
        match self {
            TokenType::Int32 => "int32",
            TokenType::Int64 => "int64",
        }
    }
}

/// Outputs besides embeddings. With them the last block is computed for all positions, and texts are not cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtraOutputs {
    /// `last_hidden_state`: every position of both towers' last block.
    pub hidden: bool,
    /// `patch_tokens`: every patch of an image, after the last LayerNorm.
    pub patches: bool,
}

/// Savings of the graph that change numbers by no more than rounding. Each can be turned off, to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savings {
    /// Training-time branches, BatchNorms, layer scales and the attention scale are folded into weights.
    pub fold: bool,
    /// The last block is computed for the pooled position alone.
    pub last_block: bool,
    /// The query of the MAP head, a constant, is folded into its keys.
    pub map_query: bool,
    /// Causal text is cut behind the batch's last end token, where the target allows lengths that depend on data.
    pub text_cut: bool,
    /// Depthwise convolutions with several outputs a channel become plain ones over repeated channels.
    pub plain_depthwise: bool,
}

impl Default for Savings {
    fn default() -> Savings {
        Savings { fold: true, last_block: true, map_query: true, text_cut: true, plain_depthwise: true }
    }
}

/// How graphs are written, and what they take and give.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GraphOptions {
    /// Runtimes the files are for, and the operator set.
    pub target: Target,
    /// Which graphs are written: towers, both in one file, or a zero-shot classifier.
    pub artifacts: Artifacts,
    /// Rows of every input and output, where that is fixed.
    pub batch: Option<usize>,
    /// Texts of any length up to the context: `input_ids [batch_size, sequence_length]`.
    pub dynamic_text: bool,
    /// L2-normalise embeddings inside; as the layout has it where nothing is said, else yes.
    pub normalize: Option<bool>,
    /// How images come; as the layout has it where nothing is said.
    pub pixels: Option<PixelFormat>,
    /// Element type of token ids; as layout and target have it where nothing is said.
    pub tokens: Option<TokenType>,
    /// Outputs besides embeddings.
    pub outputs: ExtraOutputs,
    /// Which optimizations are made.
    pub savings: Savings,
}

/// Precisions of the files, and how weights are quantised.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrecisionOptions {
    /// Each graph is written once in each of these.
    pub precisions: Vec<Precision>,
    /// Layers whose names contain one of these stay in higher precision.
    pub exclude: Vec<String>,
    /// Layers that lose much more than the others stay in higher precision too.
    pub auto_exclude: bool,
    /// int8 weights between −63 and 63, for x86 CPUs without VNNI.
    pub reduce_range: bool,
    /// Blocks of int4 have zero points.
    pub zero_points: bool,
    /// Inputs to calibrate with, in the form of a reference (`.npz`).
    pub calibrate: Option<PathBuf>,
    /// How far below 1 cosines with float32 may be; layers are excluded until it holds.
    pub max_drop: Option<f64>,
}

/// float32 alone.
impl Default for PrecisionOptions {
    fn default() -> PrecisionOptions {
        PrecisionOptions {
            precisions: vec![Precision::Fp32],
            exclude: vec![],
            auto_exclude: true,
            reduce_range: false,
            zero_points: false,
            calibrate: None,
            max_drop: None,
        }
    }
}

/// Whose folder it is, and what goes with the files.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LayoutOptions {
    /// Names and folders of the files.
    pub layout: Layout,
    /// A page that classifies photographs in a browser, and what it needs.
    pub demo: bool,
}

/// What is run to prove the files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProofOptions {
    /// Load and run what was written.
    pub verify: bool,
    /// Time it too.
    pub bench: bool,
    /// What files are run with, for proof, calibration and the embeddings of labels.
    pub engines: Engines,
    /// Embeddings by the authors' code (`.npz`).
    pub reference: Option<PathBuf>,
    /// Batch sizes to run at; [`verify::BATCHES`] where nothing is said.
    pub batches: Option<Vec<usize>>,
}

impl ProofOptions {
    /// Batch sizes to run at.
    pub fn batch_sizes(&self) -> &[usize] {
        self.batches.as_deref().unwrap_or(&verify::BATCHES)
    }
}

impl Export {
    /// Both towers of a checkpoint into a folder, in float32, verified.
    pub fn new(checkpoint: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Export {
        Export {
            source: Source::new(checkpoint),
            output: Output { folder: folder.into(), replace: false, hash: true, external_data: false },
            graph: GraphOptions::default(),
            precision: PrecisionOptions::default(),
            layout: LayoutOptions { layout: Layout::Plain, demo: false },
            proof: ProofOptions {
                verify: true,
                bench: false,
                engines: Engines::default(),
                reference: None,
                batches: None,
            },
        }
    }

    /// Of this model instead of the one that is found.
    #[must_use]
    pub fn model(mut self, model: ModelChoice) -> Export {
        self.source.model = model;
        self
    }

    /// In these precisions, one file of each.
    #[must_use]
    pub fn precisions(mut self, precisions: impl IntoIterator<Item = Precision>) -> Export {
        self.precision.precisions = precisions.into_iter().collect();
        self
    }

    /// For the runtimes of this profile, in its default operator set.
    #[must_use]
    pub fn target(mut self, profile: &'static Profile) -> Export {
        self.graph.target = Target::new(profile);
        self
    }

    /// As a folder of this layout.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Export {
        self.layout.layout = layout;
        self
    }

    /// Compared with these embeddings (`.npz`).
    #[must_use]
    pub fn reference(mut self, file: impl AsRef<Path>) -> Export {
        self.proof.reference = Some(file.as_ref().to_owned());
        self
    }

    /// Without loading, comparing or timing what was written.
    #[must_use]
    pub fn unverified(mut self) -> Export {
        let engines = std::mem::take(&mut self.proof.engines);
        self.proof = ProofOptions { verify: false, bench: false, engines, reference: None, batches: None };
        self
    }

    /// Over an earlier export.
    #[must_use]
    pub fn replace(mut self) -> Export {
        self.output.replace = true;
        self
    }
}

impl Source {
    /// The model is detected.
    pub fn new(checkpoint: impl Into<PathBuf>) -> Source {
        let checkpoint = checkpoint.into();
        Source {
            checkpoint,
            model: ModelChoice::Detect,
            dialect: None,
            weights_prefix: None,
            only: None,
            adapters: vec![],
            image_size: None,
            tokenizer: None,
        }
    }

    /// The configuration file that is named, if one is.
    pub(super) fn config_file(&self) -> Option<&Path> {
        if let ModelChoice::File(path) = &self.model { Some(path) } else { None }
    }
}
