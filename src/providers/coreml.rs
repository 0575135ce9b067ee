//! CoreML as an ML Program, the form that has transformers' operators (`ModelFormat=MLProgram`; the default,
//! NeuralNetwork, takes next to nothing of a tower). ONNX Runtime 1.32's list, and conditions as its builders have
//! them in sources of March 2026 and later.

use super::rules::{Fixed, Row, Rule, Table, Why, casts_to, no_vector, of_types};
use super::view::Call;
use crate::onnx::proto::tensor_proto::DataType::{self, Bool, Float, Float16, Int32, Int64};

pub const TABLE: Table =
    Table { types: &[Float, Float16, Int64], fixed: Fixed::Free, rank: 5, rows: &[PLAIN, CONDITIONAL] };

const CASTS: &[DataType] = &[Int32, Int64, Float, Float16];

const PLAIN: &[Row] = &[
    ("Add", &[]),
    ("Ceil", &[]),
    ("Cos", &[]),
    ("Div", &[]),
    ("Elu", &[]),
    ("Erf", &[]),
    ("Exp", &[]),
    ("Gelu", &[]),
    ("Gemm", &[]),
    ("GridSample", &[]),
    ("GroupNormalization", &[]),
    ("HardSigmoid", &[]),
    ("Identity", &[]),
    ("InstanceNormalization", &[]),
    ("LeakyRelu", &[]),
    ("Max", &[]),
    ("Mul", &[]),
    ("PRelu", &[]),
    ("QuickGelu", &[]),
    ("Reciprocal", &[]),
    ("Relu", &[]),
    ("Round", &[]),
    ("Sigmoid", &[]),
    ("Sin", &[]),
    ("Softplus", &[]),
    ("Sqrt", &[]),
    ("Sub", &[]),
    ("Tanh", &[]),
    ("Tile", &[]),
    ("Transpose", &[]),
];

const CONDITIONAL: &[Row] = &[
    ("And", &[Rule::Types(&[Bool])]),
    ("ArgMax", &[Rule::Int("select_last_index", &[0])]),
    ("AveragePool", &[Rule::Rank(&[4])]),
    ("BatchNormalization", &[Rule::Rank(&[4]), Rule::Constant(&[1, 2, 3, 4])]),
    ("Cast", &[Rule::Types(CASTS), Rule::Check(|call| casts_to(call, CASTS)), Rule::Check(is_behind_a_node)]),
    ("Clip", &[Rule::Constant(&[1, 2])]),
    ("Concat", &[Rule::Check(joins)]),
    ("Conv", &[Rule::Rank(&[3, 4]), Rule::Constant(&[2])]),
    ("ConvTranspose", &[Rule::Rank(&[3, 4]), Rule::Constant(&[1, 2])]),
    ("DepthToSpace", &[Rule::Rank(&[4])]),
    ("FusedConv", &[Rule::Rank(&[3, 4]), Rule::Constant(&[2])]),
    ("Gather", &[Rule::Check(gathers)]),
    (
        "GatherND",
        &[Rule::Types(&[Float, Float16, Int32, Int64, Bool]), Rule::Int("batch_dims", &[0]), Rule::Constant(&[1])],
    ),
    ("GlobalAveragePool", &[Rule::Rank(&[4])]),
    ("GlobalMaxPool", &[Rule::Rank(&[4])]),
    ("LayerNormalization", &[Rule::Constant(&[1, 2]), Rule::Int("stash_type", &[1])]),
    ("MatMul", &[Rule::Check(no_vector)]),
    ("MaxPool", &[Rule::Rank(&[4])]),
    (
        "Pad",
        &[Rule::Text("mode", &["constant", "reflect"]), Rule::Constant(&[1, 2, 3]), Rule::Types(&[Float, Float16])],
    ),
    ("Pow", &[Rule::Check(same_types)]),
    ("ReduceMax", &[Rule::Constant(&[1])]),
    ("ReduceMean", &[Rule::Constant(&[1])]),
    ("ReduceMin", &[Rule::Constant(&[1])]),
    ("ReduceProd", &[Rule::Constant(&[1])]),
    ("ReduceSum", &[Rule::Constant(&[1])]),
    ("Reshape", &[Rule::Constant(&[1]), Rule::Fixed]),
    (
        "Resize",
        &[
            Rule::Rank(&[3, 4, 5]),
            Rule::Text("mode", &["nearest", "linear"]),
            Rule::Int("antialias", &[0]),
            Rule::Int("exclude_outside", &[0]),
            Rule::Constant(&[2, 3]),
        ],
    ),
    ("Shape", &[Rule::Types(&[Float, Float16, Int32, Int64])]),
    ("Slice", &[Rule::Fixed, Rule::Constant(&[1, 2, 3, 4])]),
    ("Softmax", &[]),
    ("Split", &[Rule::Constant(&[1])]),
    ("Squeeze", &[Rule::Constant(&[1])]),
    ("Unsqueeze", &[Rule::Constant(&[1])]),
    ("Where", &[Rule::Types(&[Bool]), Rule::Check(|call| of_types(call, 1, &[Float, Float16]))]),
];

fn is_behind_a_node(call: &Call) -> Result<(), Why> {
    call.before(0).map(|_| ()).ok_or_else(|| "of an input of the graph".to_owned())
}

fn joins(call: &Call) -> Result<(), Why> {
    if call.inputs().count() < 2 { Err("of one input".to_owned()) } else { Ok(()) }
}

fn gathers(call: &Call) -> Result<(), Why> {
    of_types(call, 1, &[Int32, Int64])?;
    let scalar = call.input(1).is_some_and(|indices| indices.rank() == Some(0));
    if scalar && call.input(0).is_some_and(|data| data.is_fixed() == Some(false)) {
        return Err("one entry of what has a free axis (an export with a fixed batch has none)".to_owned());
    }
    Ok(())
}

fn same_types(call: &Call) -> Result<(), Why> {
    call.input(0).and_then(|fact| fact.element).map_or(Ok(()), |element| of_types(call, 1, &[element]))
}
