//! A graph under construction: inputs, nodes, initializers and outputs.
//!
//! [`Value`] is a copyable index and the vectors live in `RefCell`s, so builders pass values
//! around without lifetimes. Initializers are lazy tensors: nothing is read until the file is
//! written.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use std::sync::Arc;

use super::{Target, write};
use crate::tensor::Tensor;

/// Something a node reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(usize);

/// One axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// A name that runtimes treat as free.
    Named(&'static str),
}

/// Element types of graph inputs and outputs, and of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    Float,
    Int64,
    Int32,
    Float16,
    Int8,
    Uint8,
    /// Two numbers a byte, the first in the low half.
    Int4,
}

/// A graph input or output.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub element_type: ElementType,
    pub dims: Vec<Dim>,
}

/// An operator's attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

/// One operator call.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// Empty for ONNX's own operators.
    pub domain: &'static str,
    pub op_type: &'static str,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// A constant in the file.
#[derive(Clone)]
pub struct Initializer {
    pub name: String,
    pub data: Data,
}

/// A constant's numbers.
#[derive(Clone)]
pub enum Data {
    /// Weights, read when written, as float32.
    Float(Tensor),
    /// Shapes and indices.
    Int64 { dims: Vec<usize>, values: Vec<i64> },
    /// Weights in another form, made when written.
    Packed(Arc<dyn Packed>),
}

/// Numbers that are made while they are written.
pub trait Packed: Send + Sync {
    fn element(&self) -> ElementType;
    fn dims(&self) -> Vec<usize>;
    /// Bytes that [`Packed::write`] will hand out.
    fn byte_len(&self) -> u64;
    /// Hands out all bytes, in pieces.
    ///
    /// # Errors
    /// What reading a tensor reports, or `each`.
    fn write(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), write::Error>) -> Result<(), write::Error>;
}

/// Ones of int32.
struct Ones(Vec<usize>);

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

    fn write(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), write::Error>) -> Result<(), write::Error> {
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

#[derive(Default)]
struct Inner {
    values: Vec<String>,
    /// Names in use, and the last suffix each was given.
    taken: HashMap<String, usize>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    nodes: Vec<Node>,
    initializers: Vec<Initializer>,
    constants: HashMap<String, Value>,
    metadata: BTreeMap<String, String>,
}

/// A model under construction.
pub struct Graph {
    pub name: String,
    target: Target,
    inner: RefCell<Inner>,
}

/// A finished graph's parts, for passes over it and for the writer.
#[derive(Clone)]
pub struct Parts {
    pub name: String,
    pub target: Target,
    pub value_names: Vec<String>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub nodes: Vec<Node>,
    pub initializers: Vec<Initializer>,
    pub metadata: BTreeMap<String, String>,
}

impl Graph {
    pub fn new(name: &str, target: Target) -> Graph {
        Graph { name: name.to_owned(), target, inner: RefCell::default() }
    }

    /// What operators are spelled for.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Declares an input.
    pub fn input(&self, name: &str, element_type: ElementType, dims: Vec<Dim>) -> Value {
        self.inner.borrow_mut().inputs.push(Port { name: name.to_owned(), element_type, dims });
        self.value(name)
    }

    /// Declares an input that may be left out and that nothing reads, for runtimes that feed it: int32, with ones where
    /// it is left out.
    pub fn ignored_input(&self, name: &str, dims: Vec<Dim>) {
        let lengths = dims.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 1 }).collect();
        self.input(name, ElementType::Int32, dims);
        let data = Data::Packed(Arc::new(Ones(lengths)));
        self.inner.borrow_mut().initializers.push(Initializer { name: name.to_owned(), data });
    }

    /// Declares `value` an output, under its public name.
    pub fn output(&self, value: Value, name: &str, element_type: ElementType, dims: Vec<Dim>) {
        let mut inner = self.inner.borrow_mut();
        inner.values[value.0] = name.to_owned();
        inner.outputs.push(Port { name: name.to_owned(), element_type, dims });
    }

    /// Gives a value a name to read in a viewer.
    pub fn rename(&self, value: Value, name: &str) {
        let name = self.unique(name);
        self.inner.borrow_mut().values[value.0] = name;
    }

    /// Adds an operator call with one output; the node is named after `path` and its operator.
    pub fn node(
        &self,
        path: &str,
        op_type: &'static str,
        inputs: &[Value],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> Value {
        let [value] = self.node_with(path, op_type, inputs, attributes);
        value
    }

    /// As [`Graph::node`], with `N` outputs.
    pub fn node_with<const N: usize>(
        &self,
        path: &str,
        op_type: &'static str,
        inputs: &[Value],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> [Value; N] {
        let name = self.unique(&if path.is_empty() { op_type.to_owned() } else { format!("{path}/{op_type}") });
        let outputs = std::array::from_fn(|i| {
            self.value(&if N == 1 { format!("{name}_output") } else { format!("{name}_output_{i}") })
        });
        let node = Node { name, domain: "", op_type, inputs: inputs.to_vec(), outputs: outputs.to_vec(), attributes };
        self.inner.borrow_mut().nodes.push(node);
        outputs
    }

    /// A named constant that the writer reads from `tensor`.
    pub fn initializer(&self, name: &str, tensor: Tensor) -> Value {
        let value = self.value(name);
        let name = self.inner.borrow().values[value.0].clone();
        self.inner.borrow_mut().initializers.push(Initializer { name, data: Data::Float(tensor) });
        value
    }

    /// A small integer constant; equal ones are shared.
    pub fn int64(&self, dims: &[usize], values: &[i64]) -> Value {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        let kind = if dims.is_empty() { "index" } else { "ints" };
        self.constant(format!("constants/{kind}_{}", list.join("_")), || Data::Int64 {
            dims: dims.to_vec(),
            values: values.to_vec(),
        })
    }

    /// A number; equal ones are shared.
    pub fn scalar(&self, value: f32) -> Value {
        self.number(value, 0)
    }

    /// A number with `rank` axes of length 1.
    pub fn number(&self, value: f32, rank: usize) -> Value {
        let kind = if rank == 0 { "float".to_owned() } else { format!("float{rank}d") };
        let tensor = || Tensor::from_f32("constant", &vec![1; rank], &[value]);
        self.constant(format!("constants/{kind}_{value:e}"), || Data::Float(tensor()))
    }

    /// An optional input that is left out.
    pub fn absent(&self) -> Value {
        let mut inner = self.inner.borrow_mut();
        if let Some(&value) = inner.constants.get("") {
            return value;
        }
        inner.values.push(String::new());
        let value = Value(inner.values.len() - 1);
        inner.constants.insert(String::new(), value);
        value
    }

    fn constant(&self, name: String, data: impl FnOnce() -> Data) -> Value {
        if let Some(&value) = self.inner.borrow().constants.get(&name) {
            return value;
        }
        let value = self.value(&name);
        let mut inner = self.inner.borrow_mut();
        inner.initializers.push(Initializer { name: name.clone(), data: data() });
        inner.constants.insert(name, value);
        value
    }

    /// Adds a `metadata_props` entry.
    pub fn set_metadata(&self, key: &str, value: impl Into<String>) {
        self.inner.borrow_mut().metadata.insert(key.to_owned(), value.into());
    }

    /// The finished parts. What no output depends on is left out: builders may prepare a value that
    /// the target's spelling then has no use for.
    pub fn into_parts(self) -> Parts {
        let mut inner = self.inner.into_inner();
        let outputs: HashSet<&str> = inner.outputs.iter().map(|port| port.name.as_str()).collect();
        let mut used: Vec<bool> = inner.values.iter().map(|name| outputs.contains(name.as_str())).collect();
        for node in inner.nodes.iter().rev() {
            if node.outputs.iter().any(|output| used[output.0]) {
                node.inputs.iter().for_each(|input| used[input.0] = true);
            }
        }
        inner.nodes.retain(|node| node.outputs.iter().any(|output| used[output.0]));
        let mut parts = Parts {
            name: self.name,
            target: self.target,
            value_names: inner.values,
            inputs: inner.inputs,
            outputs: inner.outputs,
            nodes: inner.nodes,
            initializers: inner.initializers,
            metadata: inner.metadata,
        };
        parts.drop_unread();
        parts
    }

    fn value(&self, name: &str) -> Value {
        let name = self.unique(name);
        let mut inner = self.inner.borrow_mut();
        inner.values.push(name);
        Value(inner.values.len() - 1)
    }

    /// `name`, or the first of `name_1`, `name_2`, … that is free.
    fn unique(&self, name: &str) -> String {
        let mut inner = self.inner.borrow_mut();
        let mut unique = name.to_owned();
        while inner.taken.contains_key(&unique) {
            let count = inner.taken.entry(name.to_owned()).or_insert(0);
            *count += 1;
            unique = format!("{name}_{count}");
        }
        inner.taken.insert(unique.clone(), 0);
        unique
    }
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
