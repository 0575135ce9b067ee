//! Which layer is stored how, and the error that makes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::activations::{by_column, channel};
use super::grid::{self, INT8};
use super::int4::{BlockLayout, Int4, Int4Format};
use super::layers::{Layer, Weight, WeightKind, layers};
use super::outliers;
use super::scheme::{Arithmetic, Format, Scheme};
use super::smooth::{Quantization, smoothing};
use super::{Activations, Options, Reason};
use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::parallel::parallel;
use crate::tensor::Error;

/// A layer whose error is above this many times the median is promoted.
const ABOVE_MEDIAN: f64 = 3.0;

/// One in this many bytes that float32 scales would take may go into int8, for int4 layers that gain most by it.
const PROMOTED_SHARE: u64 = 4;

/// Fits of blocks that are remembered from assigning to writing: 48 MiB of them. Further ones are searched for twice.
const REMEMBERED: usize = 1 << 22;

/// How a layer's weight is written.
pub enum Encoding {
    Float32,
    /// Cast to float32 where it is used.
    Float16,
    /// Scales of rows; cast to float32 and multiplied by them where it is used.
    Int8(Vec<f32>),
    /// Scales of rows; an integer product with the quantized input.
    DynamicInt8(Vec<f32>),
    Int4(Int4),
}

impl Encoding {
    pub fn format(&self) -> Format {
        match self {
            Encoding::Float32 => Format::Float32,
            Encoding::Float16 => Format::Float16,
            Encoding::Int8(_) | Encoding::DynamicInt8(_) => Format::Int8,
            Encoding::Int4(_) => Format::Int4,
        }
    }

    /// Whether it is what a precision has for products alone, rather than what any weight may be stored as.
    pub fn is_for_products(&self) -> bool {
        matches!(self, Encoding::DynamicInt8(_) | Encoding::Int4(_))
    }

    /// Bytes of a weight of so many rows and columns.
    pub fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        match self {
            Encoding::Float32 => 4 * (rows * columns) as u64,
            Encoding::Float16 => 2 * (rows * columns) as u64,
            Encoding::Int8(_) | Encoding::DynamicInt8(_) => int8_bytes([rows, columns]),
            Encoding::Int4(int4) => int4.data().byte_len(),
        }
    }
}

fn int8_bytes([rows, columns]: [usize; 2]) -> u64 {
    (rows * columns) as u64 + 4 * rows as u64
}

/// What becomes of a layer.
pub struct Assignment {
    pub layer: Layer,
    pub encoding: Encoding,
    /// Of the precision asked for, promoted or not: RMS error of what the layer gives over its RMS.
    pub error: f64,
    /// Why it is in higher precision, if it is.
    pub promoted: Option<Reason>,
    /// Each output channel's mean error, where means were measured, for a bias to make up for.
    pub correction: Option<Vec<f32>>,
}

/// What becomes of a graph.
pub struct Assignments {
    /// By the index of their node.
    pub layers: BTreeMap<usize, Assignment>,
    /// Smoothing factors by the output of their LayerNorm.
    pub smoothing: HashMap<Value, Arc<[f32]>>,
}

/// What layers are assigned by.
struct Assigner<'a> {
    scheme: &'static Scheme,
    activations: &'a Activations,
    options: &'a Options,
    layout: BlockLayout,
    /// Fits that are remembered so far.
    remembered: AtomicUsize,
}

/// A layer in the precision asked for.
struct Encoded {
    encoding: Encoding,
    error: f64,
}

/// Assigns an encoding to every layer.
///
/// # Errors
/// What reading a weight reports.
pub fn assign(
    parts: &Parts,
    scheme: &'static Scheme,
    activations: &Activations,
    options: &Options,
) -> Result<Assignments, Error> {
    let found = layers(parts);
    let limit = options.dynamic_limit();
    let smoothing = smoothing(parts, &found, activations, Quantization { scheme, limit })?;
    let smoothed = found.into_iter().map(|(at, layer)| match smoothing.get(&layer.input) {
        Some(factors) => (at, layer.smoothed(factors)),
        None => (at, layer),
    });
    let smoothed: Vec<(usize, Layer)> = smoothed.collect();
    let divide = |(at, layer): &(usize, Layer)| Ok((*at, outliers::divided(layer, scheme.weights, activations)?));
    let found: Vec<(usize, Layer)> = parallel(&smoothed, divide)?;

    // With float16 scales, ONNX Runtime 1.32 gives wrong numbers for the standard operators at its level EXTENDED.
    let standard = parts.target.has_int4() && scheme.arithmetic != Arithmetic::Float16;
    let layout = if standard { BlockLayout::Standard } else { BlockLayout::NBits };
    let assigner = Assigner { scheme, activations, options, layout, remembered: AtomicUsize::new(0) };
    let encoded = parallel(&found, |(_, layer)| assigner.encode(layer))?;
    let promoted = assigner.promoted(&found, &encoded);
    let of_layer = |((at, layer), (Encoded { encoding, error }, promoted))| {
        (at, Assignment { layer, encoding, error, promoted, correction: None })
    };
    let mut assigned: Vec<(usize, Assignment)> =
        found.into_iter().zip(encoded.into_iter().zip(promoted)).map(of_layer).collect();
    let higher = parallel(&assigned, |(_, assignment)| assigner.encode_higher(assignment))?;
    for ((_, assignment), higher) in assigned.iter_mut().zip(higher) {
        let Some(encoding) = higher else { continue };
        if matches!(encoding, Encoding::Float32 | Encoding::Float16) {
            assignment.layer = assignment.layer.undivided();
        }
        assignment.encoding = encoding;
    }
    let corrections = parallel(&assigned, |(_, assignment)| assigner.correction(assignment))?;
    for ((_, assignment), correction) in assigned.iter_mut().zip(corrections) {
        assignment.correction = correction;
    }
    Ok(Assignments { layers: assigned.into_iter().collect(), smoothing })
}

impl Assigner<'_> {
    /// A layer as the precision has it.
    fn encode(&self, layer: &Layer) -> Result<Encoded, Error> {
        let mean_squares = self.mean_squares(layer);
        match (self.scheme.weights, self.scheme.arithmetic, layer.kind) {
            (Format::Int8, Arithmetic::Integer, WeightKind::Matrix) => {
                let rows = Int8Rows::of(&layer.weight, &mean_squares, self.options.dynamic_limit())?;
                let peaks = self.activations.peaks(layer.input);
                let [_, columns] = layer.weight.rows();
                let peaks = (0..columns).map(|k| channel(&peaks, k) * layer.weight.inverse_factor(k));
                let step = f64::from(peaks.fold(0.0f32, f32::max) * 2.0 / 255.0);
                let error = relative(rows.error + step * step / 12.0 * rows.squares, rows.energy);
                Ok(Encoded { encoding: Encoding::DynamicInt8(rows.scales), error })
            }
            (Format::Int4, _, WeightKind::Matrix) => self.encode_int4(layer, mean_squares),
            // Depthwise kernels are few numbers, one large and the rest small where a skip is folded into them.
            (_, _, WeightKind::Kernel) if layer.weight.tensor.shape()[1] == 1 => {
                Ok(Encoded { encoding: Encoding::Float16, error: 0.0 })
            }
            _ => {
                let rows = Int8Rows::of(&layer.weight, &mean_squares, INT8)?;
                let error = relative(rows.error, rows.energy);
                Ok(Encoded { encoding: Encoding::Int8(rows.scales), error })
            }
        }
    }

    fn encode_int4(&self, layer: &Layer, mean_squares: Arc<[f32]>) -> Result<Encoded, Error> {
        let format = Int4Format {
            layout: self.layout,
            zero_points: self.options.zero_points,
            float16_scales: self.scheme.arithmetic == Arithmetic::Float16,
        };
        let int4 = Int4::new(layer.weight.clone(), mean_squares, format);
        let (mut error, mut energy, mut fits) = (0f64, 0f64, Vec::new());
        int4.for_each_block(|values, mean_squares, fit| {
            fits.push(*fit);
            error += f64::from(fit.error);
            energy += f64::from(grid::energy(values, mean_squares));
            Ok::<(), Error>(())
        })?;
        if self.remembered.fetch_add(fits.len(), Ordering::Relaxed) + fits.len() <= REMEMBERED {
            int4.remember(Some(fits));
        }
        Ok(Encoded { encoding: Encoding::Int4(int4), error: relative(error, energy) })
    }

    /// A promoted layer; none of others.
    fn encode_higher(&self, assignment: &Assignment) -> Result<Option<Encoding>, Error> {
        if assignment.promoted.is_none() {
            return Ok(None);
        }
        let layer = &assignment.layer;
        Ok(Some(match (self.scheme.weights, self.scheme.arithmetic, layer.kind) {
            (Format::Int4, _, WeightKind::Matrix) => {
                Encoding::Int8(Int8Rows::of(&layer.weight, &self.mean_squares(layer), INT8)?.scales)
            }
            (Format::Int8, Arithmetic::Integer, WeightKind::Matrix) => Encoding::Float32,
            // Smoothed weights that are not quantized are written in float32 alone.
            (Format::Int8, _, WeightKind::Matrix) if layer.weight.factors.is_some() => Encoding::Float32,
            _ => Encoding::Float16,
        }))
    }

    /// The mean square of what each number of a row is multiplied with, behind smoothing.
    fn mean_squares(&self, layer: &Layer) -> Arc<[f32]> {
        let [_, columns] = layer.weight.rows();
        if layer.kind == WeightKind::Table {
            return vec![1.0; columns].into();
        }
        let input = by_column(&layer.weight.tensor, &self.activations.mean_squares(layer.input), columns, 0);
        // Channels that seem to be zero still count a little.
        let floor = input.iter().sum::<f32>() / columns as f32 * 1e-4;
        input.iter().enumerate().map(|(k, m)| m.max(floor) * layer.weight.inverse_factor(k).powi(2)).collect()
    }

    /// Why each layer is promoted, of those that are.
    fn promoted(&self, found: &[(usize, Layer)], encoded: &[Encoded]) -> Vec<Option<Reason>> {
        // Products in the precision's own encoding are compared among themselves, and what is only stored in int8.
        let median_of = |products: bool| {
            median(encoded.iter().filter(|e| e.encoding.is_for_products() == products).map(|e| e.error).collect())
        };
        let medians = [false, true].map(median_of);
        let cheap = if self.options.auto_exclude { self.cheap(found, encoded) } else { HashSet::new() };
        let reason = |at: usize| {
            let (layer, Encoded { encoding, error }) = (&found[at].1, &encoded[at]);
            let median = medians[usize::from(encoding.is_for_products())];
            let is_large = layer.kind != WeightKind::Table && *error > ABOVE_MEDIAN * median;
            if self.options.excludes(&layer.name) {
                Some(Reason::Excluded)
            } else if self.options.measured.contains(&layer.name) {
                Some(Reason::Measured)
            } else if self.options.auto_exclude && is_large {
                Some(Reason::LargeError)
            } else if cheap.contains(&at) {
                Some(Reason::Cheap)
            } else {
                None
            }
        };
        (0..found.len()).map(reason).collect()
    }

    /// Int4 layers that gain most by the bytes of int8: attention's projections, as a rule.
    fn cheap(&self, found: &[(usize, Layer)], encoded: &[Encoded]) -> HashSet<usize> {
        let mut candidates = Vec::new();
        let mut numbers = 0;
        for (at, ((_, layer), Encoded { encoding, error })) in found.iter().zip(encoded).enumerate() {
            if matches!(encoding, Encoding::Int4(_)) {
                let rows = layer.weight.rows();
                let extra_bytes = int8_bytes(rows).saturating_sub(encoding.bytes(rows)).max(1);
                numbers += rows.iter().product::<usize>() as u64;
                candidates.push(Candidate { at, error: *error, extra_bytes });
            }
        }
        // What float32 scales take, five eighths of a byte a number, also where they are float16: there is as much to gain.
        affordable(candidates, numbers * 5 / 8 / PROMOTED_SHARE).into_iter().collect()
    }

    /// Σ mean (w − ŵ) of each row, where means were measured and a bias can make up for it.
    fn correction(&self, assignment: &Assignment) -> Result<Option<Vec<f32>>, Error> {
        let Assignment { layer, encoding, .. } = assignment;
        let Some(means) = self.activations.means(layer.input).filter(|_| layer.can_be_corrected()) else {
            return Ok(None);
        };
        let [_, columns] = layer.weight.rows();
        let means: Vec<f32> = (0..columns).map(|k| channel(means, k) * layer.weight.inverse_factor(k)).collect();
        let mut out = Vec::new();
        match encoding {
            Encoding::Int8(scales) | Encoding::DynamicInt8(scales) => {
                let limit = if encoding.is_for_products() { self.options.dynamic_limit() } else { INT8 };
                layer.weight.for_each_row(|row| out.push(int8_mean_error(row, scales[out.len()], limit, &means)))?;
            }
            Encoding::Int4(int4) => {
                let (mut errors, blocks) = (Vec::new(), columns.div_ceil(grid::BLOCK));
                int4.for_each_block(|values, _, fit| {
                    let start = errors.len() % blocks * grid::BLOCK;
                    errors.push(int4_mean_error(values, fit, &means[start..]));
                    Ok::<(), Error>(())
                })?;
                out.extend(errors.chunks(blocks).map(|row| row.iter().sum::<f32>()));
            }
            Encoding::Float32 | Encoding::Float16 => return Ok(None),
        }
        Ok(Some(out))
    }
}

/// RMS error over RMS.
fn relative(error: f64, energy: f64) -> f64 {
    (error / energy.max(1e-30)).sqrt()
}

/// Σ mean (w − ŵ) of a row in int8.
fn int8_mean_error(row: &[f32], scale: f32, limit: f32, means: &[f32]) -> f32 {
    let stored = grid::int8_values(row, scale, limit);
    row.iter().zip(stored).zip(means).map(|((v, q), mean)| (v - q * scale) * mean).sum()
}

/// Σ mean (w − ŵ) of a block in int4.
fn int4_mean_error(values: &[f32], fit: &grid::Fit, means: &[f32]) -> f32 {
    let stored = grid::int4_values(values, fit).zip(values).zip(means);
    stored.map(|((q, v), mean)| (v - (f32::from(q) - fit.zero_point) * fit.scale) * mean).sum()
}

/// A layer that may be promoted: its index, its relative error, and what it would take.
struct Candidate {
    at: usize,
    error: f64,
    extra_bytes: u64,
}

/// Those of most squared error for each byte that fit into `budget`.
fn affordable(mut candidates: Vec<Candidate>, mut budget: u64) -> Vec<usize> {
    let worth = |c: &Candidate| c.error * c.error / c.extra_bytes as f64;
    candidates.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
    candidates.retain(|candidate| {
        let fits = candidate.extra_bytes <= budget;
        budget -= if fits { candidate.extra_bytes } else { 0 };
        fits
    });
    candidates.into_iter().map(|candidate| candidate.at).collect()
}

/// The upper of two middle values; zero of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A weight in int8.
struct Int8Rows {
    /// Of each row.
    scales: Vec<f32>,
    /// Σ m (w − ŵ)².
    error: f64,
    /// Σ m w².
    energy: f64,
    /// Σ w².
    squares: f64,
}

impl Int8Rows {
    fn of(weight: &Weight, mean_squares: &[f32], limit: f32) -> Result<Int8Rows, Error> {
        let [rows, columns] = weight.rows();
        let ones = vec![1.0; columns];
        let mut out = Int8Rows { scales: Vec::with_capacity(rows), error: 0.0, energy: 0.0, squares: 0.0 };
        weight.for_each_row(|row| {
            let fit = grid::int8(row, mean_squares, limit);
            out.scales.push(fit.scale);
            out.error += f64::from(fit.error);
            out.energy += f64::from(grid::energy(row, mean_squares));
            out.squares += f64::from(grid::energy(row, &ones));
        })?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_promoted_by_squared_error_a_byte_within_the_budget() {
        let candidate = |at, error, extra_bytes| Candidate { at, error, extra_bytes };
        let all =
            || vec![candidate(0, 0.1, 100), candidate(1, 0.3, 100), candidate(2, 0.5, 1000), candidate(3, 0.04, 10)];
        // Worth of each: 1e-4, 9e-4, 2.5e-4, 1.6e-4.
        assert_eq!(affordable(all(), 250), [1, 3, 0]);
        assert_eq!(affordable(all(), 1100), [1, 2]);
        assert!(affordable(all(), 9).is_empty());
        assert_eq!((median(vec![3.0, 1.0, 2.0, 9.0]), median(vec![])), (3.0, 0.0));
    }

    /// With it, the mean of what a quantized product gives is the mean of what the product gives.
    #[test]
    fn corrections_are_what_products_lose_on_average() {
        let row: Vec<f32> = (0..32).map(|at| (at * 13 % 31) as f32 / 7.0 - 2.0).collect();
        let inputs: Vec<Vec<f32>> = (0..5).map(|n| (0..32).map(|k| ((n * 7 + k) % 9) as f32 - 1.0).collect()).collect();
        let means: Vec<f32> = (0..32).map(|k| inputs.iter().map(|x| x[k]).sum::<f32>() / 5.0).collect();
        let mean_product = |row: &[f32]| -> f32 {
            inputs.iter().map(|x| x.iter().zip(row).map(|(x, w)| x * w).sum::<f32>()).sum::<f32>() / 5.0
        };
        let scale = grid::int8(&row, &[1.0; 32], 20.0).scale;
        let int8: Vec<f32> = grid::int8_values(&row, scale, 20.0).map(|q| q * scale).collect();
        let fit = grid::int4(&row, &[1.0; 32]);
        let int4: Vec<f32> =
            grid::int4_values(&row, &fit).map(|q| (f32::from(q) - fit.zero_point) * fit.scale).collect();
        let corrections = [int8_mean_error(&row, scale, 20.0, &means), int4_mean_error(&row, &fit, &means)];
        for (stored, correction) in [int8, int4].iter().zip(corrections) {
            assert!((mean_product(stored) - mean_product(&row)).abs() > 1e-2, "nothing to correct");
            assert!((mean_product(stored) + correction - mean_product(&row)).abs() < 1e-4);
        }
    }

    #[test]
    fn bytes_are_those_of_integers_and_scales() {
        assert_eq!(Encoding::Float16.bytes([3, 5]), 30);
        assert_eq!(Encoding::Int8(vec![]).bytes([3, 5]), 15 + 12);
    }
}
