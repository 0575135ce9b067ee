//! A tower in each precision asked for: from one graph, and one study of its weights.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::calibrate::Bench;
use super::describe::{Measured, file_name};
use super::export::{Export, not_written};
use super::{Error, Progress};
use crate::onnx::graph::Parts;
use crate::onnx::norms_apart;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, write};
use crate::precision::{self, LayerReport, Narrowed, Precision, Study};
use crate::tensor;
use crate::verify::Engine;
use crate::verify::tower::Array;

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
    /// Where there is something to measure.
    bench: Option<Bench<'a>>,
    /// Made when they are needed first.
    study: Option<Study>,
    /// What the float32 graph gives where there is something to measure.
    right: Option<Array>,
}

impl<'a> Narrowing<'a> {
    /// # Errors
    /// When the file of inputs cannot be read.
    pub fn new(
        request: &'a Export,
        parts: Parts,
        engines: &'a [Engine],
        folder: &'a Path,
    ) -> Result<Narrowing<'a>, Error> {
        let bench = request.measures().then(|| Bench::new(request, engines, folder)).transpose()?;
        Ok(Narrowing { request, parts, bench, study: None, right: None })
    }

    /// What the manifest says of measuring.
    pub fn measured(&self) -> Measured {
        self.bench.as_ref().map_or_else(Measured::default, Bench::described)
    }

    /// The graph in a precision, and what became of its layers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for what reading a weight reports; or what measuring does.
    pub fn parts(&mut self, precision: Precision, progress: &dyn Progress) -> Result<(Parts, Narrowed), Error> {
        let name = format!("{}{}", self.parts.name, precision.suffix());
        self.prepare(precision, &name, progress)?;
        let mut options = self.request.narrowing.clone();
        let mut narrowed = self.narrowed(precision, &options, &name, progress)?;
        let mut parts = narrowed.take_parts();
        let measuring = self.bench.as_ref().zip(self.right.as_ref());
        if let Some((bench, right)) = measuring.filter(|_| precision.is_in_whole_numbers()) {
            let drop = self.request.max_drop.unwrap_or(precision.usual_drop());
            progress.start(&format!("measuring {name}"), None);
            let ranked = ranked(&narrowed);
            let mut keeping = |count: usize| -> Result<(Parts, Narrowed, f64), Error> {
                progress.start(&format!("measuring {name} with {count} of {} layers kept", ranked.len()), None);
                options.measured = ranked[..count].to_vec();
                let mut trial = self.narrowed(precision, &options, &name, progress)?;
                let parts = trial.take_parts();
                let lost = bench.drop(&parts, right)?;
                Ok((parts, trial, lost))
            };
            if bench.drop(&parts, right)? > drop {
                // The fewest that do, found by halving, since more kept lose less; as a rule, so that in the
                // end more are kept until it is so.
                let (mut few, mut many) = (1, ranked.len());
                while few < many {
                    let count = (few + many) / 2;
                    if keeping(count)?.2 > drop { few = count + 1 } else { many = count }
                }
                let mut lost = f64::INFINITY;
                for count in few..=ranked.len() {
                    (parts, narrowed, lost) = keeping(count)?;
                    if lost <= drop {
                        break;
                    }
                }
                if ranked.is_empty() {
                    progress.warn(&format!(
                        "{name}: a cosine is more than {drop:e} below 1 and there are no layers left to keep; another --precision loses less"
                    ));
                } else if lost > drop {
                    progress.warn(&format!(
                        "{name}: with all {} layers kept that can be, a cosine is still {lost:.1e} below 1, not {drop:e}; another --precision loses less",
                        ranked.len()
                    ));
                }
            }
        }
        parts.metadata.insert("precision".to_owned(), precision.name().to_owned());
        let apart = matches!(precision, Precision::Fp32 | Precision::Fp16Weights | Precision::Int8Weights);
        Ok((if apart { norms_apart(parts) } else { parts }, narrowed))
    }

    /// Sees to it that what whole numbers need is known.
    fn prepare(&mut self, precision: Precision, name: &str, progress: &dyn Progress) -> Result<(), Error> {
        if self.study.is_some() || !precision.is_in_whole_numbers() {
            return Ok(());
        }
        progress.start(&format!("studying {name}"), None);
        self.study = Some(match &self.bench {
            Some(bench) if self.request.calibrate.is_some() => bench.study(&self.parts, progress)?,
            _ => Study::of_weights(&self.parts).map_err(|source| self.wrong(source))?,
        });
        if let Some(bench) = self.bench.as_ref().filter(|_| !self.request.narrowing.keep_nothing) {
            self.right = Some(bench.embeddings(&self.parts)?);
        }
        Ok(())
    }

    fn narrowed(
        &self,
        precision: Precision,
        options: &precision::Options,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Narrowed, Error> {
        let nothing = Study::default();
        if precision.is_in_whole_numbers() {
            progress.start(&format!("choosing scales of {name}"), None);
        }
        let study = self.study.as_ref().unwrap_or(&nothing);
        precision.apply(&self.parts, study, options).map_err(|source| self.wrong(source))
    }

    fn wrong(&self, source: tensor::Error) -> Error {
        Error::Tensor { path: self.request.checkpoint.display().to_string(), source }
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

/// Layers in the order in which to keep them: those that lose most for their size first.
fn ranked(narrowed: &Narrowed) -> Vec<String> {
    let mut layers: Vec<&LayerReport> = narrowed.layers.iter().filter(|l| l.own && l.kept.is_none()).collect();
    let worth = |layer: &LayerReport| layer.error * layer.error / layer.bytes as f64;
    layers.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    layers.into_iter().map(|layer| layer.name.clone()).collect()
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
