//! Mean squares of activations, as far as weights tell.
//!
//! Trained towers have a few residual channels that are tens of times larger than the rest; which, can be read off the
//! weights that write them. Mean squares are followed through the graph as if everything were independent and of mean zero:
//! a product sums them weighted with squares, a sum adds them, LayerNorm divides by their mean. That is rough where
//! activations are correlated, and good enough to weight the errors of weights with.

use std::collections::HashMap;
use std::sync::Arc;

use super::{PerChannel, by_column, channel};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, ElementType, Node, Parts};
use crate::precision::grid::energy;
use crate::precision::layers::{Constant, Weight, WeightKind, constants};
use crate::precision::operators::{LAYER_NORM, SAME_CHANNELS};
use crate::tensor::{Error, Tensor};

/// The mean square of bytes.
const BYTES: f32 = 255.0 * 255.0 / 3.0;

/// The mean square of pixels between −1 and 1.
const PIXELS: f32 = 0.3;

/// Rows of a table that are read.
const SAMPLED: usize = 8192;

/// Mean squares of every float that a node gives.
///
/// # Errors
/// What reading a weight reports.
pub fn mean_squares(parts: &Parts) -> Result<HashMap<Value, PerChannel>, Error> {
    let bytes = parts.inputs.iter().any(|port| port.element_type == ElementType::Uint8);
    let mut estimate = Estimate { constants: constants(parts), bytes, found: HashMap::new() };
    for node in &parts.nodes {
        for (at, &output) in node.outputs.iter().enumerate() {
            if let Some(mean_squares) = estimate.output(node, at)? {
                estimate.found.insert(output, mean_squares);
            }
        }
    }
    Ok(estimate.found)
}

struct Estimate {
    constants: HashMap<Value, Constant>,
    /// Whether there is an input of bytes.
    bytes: bool,
    found: HashMap<Value, PerChannel>,
}

impl Estimate {
    /// Of input number `at`, where it is computed and known.
    fn input(&self, node: &Node, at: usize) -> Option<PerChannel> {
        node.inputs.get(at).and_then(|value| self.found.get(value).cloned())
    }

    /// Of input number `at`; those of pixels where it is a tower's input.
    fn computed(&self, node: &Node, at: usize) -> PerChannel {
        self.input(node, at).unwrap_or_else(|| Arc::from([PIXELS]))
    }

    fn constant(&self, node: &Node, at: usize) -> Option<&Tensor> {
        node.inputs.get(at).and_then(|value| self.constants.get(value)).map(|constant| &constant.tensor)
    }

    /// Of output number `at` of a node; none of what is no float.
    fn output(&self, node: &Node, at: usize) -> Result<Option<PerChannel>, Error> {
        let (input, computed) = (|at| self.input(node, at), |at| self.computed(node, at));
        Ok(match node.op_type {
            "MatMul" => Some(self.matmul(node)?),
            "Conv" => Some(self.conv(node)?),
            LAYER_NORM => Some(self.layer_norm(node)?),
            "Add" | "Sub" | "Mul" | "Div" => self.element_wise(node)?,
            "Cast" if self.bytes && !self.found.contains_key(&node.inputs[0]) => Some(Arc::from([BYTES])),
            "Gather" => match self.constant(node, 0) {
                Some(table) => Some(columns(table)?),
                None => input(0),
            },
            "Attention" => Some(computed(2)),
            // About what is left of a normal variable.
            "Gelu" => Some(computed(0).iter().map(|m| m * 0.5).collect()),
            "Erf" | "Tanh" => Some(Arc::from([1.0f32])),
            "Sigmoid" => Some(Arc::from([0.3f32])),
            "Split" => Some(split(&computed(0), at, node.outputs.len())),
            "Concat" => self.concat(node),
            other if SAME_CHANNELS.contains(&other) => input(0),
            _ => None,
        })
    }

    fn matmul(&self, node: &Node) -> Result<PerChannel, Error> {
        let Some(weight) = self.constant(node, 1) else {
            // Of attention: softmax's weights sum to one, so that values come out no larger than they went in.
            return Ok(self.computed(node, 1));
        };
        match weight.shape().len() {
            2 => product(&Weight::new(weight.clone(), WeightKind::Matrix), &self.computed(node, 0), 1),
            // Heads read channels of their own where there are as many as in all heads, else each reads all.
            3 => {
                let heads = weight.shape()[0];
                product(&Weight::new(weight.clone(), WeightKind::HeadMatrices), &self.computed(node, 0), heads)
            }
            _ => Ok(self.computed(node, 1)),
        }
    }

    fn conv(&self, node: &Node) -> Result<PerChannel, Error> {
        let Some(weight) = self.constant(node, 1) else { return Ok(self.computed(node, 0)) };
        let groups = attribute(node, "group").unwrap_or(1).max(1) as usize;
        let out = product(&Weight::new(weight.clone(), WeightKind::Kernel), &self.computed(node, 0), groups)?;
        Ok(match self.constant(node, 2) {
            Some(bias) => sum(&out, &squares(bias)?),
            None => out,
        })
    }

    fn layer_norm(&self, node: &Node) -> Result<PerChannel, Error> {
        let input = self.computed(node, 0);
        let (Some(gain), Some(bias)) = (self.constant(node, 1), self.constant(node, 2)) else { return Ok(input) };
        Ok(normalized(&input, &squares(gain)?, &squares(bias)?))
    }

    fn element_wise(&self, node: &Node) -> Result<Option<PerChannel>, Error> {
        let side = |at: usize| match self.constant(node, at) {
            Some(constant) => squares(constant).map(Some),
            None => Ok(self.input(node, at)),
        };
        if let Some(constant) = self.constant(node, 1).filter(|_| node.op_type == "Mul")
            && is_mask(constant)?
        {
            return Ok(self.input(node, 0));
        }
        Ok(match (side(0)?, side(1)?) {
            (Some(a), Some(b)) => Some(match node.op_type {
                "Add" | "Sub" => sum(&a, &b),
                "Mul" => each(&a, &b, |a, b| a * b),
                _ => each(&a, &b, |a, b| a * (1.0 / b.max(1e-30))),
            }),
            (one, other) => one.or(other),
        })
    }

    fn concat(&self, node: &Node) -> Option<PerChannel> {
        let all: Vec<PerChannel> = node.inputs.iter().filter_map(|value| self.found.get(value).cloned()).collect();
        // Channels repeated, for convolutions of several outputs each; else positions put in a sequence.
        if node.inputs.len() > 1 && node.inputs.iter().all(|value| *value == node.inputs[0]) {
            return all.first().map(|m| m.repeat(node.inputs.len()).into());
        }
        all.into_iter().max_by_key(|m| m.len())
    }
}

/// m / mean(m) · g² + b²: LayerNorm divides by the root mean square, as means are taken for zero.
fn normalized(mean_squares: &[f32], squared_gain: &[f32], squared_bias: &[f32]) -> PerChannel {
    let mean = (mean_squares.iter().sum::<f32>() / mean_squares.len() as f32).max(f32::MIN_POSITIVE);
    let normed: Vec<f32> = mean_squares.iter().map(|m| m / mean).collect();
    sum(&each(&normed, squared_gain, |a, b| a * b), squared_bias)
}

/// One of `parts` equal runs of channels.
fn split(mean_squares: &PerChannel, at: usize, parts: usize) -> PerChannel {
    let size = mean_squares.len() / parts;
    if size * parts == mean_squares.len() {
        mean_squares[at * size..(at + 1) * size].into()
    } else {
        mean_squares.clone()
    }
}

/// Σ w² m over each row of a weight whose input has these mean squares.
fn product(weight: &Weight, mean_squares: &[f32], groups: usize) -> Result<PerChannel, Error> {
    let [rows, columns] = weight.rows();
    let per_group = rows.div_ceil(groups);
    let mut out = Vec::with_capacity(rows);
    let mut of_row: Vec<f32> = vec![];
    weight.for_each_row(|row| {
        if of_row.is_empty() || groups > 1 {
            of_row = by_column(&weight.tensor, mean_squares, columns, out.len() / per_group);
        }
        out.push(energy(row, &of_row));
    })?;
    Ok(out.into())
}

fn sum(a: &[f32], b: &[f32]) -> PerChannel {
    each(a, b, |a, b| a + b)
}

fn each(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> PerChannel {
    (0..a.len().max(b.len())).map(|at| of(channel(a, at), channel(b, at))).collect()
}

/// Whether a constant of two axes takes numbers or leaves them out, such as each head's channels.
fn is_mask(tensor: &Tensor) -> Result<bool, Error> {
    if tensor.shape().len() != 2 || tensor.len() >= 1 << 16 {
        return Ok(false);
    }
    Ok(tensor.to_f32()?.iter().all(|&value| value == 0.0 || value == 1.0))
}

fn attribute(node: &Node, name: &str) -> Option<i64> {
    node.attributes.iter().find_map(|(key, value)| match value {
        Attribute::Int(value) if *key == name => Some(*value),
        _ => None,
    })
}

/// Squares of a vector; of more axes, the mean over all but the last.
fn squares(tensor: &Tensor) -> Result<PerChannel, Error> {
    let shape = tensor.shape();
    if let Some(&width) = shape.last()
        && shape.iter().filter(|&&n| n > 1).count() > 1
    {
        return columns(&tensor.reshape(&[tensor.len() / width, width])?);
    }
    Ok(tensor.to_f32()?.iter().map(|v| v * v).collect())
}

/// Mean squares of the columns of a table, from its first rows.
fn columns(table: &Tensor) -> Result<PerChannel, Error> {
    let shape = table.shape();
    let width: usize = shape[1..].iter().product();
    let rows = shape[0].min(SAMPLED);
    let mut sums = vec![0f32; width];
    table.rows(0..rows)?.for_each_block(&mut Vec::new(), |block| {
        for row in block.chunks_exact(width) {
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
        }
        Ok::<(), Error>(())
    })?;
    Ok(sums.iter().map(|sum| sum / rows as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers of mean 0 and of these mean squares, `rows` of them a channel.
    fn samples(mean_squares: &[f32], rows: usize) -> Vec<Vec<f32>> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * 12f32.sqrt()
        };
        (0..rows).map(|_| mean_squares.iter().map(|m| next() * m.sqrt()).collect()).collect()
    }

    fn measured(samples: &[Vec<f32>]) -> Vec<f32> {
        let channels = 0..samples[0].len();
        channels.map(|k| samples.iter().map(|row| row[k] * row[k]).sum::<f32>() / samples.len() as f32).collect()
    }

    fn assert_close(found: &[f32], expected: &[f32], within: f32) {
        assert_eq!(found.len(), expected.len());
        let off = |(a, b): (&f32, &f32)| (a - b).abs() / b;
        assert!(found.iter().zip(expected).all(|pair| off(pair) < within), "{found:?} {expected:?}");
    }

    #[test]
    fn estimates_through_layer_norm_are_near_what_is_measured() {
        let input: Vec<f32> = (0..64).map(|k| if k == 5 { 9.0 } else { 1.0 + (k % 7) as f32 / 7.0 }).collect();
        let (gain, bias): (Vec<f32>, Vec<f32>) = (0..64).map(|k| (1.0 + k as f32 / 64.0, (k % 3) as f32)).unzip();
        let normed: Vec<Vec<f32>> = samples(&input, 4000)
            .into_iter()
            .map(|row| {
                let mean = row.iter().sum::<f32>() / 64.0;
                let deviation = (row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 64.0).sqrt();
                row.iter().enumerate().map(|(k, v)| (v - mean) / deviation * gain[k] + bias[k]).collect()
            })
            .collect();
        let squared = |values: &[f32]| values.iter().map(|v| v * v).collect::<Vec<f32>>();
        assert_close(&normalized(&input, &squared(&gain), &squared(&bias)), &measured(&normed), 0.1);
    }

    #[test]
    fn a_product_sums_squares_of_independent_channels() {
        let input: Vec<f32> = (0..8).map(|k| 1.0 + k as f32).collect();
        let values: Vec<f32> = (0..24).map(|at| (at * 5 % 11) as f32 - 5.5).collect();
        let weight = Weight::new(Tensor::from_f32("w", &[8, 3], &values), WeightKind::Matrix);
        let out: Vec<Vec<f32>> = samples(&input, 4000)
            .into_iter()
            .map(|x| (0..3).map(|row| (0..8).map(|k| x[k] * values[k * 3 + row]).sum()).collect())
            .collect();
        assert_close(&product(&weight, &input, 1).unwrap(), &measured(&out), 0.1);
    }

    #[test]
    fn groups_read_channels_of_their_own() {
        let kernel = Weight::new(Tensor::from_f32("k", &[4, 1, 1, 2], &[1.0, 2.0].repeat(4)), WeightKind::Kernel);
        assert_eq!(&product(&kernel, &[1.0, 10.0], 2).unwrap()[..], [5.0, 5.0, 50.0, 50.0]);
    }

    #[test]
    fn halves_and_masks_and_periods() {
        let channels: PerChannel = [1.0, 2.0, 3.0, 4.0].into();
        assert_eq!(&split(&channels, 1, 2)[..], [3.0, 4.0]);
        assert_eq!(&split(&channels, 1, 3)[..], [1.0, 2.0, 3.0, 4.0], "does not come out even");
        assert_eq!(&sum(&channels, &[10.0])[..], [11.0, 12.0, 13.0, 14.0]);
        let mask = |values: &[f32]| is_mask(&Tensor::from_f32("m", &[2, 2], values)).unwrap();
        assert!(mask(&[1.0, 0.0, 0.0, 1.0]) && !mask(&[1.0, 0.5, 0.0, 1.0]));
        assert_eq!(&squares(&Tensor::from_f32("t", &[2, 2], &[1.0, 2.0, 3.0, 4.0])).unwrap()[..], [5.0, 10.0]);
    }
}
