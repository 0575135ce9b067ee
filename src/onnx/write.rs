//! Graph → file, streamed: one tensor at a time through one small buffer.
//!
//! Protocol buffers put a length before every nested message, so all lengths are worked out
//! first, from shapes; the choice between one file and external data is made from the total
//! before the first byte is written. The two messages that hold weights (`GraphProto`,
//! `TensorProto`) are framed here, and everything inside them is encoded by prost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use sha2::{Digest, Sha256};

use super::encode::{node_proto, tensor_proto, value_info};
pub use super::error::Error;
use super::graph::{Data, Initializer, Parts};
use super::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use crate::files::{Flusher, hex};

/// Where weights go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalData {
    /// In an external data file when the model would exceed [`LIMIT`].
    Auto,
    /// Always in an external data file.
    Always,
}

/// How a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When weights go to a file of their own.
    pub external: ExternalData,
    /// Compute the SHA-256 of every file as it goes.
    pub hash: bool,
}

/// Protocol buffers cannot hold 2 GiB; many readers stop a little short of it.
pub const LIMIT: u64 = (1 << 31) - (1 << 20);

/// The domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// Offsets in the sidecar are multiples of a page, so that runtimes can map the tensors.
const ALIGN: u64 = 4096;

/// Tensors below this many bytes stay in the model file.
const SMALL: u64 = 1024;

/// A file that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Path of the file.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// None when hashing was turned off.
    pub sha256: Option<String>,
}

/// Bytes of weights `graph` will write.
pub fn weight_bytes(parts: &Parts) -> u64 {
    parts.initializers.iter().map(|initializer| initializer.data.byte_len()).sum()
}

/// Writes a model to `path`, and its weights to `<path>_data` if the options say so. `seal` sets the final values of
/// metadata once all weights are written, each as long as its placeholder; `progress` is called with the number of bytes
/// of weights as they are written.
///
/// # Errors
/// What reading a tensor or writing a file reports, or `seal`; the files are then incomplete.
pub fn write<E: From<Error>>(
    parts: &Parts,
    path: &Path,
    options: Options,
    seal: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), E>,
    progress: &dyn Fn(u64),
) -> Result<Vec<Written>, E> {
    let job = Job { parts, hash: options.hash, progress };
    let inline = Layout::new(parts, None);
    if options.external == ExternalData::Auto && inline.total() < LIMIT {
        return Ok(vec![job.model(inline, path, seal)?]);
    }
    let sidecar = sidecar(path);
    let name = sidecar.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let (offsets, size) = external_offsets(&parts.initializers);
    let layout = Layout::new(parts, Some((&name, &offsets)));
    let data = job.sidecar(&offsets, size, &sidecar)?;
    Ok(vec![job.model(layout, path, seal)?, data])
}

fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("_data");
    PathBuf::from(name)
}

/// Offset of each tensor in the sidecar, None for those that stay; and the sidecar's size.
fn external_offsets(initializers: &[Initializer]) -> (Vec<Option<u64>>, u64) {
    let mut end = 0u64;
    let offsets = initializers.iter().map(|initializer| {
        let len = initializer.data.byte_len();
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
    /// The graph's inputs and outputs.
    ports: Vec<u8>,
    /// Of the model's metadata.
    metadata_len: u64,
}

fn metadata_proto(metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let entry = |(key, value): (&String, &String)| StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    ModelProto { metadata_props: metadata.iter().map(entry).collect(), ..ModelProto::default() }.encode_to_vec()
}

/// The operator sets that nodes are of.
fn opsets(parts: &Parts) -> Vec<OperatorSetIdProto> {
    let of = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    let own = parts.uses_domain(MICROSOFT).then(|| of(MICROSOFT, 1));
    std::iter::once(of("", parts.target.opset)).chain(own).collect()
}

impl Layout {
    fn new(parts: &Parts, external: Option<(&str, &[Option<u64>])>) -> Layout {
        let tensors: Vec<(Vec<u8>, Option<u64>)> = parts
            .initializers
            .iter()
            .enumerate()
            .map(|(at, initializer)| {
                let len = initializer.data.byte_len();
                let place = external.and_then(|(name, offsets)| Some((name, offsets[at]?)));
                let mut head = tensor_proto(initializer, place, len).encode_to_vec();
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
            opset_import: opsets(parts),
            ..ModelProto::default()
        }
        .encode_to_vec();
        key(&mut head, field::MODEL_GRAPH, graph_len);
        head.extend(nodes);

        Layout { head, tensors, ports, metadata_len: metadata_proto(&parts.metadata).len() as u64 }
    }

    fn total(&self) -> u64 {
        let tensor = |(head, raw): &(Vec<u8>, Option<u64>)| framed_len(head.len() as u64 + raw.unwrap_or(0));
        let weights: u64 = self.tensors.iter().map(tensor).sum();
        self.head.len() as u64 + weights + self.ports.len() as u64 + self.metadata_len
    }
}

/// What is being written, and how.
struct Job<'a> {
    parts: &'a Parts,
    hash: bool,
    progress: &'a dyn Fn(u64),
}

impl Job<'_> {
    fn model<E: From<Error>>(
        &self,
        layout: Layout,
        path: &Path,
        seal: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), E>,
    ) -> Result<Written, E> {
        let mut out = Output::create(path, layout.total(), self.hash)?;
        out.write(&layout.head)?;
        let mut buffer = Vec::new();
        for ((head, raw), initializer) in layout.tensors.iter().zip(&self.parts.initializers) {
            let mut frame = Vec::with_capacity(16);
            key(&mut frame, field::GRAPH_INITIALIZER, head.len() as u64 + raw.unwrap_or(0));
            out.write(&frame)?;
            out.write(head)?;
            if raw.is_some() {
                self.weights(initializer, &mut buffer, &mut out)?;
            }
        }
        let mut metadata = self.parts.metadata.clone();
        seal(&mut metadata)?;
        let metadata = metadata_proto(&metadata);
        assert_eq!(metadata.len() as u64, layout.metadata_len, "sealing metadata keeps its length");
        out.write(&layout.ports)?;
        out.write(&metadata)?;
        Ok(out.finish()?)
    }

    fn sidecar(&self, offsets: &[Option<u64>], size: u64, path: &Path) -> Result<Written, Error> {
        let mut out = Output::create(path, size, self.hash)?;
        let mut buffer = Vec::new();
        for (initializer, offset) in self.parts.initializers.iter().zip(offsets) {
            let Some(offset) = offset else { continue };
            out.write(&vec![0; (offset - out.written) as usize])?;
            self.weights(initializer, &mut buffer, &mut out)?;
        }
        out.finish()
    }

    /// One tensor, through a buffer that all share, so that memory does not grow with the model.
    fn weights(&self, initializer: &Initializer, buffer: &mut Vec<f32>, out: &mut Output) -> Result<(), Error> {
        match &initializer.data {
            Data::Float(tensor) => tensor.for_each_block(buffer, |block| {
                let bytes: &[u8] = bytemuck::cast_slice(block);
                (self.progress)(bytes.len() as u64);
                out.write(bytes)
            }),
            Data::Int64 { values, .. } => out.write(bytemuck::cast_slice(values)),
            Data::Packed(packed) => packed.write(&mut |bytes| {
                (self.progress)(bytes.len() as u64);
                out.write(bytes)
            }),
        }
    }
}

/// A file that hashes what passes through.
struct Output<'a> {
    path: &'a Path,
    size: u64,
    written: u64,
    file: BufWriter<File>,
    flusher: Flusher,
    hasher: Option<Sha256>,
}

impl Output<'_> {
    fn create(path: &Path, size: u64, hash: bool) -> Result<Output<'_>, Error> {
        let file = File::create(path).map_err(|e| Error::io(path, size, e))?;
        // Blocks of weights are larger than its buffer and pass it by.
        let flusher = Flusher::new(&file, size).map_err(|e| Error::io(path, size, e))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Output { path, size, written: 0, file, flusher, hasher: hash.then(Sha256::new) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| Error::io(self.path, self.size, e))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.flusher.wrote(bytes.len());
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<Written, Error> {
        self.file.flush().map_err(|e| Error::io(self.path, self.size, e))?;
        let sha256 = self.hasher.map(|hasher| hex(&hasher.finalize()));
        Ok(Written { path: self.path.to_owned(), size: self.written, sha256 })
    }
}
