//! The commands as library calls, each a straight line. The only module that knows the order of things, and where a problem
//! gets its file's name.
//!
//! An [`Export`] says what is asked for. Once the model is known it is resolved to a recipe, in which nothing
//! contradicts (`resolve`); no step after that looks at the request.

use std::borrow::Cow;
use std::path::Path;

use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, Problem};
use crate::engine;
use crate::onnx;
use crate::output;
use crate::params;
use crate::tensor;
use crate::verify;

mod adapters;
mod artifacts;
mod companions;
mod convert;
mod digest;
mod export;
mod graphs;
mod inspect;
mod labels;
mod manifest;
mod metadata;
mod model;
mod proof;
mod quantize;
mod refusal;
mod report_html;
mod request;
mod resolve;
mod run;
mod runner;
mod select;
mod stretched;
mod surroundings;
mod workspace;
mod zero_shot;

pub use crate::setting::Setting;
pub use convert::{Convert, Converted, convert};
pub use export::{Exported, export};
pub use inspect::{CheckpointReport, Folding, Inspected, OnnxReport, inspect};
pub use labels::{Template, ZeroShot};
pub use quantize::PrecisionReport;
pub use request::{
    Artifacts, Export, ExtraOutputs, GraphOptions, LayoutOptions, ModelChoice, Output, PrecisionOptions, ProofOptions,
    Savings, Source, TokenType,
};
pub use resolve::Given;
pub use select::{Difference, Found, Selected};
pub use surroundings::Origin;

/// Everything that can keep a command from being carried out. Settings are named in backticks by their fields
/// ([`Setting`]); [`Error::remedy`] says what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read.
    #[error("{path}")]
    Checkpoint {
        /// Path of the file.
        path: String,
        /// What is wrong with the file.
        source: checkpoint::Error,
    },
    /// The checkpoint's tensors are not those of the model.
    #[error("{path}")]
    Params {
        /// Path of the file.
        path: String,
        /// Which tensors, and how they differ.
        source: Box<params::Error>,
        /// What the choice of the model rests on, in parentheses; empty where that cannot be the cause.
        hint: String,
    },
    /// The values of a tensor could not be read or converted.
    #[error("{path}")]
    Tensor {
        /// Path of the file.
        path: String,
        /// What is wrong with the tensor.
        source: tensor::Error,
    },
    /// A configuration cannot be read or used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The image tower cannot be made for the image size asked for.
    #[error("{} for {model}: {problem}", Setting::ImageSize)]
    ImageSize {
        /// Name of the model.
        model: String,
        /// What is wrong with the size.
        problem: Problem,
    },
    /// An ONNX file could not be written.
    #[error(transparent)]
    Write(#[from] onnx::write::Error),
    /// The output folder cannot be used.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The tokenizer cannot be loaded, or failed on a label.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenize::Error),
    /// What was written could not be verified.
    #[error(transparent)]
    Verify(#[from] verify::Error),
    /// No engine could load or run a file.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Two settings contradict each other.
    #[error("{a} and {b} do not go together: {reason}")]
    Conflict {
        /// One of the settings.
        a: Given,
        /// The other one.
        b: Given,
        /// Why both cannot hold.
        reason: Cow<'static, str>,
        /// Setting that makes it possible, where there is one.
        instead: Option<resolve::Instead>,
    },
    /// A list or number with nothing to do, or out of range.
    #[error("{setting} cannot be used as it is; expected {expected}")]
    Empty {
        /// The setting.
        setting: Setting,
        /// What it has to hold.
        expected: &'static str,
    },
    /// A template without `{}`.
    #[error("the template `{text}` has no {{}} for the label")]
    Template {
        /// The template.
        text: String,
    },
    /// A zero-shot classifier of no labels.
    #[error("there are no labels")]
    NoLabels,
    /// A zero-shot classifier of no templates.
    #[error("there are no templates to put around labels")]
    NoTemplates,
    /// No built-in model has the checkpoint's names and shapes.
    #[error("{path}: no known model has these shapes; {closest}")]
    NoFit {
        /// Path of the file.
        path: String,
        /// The model that differs least, and in what.
        closest: String,
    },
    /// Several built-in models have the checkpoint's names and shapes, and compute different embeddings.
    #[error("{path}: {count} known models have these names and shapes: {names}")]
    Ambiguous {
        /// Path of the file.
        path: String,
        /// Number of these models.
        count: usize,
        /// Their names, separated by commas.
        names: String,
    },
    /// A checkpoint of an architecture that is not supported.
    #[error("{path}: {what}")]
    Unsupported {
        /// Path of the file.
        path: String,
        /// What is not supported, in words.
        what: String,
        /// What can be done instead; empty where nothing can.
        way_out: String,
    },
}

/// Receives the progress of the work; all methods may do nothing.
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

/// An error and its causes, `: ` between them.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

impl Error {
    fn checkpoint(path: &Path, source: checkpoint::Error) -> Error {
        Error::Checkpoint { path: path.display().to_string(), source }
    }

    /// Names that no key map knows, and whose they may be.
    fn names(checkpoint: &Checkpoint, source: params::Error) -> Error {
        let hint = match &source {
            params::Error::Unmapped { tower: Some(tower), .. } => {
                let other = tower.other();
                let found = refusal::architecture(checkpoint);
                format!("export the {other} tower alone with {} {other}; {found}", Setting::Only)
            }
            params::Error::Unrecognised { .. } | params::Error::Unmapped { .. } => refusal::architecture(checkpoint),
            params::Error::Copies { first, .. } => {
                format!("say which with {}, such as {first}", Setting::WeightsPrefix)
            }
            _ => String::new(),
        };
        let path = checkpoint.path().display().to_string();
        Error::Params { path, source: Box::new(source), hint }
    }

    /// The error, its causes and what would help, in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.remedy() {
            Some(remedy) => format!("{}; {remedy}", chain(self)),
            None => chain(self),
        }
    }

    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Error::Params { hint, .. } => (!hint.is_empty()).then(|| hint.clone()),
            Error::Conflict { a, b, instead, .. } => {
                let fixed = [Setting::Model, Setting::Precisions, Setting::Opset];
                let left: Vec<String> = [a, b]
                    .into_iter()
                    .filter(|given| !fixed.contains(&given.setting))
                    .map(ToString::to_string)
                    .collect();
                let leave = format!("leave out {}", left.join(" or "));
                Some(instead.map_or(leave.clone(), |(how, setting)| format!("{how} {setting}, or {leave}")))
            }
            Error::Template { .. } => Some("put {} where the label goes".to_owned()),
            Error::NoFit { path, .. } => Some(format!(
                "choose one with {} or {} (`inspect {path}` compares, `models` lists)",
                Setting::Model,
                Setting::Config
            )),
            Error::Ambiguous { .. } => Some(format!(
                "choose with {}, or name the folder with its open_clip_config.json. Weights do not show which GELU they were trained with: OpenAI's, MetaCLIP's, DFN's and LAION-400M's ViT-B-32 are of QuickGELU, the others of LAION, DataComp and CommonPool of the exact one",
                Setting::Model
            )),
            Error::Unsupported { way_out, .. } => Some(way_out.clone()),
            Error::Output(error) => error.remedy(),
            Error::Tokenizer(error) => error.remedy(),
            Error::Verify(error) => error.remedy(),
            Error::Engine(error) => error.remedy(),
            _ => None,
        }
    }
}
