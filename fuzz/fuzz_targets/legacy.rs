#![no_main]

libfuzzer_sys::fuzz_target!(init: clip_onnx_fuzz::prepare(), |data: &[u8]| clip_onnx_fuzz::targets::run("legacy", data));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    clip_onnx_fuzz::mutate::mutate("legacy", data, size, max_size, seed)
});
