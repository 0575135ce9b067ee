//! Tensors whose values are computed when they are first read.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Deferred, Error, Storage, Tensor};

/// The values of `N` tensors that are computed together, once.
struct Computed<const N: usize, F> {
    compute: F,
    values: OnceLock<Result<[Bytes; N], String>>,
}

/// One of them.
struct Output<const N: usize, F> {
    of: Arc<Computed<N, F>>,
    at: usize,
}

impl<const N: usize, F> Deferred for Output<N, F>
where
    F: Fn() -> Result<[Vec<f32>; N], Error> + Send + Sync,
{
    fn bytes(&self) -> Result<Bytes, String> {
        let in_bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into();
        let compute = || Ok((self.of.compute)().map_err(|e| e.to_string())?.map(in_bytes));
        self.of.values.get_or_init(compute).as_ref().map(|values| values[self.at].clone()).map_err(Clone::clone)
    }
}

impl Tensor {
    /// Tensors of these shapes in float32, whose row-major values `compute` gives when one of them is first read. They
    /// are kept until the last of the tensors is dropped.
    ///
    /// An error of `compute` is reported as [`Error::Storage`] by what reads the tensor.
    pub fn computed<const N: usize>(
        source_name: &str,
        shapes: [&[usize]; N],
        compute: impl Fn() -> Result<[Vec<f32>; N], Error> + Send + Sync + 'static,
    ) -> [Tensor; N] {
        let lengths = shapes.map(|shape| shape.iter().product::<usize>());
        let name = source_name.to_owned();
        let compute = move || {
            let values = compute()?;
            assert_eq!(lengths, values.each_ref().map(Vec::len), "{name}: values fill the shapes");
            Ok(values)
        };
        let of = Arc::new(Computed { compute, values: OnceLock::new() });
        let mut at = 0..N;
        shapes.map(|shape| {
            let output = Output { of: of.clone(), at: at.next().unwrap_or(0) };
            Tensor::whole(source_name, shape, 1, Storage::Deferred(Arc::new(output)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn values_are_computed_once_and_only_when_read() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        let [weight, bias] = Tensor::computed("t", [&[2, 2], &[2]], move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok([vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]])
        });
        assert_eq!((weight.shape(), bias.shape()), (vec![2, 2], vec![2]));
        let turned = weight.permute(&[1, 0]);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(turned.to_f32().unwrap(), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(bias.rows(1..2).unwrap().to_f32().unwrap(), [6.0]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_error_is_reported_by_whoever_reads() {
        let damaged = Tensor::from_f32("w", &[1], &[f32::NAN]);
        let [sum] = Tensor::computed("sum", [&[1]], move || Ok([damaged.to_f32()?]));
        for _ in 0..2 {
            let error = sum.to_f32().unwrap_err().to_string();
            assert!(error.starts_with("`sum`: `w` holds NaN at flat index 0"), "{error}");
        }
    }
}
