//! Images and texts through exported towers.
//!
//! A folder that an export wrote says everything else: which model, how its pixels and tokens are made,
//! scale and bias of its logits.
//!
//! ```no_run
//! use clip_onnx::embed::{Embedder, Options, cosine};
//! use clip_onnx::engine;
//!
//! let embedder = Embedder::open("out", Options::new(engine::tract()))?;
//! let photo = embedder.image_file("bicycle.jpg")?;
//! println!("{}", cosine(&photo, &embedder.text("a red bicycle")?));
//! # Ok::<(), clip_onnx::embed::Error>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use image::DynamicImage;

use crate::config::{self, ModelConfig};
use crate::engine::signature::Input;
use crate::engine::{self, Array, Engine, Tower};
use crate::modality::{Modality, PerModality};
use crate::pixels::{self, Picture, Pixels};
use crate::ports::PROBABILITIES;
use crate::ports::PixelFormat;
use crate::precision::Precision;
use crate::setting::Setting;
use crate::tokenize::{self, Tokenizer};
use crate::verify::inside::likely;

mod folder;
mod rows;
pub mod store;

pub use rows::{Embedded, Event, Items};

use folder::Folder;

/// What can keep a folder from being used, or one image or text from an embedding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder has no `manifest.json` of an export, or one that cannot be used.
    #[error("{path} is no folder that an export wrote: {reason}")]
    Folder {
        /// Path of the file.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// The folder has no tower for this modality and precision.
    #[error("{path} has no {modality} tower in {precision}; its manifest.json lists {found}")]
    NoTower {
        /// Path of the file.
        path: String,
        /// Modality that was asked for.
        modality: Modality,
        /// Precision that was asked for.
        precision: Precision,
        /// Towers of the folder.
        found: String,
    },
    /// Texts cannot be embedded: the folder holds a zero-shot classifier.
    #[error("{path} is a classifier, without a text tower: its labels are inside")]
    Classifier {
        /// Path of the file.
        path: String,
    },
    /// Labels were asked for, and the folder holds no zero-shot classifier.
    #[error("{path} has no labels inside")]
    NoLabels {
        /// Path of the file.
        path: String,
    },
    /// The model's configuration in `manifest.json` cannot be used.
    #[error(transparent)]
    Config(Box<config::Error>),
    /// The tokenizer cannot be loaded, or failed on a text.
    #[error(transparent)]
    Tokenizer(#[from] tokenize::Error),
    /// An image cannot be decoded or preprocessed.
    #[error(transparent)]
    Pixels(#[from] pixels::Error),
    /// No engine could load or run a tower.
    #[error(transparent)]
    Engine(Box<engine::Error>),
    /// An embedding with NaN or infinite values; holds the image's path, or the text.
    #[error("`{0}` has an embedding that is no number")]
    NotFinite(String),
    /// Every item failed.
    #[error("none of the {count} could be embedded; nothing is written")]
    NoneEmbedded {
        /// Number of items.
        count: usize,
    },
    /// The file of embeddings cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The operating system gives no thread to decode images on.
    #[error("there is no thread to decode images on: {0}")]
    Thread(std::io::Error),
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Error {
        Error::Engine(Box::new(error))
    }
}

impl From<crate::onnx::read::Error> for Error {
    fn from(error: crate::onnx::read::Error) -> Error {
        engine::Error::from(error).into()
    }
}

impl Error {
    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Error::Folder { .. } => Some("name a folder that an export wrote".to_owned()),
            Error::NoTower { precision, .. } => {
                Some(format!("ask for another precision, or export the model in {precision}"))
            }
            Error::Classifier { .. } => {
                Some(format!("classify without labels, or export the model without {}", Setting::ZeroShot))
            }
            Error::NoLabels { .. } => Some(format!("name some, or export the model with {}", Setting::ZeroShot)),
            Error::Engine(error) => error.remedy(),
            Error::Store(error) => error.remedy(),
            Error::Tokenizer(error) => error.remedy(),
            Error::Config(_)
            | Error::Pixels(_)
            | Error::NotFinite(_)
            | Error::NoneEmbedded { .. }
            | Error::Thread(_) => None,
        }
    }
}

/// What a folder is used with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Files of this precision; where none is asked for, float32, or the first there is.
    pub precision: Option<Precision>,
    /// The model's `tokenizer.json`, where its vocabulary is not built in and the folder has none.
    pub tokenizer: Option<PathBuf>,
    /// Engine that runs the towers.
    pub engine: Arc<dyn Engine>,
    /// Threads of one run; as many as the engine sees fit where None.
    pub threads: Option<usize>,
    /// Images or texts that are run at once.
    pub batch: usize,
    /// Turn and mirror images as their orientation tags say, which the models' own pipelines do not.
    pub orient: bool,
}

impl Options {
    /// An engine, and nothing out of the ordinary: batches of 8.
    pub fn new(engine: Arc<dyn Engine>) -> Options {
        Options { precision: None, tokenizer: None, engine, threads: None, batch: 8, orient: false }
    }
}

/// The towers of a folder.
pub struct Embedder {
    folder: Folder,
    options: Options,
    /// Towers that single images and texts are embedded with, once they are loaded.
    towers: PerModality<OnceLock<Tower>>,
    tokenizer: OnceLock<Tokenizer>,
}

impl Embedder {
    /// Reads what is in a folder.
    ///
    /// # Errors
    /// [`Error::Folder`] when no export wrote it.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Embedder, Error> {
        let folder = Folder::read(folder.as_ref())?;
        Ok(Embedder { folder, options, towers: PerModality::default(), tokenizer: OnceLock::new() })
    }

    /// The model.
    pub fn config(&self) -> &ModelConfig {
        &self.folder.config
    }

    /// Whether labels are inside, instead of a text tower.
    pub fn has_labels(&self) -> bool {
        self.folder.has_labels
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The embedding of one image. The tower stays loaded for the next one.
    ///
    /// # Errors
    /// When the tower cannot be loaded or run, or the image does not fit the model.
    pub fn image(&self, image: &DynamicImage) -> Result<Vec<f32>, Error> {
        self.picture(&Picture::from(image.clone()), Path::new("the image"))
    }

    /// As [`Embedder::image`], of a file: JPEG, PNG, WebP, GIF or BMP.
    ///
    /// # Errors
    /// Also when it cannot be read.
    pub fn image_file(&self, path: impl AsRef<Path>) -> Result<Vec<f32>, Error> {
        let path = path.as_ref();
        self.picture(&Picture::open(path, self.options.orient)?, path)
    }

    fn picture(&self, picture: &Picture, path: &Path) -> Result<Vec<f32>, Error> {
        let tower = self.kept_tower(Modality::Image)?;
        let row = self.pixels(tower).of(picture, path)?;
        one(tower, &row, || path.display().to_string())
    }

    /// The embedding of one text; what is longer than the context is cut. The tower stays loaded for the next one.
    ///
    /// # Errors
    /// When there is no tokenizer, or the tower cannot be loaded or run.
    pub fn text(&self, text: &str) -> Result<Vec<f32>, Error> {
        let (ids, _) = self.kept_tokenizer()?.row_and_cut(text)?;
        let row = [Array::new([1, ids.len()], ids)];
        one(self.kept_tower(Modality::Text)?, &row, || text.to_owned())
    }

    /// A tower that is loaded once and kept.
    fn kept_tower(&self, modality: Modality) -> Result<&Tower, Error> {
        let kept = self.towers.get(modality);
        match kept.get() {
            Some(tower) => Ok(tower),
            None => {
                let tower = self.load(modality)?;
                Ok(kept.get_or_init(|| tower))
            }
        }
    }

    fn load(&self, modality: Modality) -> Result<Tower, Error> {
        let path = self.file(modality)?;
        let towers = Tower::all(path, path, &*self.options.engine, self.options.threads)?;
        let mut towers = towers.into_iter().filter(|tower| tower.signature().modality() == modality);
        towers.next().ok_or_else(|| {
            let (path, reason) = (path.display().to_string(), format!("it has no {modality} tower"));
            engine::Error::Unfit { path, reason }.into()
        })
    }

    /// The file of a tower in the precision asked for.
    fn file(&self, modality: Modality) -> Result<&Path, Error> {
        let there = || self.folder.towers.iter().filter(|tower| tower.modality == modality);
        let wanted = self.options.precision.unwrap_or(Precision::Fp32);
        let exact = there().find(|tower| tower.precision == wanted);
        let any = if self.options.precision.is_none() { there().next() } else { None };
        if let Some(tower) = exact.or(any) {
            return Ok(&tower.path);
        }
        let path = self.folder.path.display().to_string();
        if modality == Modality::Text && self.has_labels() {
            return Err(Error::Classifier { path });
        }
        let found: Vec<&str> = there().map(|tower| tower.precision.name()).collect();
        let found = if found.is_empty() { format!("no {modality} tower") } else { found.join(", ") };
        Err(Error::NoTower { path, modality, precision: wanted, found })
    }

    /// How pixels are made for an image tower.
    fn pixels(&self, tower: &Tower) -> Pixels {
        let format = match &tower.signature().input {
            Input::Image(input) => input.format,
            Input::Naflex(_) | Input::Text(_) => PixelFormat::Float,
        };
        Pixels::new(&self.folder.config).in_format(format)
    }

    /// The model's tokenizer: the one named, else the folder's, else built in.
    ///
    /// # Errors
    /// As [`Tokenizer::new`].
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let config = &self.folder.config;
        let named = self.options.tokenizer.clone();
        let carried = ["", "textual"].map(|place| self.folder.path.join(place).join("tokenizer.json"));
        // One that is built in cleans text more exactly than its own file says.
        let is_other = |path: &PathBuf| {
            let json = || serde_json::from_str(&tokenize::json(Some(path)).ok()?).ok();
            !tokenize::built_in(config) || !json().is_some_and(|json| tokenize::is_built_in(&json))
        };
        let file = named.or_else(|| carried.into_iter().find(|path| path.is_file() && is_other(path)));
        Ok(Tokenizer::new(config, file.as_deref())?)
    }

    fn kept_tokenizer(&self) -> Result<&Tokenizer, Error> {
        match self.tokenizer.get() {
            Some(tokenizer) => Ok(tokenizer),
            None => {
                let tokenizer = self.tokenizer()?;
                Ok(self.tokenizer.get_or_init(|| tokenizer))
            }
        }
    }

    /// Calls `each` with the embedding of every image, in order, or what is wrong with it; decoding goes
    /// on meanwhile. Gives how many of them are to be shown turned, as their files say, and were not.
    ///
    /// # Errors
    /// When the tower cannot be loaded or run, or what `each` reports.
    pub fn images(
        &self,
        paths: &[PathBuf],
        mut each: impl FnMut(&Path, Result<Vec<f32>, Error>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let loaded;
        let tower = match self.towers.image.get() {
            Some(tower) => tower,
            None => {
                loaded = self.load(Modality::Image)?;
                &loaded
            }
        };
        let batch = match &tower.signature().input {
            // Each image has another number of patches.
            Input::Naflex(_) => 1,
            _ => tower.signature().fixed_batch.unwrap_or(self.options.batch).max(1),
        };
        let (pixels, turned) = (self.pixels(tower), AtomicUsize::new(0));
        let (sender, receiver) = sync_channel(2 * batch);
        std::thread::scope(|scope| {
            let turned = &turned;
            let decode = move || {
                for path in paths {
                    let row = Picture::open(path, self.options.orient).and_then(|picture| {
                        turned.fetch_add(usize::from(picture.turned), Ordering::Relaxed);
                        pixels.of(&picture, path)
                    });
                    // Nobody listens any more when running failed.
                    if sender.send((path, row.map_err(Error::from))).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new().spawn_scoped(scope, decode).map_err(Error::Thread)?;
            // Dropped when this ends early, so that the decoding thread is not waited for.
            let receiver = receiver;
            let mut waiting: Vec<(&PathBuf, Result<Vec<Array>, Error>)> = Vec::new();
            loop {
                let next = receiver.recv().ok();
                let is_last = next.is_none();
                waiting.extend(next);
                let ready = waiting.iter().filter(|(_, row)| row.is_ok()).count();
                if ready == batch || is_last {
                    let (paths, rows): (Vec<&PathBuf>, Vec<_>) = waiting.drain(..).unzip();
                    let found = run(tower, rows, batch, |at| paths[at].display().to_string())?;
                    paths.iter().zip(found).try_for_each(|(path, found)| each(path, found))?;
                }
                if is_last {
                    return Ok(turned.load(Ordering::Relaxed));
                }
            }
        })
    }

    /// Calls `each` with the embedding of every text, in order, or what is wrong with it. Gives how many were
    /// longer than the context, and lost their ends.
    ///
    /// # Errors
    /// When there is no tokenizer, the tower cannot be loaded or run, or what `each` reports.
    pub fn texts(
        &self,
        texts: &[String],
        mut each: impl FnMut(&str, Result<Vec<f32>, Error>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        if self.has_labels() {
            // Its texts are inside; a tokenizer would not help.
            return Err(Error::Classifier { path: self.folder.path.display().to_string() });
        }
        let tokenizer = self.kept_tokenizer()?;
        let loaded;
        let tower = match self.towers.text.get() {
            Some(tower) => tower,
            None => {
                loaded = self.load(Modality::Text)?;
                &loaded
            }
        };
        let batch = tower.signature().fixed_batch.unwrap_or(self.options.batch).max(1);
        let mut cut = 0;
        let mut waiting: Vec<(&String, Result<Vec<Array>, Error>)> = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let row = tokenizer.row_and_cut(text).map_err(Error::from).map(|(ids, is_cut)| {
                cut += usize::from(is_cut);
                vec![Array::new([1, ids.len()], ids)]
            });
            waiting.push((text, row));
            let ready = waiting.iter().filter(|(_, row)| row.is_ok()).count();
            if ready == batch || at + 1 == texts.len() {
                let (texts, rows): (Vec<&String>, Vec<_>) = waiting.drain(..).unzip();
                let found = run(tower, rows, batch, |at| texts[at].clone())?;
                texts.iter().zip(found).try_for_each(|(text, found)| each(text, found))?;
            }
        }
        Ok(cut)
    }

    /// The labels inside a classifier, and how likely an image shows each; and whether its file says that it is
    /// to be shown turned, which was not done.
    ///
    /// # Errors
    /// [`Error::NoLabels`] when no labels are inside, or what running it on the image reports.
    pub fn classify(&self, path: &Path) -> Result<(Vec<String>, Vec<f64>, bool), Error> {
        let tower = self.kept_tower(Modality::Image)?;
        let (Some(labels), Some(at)) = (tower.signature().labels.clone(), tower.output_at(PROBABILITIES)) else {
            return Err(Error::NoLabels { path: self.folder.path.display().to_string() });
        };
        let picture = Picture::open(path, self.options.orient)?;
        let row = self.pixels(tower).of(&picture, path)?;
        // A fixed batch is filled with the same image.
        let batch = tower.signature().fixed_batch.unwrap_or(1);
        let rows: Vec<Array> = row.iter().map(|array| array.rows(&vec![0; batch])).collect();
        let found = tower.run_for(&rows, &[at])?.pop().filter(|found| *found.shape() == [batch, labels.len()]);
        let row = finite(found.map(|found| found.row(0).to_vec()), || path.display().to_string())?;
        Ok((labels, row.into_iter().map(f64::from).collect(), picture.turned))
    }

    /// How likely an image shows what each text says: of CLIP one of them does, so they sum to one; of
    /// SigLIP each is by itself. With `exp(logit_scale)` and bias of the checkpoint.
    ///
    /// # Errors
    /// [`Error::Folder`] when the towers carry no scale.
    pub fn probabilities(&self, image: &[f32], texts: &[Vec<f32>]) -> Result<Vec<f64>, Error> {
        let number = |key: &str| self.folder.metadata.get(key).and_then(|text| text.parse::<f64>().ok());
        let Some(scale) = number("logit_scale_exp") else {
            let reason = "its files carry no logit_scale_exp, without which cosines are no probabilities".to_owned();
            return Err(Error::Folder { path: self.folder.path.display().to_string(), reason });
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

/// The embedding of one item, which is the tower's inputs of one row.
fn one(tower: &Tower, row: &[Array], name: impl Fn() -> String) -> Result<Vec<f32>, Error> {
    let row = row.to_vec();
    let found = tower.embed(&[&row], tower.signature().fixed_batch.unwrap_or(1))?;
    finite(found.into_iter().next(), name)
}

/// Embeddings of a batch of items, in order; what is wrong with one stays in its position.
fn run(
    tower: &Tower,
    rows: Vec<Result<Vec<Array>, Error>>,
    batch: usize,
    name: impl Fn(usize) -> String,
) -> Result<Vec<Result<Vec<f32>, Error>>, Error> {
    let good: Vec<&Vec<Array>> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
    let mut found = tower.embed(&good, batch)?.into_iter();
    let each = |(at, row): (usize, Result<Vec<Array>, Error>)| row.and_then(|_| finite(found.next(), || name(at)));
    Ok(rows.into_iter().enumerate().map(each).collect())
}

fn finite(row: Option<Vec<f32>>, name: impl Fn() -> String) -> Result<Vec<f32>, Error> {
    row.filter(|row| row.iter().all(|v| v.is_finite())).ok_or_else(|| Error::NotFinite(name()))
}
