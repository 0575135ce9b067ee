//! `proto/onnx.rs` is what `proto/onnx.proto` generates.

use crate::common::root;

/// Generates the messages, and compares. With `UPDATE_PROTO=1` the file is written.
#[test]
fn the_messages_are_those_of_the_schema() {
    let proto = root().join("proto");
    let folder = tempfile::tempdir().unwrap();
    let messages = protox::compile([proto.join("onnx.proto")], [&proto]).unwrap();
    // The upstream comments are prose with indented lists, which rustdoc would take for code.
    let mut config = prost_build::Config::new();
    config.bytes(["."]).disable_comments(["."]).out_dir(folder.path()).compile_fds(messages).unwrap();
    let generated = std::fs::read_to_string(folder.path().join("onnx.rs")).unwrap();
    let kept = proto.join("onnx.rs");
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::write(&kept, &generated).unwrap();
    }
    assert!(std::fs::read_to_string(kept).unwrap() == generated, "run: UPDATE_PROTO=1 cargo test --release proto");
}
