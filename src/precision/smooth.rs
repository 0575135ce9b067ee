//! Smoothing: channels of very different sizes, evened out between a LayerNorm and the weights behind it.
//!
//! Gain and bias of channel k are divided by a factor s, the weights that read the channel multiplied by it, which is exact
//! but for rounding in float32. Xiao et al. 2023 (SmoothQuant), eq. 4; Lin et al. 2024 (AWQ), eq. 4.

use std::collections::HashMap;
use std::sync::Arc;

use super::Activations;
use super::grid::{BLOCK, INT8, scaled_energy};
use super::layers::Layer;
use super::operators::LAYER_NORM;
use super::outliers::outlier_channels;
use super::scheme::{Arithmetic, Format, Scheme};
use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::parallel::parallel;
use crate::tensor::Error;

/// How much of the differences between channels moves into the weights: α of SmoothQuant and AWQ.
const EXPONENTS: [f32; 6] = [0.0, 0.15, 0.3, 0.5, 0.7, 0.85];

/// Smoothing is done where its error is below this share of the one without.
const WORTH: f64 = 0.97;

/// How layers behind a LayerNorm are quantized.
#[derive(Clone, Copy)]
pub struct Quantization {
    pub scheme: &'static Scheme,
    /// Largest int8 weight of integer products.
    pub limit: f32,
}

/// Smoothing factors by the output of their LayerNorm, of those where it reduces the error.
///
/// # Errors
/// What reading a weight reports.
pub fn smoothing(
    parts: &Parts,
    layers: &[(usize, Layer)],
    activations: &Activations,
    to: Quantization,
) -> Result<HashMap<Value, Arc<[f32]>>, Error> {
    let norms = parts.nodes.iter().filter(|node| node.op_type == LAYER_NORM).filter_map(|node| {
        let output = *node.outputs.first()?;
        let behind: Vec<&Layer> = layers.iter().map(|(_, layer)| layer).filter(|layer| layer.input == output).collect();
        let readers = parts.nodes.iter().flat_map(|node| &node.inputs).filter(|&&input| input == output).count();
        let is_output = parts.outputs.iter().any(|port| port.name == parts.value_name(output));
        // Anything else that reads it would get divided channels.
        (!behind.is_empty() && behind.len() == readers && !is_output).then_some((output, behind))
    });
    let norms: Vec<(Value, Vec<&Layer>)> = norms.collect();
    let found = parallel(&norms, |(output, behind)| {
        Ok(Channels::of(*output, behind, activations)?.and_then(|channels| channels.best(to)))
    })?;
    Ok(norms.iter().zip(found).filter_map(|((output, _), factors)| Some((*output, factors?))).collect())
}

/// LayerNorm's bias or gain, divided by the smoothing factors.
pub fn divided(parameter: &[f32], factors: &[f32]) -> Vec<f32> {
    parameter.iter().zip(factors).map(|(v, factor)| v / factor).collect()
}

/// Channels between a LayerNorm and the weights behind it.
struct Channels {
    mean_squares: Vec<f32>,
    /// Largest absolute activation of each.
    peaks: Vec<f32>,
    /// Largest absolute weight that reads each.
    weight_peaks: Vec<f32>,
    /// Rows of all weights, zero for outlier channels, as all of the above.
    rows: Vec<f32>,
    /// Outlier channels and their peaks.
    outliers: Vec<(usize, f32)>,
}

impl Channels {
    /// None where statistics are missing, or a channel is zero.
    fn of(output: Value, behind: &[&Layer], activations: &Activations) -> Result<Option<Channels>, Error> {
        let mean_squares = activations.mean_squares(output).to_vec();
        let peaks = activations.peaks(output).to_vec();
        let Some(columns) = behind.first().map(|layer| layer.weight.rows()[1]) else { return Ok(None) };
        if mean_squares.len() != columns || peaks.len() != columns || mean_squares.iter().any(|&m| m <= 0.0) {
            return Ok(None);
        }
        let mut rows: Vec<f32> = Vec::new();
        for layer in behind {
            layer.weight.for_each_row(|row| rows.extend_from_slice(row))?;
        }
        Ok(Channels::new(mean_squares, peaks, rows))
    }

    fn new(mut mean_squares: Vec<f32>, mut peaks: Vec<f32>, mut rows: Vec<f32>) -> Option<Channels> {
        let columns = mean_squares.len();
        let mut weight_peaks = vec![0f32; columns];
        for row in rows.chunks_exact(columns) {
            weight_peaks.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs()));
        }
        if weight_peaks.contains(&0.0) {
            return None;
        }
        // Outlier channels are multiplied in float32, and need only stay within the range of the others.
        let outliers: Vec<(usize, f32)> = outlier_channels(&mean_squares).into_iter().map(|k| (k, peaks[k])).collect();
        for &(k, _) in &outliers {
            (mean_squares[k], peaks[k], weight_peaks[k]) = (0.0, 0.0, 0.0);
            rows.iter_mut().skip(k).step_by(columns).for_each(|v| *v = 0.0);
        }
        Some(Channels { mean_squares, peaks, weight_peaks, rows, outliers })
    }

    /// The factors of least error; none where they are not worth it.
    fn best(&self, to: Quantization) -> Option<Arc<[f32]>> {
        let unsmoothed = self.with_outliers(vec![1.0; self.peaks.len()], to);
        let before = self.error(&unsmoothed, to);
        let tried = EXPONENTS.iter().map(|&exponent| self.factors(exponent, to)).map(|f| (self.error(&f, to), f));
        let best = tried.min_by(|a, b| a.0.total_cmp(&b.0));
        let best = best.filter(|(error, _)| *error < before * WORTH).map(|(_, factors)| factors);
        let needed = to.scheme.arithmetic == Arithmetic::Integer && !self.outliers.is_empty();
        best.or(needed.then_some(unsmoothed)).map(Into::into)
    }

    /// max|x|ᵅ / max|w|¹⁻ᵅ for integer products, else RMS(x)ᵅ, over its geometric mean.
    fn factors(&self, exponent: f32, to: Quantization) -> Vec<f32> {
        let raw: Vec<f32> = match to.scheme.arithmetic {
            Arithmetic::Integer => {
                let both = self.peaks.iter().zip(&self.weight_peaks);
                both.map(|(peak, weight)| peak.powf(exponent) / weight.powf(1.0 - exponent)).collect()
            }
            _ => self.mean_squares.iter().map(|m| m.sqrt().powf(exponent)).collect(),
        };
        let others = || raw.iter().enumerate().filter(|(k, _)| !self.outliers.iter().any(|(at, _)| at == k));
        let logarithms = others().map(|(_, s)| f64::from(s.ln())).sum::<f64>();
        let mean = (logarithms / others().count() as f64).exp() as f32;
        self.with_outliers(raw.iter().map(|s| (s / mean).clamp(1e-4, 1e4)).collect(), to)
    }

    /// Factors that bring outlier channels within the range of the others where activations are quantized, else leave
    /// them.
    fn with_outliers(&self, mut factors: Vec<f32>, to: Quantization) -> Vec<f32> {
        let range = range(&self.peaks, &factors);
        for &(k, peak) in &self.outliers {
            factors[k] = if to.scheme.arithmetic == Arithmetic::Integer { peak / range } else { 1.0 };
        }
        factors
    }

    fn error(&self, factors: &[f32], to: Quantization) -> f64 {
        let exact = vec![0.0; self.peaks.len()];
        match (to.scheme.weights, to.scheme.arithmetic) {
            (Format::Int8, Arithmetic::Integer) => {
                row_error(&self.rows, factors, &self.mean_squares, &self.peaks, to.limit)
            }
            (Format::Int8, _) => row_error(&self.rows, factors, &self.mean_squares, &exact, INT8),
            _ => block_error(&self.rows, factors, &self.mean_squares),
        }
    }
}

/// The largest activation once channels are divided by their factors.
fn range(peaks: &[f32], factors: &[f32]) -> f32 {
    peaks.iter().zip(factors).fold(0.0f32, |most, (peak, factor)| most.max(peak / factor))
}

/// Expected squared error of products with weights in int8 up to `limit`, a scale for each row, and inputs of these mean
/// squares in uint8 over the range of these peaks; step² / 12 for each rounding.
fn row_error(rows: &[f32], factors: &[f32], mean_squares: &[f32], peaks: &[f32], limit: f32) -> f64 {
    let input_step = f64::from(range(peaks, factors) * 2.0 / 255.0);
    let input: f64 = mean_squares.iter().zip(factors).map(|(m, f)| f64::from(m / (f * f))).sum();
    let mut error = 0.0;
    for row in rows.chunks_exact(factors.len()) {
        let (squares, most) = scaled_energy(row, factors);
        let step = f64::from(most / limit);
        error += input_step * input_step / 12.0 * f64::from(squares) + step * step / 12.0 * input;
    }
    error
}

/// Expected squared error of products with weights in int4, a scale for each block.
fn block_error(rows: &[f32], factors: &[f32], mean_squares: &[f32]) -> f64 {
    let inputs: Vec<f64> = mean_squares
        .chunks(BLOCK)
        .zip(factors.chunks(BLOCK))
        .map(|(m, f)| m.iter().zip(f).map(|(m, f)| f64::from(m / (f * f))).sum())
        .collect();
    let mut error = 0.0;
    for row in rows.chunks_exact(factors.len()) {
        for ((values, factors), input) in row.chunks(BLOCK).zip(factors.chunks(BLOCK)).zip(&inputs) {
            let step = f64::from(scaled_energy(values, factors).1 / 7.5);
            error += step * step / 12.0 * input;
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::super::Precision;
    use super::super::layers::{Weight, WeightKind};
    use super::*;
    use crate::tensor::Tensor;

    fn quantization(precision: Precision) -> Quantization {
        Quantization { scheme: precision.scheme(), limit: 90.0 }
    }

    /// With factors that are powers of two nothing is rounded: (x̂ g / s + b / s) · s W = (x̂ g + b) · W.
    #[test]
    fn smoothing_leaves_the_product_unchanged() {
        let (gain, bias, normed) = ([1.5f32, -2.0, 0.25], [0.5f32, 0.0, -3.0], [0.75f32, -1.25, 2.0]);
        let factors = [4.0f32, 0.5, 1.0];
        let weight = Weight::new(Tensor::from_f32("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), WeightKind::Matrix);
        let product = |weight: &Weight, gain: &[f32], bias: &[f32]| {
            let mut out = Vec::new();
            let x = |k: usize| normed[k] * gain[k] + bias[k];
            weight.for_each_row(|row| out.push((0..3).map(|k| row[k] * x(k)).sum::<f32>())).unwrap();
            out
        };
        let smoothed = weight.with_factors(factors.into());
        assert_eq!(
            product(&smoothed, &divided(&gain, &factors), &divided(&bias, &factors)),
            product(&weight, &gain, &bias)
        );
    }

    /// Large channels that small weights read are divided, and the estimated error falls.
    #[test]
    fn large_channels_are_divided() {
        let peaks: Vec<f32> = (0..64).map(|k| if k % 4 == 0 { 5.0 } else { 1.0 }).collect();
        let mean_squares: Vec<f32> = peaks.iter().map(|peak| peak * peak / 9.0).collect();
        let size = |at: usize| if at.is_multiple_of(4) { 0.3 } else { 1.0 };
        let rows: Vec<f32> = (0..64 * 16).map(|at| ((at * 29 % 17) as f32 - 8.3) / 8.0 * size(at)).collect();
        let channels = Channels::new(mean_squares, peaks, rows).unwrap();
        for precision in [Precision::Int8, Precision::Int4] {
            let to = quantization(precision);
            let factors = channels.best(to).unwrap();
            assert!(factors[0] > 1.2 * factors[1], "{precision}: {factors:?}");
            assert!(channels.error(&factors, to) < 0.97 * channels.error(&[1.0; 64], to), "{precision}");
        }
        // Factors are over their geometric mean.
        let factors = channels.factors(0.5, quantization(Precision::Int4));
        assert!(factors.iter().map(|f| f.ln()).sum::<f32>().abs() < 1e-3);
    }

    #[test]
    fn outliers_come_within_the_range_of_the_others_in_integer_products_alone() {
        let mut peaks = vec![1.0f32; 64];
        peaks[9] = 50.0;
        let mean_squares = peaks.iter().map(|peak| peak * peak / 9.0).collect();
        let channels = Channels::new(mean_squares, peaks, vec![0.5; 64 * 4]).unwrap();
        assert_eq!(channels.outliers, [(9, 50.0)]);
        let factors = channels.best(quantization(Precision::Int8)).unwrap();
        assert_eq!((factors[9], factors[0]), (50.0, 1.0));
        assert!(channels.best(quantization(Precision::Int4)).is_none(), "nothing is left to smooth");
    }

    /// One rounding is off by step² / 12 on average, and counts by what it is multiplied with.
    #[test]
    fn errors_are_those_of_uniform_rounding() {
        let (rows, ones) = ([1.0f32, -0.5], [1.0f32, 1.0]);
        let step = f64::from(1.0f32 / 90.0);
        let weights = row_error(&rows, &ones, &[4.0, 9.0], &[0.0, 0.0], 90.0);
        assert!((weights - step * step / 12.0 * 13.0).abs() < 1e-9, "{weights}");
        let input_step = f64::from(2.0f32 * 3.0 / 255.0);
        let both = row_error(&rows, &ones, &[4.0, 9.0], &[1.0, 3.0], 90.0);
        assert!((both - weights - input_step * input_step / 12.0 * 1.25).abs() < 1e-9, "{both}");
        let blocks = block_error(&rows, &ones, &[4.0, 9.0]);
        assert!((blocks - f64::from(1.0f32 / 7.5).powi(2) / 12.0 * 13.0).abs() < 1e-6, "{blocks}");
    }
}
