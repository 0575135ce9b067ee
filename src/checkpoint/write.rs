//! Writing `.safetensors`, one tensor at a time.
//!
//! The format is a length, a JSON header and the data; the `safetensors` crate would want every
//! tensor in memory and writes its metadata in hash order, which differs from run to run.

use std::collections::BTreeMap;
use std::io::Write;

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use crate::tensor::{self, DType, Tensor};

/// What can go wrong while writing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor's values could not be read or converted.
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    /// The file could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes `tensors`, in the given order, each in the float type it is stored in.
///
/// # Errors
/// What reading a tensor or writing `out` reports.
pub fn safetensors(
    out: &mut impl Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[(String, Tensor)],
    progress: &dyn Fn(u64),
) -> Result<(), Error> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut offset = 0;
    for (name, tensor) in tensors {
        let (dtype, size) = match tensor.dtype() {
            DType::F16 => ("F16", 2),
            DType::BF16 => ("BF16", 2),
            _ => ("F32", 4),
        };
        let end = offset + tensor.len() * size;
        let entry = json!({"dtype": dtype, "shape": tensor.shape(), "data_offsets": [offset, end]});
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Data starts on a multiple of eight, as the reference writer has it.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;

    let (mut block, mut bytes) = (Vec::new(), Vec::new());
    for (_, tensor) in tensors {
        let dtype = tensor.dtype();
        tensor.for_each_block::<Error>(&mut block, |values| {
            bytes.clear();
            match dtype {
                // Widened from the same type a moment ago, so these narrow exactly.
                DType::F16 => bytes.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
                DType::BF16 => bytes.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
                _ => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            }
            out.write_all(&bytes)?;
            progress(bytes.len() as u64);
            Ok(())
        })?;
    }
    Ok(())
}
