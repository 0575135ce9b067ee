//! The messages of `proto/onnx.proto`, generated; nothing by hand. `tests/suite/proto.rs` compares the file with what
//! would be generated, so that builds need no generator.

#![allow(clippy::all, missing_docs)]

include!("../../proto/onnx.rs");
