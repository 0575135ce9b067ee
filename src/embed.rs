//! Photographs and sentences through exported towers.
//!
//! A folder that an export wrote says everything else: which model, how its pixels and tokens are made,
//! scale and bias of its logits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use serde::Deserialize;

use crate::config::{self, ModelConfig};
use crate::files::hex;
use crate::onnx::read::summary;
use crate::output::MANIFEST;
use crate::pixels::{self, Picture, Pixels};
use crate::precision::Precision;
use crate::tokenize::{self, Tokenizer};
use crate::towers::PROBABILITIES;
use crate::verify::inside::likely;
use crate::verify::tower::{Array, Kind, Runnable, Tower, precision};
use crate::verify::{self, Engine};

pub mod store;

/// What can keep a folder from being used, or one photograph or sentence from an embedding.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} is no folder that an export wrote: {reason}; name one that `clip-onnx export` made")]
    Folder { path: String, reason: String },
    #[error(
        "{path} has no {kind} tower in {precision}; its manifest.json lists {found}; name another with --precision, or export it with --precision {precision}"
    )]
    NoTower { path: String, kind: &'static str, precision: Precision, found: String },
    #[error(
        "{path} is a classifier, without a text tower: its labels are inside; run `clip-onnx classify` without labels, or export without --labels"
    )]
    Classifier { path: String },
    #[error(
        "{path} has no labels inside; name some, or a file of them with --labels, or put them in with `clip-onnx export --labels FILE`"
    )]
    NoLabels { path: String },
    #[error(transparent)]
    Config(Box<config::Error>),
    #[error(transparent)]
    Tokenizer(#[from] tokenize::Error),
    #[error(transparent)]
    Pixels(#[from] pixels::Error),
    #[error(transparent)]
    Verify(Box<verify::Error>),
    #[error(transparent)]
    Onnx(Box<crate::onnx::read::Error>),
    #[error("`{0}` has an embedding that is no number")]
    NotFinite(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub fn remedy(&self) -> Option<String> {
        None
    }
}

impl From<verify::Error> for Error {
    fn from(error: verify::Error) -> Error {
        Error::Verify(Box::new(error))
    }
}

impl From<crate::onnx::read::Error> for Error {
    fn from(error: crate::onnx::read::Error) -> Error {
        Error::Onnx(Box::new(error))
    }
}

/// The part of `manifest.json` that is needed.
#[derive(Deserialize)]
struct Manifest {
    tool: String,
    metadata: BTreeMap<String, String>,
    config: serde_json::Value,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    path: PathBuf,
}

/// What a folder is used with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files of this precision; where none is asked for, float32, or the first there is.
    pub precision: Option<Precision>,
    /// The model's `tokenizer.json`, where its vocabulary is not built in and the folder has none.
    pub tokenizer: Option<PathBuf>,
    pub engine: Engine,
    pub threads: Option<usize>,
    /// Photographs or sentences that are run at once.
    pub batch: usize,
    /// Turn and mirror photographs as their files say, which the models' own pipelines do not.
    pub orient: bool,
}

/// A folder's towers, ready.
pub struct Embedder {
    folder: PathBuf,
    /// SHA-256 of its manifest, which has those of its files.
    pub sha256: String,
    pub config: ModelConfig,
    /// What its files say of themselves.
    metadata: BTreeMap<String, String>,
    options: Options,
    /// Whether one of its files has labels inside.
    labels: bool,
    /// By kind and precision.
    files: Vec<(Kind, Precision, PathBuf)>,
}

impl Embedder {
    /// Reads what is in `folder`.
    ///
    /// # Errors
    /// [`Error::Folder`] when it is no export's.
    pub fn open(folder: &Path, options: Options) -> Result<Embedder, Error> {
        let wrong = |reason: String| Error::Folder { path: folder.display().to_string(), reason };
        let path = folder.join(MANIFEST);
        let text = crate::files::read_text(&path).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| wrong(format!("{MANIFEST}: {e}")))?;
        if manifest.tool != env!("CARGO_PKG_NAME") {
            return Err(wrong(format!("{MANIFEST} is of {}", manifest.tool)));
        }
        let config = ModelConfig::parse(&path.display().to_string(), &manifest.config.to_string())
            .map_err(|error| Error::Config(Box::new(error)))?;
        let (mut files, mut labels) = (Vec::new(), false);
        for file in manifest.files.iter().filter(|file| file.path.extension().is_some_and(|e| e == "onnx")) {
            let path = folder.join(&file.path);
            let summary = summary(&path)?;
            labels |= summary.outputs.iter().any(|output| output.name == PROBABILITIES);
            let kinds = verify::tower::kinds(&summary.inputs).unwrap_or_default();
            files.extend(kinds.into_iter().map(|(kind, _)| (kind, precision(&summary), path.clone())));
        }
        let sha256 = hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes()));
        Ok(Embedder { folder: folder.to_owned(), sha256, config, metadata: manifest.metadata, options, labels, files })
    }

    /// Whether labels are inside, instead of a text tower.
    pub fn has_labels(&self) -> bool {
        self.labels
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn tower(&self, image: bool) -> Result<Tower, Error> {
        let fits = |kind: Kind| (kind == Kind::Text) != image;
        let there: Vec<_> = self.files.iter().filter(|(kind, _, _)| fits(*kind)).collect();
        let wanted = self.options.precision.unwrap_or(Precision::Fp32);
        let exact = there.iter().find(|(_, precision, _)| *precision == wanted);
        let any = if self.options.precision.is_none() { there.first() } else { None };
        let Some((_, _, path)) = exact.or(any) else {
            if !image && self.has_labels() {
                return Err(Error::Classifier { path: self.folder.display().to_string() });
            }
            let found: Vec<&str> = there.iter().map(|(_, precision, _)| precision.name()).collect();
            return Err(Error::NoTower {
                path: self.folder.display().to_string(),
                kind: if image { "image" } else { "text" },
                precision: wanted,
                found: if found.is_empty() {
                    format!("no {} tower", if image { "image" } else { "text" })
                } else {
                    found.join(", ")
                },
            });
        };
        let mut towers = Tower::all(path, path, &self.options.engine, self.options.threads)?;
        let at = towers.iter().position(|tower| fits(tower.kind)).unwrap_or_default();
        Ok(towers.swap_remove(at))
    }

    /// The model's tokenizer: the one named, else the folder's, else built in.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let named = self.options.tokenizer.clone();
        let carried = ["", "textual"].map(|place| self.folder.join(place).join("tokenizer.json"));
        // One that is built in is cleaned for more exactly than its own file says.
        let is_other = |path: &PathBuf| {
            let json = || serde_json::from_str(&tokenize::json(Some(path)).ok()?).ok();
            !tokenize::built_in(&self.config) || !json().is_some_and(|json| tokenize::is_built_in(&json))
        };
        let file = named.or_else(|| carried.into_iter().find(|path| path.is_file() && is_other(path)));
        Ok(Tokenizer::new(&self.config, file.as_deref())?)
    }

    /// Calls `each` with the embedding of every photograph, in order, or what is wrong with it; decoding goes
    /// on meanwhile. Gives how many of them are to be shown turned, as their files say, and were not.
    ///
    /// # Errors
    /// When the tower cannot be loaded or run, or what `each` reports.
    pub fn images(
        &self,
        paths: &[PathBuf],
        mut each: impl FnMut(&Path, Result<Vec<f32>, Error>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let tower = self.tower(true)?;
        let (orient, turned) = (self.options.orient, AtomicUsize::new(0));
        let pixels = Pixels::new(&self.config).fed(tower.bytes());
        let batch = if tower.kind == Kind::Naflex { 1 } else { tower.fixed_batch.unwrap_or(self.options.batch).max(1) };
        let mut runs = Runs::new(&tower, &self.options.engine);
        let (sender, receiver) = sync_channel(2 * batch);
        std::thread::scope(|scope| {
            let turned = &turned;
            scope.spawn(move || {
                for path in paths {
                    let arrays = || {
                        let picture = Picture::open(path, orient)?;
                        turned.fetch_add(usize::from(picture.turned), Ordering::Relaxed);
                        Ok(pixels.of(&picture, path)?)
                    };
                    // Nobody listens any more when running failed.
                    if sender.send((path, arrays())).is_err() {
                        return;
                    }
                }
            });
            // Let go of when this ends early, so that whoever decodes is not waited for.
            let receiver = receiver;
            let mut waiting: Vec<(&PathBuf, Result<Vec<Array>, Error>)> = Vec::new();
            loop {
                let next = receiver.recv().ok();
                let done = next.is_none();
                waiting.extend(next);
                let ready = waiting.iter().filter(|(_, arrays)| arrays.is_ok()).count();
                if ready == batch || done {
                    let rows: Vec<&Vec<Array>> =
                        waiting.iter().filter_map(|(_, arrays)| arrays.as_ref().ok()).collect();
                    let mut found = runs.run(&rows, batch)?.into_iter();
                    for (path, arrays) in waiting.drain(..) {
                        let name = || path.display().to_string();
                        each(path, arrays.and_then(|_| finite(found.next(), name)))?;
                    }
                }
                if done {
                    return Ok(turned.load(Ordering::Relaxed));
                }
            }
        })
    }

    /// Calls `each` with the embedding of every sentence, in order, or what is wrong with it; how many were
    /// longer than the context, and lost their tails.
    ///
    /// # Errors
    /// When there is no tokenizer, the tower cannot be loaded or run, or what `each` reports.
    pub fn texts(
        &self,
        sentences: &[String],
        mut each: impl FnMut(&str, Result<Vec<f32>, Error>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let tokenizer = self.tokenizer()?;
        let mut cut = 0;
        let tower = self.tower(false)?;
        let batch = tower.fixed_batch.unwrap_or(self.options.batch).max(1);
        let mut runs = Runs::new(&tower, &self.options.engine);
        for sentences in sentences.chunks(batch) {
            let row = |sentence: &String| {
                let (ids, is_cut) = tokenizer.row_and_cut(sentence)?;
                cut += usize::from(is_cut);
                Ok(vec![Array { shape: vec![1, ids.len()], values: vec![], ids }])
            };
            let arrays: Vec<Result<Vec<Array>, Error>> = sentences.iter().map(row).collect();
            let rows: Vec<&Vec<Array>> = arrays.iter().filter_map(|arrays| arrays.as_ref().ok()).collect();
            let mut found = runs.run(&rows, batch)?.into_iter();
            for (sentence, arrays) in sentences.iter().zip(arrays) {
                each(sentence, arrays.and_then(|_| finite(found.next(), || sentence.clone())))?;
            }
        }
        Ok(cut)
    }

    /// What the folder's own labels are, and how likely a photograph shows each; and whether its file says that it is
    /// to be shown turned, which was not done.
    ///
    /// # Errors
    /// [`Error::NoLabels`] when no labels are inside, or what running it on the photograph reports.
    pub fn classify(&self, path: &Path) -> Result<(Vec<String>, Vec<f64>, bool), Error> {
        let tower = self.tower(true)?;
        let (Some(labels), Some(at)) = (tower.labels(), tower.output_at(PROBABILITIES)) else {
            return Err(Error::NoLabels { path: self.folder.display().to_string() });
        };
        let picture = Picture::open(path, self.options.orient)?;
        let row = Pixels::new(&self.config).fed(tower.bytes()).of(&picture, path)?;
        // A fixed batch is filled with the same.
        let batch = tower.fixed_batch.unwrap_or(1);
        let rows: Vec<Array> = row.iter().map(|array| array.rows(&vec![0; batch])).collect();
        let mut found = tower.at_batch(batch, &rows)?.run_for(&rows, &[at])?;
        let name = || path.display().to_string();
        let row =
            finite(found.pop().filter(|found| found.shape == [batch, labels.len()]).map(|f| f.row(0).to_vec()), name)?;
        Ok((labels, row.into_iter().map(f64::from).collect(), picture.turned))
    }

    /// How likely a photograph shows what each sentence says: of CLIP one of them does, so they sum to one; of
    /// SigLIP each is by itself. With `exp(logit_scale)` and bias of the checkpoint.
    ///
    /// # Errors
    /// [`Error::Folder`] when the towers carry no scale.
    pub fn probabilities(&self, image: &[f32], texts: &[Vec<f32>]) -> Result<Vec<f64>, Error> {
        let number = |key: &str| self.metadata.get(key).and_then(|text| text.parse::<f64>().ok());
        let Some(scale) = number("logit_scale_exp") else {
            let reason = "its files carry no logit_scale_exp, without which cosines are no probabilities".to_owned();
            return Err(Error::Folder { path: self.folder.display().to_string(), reason });
        };
        let cosines: Vec<f64> = texts.iter().map(|text| cosine(image, text)).collect();
        Ok(likely(&cosines, scale, number("logit_bias")))
    }
}

/// Cosine of the angle between two embeddings, normalised or not.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-300)
}

fn finite(row: Option<Vec<f32>>, name: impl Fn() -> String) -> Result<Vec<f32>, Error> {
    row.filter(|row| row.iter().all(|v| v.is_finite())).ok_or_else(|| Error::NotFinite(name()))
}

/// A tower run at one batch size after another.
pub(crate) struct Runs<'a> {
    tower: &'a Tower,
    /// The last one, by the shapes of its inputs.
    plan: Option<(Vec<Vec<usize>>, Runnable<'a>)>,
    /// Whether a new size costs enough to fill batches up instead.
    whole: bool,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(tower: &'a Tower, engine: &Engine) -> Runs<'a> {
        Runs { tower, plan: None, whole: engine.is_tract() }
    }

    /// Embeddings of these rows, no more than `batch`.
    pub(crate) fn run(&mut self, rows: &[&Vec<Array>], batch: usize) -> Result<Vec<Vec<f32>>, verify::Error> {
        let Some(first) = rows.first() else { return Ok(vec![]) };
        let fill = if self.whole || self.tower.fixed_batch.is_some() { batch } else { rows.len() };
        let joined = |input: usize| {
            let all = (0..fill).map(|at| &rows[at.min(rows.len() - 1)][input]);
            let mut joined = Array { shape: first[input].shape.clone(), values: vec![], ids: vec![] };
            joined.shape[0] = fill;
            for row in all {
                joined.values.extend_from_slice(&row.values);
                joined.ids.extend_from_slice(&row.ids);
            }
            joined
        };
        let inputs: Vec<Array> = (0..first.len()).map(joined).collect();
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape.clone()).collect();
        if self.plan.as_ref().is_none_or(|(was, _)| *was != shapes) {
            self.plan = Some((shapes, self.tower.at_batch(fill, &inputs)?));
        }
        let Some((_, plan)) = &self.plan else { return Ok(vec![]) };
        let found = plan.run(&inputs)?;
        Ok((0..rows.len()).map(|row| found.row(row).to_vec()).collect())
    }
}
