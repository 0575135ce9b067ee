//! Logits of images and texts, computed from the towers' own embeddings and held against those of a reference.

use super::report::LogitsReport;
use super::{Error, Reference};
use crate::engine::Array;

/// Compares logits of all images and texts of a reference. `stored` are `exp(logit_scale)` and the bias that the files
/// carry; those of the reference where None. None where the reference has no logits, or nobody has a scale.
///
/// # Errors
/// [`Error::Reference`] when its logits are not of that many images and texts.
pub fn compare(
    reference: &Reference,
    images: &Array,
    texts: &Array,
    stored: Option<(f64, f64)>,
) -> Result<Option<LogitsReport>, Error> {
    let Some(expected) = reference.logits([images.batch(), texts.batch()])? else { return Ok(None) };
    let stated =
        reference.number("logit_scale_exp").map(|scale| (scale, reference.number("logit_bias").unwrap_or(0.0)));
    let Some((scale, bias)) = stored.or(stated) else { return Ok(None) };
    let texts: Vec<Vec<f64>> = (0..texts.batch()).map(|row| unit(texts.row(row))).collect();
    let mut max_abs = 0f64;
    for row in 0..images.batch() {
        let image = unit(images.row(row));
        for (text, &expected) in texts.iter().zip(expected.row(row)) {
            let dot: f64 = image.iter().zip(text).map(|(a, b)| a * b).sum();
            let error = (scale * dot + bias - f64::from(expected)).abs();
            max_abs = if error.is_nan() { f64::INFINITY } else { max_abs.max(error) };
        }
    }
    let scale_error =
        stated.map(|(other, other_bias)| ((scale - other) / other).abs().max((bias - other_bias).abs() / other));
    Ok(Some(LogitsReport {
        max_abs,
        over_scale: max_abs / scale,
        logit_scale_exp: scale,
        logit_bias: bias,
        scale_error,
    }))
}

fn unit(row: &[f32]) -> Vec<f64> {
    let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|&v| f64::from(v) / norm).collect()
}
