//! Statistics of activations, channel by channel: measured, or estimated from weights.

use std::collections::HashMap;
use std::sync::Arc;

use super::layers::{WeightKind, layers};
use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::tensor::{Error, Tensor};

mod estimate;

/// One number for each channel of a value, wherever their axis is; or one for all, or a period of them.
pub type PerChannel = Arc<[f32]>;

/// How far beyond its root mean square a channel goes, where that was not measured.
const PEAK: f32 = 4.5;

/// What is known of a graph's activations.
#[derive(Clone, Default)]
pub struct Activations {
    mean_squares: HashMap<Value, PerChannel>,
    /// Largest absolute values, where they were measured.
    peaks: HashMap<Value, PerChannel>,
    /// Where they were measured.
    means: HashMap<Value, PerChannel>,
}

impl Activations {
    /// Mean squares as estimated from the graph's weights.
    ///
    /// # Errors
    /// What reading a weight reports.
    pub fn of_weights(parts: &Parts) -> Result<Activations, Error> {
        Ok(Activations { mean_squares: estimate::mean_squares(parts)?, ..Activations::default() })
    }

    /// As measured: what [`observed`] asks for, once all inputs were run.
    pub fn measured(observed: impl IntoIterator<Item = (Value, ChannelStats)>) -> Activations {
        let mut activations = Activations::default();
        for (value, stats) in observed {
            let mean = |sums: &[f64]| -> PerChannel { sums.iter().map(|sum| (sum / stats.count) as f32).collect() };
            activations.mean_squares.insert(value, mean(&stats.squares));
            activations.means.insert(value, mean(&stats.sums));
            activations.peaks.insert(value, stats.peaks.into());
        }
        activations
    }

    /// 1 for all channels where nothing is known.
    pub fn mean_squares(&self, value: Value) -> PerChannel {
        self.mean_squares.get(&value).cloned().unwrap_or_else(|| Arc::from([1.0f32]))
    }

    /// Largest absolute value of each channel; where it was not measured, estimated from the mean squares.
    pub fn peaks(&self, value: Value) -> PerChannel {
        let measured = self.peaks.get(&value).cloned();
        measured.unwrap_or_else(|| self.mean_squares(value).iter().map(|m| m.sqrt() * PEAK).collect())
    }

    /// None where they were not measured.
    pub fn means(&self, value: Value) -> Option<&PerChannel> {
        self.means.get(&value)
    }
}

/// Channel `at` of what may be one number for all, or a period.
pub fn channel(values: &[f32], at: usize) -> f32 {
    values[at % values.len()]
}

/// The channel that each number of a row of `weight` is multiplied with; kernels have several numbers for one. `group` is
/// the row's, of a grouped convolution.
pub fn by_column(weight: &Tensor, values: &[f32], columns: usize, group: usize) -> Vec<f32> {
    let shape = weight.shape();
    let (channels, area) = if shape.len() == 4 { (shape[1], shape[2] * shape[3]) } else { (columns, 1) };
    (0..columns).map(|at| channel(values, group * channels + at / area)).collect()
}

/// Which axis of an activation is that of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelAxis {
    /// Of convolutions.
    Second,
    Last,
}

/// Statistics of an activation's channels, over everything that is added.
pub struct ChannelStats {
    axis: ChannelAxis,
    /// Numbers of each channel.
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
    /// Largest absolute values.
    peaks: Vec<f32>,
}

impl ChannelStats {
    fn new(axis: ChannelAxis) -> ChannelStats {
        ChannelStats { axis, count: 0.0, sums: vec![], squares: vec![], peaks: vec![] }
    }

    /// Whether all that was added was finite.
    pub fn are_finite(&self) -> bool {
        self.squares.iter().all(|square| square.is_finite())
    }

    /// Adds an activation of `shape`.
    pub fn add(&mut self, shape: &[usize], values: &[f32]) {
        let (width, run) = match self.axis {
            ChannelAxis::Last => (shape.last(), 1),
            ChannelAxis::Second => (shape.get(1), shape.iter().skip(2).product::<usize>().max(1)),
        };
        let width = width.copied().unwrap_or(1).max(1);
        self.sums.resize(width, 0.0);
        self.squares.resize(width, 0.0);
        self.peaks.resize(width, 0.0);
        for (at, values) in values.chunks(run).enumerate() {
            let channel = at % width;
            for &v in values {
                self.sums[channel] += f64::from(v);
                self.squares[channel] += f64::from(v) * f64::from(v);
                self.peaks[channel] = self.peaks[channel].max(v.abs());
            }
        }
        self.count += (values.len() / width) as f64;
    }
}

/// The values to measure, which are inputs of layers, each with its statistics, still empty.
pub fn observed(parts: &Parts) -> Vec<(Value, ChannelStats)> {
    let inputs: Vec<&str> = parts.inputs.iter().map(|port| port.name.as_str()).collect();
    let mut out: Vec<(Value, ChannelStats)> = Vec::new();
    for (_, layer) in layers(parts) {
        let is_activation = layer.kind != WeightKind::Table && !inputs.contains(&parts.value_name(layer.input));
        if is_activation && !out.iter().any(|(value, _)| *value == layer.input) {
            let axis = if layer.kind == WeightKind::Kernel { ChannelAxis::Second } else { ChannelAxis::Last };
            out.push((layer.input, ChannelStats::new(axis)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Graph, Target};

    fn stats(axis: ChannelAxis, shape: &[usize], values: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut stats = ChannelStats::new(axis);
        // In two batches.
        let half = [&[1][..], &shape[1..]].concat();
        values.chunks(values.len() / 2).for_each(|values| stats.add(&half, values));
        assert!(stats.are_finite());
        let value = Graph::new("tower", Target::default()).scalar(0.0);
        let measured = Activations::measured([(value, stats)]);
        let means = measured.means(value).unwrap().to_vec();
        (means, measured.mean_squares(value).to_vec(), measured.peaks(value).to_vec())
    }

    #[test]
    fn statistics_are_those_of_each_channel() {
        let values = [1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0];
        let last = stats(ChannelAxis::Last, &[2, 2, 2], &values);
        assert_eq!(last, (vec![1.5, 4.0], vec![21.0, 30.0], vec![7.0, 8.0]));
        let second = stats(ChannelAxis::Second, &[2, 2, 2], &values);
        assert_eq!(second, (vec![0.0, 5.5], vec![16.5, 34.5], vec![6.0, 8.0]));
    }

    #[test]
    fn what_is_no_number_is_seen() {
        let mut stats = ChannelStats::new(ChannelAxis::Last);
        stats.add(&[1, 2], &[1.0, f32::NAN]);
        assert!(!stats.are_finite());
    }

    #[test]
    fn numbers_of_a_kernel_share_their_channel() {
        let kernel = Tensor::from_f32("k", &[4, 2, 1, 2], &[0.0; 16]);
        assert_eq!(by_column(&kernel, &[1.0, 2.0, 3.0, 4.0], 4, 0), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(by_column(&kernel, &[1.0, 2.0, 3.0, 4.0], 4, 1), [3.0, 3.0, 4.0, 4.0]);
        let matrix = Tensor::from_f32("m", &[4, 1], &[0.0; 4]);
        assert_eq!(by_column(&matrix, &[1.0, 2.0], 4, 0), [1.0, 2.0, 1.0, 2.0]);
    }
}
