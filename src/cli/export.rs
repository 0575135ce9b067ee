//! Arguments of `export`: strings become a typed request here.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueHint};
use clip_onnx::layout::Layout;
use clip_onnx::onnx::Target;
use clip_onnx::onnx::target::{PORTABLE, Profile};
use clip_onnx::pipeline::{Artifacts, Export, ExtraOutputs, PrecisionOptions, Savings, Template, TokenType, ZeroShot};
use clip_onnx::ports::PixelFormat;
use clip_onnx::precision::Precision;

use super::args::{ChoiceArgs, EngineArgs, MODEL, VERIFICATION};
use super::values::{self, ExtraOutput, ImageType};

const GRAPH: &str = "Graph";
const PORTS: &str = "Inputs and outputs";
const PRECISION: &str = "Precision";
const FOLDER: &str = "Folder";
const DEBUGGING: &str = "Debugging";

#[derive(Args)]
pub struct ExportArgs {
    /// Checkpoint as published: a file, the index of a sharded one, or its folder
    ///
    /// big_vision .npz; PyTorch .pt, .pth and .bin; .safetensors; a folder of Hugging Face's hub
    /// with its config.json or open_clip_config.json.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub checkpoint: PathBuf,
    /// A named set of flags for a purpose; flags that you type win over it
    ///
    /// The flags that it adds are printed.
    #[arg(long, value_name = "NAME", value_parser = super::arguments::profile_names())]
    pub profile: Option<String>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Image size to build for: N, or HEIGHTxWIDTH
    ///
    /// Positions are resampled by the rule of the dialect. A NaFlex model becomes a ViT of that size.
    #[arg(long, value_name = "HxW", help_heading = MODEL, value_parser = values::image_size)]
    pub image_size: Option<[usize; 2]>,
    /// The model's tokenizer.json, where none is beside the checkpoint
    ///
    /// CLIP's vocabulary is built in.
    #[arg(long, value_name = "FILE", help_heading = MODEL, value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub graph: GraphArgs,
    #[command(flatten)]
    pub ports: PortArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    /// Folder to write
    #[arg(long, short, value_name = "DIR", help_heading = FOLDER, value_hint = ValueHint::DirPath)]
    pub out: PathBuf,
    /// Replace the folder if it is an earlier export
    #[arg(long, help_heading = FOLDER)]
    pub force: bool,
    /// Program whose folder layout, names and types to use
    #[arg(long, value_name = "NAME", help_heading = FOLDER)]
    #[arg(value_parser = values::layout(), default_value = Layout::Plain.name())]
    pub layout: Layout,
    /// Add a web page that classifies photographs in the browser
    ///
    /// Serve the folder, as with `python3 -m http.server`, and open it.
    #[arg(long, help_heading = FOLDER)]
    pub demo: bool,
    /// Write weights to <file>_data even below 2 GiB
    #[arg(long, help_heading = FOLDER)]
    pub external_data: bool,
    /// Skip SHA-256 sums and the checksums of the checkpoint's members
    ///
    /// Saves a quarter of the CPU time. Deflated members are checked all the same.
    #[arg(long, help_heading = FOLDER)]
    pub no_hash: bool,
    #[command(flatten)]
    pub proof: ProofArgs,
    #[command(flatten)]
    pub debugging: DebugArgs,
}

#[derive(Args)]
#[command(next_help_heading = GRAPH)]
pub struct GraphArgs {
    /// Runtimes that the files are for
    ///
    /// mobile, coreml and qnn fix every axis, with one row unless --static says otherwise. Token ids are
    /// int32 for mobile, coreml, qnn and web in the layouts plain and open_clip.
    #[arg(long, value_name = "NAME", value_parser = values::target(), default_value = PORTABLE.name)]
    pub target: &'static Profile,
    /// ONNX operator set, within the range of the target
    ///
    /// portable 17 to 22, onnxruntime 23 to 24, mobile 17 to 19, coreml and qnn 20 to 22, web 20 to 21.
    /// Default: the lowest, with --resize at least 18.
    #[arg(long, value_name = "N")]
    pub opset: Option<i64>,
    /// Fix the batch to N rows, so that no axis is dynamic
    ///
    /// Image inputs of bytes then have 3 channels.
    #[arg(long = "static", value_name = "N", value_parser = values::batch)]
    pub fixed: Option<usize>,
    /// Let texts have any length: input_ids [batch_size, sequence_length]
    ///
    /// In causal text towers (CLIP, MobileCLIP-B) short texts then cost less. Other towers pad inside the
    /// graph. Layout hf has it by default.
    #[arg(long)]
    pub dynamic_text: bool,
    /// Leave embeddings without L2 normalisation
    #[arg(long)]
    pub no_normalize: bool,
    /// Write one model.onnx with both towers and their logits
    ///
    /// Outputs: logits_per_image, logits_per_text, text_embeds, image_embeds.
    #[arg(long)]
    pub combined: bool,
    /// Write one classifier.onnx: an image in, the probability of each label out
    ///
    /// Labels separated by commas. Their texts are embedded now, and the embeddings become part of the file.
    #[arg(long, value_name = "LABEL,LABEL", value_delimiter = ',', conflicts_with = "combined")]
    pub labels: Vec<String>,
    /// Labels from a file in UTF-8, one a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["combined", "labels"], value_hint = ValueHint::FilePath)]
    pub labels_file: Option<PathBuf>,
    /// Sentence around each label, with {} in its place; repeatable
    ///
    /// The mean embedding of a label's sentences is used.
    #[arg(long, value_name = "TEXT", default_value = Template::DEFAULT)]
    pub template: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = PORTS)]
pub struct PortArgs {
    /// Element type and axes of image inputs [default: that of the layout]
    ///
    /// With bytes, scale, mean and deviation are part of the graph.
    #[arg(long, value_name = "TYPE", value_parser = values::image_type())]
    pub image_type: Option<ImageType>,
    /// Resize and crop in the graph; images are bytes of any size
    ///
    /// As the model's preprocessing does. Needs opset 18, layout plain, and a target that fixes no axis.
    /// Implies --image-type uint8.
    #[arg(long)]
    pub resize: bool,
    /// Element type of token ids [default: that of layout and target]
    #[arg(long, value_name = "TYPE", value_parser = values::token_type())]
    pub token_type: Option<TokenType>,
    /// Outputs besides embeddings
    ///
    /// For two towers in the layouts plain, hf and open_clip. The last block is then computed for every
    /// position, and texts are not cut.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = values::extra_output())]
    pub outputs: Vec<ExtraOutput>,
}

#[derive(Args)]
#[command(next_help_heading = PRECISION)]
pub struct PrecisionArgs {
    /// Precisions to write each tower in
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    #[arg(default_value = "fp32", value_parser = values::precision())]
    pub precision: Vec<Precision>,
    /// Representative inputs to calibrate int8 and int4 with
    ///
    /// An .npz of the form of a reference (`image`, `tokens`). Layers stay in higher precision until cosines
    /// on these inputs are within --max-drop; its default is then 0.01 for int4, 0.002 for int8, 0.001 for
    /// int8-weights.
    #[arg(long, value_name = "FILE.npz", value_hint = ValueHint::FilePath)]
    pub calibrate: Option<PathBuf>,
    /// Keep cosines with fp32 at 1 - DROP or above
    ///
    /// As many layers as that takes stay in higher precision, measured on --calibrate, --reference or
    /// made-up inputs. Verification requires it too.
    #[arg(long, value_name = "DROP", value_parser = values::drop)]
    pub max_drop: Option<f64>,
    /// Leave layers whose names contain TEXT in higher precision; repeatable
    ///
    /// report.json lists the names. With int4 such layers are int8. fp16 has no such layers.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub exclude: Vec<String>,
    /// Quantise every layer that --exclude does not name
    ///
    /// Otherwise layers that lose much more than others stay in higher precision.
    #[arg(long)]
    pub no_auto_exclude: bool,
    /// int8: weights of 7 bits, for x86 CPUs without VNNI
    ///
    /// Their products of 8-bit numbers can overflow.
    #[arg(long)]
    pub reduce_range: bool,
    /// int4: blocks with zero points
    ///
    /// Usually a little more accurate, for 0.1 bit a weight.
    #[arg(long)]
    pub zero_points: bool,
}

#[derive(Args)]
#[command(next_help_heading = VERIFICATION)]
pub struct ProofArgs {
    /// Reference embeddings to compare the files with
    ///
    /// scripts/make_reference.py writes such a file with open_clip or transformers.
    #[arg(long, value_name = "FILE.npz", value_hint = ValueHint::FilePath)]
    pub reference: Option<PathBuf>,
    /// Batch sizes to verify at [default: 1,2,3]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = values::batch)]
    pub batches: Option<Vec<usize>>,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Time every file too, one item on one thread
    ///
    /// The figures go into report.json and report.html.
    #[arg(long)]
    pub bench: bool,
    /// Do not run the files; no report is written
    #[arg(long)]
    pub no_verify: bool,
}

/// What can be turned off, to compare.
#[derive(Args)]
#[command(next_help_heading = DEBUGGING)]
pub struct DebugArgs {
    /// Keep training-time branches, BatchNorms and layer scales as nodes
    #[arg(long)]
    pub no_fold: bool,
    /// Compute the last block for every position, not only the pooled one
    #[arg(long)]
    pub no_last_block: bool,
    /// Do not fold the constant query of SigLIP's attention pooling
    #[arg(long)]
    pub no_map_query: bool,
    /// Do not cut texts behind the last end token (target onnxruntime)
    #[arg(long)]
    pub no_text_cut: bool,
    /// Keep depthwise convolutions with several outputs a channel
    #[arg(long)]
    pub no_plain_depthwise: bool,
}

impl ExportArgs {
    /// What is asked for.
    ///
    /// # Errors
    /// Labels that cannot be read, or values that are none.
    pub fn request(self, warn: &dyn Fn(&str)) -> anyhow::Result<Export> {
        let artifacts = self.graph.artifacts(warn)?;
        if self.debugging.no_text_cut && !self.graph.target.data_dependent_shapes {
            anyhow::bail!("--no-text-cut is for --target onnxruntime; other targets cut no texts");
        }
        let mut request = Export::new(&self.checkpoint, &self.out);
        request.source = self.choice.source(self.checkpoint, self.image_size);
        request.source.tokenizer = self.tokenizer;
        request.output.replace = self.force;
        request.output.hash = !self.no_hash;
        request.output.external_data = self.external_data;
        request.graph.target = self.graph.target(self.ports.resize)?;
        request.graph.artifacts = artifacts;
        request.graph.batch = self.graph.fixed;
        request.graph.dynamic_text = self.graph.dynamic_text;
        request.graph.normalize = self.graph.no_normalize.then_some(false);
        request.graph.pixels = self.ports.pixels()?;
        request.graph.tokens = self.ports.token_type;
        request.graph.outputs = self.ports.outputs();
        request.graph.savings = self.debugging.savings();
        request.precision = self.precision.precision();
        request.layout.layout = self.layout;
        request.layout.demo = self.demo;
        request.proof.verify = !self.proof.no_verify;
        request.proof.bench = self.proof.bench;
        request.proof.engines = self.proof.engines.into();
        request.proof.reference = self.proof.reference;
        request.proof.batches = self.proof.batches;
        Ok(request)
    }
}

impl GraphArgs {
    fn target(&self, resizes: bool) -> anyhow::Result<Target> {
        match self.opset {
            // The first that can, where nothing is said.
            None if resizes => Ok(Target::with_opset(self.target, 18).unwrap_or(Target::new(self.target))),
            None => Ok(Target::new(self.target)),
            Some(opset) => Target::with_opset(self.target, opset).ok_or_else(|| {
                let (name, opsets) = (self.target.name, &self.target.opsets);
                anyhow::anyhow!(
                    "--opset {opset} is not of target `{name}`, which has {} to {}; choose one of those, or another --target",
                    opsets.start(),
                    opsets.end()
                )
            }),
        }
    }

    /// Which files there are.
    fn artifacts(&self, warn: &dyn Fn(&str)) -> anyhow::Result<Artifacts> {
        if self.labels.is_empty() && self.labels_file.is_none() {
            if self.template != [Template::DEFAULT] {
                anyhow::bail!("--template is the sentence around labels; name them with --labels or --labels-file");
            }
            return Ok(if self.combined { Artifacts::Combined } else { Artifacts::Towers });
        }
        let templates = self.template.iter().map(Template::new).collect::<Result<Vec<_>, _>>()?;
        let labels = super::labels::labels(self.labels.clone(), self.labels_file.as_deref(), warn)?;
        Ok(Artifacts::ZeroShot(ZeroShot::new(labels, templates)?))
    }
}

impl PortArgs {
    /// How images come, where that was said.
    fn pixels(&self) -> anyhow::Result<Option<PixelFormat>> {
        let bytes = |last: bool| Some(PixelFormat::Bytes { last, alpha: true, resize: self.resize });
        Ok(match (self.image_type, self.resize) {
            (None, false) => None,
            (Some(ImageType::Float), true) => {
                anyhow::bail!("--resize takes bytes, as decoders give them; leave out --image-type float")
            }
            (Some(ImageType::Float), false) => Some(PixelFormat::Float),
            (Some(ImageType::Uint8Nchw), _) => bytes(false),
            (Some(ImageType::Uint8) | None, _) => bytes(true),
        })
    }

    /// Outputs besides embeddings.
    fn outputs(&self) -> ExtraOutputs {
        ExtraOutputs {
            hidden: self.outputs.contains(&ExtraOutput::LastHiddenState),
            patches: self.outputs.contains(&ExtraOutput::PatchTokens),
        }
    }
}

impl PrecisionArgs {
    fn precision(&self) -> PrecisionOptions {
        let mut options = PrecisionOptions::default();
        // Each once, in order of size.
        options.precisions.clone_from(&self.precision);
        options.precisions.sort();
        options.precisions.dedup();
        options.exclude.clone_from(&self.exclude);
        options.auto_exclude = !self.no_auto_exclude;
        options.reduce_range = self.reduce_range;
        options.zero_points = self.zero_points;
        options.calibrate.clone_from(&self.calibrate);
        options.max_drop = self.max_drop;
        options
    }
}

impl DebugArgs {
    fn savings(&self) -> Savings {
        Savings {
            fold: !self.no_fold,
            last_block: !self.no_last_block,
            map_query: !self.no_map_query,
            text_cut: !self.no_text_cut,
            plain_depthwise: !self.no_plain_depthwise,
        }
    }
}
