//! What a file may contain, so that the runtimes it is for can load it and run it well.
//!
//! A profile describes a group of runtimes; the operator set, within what the profile allows, decides which operators
//! there are. Only [`super::legalize`] reads either while a graph is built.

use std::ops::RangeInclusive;

/// How the pooled position of each text is found and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionSelect {
    /// By `ArgMax`, and `GatherElements` along each text. Not by `GatherND` with `batch_dims`, which ONNX Runtime's
    /// `symbolic_shape_infer` and `quant_pre_process` infer wrongly.
    Elements,
    /// By `ArgMax` and one `Gather` from the rows of all texts. Ids stay integers, which float16 does not hold.
    Rows,
    /// As a one-hot vector, by a product; all in floats, ids from a lookup table. Not with `data_dependent_shapes`, since
    /// nothing computes the position itself.
    OneHot,
}

/// Who a file is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// What flags and metadata call it.
    pub name: &'static str,
    /// Operator sets to choose from; the first is the default.
    pub opsets: RangeInclusive<i64>,
    /// Whether lengths may depend on the numbers in an input.
    pub data_dependent_shapes: bool,
    /// Whether weights go to an external data file whatever the model's size, so that a runtime can map them.
    pub external_data: bool,
    /// Whether every axis is fixed: batches are of one row where no other number is asked for.
    pub static_batch: bool,
    /// Whether token ids are int32 where nothing else is asked for.
    pub int32_tokens: bool,
    /// Operators that are written as others.
    pub avoids: &'static [&'static str],
    /// Whether factors of products have as many axes as one another, and the same leading ones.
    pub equal_ranks: bool,
    /// Whether float32 may be computed in float16, so that numbers stay within its range.
    pub half_range: bool,
    /// How the pooled position of each text is found and taken.
    pub position_select: PositionSelect,
    /// The runtimes, for people.
    pub runtimes: &'static str,
}

/// Standard operators as long known: opset 17 is the first with LayerNormalization.
pub const PORTABLE: Profile = Profile {
    name: "portable",
    opsets: 17..=22,
    data_dependent_shapes: false,
    external_data: false,
    static_batch: false,
    int32_tokens: false,
    avoids: &[],
    equal_ranks: false,
    half_range: false,
    position_select: PositionSelect::Elements,
    runtimes: "ONNX Runtime, its web build, OpenVINO, TensorRT, rten, MNN, OpenCV 5, IREE, tract",
};

/// What ONNX Runtime's CPU provider runs fastest: opset 23 is the first with Attention.
pub const ONNX_RUNTIME: Profile = Profile {
    name: "onnxruntime",
    opsets: 23..=24,
    data_dependent_shapes: true,
    external_data: true,
    runtimes: "ONNX Runtime from 1.23",
    ..PORTABLE
};

/// Android's NNAPI, which multiplies matrices alone and knows no normalisation; XNNPACK and ONNX Runtime's own
/// kernels take the same files, and put LayerNormalization together again.
pub const MOBILE: Profile = Profile {
    name: "mobile",
    opsets: 17..=19,
    static_batch: true,
    int32_tokens: true,
    avoids: &["LayerNormalization", "ReduceL2", "ReduceMax", "ReduceSum"],
    equal_ranks: true,
    half_range: true,
    position_select: PositionSelect::OneHot,
    runtimes: "ONNX Runtime on Android and iOS: NNAPI, XNNPACK, CPU",
    ..PORTABLE
};

/// Apple's CoreML, as an ML Program. Its provider's list has no Pad, though it has a builder.
pub const COREML: Profile = Profile {
    name: "coreml",
    opsets: 20..=22,
    static_batch: true,
    int32_tokens: true,
    avoids: &["Pad", "ReduceL2"],
    half_range: true,
    position_select: PositionSelect::OneHot,
    runtimes: "ONNX Runtime from 1.17: CoreML (ML Program)",
    ..PORTABLE
};

/// Qualcomm's HTP, which computes float32 in float16.
pub const QNN: Profile = Profile {
    name: "qnn",
    opsets: 20..=22,
    static_batch: true,
    int32_tokens: true,
    half_range: true,
    position_select: PositionSelect::Rows,
    runtimes: "ONNX Runtime from 1.17: QNN (HTP)",
    ..PORTABLE
};

/// Browsers: WebGPU, which has no int64, and no Max in its older form; WebNN, where batches are fixed.
pub const WEB: Profile = Profile {
    name: "web",
    opsets: 20..=21,
    int32_tokens: true,
    avoids: &["Max"],
    position_select: PositionSelect::OneHot,
    runtimes: "ONNX Runtime's web build from 1.17: WebGPU, WebNN, wasm",
    ..PORTABLE
};

/// All profiles.
pub const PROFILES: [&Profile; 6] = [&PORTABLE, &ONNX_RUNTIME, &MOBILE, &COREML, &QNN, &WEB];

/// A profile and the operator set chosen for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Runtimes that the file is for.
    pub profile: &'static Profile,
    /// Version of the default operator set.
    pub opset: i64,
}

impl Default for Target {
    fn default() -> Target {
        Target::new(&PORTABLE)
    }
}

impl Target {
    /// With the profile's default operator set.
    pub fn new(profile: &'static Profile) -> Target {
        Target { profile, opset: *profile.opsets.start() }
    }

    /// With another operator set; None where the profile does not allow it.
    pub fn with_opset(profile: &'static Profile, opset: i64) -> Option<Target> {
        profile.opsets.contains(&opset).then_some(Target { profile, opset })
    }

    /// `ModelProto.ir_version`: the one that came with the operator set.
    pub fn ir_version(self) -> i64 {
        match self.opset {
            ..=18 => 8,
            19..=20 => 9,
            21..=22 => 10,
            23 => 11,
            _ => 12,
        }
    }

    /// Whether an operator is to be written as others.
    pub fn avoids(self, op_type: &str) -> bool {
        self.profile.avoids.contains(&op_type)
    }

    /// Reductions take their axes as an input from opset 18 on.
    pub(super) fn axes_are_inputs(self) -> bool {
        self.opset >= 18
    }

    /// `Resize` averages what it makes smaller from opset 18 on.
    pub fn can_resize(self) -> bool {
        self.opset >= 18
    }

    /// `Gelu`, exact and tanh, is one operator from opset 20 on. OpenCV 5 reads the one by tanh as the exact one, and MNN
    /// 3.6 approximates both, so portable files have its parts, which ONNX Runtime puts together.
    pub(super) fn has_gelu(self) -> bool {
        self.opset >= 20 && self.profile != &PORTABLE
    }

    /// `DequantizeLinear` takes blocks of int4 from opset 21 on. ONNX Runtime's own operator for them is
    /// what it runs fastest.
    pub fn has_int4(self) -> bool {
        self.opset >= 21 && self.profile == &PORTABLE
    }

    /// `Attention` is one operator from opset 23 on.
    pub(crate) fn has_attention(self) -> bool {
        self.opset >= 23
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_allows_its_own_operator_sets() {
        assert_eq!(Target::default().ir_version(), 8);
        assert_eq!(Target::with_opset(&PORTABLE, 20).map(Target::ir_version), Some(9));
        assert_eq!(Target::with_opset(&PORTABLE, 23), None);
        assert_eq!(Target::new(&ONNX_RUNTIME).ir_version(), 11);
        assert_eq!(Target::with_opset(&ONNX_RUNTIME, 17), None);
    }
}
