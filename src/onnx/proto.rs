//! The messages of `proto/onnx.proto`, generated; nothing by hand.

#![allow(clippy::all, missing_docs)]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
