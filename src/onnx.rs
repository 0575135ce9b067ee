//! ONNX as a format: a graph under construction, its operators, and the file it becomes.
//!
//! Knows tensors, not models; it could be a crate of its own.

pub mod builder;
pub mod composite;
mod composite_ops;
pub(crate) mod encode;
mod error;
pub mod graph;
pub mod legalize;
mod messages;
pub mod ops;
mod program;
pub mod proto;
pub mod read;
pub mod target;
#[cfg(test)]
pub mod testing;
pub mod write;

pub use builder::Graph;
pub use composite::{HeadRows, Heads, Mask};
pub use composite_ops::CompositeOps;
pub use graph::{Dim, Value};
pub use ops::{ConvAttributes, Ops};
pub use target::Target;
