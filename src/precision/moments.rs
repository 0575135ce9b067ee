//! How large activations are, channel by channel, as far as weights tell.
//!
//! Trained towers have a few residual channels that are tens of times larger than the rest; which, can
//! be read off the weights that write them. Second moments go through the graph as if everything were
//! independent: a product adds them up weighted with squares, a sum adds them, LayerNorm divides by
//! their mean. That is rough where activations are correlated, and good enough to weigh the errors of
//! weights with.

use std::collections::HashMap;
use std::sync::Arc;

use super::grid::energy;
use super::layers::{Constant, Role, Weight, constants};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, ElementType, Node, Parts};
use crate::tensor::{Error, Tensor};

/// Of one value: the mean square of each channel, wherever its axis is.
pub type Moments = Arc<[f32]>;

/// The mean square of a byte.
const BYTE: f32 = 255.0 * 255.0 / 3.0;

/// Rows of a table that are looked at.
const SAMPLED: usize = 8192;

/// Channels of every float value, by the weights alone.
///
/// # Errors
/// What reading a weight reports.
pub fn estimate(parts: &Parts) -> Result<HashMap<Value, Moments>, Error> {
    let bytes = parts.inputs.iter().any(|port| port.element_type == ElementType::Uint8);
    let walk = Walk { constants: constants(parts), bytes };
    let mut found: HashMap<Value, Moments> = HashMap::new();
    for node in &parts.nodes {
        for (at, &output) in node.outputs.iter().enumerate() {
            if let Some(moments) = walk.of(node, at, &found)? {
                found.insert(output, moments);
            }
        }
    }
    Ok(found)
}

struct Walk {
    constants: HashMap<Value, Constant>,
    /// Whether there is an input of bytes.
    bytes: bool,
}

impl Walk {
    /// What output number `at` of a node comes to; none of what is no float.
    fn of(&self, node: &Node, at: usize, found: &HashMap<Value, Moments>) -> Result<Option<Moments>, Error> {
        let input = |at: usize| node.inputs.get(at).and_then(|value| found.get(value).cloned());
        // The input of a tower: pixels between -1 and 1.
        let computed = |at: usize| input(at).unwrap_or_else(|| Arc::from([0.3f32]));
        let constant = |at: usize| {
            node.inputs.get(at).and_then(|value| self.constants.get(value)).map(|constant| &constant.tensor)
        };
        Ok(match node.op_type {
            "MatMul" => match constant(1) {
                Some(weight) if weight.shape().len() == 2 => {
                    Some(weighted(&Weight::new(weight.clone(), Role::Factor), &computed(0), 1)?)
                }
                // Head by head: of as many channels as there are in all, or each of all of them.
                Some(weight) if weight.shape().len() == 3 => {
                    let heads = weight.shape()[0];
                    Some(weighted(&Weight::new(weight.clone(), Role::Stack), &computed(0), heads)?)
                }
                // Softmax's weights add up to one: values come out no larger than they went in.
                _ => Some(computed(1)),
            },
            // What bytes are widened to: about as large as they get.
            "Cast" if self.bytes && !found.contains_key(&node.inputs[0]) => Some(Arc::from([BYTE])),
            "Conv" => {
                let Some(weight) = constant(1) else { return Ok(Some(computed(0))) };
                let group = integer(node, "group").unwrap_or(1).max(1) as usize;
                let moments = weighted(&Weight::new(weight.clone(), Role::Kernel), &computed(0), group)?;
                Some(match constant(2) {
                    Some(bias) => sum(&moments, &squares(bias)?),
                    None => moments,
                })
            }
            "Gather" => match constant(0) {
                Some(table) => Some(columns(table)?),
                None => input(0),
            },
            "LayerNormalization" => {
                let moments = computed(0);
                let mean = moments.iter().sum::<f32>() / moments.len() as f32;
                let (Some(gain), Some(bias)) = (constant(1), constant(2)) else { return Ok(Some(moments)) };
                let (gain, bias) = (squares(gain)?, squares(bias)?);
                let normed: Moments = moments.iter().map(|m| m / mean.max(f32::MIN_POSITIVE)).collect();
                Some(sum(&product(&normed, &gain), &bias))
            }
            "Attention" => Some(computed(2)),
            // Heads' own channels of all of them, one number of each channel.
            "Mul" if constant(1).is_some_and(is_mask) => input(0),
            "Add" | "Sub" | "Mul" | "Div" => {
                let sides = [0, 1].map(|at| match constant(at) {
                    Some(constant) => squares(constant).map(Some),
                    None => Ok(input(at)),
                });
                let [a, b] = sides;
                match (a?, b?) {
                    (Some(a), Some(b)) if matches!(node.op_type, "Add" | "Sub") => Some(sum(&a, &b)),
                    (Some(a), Some(b)) if node.op_type == "Mul" => Some(product(&a, &b)),
                    (Some(a), Some(b)) => Some(product(&a, &b.iter().map(|b| 1.0 / b.max(1e-30)).collect::<Moments>())),
                    (one, other) => one.or(other),
                }
            }
            // About what is left of a normal variable.
            "Gelu" => Some(computed(0).iter().map(|m| m * 0.5).collect()),
            "Erf" | "Tanh" => Some(Arc::from([1.0f32])),
            "Sigmoid" => Some(Arc::from([0.3f32])),
            "Split" => {
                let (moments, parts) = (computed(0), node.outputs.len());
                let size = moments.len() / parts;
                if size * parts == moments.len() {
                    Some(moments[at * size..(at + 1) * size].into())
                } else {
                    Some(moments)
                }
            }
            "Concat" => {
                // Channels repeated for convolutions of several outputs each; else places beside places.
                let all: Vec<Moments> = node.inputs.iter().filter_map(|value| found.get(value).cloned()).collect();
                let repeated = node.inputs.len() > 1 && node.inputs.iter().all(|value| *value == node.inputs[0]);
                if repeated {
                    all.first().map(|m| m.repeat(node.inputs.len()).into())
                } else {
                    all.into_iter().max_by_key(|m| m.len())
                }
            }
            "ReduceSum" | "Slice" | "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "ReduceMean"
            | "GlobalAveragePool" | "Softmax" | "Pow" | "Max" | "Relu" | "BatchNormalization" | "Expand"
            | "GatherElements" | "Abs" => input(0),
            _ => None,
        })
    }
}

/// Whether a constant of two axes takes numbers or leaves them out.
fn is_mask(tensor: &Tensor) -> bool {
    let values = || tensor.to_f32().unwrap_or_default();
    tensor.shape().len() == 2 && tensor.len() < 1 << 16 && values().iter().all(|&value| value == 0.0 || value == 1.0)
}

fn integer(node: &Node, name: &str) -> Option<i64> {
    node.attributes.iter().find_map(|(key, value)| match value {
        Attribute::Int(value) if *key == name => Some(*value),
        _ => None,
    })
}

/// The channel at `at` of a vector that may be one number for all, or a period of it.
pub fn channel(moments: &[f32], at: usize) -> f32 {
    moments[at % moments.len()]
}

fn sum(a: &[f32], b: &[f32]) -> Moments {
    (0..a.len().max(b.len())).map(|at| channel(a, at) + channel(b, at)).collect()
}

fn product(a: &[f32], b: &[f32]) -> Moments {
    (0..a.len().max(b.len())).map(|at| channel(a, at) * channel(b, at)).collect()
}

/// Squares of a small constant; the mean of a large one over all but its last axis.
fn squares(tensor: &Tensor) -> Result<Moments, Error> {
    let shape = tensor.shape();
    if let Some(&width) = shape.last()
        && shape.iter().filter(|&&n| n > 1).count() > 1
    {
        return columns(&tensor.reshape(&[tensor.len() / width, width])?);
    }
    Ok(tensor.to_f32()?.iter().map(|v| v * v).collect())
}

/// Mean squares of the columns of a table, from its first rows.
fn columns(table: &Tensor) -> Result<Moments, Error> {
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

/// Σ w² m over each row of a weight, whose input has these moments.
fn weighted(weight: &Weight, moments: &[f32], groups: usize) -> Result<Moments, Error> {
    let [rows, columns] = weight.rows();
    let per_group = rows.div_ceil(groups);
    let mut out = Vec::with_capacity(rows);
    let mut of_row: Vec<f32> = vec![];
    weight.for_each_rows(|block| {
        for row in block.chunks_exact(columns) {
            if of_row.is_empty() || groups > 1 {
                of_row = column_moments(&weight.tensor, moments, columns, out.len() / per_group);
            }
            out.push(energy(row, &of_row));
        }
        Ok::<(), Error>(())
    })?;
    Ok(out.into())
}

/// The moment that each number of a row meets; kernels have several numbers for a channel.
pub fn column_moments(tensor: &Tensor, moments: &[f32], columns: usize, group: usize) -> Vec<f32> {
    let shape = tensor.shape();
    let (channels, area) = if shape.len() == 4 { (shape[1], shape[2] * shape[3]) } else { (columns, 1) };
    (0..columns).map(|at| channel(moments, group * channels + at / area)).collect()
}
