//! What a file computes from its embeddings inside: logits where both towers are in it, probabilities where labels are.
//! They are held against the same, computed from the embeddings that the file gives as well.

use serde::Serialize;

use super::{Error, LOGITS, PROBABILITY};
use crate::engine::{Array, Tower};
use crate::modality::Modality;
use crate::ports::{LOGITS_PER_IMAGE, PROBABILITIES};

/// Rows a file is run on, where its batch is free.
const ROWS: usize = 3;

/// One output of one file.
#[derive(Clone, Debug, Serialize)]
pub struct InsideReport {
    /// Name of the file.
    pub file: String,
    /// Name of the engine.
    pub engine: String,
    /// Name of the output.
    pub output: &'static str,
    /// Rows and columns of what was compared.
    pub shape: Vec<usize>,
    /// Largest absolute difference; of logits over `exp(logit_scale)`.
    pub error: f64,
    /// What the error may be.
    pub bound: f64,
    /// What it was compared with.
    pub against: &'static str,
}

impl InsideReport {
    /// A line where it is beyond its bound.
    pub(super) fn failure(&self) -> Option<String> {
        let tolerance = if self.output == PROBABILITIES { PROBABILITY } else { LOGITS };
        tolerance.exceeded(self.error, &format!("{} of {} with {}", self.output, self.file, self.engine))
    }
}

/// Runs a file once for what it gives besides embeddings; None where that is nothing. `inputs` are those of its towers,
/// `labels [labels, embed_dim]` the normalised embeddings of a classifier's labels, where they are at hand, and `engine`
/// the name of the engine.
///
/// # Errors
/// When it cannot be run, or gives outputs of other shapes than its description says.
pub fn check(
    towers: &mut [Tower],
    inputs: &[Vec<Array>],
    labels: Option<&Array>,
    engine: &str,
) -> Result<Option<InsideReport>, Error> {
    match (towers, inputs) {
        ([image, text], [images, texts]) => logits(image, text, &few(image, images), &few(text, texts), engine),
        ([image], [images]) if image.signature().modality() == Modality::Image => {
            probabilities(image, &few(image, images), labels, engine)
        }
        _ => Ok(None),
    }
}

/// The first rows of a tower's inputs, or a batch of the size it is frozen to.
fn few(tower: &Tower, inputs: &[Array]) -> Vec<Array> {
    let rows = inputs.first().map_or(0, Array::batch);
    let batch = tower.signature().fixed_batch.unwrap_or(rows.min(ROWS));
    let positions: Vec<usize> = (0..batch).map(|row| row % rows.max(1)).collect();
    inputs.iter().map(|array| array.rows(&positions)).collect()
}

/// Checks `logits_per_image`: cosines times `exp(logit_scale)`, plus the bias.
fn logits(
    image: &mut Tower,
    text: &Tower,
    images: &[Array],
    texts: &[Array],
    engine: &str,
) -> Result<Option<InsideReport>, Error> {
    let (Some((scale, bias)), Some(at)) = (image.signature().logits(), image.output_at(LOGITS_PER_IMAGE)) else {
        return Ok(None);
    };
    image.feed_other(text, texts)?;
    let wanted = [at, image.signature().embedding, text.signature().embedding];
    let found = image.run_for(images, &wanted)?;
    let [logits, images, texts] = &found[..] else { return Ok(None) };
    let expected = |dots: &[f64]| dots.iter().map(|dot| scale * dot + bias).collect();
    let error = largest_difference(image, logits, images, texts, expected)? / scale;
    Ok(Some(InsideReport {
        file: image.name().to_owned(),
        engine: engine.to_owned(),
        output: LOGITS_PER_IMAGE,
        shape: logits.shape().to_vec(),
        error,
        bound: LOGITS.bound,
        against: "its own embeddings",
    }))
}

/// Checks the probabilities of a classifier; without its labels' embeddings, that they can be such.
fn probabilities(
    image: &Tower,
    images: &[Array],
    labels: Option<&Array>,
    engine: &str,
) -> Result<Option<InsideReport>, Error> {
    let Some(at) = image.output_at(PROBABILITIES) else { return Ok(None) };
    let signature = image.signature();
    let found = image.run_for(images, &[at, signature.embedding])?;
    let [probabilities, images] = &found[..] else { return Ok(None) };
    let (scale, bias) = (signature.logit_scale.unwrap_or(1.0), signature.logit_bias);
    let (error, against) = match (labels, bias) {
        (Some(labels), _) => {
            let expected = |dots: &[f64]| likely(dots, scale, bias);
            let error = largest_difference(image, probabilities, images, labels, expected)?;
            (error, "its own embeddings and the labels'")
        }
        (None, Some(_)) => (outside_unit(probabilities), "0 to 1"),
        (None, None) => (off_unit_sum(probabilities), "a sum of 1"),
    };
    Ok(Some(InsideReport {
        file: image.name().to_owned(),
        engine: engine.to_owned(),
        output: PROBABILITIES,
        shape: probabilities.shape().to_vec(),
        error,
        bound: PROBABILITY.bound,
        against,
    }))
}

/// Probabilities of labels, given the cosines of an image with each: softmax where there is no bias (CLIP), else a
/// sigmoid for each label (SigLIP).
pub fn likely(cosines: &[f64], scale: f64, bias: Option<f64>) -> Vec<f64> {
    if let Some(bias) = bias {
        return cosines.iter().map(|cosine| 1.0 / (1.0 + (-(scale * cosine + bias)).exp())).collect();
    }
    let most = cosines.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = cosines.iter().map(|cosine| (scale * (cosine - most)).exp()).collect();
    let all: f64 = parts.iter().sum();
    parts.iter().map(|part| part / all).collect()
}

/// Largest difference of `found [N, M]` from what `expected` makes of the dot products of `images [N, D]` and
/// `texts [M, D]`.
fn largest_difference(
    tower: &Tower,
    found: &Array,
    images: &Array,
    texts: &Array,
    expected: impl Fn(&[f64]) -> Vec<f64>,
) -> Result<f64, Error> {
    let fits = images.shape().len() == 2
        && images.shape().get(1) == texts.shape().get(1)
        && *found.shape() == [images.batch(), texts.batch()];
    if !fits {
        let (found, images, texts) = (found.shape(), images.shape(), texts.shape());
        let reason = format!("its outputs are {found:?}, of embeddings {images:?} and {texts:?}");
        return Err(tower.unfit(reason).into());
    }
    let mut worst = 0f64;
    for row in 0..found.batch() {
        let dot = |text: &[f32]| images.row(row).iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let dots: Vec<f64> = (0..texts.batch()).map(|at| dot(texts.row(at))).collect();
        for (found, expected) in found.row(row).iter().zip(expected(&dots)) {
            worst = larger(worst, (f64::from(*found) - expected).abs());
        }
    }
    Ok(worst)
}

/// How far probabilities are outside of 0 to 1.
fn outside_unit(probabilities: &Array) -> f64 {
    let values = probabilities.floats().unwrap_or_default().iter().map(|&p| f64::from(p));
    values.map(|p| if p.is_nan() { p } else { (-p).max(p - 1.0).max(0.0) }).fold(0.0, larger)
}

/// How far rows are from summing to 1.
fn off_unit_sum(probabilities: &Array) -> f64 {
    let sum = |row: usize| probabilities.row(row).iter().map(|&p| f64::from(p)).sum::<f64>();
    (0..probabilities.batch()).map(|row| (sum(row) - 1.0).abs()).fold(0.0, larger)
}

/// The larger one; infinity for what is not a number.
fn larger(most: f64, value: f64) -> f64 {
    if value.is_nan() { f64::INFINITY } else { most.max(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_compete_without_a_bias() {
        let found = likely(&[0.5, 0.25], 4.0, None);
        assert!(
            (found[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12 && (found.iter().sum::<f64>() - 1.0).abs() < 1e-12
        );
        let found = likely(&[0.5, 0.25], 4.0, Some(-2.0));
        assert!((found[0] - 0.5).abs() < 1e-12 && (found[1] - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_probability_is_off() {
        let rows = |values: &[f32]| Array::new([2, 2], values.to_vec());
        assert!((off_unit_sum(&rows(&[0.5, 0.5, 0.75, 0.5])) - 0.25).abs() < 1e-9);
        assert_eq!(outside_unit(&rows(&[0.0, 1.0, 0.5, 0.5])), 0.0);
        assert_eq!(outside_unit(&rows(&[0.0, 1.5, -0.25, 0.5])), 0.5);
        assert_eq!(outside_unit(&rows(&[f32::NAN, 0.0, 0.0, 0.0])), f64::INFINITY);
        assert_eq!(off_unit_sum(&rows(&[f32::INFINITY, f32::NEG_INFINITY, 1.0, 0.0])), f64::INFINITY);
    }
}
