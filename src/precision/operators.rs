//! What the passes know of ONNX's operators, by their names.

/// Normalises over channels: what smoothing divides, and what activation statistics follow.
pub const LAYER_NORM: &str = "LayerNormalization";

/// Stay in float32 where arithmetic is float16: sums of many squares, exponentials, and divisions by them.
pub const FLOAT32_ONLY: &[&str] = &["ReduceL2", "Softmax", "Div", "Max", "Range"];

/// Give integers or truth values, whatever they read.
pub const INTEGER_RESULTS: &[&str] = &["ArgMax", "Shape", "Equal"];

/// Make pixels of bytes in front of an image tower's first convolution.
pub const PIXELS: &[&str] = &["Cast", "Resize", "Floor", "Slice"];

/// Give about the mean squares, channel by channel, that their first input has.
pub const SAME_CHANNELS: &[&str] = &[
    "Abs",
    "BatchNormalization",
    "Expand",
    "GatherElements",
    "GlobalAveragePool",
    "Max",
    "Pow",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Slice",
    "Softmax",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Which input of a node is its weight, of operators that have one.
pub fn weight_input(op_type: &str) -> Option<usize> {
    match op_type {
        "MatMul" | "Conv" => Some(1),
        "Gather" => Some(0),
        _ => None,
    }
}
