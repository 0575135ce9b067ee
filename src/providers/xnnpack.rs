//! XNNPACK: a few operators that cost most, the others run on ONNX Runtime's own CPU kernels. Sources of March 2026.

use super::rules::{Fixed, Row, Rule, Table, Why};
use super::view::{Call, Fact};
use crate::onnx::proto::tensor_proto::DataType::{self, Float, Int8, Uint8};

pub const TABLE: Table = Table { types: &[Float], fixed: Fixed::Free, rank: usize::MAX, rows: &[ROWS] };

const QUANTISED: &[DataType] = &[Uint8, Int8];

const ROWS: &[Row] = &[
    (
        "AveragePool",
        &[Rule::Rank(&[4]), Rule::Int("count_include_pad", &[0]), Rule::Int("ceil_mode", &[0]), Rule::Check(moves)],
    ),
    ("Clip", &[Rule::Constant(&[1, 2]), Rule::Check(is_fused)]),
    ("Conv", &[Rule::Rank(&[3, 4]), Rule::Constant(&[1, 2]), Rule::Check(moves)]),
    ("ConvTranspose", &[Rule::Rank(&[4]), Rule::Constant(&[1, 2])]),
    ("Gemm", &[Rule::Rank(&[2]), Rule::Constant(&[1, 2])]),
    ("MatMul", &[Rule::Check(multiplies)]),
    ("MaxPool", &[Rule::Rank(&[4])]),
    ("QLinearConv", &[Rule::Types(QUANTISED)]),
    ("Relu", &[Rule::Check(is_fused)]),
    (
        "Resize",
        &[
            Rule::Rank(&[4]),
            Rule::Text("mode", &["nearest", "linear"]),
            Rule::Check(is_linear),
            Rule::Int("antialias", &[0]),
            Rule::Constant(&[2, 3]),
        ],
    ),
    ("Softmax", &[Rule::Check(over_the_last_axis)]),
];

/// Channels, height and width are known.
fn moves(call: &Call) -> Result<(), Why> {
    let shape = call.input(0).and_then(|fact| fact.shape.as_ref());
    let free = shape.is_some_and(|shape| shape.iter().skip(1).any(Option::is_none));
    if free { Err("an axis is free".to_owned()) } else { Ok(()) }
}

fn is_fused(call: &Call) -> Result<(), Why> {
    let before = call.before(0).is_some_and(|b| matches!(b.operator(), "Conv" | "MaxPool" | "AveragePool"));
    if before { Ok(()) } else { Err("not behind a convolution".to_owned()) }
}

fn is_linear(call: &Call) -> Result<(), Why> {
    if call.text("mode") == Some("linear") { Ok(()) } else { Err("mode nearest".to_owned()) }
}

fn multiplies(call: &Call) -> Result<(), Why> {
    match call.input(1) {
        Some(factor) if !factor.constant => Err("two computed factors".to_owned()),
        Some(factor) if factor.rank().is_some_and(|rank| rank > 2) => Err("a factor for each head".to_owned()),
        _ => Ok(()),
    }
}

fn over_the_last_axis(call: &Call) -> Result<(), Why> {
    let rank = call.input(0).and_then(Fact::rank).map(|rank| rank as i64);
    match call.int("axis").unwrap_or(-1) {
        -1 => Ok(()),
        axis if rank.is_none_or(|rank| axis == rank - 1) => Ok(()),
        axis => Err(format!("axis {axis}")),
    }
}
