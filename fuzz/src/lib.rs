//! What is fuzzed, and how inputs are changed. `targets` alone is also compiled into the crate's tests, which run the
//! corpus of `tests/fuzz` on the stable toolchain.

pub mod mutate;
pub mod targets;

/// Panics of other crates that the library catches are no findings; libFuzzer's hook ends the process at every other one.
pub fn prepare() {
    clip_onnx::guard::report_uncaught_panics();
}
