//! Graph → file, streamed: one tensor at a time through one small buffer.
//!
//! Protocol buffers put a length before every nested message, so all lengths are worked out
//! first, from shapes; the choice between one file and external data is made from the total
//! before the first byte is written. The two messages that hold weights (`GraphProto`,
//! `TensorProto`) are framed here, and everything inside them is encoded by prost.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use sha2::{Digest, Sha256};

use super::graph::{Attribute, Data, Dim, ElementType, Initializer, Node, Parts, Port};
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use crate::checkpoint::hex;
use crate::tensor;

/// What can go wrong while writing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    #[error("writing {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("no space left while writing {path} ({size} bytes); free some, or name another --out")]
    NoSpace { path: String, size: u64 },
}

impl Error {
    /// What writing `path`, of `size` bytes in all, met.
    pub fn io(path: &Path, size: u64, source: io::Error) -> Error {
        let path = path.display().to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path, size },
            _ => Error::Io { path, source },
        }
    }
}

/// Where weights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalData {
    /// Beside the model when the model would pass [`LIMIT`].
    Auto,
    /// Beside the model always.
    Always,
}

/// Protocol buffers cannot hold 2 GiB; many readers stop a little short of it.
pub const LIMIT: u64 = (1 << 31) - (1 << 20);

/// Offsets in the sidecar are multiples of a page, so that runtimes can map the tensors.
const ALIGN: u64 = 4096;

/// Tensors below this many bytes stay in the model file.
const SMALL: u64 = 1024;

/// A file that was written.
#[derive(Clone, Debug)]
pub struct Written {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

/// Bytes of weights `graph` will write.
pub fn weight_bytes(parts: &Parts) -> u64 {
    parts.initializers.iter().map(byte_len).sum()
}

/// Writes a model to `path`, and its weights beside it as `<path>_data` where `external` says so.
/// `progress` is told of the bytes of weights as they go.
///
/// # Errors
/// What reading a tensor or writing a file reports; the files are then incomplete.
pub fn write(
    parts: &Parts,
    path: &Path,
    external: ExternalData,
    progress: &dyn Fn(u64),
) -> Result<Vec<Written>, Error> {
    let inline = Layout::new(parts, None);
    if external == ExternalData::Auto && inline.total() < LIMIT {
        return Ok(vec![inline.write(parts, path, progress)?]);
    }
    let sidecar = sidecar(path);
    let name = sidecar.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let (offsets, size) = external_offsets(&parts.initializers);
    let model = Layout::new(parts, Some((&name, &offsets)));
    let data = write_sidecar(parts, &offsets, size, &sidecar, progress)?;
    Ok(vec![model.write(parts, path, progress)?, data])
}

fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("_data");
    PathBuf::from(name)
}

fn byte_len(initializer: &Initializer) -> u64 {
    match &initializer.data {
        Data::Float(tensor) => tensor.len() as u64 * 4,
        Data::Int64 { values, .. } => values.len() as u64 * 8,
    }
}

/// Offset of each tensor in the sidecar, None for those that stay; and the sidecar's size.
fn external_offsets(initializers: &[Initializer]) -> (Vec<Option<u64>>, u64) {
    let mut end = 0u64;
    let offsets = initializers.iter().map(|initializer| {
        let len = byte_len(initializer);
        (len >= SMALL).then(|| {
            let offset = end.next_multiple_of(ALIGN);
            end = offset + len;
            offset
        })
    });
    (offsets.collect(), end)
}

/// Field numbers of `onnx.proto` that are framed by hand; all are length-delimited.
mod field {
    pub const MODEL_GRAPH: u8 = 7;
    pub const GRAPH_INITIALIZER: u8 = 5;
    pub const TENSOR_RAW_DATA: u8 = 9;
}

fn key(out: &mut Vec<u8>, field: u8, len: u64) {
    out.push(field << 3 | 2);
    encode_varint(len, out);
}

fn framed_len(len: u64) -> u64 {
    1 + encoded_len_varint(len) as u64 + len
}

/// A model file worked out to the byte.
struct Layout {
    /// Model fields up to the graph, the graph's key and length, and its nodes.
    head: Vec<u8>,
    /// Per initializer: its message without the raw data, and the raw data's length if inline.
    tensors: Vec<(Vec<u8>, Option<u64>)>,
    /// The graph's inputs and outputs, then the model's metadata.
    tail: Vec<u8>,
}

impl Layout {
    fn new(parts: &Parts, external: Option<(&str, &[Option<u64>])>) -> Layout {
        let tensors: Vec<(Vec<u8>, Option<u64>)> = parts
            .initializers
            .iter()
            .enumerate()
            .map(|(at, initializer)| {
                let len = byte_len(initializer);
                let place = external.and_then(|(name, offsets)| Some((name, offsets[at]?)));
                let mut head = tensor_proto(initializer, place).encode_to_vec();
                if place.is_some() {
                    return (head, None);
                }
                key(&mut head, field::TENSOR_RAW_DATA, len);
                (head, Some(len))
            })
            .collect();
        let nodes = GraphProto {
            node: parts.nodes.iter().map(|node| node_proto(parts, node)).collect(),
            name: Some(parts.name.clone()),
            ..GraphProto::default()
        }
        .encode_to_vec();
        let ports = GraphProto {
            input: parts.inputs.iter().map(value_info).collect(),
            output: parts.outputs.iter().map(value_info).collect(),
            ..GraphProto::default()
        }
        .encode_to_vec();
        let weights: u64 = tensors.iter().map(|(head, raw)| framed_len(head.len() as u64 + raw.unwrap_or(0))).sum();
        let graph_len = nodes.len() as u64 + weights + ports.len() as u64;

        let mut head = ModelProto {
            ir_version: Some(parts.target.ir_version()),
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(parts.target.opset) }],
            ..ModelProto::default()
        }
        .encode_to_vec();
        key(&mut head, field::MODEL_GRAPH, graph_len);
        head.extend(nodes);

        let metadata = |(key, value): (&String, &String)| StringStringEntryProto {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        let metadata_props = parts.metadata.iter().map(metadata).collect();
        let mut tail = ports;
        tail.extend(ModelProto { metadata_props, ..ModelProto::default() }.encode_to_vec());
        Layout { head, tensors, tail }
    }

    fn total(&self) -> u64 {
        let tensor = |(head, raw): &(Vec<u8>, Option<u64>)| framed_len(head.len() as u64 + raw.unwrap_or(0));
        self.head.len() as u64 + self.tensors.iter().map(tensor).sum::<u64>() + self.tail.len() as u64
    }

    fn write(&self, parts: &Parts, path: &Path, progress: &dyn Fn(u64)) -> Result<Written, Error> {
        let mut out = HashingFile::create(path, self.total())?;
        out.write(&self.head)?;
        let mut buffers = Buffers::default();
        for ((head, raw), initializer) in self.tensors.iter().zip(&parts.initializers) {
            let mut frame = Vec::with_capacity(16);
            key(&mut frame, field::GRAPH_INITIALIZER, head.len() as u64 + raw.unwrap_or(0));
            out.write(&frame)?;
            out.write(head)?;
            if raw.is_some() {
                buffers.write(initializer, &mut out, progress)?;
            }
        }
        out.write(&self.tail)?;
        out.finish()
    }
}

fn write_sidecar(
    parts: &Parts,
    offsets: &[Option<u64>],
    size: u64,
    path: &Path,
    progress: &dyn Fn(u64),
) -> Result<Written, Error> {
    let mut out = HashingFile::create(path, size)?;
    let mut buffers = Buffers::default();
    for (initializer, offset) in parts.initializers.iter().zip(offsets) {
        let Some(offset) = offset else { continue };
        out.write(&vec![0; (offset - out.written) as usize])?;
        buffers.write(initializer, &mut out, progress)?;
    }
    out.finish()
}

/// Reused between tensors, so memory does not grow with the model.
#[derive(Default)]
struct Buffers {
    values: Vec<f32>,
    bytes: Vec<u8>,
}

impl Buffers {
    fn write(&mut self, initializer: &Initializer, out: &mut HashingFile, progress: &dyn Fn(u64)) -> Result<(), Error> {
        let Buffers { values, bytes } = self;
        match &initializer.data {
            Data::Float(tensor) => tensor.for_each_block(values, |block| {
                bytes.clear();
                bytes.extend(block.iter().flat_map(|v| v.to_le_bytes()));
                progress(bytes.len() as u64);
                out.write(bytes)
            }),
            Data::Int64 { values, .. } => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                out.write(&bytes)
            }
        }
    }
}

/// A file that hashes what passes through.
struct HashingFile<'a> {
    path: &'a Path,
    size: u64,
    written: u64,
    file: BufWriter<File>,
    hasher: Sha256,
}

impl HashingFile<'_> {
    fn create(path: &Path, size: u64) -> Result<HashingFile<'_>, Error> {
        let file = File::create(path).map_err(|e| Error::io(path, size, e))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(HashingFile { path, size, written: 0, file, hasher: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| Error::io(self.path, self.size, e))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Written, Error> {
        self.file.flush().map_err(|e| Error::io(self.path, self.size, e))?;
        let sha256 = hex(&self.hasher.finalize());
        Ok(Written { path: self.path.to_owned(), size: self.written, sha256 })
    }
}

fn tensor_proto(initializer: &Initializer, external: Option<(&str, u64)>) -> TensorProto {
    let (dims, data_type) = match &initializer.data {
        Data::Float(tensor) => (tensor.shape(), DataType::Float),
        Data::Int64 { dims, .. } => (dims.clone(), DataType::Int64),
    };
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
            entry("length", byte_len(initializer).to_string()),
        ];
    }
    proto
}

fn node_proto(parts: &Parts, node: &Node) -> NodeProto {
    let names = |values: &[super::Value]| values.iter().map(|&v| parts.value_name(v).to_owned()).collect();
    NodeProto {
        input: names(&node.inputs),
        output: names(&node.outputs),
        name: Some(node.name.clone()),
        op_type: Some(node.op_type.to_owned()),
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

fn value_info(port: &Port) -> ValueInfoProto {
    let elem_type = match port.element_type {
        ElementType::Float => DataType::Float,
        ElementType::Int64 => DataType::Int64,
    };
    let dim = |dim: &Dim| Dimension {
        value: Some(match dim {
            Dim::Fixed(n) => dimension::Value::DimValue(*n as i64),
            Dim::Named(name) => dimension::Value::DimParam((*name).to_owned()),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: port.dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(elem_type as i32), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(port.name.clone()), r#type: Some(r#type), ..ValueInfoProto::default() }
}
