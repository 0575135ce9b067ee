//! Rewriting a fixture's `.npz` in other forms.

use ndarray_npy::ReadNpyExt;
use std::io::Write;
use std::path::Path;

use clip_onnx::checkpoint::Checkpoint;
use half::{bf16, f16};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array about to be written.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
    pub descr: &'static str,
    pub fortran: bool,
    /// Bytes of zeros behind the values.
    pub trailing: usize,
}

impl Array {
    pub fn new(shape: &[usize], values: Vec<f32>) -> Array {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Array { shape: shape.to_vec(), values, descr: "<f4", fortran: false, trailing: 0 }
    }

    fn bytes(&self) -> Vec<u8> {
        let shape: String = self.shape.iter().map(|n| format!("{n}, ")).collect();
        let order = if self.fortran { "True" } else { "False" };
        let mut dict = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({shape}), }}", self.descr);
        while !(10 + dict.len() + 1).is_multiple_of(64) {
            dict.push(' ');
        }
        dict.push('\n');
        let mut out = vec![0x93, b'N', b'U', b'M', b'P', b'Y', 1, 0];
        out.extend((dict.len() as u16).to_le_bytes());
        out.extend(dict.as_bytes());
        let values = if self.fortran { transposed(&self.shape, &self.values) } else { self.values.clone() };
        for v in values {
            match self.descr {
                "<f2" => out.extend(f16::from_f32(v).to_le_bytes()),
                "<V2" | "|V2" => out.extend(bf16::from_f32(v).to_le_bytes()),
                "<f8" => out.extend(f64::from(v).to_le_bytes()),
                "<i4" => out.extend((v as i32).to_le_bytes()),
                ">f4" => out.extend(v.to_be_bytes()),
                _ => out.extend(v.to_le_bytes()),
            }
        }
        out.resize(out.len() + self.trailing, 0);
        out
    }
}

/// Values in Fortran order.
fn transposed(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let n = values.len();
    let mut out = Vec::with_capacity(n);
    for at in 0..n {
        let (mut rest, mut index) = (at, 0);
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        for (axis, &len) in shape.iter().enumerate() {
            index += (rest % len) * strides[axis];
            rest /= len;
        }
        out.push(values[index]);
    }
    out
}

/// Names and arrays, in order.
pub type Arrays = Vec<(String, Array)>;

/// All arrays of a checkpoint, widened to float32; integers are left out.
pub fn read(path: &Path) -> Arrays {
    let checkpoint = Checkpoint::open(path).unwrap();
    let floats = checkpoint.tensors().iter().filter(|(_, t)| t.dtype().is_weight());
    floats.map(|(name, t)| (name.clone(), Array::new(&t.shape(), t.to_f32().unwrap()))).collect()
}

/// The bytes of an array with its header.
pub fn member(path: &Path, name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut bytes = Vec::new();
    std::io::copy(&mut archive.by_name(&format!("{name}.npy")).unwrap(), &mut bytes).unwrap();
    bytes
}

/// An array of float32.
pub fn floats<D: ndarray::Dimension>(path: &Path, name: &str) -> ndarray::Array<f32, D> {
    ndarray::Array::read_npy(&member(path, name)[..]).unwrap()
}

/// An array of int32, as floats.
pub fn integers(path: &Path, name: &str) -> Array {
    let bytes = member(path, name);
    let narrow = ndarray::ArrayD::<i32>::read_npy(&bytes[..]);
    let array = narrow.unwrap_or_else(|_| ndarray::ArrayD::<i64>::read_npy(&bytes[..]).unwrap().mapv(|id| id as i32));
    Array::new(array.shape(), array.iter().map(|&v| v as f32).collect())
}

/// How members are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Zip {
    Stored,
    Deflated,
    Zip64,
}

pub fn write(path: &Path, arrays: &Arrays, zip: Zip) {
    let mut archive = ZipWriter::new(std::fs::File::create(path).unwrap());
    let method = if zip == Zip::Deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method).large_file(zip == Zip::Zip64);
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(&array.bytes()).unwrap();
    }
    archive.finish().unwrap();
}

/// Block tensors under `prefix` + `encoderblock_{i}/` put together on a leading axis.
pub fn stacked(arrays: Arrays, prefix: &str) -> Arrays {
    let (mut out, mut layers): (Arrays, std::collections::BTreeMap<String, Vec<(usize, Array)>>) = Default::default();
    for (name, array) in arrays {
        let Some(rest) = name.strip_prefix(&format!("{prefix}encoderblock_")) else {
            out.push((name, array));
            continue;
        };
        let (index, leaf) = rest.split_once('/').unwrap();
        layers.entry(leaf.to_owned()).or_default().push((index.parse().unwrap(), array));
    }
    for (leaf, mut arrays) in layers {
        arrays.sort_by_key(|(index, _)| *index);
        let shape = [&[arrays.len()], &arrays[0].1.shape[..]].concat();
        let values = arrays.into_iter().flat_map(|(_, a)| a.values).collect();
        out.push((format!("{prefix}encoderblock/{leaf}"), Array::new(&shape, values)));
    }
    out
}

/// The array of this name.
pub fn get<'a>(arrays: &'a mut Arrays, name: &str) -> &'a mut Array {
    &mut arrays.iter_mut().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
}

pub fn renamed(arrays: Arrays, rename: impl Fn(&str) -> String) -> Arrays {
    arrays.into_iter().map(|(name, array)| (rename(&name), array)).collect()
}
