//! Weights in other formats than float32, converted while the file is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::grid::{largest, round};
use super::layers::Weight;
use crate::onnx::graph::{Data, ElementType, Packed};
use crate::onnx::write::Error;
use crate::tensor::Tensor;

/// Takes bytes of a constant as they are made.
pub type Each<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Error>;

/// Weights in float16. Numbers beyond its range become its largest, and are counted.
pub struct Float16 {
    tensor: Tensor,
    clamped: Arc<AtomicU64>,
}

impl Float16 {
    pub fn data(tensor: Tensor, clamped: &Arc<AtomicU64>) -> Data {
        Data::Packed(Arc::new(Float16 { tensor, clamped: clamped.clone() }))
    }
}

impl Packed for Float16 {
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

/// Brings numbers into float16's range; gives how many were beyond it. The least float32 is not counted: masks have it in
/// place of minus infinity.
fn clamp(values: &mut [f32]) -> u64 {
    let most = f16::MAX.to_f32();
    if largest(values) <= most {
        return 0;
    }
    let beyond = values.iter().filter(|v| v.abs() > most && **v != f32::MIN).count() as u64;
    values.iter_mut().for_each(|v| *v = v.clamp(-most, most));
    beyond
}

/// A matrix in float32, its input channels multiplied by smoothing factors.
pub struct Smoothed(Weight);

impl Smoothed {
    pub fn data(weight: Weight) -> Data {
        Data::Packed(Arc::new(Smoothed(weight)))
    }
}

impl Packed for Smoothed {
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
        let (mut smoothed, mut at) = (Vec::new(), 0);
        // Stored by input channels.
        self.0.tensor.for_each_block(&mut Vec::new(), |block| {
            smoothed.clear();
            for channel in block.chunks_exact(rows) {
                let factor = self.0.factor(at);
                smoothed.extend(channel.iter().map(|v| v * factor));
                at += 1;
            }
            each(bytemuck::cast_slice(&smoothed))
        })
    }
}

/// Weights in int8, a scale for each row, in the layout of the node that reads them.
pub struct Int8 {
    pub weight: Weight,
    /// Of each row.
    pub scales: Vec<f32>,
    /// Integers are between −`limit` and `limit`.
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
        let inverse = |(at, scale): (usize, &f32)| if self.weight.is_zeroed(at) { 0.0 } else { 1.0 / scale };
        let inverse: Vec<f32> = self.scales.iter().enumerate().map(inverse).collect();
        let quantize = |v: f32, inverse: f32| round((v * inverse).max(-self.limit).min(self.limit)) as i8;
        let mut integers: Vec<i8> = Vec::new();
        if self.weight.is_input_major() {
            // Stored [in, out], or [heads, in, out]: scales go along the last axis and by heads, factors along the one
            // before.
            let shape = self.weight.tensor.shape();
            let [inputs, outputs] = [shape[shape.len() - 2], shape[shape.len() - 1]];
            let mut at = 0;
            return self.weight.tensor.for_each_block(&mut Vec::new(), |block| {
                integers.clear();
                for channel in block.chunks_exact(outputs) {
                    let factor = self.weight.factor(at % inputs);
                    let inverse = &inverse[at / inputs * outputs..][..outputs];
                    integers.extend(channel.iter().zip(inverse).map(|(v, inverse)| quantize(v * factor, *inverse)));
                    at += 1;
                }
                each(bytemuck::cast_slice(&integers))
            });
        }
        let [_, columns] = self.weight.rows();
        let mut at = 0;
        self.weight.for_each_rows(|block| {
            integers.clear();
            for row in block.chunks_exact(columns) {
                integers.extend(row.iter().map(|&v| quantize(v, inverse[at])));
                at += 1;
            }
            each(bytemuck::cast_slice(&integers))
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::layers::WeightKind;
    use super::*;

    /// All that a constant hands out.
    pub fn bytes(data: &Data) -> Vec<u8> {
        let Data::Packed(packed) = data else { panic!("not packed") };
        let mut out = Vec::new();
        packed
            .write(&mut |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        assert_eq!(out.len() as u64, data.byte_len());
        out
    }

    #[test]
    fn what_is_beyond_float16_is_clamped_and_counted() {
        let mut values = [1.0, -65504.0, 65520.0, -1e9, f32::MIN];
        assert_eq!(clamp(&mut values), 2);
        assert_eq!(values, [1.0, -65504.0, 65504.0, -65504.0, -65504.0]);
        assert_eq!(clamp(&mut [65504.0, 0.0]), 0);
    }

    #[test]
    fn weights_are_rounded_to_the_nearest_float16() {
        // 1 + 2⁻¹¹ lies midway between two of them: the even one is 1. Below 2⁻²⁴ numbers are multiples of it.
        let values = [1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11), 2f32.powi(-24) * 1.4, 1e6];
        let clamped = Arc::default();
        let data = Float16::data(Tensor::from_f32("w", &[4], &values), &clamped);
        let found: Vec<f32> = bytes(&data).chunks(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32()).collect();
        assert_eq!(found, [1.0, 1.0 + 2f32.powi(-9), 2f32.powi(-24), 65504.0]);
        assert_eq!(clamped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn int8_is_in_the_layout_of_the_node() {
        let weight = Weight::new(Tensor::from_f32("w", &[2, 3], &[1.0, 2.0, 3.0, -4.0, 5.0, -6.0]), WeightKind::Matrix);
        let weight = weight.with_factors([1.0, 2.0].into()).without_rows(&[1]);
        let data = Int8 { weight, scales: vec![1.0, 1.0, 0.5], limit: 10.0 }.data();
        let integers: Vec<i8> = bytes(&data).into_iter().map(|byte| byte as i8).collect();
        assert_eq!(integers, [1, 0, 6, -8, 0, -10]);
    }
}
