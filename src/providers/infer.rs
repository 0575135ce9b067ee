//! Element types and shapes of what nodes write, as far as rules ask for them: of operators that CLIP's towers
//! have, in whoever's file. What is not known stays so.

use super::view::{Call, Fact, Shape, element};
use crate::onnx::proto::tensor_proto::DataType;

/// Of all outputs.
pub fn outputs(call: &Call) -> Vec<Fact> {
    if call.operator() == "Constant" {
        return vec![call.tensor("value").unwrap_or(Fact { constant: true, ..Fact::default() })];
    }
    let constant = call.is_folded();
    let of = |at: usize| {
        let shape = shape(call, at);
        let free = !constant && call.inputs().any(|fact| fact.is_fixed() == Some(false));
        Fact { element: element_of(call, at), shape, free, constant, numbers: None }
    };
    (0..call.node.output.len()).map(of).collect()
}

fn element_of(call: &Call, at: usize) -> Option<DataType> {
    let of = |input: usize| call.input(input).and_then(|fact| fact.element);
    match (call.operator(), at) {
        ("Cast", _) => element(call.int("to").and_then(|to| i32::try_from(to).ok())),
        ("ArgMax" | "ArgMin" | "Shape" | "Size" | "NonZero", _) => Some(DataType::Int64),
        ("Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Not" | "And" | "Or" | "IsNaN", _) => {
            Some(DataType::Bool)
        }
        ("MatMulInteger" | "ConvInteger", _) => Some(DataType::Int32),
        ("DynamicQuantizeLinear", 1) => Some(DataType::Float),
        ("DynamicQuantizeLinear", _) => Some(DataType::Uint8),
        ("QuantizeLinear", _) => of(2).or(Some(DataType::Uint8)),
        ("DequantizeLinear" | "Where", _) => of(1),
        ("ConstantOfShape", _) => call.tensor("value").map_or(Some(DataType::Float), |value| value.element),
        _ => of(0),
    }
}

fn shape(call: &Call, at: usize) -> Option<Shape> {
    let of = |input: usize| call.input(input).and_then(|fact| fact.shape.clone());
    match call.operator() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Equal" | "Less" | "Greater" | "LessOrEqual"
        | "GreaterOrEqual" | "And" | "Or" | "Where" | "Mean" | "Sum" => {
            let mut shapes = call.inputs().map(|fact| fact.shape.clone());
            let first = shapes.next()??;
            shapes.try_fold(first, |a, b| Some(broadcast(&a, &b?)))
        }
        "MatMul" | "MatMulInteger" => product(&of(0)?, &of(1)?),
        "MatMulNBits" => with_last(of(0)?, call.int("N")),
        "Gemm" => {
            let (a, b) = (of(0)?, of(1)?);
            let side = |shape: &Shape, turned: bool| shape.get(usize::from(turned)).copied().flatten();
            let (turned_a, turned_b) = (call.int("transA") == Some(1), call.int("transB") != Some(1));
            Some(vec![side(&a, turned_a), side(&b, turned_b)])
        }
        "Conv" | "ConvInteger" => windows(call, &of(0)?, *of(1)?.first()?, &of(1)?),
        "AveragePool" | "MaxPool" => windows(call, &of(0)?, *of(0)?.get(1)?, &of(0)?),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            Some(of(0)?.into_iter().enumerate().map(|(axis, n)| if axis < 2 { n } else { Some(1) }).collect())
        }
        "Reshape" => reshaped(&of(0)?, &list(call, 1)?),
        "Flatten" => Some(vec![None, None]),
        "Transpose" => {
            let shape = of(0)?;
            let turned: Vec<i64> = (0..shape.len() as i64).rev().collect();
            call.ints("perm").unwrap_or(&turned).iter().map(|&axis| shape.get(axis as usize).copied()).collect()
        }
        "Unsqueeze" => unsqueezed(of(0)?, &axes(call)?),
        "Squeeze" => {
            let shape = of(0)?;
            let gone = along(&axes(call)?, shape.len())?;
            Some(without(&shape, &gone))
        }
        "Concat" => {
            let shapes: Vec<Shape> = call.inputs().map(|fact| fact.shape.clone()).collect::<Option<_>>()?;
            let mut out = shapes.first()?.clone();
            let axis = *along(&[call.int("axis")?], out.len())?.first()?;
            let total = shapes.iter().map(|shape| shape.get(axis).copied().flatten());
            out[axis] = total.into_iter().try_fold(0i64, |sum, n| sum.checked_add(n?));
            Some(out)
        }
        "Split" => {
            let mut shape = of(0)?;
            let axis = *along(&[call.int("axis").unwrap_or(0)], shape.len())?.first()?;
            let parts = call.ints("split").map(<[i64]>::to_vec).or_else(|| list(call, 1));
            let even = || shape[axis].map(|n| n / call.node.output.len().max(1) as i64);
            shape[axis] = parts.map_or_else(even, |parts| parts.get(at).copied());
            Some(shape)
        }
        "Gather" => {
            let (shape, indices) = (of(0)?, of(1)?);
            let axis = *along(&[call.int("axis").unwrap_or(0)], shape.len())?.first()?;
            Some([&shape[..axis], &indices[..], &shape[axis + 1..]].concat())
        }
        "GatherND" => {
            let (shape, indices, batch) = (of(0)?, of(1)?, call.int("batch_dims").unwrap_or(0));
            let (last, lead) = indices.split_last()?;
            let taken = usize::try_from((*last)?.checked_add(batch)?).ok()?;
            Some([lead, shape.get(taken..)?].concat())
        }
        "GatherElements" => of(1),
        "Expand" => {
            let (shape, to) = (of(0)?, list(call, 1)?);
            let missing = to.len().saturating_sub(shape.len());
            let from = std::iter::repeat_n(Some(1), missing).chain(shape);
            Some(from.zip(to).map(|(from, to)| if to == 1 { from } else { Some(to) }).collect())
        }
        "Slice" => {
            // Whatever it cuts, cut axes are as long as is asked for or the input is.
            let (mut shape, starts, ends) = (of(0)?, list(call, 1)?, list(call, 2)?);
            let axes = list(call, 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
            let steps = list(call, 4);
            for (i, axis) in along(&axes, shape.len())?.into_iter().enumerate() {
                let step = steps.as_ref().map_or(Some(1), |steps| steps.get(i).copied());
                let length = shape[axis].filter(|_| step == Some(1)).and_then(|n| {
                    let place = |at: i64| if at < 0 { at.saturating_add(n).max(0) } else { at.min(n) };
                    Some(place(*ends.get(i)?).saturating_sub(place(*starts.get(i)?)).max(0))
                });
                shape[axis] = length;
            }
            Some(shape)
        }
        "Pad" => {
            let (mut shape, pads) = (of(0)?, list(call, 1)?);
            let rank = shape.len();
            if call.node.input.len() > 3 || pads.len() != 2 * rank {
                return Some(vec![None; rank]);
            }
            for (axis, n) in shape.iter_mut().enumerate() {
                *n = n.map(|n| n.saturating_add(pads[axis]).saturating_add(pads[rank + axis]));
            }
            Some(shape)
        }
        "ReduceL2" | "ReduceMax" | "ReduceMin" | "ReduceMean" | "ReduceSum" | "ArgMax" | "ArgMin" => {
            let shape = of(0)?;
            let all = (0..shape.len() as i64).collect();
            let over = match call.operator() {
                "ArgMax" | "ArgMin" => vec![call.int("axis").unwrap_or(0)],
                _ => axes(call).unwrap_or(all),
            };
            let over = along(&over, shape.len())?;
            if call.int("keepdims") == Some(0) {
                return Some(without(&shape, &over));
            }
            Some(shape.iter().enumerate().map(|(axis, &n)| if over.contains(&axis) { Some(1) } else { n }).collect())
        }
        "Shape" => {
            let rank = of(0)?.len() as i64;
            let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank);
            let (start, end) = (call.int("start").unwrap_or(0), call.int("end").unwrap_or(rank));
            Some(vec![Some((place(end) - place(start)).max(0))])
        }
        "DynamicQuantizeLinear" if at > 0 => Some(vec![]),
        "Abs"
        | "Neg"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Relu"
        | "Sigmoid"
        | "Tanh"
        | "Erf"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Reciprocal"
        | "Cast"
        | "Clip"
        | "Gelu"
        | "QuickGelu"
        | "FastGelu"
        | "BiasGelu"
        | "Softmax"
        | "Identity"
        | "LayerNormalization"
        | "SimplifiedLayerNormalization"
        | "BatchNormalization"
        | "HardSwish"
        | "HardSigmoid"
        | "LeakyRelu"
        | "Elu"
        | "Dropout"
        | "Not"
        | "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear" => of(0),
        // Queries' shape, while it has three axes.
        "Attention" => of(0),
        _ => None,
    }
}

/// A small constant's integers.
fn list(call: &Call, at: usize) -> Option<Vec<i64>> {
    Some(call.input(at)?.numbers.as_ref()?.iter().map(|&n| n as i64).collect())
}

/// Where they are an attribute, or the second input.
fn axes(call: &Call) -> Option<Vec<i64>> {
    call.ints("axes").map(<[i64]>::to_vec).or_else(|| list(call, 1))
}

/// Axes counted from the front.
fn along(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let from_front = |&axis: &i64| usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok();
    axes.iter().map(|axis| from_front(axis).filter(|&axis| axis < rank)).collect()
}

fn without(shape: &Shape, gone: &[usize]) -> Shape {
    shape.iter().enumerate().filter(|(axis, _)| !gone.contains(axis)).map(|(_, &n)| n).collect()
}

fn with_last(mut shape: Shape, last: Option<i64>) -> Option<Shape> {
    *shape.last_mut()? = last;
    Some(shape)
}

fn broadcast(a: &Shape, b: &Shape) -> Shape {
    let rank = a.len().max(b.len());
    let at = |shape: &Shape, axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(Some(1), |axis| shape.get(axis).copied().flatten())
    };
    let one = |axis: usize| match (at(a, axis), at(b, axis)) {
        (Some(1), n) | (n, Some(1)) => n,
        (n, m) => n.or(m),
    };
    (0..rank).map(one).collect()
}

fn product(a: &Shape, b: &Shape) -> Option<Shape> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let (lead_a, last_a) = a.split_at(a.len() - 2);
    let (lead_b, last_b) = b.split_at(b.len() - 2);
    let mut out = broadcast(&lead_a.to_vec(), &lead_b.to_vec());
    out.extend([last_a[0], last_b[1]]);
    Some(out)
}

fn reshaped(from: &Shape, to: &[i64]) -> Option<Shape> {
    let mut out: Shape = Vec::new();
    for (axis, &n) in to.iter().enumerate() {
        out.push(match n {
            0 => from.get(axis).copied().flatten(),
            -1 => None,
            n => Some(n),
        });
    }
    if let Some(rest) = to.iter().position(|&n| n == -1) {
        let mut others = out.iter().enumerate().filter(|&(axis, _)| axis != rest).map(|(_, n)| *n);
        let known = others.try_fold(1i64, |all, n| all.checked_mul(n?));
        let total = from.iter().try_fold(1i64, |all, n| all.checked_mul((*n)?));
        out[rest] = total.zip(known).and_then(|(total, known)| total.checked_div(known));
    }
    Some(out)
}

fn unsqueezed(shape: Shape, axes: &[i64]) -> Option<Shape> {
    let rank = shape.len() + axes.len();
    let new = along(axes, rank)?;
    let mut old = shape.into_iter();
    (0..rank).map(|axis| if new.contains(&axis) { Some(Some(1)) } else { old.next() }).collect()
}

/// Of windows that move over the axes behind the second.
fn windows(call: &Call, x: &Shape, channels: Option<i64>, weight: &Shape) -> Option<Shape> {
    let mut out = vec![*x.first()?, channels];
    let (pads, strides) = (call.ints("pads"), call.ints("strides"));
    let spatial = x.len().checked_sub(2)?;
    for axis in 0..spatial {
        let kernel = call.ints("kernel_shape").and_then(|k| k.get(axis).copied()).or(*weight.get(2 + axis)?);
        let pad = |at: usize| pads.map_or(0, |pads| pads.get(at).copied().unwrap_or(0));
        let stride = strides.and_then(|strides| strides.get(axis).copied()).unwrap_or(1);
        let dilated = call.ints("dilations").is_some_and(|all| all.iter().any(|&n| n != 1));
        let said = dilated || call.text("auto_pad").is_some_and(|pad| pad != "NOTSET");
        let length = x[2 + axis].zip(kernel).filter(|_| !said && call.int("ceil_mode") != Some(1));
        out.push(length.and_then(|(n, kernel)| {
            let free = n.checked_add(pad(axis))?.checked_add(pad(spatial + axis))?.checked_sub(kernel)?;
            free.checked_div(stride)?.checked_add(1)
        }));
    }
    Some(out)
}
