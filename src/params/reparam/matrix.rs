//! Folding into matrices: a BatchNorm before one, a factor for each row, and a query that is constant.

use super::{Norm, rounded, wide};
use crate::tensor::{Error, Tensor};

/// What the rows of a matrix are multiplied by.
#[derive(Clone, Debug)]
pub enum RowScale {
    One,
    /// The first `rows` by `factor`, the others by one.
    First {
        rows: usize,
        factor: f64,
    },
    /// Each by a number of its own: as many as there are rows.
    Each(Tensor),
}

impl RowScale {
    fn factors(&self, rows: usize) -> Result<Vec<f64>, Error> {
        Ok(match self {
            RowScale::One => vec![1.0; rows],
            RowScale::First { rows: first, factor } => {
                (0..rows).map(|row| if row < *first { *factor } else { 1.0 }).collect()
            }
            RowScale::Each(factors) => wide(factors)?,
        })
    }
}

/// A matrix `[out, in]` and bias `[out]` after a BatchNorm of its input, rows times `row_scale`. Both are
/// computed when one of them is first read, and errors are reported then.
pub fn linear_after(
    weight: &Tensor,
    bias: Option<&Tensor>,
    norm: Option<&Norm>,
    row_scale: RowScale,
) -> (Tensor, Tensor) {
    let shape = weight.shape();
    let (rows, columns) = (shape[0], shape[1]);
    let name = weight.source_names().join("`, `");
    let (weight, bias, norm) = (weight.clone(), bias.cloned(), norm.cloned());
    let [weight, bias] = Tensor::computed(&name, [&shape, &shape[..1]], move || {
        let (mut values, factors) = (wide(&weight)?, row_scale.factors(rows)?);
        let mut shifts = bias.as_ref().map_or_else(|| Ok(vec![0.0; rows]), wide)?;
        let bn = norm.as_ref().map(Norm::affine).transpose()?;
        for (row, factor) in factors.into_iter().enumerate() {
            let weights = &mut values[row * columns..][..columns];
            if let Some(bn) = &bn {
                shifts[row] += weights.iter().zip(&bn.shift).map(|(w, shift)| w * shift).sum::<f64>();
                weights.iter_mut().zip(&bn.scale).for_each(|(w, scale)| *w *= scale);
            }
            weights.iter_mut().for_each(|w| *w *= factor);
            shifts[row] *= factor;
        }
        Ok([values, shifts].map(rounded))
    });
    (weight, bias)
}

/// Columns of a matrix `[out, channels]` in the order of [`Linear::folded`](super::Linear::folded).
///
/// # Errors
/// What reading the tensor reports, where no view can express it.
pub fn columns_interleaved(weight: &Tensor, ratio: usize) -> Result<Tensor, Error> {
    let (out, channels) = (weight.shape()[0], weight.shape()[1]);
    weight.reshape(&[out, channels / ratio, ratio])?.permute(&[0, 2, 1]).reshape(&[out, channels])
}

/// A query that is the same for every input, folded into the keys' matrix: for each head
/// Wkᵀ(Wq·latent + bq)/√head_dim, `[1, heads, D]`. The keys' bias adds the same to every score, so it
/// is not needed. It is computed when it is first read, and errors are reported then.
pub fn constant_query(latent: &Tensor, query: (&Tensor, &Tensor), keys: &Tensor, heads: usize) -> Tensor {
    let d = latent.len();
    let (latent, weight, bias, keys) = (latent.clone(), query.0.clone(), query.1.clone(), keys.clone());
    let [query] = Tensor::computed("query", [&[1, heads, d]], move || {
        let (latent, weight, bias, keys) = (wide(&latent)?, weight.to_f32()?, wide(&bias)?, keys.to_f32()?);
        let head_dim = d / heads;
        let scale = (head_dim as f64).powf(-0.5);
        let mut out = vec![0.0; heads * d];
        for (row, (weights, keys)) in weight.chunks_exact(d).zip(keys.chunks_exact(d)).enumerate() {
            let dot: f64 = weights.iter().zip(&latent).map(|(&w, x)| f64::from(w) * x).sum();
            let q = (dot + bias[row]) * scale;
            let head = &mut out[row / head_dim * d..][..d];
            head.iter_mut().zip(keys).for_each(|(out, &k)| *out += q * f64::from(k));
        }
        Ok([rounded(out)])
    });
    query
}

#[cfg(test)]
mod tests {
    use super::super::tests::{norm, tensor};
    use super::*;

    #[test]
    fn a_constant_query_gives_the_scores_of_the_whole_attention() {
        let (d, heads) = (6, 2);
        let (latent, wq, bq, wk) = (tensor(&[1, 1, d], 1), tensor(&[d, d], 2), tensor(&[d], 3), tensor(&[d, d], 4));
        let folded = constant_query(&latent, (&wq, &bq), &wk, heads).to_f32().unwrap();
        let [latent, wq, bq, wk] = [&latent, &wq, &bq, &wk].map(|t| wide(t).unwrap());
        let x: Vec<f64> = (0..d).map(|i| i as f64 * 0.3 - 0.7).collect();
        let times = |w: &[f64], x: &[f64], row: usize| -> f64 { (0..d).map(|i| w[row * d + i] * x[i]).sum() };
        for head in 0..heads {
            let rows = head * 3..head * 3 + 3;
            let want: f64 =
                rows.map(|r| (times(&wq, &latent, r) + bq[r]) * times(&wk, &x, r)).sum::<f64>() / 3f64.sqrt();
            let got: f64 = (0..d).map(|i| f64::from(folded[head * d + i]) * x[i]).sum();
            assert!((got - want).abs() < 1e-5 * want.abs(), "{got} {want}");
        }
    }

    #[test]
    fn a_batch_norm_before_a_matrix_folds_into_it() {
        let (w, b, norm) = (tensor(&[3, 2], 1), tensor(&[3], 2), norm(2, 3));
        let bn = norm.affine().unwrap();
        let x = [0.7, -1.3];
        let y: Vec<f64> = (0..2).map(|i| bn.scale[i] * x[i] + bn.shift[i]).collect();
        let (wide_w, wide_b) = (wide(&w).unwrap(), wide(&b).unwrap());
        let each = Tensor::from_f32("scale", &[3, 1, 1], &[0.5, 2.0, -1.0]);
        for (row_scale, factors) in [
            (RowScale::One, [1.0, 1.0, 1.0]),
            (RowScale::First { rows: 1, factor: 0.5 }, [0.5, 1.0, 1.0]),
            (RowScale::Each(each), [0.5, 2.0, -1.0]),
        ] {
            let (folded_w, folded_b) = linear_after(&w, Some(&b), Some(&norm), row_scale);
            assert_eq!((folded_w.shape(), folded_b.shape()), (vec![3, 2], vec![3]));
            let (folded_w, folded_b) = (folded_w.to_f32().unwrap(), folded_b.to_f32().unwrap());
            for row in 0..3 {
                let want = factors[row] * (wide_w[row * 2] * y[0] + wide_w[row * 2 + 1] * y[1] + wide_b[row]);
                let got = f64::from(folded_w[row * 2]) * x[0]
                    + f64::from(folded_w[row * 2 + 1]) * x[1]
                    + f64::from(folded_b[row]);
                assert!((got - want).abs() < 1e-5, "{got} {want}");
            }
        }
    }

    #[test]
    fn columns_are_ordered_as_interleaved_channels() {
        let matrix = Tensor::from_f32("m", &[2, 6], &(0..12).map(|i| i as f32).collect::<Vec<_>>());
        let got = columns_interleaved(&matrix, 2).unwrap().to_f32().unwrap();
        assert_eq!(got, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
    }
}
