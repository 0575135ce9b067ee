//! Shape inference, for standard operators with constant operands as attributes.

use std::collections::HashMap;

use super::{int, ints};
use crate::onnx::graph::{Data, Dim, Value};
use crate::onnx::program::{Call, Program, Step};

/// Lengths of axes; None if unknown.
pub type Shape = Vec<Option<usize>>;

/// Shapes of a program's values.
#[derive(Default)]
pub struct Shapes {
    shapes: HashMap<Value, Shape>,
    /// Integer constants, such as the bounds of Slice.
    constants: HashMap<Value, Vec<i64>>,
}

impl Shapes {
    /// Infers the shapes of all values.
    pub fn of(program: &Program) -> Shapes {
        let mut all = Shapes::default();
        for step in &program.steps {
            match step {
                Step::Input { value, port, .. } => {
                    let length = |dim: &Dim| if let Dim::Fixed(n) = dim { Some(*n) } else { None };
                    all.shapes.insert(*value, port.dims.iter().map(length).collect());
                }
                Step::Initializer { value, initializer } | Step::Shared { value, initializer } => {
                    all.shapes.insert(*value, initializer.data.dims().into_iter().map(Some).collect());
                    if let Data::Int64 { values, .. } = &initializer.data {
                        all.constants.insert(*value, values.clone());
                    }
                }
                Step::Call(call) => {
                    for (&output, shape) in call.outputs.iter().zip(all.outputs(call).unwrap_or_default()) {
                        all.shapes.insert(output, shape);
                    }
                }
                Step::Absent { .. } | Step::Name { .. } | Step::Output { .. } => {}
            }
        }
        all
    }

    pub fn get(&self, value: Value) -> Option<&Shape> {
        self.shapes.get(&value)
    }

    /// Number of axes.
    pub fn rank(&self, value: Value) -> Option<usize> {
        self.get(value).map(Vec::len)
    }

    /// Shapes of a call's outputs; None if the operator or an input's shape is unknown.
    fn outputs(&self, call: &Call) -> Option<Vec<Shape>> {
        let shape = |at: usize| self.get(*call.inputs.get(at)?).cloned();
        let x = shape(0)?;
        let axis = || int(call, "axis").map(|axis| from_start(axis, x.len()));
        let one = match call.op_type {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Equal" => broadcast(&x, &shape(1)?),
            "MatMul" => {
                let y = shape(1)?;
                let (rows, columns) = (x.len().checked_sub(2)?, y.len().checked_sub(2)?);
                [broadcast(&x[..rows], &y[..columns]), vec![x[rows], y[columns + 1]]].concat()
            }
            "Reshape" => {
                let length = |(at, &n): (usize, &i64)| match n {
                    -1 => None,
                    0 => x.get(at).copied().flatten(),
                    n => Some(n as usize),
                };
                let mut new: Shape = ints(call, "shape")?.iter().enumerate().map(length).collect();
                fill(&mut new, &x, ints(call, "shape")?);
                new
            }
            "Expand" => {
                let to: Shape = ints(call, "shape")?.iter().map(|&n| Some(n as usize)).collect();
                broadcast(&x, &to)
            }
            "Unsqueeze" => {
                let axes = ints(call, "axes")?;
                let rank = x.len() + axes.len();
                let mut old = x.iter().copied();
                (0..rank).map(|at| if axes.contains(&(at as i64)) { Some(1) } else { old.next().flatten() }).collect()
            }
            "Squeeze" => without(&x, ints(call, "axes")?),
            "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceMean" | "ReduceL2" => {
                let axes = ints(call, "axes")?;
                match int(call, "keepdims")? {
                    0 => without(&x, axes),
                    _ => axes.iter().fold(x.clone(), |x, &axis| with(&x, from_start(axis, x.len()), Some(1))),
                }
            }
            "ArgMax" => match int(call, "keepdims")? {
                0 => without(&x, &[int(call, "axis")?]),
                _ => with(&x, axis()?, Some(1)),
            },
            "Transpose" => ints(call, "perm")?.iter().map(|&from| x.get(from as usize).copied().flatten()).collect(),
            "Concat" => {
                let axis = axis()?;
                let parts: Option<Vec<Shape>> = (0..call.inputs.len()).map(shape).collect();
                let total = parts?.iter().map(|part| part.get(axis).copied().flatten()).sum();
                with(&x, axis, total)
            }
            "Pad" => {
                let pads = ints(call, "pads")?;
                let padded = |(at, n): (usize, &Option<usize>)| Some((*n)? + (pads[at] + pads[at + x.len()]) as usize);
                x.iter().enumerate().map(padded).collect()
            }
            "Split" => {
                let axis = axis()?;
                return Some(ints(call, "split")?.iter().map(|&n| with(&x, axis, Some(n as usize))).collect());
            }
            "Gather" => {
                let axis = axis()?;
                let index = if int(call, "index").is_some() { vec![] } else { shape(1)? };
                [&x[..axis], &index[..], &x[axis + 1..]].concat()
            }
            "GatherElements" => shape(1)?,
            "Slice" => {
                let constants: Vec<_> = call.inputs[1..].iter().map(|value| self.constants.get(value)).collect();
                let mut y = x.clone();
                for (i, &axis) in (*constants.get(2)?)?.iter().enumerate() {
                    let axis = from_start(axis, x.len());
                    y[axis] = match (constants[0], constants[1], x[axis]) {
                        (Some(start), Some(end), Some(n)) if start[i] >= 0 && end[i] >= 0 => {
                            Some(n.min(end[i] as usize).saturating_sub(start[i] as usize))
                        }
                        _ => None,
                    };
                }
                y
            }
            "Shape" => vec![Some((int(call, "end")? - int(call, "start")?) as usize)],
            "Resize" => {
                let mut y = x.clone();
                ints(call, "axes")?.iter().for_each(|&axis| y[axis as usize] = None);
                y
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                x.iter().enumerate().map(|(at, &n)| if at < 2 { n } else { Some(1) }).collect()
            }
            "Conv" => conv(call, &x, &shape(1)?)?,
            // The shape of the first input.
            "Identity" | "Sqrt" | "Round" | "Floor" | "Abs" | "Tanh" | "Erf" | "Sigmoid" | "Relu" | "Clip" | "Gelu"
            | "Cast" | "Softmax" | "LayerNormalization" | "BatchNormalization" | "Attention" => x.clone(),
            _ => return None,
        };
        Some(vec![one])
    }
}

/// Shape of a convolution's output; the weight is `[O, I/groups, height, width]`.
fn conv(call: &Call, x: &Shape, weight: &Shape) -> Option<Shape> {
    let (pads, strides) = (ints(call, "pads")?, ints(call, "strides")?);
    let side = |at: usize| {
        let padded = (*x.get(2 + at)?)? as i64 + pads[at] + pads[at + 2];
        Some(((padded - (*weight.get(2 + at)?)? as i64) / strides[at] + 1) as usize)
    };
    Some(vec![x[0], weight[0], side(0), side(1)])
}

/// Computes the length of the axis that is -1, if all others are known.
fn fill(new: &mut Shape, old: &Shape, wanted: &[i64]) {
    let product = |of: &[Option<usize>]| of.iter().copied().try_fold(1, |n, len| Some(n * len?));
    let Some(at) = wanted.iter().position(|&n| n == -1) else { return };
    let rest: Shape = new.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, &n)| n).collect();
    if let (Some(all), Some(rest)) = (product(old), product(&rest))
        && rest > 0
    {
        new[at] = Some(all / rest);
    }
}

fn broadcast(a: &[Option<usize>], b: &[Option<usize>]) -> Shape {
    let rank = a.len().max(b.len());
    let length = |of: &[Option<usize>], at: usize| (at + of.len()).checked_sub(rank).map_or(Some(1), |at| of[at]);
    let one = |at: usize| match (length(a, at), length(b, at)) {
        (Some(1), n) | (n, Some(1)) => n,
        // Broadcasting requires both to be equal.
        (a, b) => a.or(b),
    };
    (0..rank).map(one).collect()
}

fn from_start(axis: i64, rank: usize) -> usize {
    if axis < 0 { (axis + rank as i64) as usize } else { axis as usize }
}

fn without(x: &Shape, axes: &[i64]) -> Shape {
    let gone: Vec<usize> = axes.iter().map(|&axis| from_start(axis, x.len())).collect();
    x.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, &n)| n).collect()
}

fn with(x: &Shape, axis: usize, length: Option<usize>) -> Shape {
    x.iter().enumerate().map(|(at, &n)| if at == axis { length } else { n }).collect()
}

/// Whether a call computes along the last axis only, whatever axes precede it: elementwise operators, LayerNormalization,
/// and products with a constant matrix. All inputs that are not constants then have the same shape.
pub fn along_last_axis(call: &Call, shapes: &Shapes, is_constant: &dyn Fn(Value) -> bool) -> bool {
    let rank = |at: usize| call.inputs.get(at).and_then(|&value| shapes.rank(value));
    let constant = |at: usize, most: usize| is_constant(call.inputs[at]) && rank(at).is_some_and(|n| n <= most);
    match call.op_type {
        "Identity" | "Sqrt" | "Round" | "Floor" | "Abs" | "Tanh" | "Erf" | "Sigmoid" | "Relu" | "Gelu" | "Cast" => true,
        "LayerNormalization" => matches!(int(call, "axis"), Some(-1)),
        "Split" => matches!(int(call, "axis"), Some(-1)),
        "MatMul" => !is_constant(call.inputs[0]) && constant(1, 2) && rank(1) == Some(2),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" => {
            let of = |at: usize| shapes.get(call.inputs[at]);
            !is_constant(call.inputs[0]) && (constant(1, 1) || !is_constant(call.inputs[1]) && of(0) == of(1))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Target;
    use crate::onnx::ops::{ConvAttributes, Ops};
    use crate::onnx::testing::Root;

    #[test]
    fn shapes_follow_from_operators() {
        let s = Root::new(Target::default());
        let x = s.input("x", &[0, 3, 8, 8]);
        let weight = s.weight("weight", &[5, 3, 3, 3]);
        let c = ConvAttributes { kernel: [3, 3], stride: [2, 2], padding: [1, 1], groups: 1 };
        let x = s.conv(x, weight, None, &c);
        let flat = s.reshape(x, &[-1, 5, 16]);
        let tokens = s.transpose(flat, &[0, 2, 1]);
        let padded = s.pad_front(tokens, 3, 1);
        let [q, _, _] = s.split(s.matmul(padded, s.weight("qkv", &[5, 12])), 4);
        let first = s.index(q, 0, 1);
        let norm = s.reduce_sum(first, &[-1], true);
        let rest = s.slice(q, s.ints(&[1]), s.ints(&[17]), 1);
        let pooled = s.squeeze(s.global_max_pool(s.unsqueeze(first, &[1, 2])), &[2, 3]);
        let shapes = Shapes::of(&s.0.into_program());
        let of = |value| shapes.get(value).cloned().unwrap();
        assert_eq!(of(x), [None, Some(5), Some(4), Some(4)]);
        assert_eq!(of(tokens), [None, Some(16), Some(5)]);
        assert_eq!(of(padded), [None, Some(17), Some(5)]);
        assert_eq!(of(q), [None, Some(17), Some(4)]);
        assert_eq!(of(first), [None, Some(4)]);
        assert_eq!(of(norm), [None, Some(1)]);
        assert_eq!(of(rest), [None, Some(16), Some(4)]);
        assert_eq!(of(pooled), [None, Some(1)]);
    }
}
