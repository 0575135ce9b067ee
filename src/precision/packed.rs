//! Weights in other forms, made while the file is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::grid::{self, BLOCK, Fit, MIDDLE};
use super::layers::Weight;
use crate::onnx::graph::{Data, ElementType, Packed};
use crate::onnx::write::Error;
use crate::tensor::Tensor;

type Each<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// Bytes that are handed out at once.
const PIECE: usize = 1 << 18;

/// Weights in float16. What is beyond its range becomes its largest number, and is counted.
pub struct Half {
    tensor: Tensor,
    clamped: Arc<AtomicU64>,
}

impl Half {
    pub fn data(tensor: Tensor, clamped: &Arc<AtomicU64>) -> Data {
        Data::Packed(Arc::new(Half { tensor, clamped: clamped.clone() }))
    }
}

impl Packed for Half {
    fn element(&self) -> ElementType {
        ElementType::Float16
    }

    fn dims(&self) -> Vec<usize> {
        self.tensor.shape()
    }

    fn byte_len(&self) -> u64 {
        self.tensor.len() as u64 * 2
    }

    fn write(&self, each: Each) -> Result<(), Error> {
        let (mut finite, mut halves) = (Vec::new(), Vec::new());
        self.clamped.store(0, Ordering::Relaxed);
        self.tensor.for_each_block(&mut Vec::new(), |block| {
            finite.clear();
            finite.extend_from_slice(block);
            let beyond = clamp(&mut finite);
            self.clamped.fetch_add(beyond, Ordering::Relaxed);
            halves.resize(block.len(), f16::ZERO);
            halves.convert_from_f32_slice(&finite);
            each(bytemuck::cast_slice(halves.reinterpret_cast()))
        })
    }
}

/// Brings numbers into float16's range; how many were beyond it. The least float32 is no number but stands
/// for minus infinity in masks.
fn clamp(values: &mut [f32]) -> u64 {
    let most = f16::MAX.to_f32();
    if grid::largest(values) <= most {
        return 0;
    }
    let beyond = values.iter().filter(|v| v.abs() > most && **v != f32::MIN).count() as u64;
    values.iter_mut().for_each(|v| *v = v.clamp(-most, most));
    beyond
}

/// A product's weights in float32, what they meet evened out.
pub struct Gained(Weight);

impl Gained {
    pub fn data(weight: Weight) -> Data {
        Data::Packed(Arc::new(Gained(weight)))
    }
}

impl Packed for Gained {
    fn element(&self) -> ElementType {
        ElementType::Float
    }

    fn dims(&self) -> Vec<usize> {
        self.0.tensor.shape()
    }

    fn byte_len(&self) -> u64 {
        self.0.tensor.len() as u64 * 4
    }

    fn write(&self, each: Each) -> Result<(), Error> {
        let [rows, _] = self.0.rows();
        let (mut gained, mut at) = (Vec::new(), 0);
        self.0.tensor.for_each_block(&mut Vec::new(), |block| {
            gained.clear();
            for row in block.chunks_exact(rows) {
                let gain = self.0.gain(at);
                gained.extend(row.iter().map(|v| v * gain));
                at += 1;
            }
            each(bytemuck::cast_slice(&gained))
        })
    }
}

/// Weights as int8, each row on a scale of its own, in the layout of the node that reads them.
pub struct Int8 {
    pub weight: Weight,
    /// Of each row.
    pub scales: Vec<f32>,
    pub limit: f32,
}

impl Int8 {
    pub fn data(self) -> Data {
        Data::Packed(Arc::new(self))
    }
}

impl Packed for Int8 {
    fn element(&self) -> ElementType {
        ElementType::Int8
    }

    fn dims(&self) -> Vec<usize> {
        self.weight.tensor.shape()
    }

    fn byte_len(&self) -> u64 {
        self.weight.tensor.len() as u64
    }

    fn write(&self, each: Each) -> Result<(), Error> {
        let inverse = |(at, scale): (usize, &f32)| if self.weight.is_silent(at) { 0.0 } else { 1.0 / scale };
        let inverse: Vec<f32> = self.scales.iter().enumerate().map(inverse).collect();
        let on_grid = |v: f32, inverse: f32| grid::round((v * inverse).max(-self.limit).min(self.limit)) as i8;
        let mut numbers: Vec<i8> = Vec::new();
        if self.weight.is_turned() {
            // Stored [heads, in, out], or [in, out]: scales go along the last axis and by heads, gains
            // along the one before.
            let shape = self.weight.tensor.shape();
            let [inputs, outputs] = [shape[shape.len() - 2], shape[shape.len() - 1]];
            let mut at = 0;
            return self.weight.tensor.for_each_block(&mut Vec::new(), |block| {
                numbers.clear();
                for row in block.chunks_exact(outputs) {
                    let gain = self.weight.gain(at % inputs);
                    let inverse = &inverse[at / inputs * outputs..][..outputs];
                    numbers.extend(row.iter().zip(inverse).map(|(v, inverse)| on_grid(v * gain, *inverse)));
                    at += 1;
                }
                each(bytemuck::cast_slice(&numbers))
            });
        }
        let [_, columns] = self.weight.rows();
        let mut at = 0;
        self.weight.for_each_rows(|block| {
            numbers.clear();
            for row in block.chunks_exact(columns) {
                numbers.extend(row.iter().map(|&v| on_grid(v, inverse[at])));
                at += 1;
            }
            each(bytemuck::cast_slice(&numbers))
        })
    }
}

/// How blocks of int4 are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `MatMulNBits`: rows of output channels, unsigned.
    NBits,
    /// `DequantizeLinear` over blocks of the first axis of `[in, out]`, signed.
    Standard,
}

/// A weight in int4: its numbers, scales and zero points are three constants that are made from one
/// reading of each.
#[derive(Clone)]
pub struct Int4 {
    pub weight: Weight,
    /// Of each column.
    pub moments: Arc<[f32]>,
    pub zero_points: bool,
    pub spelling: Spelling,
    /// Scales are float16.
    pub half: bool,
    /// Those of planning or of writing the numbers, until they are written too.
    fits: Arc<Mutex<Option<Arc<Vec<Fit>>>>>,
}

/// One of the constants.
enum Part {
    Numbers,
    Scales,
    ZeroPoints,
}

struct Int4Part {
    of: Int4,
    part: Part,
}

impl Int4 {
    pub fn new(weight: Weight, moments: Arc<[f32]>, zero_points: bool, spelling: Spelling, half: bool) -> Int4 {
        Int4 { weight, moments, zero_points, spelling, half, fits: Arc::default() }
    }

    /// Numbers, scales and, where there are some, zero points.
    pub fn data(&self) -> (Data, Data, Option<Data>) {
        let part = |part| Data::Packed(Arc::new(Int4Part { of: self.clone(), part }));
        (part(Part::Numbers), part(Part::Scales), self.zero_points.then(|| part(Part::ZeroPoints)))
    }

    fn fit(&self, values: &[f32], moments: &[f32]) -> Fit {
        if self.zero_points { grid::int4_with_zero(values, moments) } else { grid::int4(values, moments) }
    }

    fn blocks(&self) -> usize {
        self.weight.rows()[1].div_ceil(BLOCK)
    }

    /// Calls `each` with the blocks of every row and how they are fitted.
    ///
    /// # Errors
    /// What reading the weight reports, or `each`.
    pub fn for_each_block(&self, mut each: impl FnMut(&[f32], &[f32], &Fit) -> Result<(), Error>) -> Result<(), Error> {
        let [_, columns] = self.weight.rows();
        let kept = self.kept();
        let mut at = 0;
        self.weight.for_each_rows(|block| {
            for row in block.chunks_exact(columns) {
                for (values, moments) in row.chunks(BLOCK).zip(self.moments.chunks(BLOCK)) {
                    let fit = kept.as_ref().and_then(|fits| fits.get(at).copied());
                    each(values, moments, &fit.unwrap_or_else(|| self.fit(values, moments)))?;
                    at += 1;
                }
            }
            Ok(())
        })
    }

    /// Keeps fits, so that they are not sought again; or lets go of them.
    pub fn keep(&self, fits: Option<Vec<Fit>>) {
        *self.fits.lock().unwrap_or_else(PoisonError::into_inner) = fits.map(Arc::new);
    }

    fn kept(&self) -> Option<Arc<Vec<Fit>>> {
        self.fits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fits of all blocks, row by row: those kept from writing the numbers, or made anew.
    fn fits(&self) -> Result<Arc<Vec<Fit>>, Error> {
        if let Some(fits) = self.kept() {
            return Ok(fits);
        }
        let mut fits = Vec::new();
        self.for_each_block(|_, _, fit| {
            fits.push(*fit);
            Ok(())
        })?;
        Ok(Arc::new(fits))
    }

    fn write_numbers(&self, each: Each) -> Result<(), Error> {
        let (mut fits, mut bytes) = (Vec::new(), Vec::new());
        let [rows, columns] = self.weight.rows();
        if self.spelling == Spelling::NBits {
            self.for_each_block(|values, _, fit| {
                fits.push(*fit);
                let start = bytes.len();
                // What a short block lacks is nought.
                bytes.resize(start + BLOCK / 2, fit.zero as u8 * 0x11);
                for (at, q) in grid::numbers(values, fit).enumerate() {
                    let byte = &mut bytes[start + at / 2];
                    *byte = if at % 2 == 0 { *byte & 0xf0 | q } else { *byte & 0x0f | q << 4 };
                }
                if bytes.len() >= PIECE {
                    each(&bytes)?;
                    bytes.clear();
                }
                Ok(())
            })?;
            each(&bytes)?;
        } else {
            // [in, out], two numbers a byte: turned whole, at a byte a number.
            let (mut turned, mut at) = (vec![0u8; rows * columns], 0);
            self.for_each_block(|values, _, fit| {
                fits.push(*fit);
                for q in grid::numbers(values, fit) {
                    turned[at % columns * rows + at / columns] = q;
                    at += 1;
                }
                Ok(())
            })?;
            let signed = |q: u8| q.wrapping_sub(MIDDLE as u8) & 0x0f;
            bytes.extend(turned.chunks(2).map(|pair| signed(pair[0]) | pair.get(1).map_or(0, |&q| signed(q)) << 4));
            each(&bytes)?;
        }
        self.keep(Some(fits));
        Ok(())
    }

    /// One number of each block in the order that scales and zero points are stored in.
    fn ordered<T>(&self, of: impl Fn(&Fit) -> T) -> Result<Vec<T>, Error> {
        let (fits, blocks) = (self.fits()?, self.blocks());
        if self.spelling == Spelling::NBits {
            return Ok(fits.iter().map(of).collect());
        }
        let rows = self.weight.rows()[0];
        Ok((0..fits.len()).map(|at| of(&fits[at % rows * blocks + at / rows])).collect())
    }
}

impl Packed for Int4Part {
    fn element(&self) -> ElementType {
        match (&self.part, self.of.spelling) {
            (Part::Scales, _) if self.of.half => ElementType::Float16,
            (Part::Scales, _) => ElementType::Float,
            (_, Spelling::NBits) => ElementType::Uint8,
            (_, Spelling::Standard) => ElementType::Int4,
        }
    }

    fn dims(&self) -> Vec<usize> {
        let ([rows, columns], blocks) = (self.of.weight.rows(), self.of.blocks());
        match (&self.part, self.of.spelling) {
            (Part::Numbers, Spelling::NBits) => vec![rows, blocks, BLOCK / 2],
            (Part::Scales, Spelling::NBits) => vec![rows * blocks],
            (Part::ZeroPoints, Spelling::NBits) => vec![rows * blocks.div_ceil(2)],
            (Part::Numbers, Spelling::Standard) => vec![columns, rows],
            (_, Spelling::Standard) => vec![blocks, rows],
        }
    }

    fn byte_len(&self) -> u64 {
        let numbers = self.dims().iter().product::<usize>() as u64;
        match self.element() {
            ElementType::Float => numbers * 4,
            ElementType::Float16 => numbers * 2,
            ElementType::Int4 => numbers.div_ceil(2),
            _ => numbers,
        }
    }

    fn write(&self, each: Each) -> Result<(), Error> {
        match self.part {
            Part::Numbers => self.of.write_numbers(each),
            Part::Scales => {
                let scales = self.of.ordered(|fit| fit.scale)?;
                if !self.of.zero_points {
                    self.of.keep(None);
                }
                if !self.of.half {
                    return each(bytemuck::cast_slice(&scales));
                }
                let mut halves = vec![f16::ZERO; scales.len()];
                halves.convert_from_f32_slice(&scales);
                each(bytemuck::cast_slice(halves.reinterpret_cast()))
            }
            Part::ZeroPoints => {
                let zeros = self.of.ordered(|fit| fit.zero as u8)?;
                self.of.keep(None);
                let pair = |pair: &[u8]| pair[0] | pair.get(1).copied().unwrap_or(0) << 4;
                let bytes: Vec<u8> = if self.of.spelling == Spelling::NBits {
                    zeros.chunks(self.of.blocks()).flat_map(|row| row.chunks(2).map(pair)).collect()
                } else {
                    let signed: Vec<u8> = zeros.iter().map(|zero| zero.wrapping_sub(MIDDLE as u8) & 0x0f).collect();
                    signed.chunks(2).map(pair).collect()
                };
                each(&bytes)
            }
        }
    }
}
