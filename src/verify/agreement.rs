//! How close two sets of embeddings are.

use serde::Serialize;

use crate::engine::Array;

/// Figures of one comparison; all are always reported, [`Agreement::relative_error`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Largest absolute difference over the RMS of the reference: reads the same at every width,
    /// normalised or not.
    pub relative_error: f64,
    /// Largest absolute difference of any element.
    pub max_abs: f64,
    /// Mean absolute difference over all elements.
    pub mean_abs: f64,
    /// Smallest cosine of any row.
    pub cosine: f64,
    /// Mean of all rows.
    pub cosine_mean: f64,
}

impl Agreement {
    /// Compares rows of `got` with rows of `reference`, both of float32 and of the same shape.
    /// Anything that is not a number makes every figure infinite.
    pub fn between(got: &Array, reference: &Array) -> Agreement {
        let [found, expected] = [got, reference].map(|array| array.floats().unwrap_or_default());
        let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let count = expected.len().max(1) as f64;
        let rms = (pairs().map(|(_, b)| b * b).sum::<f64>() / count).sqrt();
        let difference = |(a, b): (f64, f64)| if a.is_finite() { (a - b).abs() } else { f64::INFINITY };
        let max_abs = pairs().map(difference).fold(0.0, f64::max);
        let mean_abs = pairs().map(difference).sum::<f64>() / count;
        let cosines = || (0..got.batch()).map(|row| cosine(got.row(row), reference.row(row)));
        let cosine =
            cosines().fold(f64::INFINITY, |least, c| if c.is_finite() { least.min(c) } else { f64::NEG_INFINITY });
        let cosine_mean = cosines().sum::<f64>() / got.batch().max(1) as f64;
        let cosine_mean = if cosine_mean.is_finite() { cosine_mean } else { f64::NEG_INFINITY };
        let relative_error = if rms > 0.0 { max_abs / rms } else { f64::INFINITY };
        Agreement { relative_error, max_abs, mean_abs, cosine, cosine_mean }
    }
}

/// Largest distance from 1 of a row's length.
pub fn unit_norm_error(array: &Array) -> f64 {
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let error = |row| (norm(array.row(row)) - 1.0).abs();
    (0..array.batch()).map(error).fold(0.0, |most, e| if e.is_nan() { f64::INFINITY } else { most.max(e) })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(rows: usize, values: &[f32]) -> Array {
        Array::new([rows, values.len() / rows], values.to_vec())
    }

    #[test]
    fn figures_are_those_of_the_definition() {
        let got = array(2, &[1.0, 2.0, 3.0, 4.5]);
        let reference = array(2, &[1.0, 2.0, 3.0, 4.0]);
        let agreement = Agreement::between(&got, &reference);
        assert_eq!(agreement.max_abs, 0.5);
        assert_eq!(agreement.mean_abs, 0.125);
        assert!((agreement.relative_error - 0.5 / (30f64 / 4.0).sqrt()).abs() < 1e-12);
        assert!((agreement.cosine - 27.0 / (29.25f64 * 25.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn lengths_are_held_against_1() {
        assert!((unit_norm_error(&array(2, &[0.6, 0.8, 3.0, 0.0])) - 2.0).abs() < 1e-6);
        assert_eq!(unit_norm_error(&array(1, &[f32::NAN, 0.0])), f64::INFINITY);
    }

    #[test]
    fn what_is_not_a_number_never_agrees() {
        let agreement = Agreement::between(&array(1, &[f32::NAN, 0.0]), &array(1, &[1.0, 0.0]));
        assert!(agreement.relative_error > super::super::EMBEDDING.bound);
        assert_eq!(agreement.cosine, f64::NEG_INFINITY);
    }
}
