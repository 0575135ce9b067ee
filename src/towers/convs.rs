//! Convolutions with what training puts around them: read as the checkpoint holds them, written as
//! one convolution each, or branch by branch where folding is turned off.

use super::scope::Scope;
use crate::onnx::graph::Role;
use crate::onnx::{ConvAttributes, Ops, Value};
use crate::params::Error;
use crate::params::reparam::{Linear, Norm};
use crate::tensor::Tensor;

/// How a convolution moves over its input; pairs are height and width.
#[derive(Clone, Copy)]
pub struct Geometry {
    /// Of the folded kernel, `[out, in / groups, height, width]`.
    pub shape: [usize; 4],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub groups: usize,
}

impl Geometry {
    /// Stride 1, as many positions out as in.
    pub fn same(shape: [usize; 4], groups: usize) -> Geometry {
        Geometry { shape, stride: [1, 1], padding: [shape[2] / 2, shape[3] / 2], groups }
    }
}

/// Puts a linear map into the graph, folded under this scope's name.
pub fn emit(s: &Scope, x: Value, linear: &Linear, g: Geometry) -> Result<Value, Error> {
    emit_interleaved(s, x, linear, g, [1, 1])
}

/// As [`emit`], with input and output channels in the order a depthwise convolution of so many
/// outputs a channel leaves them in ([`emit_depthwise`]); 1 is their own order.
pub fn emit_interleaved(
    s: &Scope,
    x: Value,
    linear: &Linear,
    g: Geometry,
    [inputs, outputs]: [usize; 2],
) -> Result<Value, Error> {
    if !s.options().fold {
        return unfolded(s, x, linear, g);
    }
    Ok(one(s, x, linear.folded(&s.name(), g.shape, g.groups, [inputs, outputs]), g))
}

/// A depthwise convolution, and how many outputs it makes of a channel if that changed their order.
///
/// ONNX Runtime has a fast kernel for one output a channel only. Of several, the same comes out of
/// the channels repeated, as runs over all channels instead of side by side; what reads them has its
/// weights in that order.
pub fn emit_depthwise(s: &Scope, x: Value, linear: &Linear, g: Geometry) -> Result<(Value, usize), Error> {
    let ratio = g.shape[0] / g.groups;
    if ratio == 1 || !s.options().fold || !s.options().plain_depthwise {
        return Ok((emit(s, x, linear, g)?, 1));
    }
    let folded = linear.folded(&s.name(), g.shape, g.groups, [1, ratio]);
    let x = s.concat(&vec![x; ratio], 1);
    Ok((one(s, x, folded, Geometry { groups: g.shape[0], ..g }), ratio))
}

/// One convolution, its weights under this scope's name.
fn one(s: &Scope, x: Value, (weight, bias): (Tensor, Tensor), g: Geometry) -> Value {
    conv(s, x, s.initializer("weight", Role::Kernel, weight), Some(s.initializer("bias", Role::Bias, bias)), g)
}

/// The same as the checkpoint has it.
fn unfolded(s: &Scope, x: Value, linear: &Linear, g: Geometry) -> Result<Value, Error> {
    Ok(match linear {
        Linear::Identity => x,
        Linear::Conv { name, weight, bias } => {
            let shape = weight.shape();
            let shape = [shape[0], shape[1], shape[2], shape[3]];
            // A smaller kernel sees the middle of what the whole one does.
            let padding = [0, 1].map(|i| g.padding[i].saturating_sub((g.shape[2 + i] - shape[2 + i]) / 2));
            let weight = s.graph().initializer(&format!("{name}.weight"), Role::Kernel, weight.clone());
            let bias =
                bias.as_ref().map(|bias| s.graph().initializer(&format!("{name}.bias"), Role::Bias, bias.clone()));
            conv(s, x, weight, bias, Geometry { shape, padding, ..g })
        }
        Linear::Normed(of, norm) => batch_normalization(s, unfolded(s, x, of, g)?, norm),
        Linear::Sum(a, b) => s.add(unfolded(s, x, a, g)?, unfolded(s, x, b, g)?),
        Linear::Difference(a, b) => s.sub(unfolded(s, x, a, g)?, unfolded(s, x, b, g)?),
        Linear::Scaled { of, name, gamma } => {
            let y = unfolded(s, x, of, g)?;
            s.mul(y, s.graph().initializer(name, Role::Norm, gamma.clone()))
        }
        Linear::After { of, rescale } => {
            let numbers = |name: &str, values: [f64; 3]| {
                let values = values.map(|v| v as f32);
                s.graph().initializer(
                    &format!("pixels.{name}"),
                    Role::Constant,
                    Tensor::from_f32(name, &[3, 1, 1], &values),
                )
            };
            let y = s.mul(x, numbers("scale", rescale.scale));
            let y = if rescale.shift == [0.0; 3] { y } else { s.add(y, numbers("shift", rescale.shift)) };
            unfolded(s, y, of, g)?
        }
    })
}

fn conv(s: &Scope, x: Value, weight: Value, bias: Option<Value>, g: Geometry) -> Value {
    let kernel = [g.shape[2], g.shape[3]];
    s.conv(x, weight, bias, &ConvAttributes { kernel, stride: g.stride, padding: g.padding, groups: g.groups })
}

/// A BatchNorm as a node of its own.
pub fn batch_normalization(s: &Scope, x: Value, norm: &Norm) -> Value {
    let [weight, bias, mean, var] =
        [("weight", &norm.weight), ("bias", &norm.bias), ("running_mean", &norm.mean), ("running_var", &norm.var)]
            .map(|(part, tensor)| s.graph().initializer(&format!("{}.{part}", norm.name), Role::Norm, tensor.clone()));
    s.batch_normalization(x, [weight, bias, mean, var], norm.eps)
}

/// A convolution with a bias.
pub fn biased(s: &Scope, shape: [usize; 4]) -> Result<Linear, Error> {
    let (weight, bias) = (s.param("weight", &shape)?, s.param("bias", &[shape[0]])?);
    Ok(Linear::Conv { name: s.name(), weight, bias: Some(bias) })
}

/// A convolution without one.
pub fn unbiased(s: &Scope, shape: [usize; 4]) -> Result<Linear, Error> {
    Ok(Linear::Conv { name: s.name(), weight: s.param("weight", &shape)?, bias: None })
}

/// A convolution without bias, followed by BatchNorm.
pub fn conv_bn(s: &Scope, shape: [usize; 4], eps: f32) -> Result<Linear, Error> {
    Ok(unbiased(&s.at("conv"), shape)?.normed(batch_norm(&s.at("bn"), shape[0], eps)?))
}

/// A BatchNorm's parameters.
pub fn batch_norm(s: &Scope, channels: usize, eps: f32) -> Result<Norm, Error> {
    let read = |name| s.param(name, &[channels]);
    Ok(Norm {
        name: s.name(),
        weight: read("weight")?,
        bias: read("bias")?,
        mean: read("running_mean")?,
        var: read("running_var")?,
        eps,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, OPTIONS};
    use super::*;

    /// A sum of convolutions, BatchNorms and the identity; the stored outputs are those of the activation after it.
    #[test]
    fn branches_are_those_of_timm() {
        for name in ["mobile_one", "mobile_one_stem"] {
            let case = Case::read(name);
            let (d_in, d_out, groups): (usize, usize, usize) =
                (case.setting("d_in"), case.setting("d_out"), case.setting("groups"));
            let (kernel, stride, eps) = (case.setting("kernel"), case.setting("stride"), case.setting("bn_eps"));
            let shape = [d_out, d_in / groups, kernel, kernel];
            case.check(OPTIONS, &|s| {
                let x = case.input(s, "input");
                let mut sum = conv_bn(&s.at("conv_kxk").at(0), shape, eps)?;
                sum = sum.plus(conv_bn(&s.at("conv_scale"), [d_out, d_in / groups, 1, 1], eps)?);
                if d_in == d_out {
                    sum = sum.plus(Linear::Identity.normed(batch_norm(&s.at("identity"), d_out, eps)?));
                }
                let geometry = Geometry { stride: [stride; 2], ..Geometry::same(shape, groups) };
                Ok(s.gelu(emit(&s.at("reparam_conv"), x, &sum, geometry)?))
            });
        }
    }
}
