//! Running ONNX files: engines, the arrays they take and give, and towers, which are files with a meaning.
//!
//! Two engines come with the crate: tract, in pure Rust, and ONNX Runtime, whose library is loaded from where it is
//! installed. [`Engine`] is a trait, so that a program can use a runtime of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::setting::Setting;

pub mod array;
pub mod inputs;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
pub mod signature;
mod tower;
#[cfg(feature = "tract")]
mod tract;

pub use array::{Array, Data, ElementType};
#[cfg(feature = "onnxruntime")]
pub use onnxruntime::OnnxRuntime;
pub use signature::Signature;
pub use tower::Tower;
#[cfg(feature = "tract")]
pub use tract::Tract;

/// What loads ONNX files and runs them.
pub trait Engine: fmt::Debug + Send + Sync {
    /// With its version, as reports have it, such as `ONNX Runtime 1.23.0`.
    fn name(&self) -> &str;

    /// Which of the engines of this crate it is; None for any other.
    fn kind(&self) -> Option<EngineKind> {
        None
    }

    /// Whether it optimises a model for each combination of input shapes, so that it is faster to fill a short batch up
    /// than to run a new size.
    fn optimizes_for_shapes(&self) -> bool {
        false
    }

    /// Loads a file, to be run on so many threads; as many as the engine sees fit where None. Errors call it `shown`,
    /// since the file may still lie in a temporary folder.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn load(&self, file: &Path, shown: &str, threads: Option<usize>) -> Result<Box<dyn Session>, Error>;
}

/// A loaded file.
pub trait Session: Send + Sync {
    /// Runs one batch. `inputs` has an array for each input of the file, in the file's order and of the type that the
    /// file declares; `outputs` are positions among the file's outputs. Gives those outputs, in that order.
    ///
    /// # Errors
    /// [`Error::Unfit`] for an input of a shape that the file does not take, [`Error::Failed`] when it cannot be run.
    fn run(&self, inputs: &[&Array], outputs: &[usize]) -> Result<Vec<Array>, Error>;
}

/// An engine of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// tract, compiled into the program (feature `tract`).
    Tract,
    /// ONNX Runtime, whose library is loaded at run time (feature `onnxruntime`).
    OnnxRuntime,
}

impl EngineKind {
    /// All engines, whether or not this build has them.
    pub const ALL: [EngineKind; 2] = [EngineKind::Tract, EngineKind::OnnxRuntime];

    /// What flags call it.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Tract => "tract",
            EngineKind::OnnxRuntime => "onnxruntime",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<EngineKind> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an engine was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read and parse the file.
    Load,
    /// Optimise for the shapes of a batch.
    Optimize,
    /// Compute outputs from inputs.
    Run,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Load => "load",
            Step::Optimize => "optimise",
            Step::Run => "run",
        })
    }
}

/// What can keep a file from being run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not a readable ONNX model.
    #[error(transparent)]
    Onnx(#[from] crate::onnx::read::Error),
    /// The file is no tower, or its inputs do not take what it is fed.
    #[error("{path} is no tower this tool can feed: {reason}")]
    Unfit {
        /// Path of the ONNX file.
        path: String,
        /// Which input or output does not fit, in words.
        reason: String,
    },
    /// The engine refused the file, or failed on it.
    #[error("{engine} could not {step} {path}: {reason}{}", if *.others { OTHERS } else { "" })]
    Failed {
        /// Name of the engine.
        engine: String,
        /// Path of the ONNX file.
        path: String,
        /// What the engine was doing.
        step: Step,
        /// What the engine reported.
        reason: String,
        /// Whether there is an engine that was not asked, and may run the file.
        others: bool,
    },
    /// The shared library cannot be loaded as ONNX Runtime.
    #[error("{path} is no ONNX Runtime library: {reason}")]
    Library {
        /// Path of the file.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// No path to ONNX Runtime's shared library was given or found.
    #[error("ONNX Runtime's library is not known")]
    NoLibrary,
    /// A path to ONNX Runtime's library was given, and ONNX Runtime is not among the engines.
    #[error("{path} is ONNX Runtime's library, which no engine asked for needs")]
    IdleLibrary {
        /// Path of the file.
        path: String,
    },
    /// The list of engines is empty.
    #[error("there is no engine to run anything with")]
    NoEngines,
    /// The engine's feature was off when the crate was compiled.
    #[error("{} is not part of this build", .kind.name())]
    NotBuilt {
        /// The engine that was asked for.
        kind: EngineKind,
    },
}

/// Said where tract alone was asked.
const OTHERS: &str = ". ONNX Runtime may run it";

impl Error {
    /// A failure of `engine`; line breaks in the reason become spaces.
    pub fn failed(engine: impl Into<String>, path: &str, step: Step, reason: &str) -> Error {
        let reason = reason.replace('\n', " ");
        Error::Failed { engine: engine.into(), path: path.to_owned(), step, reason, others: false }
    }

    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Error::Failed { others: true, .. } => format!("name its library with {}", Setting::Library),
            Error::Library { .. } => "name libonnxruntime.so (.dylib, .dll) of version 1.17 or newer".to_owned(),
            Error::NoLibrary => format!("name it with {} or in {}", Setting::Library, LIBRARY_VARIABLE),
            Error::IdleLibrary { .. } => format!("leave it out, or ask for ONNX Runtime with {}", Setting::Engines),
            Error::NoEngines => format!("ask for tract, ONNX Runtime, or both with {}", Setting::Engines),
            Error::NotBuilt { kind } => format!("build the crate with the feature `{}`", kind.name()),
            Error::Onnx(_) | Error::Unfit { .. } | Error::Failed { .. } => return None,
        })
    }

    /// Where tract alone was asked and failed, says that ONNX Runtime may run the file.
    pub(crate) fn with_others(self, engines: &[Arc<dyn Engine>]) -> Error {
        let tract_alone = engines.iter().all(|engine| is_tract(&**engine));
        match self {
            // Weights outside the model's folder are not read by other engines either.
            Error::Failed { engine, path, step, reason, .. }
                if tract_alone && !reason.contains("the model directory") =>
            {
                Error::Failed { engine, path, step, reason, others: true }
            }
            other => other,
        }
    }
}

/// tract, ready to load files.
#[cfg(feature = "tract")]
pub fn tract() -> Arc<dyn Engine> {
    Arc::new(Tract)
}

/// Whether an engine is this crate's tract.
pub fn is_tract(engine: &dyn Engine) -> bool {
    engine.kind() == Some(EngineKind::Tract)
}

/// The variable that names ONNX Runtime's library, as its Rust bindings have it.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Which engines of this crate to use.
#[derive(Clone, Debug, Default)]
pub struct Engines {
    /// When empty: tract, and ONNX Runtime if its library is known.
    pub kinds: Vec<EngineKind>,
    /// ONNX Runtime's library; where None, what `ORT_DYLIB_PATH` names.
    pub library: Option<PathBuf>,
}

impl Engines {
    /// Loads them: tract first, if it is among them.
    ///
    /// # Errors
    /// [`Error::Library`] when ONNX Runtime's is no library, [`Error::NoLibrary`] when ONNX Runtime is asked for and no
    /// library is known, [`Error::IdleLibrary`] when one is named and ONNX Runtime is not asked for.
    pub fn open(&self) -> Result<Vec<Arc<dyn Engine>>, Error> {
        let wanted = |kind| self.kinds.is_empty() || self.kinds.contains(&kind);
        let mut out: Vec<Arc<dyn Engine>> = Vec::new();
        if wanted(EngineKind::Tract) {
            out.extend(self.tract()?);
        }
        if wanted(EngineKind::OnnxRuntime) {
            out.extend(self.onnx_runtime()?);
        } else if let Some(library) = &self.library {
            return Err(Error::IdleLibrary { path: library.display().to_string() });
        }
        if out.is_empty() { Err(Error::NoEngines) } else { Ok(out) }
    }

    #[cfg(feature = "tract")]
    fn tract(&self) -> Result<Option<Arc<dyn Engine>>, Error> {
        Ok(Some(tract()))
    }

    #[cfg(not(feature = "tract"))]
    fn tract(&self) -> Result<Option<Arc<dyn Engine>>, Error> {
        self.not_built(EngineKind::Tract)
    }

    #[cfg(feature = "onnxruntime")]
    fn onnx_runtime(&self) -> Result<Option<Arc<dyn Engine>>, Error> {
        match self.library.clone().or_else(onnxruntime::library_of_environment) {
            Some(library) => Ok(Some(Arc::new(OnnxRuntime::load(&library)?))),
            None if self.kinds.is_empty() => Ok(None),
            None => Err(Error::NoLibrary),
        }
    }

    #[cfg(not(feature = "onnxruntime"))]
    fn onnx_runtime(&self) -> Result<Option<Arc<dyn Engine>>, Error> {
        self.not_built(EngineKind::OnnxRuntime)
    }

    /// An engine that is not compiled in: missing where it is asked for by name.
    #[cfg(not(all(feature = "tract", feature = "onnxruntime")))]
    fn not_built(&self, kind: EngineKind) -> Result<Option<Arc<dyn Engine>>, Error> {
        if self.kinds.is_empty() { Ok(None) } else { Err(Error::NotBuilt { kind }) }
    }
}

#[cfg(all(test, feature = "tract"))]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_name() {
        for kind in EngineKind::ALL {
            assert_eq!(EngineKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(EngineKind::parse("onnx"), None);
    }

    #[test]
    fn a_library_needs_its_engine() {
        let engines = Engines { kinds: vec![EngineKind::Tract], library: Some("libonnxruntime.so".into()) };
        let error = engines.open().unwrap_err();
        assert!(matches!(error, Error::IdleLibrary { .. }), "{error}");
        let engines = Engines { kinds: vec![EngineKind::Tract], library: None }.open().unwrap();
        assert!(engines.len() == 1 && is_tract(&*engines[0]) && engines[0].name().starts_with("tract 0."));
    }

    #[test]
    fn another_engine_is_named_where_tract_alone_failed() {
        let failed = |reason: &str| Error::failed("tract", "a.onnx", Step::Load, reason).with_others(&[tract()]);
        let error = failed("an operator\nit does not know");
        assert_eq!(error.remedy().as_deref(), Some("name its library with `engines.library`"));
        assert_eq!(
            error.to_string(),
            "tract could not load a.onnx: an operator it does not know. ONNX Runtime may run it"
        );
        assert_eq!(failed("weights outside the model directory").remedy(), None);
    }
}
