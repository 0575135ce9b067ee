//! What every builder receives: a graph, parameters, and the prefix it works under.
//!
//! One prefix names everything: under `visual.blocks.3.attn` the parameter is
//! `visual.blocks.3.attn.qkv.weight` and the node `visual/blocks/3/attn/MatMul`.

use super::Build;
use crate::onnx::graph::Dim;
use crate::onnx::{Graph, Ops, Value};
use crate::params::{Error, Params};
use crate::tensor::Tensor;

pub struct Scope<'a> {
    graph: &'a Graph,
    params: &'a Params,
    build: &'a Build,
    /// What the first axis of everything is called.
    rows: &'static str,
    prefix: String,
    path: String,
}

impl Ops for Scope<'_> {
    fn graph(&self) -> &Graph {
        self.graph
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl<'a> Scope<'a> {
    pub fn root(graph: &'a Graph, params: &'a Params, build: &'a Build, name: &str) -> Scope<'a> {
        Scope { graph, params, build, rows: "batch_size", prefix: name.to_owned(), path: name.to_owned() }
    }

    /// With another name for the first axis of everything.
    pub fn with_rows(self, rows: &'static str) -> Scope<'a> {
        Scope { rows, ..self }
    }

    /// The first axis of everything.
    pub fn rows(&self) -> Dim {
        self.build.rows().map_or(Dim::Named(self.rows), Dim::Fixed)
    }

    /// How the tower is to be written down.
    pub fn build(&self) -> &'a Build {
        self.build
    }

    /// The scope one level down.
    pub fn at(&self, name: impl std::fmt::Display) -> Scope<'a> {
        let (prefix, path) = (format!("{}.{name}", self.prefix), format!("{}/{name}", self.path));
        Scope { prefix, path, ..*self }
    }

    /// The parameter `name` of this scope.
    pub fn param(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        self.params.get(&self.full(name), shape)
    }

    /// Checks an attention weight's head count where its source shows it.
    pub fn expect_heads(&self, name: &str, heads: usize) -> Result<(), Error> {
        self.params.expect_heads(&self.full(name), heads)
    }

    /// Puts a tensor into the graph under a name of this scope.
    pub fn initializer(&self, name: &str, tensor: Tensor) -> Value {
        self.graph.initializer(&self.full(name), tensor)
    }

    /// The prefix of parameter names here.
    pub fn name(&self) -> String {
        self.prefix.clone()
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}
