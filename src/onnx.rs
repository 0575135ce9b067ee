//! ONNX as a format: a graph under construction, its operators, and the file it becomes.
//!
//! Knows tensors, not models; it could be a crate of its own.

mod apart;
pub mod legalize {
    pub use super::apart::norms_apart as decompose_layer_norms;
}
mod attention;
pub mod builder;
pub(crate) mod encode;
pub mod graph;
pub mod ops;
mod program;
pub mod proto;
pub mod read;
pub mod target;
pub mod write;

pub use apart::norms_apart;
pub use attention::{Heads, Mask, attention};
pub use builder::Graph;
pub use graph::{Dim, Value};
pub use ops::{ConvAttributes, Ops};
pub use target::Target;
