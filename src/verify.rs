//! Proof of a written file: load it with an engine, run it, compare with a reference.
//!
//! What is checked is the *file*, not the graph that was in memory. With a reference, embeddings
//! and logits are held to named tolerances. Without one, outputs must still be finite, of unit
//! length where the file says so, and the same whatever else is in the batch; the report then
//! says plainly that nothing was compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::precision::Precision;

mod agreement;
mod engine;
pub(crate) mod inputs;
pub mod inside;
mod onnxruntime;
pub mod ranking;
mod reference;
pub mod report;
pub(crate) mod tower;
mod tract;

pub use agreement::Agreement;
pub use engine::{Engine, Engines};
pub use reference::Reference;
pub use report::Report;
pub use tract::panics_are_caught;

use inside::InsideReport;
use ranking::Ranking;
use report::{BatchReport, Compared, LogitsReport, TowerReport};
use tower::{Array, Kind, Tower};

/// A bound on a figure of the report, with its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub name: &'static str,
    pub bound: f64,
}

/// Largest absolute difference over the RMS of the reference. Rounding of float32 stays under
/// 7e-6 between independent implementations; a wrong LayerNorm eps or GELU does not.
pub const EMBEDDING: Tolerance = Tolerance { name: "embedding relative error", bound: 2e-5 };
/// Largest absolute difference of logits over `exp(logit_scale)`: both embeddings may be off.
pub const LOGITS: Tolerance = Tolerance { name: "logits over logit_scale_exp", bound: 4e-5 };
/// `exp(logit_scale)` and the bias against the reference's, over the reference's scale.
pub const SCALE: Tolerance = Tolerance { name: "logit scale and bias over logit_scale_exp", bound: 1e-5 };
/// How far from 1 the length of a normalised embedding may be.
pub const UNIT_NORM: Tolerance = Tolerance { name: "unit norm", bound: 1e-5 };
/// How far the cosine of an embedding in another precision is below 1; the bound is the precision's.
pub const DROP: Tolerance = Tolerance { name: "cosine distance", bound: 1e-2 };
/// Relative error between a row alone and the same row in a batch.
pub const BATCH: Tolerance = Tolerance { name: "batch consistency", bound: 1e-5 };

/// What can keep a verification from being carried out; a failed one is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Onnx(#[from] crate::onnx::read::Error),
    #[error("{path}: {reason}")]
    Reference { path: String, reason: String },
    #[error("{path} is no tower this tool can feed: {reason}")]
    Tower { path: String, reason: String },
    #[error("{engine} could not {step} {path}: {reason}")]
    Engine { engine: &'static str, path: String, step: &'static str, reason: String },
    #[error(
        "{path} is no ONNX Runtime library: {reason}; name libonnxruntime.so (.dylib, .dll) of version 1.17 or newer"
    )]
    Library { path: String, reason: String },
    #[error("ONNX Runtime's library is not known; name it with --ort-lib FILE or in ORT_DYLIB_PATH")]
    NoLibrary,
    #[error(
        "{path} is ONNX Runtime's library, which no engine asked for needs; leave it out, or add --engine onnxruntime"
    )]
    IdleLibrary { path: String },
    #[error("no engine could run {path}: {reasons}")]
    NoEngine { path: String, reasons: String },
    #[error("there is no engine to run anything with; name tract, ONNX Runtime, or both")]
    NoEngines,
    #[error("there is no file to verify; name ONNX files, or the folder an export wrote")]
    Nothing,
    #[error("{path} holds no .onnx file; name the folder an export wrote, or the files themselves")]
    NoModels { path: String },
}

impl Error {
    pub fn remedy(&self) -> Option<String> {
        None
    }
    /// Where tract alone was asked and failed, says what else could run the file.
    pub(crate) fn with_way_out(self, tract_alone: bool) -> Error {
        match self {
            // Weights that lead out of their folder are no other engine's to read.
            Error::Engine { engine, path, step, reason }
                if tract_alone && !reason.contains("outside the model directory") =>
            {
                let reason = format!("{reason}. If ONNX Runtime can, name its library with --ort-lib");
                Error::Engine { engine, path, step, reason }
            }
            other => other,
        }
    }
}

/// Embeddings of labels, a row each.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels(pub(crate) Array);

/// What to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// ONNX files.
    pub models: Vec<PathBuf>,
    pub reference: Option<PathBuf>,
    /// What runs them. Where there are several, one may fail to run a file that another runs.
    pub engines: Vec<Engine>,
    /// Files that tract runs in the place of some of `models`.
    pub stand_ins: Vec<(PathBuf, PathBuf)>,
    /// Normalised embeddings `[labels, embed_dim]` of the labels that are inside a file.
    pub labels: Option<Labels>,
    /// float32 towers that those of other precisions are compared with where there is no reference; they
    /// are run, and not reported.
    pub baselines: Vec<PathBuf>,
    /// How far a cosine may fall below 1 in other precisions than float32, instead of what each is held to.
    pub max_drop: Option<f64>,
    /// Batch sizes, each run at least once.
    pub batches: Vec<usize>,
    /// What the reader of the report should know.
    pub notes: Vec<String>,
    /// The folder to name in messages, where the files are still in the making elsewhere.
    pub shown_in: Option<PathBuf>,
}

/// Batch sizes run when none are named.
pub const BATCHES: [usize; 3] = [1, 2, 3];

/// The ONNX files of a folder, its own level and `onnx/` below, sorted.
///
/// # Errors
/// [`Error::NoModels`] when there are none.
pub fn models_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut out = Vec::new();
    for folder in [folder.to_owned(), folder.join("onnx"), folder.join("visual"), folder.join("textual")] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        out.extend(entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")));
    }
    out.sort();
    if out.is_empty() {
        return Err(Error::NoModels { path: folder.display().to_string() });
    }
    Ok(out)
}

/// Loads and runs every model, and compares where there is a reference.
/// `step` is told what is being done.
///
/// # Errors
/// When a file cannot be read, loaded or fed; disagreement is not an error but a report that
/// has not passed.
pub fn verify(request: &Request, step: &dyn Fn(&str)) -> Result<Report, Error> {
    if request.engines.is_empty() {
        return Err(Error::NoEngines);
    }
    if request.models.is_empty() {
        return Err(Error::Nothing);
    }
    let reference = request.reference.as_deref().map(Reference::read).transpose()?;
    let mut found = Found::default();
    for engine in &request.engines {
        found.with_engine(request, engine, reference.as_ref(), step)?;
    }
    let ran = |towers: &[TowerReport], path: &Path| {
        towers.iter().any(|tower| path.file_name().is_some_and(|name| *name == *tower.file))
    };
    let (mut missed, mut notes) = (Vec::new(), request.notes.clone());
    for path in &request.models {
        let (errors, rest) = std::mem::take(&mut found.not_run).into_iter().partition(|(of, _)| of == path);
        found.not_run = rest;
        if ran(&found.towers, path) {
            notes.extend(errors.iter().map(|(_, error): &(PathBuf, Error)| format!("not run: {error}")));
        } else if !errors.is_empty() {
            missed.push(NotRun::new(path, request, errors));
        }
    }
    // What is written in float32 has to run; of other precisions some are for one engine alone.
    if let Some(at) = missed.iter().position(|missed| missed.precision == Precision::Fp32) {
        return Err(missed.swap_remove(at).error);
    }
    let missed = missed.iter().map(|missed: &NotRun| format!("not run: {}", missed.error)).collect();
    let Found { towers, inside, logits, rankings, notes: of_towers, .. } = found;
    notes.extend(of_towers);
    let report = Report::new(reference.as_ref(), (towers, inside), logits, rankings, missed);
    notes.extend(report.notes.iter().cloned());
    Ok(Report { notes, ..report })
}

/// A file that no engine ran.
struct NotRun {
    precision: Precision,
    error: Error,
}

impl NotRun {
    fn new(path: &Path, request: &Request, mut errors: Vec<(PathBuf, Error)>) -> NotRun {
        let precision = crate::onnx::read::summary(path).map_or(Precision::Fp32, |summary| tower::precision(&summary));
        let alone = request.engines.iter().all(Engine::is_tract);
        let error = match errors.pop() {
            Some((_, error)) if errors.is_empty() => error.with_way_out(alone),
            last => {
                let reasons: Vec<String> = errors.into_iter().chain(last).map(|(_, error)| error.to_string()).collect();
                Error::NoEngine { path: path.display().to_string(), reasons: reasons.join("; ") }
            }
        };
        NotRun { precision, error }
    }
}

/// What came out so far.
#[derive(Default)]
struct Found {
    towers: Vec<TowerReport>,
    inside: Vec<InsideReport>,
    logits: Option<LogitsReport>,
    rankings: Vec<Ranking>,
    not_run: Vec<(PathBuf, Error)>,
    notes: Vec<String>,
}

/// Embeddings of a tower, and those they were compared with.
struct Embedded {
    found: Array,
    expected: Option<Array>,
}

impl Found {
    /// Runs everything with one engine.
    fn with_engine(
        &mut self,
        request: &Request,
        engine: &Engine,
        reference: Option<&Reference>,
        step: &dyn Fn(&str),
    ) -> Result<(), Error> {
        // Of float32 towers, image and text.
        let mut baselines: [Option<Array>; 2] = [None, None];
        let mut pairs: BTreeMap<Precision, [Option<Embedded>; 2]> = BTreeMap::new();
        let mut logit_parameters = None;
        let mut notes = std::collections::BTreeSet::new();
        let reported = request.models.iter().map(|path| (path, true));
        let baseline = request.baselines.iter().map(|path| (path, false));
        for (path, reported) in baseline.chain(reported) {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            step(&format!("loading {name} with {}", engine.name()));
            let started = Instant::now();
            let shown = request.shown_in.as_ref().map_or_else(|| path.clone(), |folder| folder.join(&name));
            let stand_in = request.stand_ins.iter().find(|(of, _)| engine.is_tract() && of == path);
            let file = stand_in.map_or(path, |(_, file)| file);
            let outcome = Tower::all(file, &shown, engine, None).and_then(|mut towers| {
                let seconds = started.elapsed().as_secs_f64();
                let (mut reports, mut inputs) = (vec![], vec![]);
                for tower in &towers {
                    let at = usize::from(tower.kind == Kind::Text);
                    let whole = tower.precision == Precision::Fp32;
                    if engine.is_tract() && matches!(tower.precision, Precision::Fp16 | Precision::Int4Fp16) {
                        notes.insert(format!("{}: float16 arithmetic is run as float32", engine.name()));
                    }
                    let baseline = baselines[at].as_ref();
                    // What others are compared with where a reference does not feed them is not fed from it either.
                    let fed = reference.filter(|reference| reported && reference.feeds(tower));
                    if let (Some(reference), None, true) = (reference, fed, reported) {
                        notes.insert(format!(
                            "{}: {} takes other pixels than the images of {}: {}",
                            engine.name(),
                            tower.name,
                            reference.path,
                            if baseline.is_some() && !tower.resizes_always() {
                                "compared with the tower of floats"
                            } else {
                                "not compared"
                            }
                        ));
                    }
                    let job = Job {
                        engine,
                        reference: fed,
                        baseline,
                        batches: &request.batches,
                        max_drop: request.max_drop,
                        step,
                    };
                    let fed_with = job.inputs(tower)?;
                    let (report, embedded) = job.run(tower, &fed_with, seconds)?;
                    if reported {
                        logit_parameters = logit_parameters.or(tower.logits());
                        // Images of one's own and texts of a reference do not belong together.
                        if let Some(embedded) = embedded.as_ref().filter(|_| fed.is_some() == reference.is_some()) {
                            let one = Embedded { found: embedded.found.clone(), expected: embedded.expected.clone() };
                            pairs.entry(tower.precision).or_default()[at] = Some(one);
                        }
                    }
                    if whole && baselines[at].is_none() {
                        baselines[at] = embedded.map(|embedded| embedded.found);
                    }
                    inputs.push(fed_with);
                    reports.push(report);
                }
                let labels = request.labels.as_ref().map(|labels| &labels.0);
                let inside = if reported { inside::check(&mut towers, &inputs, labels, engine)? } else { None };
                Ok((reports, inside))
            });
            match outcome {
                Ok((reports, inside)) if reported => {
                    self.towers.extend(reports);
                    self.inside.extend(inside);
                }
                Ok(_) => {}
                Err(error @ Error::Engine { .. }) => self.not_run.push((path.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        self.notes.extend(notes);
        for (precision, pair) in &pairs {
            let [Some(image), Some(text)] = pair else { continue };
            self.rankings.extend(Ranking::new(
                *precision,
                engine,
                [image, text].map(|e| (&e.found, e.expected.as_ref())),
            ));
            if let (Precision::Fp32, Some(reference)) = (precision, reference)
                && let Some(logits) = logits(reference, &image.found, &text.found, logit_parameters)?
                && self.logits.as_ref().is_none_or(|worst| logits.over_scale > worst.over_scale)
            {
                self.logits = Some(logits);
            }
        }
        Ok(())
    }
}

/// Running one tower.
struct Job<'a> {
    engine: &'a Engine,
    reference: Option<&'a Reference>,
    /// What the same tower gives in float32, or fed floats, for the inputs there are without a reference.
    baseline: Option<&'a Array>,
    batches: &'a [usize],
    max_drop: Option<f64>,
    step: &'a dyn Fn(&str),
}

impl Job<'_> {
    /// The rows a tower is run on.
    fn inputs(&self, tower: &Tower) -> Result<Vec<Array>, Error> {
        match self.reference {
            Some(reference) => reference.inputs(tower),
            None => Ok(inputs::fixed(tower, self.batches.iter().copied().max().unwrap_or(1))),
        }
    }

    /// Runs a tower at every batch size; gives its embeddings of all rows too.
    fn run(
        &self,
        tower: &Tower,
        inputs: &[Array],
        load_seconds: f64,
    ) -> Result<(TowerReport, Option<Embedded>), Error> {
        let rows = inputs[0].shape[0];
        let sizes: Vec<usize> = tower.fixed_batch.map_or_else(|| self.batches.to_vec(), |batch| vec![batch]);
        let largest = sizes.iter().copied().max().unwrap_or(1);

        let mut reports = Vec::new();
        let mut all: Option<Embedded> = None;
        let mut first: Option<(Array, usize)> = None;
        let mut normalized = tower.normalized;
        for &batch in &sizes {
            (self.step)(&format!("running {} at batch {batch} with {}", tower.name, self.engine.name()));
            let started = Instant::now();
            let runnable = tower.at_batch(batch, inputs)?;
            // Every row once at the largest batch, the first rows at the others.
            let runs = if batch == largest { rows.div_ceil(batch) } else { 1 };
            let mut out: Option<Array> = None;
            for run in 0..runs {
                let taken: Vec<usize> = (0..batch).map(|i| (run * batch + i) % rows).collect();
                let rows: Vec<Array> = inputs.iter().map(|array| array.rows(&taken)).collect();
                let got = runnable.run(&rows)?;
                out = Some(match out {
                    None => got,
                    Some(out) => out.followed_by(&got),
                });
            }
            let Some(out) = out else { continue };
            let covered: Vec<usize> = (0..out.shape[0]).map(|i| i % rows).collect();
            let is_normalized = *normalized.get_or_insert_with(|| inputs::unit_norm_error(&out) < 1e-3);
            let expected = match self.reference {
                Some(reference) => Some(reference.embedding(tower, is_normalized)?),
                None => self.baseline.filter(|baseline| baseline.shape[0] == rows && !tower.resizes_always()),
            };
            let compared = expected.map(|expected| Compared::new(&out, &expected.rows(&covered)));
            let consistency = match &first {
                None => None,
                Some((first, first_batch)) => {
                    let n = out.shape[0].min(*first_batch);
                    let rows: Vec<usize> = (0..n).collect();
                    Some(Agreement::between(&out.rows(&rows), &first.rows(&rows)).relative_error)
                }
            };
            reports.push(BatchReport {
                batch,
                rows: covered.len(),
                seconds: started.elapsed().as_secs_f64(),
                finite: out.values.iter().all(|v| v.is_finite()),
                unit_norm_error: is_normalized.then(|| inputs::unit_norm_error(&out)),
                consistency,
                compared,
            });
            first.get_or_insert_with(|| (out.clone(), batch));
            if batch == largest {
                let found = out.rows(&(0..rows.min(out.shape[0])).collect::<Vec<_>>());
                let expected = expected.filter(|expected| expected.shape == found.shape).cloned();
                all = Some(Embedded { found, expected });
            }
        }
        let report =
            TowerReport::new(tower, self.engine, self.max_drop, normalized.unwrap_or(false), load_seconds, reports);
        Ok((report, all))
    }
}

/// Logits of all reference images and texts from the towers' own embeddings.
fn logits(
    reference: &Reference,
    image: &Array,
    text: &Array,
    stored: Option<(f64, f64)>,
) -> Result<Option<LogitsReport>, Error> {
    let Some(expected) = reference.logits([image.shape[0], text.shape[0]])? else { return Ok(None) };
    let named = reference.number("logit_scale_exp").map(|scale| (scale, reference.number("logit_bias").unwrap_or(0.0)));
    let Some((scale, bias)) = stored.or(named) else { return Ok(None) };
    let unit = |a: &Array, row: usize| -> Vec<f64> {
        let row = a.row(row);
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        row.iter().map(|&v| f64::from(v) / norm).collect()
    };
    let texts: Vec<Vec<f64>> = (0..text.shape[0]).map(|row| unit(text, row)).collect();
    let mut max_abs = 0f64;
    for row in 0..image.shape[0] {
        let image = unit(image, row);
        for (text, &want) in texts.iter().zip(expected.row(row)) {
            let dot: f64 = image.iter().zip(text).map(|(a, b)| a * b).sum();
            let error = (scale * dot + bias - f64::from(want)).abs();
            max_abs = if error.is_nan() { f64::INFINITY } else { max_abs.max(error) };
        }
    }
    let off = named.map(|(other, other_bias)| ((scale - other) / other).abs().max((bias - other_bias).abs() / other));
    Ok(Some(LogitsReport { scale_error: off, ..LogitsReport::new(max_abs, scale, bias) }))
}
