//! The commands as library calls, each a straight line. The one place that knows the order of
//! things, and where a problem gets its file's name.

use std::path::Path;

use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, ModelConfig, Problem};
use crate::onnx;
use crate::package;
use crate::params;
use crate::tensor;
use crate::verify;

mod convert;
mod export;
mod inspect;
mod select;

pub use convert::{Convert, Converted, convert};
pub use export::{Export, Exported, export};
pub use inspect::{CheckpointReport, Inspected, inspect};
pub use select::{Choice, Difference, Found, Selected};

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
    Write(onnx::write::Error),
    #[error(transparent)]
    Package(#[from] package::Error),
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(
        "{path}: no known model has these shapes; {closest}. Give --model NAME or --config FILE (`clip-onnx inspect {path}` compares, `clip-onnx models` lists)"
    )]
    NoFit { path: String, closest: String },
    #[error(
        "{path}: {count} known models have these names and shapes: {names}; choose with --model NAME (weights do not show which GELU, image preprocessing or name is meant)"
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
}

fn open(path: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(path).map_err(|source| Error::checkpoint(path, source))
}

/// The model and its parameters, at the image size asked for.
fn at_image_size(
    selected: &mut Selected,
    params: &mut params::Params,
    size: Option<[usize; 2]>,
    path: &Path,
) -> Result<(), Error> {
    let Some(size) = size else { return Ok(()) };
    let config: &ModelConfig = &selected.config;
    let resized =
        config.at_image_size(size).map_err(|problem| Error::ImageSize { model: config.model.clone(), problem })?;
    params.resize_positions(config, &resized).map_err(|source| selected.params_error(path, source))?;
    selected.config = resized;
    Ok(())
}
