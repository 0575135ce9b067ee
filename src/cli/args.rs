//! What each command takes: strings become typed requests here.

use std::path::PathBuf;

use clap::Args;
use clip_onnx::config::Dialect;
use clip_onnx::engine::{EngineKind, Engines};
use clip_onnx::layout::Layout;
use clip_onnx::onnx::Target;
use clip_onnx::onnx::target::{PORTABLE, Profile};
use clip_onnx::pipeline::{
    Artifacts, Export, ExtraOutputs, ModelChoice, PrecisionOptions, Savings, Source, Template, TokenType, ZeroShot,
};
use clip_onnx::ports::PixelFormat;
use clip_onnx::precision::Precision;
use clip_onnx::providers::Provider;
use clip_onnx::verify;

use super::labels::distinct;
use super::parse::{
    engine_parser, parse_batch, parse_dialect, parse_drop, parse_image_size, parse_layout, parse_precision,
    parse_profile, parse_provider, parse_threads, parse_tokens, parse_tokens_type,
};

#[derive(Args)]
pub struct ChoiceArgs {
    /// Model by name, instead of finding it from names and shapes (`clip-onnx models` lists them)
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub model: Option<String>,
    /// Model from a JSON file of the form of models/*.json, or a transformers config.json
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose numbers to follow: `original` (the authors' code), `open_clip` or `transformers`.
    /// Default: the naming the file was published under, or what `convert` recorded in it
    #[arg(long, value_name = "NAME", value_parser = parse_dialect)]
    pub dialect: Option<Dialect>,
}

impl ChoiceArgs {
    /// The checkpoint and how its model is chosen.
    pub fn source(self, checkpoint: PathBuf, image_size: Option<[usize; 2]>) -> Source {
        let mut source = Source::new(checkpoint);
        source.model = match (self.config, self.model) {
            (Some(file), _) => ModelChoice::File(file),
            (None, Some(name)) => ModelChoice::Named(name),
            (None, None) => ModelChoice::Detect,
        };
        source.dialect = self.dialect;
        source.image_size = image_size;
        source
    }
}

#[derive(Args)]
pub struct BuildArgs {
    /// Who the files are for: `portable` (opset 17, loads everywhere), `onnxruntime` (opset 23, its
    /// `Attention`, text cut at the batch's last end token, weights beside the model), or providers of ONNX
    /// Runtime: `mobile` (NNAPI, XNNPACK), `coreml` (ML Program), `qnn` (HTP), all of a fixed batch, 1 where
    /// nothing is said, and `web` (WebGPU; WebNN with --static). Tokens are int32 for these, where the layout is
    /// `plain` or `open_clip`
    #[arg(long, value_name = "NAME", value_parser = parse_profile, default_value = PORTABLE.name)]
    pub target: &'static Profile,
    /// Version of the operator set, within what the target allows: 17 to 22 for `portable`, 23 or 24
    /// for `onnxruntime`, 17 to 19 for `mobile`, 20 to 22 for `coreml` and `qnn`, 20 or 21 for `web`
    #[arg(long, value_name = "N")]
    pub opset: Option<i64>,
    /// Leave embeddings as they come, without L2 normalisation
    #[arg(long)]
    pub no_normalize: bool,
    /// Fix the batch to N rows: for NPUs and others that take no free axes (bytes have 3 channels then)
    #[arg(long = "static", value_name = "N", value_parser = parse_batch)]
    pub fixed: Option<usize>,
    /// Take texts of any length up to the context, where no target fixes every axis: input_ids [batch_size, sequence_length], as `hf` does without
    /// being asked. With causal text towers (CLIP, MobileCLIP-B) short texts cost what they are long; others fill
    /// them up inside
    #[arg(long)]
    pub dynamic_text: bool,
    /// Leave training-time branches, BatchNorms and layer scales as nodes of the graph, to compare
    #[arg(long)]
    pub no_fold: bool,
    /// Compute the last block for all places, though one is pooled, to compare
    #[arg(long)]
    pub no_last_block: bool,
    /// Compute keys and values of the MAP head for all places, to compare
    #[arg(long)]
    pub no_map_query: bool,
    /// Compute text behind the batch's last end token, to compare (target `onnxruntime`)
    #[arg(long)]
    pub no_text_cut: bool,
    /// Keep depthwise convolutions of several outputs a channel as one, to compare
    #[arg(long)]
    pub no_plain_depthwise: bool,
}

impl BuildArgs {
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

#[derive(Args, Clone)]
pub struct EngineArgs {
    /// Engines to run files with, instead of all at hand: `tract`, which is built in, and `onnxruntime`
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = engine_parser())]
    pub engine: Vec<EngineKind>,
    /// ONNX Runtime's library (libonnxruntime.so, .dylib, .dll; pip's onnxruntime has it in capi/), to run
    /// files with it too. Default: what ORT_DYLIB_PATH names
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
}

impl From<EngineArgs> for Engines {
    fn from(args: EngineArgs) -> Engines {
        Engines { kinds: args.engine, library: args.ort_lib }
    }
}

#[derive(Args)]
pub struct ExportArgs {
    /// The checkpoint, as published: a file, the index of a sharded one, or a folder that holds it
    pub checkpoint: PathBuf,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace the folder if it is one of clip-onnx's
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Image size to build for: a number, or HEIGHTxWIDTH. Positions are resampled by the rule of
    /// the model's dialect; a NaFlex model becomes an ordinary one of that size
    #[arg(long, value_name = "HxW", value_parser = parse_image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Whose folder to write: `plain` (two towers side by side), `hf` (transformers.js, optimum, fastembed: onnx/,
    /// config.json, preprocessor_config.json, tokenizer files; SigLIP's outputs last_hidden_state and
    /// pooler_output; embeddings not normalised), `immich` (visual/, textual/, int32 tokens), `immich-uint8` (its
    /// newer contract: images as bytes), `clip-as-service`, `open_clip` (a repository that open_clip loads from
    /// local-dir: the weights under its names, open_clip_config.json, and the towers in onnx/)
    #[arg(long, value_name = "NAME", value_parser = parse_layout, default_value = Layout::Plain.name())]
    pub layout: Layout,
    /// The model's tokenizer.json, to go with the towers. CLIP's is built in, and goes with other layouts
    /// than `plain` without being named
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Add a web page that classifies photographs with the folder it stands in, in the browser (index.html, demo/; serve the
    /// folder, as with `python3 -m http.server`), and the tokenizer it needs
    #[arg(long)]
    pub demo: bool,
    /// Type of token ids: int32 or int64. Default: as the layout has them, and for `plain` the target
    #[arg(long, value_name = "TYPE", value_parser = parse_tokens_type)]
    pub tokens: Option<TokenType>,
    /// How images come: `float` (float32 [batch_size, 3, H, W], preprocessed), `uint8` (bytes as decoders leave
    /// them, [batch_size, H, W, 3 or 4]; alpha is dropped, scale, mean and deviation are in the graph) or
    /// `uint8-nchw` ([batch_size, 3 or 4, H, W]). Default: as the layout has them
    #[arg(long, value_name = "FORM", value_parser = ["float", "uint8", "uint8-nchw"])]
    pub image: Option<String>,
    /// Resize and crop in the graph, as the model's preprocessing does it: bytes of any height and width
    /// (--image uint8 where nothing is said; opset 18 or later; layout `plain`, a target that fixes no axis). Alpha
    /// is dropped before
    #[arg(long)]
    pub resize: bool,
    /// Write one model.onnx with both towers instead of two files: logits_per_image, logits_per_text, text_embeds,
    /// image_embeds, scale and bias inside
    #[arg(long)]
    pub combined: bool,
    /// Write one classifier.onnx instead of the towers, which says how likely each label of this file, in UTF-8, one
    /// a line, is: the text tower is run now, and its outcome, scale and bias become part of the file
    #[arg(long, value_name = "FILE", conflicts_with = "combined")]
    pub labels: Option<PathBuf>,
    /// Sentence around each label, with {} in its place; may be repeated, and the mean embedding is taken
    #[arg(long, value_name = "TEXT", requires = "labels", default_value = Template::DEFAULT)]
    pub template: Vec<String>,
    /// Outputs besides embeddings: last_hidden_state (of both towers every place of the last block, as transformers
    /// has it) and patch_tokens (every patch of an image, normed). They switch off the economies of the last block
    /// and of texts. For two towers of the layouts `plain`, `hf` and `open_clip`
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = ["last_hidden_state", "patch_tokens"])]
    pub outputs: Vec<String>,
    #[command(flatten)]
    pub build: BuildArgs,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    /// Write weights beside the model (<file>_data) even below 2 GiB
    #[arg(long)]
    pub external_data: bool,
    /// Leave out SHA-256 sums, of the checkpoint and of what is written, and do not check the sums of
    /// members an archive holds as they are (deflated ones are checked): about a quarter of the CPU time
    #[arg(long)]
    pub no_hash: bool,
    /// Reference embeddings to hold the files to
    #[arg(long, value_name = "FILE.npz")]
    pub reference: Option<PathBuf>,
    /// Batch sizes to verify at. Default: 1,2,3
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = parse_batch)]
    pub batches: Option<Vec<usize>>,
    /// Do not load and run the files; no report.json is written
    #[arg(long)]
    pub no_verify: bool,
    /// Time every file too, one item on one thread; the figures go into report.json and report.html
    #[arg(long)]
    pub bench: bool,
    #[command(flatten)]
    pub engines: EngineArgs,
}

impl ExportArgs {
    /// What is asked for.
    ///
    /// # Errors
    /// Labels that cannot be read, or values that are none.
    pub fn request(self, warn: &dyn Fn(&str)) -> anyhow::Result<Export> {
        let (artifacts, pixels, target) = (self.artifacts(warn)?, self.pixels()?, self.build.target(self.resize)?);
        let (outputs, precision) = (self.outputs(), self.precision.precision());
        let mut request = Export::new(&self.checkpoint, &self.out);
        request.source = self.choice.source(self.checkpoint, self.image_size);
        request.source.tokenizer = self.tokenizer;
        request.output.replace = self.force;
        request.output.hash = !self.no_hash;
        request.output.external_data = self.external_data;
        request.graph.target = target;
        request.graph.artifacts = artifacts;
        request.graph.batch = self.build.fixed;
        request.graph.dynamic_text = self.build.dynamic_text;
        request.graph.normalize = self.build.no_normalize.then_some(false);
        request.graph.pixels = pixels;
        request.graph.tokens = self.tokens;
        request.graph.outputs = outputs;
        request.graph.savings = self.build.savings();
        request.precision = precision;
        request.layout.layout = self.layout;
        request.layout.demo = self.demo;
        request.proof.verify = !self.no_verify;
        request.proof.bench = self.bench;
        request.proof.engines = self.engines.into();
        request.proof.reference = self.reference;
        request.proof.batches = self.batches;
        Ok(request)
    }

    /// Which files there are.
    fn artifacts(&self, warn: &dyn Fn(&str)) -> anyhow::Result<Artifacts> {
        let Some(file) = &self.labels else {
            return Ok(if self.combined { Artifacts::Combined } else { Artifacts::Towers });
        };
        let templates = self.template.iter().map(Template::new).collect::<Result<Vec<_>, _>>()?;
        let labels = super::labels::labels(vec![], Some(file), warn)?;
        Ok(Artifacts::ZeroShot(ZeroShot::new(labels, templates)?))
    }

    /// Outputs besides embeddings.
    fn outputs(&self) -> ExtraOutputs {
        let asked = |name: &str| self.outputs.iter().any(|output| output == name);
        ExtraOutputs { hidden: asked("last_hidden_state"), patches: asked("patch_tokens") }
    }

    /// How images come, where that was said.
    fn pixels(&self) -> anyhow::Result<Option<PixelFormat>> {
        let bytes = |last: bool| Some(PixelFormat::Bytes { last, alpha: true, resize: self.resize });
        Ok(match (self.image.as_deref(), self.resize) {
            (None, false) => None,
            (Some("float"), true) => {
                anyhow::bail!("--resize takes bytes, as decoders leave them; leave out --image float")
            }
            (Some("float"), false) => Some(PixelFormat::Float),
            (Some("uint8-nchw"), _) => bytes(false),
            (_, _) => bytes(true),
        })
    }
}

#[derive(Args)]
pub struct PrecisionArgs {
    /// Precisions to write each tower in: fp32, fp16 (arithmetic too), fp16-weights, int8 (integer
    /// products, input quantised as it comes), int8-weights, int4 (weights in blocks of 32),
    /// int4-fp16
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', default_value = "fp32", value_parser = parse_precision)]
    pub precision: Vec<Precision>,
    /// Layers whose names hold TEXT stay in higher precision, of all but fp16 and for int4 in int8; may be
    /// repeated (report.json has the names)
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub keep: Vec<String>,
    /// Keep no layer in higher precision that is not named by --keep, whatever it loses, measured or not
    #[arg(long)]
    pub no_auto_keep: bool,
    /// int8 weights in 7 bits, for x86 CPUs without VNNI, whose 8-bit products can overflow
    #[arg(long)]
    pub reduce_range: bool,
    /// Give blocks of int4 zero points: as a rule a little more exact, 0.1 bit a weight more
    #[arg(long)]
    pub zero_points: bool,
    /// Inputs to measure with, of the form of a reference (`image`, `tokens`): scales follow what layers
    /// really meet, biases make up for what weights lose on average, and layers stay in higher precision
    /// until what is measured on them is within --max-drop; without it 0.01 for int4, 0.002 for int8, 0.001
    /// for int8-weights
    #[arg(long, value_name = "FILE.npz")]
    pub calibrate: Option<PathBuf>,
    /// Keep as many layers in higher precision as it takes for cosines with fp32 to be at least 1 - DROP,
    /// measured on the inputs of --calibrate, --reference or made-up ones, and hold the files to it
    #[arg(long, value_name = "DROP", value_parser = parse_drop)]
    pub max_drop: Option<f64>,
}

impl PrecisionArgs {
    fn precision(&self) -> PrecisionOptions {
        let mut options = PrecisionOptions::default();
        // Each once, in order of size.
        options.precisions.clone_from(&self.precision);
        options.precisions.sort();
        options.precisions.dedup();
        options.exclude.clone_from(&self.keep);
        options.auto_exclude = !self.no_auto_keep;
        options.reduce_range = self.reduce_range;
        options.zero_points = self.zero_points;
        options.calibrate.clone_from(&self.calibrate);
        options.max_drop = self.max_drop;
        options
    }
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Folder of an export, or ONNX files
    #[arg(required = true, value_name = "DIR|FILE")]
    pub models: Vec<PathBuf>,
    /// Reference embeddings
    #[arg(long, value_name = "FILE.npz")]
    pub reference: Option<PathBuf>,
    /// Batch sizes to run at
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = verify::BATCHES, value_parser = parse_batch)]
    pub batches: Vec<usize>,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Hold embeddings of other precisions than fp32 to a cosine of at least 1 - DROP
    #[arg(long, value_name = "DROP", value_parser = parse_drop)]
    pub max_drop: Option<f64>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct BenchArgs {
    /// Folder of an export, or ONNX files
    #[arg(required = true, value_name = "DIR|FILE")]
    pub models: Vec<PathBuf>,
    /// Batch sizes to time
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = parse_batch)]
    pub batches: Vec<usize>,
    /// Numbers of threads to time with
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = parse_threads)]
    pub threads: Vec<usize>,
    /// Timed runs of each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Length of texts, start and end tokens included, instead of the whole context
    #[arg(long, value_name = "N", value_parser = parse_tokens)]
    pub tokens: Option<usize>,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Time one file here, as the processes of the command do
    #[arg(long, hide = true)]
    pub here: bool,
}

#[derive(Args)]
pub struct ConvertArgs {
    /// The checkpoint, as published: a file, the index of a sharded one, or a folder that holds it
    pub checkpoint: PathBuf,
    /// The .safetensors file to write
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Image size to resample positions to: a number, or HEIGHTxWIDTH; freezes NaFlex
    #[arg(long, value_name = "HxW", value_parser = parse_image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Fold MobileCLIP's training-time branches, under timm's names for the folded form
    #[arg(long)]
    pub reparameterize: bool,
}

#[derive(Args)]
pub struct InspectArgs {
    /// A checkpoint or an ONNX file
    pub file: PathBuf,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Of an ONNX file, say which nodes these execution providers of ONNX Runtime would not take, and why: coreml
    /// (ML Program), nnapi, qnn (HTP), xnnpack, webgpu, webnn, cpu. A prediction; nothing is run
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = parse_provider)]
    pub provider: Vec<Provider>,
    /// List tensors whose name contains TEXT; all without it
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    pub tensors: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Files, and those of folders; each once.
pub fn models(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, verify::Error> {
    let mut models = Vec::new();
    for path in paths {
        if path.is_dir() { models.extend(verify::models_in(&path)?) } else { models.push(path) }
    }
    Ok(distinct(models))
}
