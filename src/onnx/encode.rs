//! Parts of a graph as the messages of `onnx.proto`.

use bytes::Bytes;

use super::Value;
use super::graph::{Attribute, Data, Dim, ElementType, Initializer, Node, Parts, Port};
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    AttributeProto, NodeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// A tensor without its raw data, which the writer streams: `len` bytes, or their location in the external data file.
pub fn tensor_proto(initializer: &Initializer, external: Option<(&str, u64)>, len: u64) -> TensorProto {
    let data_type = data_type(match &initializer.data {
        Data::Float(_) => ElementType::Float,
        Data::Int64 { .. } => ElementType::Int64,
        Data::Packed(packed) => packed.element(),
    });
    let dims = initializer.data.dims();
    let mut proto = TensorProto {
        dims: dims.iter().map(|&n| n as i64).collect(),
        data_type: Some(data_type as i32),
        name: Some(initializer.name.clone()),
        ..TensorProto::default()
    };
    if let Some((location, offset)) = external {
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
        proto.data_location = Some(DataLocation::External as i32);
        proto.external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", len.to_string()),
        ];
    }
    proto
}

/// The number ONNX gives an element type.
pub fn data_type(element: ElementType) -> DataType {
    match element {
        ElementType::Float => DataType::Float,
        ElementType::Int64 => DataType::Int64,
        ElementType::Int32 => DataType::Int32,
        ElementType::Float16 => DataType::Float16,
        ElementType::Int8 => DataType::Int8,
        ElementType::Uint8 => DataType::Uint8,
        ElementType::Int4 => DataType::Int4,
    }
}

pub fn node_proto(parts: &Parts, node: &Node) -> NodeProto {
    let names = |values: &[Value]| values.iter().map(|&v| parts.value_name(v).to_owned()).collect();
    NodeProto {
        input: names(&node.inputs),
        output: names(&node.outputs),
        name: Some(node.name.clone()),
        op_type: Some(node.op_type.to_owned()),
        domain: (!node.domain.is_empty()).then(|| node.domain.to_owned()),
        attribute: node.attributes.iter().map(|(name, value)| attribute_proto(name, value)).collect(),
        ..NodeProto::default()
    }
}

fn attribute_proto(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Int(i) => {
            proto.i = Some(*i);
            AttributeType::Int
        }
        Attribute::Ints(ints) => {
            proto.ints.clone_from(ints);
            AttributeType::Ints
        }
        Attribute::Float(f) => {
            proto.f = Some(*f);
            AttributeType::Float
        }
        Attribute::Text(text) => {
            proto.s = Some(Bytes::from_static(text.as_bytes()));
            AttributeType::String
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}

pub fn value_info(port: &Port) -> ValueInfoProto {
    let elem_type = data_type(port.element_type);
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim {
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
            Dim::Named(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: port.dims.iter().map(dim).collect() };
    // A port that says nothing of its axes is one of any shape.
    let shape = (!port.dims.is_empty()).then_some(shape);
    let tensor = type_proto::Tensor { elem_type: Some(elem_type as i32), shape };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(port.name.clone()), r#type: Some(r#type), ..ValueInfoProto::default() }
}
