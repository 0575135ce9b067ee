//! One tower at every batch size.

use std::time::Instant;

use super::agreement::unit_norm_error;
use super::ranking::Embedded;
use super::report::{BatchReport, Compared};
use super::{Agreement, Error, Reference};
use crate::engine::{Array, Engine, Tower};

/// Lengths of embeddings are this close to 1 where a file that says nothing of it normalises.
const LOOKS_NORMALIZED: f64 = 1e-3;

/// What a tower is run with.
pub struct TowerRun<'a> {
    pub tower: &'a Tower,
    pub engine: &'a dyn Engine,
    /// What it is fed and compared with; without it, with made-up inputs.
    pub reference: Option<&'a Reference>,
    /// Embeddings of the same tower in float32, or fed floats, of the made-up inputs.
    pub baseline: Option<&'a Array>,
    pub batches: &'a [usize],
    pub step: &'a dyn Fn(&str),
}

/// What came of it.
pub struct Found {
    pub batches: Vec<BatchReport>,
    pub normalized: bool,
    pub embedded: Option<Embedded>,
}

impl TowerRun<'_> {
    /// The rows a tower is run on, for each of its inputs.
    ///
    /// # Errors
    /// [`Error::Reference`] when the reference does not fit.
    pub fn inputs(&self) -> Result<Vec<Array>, Error> {
        match self.reference {
            Some(reference) => reference.inputs(self.tower),
            None => Ok(self.tower.varied(self.batches.iter().copied().max().unwrap_or(1))?),
        }
    }

    /// Runs the tower at every batch size: every row once at the largest, the first rows at the others.
    ///
    /// # Errors
    /// When it cannot be run, or the reference has no embeddings of that many rows.
    pub fn run(&self, inputs: &[Array]) -> Result<Found, Error> {
        let (tower, signature) = (self.tower, self.tower.signature());
        let rows = inputs.first().map_or(0, Array::batch);
        let sizes = signature.fixed_batch.map_or_else(|| self.batches.to_vec(), |batch| vec![batch]);
        let largest = sizes.iter().copied().max();
        let (mut batches, mut embedded, mut first) = (Vec::new(), None, None);
        let mut normalized = signature.normalized;
        for batch in sizes {
            (self.step)(&format!("running {} at batch {batch} with {}", tower.name(), self.engine.name()));
            let started = Instant::now();
            let is_largest = Some(batch) == largest;
            let found = if is_largest { tower.run_all(inputs, batch) } else { tower.run_batches(inputs, batch, 1) }?;
            let is_normalized = *normalized.get_or_insert_with(|| unit_norm_error(&found) < LOOKS_NORMALIZED);
            let expected = self.expected(rows, is_normalized)?;
            batches.push(BatchReport {
                batch,
                rows: found.batch(),
                finite: found.floats().is_some_and(|values| values.iter().all(|v| v.is_finite())),
                unit_norm_error: is_normalized.then(|| unit_norm_error(&found)),
                consistency: first.as_ref().map(|first| consistency(&found, first)),
                compared: expected.map(|expected| Compared::new(&found, &repeated(expected, found.batch()))),
                seconds: started.elapsed().as_secs_f64(),
            });
            if is_largest {
                let found = found.rows(&(0..rows.min(found.batch())).collect::<Vec<_>>());
                let expected = expected.filter(|expected| expected.shape() == found.shape()).cloned();
                embedded = Some(Embedded { found, expected });
            }
            first.get_or_insert((found, batch));
        }
        Ok(Found { batches, normalized: normalized.unwrap_or(false), embedded })
    }

    /// What the tower should give for `rows` rows; None where there is nothing to compare with.
    fn expected(&self, rows: usize, is_normalized: bool) -> Result<Option<&Array>, Error> {
        let same_pixels = !self.tower.signature().always_resizes();
        match self.reference {
            Some(reference) => reference.embedding(self.tower, is_normalized).map(Some),
            None => Ok(self.baseline.filter(|baseline| baseline.batch() == rows && same_pixels)),
        }
    }
}

/// `rows` rows of an array, which begin again at the first after the last.
fn repeated(array: &Array, rows: usize) -> Array {
    array.rows(&(0..rows).map(|row| row % array.batch()).collect::<Vec<_>>())
}

/// Relative error of rows against the same rows in the first batch size, which `first` has with their embeddings.
fn consistency(found: &Array, (first, first_batch): &(Array, usize)) -> f64 {
    let rows: Vec<usize> = (0..found.batch().min(*first_batch)).collect();
    Agreement::between(&found.rows(&rows), &first.rows(&rows)).relative_error
}
