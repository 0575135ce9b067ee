//! Android's NNAPI, on Android 10 and newer for most operators. ONNX Runtime 1.32's list, conditions as its builders
//! have them in sources of March 2026.

use super::rules::{Fixed, Row, Rule, Table, Why, casts_to, of_types};
use super::view::Call;
use crate::onnx::proto::tensor_proto::DataType::{Float, Int8, Int32, Uint8};

pub const TABLE: Table = Table { types: &[Float], fixed: Fixed::Inputs, rank: 4, rows: &[PLAIN, CONDITIONAL] };

const PLAIN: &[Row] = &[
    ("Abs", &[]),
    ("Add", &[]),
    ("Div", &[]),
    ("Elu", &[]),
    ("Exp", &[]),
    ("Flatten", &[]),
    ("Floor", &[]),
    ("Identity", &[]),
    ("LRN", &[]),
    ("LeakyRelu", &[]),
    ("Log", &[]),
    ("Mul", &[]),
    ("Neg", &[]),
    ("PRelu", &[]),
    ("Relu", &[]),
    ("Sigmoid", &[]),
    ("Sin", &[]),
    ("Softmax", &[]),
    ("Sqrt", &[]),
    ("Sub", &[]),
    ("Tanh", &[]),
    ("Transpose", &[]),
];

const CONDITIONAL: &[Row] = &[
    ("AveragePool", &[Rule::Rank(&[4]), Rule::Int("count_include_pad", &[0]), Rule::Int("ceil_mode", &[0])]),
    ("BatchNormalization", &[Rule::Constant(&[1, 2, 3, 4])]),
    ("Cast", &[Rule::Check(|call| casts_to(call, &[Float, Int32]))]),
    ("Clip", &[Rule::Check(clips_as_relu)]),
    ("Concat", &[Rule::Types(&[Float, Uint8])]),
    ("Conv", &[Rule::Rank(&[4]), Rule::Constant(&[1, 2])]),
    ("DepthToSpace", &[Rule::Rank(&[4])]),
    ("DequantizeLinear", &[Rule::Types(&[Uint8, Int8, Int32]), Rule::Constant(&[1, 2])]),
    ("Gather", &[Rule::Check(gathers)]),
    ("Gemm", &[Rule::Rank(&[2]), Rule::Constant(&[1, 2])]),
    ("GlobalAveragePool", &[Rule::Rank(&[4])]),
    ("GlobalMaxPool", &[Rule::Rank(&[4])]),
    ("MatMul", &[Rule::Check(multiplies)]),
    ("Max", &[Rule::AtMost(2)]),
    ("MaxPool", &[Rule::Rank(&[4]), Rule::Types(&[Float, Uint8])]),
    ("Min", &[Rule::AtMost(2)]),
    ("Pad", &[Rule::Text("mode", &["constant"]), Rule::Constant(&[1, 2])]),
    ("Pow", &[Rule::Check(|call| of_types(call, 1, &[Float]))]),
    ("QLinearAdd", &[Rule::Types(&[Uint8, Int8])]),
    ("QLinearAveragePool", &[Rule::Types(&[Uint8, Int8])]),
    ("QLinearConv", &[Rule::Types(&[Uint8, Int8])]),
    ("QLinearMatMul", &[Rule::Types(&[Uint8, Int8])]),
    ("QLinearSigmoid", &[Rule::Types(&[Uint8, Int8])]),
    ("QuantizeLinear", &[Rule::Constant(&[1, 2])]),
    ("ReduceMean", &[Rule::Constant(&[1]), Rule::Int("noop_with_empty_axes", &[0])]),
    ("Reshape", &[Rule::Constant(&[1])]),
    (
        "Resize",
        &[
            Rule::Rank(&[4]),
            Rule::Types(&[Float, Uint8]),
            Rule::Text("mode", &["nearest", "linear"]),
            Rule::Int("antialias", &[0]),
            Rule::Constant(&[2, 3]),
        ],
    ),
    ("Slice", &[Rule::Constant(&[1, 2, 3, 4])]),
    ("Split", &[Rule::Check(splits_evenly)]),
    ("Squeeze", &[Rule::Constant(&[1])]),
    ("Unsqueeze", &[Rule::Constant(&[1])]),
];

/// ReLU up to six, or between minus one and one.
fn clips_as_relu(call: &Call) -> Result<(), Why> {
    let bound = |at: usize| call.input(at).and_then(|fact| fact.numbers.as_ref()?.first().copied());
    match (bound(1), bound(2)) {
        (Some(0.0), Some(6.0)) | (Some(-1.0), Some(1.0)) => Ok(()),
        _ => Err("bounds other than 0 and 6, or -1 and 1".to_owned()),
    }
}

fn gathers(call: &Call) -> Result<(), Why> {
    match call.input(1) {
        Some(indices) if !indices.constant => {
            of_types(call, 1, &[Int32]).map_err(|element| format!("indices computed, as {element}"))
        }
        _ => Ok(()),
    }
}

/// A matrix with a constant one, or as many with as many.
fn multiplies(call: &Call) -> Result<(), Why> {
    let (Some(a), Some(b)) = (call.input(0), call.input(1)) else { return Ok(()) };
    match (&a.shape, &b.shape) {
        (Some(x), Some(y)) if x.len() == 2 && y.len() == 2 => {
            if b.constant {
                Ok(())
            } else {
                Err("two computed matrices".to_owned())
            }
        }
        (Some(x), Some(y)) if x.len() == y.len() && x.len() > 2 => {
            let lead = x.len() - 2;
            if x[..lead] == y[..lead] { Ok(()) } else { Err("factors with other leading axes".to_owned()) }
        }
        (Some(x), Some(y)) => Err(format!("{} axes times {}", x.len(), y.len())),
        _ => Ok(()),
    }
}

fn splits_evenly(call: &Call) -> Result<(), Why> {
    let parts = call.input(1).and_then(|fact| fact.numbers.as_ref());
    match parts {
        Some(parts) if parts.iter().any(|n| Some(n) != parts.first()) => Err("unequal parts".to_owned()),
        _ => Ok(()),
    }
}
