//! A tower in each precision asked for: from one graph, and one study of its weights.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::describe::file_name;
use super::export::{Export, not_written};
use super::{Error, Progress};
use crate::onnx::graph::Parts;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, write};
use crate::precision::{LayerReport, Narrowed, Precision, Study};
use crate::tensor;

/// What a precision came to, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct PrecisionReport {
    pub file: String,
    pub precision: &'static str,
    /// Of the file, and its weights beside it.
    pub size: u64,
    /// Layers that are in higher precision than asked for, and the bytes they take.
    pub kept: usize,
    pub kept_bytes: u64,
    /// Weights beyond the range of float16, by name: how many.
    pub clamped: Vec<(String, u64)>,
    pub layers: Vec<LayerReport>,
}

impl PrecisionReport {
    /// Once the file is written.
    pub fn new(precision: Precision, narrowed: &Narrowed, written: &[Written]) -> PrecisionReport {
        let kept = || narrowed.layers.iter().filter(|layer| layer.kept.is_some());
        PrecisionReport {
            file: written.first().map_or_else(String::new, |file| file_name(&file.path)),
            precision: precision.name(),
            size: written.iter().map(|file| file.size).sum(),
            kept: kept().count(),
            kept_bytes: kept().map(|layer| layer.bytes).sum(),
            clamped: narrowed.clamped(),
            layers: narrowed.layers.clone(),
        }
    }
}

/// A tower's float32 graph, to be written in other precisions.
pub struct Narrowing<'a> {
    request: &'a Export,
    parts: Parts,
    /// Made when it is needed first.
    study: Option<Study>,
}

impl<'a> Narrowing<'a> {
    pub fn new(request: &'a Export, parts: Parts) -> Narrowing<'a> {
        Narrowing { request, parts, study: None }
    }

    /// The graph in a precision, and what became of its layers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for what reading a weight reports.
    pub fn parts(&mut self, precision: Precision, progress: &dyn Progress) -> Result<(Parts, Narrowed), Error> {
        let path = self.request.checkpoint.display().to_string();
        let wrong = |source: tensor::Error| Error::Tensor { path, source };
        if precision.is_in_whole_numbers() {
            progress.start(&format!("choosing scales of {}{}", self.parts.name, precision.suffix()), None);
        }
        let mut narrowed = self.narrowed(precision).map_err(wrong)?;
        let mut parts = narrowed.take_parts();
        parts.metadata.insert("precision".to_owned(), precision.name().to_owned());
        Ok((parts, narrowed))
    }

    fn narrowed(&mut self, precision: Precision) -> Result<Narrowed, tensor::Error> {
        let study = match self.study.take() {
            Some(study) => study,
            None if precision.is_in_whole_numbers() => Study::of_weights(&self.parts)?,
            None => Study::default(),
        };
        let narrowed = precision.apply(&self.parts, &study, &self.request.narrowing);
        self.study = precision.is_in_whole_numbers().then_some(study);
        narrowed
    }

    /// The float32 file, to compare others with where it is not one of those asked for.
    ///
    /// # Errors
    /// What reading a weight or writing the file reports.
    pub fn baseline(&self, folder: &Path) -> Result<Scratch, Error> {
        let mut parts = self.parts.clone();
        parts.metadata.insert("precision".to_owned(), Precision::Fp32.name().to_owned());
        Scratch::write(self.request, &parts, &format!("{}.onnx", parts.name), folder)
    }
}

/// A file that is run and not handed over; it disappears when this is dropped.
pub struct Scratch {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scratch {
    /// Writes `parts` as `name` into a folder of its own in `folder`.
    ///
    /// # Errors
    /// What reading a weight or writing the file reports.
    pub fn write(request: &Export, parts: &Parts, name: &str, folder: &Path) -> Result<Scratch, Error> {
        let failed = |source| not_written(request, name, source);
        let scratch = tempfile::Builder::new().prefix("scratch-").tempdir_in(folder);
        let scratch = scratch.map_err(|source| failed(WriteError::io(&request.out, 0, source)))?;
        let path = scratch.path().join(name);
        let options = Options { external: ExternalData::Auto, hash: false };
        write(parts, &path, options, |_| Ok(()), &|_| ()).map_err(failed)?;
        Ok(Scratch { path, _folder: scratch })
    }
}
