//! What a file may contain, so that the runtimes it is for can load it and run it well.
//!
//! A profile says who the file is for; the opset, within what the profile allows, says how
//! operators are spelled. [`super::ops`] is the only reader of the spelling.

use std::ops::RangeInclusive;

/// Who a file is for.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    /// Operator sets to choose from; the first is the default.
    pub opsets: RangeInclusive<i64>,
    /// Whether lengths may depend on the numbers in an input.
    pub data_dependent_shapes: bool,
    /// Whether weights go beside the model whatever its size, from where a runtime can map them.
    pub external_data: bool,
    /// The runtimes, for people.
    pub runtimes: &'static str,
}

/// Standard operators as long known: opset 17 is the first with LayerNormalization.
pub const PORTABLE: Profile = Profile {
    name: "portable",
    opsets: 17..=22,
    data_dependent_shapes: false,
    external_data: false,
    runtimes: "ONNX Runtime, its web build, OpenVINO, TensorRT, tract",
};

/// What ONNX Runtime's CPU provider runs fastest: opset 23 is the first with Attention.
pub const ONNX_RUNTIME: Profile = Profile {
    name: "onnxruntime",
    opsets: 23..=24,
    data_dependent_shapes: true,
    external_data: true,
    runtimes: "ONNX Runtime from 1.23",
};

/// All profiles.
pub const PROFILES: [&Profile; 2] = [&PORTABLE, &ONNX_RUNTIME];

/// A profile and the operator set chosen for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
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

    /// Reductions take their axes as an input from opset 18 on.
    pub(super) fn axes_are_inputs(self) -> bool {
        self.opset >= 18
    }

    /// `Resize` averages what it makes smaller from opset 18 on.
    pub fn can_resize(self) -> bool {
        self.opset >= 18
    }

    /// `Gelu`, exact and tanh, is one operator from opset 20 on.
    pub(super) fn has_gelu(self) -> bool {
        self.opset >= 20
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
