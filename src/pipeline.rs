//! The commands as library calls, each a straight line. The one place that knows the order of
//! things, and where a problem gets its file's name.

use std::path::Path;

use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, Problem};
use crate::onnx::{self, Graph};
use crate::output;
use crate::params;
use crate::tensor;
use crate::towers::{self, Build};
use crate::verify;

mod beside;
mod calibrate;
mod classes;
mod convert;
mod describe;
mod digest;
mod export;
mod inspect;
mod laid_out;
mod narrow;
mod page;
mod pieces;
mod refusal;
mod run;
mod select;
mod surroundings;

pub use classes::Classes;
pub use convert::{Convert, Converted, convert};
pub use export::{Export, Exported, Extra, Form, export};
pub use inspect::{CheckpointReport, Folding, Inspected, OnnxReport, inspect};
pub use narrow::PrecisionReport;
pub use select::{Choice, Difference, Found, Selected};
pub use surroundings::Origin;

/// Everything that can keep a command from being carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Checkpoint { path: String, source: checkpoint::Error },
    #[error("{path}: {source}{hint}")]
    Params { path: String, source: Box<params::Error>, hint: String },
    #[error("{path}: {source}")]
    Tensor { path: String, source: tensor::Error },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("--image-size for {model}: {problem}")]
    ImageSize { model: String, problem: Problem },
    #[error(transparent)]
    Write(#[from] onnx::write::Error),
    #[error(transparent)]
    Package(#[from] output::Error),
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenize::Error),
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(
        "{path}: no known model has these shapes; {closest}. Give --model NAME or --config FILE (`clip-onnx inspect {path}` compares, `clip-onnx models` lists)"
    )]
    NoFit { path: String, closest: String },
    #[error(
        "{path}: {count} known models have these names and shapes: {names}; choose with --model NAME, or name the folder with its open_clip_config.json. Weights do not show which GELU they were trained with: OpenAI's, MetaCLIP's, DFN's and LAION-400M's ViT-B-32 are of QuickGELU, the others of LAION, DataComp and CommonPool of the exact one"
    )]
    Ambiguous { path: String, count: usize, names: String },
    #[error("{path}: {what}; {way_out}")]
    Unsupported { path: String, what: String, way_out: String },
}

/// Told of the work as it goes; all methods may do nothing.
pub trait Progress: Sync {
    /// Something begins; `bytes` is how much there is of it, where that is known.
    fn start(&self, what: &str, bytes: Option<u64>);
    /// So many bytes of it are done.
    fn advance(&self, bytes: u64);
    /// A remark worth the user's attention.
    fn warn(&self, message: &str);
}

/// No progress shown.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

impl Error {
    fn checkpoint(path: &Path, source: checkpoint::Error) -> Error {
        Error::Checkpoint { path: path.display().to_string(), source }
    }

    fn params(path: &Path, source: params::Error) -> Error {
        Error::Params { path: path.display().to_string(), source: Box::new(source), hint: String::new() }
    }

    /// Names that no key map knows, and whose they may be.
    fn names(checkpoint: &Checkpoint, source: params::Error) -> Error {
        let hint = match &source {
            params::Error::Unrecognised { .. } | params::Error::Unmapped { .. } => refusal::architecture(checkpoint),
            _ => String::new(),
        };
        let path = checkpoint.path().display().to_string();
        Error::Params { path, source: Box::new(source), hint }
    }
}

fn open(path: &Path) -> Result<Checkpoint, Error> {
    if let Some(error) = refusal::another_kind(path) {
        return Err(error);
    }
    let path = checkpoint::locate(path).map_err(|source| Error::checkpoint(path, source))?;
    Checkpoint::open(&path).map_err(|source| Error::checkpoint(&path, source))
}

/// A checkpoint with its parameters, and the model they are.
struct Loaded {
    checkpoint: Checkpoint,
    params: params::Params,
    selected: Selected,
}

/// Opens a checkpoint, names its parameters, chooses its model, and brings both to the image size
/// asked for. What does not fit in memory goes to `scratch`.
fn load(
    path: &Path,
    choice: &Choice,
    image_size: Option<[usize; 2]>,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<Loaded, Error> {
    let checkpoint = open(path)?;
    checkpoint.spill_into(scratch);
    let path = checkpoint.path();
    let mut params =
        params::Params::from_checkpoint(&checkpoint).map_err(|source| Error::names(&checkpoint, source))?;
    let mut selected = select::select(choice, &checkpoint, &params, progress)?;
    if let Some(size) = image_size {
        let config = &selected.config;
        let resized =
            config.at_image_size(size).map_err(|problem| Error::ImageSize { model: config.model.clone(), problem })?;
        params.resize_positions(config, &resized).map_err(|source| selected.params_error(path, source))?;
        let [before, after] = [config, &resized].map(|config| config.preprocess_cfg.resize_to);
        if before != after {
            selected.pixels.source += ", scaled to --image-size";
        }
        selected.config = resized;
    }
    Ok(Loaded { params, selected, checkpoint })
}

impl Loaded {
    /// The image tower; every parameter of both must be read, in its shape.
    fn image(&self, build: &Build) -> Result<Graph, Error> {
        let (config, params) = (&self.selected.config, &self.params);
        let wrong = |source| self.selected.params_error(self.checkpoint.path(), source);
        let image = towers::image(config, params, build).map_err(wrong)?;
        towers::text(config, params, build).map_err(wrong)?;
        towers::logits(config, params).map_err(wrong)?;
        params.expect_all_read().map_err(wrong)?;
        Ok(image)
    }
}
