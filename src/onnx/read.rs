//! What an ONNX file says of itself, read without copying its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use serde::Serialize;

use super::messages;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto,
};
use crate::files::{is_inside, map};

/// Why a file is no ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system could not open or read the file.
    #[error("{path}: cannot be read: {error}")]
    Open {
        /// Path of the file.
        path: String,
        /// What the operating system reported.
        error: std::io::Error,
    },
    /// The bytes are not a protobuf message of an ONNX model.
    #[error("{path} is not an ONNX model: {reason}")]
    Parse {
        /// Path of the file.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
}

/// A graph input or output as the file declares it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// Name of the input or output.
    pub name: String,
    /// Element type, as ONNX names it.
    #[serde(rename = "type")]
    pub element_type: String,
    /// A number, or the name of a free dimension; `?` where nothing is said.
    pub shape: Vec<String>,
}

impl Port {
    /// The length of an axis, where it is fixed.
    pub fn fixed(&self, axis: usize) -> Option<usize> {
        self.shape.get(axis).and_then(|dim| dim.parse().ok())
    }
}

/// An ONNX file at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `producer_name`: the program that wrote the file.
    pub producer: String,
    /// `ir_version` of the ONNX format.
    pub ir_version: i64,
    /// Operator set versions by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Name of the main graph.
    pub graph: String,
    /// Inputs of the main graph, without initializers.
    pub inputs: Vec<Port>,
    /// Outputs of the main graph.
    pub outputs: Vec<Port>,
    /// How many nodes of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of initializers.
    pub initializers: usize,
    /// Numbers in initializers.
    pub parameters: u64,
    /// Bytes of the file, and of the external data it names.
    pub size: u64,
    /// Bytes of each external data file, by its location relative to the model.
    pub external_data: BTreeMap<String, u64>,
    /// `metadata_props`, by key.
    pub metadata: BTreeMap<String, String>,
    /// Whether a Resize averages what it makes smaller (`antialias`).
    #[serde(skip)]
    pub antialiases: bool,
    /// Whether a weight is in the standard int4.
    #[serde(skip)]
    pub has_int4: bool,
}

/// The file at `path` and its size, its weights mapped.
///
/// # Errors
/// When the file cannot be opened or is no ONNX model.
pub(crate) fn model(path: &Path) -> Result<(u64, ModelProto), Error> {
    let name = || path.display().to_string();
    let file = map(path).map_err(|error| Error::Open { path: name(), error })?;
    let size = file.len() as u64;
    messages::check(&file).map_err(|reason| Error::Parse { path: name(), reason })?;
    let model = ModelProto::decode(file).map_err(|e| Error::Parse { path: name(), reason: e.to_string() })?;
    Ok((size, model))
}

/// Reads the file at `path`; external data is measured, not read.
///
/// # Errors
/// When the file cannot be opened or is no ONNX model.
pub fn summary(path: &Path) -> Result<Summary, Error> {
    let parse = |reason: String| Error::Parse { path: path.display().to_string(), reason };
    let (size, model) = model(path)?;
    let graph = model.graph.ok_or_else(|| parse("it has no graph".to_owned()))?;
    let mut opsets = BTreeMap::new();
    for import in &model.opset_import {
        let domain = import.domain.as_deref().filter(|d| !d.is_empty()).unwrap_or("ai.onnx");
        opsets.insert(domain.to_owned(), import.version.unwrap_or(0));
    }
    let mut operators = BTreeMap::new();
    for node in &graph.node {
        *operators.entry(node.op_type.clone().unwrap_or_default()).or_insert(0) += 1;
    }
    let mut external_data = BTreeMap::new();
    let mut parameters = 0;
    for tensor in &graph.initializer {
        // Two numbers a byte.
        let packed = if tensor.data_type == Some(DataType::Uint8 as i32) { 2 } else { 1 };
        let numbers = tensor.dims.iter().map(|&n| n.max(0) as u64).fold(packed, u64::saturating_mul);
        parameters = u64::saturating_add(parameters, numbers);
    }
    for location in external_locations(&graph) {
        // What lies elsewhere is nobody's business.
        let is_inside = is_inside(Path::new(&location));
        let size = is_inside.then(|| std::fs::metadata(path.with_file_name(&location)).ok()).flatten();
        external_data.insert(location, size.map_or(0, |found| found.len()));
    }
    // Older exporters list weights among the inputs too.
    let weights: std::collections::HashSet<&str> = graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
    let producer = [model.producer_name.unwrap_or_default(), model.producer_version.unwrap_or_default()];
    let metadata: BTreeMap<String, String> = model
        .metadata_props
        .into_iter()
        .map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default()))
        .collect();
    let antialiases = |node: &NodeProto| {
        let antialias = node.attribute.iter().find(|attribute| attribute.name() == "antialias");
        node.op_type() == "Resize" && antialias.is_some_and(|attribute| attribute.i() != 0)
    };
    Ok(Summary {
        antialiases: graph.node.iter().any(antialiases),
        has_int4: graph.initializer.iter().any(|tensor| tensor.data_type == Some(DataType::Int4 as i32)),
        producer: producer.join(" ").trim().to_owned(),
        ir_version: model.ir_version.unwrap_or(0),
        opsets,
        graph: graph.name.clone().unwrap_or_default(),
        inputs: graph.input.iter().map(port).filter(|p| !weights.contains(p.name.as_str())).collect(),
        outputs: graph.output.iter().map(port).collect(),
        operators,
        nodes: graph.node.len(),
        initializers: graph.initializer.len(),
        parameters,
        size,
        external_data,
        metadata,
    })
}

/// Locations of external data, in initializers, in attributes of nodes, and in the graphs inside them.
fn external_locations(graph: &GraphProto) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut graphs = vec![graph];
    while let Some(graph) = graphs.pop() {
        let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
        graphs.extend(attributes().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)));
        let sparse = attributes().flat_map(|a| a.sparse_tensor.iter().chain(&a.sparse_tensors));
        let sparse = sparse.chain(&graph.sparse_initializer).flat_map(|s| s.values.iter().chain(&s.indices));
        let tensors = attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
        for tensor in graph.initializer.iter().chain(tensors).chain(sparse) {
            if tensor.data_location == Some(DataLocation::External as i32) {
                let location = tensor.external_data.iter().find(|e| e.key.as_deref() == Some("location"));
                found.insert(location.and_then(|e| e.value.clone()).unwrap_or_default());
            }
        }
    }
    found
}

fn port(info: &ValueInfoProto) -> Port {
    let name = info.name.clone().unwrap_or_default();
    let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), .. }) = &info.r#type else {
        return Port { name, element_type: "?".to_owned(), shape: vec![] };
    };
    let element_type = tensor
        .elem_type
        .and_then(|t| DataType::try_from(t).ok())
        .map_or_else(|| "?".to_owned(), |t| t.as_str_name().to_lowercase());
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let shape = dims.map(|dim| match &dim.value {
        Some(dimension::Value::DimValue(n)) => n.to_string(),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".to_owned(),
    });
    Port { name, element_type, shape: shape.collect() }
}
