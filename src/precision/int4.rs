//! int4: blocks of numbers that share a scale, packed two a byte while the file is written.

use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::grid::{self, BLOCK, Fit, MIDDLE};
use super::layers::Weight;
use super::packed::Each;
use crate::onnx::graph::{Data, ElementType, Packed};
use crate::onnx::write::Error;
use crate::tensor;

/// Bytes that are handed out at once.
const CHUNK: usize = 1 << 18;

/// How blocks of int4 are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockLayout {
    /// For `MatMulNBits`: blocks of output channels, unsigned, a short last block filled up.
    NBits,
    /// For `DequantizeLinear` over blocks of the first axis of `[in, out]`, signed.
    Standard,
}

/// How int4 is stored.
#[derive(Clone, Copy, Debug)]
pub struct Int4Format {
    pub layout: BlockLayout,
    /// Blocks have zero points of their own.
    pub zero_points: bool,
    /// Scales are float16.
    pub float16_scales: bool,
}

/// A weight in int4: its integers, scales and zero points are three constants, made from one reading of it.
#[derive(Clone)]
pub struct Int4 {
    pub weight: Weight,
    /// Of what each column is multiplied with.
    pub mean_squares: Arc<[f32]>,
    format: Int4Format,
    /// Fits that assigning or writing the integers found, until scales and zero points are written too.
    fits: Arc<Mutex<Option<Arc<Vec<Fit>>>>>,
}

/// One of the constants.
enum Part {
    Integers,
    Scales,
    ZeroPoints,
}

struct Int4Part {
    of: Int4,
    part: Part,
}

/// The constants of a weight in int4.
pub struct Int4Data {
    pub integers: Data,
    pub scales: Data,
    pub zero_points: Option<Data>,
}

impl Int4Data {
    pub fn byte_len(&self) -> u64 {
        [Some(&self.integers), Some(&self.scales), self.zero_points.as_ref()]
            .into_iter()
            .flatten()
            .map(Data::byte_len)
            .sum()
    }
}

impl Int4 {
    pub fn new(weight: Weight, mean_squares: Arc<[f32]>, format: Int4Format) -> Int4 {
        Int4 { weight, mean_squares, format, fits: Arc::default() }
    }

    pub fn layout(&self) -> BlockLayout {
        self.format.layout
    }

    pub fn data(&self) -> Int4Data {
        let part = |part| Data::Packed(Arc::new(Int4Part { of: self.clone(), part }));
        Int4Data {
            integers: part(Part::Integers),
            scales: part(Part::Scales),
            zero_points: self.format.zero_points.then(|| part(Part::ZeroPoints)),
        }
    }

    fn fit(&self, values: &[f32], mean_squares: &[f32]) -> Fit {
        if self.format.zero_points {
            grid::int4_with_zero(values, mean_squares)
        } else {
            grid::int4(values, mean_squares)
        }
    }

    fn blocks_per_row(&self) -> usize {
        self.weight.rows()[1].div_ceil(BLOCK)
    }

    /// Calls `each` with the blocks of every row, the mean squares of their columns and their fits.
    ///
    /// # Errors
    /// What reading the weight reports, or `each`.
    pub fn for_each_block<E: From<tensor::Error>>(
        &self,
        mut each: impl FnMut(&[f32], &[f32], &Fit) -> Result<(), E>,
    ) -> Result<(), E> {
        let [_, columns] = self.weight.rows();
        let remembered = self.remembered();
        let mut at = 0;
        self.weight.for_each_rows(|block| {
            for row in block.chunks_exact(columns) {
                for (values, mean_squares) in row.chunks(BLOCK).zip(self.mean_squares.chunks(BLOCK)) {
                    let fit = remembered.as_ref().and_then(|fits| fits.get(at).copied());
                    each(values, mean_squares, &fit.unwrap_or_else(|| self.fit(values, mean_squares)))?;
                    at += 1;
                }
            }
            Ok(())
        })
    }

    /// Remembers fits, so that they are not searched for again; or forgets them.
    pub fn remember(&self, fits: Option<Vec<Fit>>) {
        *self.fits.lock().unwrap_or_else(PoisonError::into_inner) = fits.map(Arc::new);
    }

    fn remembered(&self) -> Option<Arc<Vec<Fit>>> {
        self.fits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fits of all blocks, row by row: those remembered, or searched for anew.
    fn fits(&self) -> Result<Arc<Vec<Fit>>, Error> {
        if let Some(fits) = self.remembered() {
            return Ok(fits);
        }
        let mut fits = Vec::new();
        self.for_each_block(|_, _, fit| {
            fits.push(*fit);
            Ok::<(), Error>(())
        })?;
        Ok(Arc::new(fits))
    }

    fn write_integers(&self, each: Each) -> Result<(), Error> {
        let (mut fits, mut bytes) = (Vec::new(), Vec::new());
        let [rows, columns] = self.weight.rows();
        if self.format.layout == BlockLayout::NBits {
            self.for_each_block(|values, _, fit| {
                fits.push(*fit);
                // A short block is filled up with zeros.
                let mut block = [fit.zero_point as u8; BLOCK];
                block.iter_mut().zip(grid::int4_values(values, fit)).for_each(|(to, q)| *to = q);
                bytes.extend(pairs(&block));
                if bytes.len() >= CHUNK {
                    each(&bytes)?;
                    bytes.clear();
                }
                Ok::<(), Error>(())
            })?;
            each(&bytes)?;
        } else {
            // [in, out]: transposed in memory, a byte for each number.
            let (mut transposed, mut at) = (vec![0u8; rows * columns], 0);
            self.for_each_block(|values, _, fit| {
                fits.push(*fit);
                for q in grid::int4_values(values, fit) {
                    transposed[at % columns * rows + at / columns] = signed(q);
                    at += 1;
                }
                Ok::<(), Error>(())
            })?;
            bytes.extend(pairs(&transposed));
            each(&bytes)?;
        }
        self.remember(Some(fits));
        Ok(())
    }

    /// One number of each block in the order that scales and zero points are stored in.
    fn ordered<T>(&self, of: impl Fn(&Fit) -> T) -> Result<Vec<T>, Error> {
        let (fits, blocks) = (self.fits()?, self.blocks_per_row());
        if self.format.layout == BlockLayout::NBits {
            return Ok(fits.iter().map(of).collect());
        }
        let rows = self.weight.rows()[0];
        Ok((0..fits.len()).map(|at| of(&fits[at % rows * blocks + at / rows])).collect())
    }
}

/// Two numbers of 0 to 15 a byte, the first in the low half; zero above an odd last one.
fn pairs(numbers: &[u8]) -> impl Iterator<Item = u8> {
    numbers.chunks(2).map(|pair| pair[0] | pair.get(1).copied().unwrap_or(0) << 4)
}

/// A number of 0 to 15 as the four bits of one of −8 to 7.
fn signed(q: u8) -> u8 {
    q.wrapping_sub(MIDDLE as u8) & 0x0f
}

impl Packed for Int4Part {
    fn element(&self) -> ElementType {
        match (&self.part, self.of.format.layout) {
            (Part::Scales, _) if self.of.format.float16_scales => ElementType::Float16,
            (Part::Scales, _) => ElementType::Float,
            (_, BlockLayout::NBits) => ElementType::Uint8,
            (_, BlockLayout::Standard) => ElementType::Int4,
        }
    }

    fn dims(&self) -> Vec<usize> {
        let ([rows, columns], blocks) = (self.of.weight.rows(), self.of.blocks_per_row());
        match (&self.part, self.of.format.layout) {
            (Part::Integers, BlockLayout::NBits) => vec![rows, blocks, BLOCK / 2],
            (Part::Scales, BlockLayout::NBits) => vec![rows * blocks],
            (Part::ZeroPoints, BlockLayout::NBits) => vec![rows * blocks.div_ceil(2)],
            (Part::Integers, BlockLayout::Standard) => vec![columns, rows],
            (_, BlockLayout::Standard) => vec![blocks, rows],
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
            Part::Integers => self.of.write_integers(each),
            Part::Scales => {
                let scales = self.of.ordered(|fit| fit.scale)?;
                if !self.of.format.zero_points {
                    self.of.remember(None);
                }
                if !self.of.format.float16_scales {
                    return each(bytemuck::cast_slice(&scales));
                }
                let mut halves = vec![f16::ZERO; scales.len()];
                halves.convert_from_f32_slice(&scales);
                each(bytemuck::cast_slice(halves.reinterpret_cast()))
            }
            Part::ZeroPoints => {
                let zero_points = self.of.ordered(|fit| fit.zero_point as u8)?;
                self.of.remember(None);
                let bytes: Vec<u8> = if self.of.format.layout == BlockLayout::NBits {
                    zero_points.chunks(self.of.blocks_per_row()).flat_map(pairs).collect()
                } else {
                    pairs(&zero_points.into_iter().map(signed).collect::<Vec<u8>>()).collect()
                };
                each(&bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::WeightKind;
    use super::super::packed::tests::bytes;
    use super::*;
    use crate::tensor::Tensor;

    /// A matrix `[in, out]` of two output channels: 34 inputs are a block and two numbers of another.
    fn matrix() -> Weight {
        let values: Vec<f32> = (0..34).flat_map(|k| [(k % 16) as f32 - 8.0, if k < 32 { 0.0 } else { 7.0 }]).collect();
        Weight::new(Tensor::from_f32("w", &[34, 2], &values), WeightKind::Matrix)
    }

    fn int4(layout: BlockLayout, zero_points: bool) -> Int4 {
        Int4::new(matrix(), vec![1.0; 34].into(), Int4Format { layout, zero_points, float16_scales: false })
    }

    #[test]
    fn the_first_of_two_numbers_is_in_the_low_half() {
        assert_eq!(pairs(&[0x1, 0x2, 0xf]).collect::<Vec<u8>>(), [0x21, 0x0f]);
        assert_eq!([0, 8, 15].map(signed), [0x8, 0x0, 0x7]);
    }

    #[test]
    fn blocks_of_matmul_nbits_are_rows_of_output_channels() {
        let data = int4(BlockLayout::NBits, false).data();
        assert_eq!(data.integers.dims(), [2, 2, 16]);
        let integers = bytes(&data.integers);
        // −8 … 7 twice, at scale 1, stored from 0 on.
        assert_eq!(integers[..16], [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe].repeat(2)[..]);
        // −8 and −7, then zeros.
        assert_eq!(integers[16..32], [&[0x10][..], &[0x88; 15]].concat()[..]);
        assert_eq!(integers[32..48], [0x88; 16]);
        // The scale is negative or positive: 7 is stored exactly by either.
        let scales: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes(&data.scales));
        let q = f32::from(integers[48] & 0x0f);
        assert!(integers[48] >> 4 == integers[48] & 0x0f && ((q - 8.0) * scales[3] - 7.0).abs() < 1e-6, "{scales:?}");
        assert_eq!(scales[..2], [1.0, 1.0]);
    }

    #[test]
    fn standard_blocks_are_signed_and_in_the_layout_of_the_matrix() {
        let data = int4(BlockLayout::Standard, false).data();
        assert_eq!((data.integers.dims(), data.scales.dims()), (vec![34, 2], vec![2, 2]));
        let integers = bytes(&data.integers);
        let low: Vec<u8> = integers.iter().map(|byte| byte & 0x0f).take(16).collect();
        assert_eq!(low, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(integers[..32].iter().all(|byte| byte >> 4 == 0));
    }

    /// Two zero points a byte, each row from a new byte on.
    #[test]
    fn zero_points_are_what_zero_is_stored_as() {
        let int4 = int4(BlockLayout::NBits, true);
        let fits = int4.fits().unwrap();
        let data = int4.data();
        let found = bytes(data.zero_points.as_ref().unwrap());
        let expected: Vec<u8> =
            fits.chunks(2).map(|row| row[0].zero_point as u8 | (row[1].zero_point as u8) << 4).collect();
        assert_eq!(found, expected);
        // The second row is 7 and 7 in its last block: with zero as its least number, the largest is 15 steps away.
        assert!(fits.iter().all(|fit| (0.0..=15.0).contains(&fit.zero_point) && fit.error < 1e-6), "{fits:?}");
    }
}
