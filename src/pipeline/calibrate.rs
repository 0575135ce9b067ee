//! Measuring, where the user gives inputs to measure with or a bound to hold: how large activations
//! are, and what a precision costs in the end.

use std::path::{Path, PathBuf};

use super::describe::Measured;
use super::export::Export;
use super::narrow::Scratch;
use super::{Error, Progress};
use crate::onnx::graph::{ElementType, Parts, Port};
use crate::precision::{self, Study};
use crate::verify::tower::{Array, Runnable, Tower};
use crate::verify::{self, Agreement, Engine, Reference, inputs};

/// How a tower is run to measure.
pub struct Bench<'a> {
    request: &'a Export,
    engines: &'a [Engine],
    folder: &'a Path,
    inputs: Option<Reference>,
}

impl<'a> Bench<'a> {
    /// # Errors
    /// When the file of inputs cannot be read.
    pub fn new(request: &'a Export, engines: &'a [Engine], folder: &'a Path) -> Result<Bench<'a>, Error> {
        let inputs = request.calibrate.as_ref().or(request.reference.as_ref());
        let inputs = inputs.map(|path| Reference::read(path)).transpose()?;
        Ok(Bench { request, engines, folder, inputs })
    }

    /// What the manifest says of it.
    pub fn described(&self) -> Measured {
        Measured {
            inputs: self.inputs.as_ref().map(|inputs| inputs.sha256.clone()),
            engine: self.engines.last().map(|engine| engine.name().to_owned()),
        }
    }

    /// What the layers of a float32 graph meet.
    ///
    /// # Errors
    /// When no engine runs it on the inputs, or what comes out is no number.
    pub fn study(&self, parts: &Parts, progress: &dyn Progress) -> Result<Study, Error> {
        let mut watched = precision::watched(parts);
        let mut graph = parts.clone();
        graph.outputs.extend(watched.iter().map(|(value, _)| Port {
            name: parts.value_name(*value).to_owned(),
            element_type: ElementType::Float,
            dims: vec![],
        }));
        self.run(&graph, |tower, inputs| {
            watched = precision::watched(parts);
            let runnable = tower.at_batch(1, inputs)?;
            let inside: Vec<usize> = (tower.outputs() - watched.len()..tower.outputs()).collect();
            let rows = inputs[0].shape[0];
            for row in 0..rows {
                progress.start(&format!("measuring {}, row {} of {rows}", parts.name, row + 1), None);
                let inputs: Vec<Array> = inputs.iter().map(|array| array.rows(&[row])).collect();
                for ((_, channels), array) in watched.iter_mut().zip(runnable.run_for(&inputs, &inside)?) {
                    channels.add(&array.shape, &array.values);
                }
            }
            Ok(())
        })?;
        if !watched.iter().all(|(_, channels)| channels.are_finite()) {
            let path = self.inputs.as_ref().map_or_else(|| parts.name.clone(), |inputs| inputs.path.clone());
            let reason = format!("on these inputs {} gives what is no number; they must be finite", parts.name);
            return Err(verify::Error::Reference { path, reason }.into());
        }
        Ok(Study::measured(watched.into_iter()))
    }

    /// The embeddings of a graph, every row alone.
    ///
    /// # Errors
    /// When no engine runs it on the inputs.
    pub fn embeddings(&self, parts: &Parts) -> Result<Array, Error> {
        self.run(parts, |tower, inputs| batched(&tower.at_batch(1, inputs)?, inputs, 1))
    }

    /// How far the least cosine of a graph's embeddings with the right ones is below 1, in any of the
    /// batches that are verified.
    ///
    /// # Errors
    /// As [`Bench::embeddings`].
    pub fn drop(&self, parts: &Parts, right: &Array) -> Result<f64, Error> {
        self.run(parts, |tower, inputs| {
            let (rows, mut worst) = (right.shape[0], 0f64);
            for &batch in &self.request.batches {
                let found = batched(&tower.at_batch(batch, inputs)?, inputs, batch)?;
                let expected: Vec<usize> = (0..found.shape[0]).map(|row| row % rows).collect();
                worst = worst.max(1.0 - Agreement::between(&found, &right.rows(&expected)).cosine);
            }
            Ok(worst)
        })
    }

    /// Writes a graph and runs it with the first engine that can, ONNX Runtime before tract.
    fn run<T>(
        &self,
        parts: &Parts,
        mut job: impl FnMut(&Tower, &[Array]) -> Result<T, verify::Error>,
    ) -> Result<T, Error> {
        let scratch = Scratch::write(self.request, parts, &format!("{}.onnx", parts.name), self.folder)?;
        let shown = PathBuf::from(&parts.name);
        let rows = self.request.batches.iter().copied().max().unwrap_or(1);
        let mut failed = verify::Error::NoLibrary;
        for engine in self.engines.iter().rev() {
            let outcome = Tower::open(&scratch.path, &shown, engine, None).and_then(|tower| {
                let inputs = match &self.inputs {
                    Some(inputs) => inputs.inputs(&tower)?,
                    None => inputs::fixed(&tower, rows),
                };
                job(&tower, &inputs)
            });
            match (outcome, &self.inputs) {
                (Ok(done), _) => return Ok(done),
                // What does not fit is the file of inputs.
                (Err(verify::Error::Tower { reason, .. }), Some(inputs)) => {
                    let reason = format!("it cannot be fed to {}: {reason}", parts.name);
                    return Err(verify::Error::Reference { path: inputs.path.clone(), reason }.into());
                }
                (Err(error), _) => failed = error,
            }
        }
        Err(failed.with_way_out(self.engines.iter().all(Engine::is_tract)).into())
    }
}

/// All rows once, in batches; the first ones again where they do not come out even.
fn batched(runnable: &Runnable, inputs: &[Array], batch: usize) -> Result<Array, verify::Error> {
    let rows = inputs[0].shape[0];
    let mut out: Option<Array> = None;
    for start in (0..rows).step_by(batch) {
        let taken: Vec<usize> = (start..start + batch).map(|row| row % rows).collect();
        let inputs: Vec<Array> = inputs.iter().map(|array| array.rows(&taken)).collect();
        let found = runnable.run(&inputs)?;
        out = Some(match out {
            None => found,
            Some(out) => out.followed_by(&found),
        });
    }
    Ok(out.unwrap_or(Array { shape: vec![0, 0], values: vec![], ids: vec![] }))
}
