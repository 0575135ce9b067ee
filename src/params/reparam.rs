//! Folding training-time branches into one convolution, as arithmetic in float64.
//!
//! With s = γ/√(σ² + ε), BatchNorm is y = s·x + (β − μ·s), so
//!
//! ```text
//! BN(conv(x))            ⇒  w' = s·w,  b' = s·b + β − μ·s
//! BN(x)                  ⇒  the 1 × 1 identity convolution, likewise
//! a k×k and a 1×1 branch ⇒  the 1×1 kernel at the centre of k×k zeros, kernels added
//! x + g·(mixer − norm)   ⇒  I + g·(w_mixer − w_norm)          RepMixer, Vasu et al. 2023, eq. 2-3
//! W·BN(x) + b            ⇒  W' = W·diag(s),  b' = b + W·(β − μ·s)
//! ```
//!
//! All of these hold exactly, for convolutions padded with zeros too: a BatchNorm is only ever
//! folded into what comes *before* it there, never its shift through the padding that follows.
//!
//! What is written has its shape at once and is computed when it is first read: building a tower to list what its
//! configuration needs computes nothing.

use crate::tensor::{Error, Tensor};

mod matrix;
mod rescale;

pub use matrix::{RowScale, columns_interleaved, constant_query, linear_after};
pub use rescale::Rescale;

/// A linear map over planes as a checkpoint holds it: convolutions and BatchNorms, branches and
/// their sums. Folding makes one convolution of it; a tower may also write it as it is.
#[derive(Clone, Debug)]
pub enum Linear {
    /// The input as it is.
    Identity,
    /// A kernel `[out, in / groups, height, width]`, a bias, and the name they are stored under.
    Conv {
        name: String,
        weight: Tensor,
        bias: Option<Tensor>,
    },
    /// Followed by a BatchNorm.
    Normed(Box<Linear>, Norm),
    Sum(Box<Linear>, Box<Linear>),
    Difference(Box<Linear>, Box<Linear>),
    /// Each channel times a factor of the layer scale `[channels, 1, 1]` stored under `name`.
    Scaled {
        of: Box<Linear>,
        name: String,
        gamma: Tensor,
    },
    /// Of pixels that are scaled and shifted first.
    After {
        of: Box<Linear>,
        rescale: Rescale,
    },
}

impl Linear {
    pub fn normed(self, norm: Norm) -> Linear {
        Linear::Normed(Box::new(self), norm)
    }

    pub fn plus(self, other: Linear) -> Linear {
        Linear::Sum(Box::new(self), Box::new(other))
    }

    pub fn minus(self, other: Linear) -> Linear {
        Linear::Difference(Box::new(self), Box::new(other))
    }

    pub fn scaled(self, name: String, gamma: Tensor) -> Linear {
        Linear::Scaled { of: Box::new(self), name, gamma }
    }

    /// Kernel of `shape` `[out, in / groups, height, width]` and bias `[out]` of one convolution that does the same, in
    /// float32 and rounded once.
    ///
    /// `interleaved` are the numbers r of runs that input and output channels are ordered in: 0, r, 2r, …, 1, r + 1, ….
    /// With 1 they keep their order.
    ///
    /// Both are computed when one of them is first read, and errors are reported then.
    pub fn folded(&self, name: &str, shape: [usize; 4], groups: usize, interleaved: [usize; 2]) -> (Tensor, Tensor) {
        let (linear, [inputs, outputs]) = (self.clone(), interleaved);
        let [weight, bias] = Tensor::computed(name, [&shape, &shape[..1]], move || {
            let conv = linear.fold(shape, groups)?.inputs_interleaved(inputs).outputs_interleaved(outputs);
            Ok([conv.weight, conv.bias].map(rounded))
        });
        (weight, bias)
    }

    /// One convolution with a kernel of `shape` that does the same.
    fn fold(&self, shape: [usize; 4], groups: usize) -> Result<Conv, Error> {
        Ok(match self {
            Linear::Identity => Conv::identity(shape, groups),
            Linear::Conv { weight, bias, .. } => Conv::new(weight, bias.as_ref())?.padded(shape[2], shape[3]),
            Linear::Normed(of, norm) => of.fold(shape, groups)?.batch_norm(&norm.affine()?),
            Linear::Sum(a, b) => a.fold(shape, groups)?.plus(&b.fold(shape, groups)?),
            Linear::Difference(a, b) => a.fold(shape, groups)?.minus(&b.fold(shape, groups)?),
            Linear::Scaled { of, gamma, .. } => of.fold(shape, groups)?.scaled(&wide(gamma)?),
            Linear::After { of, rescale } => of.fold(shape, groups)?.after(rescale),
        })
    }
}

/// A BatchNorm's parameters, and the name they are stored under.
#[derive(Clone, Debug)]
pub struct Norm {
    pub name: String,
    pub weight: Tensor,
    pub bias: Tensor,
    pub mean: Tensor,
    pub var: Tensor,
    pub eps: f32,
}

/// A convolution's kernel `[out, in / groups, height, width]` and bias, in float64.
#[derive(Clone, Debug, PartialEq)]
struct Conv {
    shape: [usize; 4],
    weight: Vec<f64>,
    bias: Vec<f64>,
}

/// A BatchNorm at inference: y = scale·x + shift.
#[derive(Clone, Debug, PartialEq)]
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

fn wide(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(tensor.to_f32()?.into_iter().map(f64::from).collect())
}

fn rounded(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|v| v as f32).collect()
}

impl Norm {
    /// As a scale and a shift.
    fn affine(&self) -> Result<Affine, Error> {
        let (weight, bias, mean, var) = (wide(&self.weight)?, wide(&self.bias)?, wide(&self.mean)?, wide(&self.var)?);
        let scale: Vec<f64> = weight.iter().zip(&var).map(|(w, v)| w / (v + f64::from(self.eps)).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Affine { scale, shift })
    }
}

impl Conv {
    /// From a kernel and, where there is one, a bias.
    fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Conv, Error> {
        let shape = weight.shape();
        let shape = [shape[0], shape[1], shape[2], shape[3]];
        let bias = bias.map_or_else(|| Ok(vec![0.0; shape[0]]), wide)?;
        Ok(Conv { shape, weight: wide(weight)?, bias })
    }

    /// The convolution that changes nothing: of this shape, with `groups` groups.
    fn identity(shape: [usize; 4], groups: usize) -> Conv {
        let [out, per_group, height, width] = shape;
        let mut conv = Conv { shape, weight: vec![0.0; shape.iter().product()], bias: vec![0.0; out] };
        for channel in 0..out {
            // Output channel c of group g reads input channel c, which is c modulo the group's size.
            let input = channel % (out / groups).max(1) % per_group;
            conv.weight[((channel * per_group + input) * height + height / 2) * width + width / 2] = 1.0;
        }
        conv
    }

    /// Followed by a BatchNorm.
    fn batch_norm(mut self, bn: &Affine) -> Conv {
        self = self.scaled(&bn.scale);
        self.bias.iter_mut().zip(&bn.shift).for_each(|(b, shift)| *b += shift);
        self
    }

    /// Each output channel times a factor.
    fn scaled(mut self, factors: &[f64]) -> Conv {
        let kernel = self.weight.len() / self.shape[0].max(1);
        for (weights, factor) in self.weight.chunks_mut(kernel.max(1)).zip(factors) {
            weights.iter_mut().for_each(|w| *w *= factor);
        }
        self.bias.iter_mut().zip(factors).for_each(|(b, factor)| *b *= factor);
        self
    }

    /// Output channels, r = `ratio` of each input channel, as r runs over all input channels: 0, r, 2r, …, 1, r + 1, ….
    fn outputs_interleaved(self, ratio: usize) -> Conv {
        if ratio == 1 {
            return self;
        }
        let row = self.weight.len() / self.shape[0].max(1);
        let order = interleaved(self.shape[0], ratio);
        let weight = order.iter().flat_map(|&from| self.weight[from * row..][..row].iter().copied()).collect();
        Conv { shape: self.shape, weight, bias: order.iter().map(|&from| self.bias[from]).collect() }
    }

    /// Takes input channels in the order of [`Conv::outputs_interleaved`]; not grouped.
    fn inputs_interleaved(self, ratio: usize) -> Conv {
        if ratio == 1 {
            return self;
        }
        let [_, inputs, height, width] = self.shape;
        let (plane, order) = (height * width, interleaved(inputs, ratio));
        let row = |row: &[f64]| -> Vec<f64> {
            order.iter().flat_map(|&from| row[from * plane..][..plane].iter().copied()).collect()
        };
        let weight = self.weight.chunks(inputs * plane).flat_map(row).collect();
        Conv { weight, ..self }
    }

    /// The same convolution with a larger kernel, both sizes odd.
    fn padded(&self, height: usize, width: usize) -> Conv {
        let [out, per_group, h, w] = self.shape;
        let (top, left) = ((height - h) / 2, (width - w) / 2);
        let mut weight = vec![0.0; out * per_group * height * width];
        for plane in 0..out * per_group {
            for row in 0..h {
                let to = (plane * height + top + row) * width + left;
                let from = (plane * h + row) * w;
                weight[to..to + w].copy_from_slice(&self.weight[from..from + w]);
            }
        }
        Conv { shape: [out, per_group, height, width], weight, bias: self.bias.clone() }
    }

    /// The sum of two convolutions of the same input: the smaller kernel is padded.
    fn plus(self, other: &Conv) -> Conv {
        self.combined(other, 1.0)
    }

    /// Their difference.
    fn minus(self, other: &Conv) -> Conv {
        self.combined(other, -1.0)
    }

    fn combined(mut self, other: &Conv, sign: f64) -> Conv {
        let other = other.padded(self.shape[2], self.shape[3]);
        self.weight.iter_mut().zip(&other.weight).for_each(|(a, b)| *a += sign * b);
        self.bias.iter_mut().zip(&other.bias).for_each(|(a, b)| *a += sign * b);
        self
    }
}

/// Where each channel comes from when those made of one input channel, r = `ratio` neighbours, become r runs over all
/// input channels: 0, r, 2r, …, 1, r + 1, ….
fn interleaved(channels: usize, ratio: usize) -> Vec<usize> {
    let inputs = channels / ratio;
    (0..channels).map(|to| to % inputs * ratio + to / inputs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn tensor(shape: &[usize], seed: u32) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n as u32).map(|i| ((i * 37 + seed * 101) % 19) as f32 / 7.0 + 0.1).collect();
        Tensor::from_f32("t", shape, &values)
    }

    pub fn norm(channels: usize, seed: u32) -> Norm {
        let t = |s| tensor(&[channels], seed + s);
        Norm { name: "bn".to_owned(), weight: t(0), bias: t(1), mean: t(2), var: t(3), eps: 1e-5 }
    }

    fn bn(channels: usize, seed: u32) -> Affine {
        norm(channels, seed).affine().unwrap()
    }

    /// A depthwise or dense convolution with zero padding, by definition.
    fn run(conv: &Conv, x: &[Vec<f64>], side: usize, groups: usize) -> Vec<Vec<f64>> {
        let [out, per_group, h, w] = conv.shape;
        let (ph, pw) = (h / 2, w / 2);
        let mut y = vec![vec![0.0; side * side]; out];
        for (o, y) in y.iter_mut().enumerate() {
            let group = o / (out / groups);
            for (at, y) in y.iter_mut().enumerate() {
                let (row, column) = (at / side, at % side);
                *y = conv.bias[o];
                for i in 0..per_group {
                    for r in 0..h {
                        for c in 0..w {
                            let (Some(r0), Some(c0)) = ((row + r).checked_sub(ph), (column + c).checked_sub(pw)) else {
                                continue;
                            };
                            if r0 < side && c0 < side {
                                let weight = conv.weight[((o * per_group + i) * h + r) * w + c];
                                *y += weight * x[group * per_group + i][r0 * side + c0];
                            }
                        }
                    }
                }
            }
        }
        y
    }

    fn close(a: &[Vec<f64>], b: &[Vec<f64>]) {
        a.iter().flatten().zip(b.iter().flatten()).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{a} {b}"));
    }

    fn pixels(channels: usize, side: usize) -> Vec<Vec<f64>> {
        (0..channels).map(|c| (0..side * side).map(|i| ((i * 13 + c * 7) % 11) as f64 - 4.0).collect()).collect()
    }

    #[test]
    fn mobile_one_branches_become_one_convolution_borders_included() {
        for (groups, per_group) in [(4, 1), (1, 4)] {
            let (channels, side) = (4, 5);
            let x = pixels(channels, side);
            let kxk = Conv::new(&tensor(&[channels, per_group, 3, 3], 1), None).unwrap().batch_norm(&bn(channels, 2));
            let one = Conv::new(&tensor(&[channels, per_group, 1, 1], 3), None).unwrap().batch_norm(&bn(channels, 4));
            let skip = Conv::identity([channels, per_group, 1, 1], groups).batch_norm(&bn(channels, 5));
            let parts = [&kxk, &one, &skip].map(|c| run(c, &x, side, groups));
            let want: Vec<Vec<f64>> = (0..channels)
                .map(|c| (0..side * side).map(|i| parts.iter().map(|p| p[c][i]).sum()).collect())
                .collect();
            close(&run(&kxk.clone().plus(&one).plus(&skip), &x, side, groups), &want);
        }
    }

    #[test]
    fn rep_mixer_becomes_one_convolution() {
        let (channels, side) = (3, 4);
        let x = pixels(channels, side);
        let shape = [channels, 1, 3, 3];
        let gamma = tensor(&[channels, 1, 1], 9);
        let conv = Linear::Conv { name: "conv".to_owned(), weight: tensor(&shape, 1), bias: None };
        let mixer = conv.normed(norm(channels, 2));
        let skip = Linear::Identity.normed(norm(channels, 3));
        let run_of = |l: &Linear| run(&l.fold(shape, channels).unwrap(), &x, side, channels);
        let (m, n, g) = (run_of(&mixer), run_of(&skip), wide(&gamma).unwrap());
        let want: Vec<Vec<f64>> =
            (0..channels).map(|c| (0..side * side).map(|i| x[c][i] + g[c] * (m[c][i] - n[c][i])).collect()).collect();
        let block = Linear::Identity.plus(mixer.minus(skip).scaled("gamma".to_owned(), gamma));
        close(&run_of(&block), &want);
    }

    #[test]
    fn several_outputs_a_channel_become_a_plain_depthwise_convolution() {
        let (channels, side, ratio) = (3, 4, 2);
        let x = pixels(channels, side);
        let conv = Conv::new(&tensor(&[6, 1, 3, 3], 1), Some(&tensor(&[6], 2))).unwrap();
        let next = Conv::new(&tensor(&[4, 6, 1, 1], 3), None).unwrap();
        let want = run(&next, &run(&conv, &x, side, channels), side, 1);
        let repeated = [x.clone(), x].concat();
        let y = run(&conv.outputs_interleaved(ratio), &repeated, side, 6);
        close(&run(&next.inputs_interleaved(ratio), &y, side, 1), &want);
    }

    #[test]
    fn an_identity_is_centred_in_kernels_that_are_not_square() {
        let conv = Conv::identity([2, 1, 1, 11], 2);
        assert_eq!(conv.weight.iter().position(|&w| w == 1.0), Some(5));
        assert_eq!(conv.weight.iter().sum::<f64>(), 2.0);
    }

    #[test]
    fn nothing_is_read_before_the_result_is() {
        let damaged = Tensor::from_f32("w", &[2, 2, 1, 1], &[1.0, 2.0, 3.0, f32::INFINITY]);
        let conv = Linear::Conv { name: "c".to_owned(), weight: damaged, bias: None };
        let (weight, bias) = conv.normed(norm(2, 1)).folded("c", [2, 2, 3, 3], 1, [1, 1]);
        assert_eq!((weight.shape(), bias.shape()), (vec![2, 2, 3, 3], vec![2]));
        for error in [weight.to_f32().unwrap_err(), bias.to_f32().unwrap_err()] {
            assert!(error.to_string().contains("`w` holds inf at flat index 3"), "{error}");
        }
    }
}
