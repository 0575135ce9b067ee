//! A file's graph as rules look at it: every node with what is known of its inputs.

use std::collections::HashMap;

use prost::bytes::Bytes;

use super::infer;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::onnx::proto::tensor_shape_proto::dimension;
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, type_proto};

/// Lengths of the axes; a free one has none.
pub type Shape = Vec<Option<i64>>;

/// Constants of at most so many numbers are read.
const SMALL: i64 = 256;

/// What is known of a value.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    pub element: Option<DataType>,
    /// None where not even the number of axes is known.
    pub shape: Option<Shape>,
    /// Whether what is not known of the shape hangs on free axes.
    pub free: bool,
    /// Whether the value is in the file, or made of what is there alone.
    pub constant: bool,
    /// The numbers of a small constant.
    pub numbers: Option<Vec<f64>>,
}

impl Fact {
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// Whether every axis has a length.
    pub fn is_fixed(&self) -> Option<bool> {
        match &self.shape {
            Some(shape) => Some(shape.iter().all(Option::is_some)),
            None => self.free.then_some(false),
        }
    }
}

/// A node, and what stands around it.
pub struct Call<'a> {
    pub node: &'a NodeProto,
    view: &'a View,
}

/// A graph with what is known of every value.
pub struct View {
    pub nodes: Vec<NodeProto>,
    facts: HashMap<String, Fact>,
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
    /// Version of the default operator set.
    pub opset: i64,
}

impl View {
    /// None for a model without a graph.
    pub fn new(model: ModelProto) -> Option<View> {
        let standard = model.opset_import.iter().find(|import| matches!(import.domain(), "" | "ai.onnx"));
        let opset = standard.and_then(|import| import.version).unwrap_or(1);
        let GraphProto { node: nodes, initializer, input, output, value_info, .. } = model.graph?;
        let mut facts: HashMap<String, Fact> = HashMap::new();
        for info in value_info.iter().chain(&output).chain(&input) {
            facts.insert(info.name().to_owned(), declared(info.r#type.as_ref()));
        }
        facts.extend(initializer.iter().map(|tensor| (tensor.name().to_owned(), stored(tensor))));
        let (mut producers, mut consumers) = (HashMap::new(), HashMap::<String, Vec<usize>>::new());
        for (at, node) in nodes.iter().enumerate() {
            producers.extend(node.output.iter().map(|name| (name.clone(), at)));
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                consumers.entry(name.clone()).or_default().push(at);
            }
        }
        let mut view = View { nodes: vec![], facts, producers, consumers, opset };
        for node in nodes {
            let outputs = infer::outputs(&Call { node: &node, view: &view });
            for (name, mut fact) in node.output.iter().zip(outputs) {
                // What the file declares counts where nothing was found out.
                if let Some(said) = view.facts.get(name) {
                    fact.element = fact.element.or(said.element);
                    let clearer = fact.is_fixed() == Some(true) || said.shape.is_none();
                    fact.shape = if clearer { fact.shape } else { said.shape.clone() };
                }
                view.facts.insert(name.clone(), fact);
            }
            view.nodes.push(node);
        }
        Some(view)
    }

    /// Every node, in the order of the file.
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        self.nodes.iter().map(|node| Call { node, view: self })
    }
}

impl<'a> Call<'a> {
    pub fn operator(&self) -> &'a str {
        self.node.op_type()
    }

    pub fn opset(&self) -> i64 {
        self.view.opset
    }

    /// An input that is there.
    pub fn input(&self, at: usize) -> Option<&'a Fact> {
        self.view.facts.get(self.node.input.get(at).filter(|name| !name.is_empty())?)
    }

    /// All that are there.
    pub fn inputs(&self) -> impl Iterator<Item = &'a Fact> {
        let facts = &self.view.facts;
        self.node.input.iter().filter(|name| !name.is_empty()).filter_map(|name| facts.get(name))
    }

    pub fn outputs(&self) -> impl Iterator<Item = &'a Fact> {
        let facts = &self.view.facts;
        self.node.output.iter().filter_map(|name| facts.get(name))
    }

    /// The node that makes an input; None for what is given or in the file.
    pub fn before(&self, at: usize) -> Option<Call<'a>> {
        let maker = *self.view.producers.get(self.node.input.get(at)?)?;
        Some(Call { node: self.view.nodes.get(maker)?, view: self.view })
    }

    /// Nodes that read the first output.
    pub fn after(&self) -> impl Iterator<Item = Call<'a>> {
        let view = self.view;
        let readers = self.node.output.first().and_then(|name| view.consumers.get(name));
        readers.into_iter().flatten().filter_map(move |&at| Some(Call { node: view.nodes.get(at)?, view }))
    }

    /// Whether ONNX Runtime works the node out while it loads the file: it reads constants alone.
    pub fn is_folded(&self) -> bool {
        let quantisation = matches!(self.operator(), "QuantizeLinear" | "DequantizeLinear");
        self.operator() == "Constant"
            || (!quantisation && self.inputs().count() > 0 && self.inputs().all(|f| f.constant))
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name() == name)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(AttributeProto::i)
    }

    pub fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.attribute(name).and_then(|attribute| std::str::from_utf8(attribute.s.as_deref()?).ok())
    }

    pub fn tensor(&self, name: &str) -> Option<Fact> {
        self.attribute(name).and_then(|attribute| attribute.t.as_ref()).map(stored)
    }
}

fn declared(said: Option<&TypeProto>) -> Fact {
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = said else {
        return Fact::default();
    };
    let axes = tensor.shape.as_ref().map(|shape| {
        let length = |dim: &dimension::Value| if let dimension::Value::DimValue(n) = dim { Some(*n) } else { None };
        shape.dim.iter().map(|dim| dim.value.as_ref().and_then(length)).collect()
    });
    Fact { element: element(tensor.elem_type), shape: axes, ..Fact::default() }
}

pub fn element(code: Option<i32>) -> Option<DataType> {
    code.and_then(|code| DataType::try_from(code).ok()).filter(|element| *element != DataType::Undefined)
}

/// A constant: its numbers too, where they are few and in the file itself.
fn stored(tensor: &TensorProto) -> Fact {
    let element = element(tensor.data_type);
    let count = tensor.dims.iter().try_fold(1i64, |n, &dim| n.checked_mul(dim)).unwrap_or(i64::MAX);
    let small = count <= SMALL && tensor.data_location != Some(DataLocation::External as i32);
    Fact {
        element,
        free: false,
        shape: Some(tensor.dims.iter().map(|&dim| Some(dim)).collect()),
        constant: true,
        numbers: element.filter(|_| small).and_then(|element| numbers(tensor, element)),
    }
}

fn numbers(tensor: &TensorProto, element: DataType) -> Option<Vec<f64>> {
    fn raw<const N: usize>(bytes: &Bytes, read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|&chunk| read(chunk)).collect()
    }
    let bytes = tensor.raw_data.as_ref();
    Some(match (element, bytes) {
        (DataType::Int64, Some(bytes)) => raw(bytes, |b| i64::from_le_bytes(b) as f64),
        (DataType::Int32, Some(bytes)) => raw(bytes, |b| i32::from_le_bytes(b).into()),
        (DataType::Float, Some(bytes)) => raw(bytes, |b| f32::from_le_bytes(b).into()),
        (DataType::Int64, None) => tensor.int64_data.iter().map(|&n| n as f64).collect(),
        (DataType::Int32, None) => tensor.int32_data.iter().map(|&n| n.into()).collect(),
        (DataType::Float, None) => tensor.float_data.iter().map(|&n| n.into()).collect(),
        _ => return None,
    })
}
