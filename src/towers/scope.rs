//! What every builder receives: a graph, parameters, and the prefix it works under.
//!
//! One prefix names everything: under `visual.blocks.3.attn` the parameter is
//! `visual.blocks.3.attn.qkv.weight` and the node `visual/blocks/3/attn/MatMul`.

use crate::onnx::graph::{Dim, Role};
use crate::onnx::{Graph, Ops, Value};
use crate::params::{Error, Params};
use crate::tensor::Tensor;

/// How towers are built: graph economies, and lengths of inputs. Targets are not among them, which are left to
/// [`crate::onnx::legalize`], nor extra outputs, which [`super`] declares.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows of every input and output, where that is fixed.
    pub batch: Option<usize>,
    /// Training-time branches, BatchNorms, layer scales and the attention scale become part of the weights next to
    /// them.
    pub fold: bool,
    /// The last block is computed for the pooled position alone.
    pub last_block: bool,
    /// The MAP head's query, a constant, is folded into its keys.
    pub map_query: bool,
    /// Texts of any length up to the context are taken.
    pub dynamic_text: bool,
    /// Texts are cut behind the batch's last pooled position.
    pub cut_text: bool,
    /// Depthwise convolutions of several outputs a channel become plain ones over repeated channels.
    pub plain_depthwise: bool,
}

pub struct Scope<'a> {
    graph: &'a Graph,
    params: &'a Params,
    options: &'a Options,
    /// What the first axis of everything is called.
    batch: &'static str,
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
    pub fn root(graph: &'a Graph, params: &'a Params, options: &'a Options, name: &str) -> Scope<'a> {
        Scope { graph, params, options, batch: "batch_size", prefix: name.to_owned(), path: name.to_owned() }
    }

    /// With another name for the first axis of everything.
    pub fn with_batch(self, batch: &'static str) -> Scope<'a> {
        Scope { batch, ..self }
    }

    /// The first axis of everything.
    pub fn batch(&self) -> Dim {
        self.options.batch.map_or(Dim::Named(self.batch), Dim::Fixed)
    }

    /// How the tower is built.
    pub fn options(&self) -> &'a Options {
        self.options
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
    pub fn initializer(&self, name: &str, role: Role, tensor: Tensor) -> Value {
        self.graph.initializer(&self.full(name), role, tensor)
    }

    /// The prefix of parameter names here.
    pub fn name(&self) -> String {
        self.prefix.clone()
    }

    fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPTIONS, params_of};
    use super::*;
    use crate::onnx::Target;

    #[test]
    fn one_prefix_names_parameters_constants_and_nodes() {
        let params = params_of(&[("visual.blocks.3.attn.proj.weight", &[2, 3])]);
        let graph = Graph::new("test", Target::default());
        let s = Scope::root(&graph, &params, &OPTIONS, "visual").at("blocks").at(3).at("attn");
        let (s, x) = (s.at("proj"), graph.input("x", crate::onnx::graph::ElementType::Float, vec![Dim::Fixed(2)]));
        let y = s.matmul(x, s.initializer("weight", Role::Weight, s.param("weight", &[2, 3]).unwrap()));
        graph.output(y, "y", crate::onnx::graph::ElementType::Float, vec![Dim::Fixed(3)]);
        let missing = s.param("bias", &[3]).unwrap_err().to_string();
        assert!(missing.contains("visual.blocks.3.attn.proj.bias"), "{missing}");
        let parts = graph.into_parts();
        assert_eq!(parts.nodes[0].name, "visual/blocks/3/attn/proj/MatMul");
        assert_eq!(parts.initializers[0].name, "visual.blocks.3.attn.proj.weight");
    }

    #[test]
    fn the_first_axis_has_a_number_or_a_name() {
        let (params, graph) = (Params::recorder(), Graph::new("test", Target::default()));
        let fixed = Options { batch: Some(2), ..OPTIONS };
        let root = |options| Scope::root(&graph, &params, options, "text").with_batch("texts").at("pool").batch();
        assert_eq!(root(&OPTIONS), Dim::Named("texts"));
        assert_eq!(root(&fixed), Dim::Fixed(2));
    }
}
