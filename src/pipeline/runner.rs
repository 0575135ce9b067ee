//! Graphs that are run while an export is made: to calibrate, and to measure what a precision loses.

use std::path::PathBuf;
use std::sync::Arc;

use super::request::Export;
use super::workspace::Workspace;
use super::{Error, Progress};
use crate::engine::{self, Array, Engine, Tower};
use crate::onnx::graph::{ElementType, Parts, Port};
use crate::precision::{self, Activations};
use crate::verify::{self, Agreement, Reference};

/// What scales and excluded layers rest on, where graphs were run to choose them.
#[derive(Clone, Debug, Default)]
pub struct Calibrated {
    /// SHA-256 of the file of inputs.
    pub inputs: Option<String>,
    /// The engine that is asked first.
    pub engine: Option<String>,
}

/// What graphs are run with, and on.
pub struct Runner<'a> {
    engines: &'a [Arc<dyn Engine>],
    work: &'a Workspace,
    inputs: Option<Reference>,
    /// Batch sizes that losses are measured at.
    batches: Vec<usize>,
    /// Whether activations are measured.
    calibrates: bool,
    /// Whether losses are measured.
    measures: bool,
}

impl<'a> Runner<'a> {
    /// # Errors
    /// When the file of inputs cannot be read.
    pub fn new(request: &Export, engines: &'a [Arc<dyn Engine>], work: &'a Workspace) -> Result<Runner<'a>, Error> {
        let measures = request.calibrates();
        let file = request.precision.calibrate.as_ref().or(request.proof.reference.as_ref()).filter(|_| measures);
        Ok(Runner {
            engines,
            work,
            inputs: file.map(|path| Reference::read(path)).transpose()?,
            batches: request.proof.batch_sizes().to_vec(),
            calibrates: request.precision.calibrate.is_some(),
            measures,
        })
    }

    /// Whether activations are measured.
    pub fn calibrates(&self) -> bool {
        self.calibrates
    }

    /// Whether losses are measured.
    pub fn measures(&self) -> bool {
        self.measures
    }

    /// What the manifest says of it.
    pub fn described(&self) -> Calibrated {
        if !self.measures {
            return Calibrated::default();
        }
        Calibrated {
            inputs: self.inputs.as_ref().map(|inputs| inputs.sha256.clone()),
            engine: self.engines.last().map(|engine| engine.name().to_owned()),
        }
    }

    /// Statistics of the inputs of a float32 graph's layers.
    ///
    /// # Errors
    /// When no engine runs it on the inputs, or an activation is not finite.
    pub fn activations(&self, parts: &Parts, progress: &dyn Progress) -> Result<Activations, Error> {
        let mut observed = precision::observed(parts);
        let mut graph = parts.clone();
        graph.outputs.extend(observed.iter().map(|(value, _)| Port {
            name: parts.value_name(*value).to_owned(),
            element_type: ElementType::Float,
            dims: vec![],
        }));
        self.run(&graph, |tower, inputs| {
            observed = precision::observed(parts);
            let outputs = tower.outputs().len();
            let inside: Vec<usize> = (outputs - observed.len()..outputs).collect();
            let rows = inputs.first().map_or(0, Array::batch);
            for row in 0..rows {
                progress.start(&format!("calibrating {}, row {} of {rows}", parts.name, row + 1), None);
                let inputs: Vec<Array> = inputs.iter().map(|array| array.rows(&[row])).collect();
                for ((_, channels), array) in observed.iter_mut().zip(tower.run_for(&inputs, &inside)?) {
                    channels.add(array.shape(), array.floats().unwrap_or_default());
                }
            }
            Ok(())
        })?;
        if !observed.iter().all(|(_, channels)| channels.are_finite()) {
            let path = self.inputs.as_ref().map_or_else(|| parts.name.clone(), |inputs| inputs.path.clone());
            let reason = format!("on these inputs an activation of {} is not finite", parts.name);
            return Err(verify::Error::Reference { path, reason }.into());
        }
        Ok(Activations::measured(observed))
    }

    /// The embeddings of a graph, every row in a batch of its own.
    ///
    /// # Errors
    /// When no engine runs it on the inputs.
    pub fn embeddings(&self, parts: &Parts) -> Result<Array, Error> {
        self.run(parts, |tower, inputs| tower.run_all(inputs, 1))
    }

    /// How far the least cosine of a graph's embeddings with the expected ones is below 1, in any of the batch sizes.
    ///
    /// # Errors
    /// As [`Runner::embeddings`].
    pub fn drop(&self, parts: &Parts, expected: &Array) -> Result<f64, Error> {
        self.run(parts, |tower, inputs| {
            let (rows, mut worst) = (expected.batch(), 0f64);
            for &batch in &self.batches {
                let found = tower.run_all(inputs, batch)?;
                let wanted: Vec<usize> = (0..found.batch()).map(|row| row % rows).collect();
                worst = worst.max(1.0 - Agreement::between(&found, &expected.rows(&wanted)).cosine);
            }
            Ok(worst)
        })
    }

    /// Writes a graph and runs it with the first engine that can, ONNX Runtime before tract.
    fn run<T>(
        &self,
        parts: &Parts,
        mut job: impl FnMut(&Tower, &[Array]) -> Result<T, engine::Error>,
    ) -> Result<T, Error> {
        let scratch = self.work.scratch(parts, &format!("{}.onnx", parts.name))?;
        let shown = PathBuf::from(&parts.name);
        let rows = self.batches.iter().copied().max().unwrap_or(1);
        let mut failed = engine::Error::NoEngines;
        for engine in self.engines.iter().rev() {
            let outcome = Tower::open(&scratch.path, &shown, &**engine, None).map_err(verify::Error::from);
            let outcome = outcome.and_then(|tower| {
                let inputs = match &self.inputs {
                    Some(inputs) => inputs.inputs(&tower)?,
                    None => tower.varied(rows)?,
                };
                Ok(job(&tower, &inputs)?)
            });
            match (outcome, &self.inputs) {
                (Ok(done), _) => return Ok(done),
                // It is the file of inputs that does not fit.
                (Err(verify::Error::Engine(engine::Error::Unfit { reason, .. })), Some(inputs)) => {
                    let reason = format!("it cannot be fed to {}: {reason}", parts.name);
                    return Err(verify::Error::Reference { path: inputs.path.clone(), reason }.into());
                }
                (Err(verify::Error::Engine(error)), _) => failed = error,
                (Err(error), _) => return Err(error.into()),
            }
        }
        Err(failed.with_others(self.engines).into())
    }
}
