//! The commands as library calls, each a straight line. The one place that knows the order of things, and where a problem
//! gets its file's name.
//!
//! An [`Export`] says what is asked for. Once the model is known it is resolved to a recipe, in which nothing
//! contradicts ([`resolve`]); no step after that looks at the request.

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

mod artifacts;
mod companions;
mod convert;
mod digest;
mod export;
mod graphs;
mod inspect;
mod manifest;
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
mod surroundings;
mod workspace;
mod zero_shot;

pub use crate::setting::Setting;
pub use convert::{Convert, Converted, convert};
pub use export::{Exported, export};
pub use inspect::{CheckpointReport, Folding, Inspected, OnnxReport, inspect};
pub use quantize::PrecisionReport;
pub use request::{
    Artifacts, Export, ExtraOutputs, GraphOptions, LayoutOptions, ModelChoice, Output, PrecisionOptions, ProofOptions,
    Savings, Source, TokenType,
};
pub use resolve::Given;
pub use select::{Difference, Found, Selected};
pub use surroundings::Origin;
pub use zero_shot::{Template, ZeroShot};

/// Everything that can keep a command from being carried out. Settings are named in backticks by their fields
/// ([`Setting`]); [`Error::remedy`] says what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{path}")]
    Checkpoint { path: String, source: checkpoint::Error },
    #[error("{path}")]
    Params { path: String, source: Box<params::Error>, hint: String },
    #[error("{path}")]
    Tensor { path: String, source: tensor::Error },
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("{} for {model}: {problem}", Setting::ImageSize)]
    ImageSize { model: String, problem: Problem },
    #[error(transparent)]
    Write(#[from] onnx::write::Error),
    #[error(transparent)]
    Output(#[from] output::Error),
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenize::Error),
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error("{a} and {b} do not go together: {reason}")]
    Conflict { a: Given, b: Given, reason: Cow<'static, str>, instead: Option<resolve::Instead> },
    #[error("{setting} holds nothing that can be used; expected {expected}")]
    Empty { setting: Setting, expected: &'static str },
    #[error("the template `{text}` has no {{}} for the label")]
    Template { text: String },
    #[error("there are no labels")]
    NoLabels,
    #[error("there are no templates to put around labels")]
    NoTemplates,
    #[error("{path}: no known model has these shapes; {closest}")]
    NoFit { path: String, closest: String },
    #[error("{path}: {count} known models have these names and shapes: {names}")]
    Ambiguous { path: String, count: usize, names: String },
    #[error("{path}: {what}")]
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
            params::Error::Unrecognised { .. } | params::Error::Unmapped { .. } => refusal::architecture(checkpoint),
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
