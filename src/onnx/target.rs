//! What a file may contain, so that the runtimes it is for can load it.

/// Operator set and file format version, both written explicitly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: &'static str,
    /// Version of the default operator set.
    pub opset: i64,
    /// `ModelProto.ir_version`.
    pub ir_version: i64,
}

/// Standard operators of opset 17 (the first with LayerNormalization) in IR 8: ONNX Runtime from
/// 1.14, its web build, OpenVINO, TensorRT and tract load it.
pub const PORTABLE: Target = Target { name: "portable", opset: 17, ir_version: 8 };
