//! One graph in each of several precisions, from one set of activation statistics.

use serde::Serialize;

use super::resolve::Recipe;
use super::runner::{Calibrated, Runner};
use super::workspace::Workspace;
use super::{Error, Progress};
use crate::engine::Array;
use crate::files::file_name;
use crate::onnx::graph::Parts;
use crate::onnx::legalize::layer_norm;
use crate::onnx::write::Written;
use crate::precision::{self, Activations, LayerReport, Precision, Rewritten};

/// What a precision came to, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct PrecisionReport {
    /// Name of the file.
    pub file: String,
    /// Name of the precision.
    pub precision: &'static str,
    /// Bytes of the file, and of its external data.
    pub size: u64,
    /// Layers in higher precision than asked for, and their bytes.
    pub kept: usize,
    /// Bytes of these layers' weights.
    pub kept_bytes: u64,
    /// Weights beyond the range of float16, by name: how many numbers of each.
    pub clamped: Vec<(String, u64)>,
    /// Each layer: its precision, and the loss where it was measured.
    pub layers: Vec<LayerReport>,
}

impl PrecisionReport {
    /// Once the file is written.
    pub fn new(precision: Precision, rewritten: &Rewritten, written: &[Written]) -> PrecisionReport {
        let kept = || rewritten.layers.iter().filter(|layer| layer.promoted.is_some());
        PrecisionReport {
            file: written.first().map_or_else(String::new, |file| file_name(&file.path)),
            precision: precision.name(),
            size: written.iter().map(|file| file.size).sum(),
            kept: kept().count(),
            kept_bytes: kept().map(|layer| layer.bytes).sum(),
            clamped: rewritten.clamped(),
            layers: rewritten.layers.clone(),
        }
    }
}

/// A float32 graph, to be written in other precisions.
pub struct Quantizer<'a> {
    parts: Parts,
    recipe: &'a Recipe,
    work: &'a Workspace,
    runner: &'a Runner<'a>,
    /// Worked out when a quantised precision is asked for first.
    activations: Option<Activations>,
    /// The float32 graph's embeddings, where losses are measured.
    expected: Option<Array>,
}

impl<'a> Quantizer<'a> {
    pub fn new(parts: Parts, recipe: &'a Recipe, work: &'a Workspace, runner: &'a Runner<'a>) -> Quantizer<'a> {
        Quantizer { parts, recipe, work, runner, activations: None, expected: None }
    }

    /// What the manifest says of calibration.
    pub fn calibrated(&self) -> Calibrated {
        self.runner.described()
    }

    /// The float32 graph.
    pub fn into_float32(self) -> Parts {
        self.parts
    }

    /// The graph in a precision, and what became of its layers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for what reading a weight reports, or what running the graph does.
    pub fn parts(&mut self, precision: Precision, progress: &dyn Progress) -> Result<Rewritten, Error> {
        let name = format!("{}{}", self.parts.name, precision.suffix());
        if precision.is_quantized() {
            self.calibrate(&name, progress)?;
        }
        let mut rewritten = self.rewrite(precision, &self.recipe.quantize, &name, progress)?;
        if let Some(expected) = self.expected.as_ref().filter(|_| precision.is_quantized()) {
            progress.start(&format!("measuring {name}"), None);
            let bound = self.recipe.max_drop.unwrap_or(precision.usual_drop());
            if self.runner.drop(&rewritten.graph, expected)? > bound {
                rewritten = self.exclude_layers(precision, rewritten, bound, progress)?;
            }
        }
        rewritten.graph.metadata.insert("precision".to_owned(), precision.name().to_owned());
        let in_float32 = matches!(precision, Precision::Fp32 | Precision::Fp16Weights | Precision::Int8Weights);
        if in_float32 {
            rewritten.graph = layer_norm::decompose(rewritten.graph);
        }
        Ok(rewritten)
    }

    /// Excludes as many layers from a precision as it takes for the least cosine to be no more than `bound` below 1, those
    /// first that lose most for their size. The number is found by halving, since more excluded layers lose less as a rule;
    /// in the end it is raised until the bound holds.
    fn exclude_layers(
        &self,
        precision: Precision,
        mut rewritten: Rewritten,
        bound: f64,
        progress: &dyn Progress,
    ) -> Result<Rewritten, Error> {
        let name = format!("{}{}", self.parts.name, precision.suffix());
        let Some(expected) = &self.expected else { return Ok(rewritten) };
        let ranked = ranked(&rewritten);
        let excluding = |count: usize| -> Result<(Rewritten, f64), Error> {
            progress.start(&format!("measuring {name} with {count} of {} layers excluded", ranked.len()), None);
            let options = precision::Options { measured: ranked[..count].to_vec(), ..self.recipe.quantize.clone() };
            let trial = self.rewrite(precision, &options, &name, progress)?;
            let lost = self.runner.drop(&trial.graph, expected)?;
            Ok((trial, lost))
        };
        let (mut few, mut many) = (1, ranked.len());
        while few < many {
            let count = (few + many) / 2;
            if excluding(count)?.1 > bound { few = count + 1 } else { many = count }
        }
        let mut lost = f64::INFINITY;
        for count in few..=ranked.len() {
            (rewritten, lost) = excluding(count)?;
            if lost <= bound {
                break;
            }
        }
        if ranked.is_empty() {
            progress.warn(&format!(
                "{name}: a cosine is more than {bound:e} below 1 and there are no layers left to exclude; another precision loses less"
            ));
        } else if lost > bound {
            progress.warn(&format!(
                "{name}: with all {} layers excluded that can be, a cosine is still {lost:.1e} below 1, not {bound:e}; another precision loses less",
                ranked.len()
            ));
        }
        Ok(rewritten)
    }

    /// Works out activation statistics, measured or estimated from weights, and the float32 embeddings.
    fn calibrate(&mut self, name: &str, progress: &dyn Progress) -> Result<(), Error> {
        if self.activations.is_some() {
            return Ok(());
        }
        progress.start(&format!("reading activations of {name}"), None);
        self.activations = Some(if self.runner.calibrates() {
            self.runner.activations(&self.parts, progress)?
        } else {
            Activations::of_weights(&self.parts).map_err(|source| self.work.unreadable(source))?
        });
        if self.runner.measures() && self.recipe.quantize.auto_exclude {
            self.expected = Some(self.runner.embeddings(&self.parts)?);
        }
        Ok(())
    }

    fn rewrite(
        &self,
        precision: Precision,
        options: &precision::Options,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<Rewritten, Error> {
        let unknown = Activations::default();
        if precision.is_quantized() {
            progress.start(&format!("choosing scales of {name}"), None);
        }
        let activations = self.activations.as_ref().unwrap_or(&unknown);
        precision.apply(&self.parts, activations, options).map_err(|source| self.work.unreadable(source))
    }
}

/// Layers in the order in which to exclude them: those first that lose most for their size.
fn ranked(rewritten: &Rewritten) -> Vec<String> {
    let mut layers: Vec<&LayerReport> = rewritten.layers.iter().filter(|layer| layer.promotable).collect();
    let worth = |layer: &LayerReport| layer.error * layer.error / layer.bytes as f64;
    layers.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    layers.into_iter().map(|layer| layer.name.clone()).collect()
}
