//! Verification of written files: load them with an engine, run them, compare with a reference.
//!
//! What is checked is the *file*, not the graph that was in memory. With a reference, embeddings
//! and logits are held to named tolerances. Without one, outputs must still be finite, of unit
//! length where the file says so, and the same whatever else is in the batch; the report then
//! says plainly that nothing was compared.
//!
//! ```no_run
//! use clip_onnx::engine;
//! use clip_onnx::verify::Verify;
//!
//! let models = ["out/vision_model.onnx", "out/text_model.onnx"];
//! let report = Verify::new(models).reference("reference.npz").engines([engine::tract()]).run(&|_| ())?;
//! assert!(report.passed, "{report}");
//! # Ok::<(), clip_onnx::verify::Error>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{self, Array, Engine, is_tract};
use crate::layout::manifest::graphs;

mod agreement;
pub mod inside;
mod logits;
mod pass;
pub mod ranking;
mod reference;
pub mod report;
mod tolerance;
mod tower;

pub use agreement::Agreement;
pub use reference::Reference;
pub use report::Report;
pub use tolerance::{BATCH, DROP, EMBEDDING, LOGITS, PROBABILITY, SCALE, Tolerance, UNIT_NORM};

use pass::Outcome;

/// What can keep a verification from being carried out; a failed one is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An engine failed on a file.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The file of reference embeddings cannot be used.
    #[error("{path}: {reason}")]
    Reference {
        /// Path of the file.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// Every engine failed on the file.
    #[error("no engine could run {path}: {reasons}")]
    NoEngine {
        /// Path of the file.
        path: String,
        /// What each engine reported.
        reasons: String,
    },
    /// The list of files is empty.
    #[error("there is no file to verify")]
    Nothing,
    /// A folder without ONNX files.
    #[error("{path} holds no .onnx file")]
    NoModels {
        /// Path of the folder.
        path: String,
    },
    /// Batch sizes or a bound with which nothing could be compared.
    #[error("the {what} cannot be used; expected {expected}")]
    Unusable {
        /// What was given.
        what: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// The manifest of a folder cannot be used.
    #[error("{folder}: manifest.json: {reason}")]
    Manifest {
        /// Path of the folder.
        folder: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// A file that the manifest of a folder lists is not there.
    #[error("{folder} has no {file}, which its manifest.json lists")]
    Gone {
        /// Path of the folder.
        folder: String,
        /// Path of the file in it.
        file: String,
    },
}

impl Error {
    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Error::Engine(error) => error.remedy(),
            Error::Nothing | Error::NoModels { .. } => {
                Some("name ONNX files, or the folder an export wrote".to_owned())
            }
            Error::Gone { .. } | Error::Manifest { .. } => {
                Some("name the files to verify one by one, or export again".to_owned())
            }
            Error::Reference { .. } | Error::NoEngine { .. } | Error::Unusable { .. } => None,
        }
    }
}

/// Normalised embeddings of the labels of a classifier, `[labels, embed_dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels(pub(crate) Array);

/// What to verify, and how.
#[derive(Clone, Debug)]
pub struct Verify {
    models: Vec<PathBuf>,
    reference: Option<PathBuf>,
    engines: Vec<Arc<dyn Engine>>,
    max_drop: Option<f64>,
    batches: Vec<usize>,
    /// Of some models a file that tract runs instead.
    tract_variants: Vec<(PathBuf, PathBuf)>,
    labels: Option<Labels>,
    baselines: Vec<PathBuf>,
    fed_floats: Option<PathBuf>,
    notes: Vec<String>,
    shown_in: Option<PathBuf>,
}

/// Batch sizes run when none are named.
pub const BATCHES: [usize; 3] = [1, 2, 3];

impl Verify {
    /// Verification of ONNX files; [`models_in`] lists those of a folder. Without engines it is an error.
    pub fn new(models: impl IntoIterator<Item = impl Into<PathBuf>>) -> Verify {
        Verify {
            models: models.into_iter().map(Into::into).collect(),
            reference: None,
            engines: vec![],
            max_drop: None,
            batches: BATCHES.to_vec(),
            tract_variants: vec![],
            labels: None,
            baselines: vec![],
            fed_floats: None,
            notes: vec![],
            shown_in: None,
        }
    }

    /// Compares with the embeddings in a reference file, see [`Reference`].
    pub fn reference(mut self, path: impl Into<PathBuf>) -> Verify {
        self.reference = Some(path.into());
        self
    }

    /// Runs every file with each of these. Where there are several, one may fail to run a file that another runs.
    pub fn engines(mut self, engines: impl IntoIterator<Item = Arc<dyn Engine>>) -> Verify {
        self.engines = engines.into_iter().collect();
        self
    }

    /// How far a cosine may fall below 1 in other precisions than float32, instead of the bound of each precision.
    pub fn max_drop(mut self, drop: f64) -> Verify {
        self.max_drop = Some(drop);
        self
    }

    /// Batch sizes, each run at least once.
    pub fn batches(mut self, sizes: impl IntoIterator<Item = usize>) -> Verify {
        self.batches = sizes.into_iter().collect();
        self
    }

    /// Pairs of one of the models and a file that tract runs instead: the same tower without what tract cannot run.
    pub(crate) fn tract_variants(mut self, variants: Vec<(PathBuf, PathBuf)>) -> Verify {
        self.tract_variants = variants;
        self
    }

    /// The labels that are inside a classifier, to compute its probabilities from.
    pub(crate) fn labels(mut self, labels: Option<Labels>) -> Verify {
        self.labels = labels;
        self
    }

    /// float32 towers that those of other precisions are compared with where there is no reference. They are run, and
    /// not reported.
    pub(crate) fn baselines(mut self, files: Vec<PathBuf>) -> Verify {
        self.baselines = files;
        self
    }

    /// The float32 image tower fed floats, where the models take bytes. It is compared with the reference, and they
    /// with it.
    pub(crate) fn fed_floats(mut self, file: Option<PathBuf>) -> Verify {
        self.fed_floats = file;
        self
    }

    /// What the reader of the report should know.
    pub(crate) fn notes(mut self, notes: Vec<String>) -> Verify {
        self.notes = notes;
        self
    }

    /// The folder to name in messages, where the files still lie in a temporary one.
    pub(crate) fn shown_in(mut self, folder: PathBuf) -> Verify {
        self.shown_in = Some(folder);
        self
    }

    /// Loads and runs every model, and compares where there is a reference. `step` is called with what is being done.
    ///
    /// # Errors
    /// When there is no model or no engine, or a file cannot be read, loaded or fed. Disagreement is no error but a report
    /// that has not passed.
    pub fn run(&self, step: &dyn Fn(&str)) -> Result<Report, Error> {
        if self.engines.is_empty() {
            return Err(engine::Error::NoEngines.into());
        }
        if self.models.is_empty() {
            return Err(Error::Nothing);
        }
        if !are_batches(&self.batches) {
            return Err(Error::Unusable { what: "batch sizes", expected: USABLE_BATCHES });
        }
        if self.max_drop.is_some_and(|drop| !is_drop(drop)) {
            return Err(Error::Unusable { what: "largest loss of cosine", expected: USABLE_DROPS });
        }
        let reference = self.reference.as_deref().map(Reference::read).transpose()?;
        let mut outcome = Outcome::default();
        for engine in &self.engines {
            outcome.with_engine(self, &**engine, reference.as_ref(), step)?;
        }
        let mut notes = self.notes.clone();
        let not_run = self.not_run(&mut outcome, &mut notes)?;
        notes.extend(outcome.notes);
        let compared = report::Outcomes {
            towers: outcome.towers,
            inside: outcome.inside,
            logits: outcome.logits,
            rankings: outcome.rankings,
            not_run,
            notes,
        };
        Ok(Report::new(reference.as_ref(), compared))
    }

    /// A line for each file that no engine ran. Of a file that one engine ran and another did not there is a note.
    ///
    /// # Errors
    /// When nothing was run at all.
    fn not_run(&self, outcome: &mut Outcome, notes: &mut Vec<String>) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for path in &self.models {
            let was_run = path.file_name().is_some_and(|name| outcome.towers.iter().any(|tower| *name == *tower.file));
            let errors = outcome.not_run.extract_if(.., |(of, _)| of == path).map(|(_, error)| error);
            let errors: Vec<engine::Error> = errors.collect();
            if was_run {
                notes.extend(errors.iter().map(|error| format!("not run: {error}")));
            } else if !errors.is_empty() {
                let error = self.no_engine(path, errors);
                if outcome.towers.is_empty() {
                    return Err(error);
                }
                let remedy = error.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"));
                lines.push(format!("not run: {error}{remedy}"));
            }
        }
        Ok(lines)
    }

    /// Why no engine ran a file, of the reasons of each.
    fn no_engine(&self, path: &Path, mut errors: Vec<engine::Error>) -> Error {
        match errors.pop() {
            Some(error) if errors.is_empty() => error.with_others(&self.engines).into(),
            last => {
                let reasons: Vec<String> = errors.iter().chain(&last).map(ToString::to_string).collect();
                Error::NoEngine { path: path.display().to_string(), reasons: reasons.join("; ") }
            }
        }
    }

    /// The file to load for one of the models.
    fn file<'a>(&'a self, model: &'a Path, engine: &dyn Engine) -> &'a Path {
        let variant = self.tract_variants.iter().find(|(of, _)| is_tract(engine) && of == model);
        variant.map_or(model, |(_, file)| file)
    }

    /// What messages call one of the models.
    fn shown(&self, model: &Path, name: &str) -> PathBuf {
        self.shown_in.as_ref().map_or_else(|| model.to_owned(), |folder| folder.join(name))
    }
}

/// What batch sizes have to be: inputs of the largest have to fit into memory.
pub(crate) const USABLE_BATCHES: &str = "one batch size at least, each from 1 to 4096";

/// Whether files can be run at these batch sizes.
pub(crate) fn are_batches(sizes: &[usize]) -> bool {
    !sizes.is_empty() && sizes.iter().all(|size| (1..=4096).contains(size))
}

/// What a largest loss of cosine has to be: no cosine is further below 1 than 2.
pub(crate) const USABLE_DROPS: &str = "how far a cosine may fall below 1: above 0 and below 2";

/// Whether cosines can be held to a largest loss.
pub(crate) fn is_drop(drop: f64) -> bool {
    drop > 0.0 && drop < 2.0
}

/// The graphs of a folder, sorted: those its manifest lists; without one the ONNX files of its own level and of `onnx/`,
/// `visual/` and `textual/` below.
///
/// # Errors
/// [`Error::NoModels`] when there are none, [`Error::Gone`] when one that is listed is not there.
pub fn models_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let manifest = |reason| Error::Manifest { folder: folder.display().to_string(), reason };
    let mut out = graphs(folder).map_err(manifest)?.unwrap_or_default();
    if let Some(gone) = out.iter().find(|path| !path.is_file()) {
        let file = gone.strip_prefix(folder).unwrap_or(gone).display().to_string();
        return Err(Error::Gone { folder: folder.display().to_string(), file });
    }
    if out.is_empty() {
        for folder in [folder.to_owned(), folder.join("onnx"), folder.join("visual"), folder.join("textual")] {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            out.extend(entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")));
        }
    }
    out.sort();
    if out.is_empty() {
        return Err(Error::NoModels { path: folder.display().to_string() });
    }
    Ok(out)
}
