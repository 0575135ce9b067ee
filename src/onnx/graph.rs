//! A finished graph: inputs, nodes, initializers and outputs, all with their names.
//!
//! Initializers are lazy tensors: nothing is read until the file is written. How a graph comes to be is in
//! [`super::builder`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Target;
use super::error::Error;
use crate::tensor::Tensor;

/// Something a node reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(super) usize);

/// One axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A length known at export.
    Fixed(usize),
    /// A name that runtimes treat as free.
    Named(&'static str),
}

/// Element types of graph inputs and outputs, and of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// float32.
    Float,
    /// int64.
    Int64,
    /// int32.
    Int32,
    /// float16.
    Float16,
    /// int8.
    Int8,
    /// uint8.
    Uint8,
    /// Two numbers a byte, the first in the low half.
    Int4,
}

/// A graph input or output.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name that callers feed or read it by.
    pub name: String,
    /// Type of its elements.
    pub element_type: ElementType,
    /// Its axes.
    pub dims: Vec<Dim>,
}

/// An operator's attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    /// `INT`.
    Int(i64),
    /// `INTS`.
    Ints(Vec<i64>),
    /// `FLOAT`.
    Float(f32),
    /// `STRING`.
    Text(&'static str),
}

/// One operator call.
#[derive(Clone, Debug)]
pub struct Node {
    /// Unique name, a path such as `visual/blocks/0/MatMul`.
    pub name: String,
    /// Empty for ONNX's own operators.
    pub domain: &'static str,
    /// Operator, as ONNX names it.
    pub op_type: &'static str,
    /// Operands in ONNX's order; optional ones that are left out are the absent value.
    pub inputs: Vec<Value>,
    /// Results in ONNX's order.
    pub outputs: Vec<Value>,
    /// Attributes by name.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A constant in the file.
#[derive(Clone)]
pub struct Initializer {
    /// Name, unique among the graph's values.
    pub name: String,
    /// What the numbers are to the model.
    pub role: Role,
    /// Shape and numbers.
    pub data: Data,
}

/// What a constant is to the model, for passes that change some of them: quantisation, float16.
///
/// Whoever makes an initializer says it; no pass guesses it from a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix that activations are multiplied with, `[in, out]`, or one for each head, `[heads, in, out]`.
    Weight,
    /// A convolution's kernel, `[out, in / groups, height, width]`.
    Kernel,
    /// An embedding table that `Gather` picks rows from, `[rows, width]`.
    Table,
    /// What is added behind a product or a convolution.
    Bias,
    /// Scale, shift or statistics of a normalisation, or a layer scale.
    Norm,
    /// Position embeddings, and the class token among them.
    Position,
    /// The learned query of attention pooling.
    Query,
    /// Embeddings of a zero-shot classifier's labels: float32 in every precision, as the normalised embedding they are
    /// multiplied with is.
    Labels,
    /// A number for each token id, `[vocabulary]`, possibly beyond the integers that float16 holds: float32 in every
    /// precision.
    Lookup,
    /// Anything the graph itself needs, such as masks, shapes, indices and scalars.
    Constant,
}

/// A constant's numbers.
#[derive(Clone)]
pub enum Data {
    /// Weights, read when written, as float32.
    Float(Tensor),
    /// Shapes and indices.
    Int64 {
        /// Lengths of the axes.
        dims: Vec<usize>,
        /// Numbers in row-major order.
        values: Vec<i64>,
    },
    /// Weights in another form, made when written.
    Packed(Arc<dyn Packed>),
}

/// Numbers that are made while they are written.
pub trait Packed: Send + Sync {
    /// Type of the elements.
    fn element(&self) -> ElementType;
    /// Lengths of the axes.
    fn dims(&self) -> Vec<usize>;
    /// Bytes that [`Packed::write`] will hand out.
    fn byte_len(&self) -> u64;
    /// Hands out all bytes, in chunks.
    ///
    /// # Errors
    /// What reading a tensor reports, or `each`.
    fn write(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>;
}

/// Ones of int32, of these lengths.
pub(super) struct Ones(pub Vec<usize>);

impl Packed for Ones {
    fn element(&self) -> ElementType {
        ElementType::Int32
    }

    fn dims(&self) -> Vec<usize> {
        self.0.clone()
    }

    fn byte_len(&self) -> u64 {
        4 * self.0.iter().product::<usize>() as u64
    }

    fn write(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        each(&1i32.to_le_bytes().repeat(self.0.iter().product()))
    }
}

impl Data {
    /// Lengths of the axes.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Data::Float(tensor) => tensor.shape(),
            Data::Int64 { dims, .. } => dims.clone(),
            Data::Packed(packed) => packed.dims(),
        }
    }

    /// Bytes in the file.
    pub fn byte_len(&self) -> u64 {
        match self {
            Data::Float(tensor) => tensor.len() as u64 * 4,
            Data::Int64 { values, .. } => values.len() as u64 * 8,
            Data::Packed(packed) => packed.byte_len(),
        }
    }
}

/// A finished graph's parts, for passes over it and for the writer.
#[derive(Clone)]
pub struct Parts {
    /// Name of the graph in the file.
    pub name: String,
    /// Target that the graph is built for.
    pub target: Target,
    /// Names of all values, indexed by [`Value`].
    pub value_names: Vec<String>,
    /// Inputs that callers feed.
    pub inputs: Vec<Port>,
    /// Outputs that callers read.
    pub outputs: Vec<Port>,
    /// Operator calls, in topological order.
    pub nodes: Vec<Node>,
    /// Weights and other constants.
    pub initializers: Vec<Initializer>,
    /// `metadata_props` of the model, by key.
    pub metadata: BTreeMap<String, String>,
}

impl Parts {
    /// A value's name.
    pub fn value_name(&self, value: Value) -> &str {
        &self.value_names[value.0]
    }

    /// All values there are.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        (0..self.value_names.len()).map(Value)
    }

    /// Leaves out constants that no node reads, but for outputs and for what stands in where an input is left out.
    pub fn drop_unread(&mut self) {
        let read = self.nodes.iter().flat_map(|node| &node.inputs).map(|value| self.value_names[value.0].as_str());
        let ports = self.inputs.iter().chain(&self.outputs).map(|port| port.name.as_str());
        let kept: HashSet<&str> = read.chain(ports).collect();
        self.initializers.retain(|initializer| kept.contains(initializer.name.as_str()));
    }

    /// Another value; its name must be new.
    pub fn add_value(&mut self, name: String) -> Value {
        self.value_names.push(name);
        Value(self.value_names.len() - 1)
    }

    /// Whether a node is an operator of ONNX Runtime's own.
    pub fn uses_domain(&self, domain: &str) -> bool {
        self.nodes.iter().any(|node| node.domain == domain)
    }
}
