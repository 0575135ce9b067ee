//! Measuring, where the user gives inputs to measure with: how large activations are, and what a
//! precision costs in the end.

use std::path::{Path, PathBuf};

use super::Error;
use super::export::Export;
use super::narrow::Scratch;
use crate::onnx::graph::{ElementType, Parts, Port};
use crate::precision::{self, Study};
use crate::verify::tower::{Array, Tower};
use crate::verify::{self, Agreement, Engine, Reference, inputs};

/// Rows made up where no inputs are given.
const ROWS: usize = 4;

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
        let inputs = request.calibrate.as_deref().map(Reference::read).transpose()?;
        Ok(Bench { request, engines, folder, inputs })
    }

    /// What the layers of a float32 graph meet.
    ///
    /// # Errors
    /// When no engine runs it on the inputs.
    pub fn study(&self, parts: &Parts) -> Result<Study, Error> {
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
            for row in 0..inputs[0].shape[0] {
                let inputs: Vec<Array> = inputs.iter().map(|array| array.rows(&[row])).collect();
                for ((_, channels), array) in watched.iter_mut().zip(runnable.run_inside(&inputs)?) {
                    channels.add(&array.shape, &array.values);
                }
            }
            Ok(())
        })?;
        Ok(Study::measured(watched.into_iter()))
    }

    /// The embeddings of a graph.
    ///
    /// # Errors
    /// When no engine runs it on the inputs.
    pub fn embeddings(&self, parts: &Parts) -> Result<Array, Error> {
        self.run(parts, |tower, inputs| tower.at_batch(inputs[0].shape[0], inputs)?.run(inputs))
    }

    /// How far the least cosine of a graph's embeddings with the right ones is below 1.
    ///
    /// # Errors
    /// As [`Bench::embeddings`].
    pub fn drop(&self, parts: &Parts, right: &Array) -> Result<f64, Error> {
        let found = self.embeddings(parts)?;
        Ok(1.0 - Agreement::between(&found, right).cosine)
    }

    /// Writes a graph and runs it with the first engine that can, ONNX Runtime before tract.
    fn run<T>(
        &self,
        parts: &Parts,
        mut job: impl FnMut(&Tower, &[Array]) -> Result<T, verify::Error>,
    ) -> Result<T, Error> {
        let scratch = Scratch::write(self.request, parts, &format!("{}.onnx", parts.name), self.folder)?;
        let shown = PathBuf::from(&parts.name);
        let mut failed = verify::Error::NoLibrary;
        for engine in self.engines.iter().rev() {
            let outcome = Tower::open(&scratch.path, &shown, engine, None).and_then(|tower| {
                let inputs = match &self.inputs {
                    Some(inputs) => inputs.inputs(&tower)?,
                    None => inputs::fixed(&tower, ROWS),
                };
                job(&tower, &inputs)
            });
            match outcome {
                Ok(done) => return Ok(done),
                Err(error) => failed = error,
            }
        }
        Err(failed.with_way_out(self.engines.iter().all(Engine::is_tract)).into())
    }
}
