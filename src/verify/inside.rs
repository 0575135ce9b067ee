//! What a file makes of its embeddings inside: logits where both towers are in it, probabilities where
//! labels are. Held to the same worked out from the embeddings it gives beside them.

use serde::Serialize;

use super::report::within;
use super::tower::{Array, Kind, Tower};
use super::{Engine, Error, LOGITS, Tolerance};
use crate::towers::{LOGITS_PER_IMAGE, PROBABILITIES};

/// How far probabilities may be from those of the embeddings; or their sum from 1, where labels' embeddings are
/// not at hand.
pub const PROBABILITY: Tolerance = Tolerance { name: "probabilities", bound: 2e-5 };

/// One output of one file.
#[derive(Clone, Debug, Serialize)]
pub struct InsideReport {
    pub file: String,
    pub engine: String,
    pub output: &'static str,
    /// Rows and columns of what was compared.
    pub shape: Vec<usize>,
    /// Largest absolute difference; of logits over `exp(logit_scale)`.
    pub error: f64,
    /// What it is held to.
    pub bound: f64,
    /// What it was compared with.
    pub beside: &'static str,
}

impl InsideReport {
    /// A line where it fails.
    pub(super) fn failure(&self, failures: &mut Vec<String>) {
        let tolerance = if self.output == PROBABILITIES { PROBABILITY } else { LOGITS };
        within(failures, self.error, tolerance, &format!("{} of {} with {}", self.output, self.file, self.engine));
    }
}

/// Runs a file once for what it gives besides embeddings. `inputs` are those of its towers, `labels [labels,
/// embed_dim]` the normalised embeddings of what it knows, where they are at hand.
///
/// # Errors
/// When it cannot be run, or gives outputs of other shapes than its description says.
pub fn check(
    towers: &mut [Tower],
    inputs: &[Vec<Array>],
    labels: Option<&Array>,
    engine: &Engine,
) -> Result<Option<InsideReport>, Error> {
    let rows = |tower: &Tower, inputs: &[Array]| -> Vec<usize> {
        let all = inputs[0].shape[0];
        (0..tower.fixed_batch.unwrap_or(all.min(3))).map(|row| row % all).collect()
    };
    let taken: Vec<Vec<Array>> = towers
        .iter()
        .zip(inputs)
        .map(|(tower, inputs)| inputs.iter().map(|array| array.rows(&rows(tower, inputs))).collect())
        .collect();
    let parameters = towers.first().and_then(Tower::logits);
    let report = |tower: &Tower, output, shape: &[usize], (error, bound), beside| InsideReport {
        file: tower.name.clone(),
        engine: engine.name().to_owned(),
        output,
        shape: shape.to_vec(),
        error,
        bound,
        beside,
    };
    match towers {
        [image, text] => {
            let (Some((scale, bias)), Some(at)) = (parameters, image.output_at(LOGITS_PER_IMAGE)) else {
                return Ok(None);
            };
            image.beside(text, taken[1].clone());
            let runnable = image.at_batch(taken[0][0].shape[0], &taken[0])?;
            let found = runnable.run_for(&taken[0], &[at, image.embedding_at(), text.embedding_at()])?;
            let [logits, images, texts] = &found[..] else { return Ok(None) };
            let worst =
                worst(image, logits, images, texts, |dots| dots.iter().map(|dot| scale * dot + bias).collect())?;
            let outcome = (worst / scale, LOGITS.bound);
            Ok(Some(report(image, LOGITS_PER_IMAGE, &logits.shape, outcome, "its own embeddings")))
        }
        [image] if image.kind != Kind::Text => {
            let Some(at) = image.output_at(PROBABILITIES) else { return Ok(None) };
            let runnable = image.at_batch(taken[0][0].shape[0], &taken[0])?;
            let found = runnable.run_for(&taken[0], &[at, image.embedding_at()])?;
            let [probabilities, images] = &found[..] else { return Ok(None) };
            let (scale, bias) = (parameters.map_or(1.0, |(scale, _)| scale), image.logit_bias());
            let (worst, beside) = match labels {
                Some(labels) => (
                    worst(image, probabilities, images, labels, |dots| likely(dots, scale, bias))?,
                    "its own embeddings and the labels'",
                ),
                None => (sums(probabilities, bias.is_some()), if bias.is_some() { "0 to 1" } else { "a sum of 1" }),
            };
            Ok(Some(report(image, PROBABILITIES, &probabilities.shape, (worst, PROBABILITY.bound), beside)))
        }
        _ => Ok(None),
    }
}

/// How likely each label is, given the cosines: one of them where there is no bias, else each by itself.
pub fn likely(cosines: &[f64], scale: f64, bias: Option<f64>) -> Vec<f64> {
    if let Some(bias) = bias {
        return cosines.iter().map(|cosine| 1.0 / (1.0 + (-(scale * cosine + bias)).exp())).collect();
    }
    let most = cosines.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = cosines.iter().map(|cosine| (scale * (cosine - most)).exp()).collect();
    let all: f64 = parts.iter().sum();
    parts.iter().map(|part| part / all).collect()
}

/// Largest difference of `found [N, M]` from what is made of the dots of `images [N, D]` and `texts [M, D]`.
fn worst(
    tower: &Tower,
    found: &Array,
    images: &Array,
    texts: &Array,
    expected: impl Fn(&[f64]) -> Vec<f64>,
) -> Result<f64, Error> {
    let widths = images.shape.get(1) == texts.shape.get(1) && images.shape.len() == 2;
    if !widths || found.shape != [images.shape[0], texts.shape[0]] {
        let (found, images, texts) = (&found.shape, &images.shape, &texts.shape);
        return Err(tower.unfit(format!("its outputs are {found:?}, of embeddings {images:?} and {texts:?}")));
    }
    let mut worst = 0f64;
    for row in 0..found.shape[0] {
        let dot = |text: &[f32]| images.row(row).iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let dots: Vec<f64> = (0..texts.shape[0]).map(|at| dot(texts.row(at))).collect();
        for (found, expected) in found.row(row).iter().zip(expected(&dots)) {
            let error = (f64::from(*found) - expected).abs();
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
        }
    }
    Ok(worst)
}

/// How far rows are from summing to 1, or their numbers from lying between 0 and 1.
fn sums(probabilities: &Array, apart: bool) -> f64 {
    let row = |row: &[f32]| -> f64 {
        if apart {
            return row.iter().map(|&p| f64::from((-p).max(p - 1.0)).max(0.0)).fold(0.0, f64::max);
        }
        (row.iter().map(|&p| f64::from(p)).sum::<f64>() - 1.0).abs()
    };
    let off = (0..probabilities.shape[0]).map(|at| row(probabilities.row(at)));
    let finite = probabilities.values.iter().all(|p| p.is_finite());
    if finite { off.fold(0.0, f64::max) } else { f64::INFINITY }
}
