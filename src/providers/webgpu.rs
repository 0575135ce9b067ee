//! WebGPU, in the form ONNX Runtime's web build is going over to. Measured: what onnxruntime-node 1.30.0 assigns, node
//! by node, with graph optimisations off and without `enableInt64`. The older one, JSEP, has no Max, Min and PRelu.

use super::rules::{Fixed, Row, Rule, Table, Why, casts_to, of_types};
use super::view::Call;
use crate::onnx::proto::tensor_proto::DataType::{
    self, Bool, Float, Float16, Int4, Int8, Int32, Int64, Uint4, Uint8, Uint32,
};

pub const TABLE: Table =
    Table { types: FLOATS, fixed: Fixed::Free, rank: usize::MAX, rows: &[FLOAT_ALONE, WHOLE_TOO, CONDITIONAL] };

const FLOATS: &[DataType] = &[Float, Float16];
/// 64-bit integers go to the CPU.
const NUMBERS: &[DataType] = &[Float, Float16, Int32, Uint32];
const BYTES_TOO: &[DataType] = &[Float, Float16, Int32, Uint32, Uint8];

const FLOAT_ALONE: &[Row] = &[
    ("Abs", &[]),
    ("AveragePool", &[]),
    ("BatchNormalization", &[]),
    ("BiasGelu", &[]),
    ("Ceil", &[]),
    ("Conv", &[]),
    ("ConvTranspose", &[]),
    ("Cos", &[]),
    ("DepthToSpace", &[]),
    ("Einsum", &[]),
    ("Elu", &[]),
    ("Erf", &[]),
    ("Exp", &[]),
    ("FastGelu", &[]),
    ("Flatten", &[]),
    ("Floor", &[]),
    ("FusedConv", &[]),
    ("Gelu", &[]),
    ("Gemm", &[]),
    ("HardSigmoid", &[]),
    ("HardSwish", &[]),
    ("InstanceNormalization", &[]),
    ("LayerNormalization", &[]),
    ("LeakyRelu", &[]),
    ("Log", &[]),
    ("MatMul", &[]),
    ("MaxPool", &[]),
    ("MultiHeadAttention", &[]),
    ("Neg", &[]),
    ("PRelu", &[]),
    ("QuickGelu", &[]),
    ("Reciprocal", &[]),
    ("Relu", &[]),
    ("Resize", &[]),
    ("Sigmoid", &[]),
    ("SimplifiedLayerNormalization", &[]),
    ("Sin", &[]),
    ("SkipLayerNormalization", &[]),
    ("Slice", &[]),
    ("Softmax", &[]),
    ("Sqrt", &[]),
    ("Tanh", &[]),
];

const WHOLE_TOO: &[Row] = &[
    ("Add", &[Rule::Types(NUMBERS)]),
    ("ArgMax", &[Rule::Types(NUMBERS)]),
    ("ArgMin", &[Rule::Types(NUMBERS)]),
    ("Clip", &[Rule::Types(NUMBERS)]),
    ("Concat", &[Rule::Types(NUMBERS)]),
    ("Div", &[Rule::Types(NUMBERS)]),
    ("Equal", &[Rule::Types(NUMBERS)]),
    ("Expand", &[Rule::Types(NUMBERS)]),
    ("Gather", &[Rule::Types(BYTES_TOO)]),
    ("GatherElements", &[Rule::Types(NUMBERS)]),
    ("GatherND", &[Rule::Types(NUMBERS)]),
    ("Greater", &[Rule::Types(NUMBERS)]),
    ("Identity", &[Rule::Types(NUMBERS)]),
    ("Less", &[Rule::Types(NUMBERS)]),
    ("Max", &[Rule::Types(NUMBERS)]),
    ("Min", &[Rule::Types(NUMBERS)]),
    ("Mul", &[Rule::Types(NUMBERS)]),
    ("Pow", &[Rule::Types(NUMBERS)]),
    ("ReduceL2", &[Rule::Types(NUMBERS)]),
    ("ReduceMax", &[Rule::Types(NUMBERS)]),
    ("ReduceMean", &[Rule::Types(NUMBERS)]),
    ("ReduceMin", &[Rule::Types(NUMBERS)]),
    ("ReduceSum", &[Rule::Types(NUMBERS)]),
    ("Reshape", &[Rule::Types(BYTES_TOO)]),
    ("Split", &[Rule::Types(NUMBERS)]),
    ("Sub", &[Rule::Types(NUMBERS)]),
    ("Tile", &[Rule::Types(NUMBERS)]),
    ("Unsqueeze", &[Rule::Types(NUMBERS)]),
];

const CONDITIONAL: &[Row] = &[
    ("Cast", &[Rule::Types(&[Float, Float16, Int32, Uint32, Uint8, Bool]), Rule::Check(casts)]),
    ("DequantizeLinear", &[Rule::Types(&[Uint8, Int8, Int32, Int4, Uint4])]),
    ("GlobalAveragePool", &[Rule::Check(|call| below(call, 22))]),
    ("GlobalMaxPool", &[Rule::Check(|call| below(call, 22))]),
    ("MatMulNBits", &[Rule::Int("bits", &[4, 2, 8])]),
    ("Pad", &[Rule::Types(NUMBERS), Rule::Check(|call| below(call, 24))]),
    ("Shape", &[Rule::Types(NUMBERS), Rule::Check(|call| below(call, 25))]),
    ("Squeeze", &[Rule::Types(NUMBERS), Rule::Check(|call| below(call, 25))]),
    ("Transpose", &[Rule::Types(NUMBERS), Rule::Check(|call| below(call, 25))]),
    ("Where", &[Rule::Types(&[Bool]), Rule::Check(|call| of_types(call, 1, &[Float, Float16, Int32, Uint32, Bool]))]),
];

fn casts(call: &Call) -> Result<(), Why> {
    casts_to(call, &[Float, Float16, Int32, Uint32, Int64, Uint8, Bool])
}

/// Newer forms of an operator have no kernel.
fn below(call: &Call, opset: i64) -> Result<(), Why> {
    if call.opset() < opset { Ok(()) } else { Err(format!("opset {} (below {opset} it is taken)", call.opset())) }
}
