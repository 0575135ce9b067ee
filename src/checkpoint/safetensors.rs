//! `.safetensors`, validated by the format's own crate; tensors are views of the mapped file.

use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};

use super::Error;
use crate::tensor::{DType, Storage, Tensor};

type Contents = (BTreeMap<String, String>, Vec<(String, Tensor)>);

/// Bytes of a header, at most; the largest published ones have under 1 MB, and parsing takes ten times as much memory.
const MAX_HEADER: u64 = 8 << 20;

pub fn read(file: &Bytes) -> Result<Contents, Error> {
    let length = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if length > MAX_HEADER {
        return Err(Error::Safetensors {
            reason: format!("its header has {length} bytes; expected at most {MAX_HEADER}"),
        });
    }
    let (header_length, header) =
        SafeTensors::read_metadata(file).map_err(|e| Error::Safetensors { reason: e.to_string() })?;
    let data_start = 8 + header_length;
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let wrong = |reason: String| Error::Member { name: name.clone(), reason };
        let (start, end) = (data_start + info.data_offsets.0, data_start + info.data_offsets.1);
        if end > file.len() || start > end {
            return Err(wrong(format!("ends at byte {end} of a file of {}", file.len())));
        }
        let dtype = match info.dtype {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 | Dtype::U64 => DType::I64,
            Dtype::I32 | Dtype::U32 => DType::I32,
            Dtype::I16 | Dtype::U16 => DType::I16,
            Dtype::I8 => DType::I8,
            Dtype::U8 => DType::U8,
            Dtype::BOOL => DType::Bool,
            other => return Err(wrong(format!("has dtype {other:?}; expected F32, F16 or BF16"))),
        };
        let storage = Storage::Ready(file.slice(start..end));
        tensors.push((name.clone(), Tensor::contiguous(&name, dtype, &info.shape, false, storage, end - start)?));
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((metadata, tensors))
}
