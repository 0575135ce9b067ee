//! Arguments of the commands that read files: `verify`, `bench`, `convert`, `inspect`, and groups that several share.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use clip_onnx::config::Dialect;
use clip_onnx::engine::{EngineKind, Engines};
use clip_onnx::modality::Modality;
use clip_onnx::pipeline::{ModelChoice, Source};
use clip_onnx::providers::Provider;
use clip_onnx::verify;

use super::labels::distinct;
use super::values;

pub const MODEL: &str = "Model";
pub const VERIFICATION: &str = "Verification";
pub const OUTPUT: &str = "Output";

#[derive(Args)]
pub struct ChoiceArgs {
    /// Model by name, instead of detecting it from tensor names and shapes
    ///
    /// `clip-onnx models` lists the names.
    #[arg(long, value_name = "NAME", help_heading = MODEL, conflicts_with = "config")]
    #[arg(value_parser = values::ModelName, hide_possible_values = true)]
    pub model: Option<String>,
    /// Model configuration: JSON as in models/, or a config.json
    ///
    /// Takes transformers' config.json and open_clip's open_clip_config.json too.
    #[arg(long, value_name = "FILE", help_heading = MODEL, value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Whose numbers to reproduce, where implementations differ
    ///
    /// Default: the project whose tensor names the file uses, or what `convert` recorded in it.
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = values::dialect())]
    pub dialect: Option<Dialect>,
    /// Start of the weights' names, where a checkpoint holds several models
    ///
    /// Such as `student.`, or `state_dict_ema.` for a dictionary beside the one that is read. Prefixes of wrappers
    /// (`module.`, `_orig_mod.`) are taken off by themselves.
    #[arg(long, value_name = "TEXT", help_heading = MODEL)]
    pub weights_prefix: Option<String>,
    /// One tower alone
    ///
    /// What the checkpoint has besides is left out.
    #[arg(long, value_name = "TOWER", help_heading = MODEL, value_parser = values::modality())]
    pub only: Option<Modality>,
    /// LoRA adapter to merge into the weights, a folder by PEFT; may be repeated
    ///
    /// Adapters are added in the given order, as merge_and_unload() adds them.
    #[arg(long, value_name = "DIR", help_heading = MODEL, value_hint = ValueHint::DirPath)]
    pub adapter: Vec<PathBuf>,
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
        source.weights_prefix = self.weights_prefix;
        source.only = self.only;
        source.adapters = self.adapter;
        source.image_size = image_size;
        source
    }
}

#[derive(Args, Clone)]
pub struct EngineArgs {
    /// Engines to run files with [default: all available]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = values::engine())]
    pub engine: Vec<EngineKind>,
    /// ONNX Runtime's shared library, to run files with it too
    ///
    /// libonnxruntime.so, .dylib or .dll, version 1.17 or newer. pip's onnxruntime has it in
    /// onnxruntime/capi. Default: the file that ORT_DYLIB_PATH names.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ort_lib: Option<PathBuf>,
}

impl From<EngineArgs> for Engines {
    fn from(args: EngineArgs) -> Engines {
        Engines { kinds: args.engine, library: args.ort_lib }
    }
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Folder of an export, or ONNX files
    #[arg(required = true, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub models: Vec<PathBuf>,
    /// Reference embeddings to compare with
    ///
    /// scripts/make_reference.py writes such a file with open_clip or transformers.
    #[arg(long, value_name = "FILE.npz", help_heading = VERIFICATION, value_hint = ValueHint::FilePath)]
    pub reference: Option<PathBuf>,
    /// Batch sizes to run
    #[arg(long, value_name = "N,N", help_heading = VERIFICATION, value_delimiter = ',')]
    #[arg(default_values_t = verify::BATCHES, value_parser = values::batch)]
    pub batches: Vec<usize>,
    #[command(flatten, next_help_heading = VERIFICATION)]
    pub engines: EngineArgs,
    /// Require a cosine of at least 1 - DROP from precisions other than fp32
    #[arg(long, value_name = "DROP", help_heading = VERIFICATION, value_parser = values::drop)]
    pub max_drop: Option<f64>,
    /// Print the report as JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Args)]
pub struct BenchArgs {
    /// Folder of an export, or ONNX files
    #[arg(required = true, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub models: Vec<PathBuf>,
    /// Batch sizes to time
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = values::batch)]
    pub batches: Vec<usize>,
    /// Numbers of threads to time with
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = values::threads)]
    pub threads: Vec<usize>,
    /// Timed runs of each file and batch size
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Length of texts in tokens, instead of the whole context
    ///
    /// Start and end tokens are included.
    #[arg(long, value_name = "N", value_parser = values::text_length)]
    pub text_length: Option<usize>,
    #[command(flatten)]
    pub engines: EngineArgs,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Time one file in this process; the command starts itself so for each row
    #[arg(long, hide = true)]
    pub here: bool,
}

#[derive(Args)]
pub struct ConvertArgs {
    /// Checkpoint: a file, the index of a sharded one, or its folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub checkpoint: PathBuf,
    /// The .safetensors file to write
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Image size to resample positions to: N, or HEIGHTxWIDTH
    ///
    /// A NaFlex model becomes a ViT of that size.
    #[arg(long, value_name = "HxW", help_heading = MODEL, value_parser = values::image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Fold MobileCLIP's training-time branches
    ///
    /// The file then has timm's names for the folded form.
    #[arg(long)]
    pub reparameterize: bool,
}

#[derive(Args)]
pub struct InspectArgs {
    /// A checkpoint or an ONNX file
    #[arg(value_hint = ValueHint::AnyPath)]
    pub file: PathBuf,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Of an ONNX file, list the nodes that these execution providers do not take
    ///
    /// A prediction from tables of ONNX Runtime's sources; nothing is run.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', value_parser = values::provider())]
    pub provider: Vec<Provider>,
    /// List tensors whose name contains TEXT; all without TEXT
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    pub tensors: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

impl InspectArgs {
    /// A flag that says nothing of an ONNX file.
    pub fn ignored(&self) -> Option<&'static str> {
        let is_onnx = self.file.extension().is_some_and(|extension| extension == "onnx");
        let ChoiceArgs { model, config, dialect, weights_prefix, only, adapter } = &self.choice;
        let flags = [
            ("--weights-prefix", weights_prefix.is_some()),
            ("--only", only.is_some()),
            ("--adapter", !adapter.is_empty()),
            ("--model", model.is_some()),
            ("--config", config.is_some()),
            ("--dialect", dialect.is_some()),
            ("--tensors", self.tensors.is_some()),
        ];
        flags.iter().find(|(_, is_given)| is_onnx && *is_given).map(|(flag, _)| *flag)
    }
}

/// Files, and those of folders; each once.
pub fn models(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, verify::Error> {
    let mut models = Vec::new();
    for path in paths {
        if path.is_dir() { models.extend(verify::models_in(&path)?) } else { models.push(path) }
    }
    Ok(distinct(models))
}
