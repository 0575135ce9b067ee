//! A tensor as a checkpoint holds it: a description of where its numbers lie.
//!
//! Nothing here copies weights until they are read. A [`Tensor`] is one or more strided views
//! of stored bytes, joined along one axis; renaming, transposing, reshaping, slicing and joining
//! only rewrite the description. [`Tensor::for_each_block`] then walks the values in row-major
//! order through one small buffer, which is how they reach a file.
//!
//! An axis of a view is a list of *factors* `(len, step)`, outermost first. Merging two axes
//! concatenates their factor lists and splitting cuts them, so the head axes of a Flax kernel
//! can be merged and transposed without a copy even when the file stores them in Fortran order.

use std::sync::Arc;

use bytes::Bytes;

mod computed;
mod gather;
mod ops;

/// Element types a checkpoint may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether weights may be stored in it: float16 and bfloat16 widen exactly, float64 is rounded to float32.
    pub fn is_weight(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// The name NumPy and PyTorch users know it by.
    pub fn name(self) -> &'static str {
        match self {
            DType::F64 => "float64",
            DType::F32 => "float32",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::I64 => "int64",
            DType::I32 => "int32",
            DType::I16 => "int16",
            DType::I8 => "int8",
            DType::U8 => "uint8",
            DType::Bool => "bool",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The source name of [`Tensor::zeros`].
const ZEROS: &str = "zeros";

/// Longer than any axis. Where one axis has length zero, any length of the others would fit.
const WIDEST: u128 = 1 << 40;

/// What can be wrong with a tensor's description or its values.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{source_name}` has {elements} elements of {dtype}, but only {available} bytes are stored for it")]
    Extent { source_name: String, elements: u128, dtype: DType, available: usize },
    #[error("`{source_name}` is {found}, expected float64, float32, float16 or bfloat16; convert it before exporting")]
    NotFloat { source_name: String, found: DType },
    #[error(
        "`{source_name}` holds {value} at flat index {index}; weights must be finite. The checkpoint is damaged or comes from a diverged run"
    )]
    NotFinite { source_name: String, value: f32, index: usize },
    #[error("`{source_name}` has shape {found:?}, which does not reshape to {expected:?}")]
    Reshape { source_name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("`{source_name}` cannot be joined: shape {found:?} beside {expected:?}")]
    Join { source_name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("`{source_name}`: {reason}")]
    Storage { source_name: String, reason: String },
}

/// Bytes that are produced on first use: members that a zip file stores deflated, and values that are computed.
pub trait Deferred: Send + Sync {
    /// All bytes of the tensor, exactly as long as was promised when the view was made.
    fn bytes(&self) -> Result<Bytes, String>;
}

/// Where a view's elements lie.
#[derive(Clone)]
pub enum Storage {
    /// In memory or in a mapped file.
    Ready(Bytes),
    /// Behind decompression or arithmetic.
    Deferred(Arc<dyn Deferred>),
}

/// One factor of an axis: `len` positions, `step` elements apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Factor {
    len: usize,
    step: usize,
}

/// A strided view of stored elements.
#[derive(Clone)]
struct View {
    source_name: Arc<str>,
    dtype: DType,
    storage: Storage,
    offset: usize,
    axes: Vec<Vec<Factor>>,
    /// What values are multiplied by when they are read.
    scale: f64,
}

impl View {
    fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.iter().map(|f| f.len).product()).collect()
    }
}

/// One or more views, joined along `axis`.
#[derive(Clone)]
pub struct Tensor {
    parts: Vec<View>,
    axis: usize,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype(), self.shape())
    }
}

impl Tensor {
    /// A tensor stored contiguously, first axis slowest (or fastest, in Fortran order).
    ///
    /// # Errors
    /// [`Error::Extent`] when `available` bytes are fewer than the shape needs.
    pub fn contiguous(
        source_name: &str,
        dtype: DType,
        shape: &[usize],
        fortran_order: bool,
        storage: Storage,
        available: usize,
    ) -> Result<Tensor, Error> {
        let elements = shape.iter().fold(1u128, |n, &len| n.saturating_mul(len as u128));
        // A zero-length axis makes the product zero whatever the others are, so each is bounded too.
        let widest = shape.iter().map(|&n| n as u128).max().unwrap_or(0);
        if elements.saturating_mul(dtype.size() as u128) > available as u128 || widest > WIDEST {
            return Err(Error::Extent { source_name: source_name.to_owned(), elements, dtype, available });
        }
        let mut steps = vec![0; shape.len()];
        let mut step = 1;
        let order: Vec<usize> =
            if fortran_order { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
        for axis in order {
            steps[axis] = step;
            step *= shape[axis];
        }
        let axes = shape.iter().zip(&steps).map(|(&len, &step)| vec![Factor { len, step }]).collect();
        let view = View { source_name: source_name.into(), dtype, storage, offset: 0, axes, scale: 1.0 };
        Ok(Tensor { parts: vec![view], axis: 0 })
    }

    /// A tensor at `offset` elements into its storage, with lengths and steps of its axes.
    ///
    /// # Errors
    /// [`Error::Extent`] when it reaches beyond the `available` bytes, or claims more elements
    /// than they can hold: no parameter is an expanded view.
    pub fn strided(
        source_name: &str,
        dtype: DType,
        (shape, steps): (&[usize], &[usize]),
        offset: usize,
        storage: Storage,
        available: usize,
    ) -> Result<Tensor, Error> {
        let elements = shape.iter().fold(1u128, |n, &len| n.saturating_mul(len as u128));
        let last = shape.iter().zip(steps).fold(offset as u128, |at, (&len, &step)| {
            at.saturating_add((len.max(1) as u128 - 1).saturating_mul(step as u128))
        });
        let held = (available / dtype.size()) as u128;
        let widest = shape.iter().map(|&n| n as u128).max().unwrap_or(0);
        if elements > held || widest > WIDEST || (elements > 0 && last >= held) {
            return Err(Error::Extent { source_name: source_name.to_owned(), elements, dtype, available });
        }
        let axes = shape.iter().zip(steps).map(|(&len, &step)| vec![Factor { len, step }]).collect();
        let view = View { source_name: source_name.into(), dtype, storage, offset, axes, scale: 1.0 };
        Ok(Tensor { parts: vec![view], axis: 0 })
    }

    /// A computed tensor. `values` are row-major and fill `shape`.
    pub fn from_f32(source_name: &str, shape: &[usize], values: &[f32]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{source_name}: values fill the shape");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::whole(source_name, shape, 1, Storage::Ready(Bytes::from(bytes)))
    }

    /// Zeros of any shape, for building a graph without weights.
    pub fn zeros(shape: &[usize]) -> Tensor {
        Tensor::whole(ZEROS, shape, 0, Storage::Ready(Bytes::from_static(&[0; 4])))
    }

    /// Zeros of the shape and the stored type of this tensor.
    pub fn zeros_like(&self) -> Tensor {
        let mut zeros = Tensor::whole(ZEROS, &self.shape(), 0, Storage::Ready(Bytes::from_static(&[0; 8])));
        zeros.parts[0].dtype = self.dtype();
        zeros
    }

    /// A view of float32 of this shape, whose last axis has steps of `unit`.
    fn whole(source_name: &str, shape: &[usize], unit: usize, storage: Storage) -> Tensor {
        let mut step = unit;
        let mut axes: Vec<Vec<Factor>> = Vec::with_capacity(shape.len());
        for &len in shape.iter().rev() {
            axes.push(vec![Factor { len, step }]);
            step *= len;
        }
        axes.reverse();
        let view = View { source_name: source_name.into(), dtype: DType::F32, storage, offset: 0, axes, scale: 1.0 };
        Tensor { parts: vec![view], axis: 0 }
    }

    /// Lengths of the axes, slowest first.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.parts[0].shape();
        if self.parts.len() > 1 {
            shape[self.axis] = self.parts.iter().map(|p| p.shape()[self.axis]).sum();
        }
        shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stored element type; float32, which holds them all, when joined parts differ.
    pub fn dtype(&self) -> DType {
        let first = self.parts[0].dtype;
        if self.parts.iter().all(|part| part.dtype == first) { first } else { DType::F32 }
    }

    /// Names of the tensors in the file that this one is made of; zeros that are joined to them have none.
    pub fn source_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.parts.iter().map(|p| &*p.source_name).collect();
        names.dedup();
        if names.len() > 1 {
            names.retain(|&name| name != ZEROS);
        }
        names
    }
}
