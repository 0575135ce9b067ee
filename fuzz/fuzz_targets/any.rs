//! The target that `CLIP_ONNX_FUZZ` names: one program to link for all of them.
#![no_main]

use std::sync::OnceLock;

fn target() -> &'static str {
    static TARGET: OnceLock<String> = OnceLock::new();
    TARGET.get_or_init(|| std::env::var("CLIP_ONNX_FUZZ").expect("CLIP_ONNX_FUZZ names a target"))
}

libfuzzer_sys::fuzz_target!(init: clip_onnx_fuzz::prepare(), |data: &[u8]| {
    clip_onnx_fuzz::targets::run(target(), data)
});
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    clip_onnx_fuzz::mutate::mutate(target(), data, size, max_size, seed)
});
