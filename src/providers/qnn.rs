//! Qualcomm's QNN on its HTP (Hexagon v73 and later). Measured: what onnxruntime-qnn 2.7.0 assigns with ONNX Runtime
//! 1.32, node by node, with graph optimisations off.

use super::rules::{Fixed, Row, Rule, Table, Why, casts_to};
use super::view::{Call, Fact};
use crate::onnx::proto::tensor_proto::DataType::{self, Bool, Float, Float16, Int8, Int32, Int64, Uint8};

pub const TABLE: Table =
    Table { types: FLOATS, fixed: Fixed::All, rank: 5, rows: &[FLOAT_ALONE, WHOLE_TOO, CONDITIONAL] };

const FLOATS: &[DataType] = &[Float, Float16];
const NUMBERS: &[DataType] = &[Float, Float16, Int32, Int64];
const CAST_FROM: &[DataType] = &[Float, Float16, Int32, Int64, Uint8, Bool];
const BYTES_TOO: &[DataType] = &[Float, Float16, Int32, Int64, Uint8, Bool];

const FLOAT_ALONE: &[Row] = &[
    ("AveragePool", &[]),
    ("BatchNormalization", &[]),
    ("Ceil", &[]),
    ("Conv", &[]),
    ("ConvTranspose", &[]),
    ("Cos", &[]),
    ("Elu", &[]),
    ("Exp", &[]),
    ("Floor", &[]),
    ("FusedMatMul", &[]),
    ("Gelu", &[]),
    ("Gemm", &[]),
    ("GlobalAveragePool", &[]),
    ("GlobalMaxPool", &[]),
    ("HardSigmoid", &[]),
    ("HardSwish", &[]),
    ("Identity", &[]),
    ("InstanceNormalization", &[]),
    ("LeakyRelu", &[]),
    ("Log", &[]),
    ("LpNormalization", &[]),
    ("MatMul", &[]),
    ("MaxPool", &[]),
    ("Neg", &[]),
    ("PRelu", &[]),
    ("Pow", &[]),
    ("QuickGelu", &[]),
    ("Reciprocal", &[]),
    ("Relu", &[]),
    ("Round", &[]),
    ("Sigmoid", &[]),
    ("SimplifiedLayerNormalization", &[]),
    ("Sin", &[]),
    ("Softmax", &[]),
    ("Softplus", &[]),
    ("Sqrt", &[]),
    ("Tanh", &[]),
];

const WHOLE_TOO: &[Row] = &[
    ("Abs", &[Rule::Types(NUMBERS)]),
    ("Add", &[Rule::Types(NUMBERS)]),
    ("ArgMax", &[Rule::Types(NUMBERS)]),
    ("ArgMin", &[Rule::Types(NUMBERS)]),
    ("Concat", &[Rule::Types(NUMBERS)]),
    ("Div", &[Rule::Types(NUMBERS)]),
    ("Equal", &[Rule::Types(NUMBERS)]),
    ("Gather", &[Rule::Types(NUMBERS)]),
    ("Max", &[Rule::Types(NUMBERS)]),
    ("Min", &[Rule::Types(NUMBERS)]),
    ("Mul", &[Rule::Types(NUMBERS)]),
    ("Reshape", &[Rule::Types(BYTES_TOO)]),
    ("Squeeze", &[Rule::Types(BYTES_TOO)]),
    ("Sub", &[Rule::Types(NUMBERS)]),
    ("Tile", &[Rule::Types(NUMBERS)]),
    ("Transpose", &[Rule::Types(&[Float, Float16, Int32])]),
    ("Unsqueeze", &[Rule::Types(BYTES_TOO)]),
];

const CONDITIONAL: &[Row] = &[
    ("Attention", &[Rule::Check(no_bool_mask), Rule::Int("softmax_precision", &[])]),
    ("Cast", &[Rule::Types(CAST_FROM), Rule::Check(casts)]),
    ("Clip", &[Rule::Types(NUMBERS), Rule::Constant(&[1, 2])]),
    ("ConvInteger", &[Rule::Types(&[Uint8, Int8]), Rule::Constant(&[1]), Rule::Check(is_dynamically_quantised)]),
    ("DequantizeLinear", &[Rule::Types(&[Uint8, Int8, Int32]), Rule::Check(has_one_scale)]),
    ("DynamicQuantizeLinear", &[Rule::Check(feeds_whole_products)]),
    ("Erf", &[Rule::Check(is_part_of_gelu)]),
    ("GatherND", &[Rule::Types(&[Float, Float16, Int32]), Rule::Int("batch_dims", &[0])]),
    ("LayerNormalization", &[Rule::Check(over_the_last_axis)]),
    ("MatMulInteger", &[Rule::Types(&[Uint8, Int8]), Rule::Constant(&[1]), Rule::Check(is_dynamically_quantised)]),
    ("MatMulNBits", &[Rule::Rank(&[3]), Rule::Int("bits", &[4, 2, 8]), Rule::Check(has_no_order)]),
    ("Pad", &[Rule::Text("mode", &["constant", "reflect", "edge"]), Rule::Constant(&[1, 2]), Rule::AtMost(3)]),
    ("QuantizeLinear", &[Rule::Constant(&[1, 2])]),
    ("ReduceL2", &[Rule::Constant(&[1])]),
    ("ReduceMax", &[Rule::Types(NUMBERS), Rule::Constant(&[1])]),
    ("ReduceMean", &[Rule::Constant(&[1])]),
    ("ReduceMin", &[Rule::Constant(&[1])]),
    ("ReduceSum", &[Rule::Types(NUMBERS), Rule::Constant(&[1])]),
    ("Resize", &[Rule::Rank(&[3, 4, 5]), Rule::Int("antialias", &[0])]),
    ("Slice", &[Rule::Types(BYTES_TOO), Rule::Constant(&[1, 2, 3, 4])]),
    ("Split", &[Rule::Types(NUMBERS), Rule::Constant(&[1])]),
    ("Where", &[Rule::Types(&[Bool])]),
];

fn casts(call: &Call) -> Result<(), Why> {
    let from_float = call.input(0).is_some_and(|fact| matches!(fact.element, Some(Float | Float16)));
    let to: &[DataType] =
        if from_float { &[Float, Float16, Int32, Uint8, Bool] } else { &[Float, Float16, Int32, Int64, Uint8, Bool] };
    casts_to(call, to)
}

fn no_bool_mask(call: &Call) -> Result<(), Why> {
    let boolean = call.input(3).is_some_and(|mask| mask.element == Some(Bool));
    if boolean { Err("a mask of true and false".to_owned()) } else { Ok(()) }
}

/// Integer products are taken as ONNX Runtime's dynamic quantisation has them, whole patterns alone.
fn is_dynamically_quantised(call: &Call) -> Result<(), Why> {
    let made = call.before(0).is_some_and(|before| before.operator() == "DynamicQuantizeLinear");
    if made && call.after().all(|after| after.operator() == "Cast") { Ok(()) } else { Err("by itself".to_owned()) }
}

fn feeds_whole_products(call: &Call) -> Result<(), Why> {
    let products = |after: Call| matches!(after.operator(), "MatMulInteger" | "ConvInteger");
    if call.after().all(products) { Ok(()) } else { Err("by itself".to_owned()) }
}

fn has_one_scale(call: &Call) -> Result<(), Why> {
    let scales = call.input(1).and_then(Fact::rank);
    if scales.is_some_and(|rank| rank > 0) { Err("a scale for every channel".to_owned()) } else { Ok(()) }
}

fn is_part_of_gelu(call: &Call) -> Result<(), Why> {
    let scaled = call.before(0).is_some_and(|before| matches!(before.operator(), "Div" | "Mul"));
    let multiplied = |sum: Call| sum.operator() == "Add" && sum.after().all(|after| after.operator() == "Mul");
    if scaled && call.after().all(multiplied) { Ok(()) } else { Err("outside GELU".to_owned()) }
}

fn over_the_last_axis(call: &Call) -> Result<(), Why> {
    let rank = call.input(0).and_then(Fact::rank).map(|rank| rank as i64);
    match call.int("axis") {
        None | Some(-1) => Ok(()),
        Some(axis) if rank.is_none_or(|rank| axis == rank - 1) => Ok(()),
        Some(axis) => Err(format!("axis {axis}")),
    }
}

fn has_no_order(call: &Call) -> Result<(), Why> {
    if call.input(4).is_some() { Err("g_idx".to_owned()) } else { Ok(()) }
}
