//! The scale and shift of preprocessing, folded into the convolution that reads the pixels.
//!
//! ```text
//! conv(s·x + t)  ⇒  w' = w·s,  b' = b + Σ w·t
//! ```
//!
//! The kernel is exact always, the bias only where the convolution is not padded: padding is zero after the shift, so a
//! shift before a padded convolution must stay in front of it.

use super::{Conv, Linear};

/// scale·x + shift, channel by channel of three.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rescale {
    pub scale: [f64; 3],
    pub shift: [f64; 3],
}

impl Linear {
    /// The same map of pixels that are scaled and shifted first.
    pub fn after(self, rescale: Option<Rescale>) -> Linear {
        match rescale {
            Some(rescale) => Linear::After { of: Box::new(self), rescale },
            None => self,
        }
    }
}

impl Conv {
    /// The same convolution of three channels that are scaled and shifted first; not grouped.
    pub(super) fn after(mut self, rescale: &Rescale) -> Conv {
        let [_, inputs, height, width] = self.shape;
        let plane = height * width;
        for (kernel, bias) in self.weight.chunks_mut(inputs * plane).zip(&mut self.bias) {
            for (channel, weights) in kernel.chunks_mut(plane).enumerate() {
                *bias += weights.iter().sum::<f64>() * rescale.shift[channel];
                weights.iter_mut().for_each(|weight| *weight *= rescale.scale[channel]);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn a_scale_and_a_shift_go_into_kernel_and_bias() {
        let weight = Tensor::from_f32("w", &[1, 3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let rescale = Rescale { scale: [1.0, 0.5, 2.0], shift: [1.0, 0.0, -1.0] };
        let conv = Linear::Conv { name: "w".to_owned(), weight, bias: None }.after(Some(rescale));
        let (weight, bias) = conv.folded("w", [1, 3, 1, 2], 1, [1, 1]);
        assert_eq!(weight.to_f32().unwrap(), [1.0, 2.0, 1.5, 2.0, 10.0, 12.0]);
        assert_eq!(bias.to_f32().unwrap(), [3.0 - 11.0]);
    }
}
