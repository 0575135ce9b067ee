//! A graph being rewritten: nodes move, one after another, from the old graph to the new one.

use std::collections::{HashMap, HashSet};

use super::layers::{Constant, constants};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, Data, ElementType, Initializer, Node, Parts, Port, Role};

/// `TensorProto.DataType`.
pub const FLOAT: i64 = 1;
pub const FLOAT16: i64 = 10;

/// A new graph in the making.
pub struct Rewrite {
    parts: Parts,
    /// Names of values and nodes in use.
    names: HashSet<String>,
    /// float32 initializers of the old graph, by value.
    weights: HashMap<Value, Constant>,
    /// Nodes of the new graph.
    nodes: Vec<Node>,
    added: Vec<Initializer>,
}

impl Rewrite {
    /// Starts a new graph without nodes; gives the old one's, to go through.
    pub fn new(parts: &Parts) -> (Rewrite, Vec<Node>) {
        let mut parts = parts.clone();
        let nodes = std::mem::take(&mut parts.nodes);
        let names = parts.value_names.iter().chain(nodes.iter().map(|node| &node.name)).cloned().collect();
        let weights = constants(&parts);
        (Rewrite { parts, names, weights, nodes: vec![], added: vec![] }, nodes)
    }

    /// The graph's inputs of an element type.
    pub fn inputs(&self, element: ElementType) -> HashSet<Value> {
        self.values_of(self.parts.inputs.iter().filter(|port| port.element_type == element))
    }

    /// The graph's outputs.
    pub fn outputs(&self) -> HashSet<Value> {
        self.values_of(self.parts.outputs.iter())
    }

    fn values_of<'a>(&self, ports: impl Iterator<Item = &'a Port>) -> HashSet<Value> {
        let of = |name: &str| self.parts.values().find(|&value| self.parts.value_name(value) == name);
        ports.filter_map(|port| of(&port.name)).collect()
    }

    /// The float32 initializer that a value of the old graph is.
    pub fn weight(&self, value: Value) -> Option<Constant> {
        self.weights.get(&value).cloned()
    }

    pub fn name(&self, value: Value) -> &str {
        self.parts.value_name(value)
    }

    /// `name`, or the first of `name_1`, `name_2`, … that is free.
    pub fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut count = 0;
        while !self.names.insert(unique.clone()) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        unique
    }

    fn value(&mut self, name: &str) -> Value {
        let name = self.unique(name);
        self.parts.add_value(name)
    }

    /// A value for what a node writes, from which its old `output` is computed.
    pub fn inner(&mut self, output: Value) -> Value {
        self.value(&format!("{}_narrow", self.parts.value_name(output)))
    }

    /// A constant of the new graph.
    pub fn constant(&mut self, name: &str, role: Role, data: Data) -> Value {
        let value = self.value(name);
        let name = self.parts.value_name(value).to_owned();
        self.added.push(Initializer { name, role, data });
        value
    }

    /// An operator of the new graph with `N` outputs, named after `name` and what it is.
    pub fn node<const N: usize>(
        &mut self,
        name: &str,
        op_type: &'static str,
        inputs: Vec<Value>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> [Value; N] {
        let name = self.unique(&format!("{name}/{op_type}"));
        let outputs = std::array::from_fn(|i| {
            self.value(&if N == 1 { format!("{name}_output") } else { format!("{name}_output_{i}") })
        });
        self.keep(Node { name, domain: "", op_type, inputs, outputs: outputs.to_vec(), attributes });
        outputs
    }

    /// `x` as another element type.
    pub fn cast(&mut self, name: &str, x: Value, to: i64) -> Value {
        let [y] = self.node(name, "Cast", vec![x], vec![("to", Attribute::Int(to))]);
        y
    }

    /// A node of the old graph, as it is or changed.
    pub fn keep(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// A node of the old graph that no longer writes the element type of its one output: it is cast.
    pub fn keep_then_cast(&mut self, mut node: Node, to: i64) {
        let Some(&output) = node.outputs.first() else { return self.keep(node) };
        let inner = self.inner(output);
        node.outputs[0] = inner;
        let name = self.unique(&format!("{}/Cast", node.name));
        self.keep(node);
        let attributes = vec![("to", Attribute::Int(to))];
        self.keep(Node { name, domain: "", op_type: "Cast", inputs: vec![inner], outputs: vec![output], attributes });
    }

    /// The new graph, without constants that are no longer read.
    pub fn finish(mut self) -> Parts {
        self.parts.nodes = self.nodes;
        self.parts.initializers.extend(self.added);
        self.parts.drop_unread();
        self.parts
    }
}
