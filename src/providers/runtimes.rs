//! Which runtimes a file is for.

use crate::onnx::read::Summary;
use crate::onnx::target::{PORTABLE, PROFILES};
use crate::onnx::write::MICROSOFT;

/// The runtimes that can run a file, where its metadata names its target: those of the target, less those that lack an
/// operator the file has.
pub fn runtimes(summary: &Summary) -> Option<&'static str> {
    let target = summary.metadata.get("target")?;
    let profile = PROFILES.into_iter().find(|profile| target == profile.name)?;
    Some(if summary.antialiases {
        "ONNX Runtime alone (Resize with antialias, which OpenVINO, MNN and OpenCV ignore and others refuse)"
    } else if summary.operators.contains_key("Resize") {
        "ONNX Runtime, OpenVINO (Resize)"
    } else if summary.opsets.contains_key(MICROSOFT) {
        "ONNX Runtime and its web build (operators of its own)"
    } else if summary.has_int4 {
        "ONNX Runtime and OpenVINO (int4)"
    } else if summary.operators.contains_key("MatMulInteger") && profile.name == PORTABLE.name {
        "ONNX Runtime, its web build, OpenVINO, rten, IREE, tract"
    } else {
        profile.runtimes
    })
}
