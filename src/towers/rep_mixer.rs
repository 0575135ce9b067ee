//! RepMixer blocks of MobileCLIP: in its image towers over space, and in its smallest text tower along the text. Vasu et
//! al. 2023 (FastViT), 2024 (MobileCLIP).

use super::convs::{Geometry, batch_norm, biased, conv_bn, emit};
use super::layers;
use super::scope::Scope;
use crate::config::Act;
use crate::onnx::{Ops, Value};
use crate::params::Error;
use crate::params::reparam::Linear;

/// The k×k, 1×1 and identity branches of a MobileOne block.
pub fn branches(
    s: &Scope,
    shape: [usize; 4],
    (scale, skip): (bool, bool),
    bn_eps: f32,
    reparameterized: bool,
) -> Result<Linear, Error> {
    let [out, per_group, ..] = shape;
    if reparameterized {
        return biased(&s.at("reparam_conv"), shape);
    }
    let mut sum = conv_bn(&s.at("conv_kxk").at(0), shape, bn_eps)?;
    if scale {
        sum = sum.plus(conv_bn(&s.at("conv_scale"), [out, per_group, 1, 1], bn_eps)?);
    }
    if skip {
        sum = sum.plus(Linear::Identity.normed(batch_norm(&s.at("identity"), out, bn_eps)?));
    }
    Ok(sum)
}

/// A RepMixer block: one depthwise convolution along space or text, and an MLP.
pub struct RepMixer {
    pub dim: usize,
    pub mixer_kernel: [usize; 2],
    pub mlp_kernel: [usize; 2],
    pub mlp_dim: usize,
    pub scale_branch: bool,
    pub act: Act,
    pub bn_eps: f32,
    pub reparameterized: bool,
}

/// x + g·(mixer(x) − norm(x)), then x + g·fc2(act(fc1(BN(dw(x))))). Vasu et al. 2023, eq. 2.
pub fn rep_mixer_block(s: &Scope, x: Value, c: &RepMixer) -> Result<Value, Error> {
    let shape = [c.dim, 1, c.mixer_kernel[0], c.mixer_kernel[1]];
    let mixer = s.at("token_mixer");
    let conv = if c.reparameterized {
        biased(&mixer.at("reparam_conv"), shape)?
    } else {
        let mixed = branches(&mixer.at("mixer"), shape, (c.scale_branch, true), c.bn_eps, false)?;
        let norm = Linear::Identity.normed(batch_norm(&mixer.at("norm").at("identity"), c.dim, c.bn_eps)?);
        Linear::Identity.plus(layer_scaled(&mixer.at("layer_scale"), mixed.minus(norm), c.dim)?)
    };
    let x = emit(&mixer.at("reparam_conv"), x, &conv, Geometry::same(shape, c.dim))?;
    let y = conv_mlp(s, x, c.dim, c.mlp_dim, c.mlp_kernel, (c.act, c.bn_eps), "layer_scale")?;
    Ok(s.add(x, y))
}

/// Times a learned factor a channel.
pub fn layer_scaled(s: &Scope, linear: Linear, channels: usize) -> Result<Linear, Error> {
    Ok(linear.scaled(format!("{}.gamma", s.name()), s.param("gamma", &[channels, 1, 1])?))
}

/// g·fc2(act(fc1(BN(dw(x))))): no activation after the depthwise convolution.
pub fn conv_mlp(
    s: &Scope,
    x: Value,
    d: usize,
    mlp_dim: usize,
    kernel: [usize; 2],
    (act, bn_eps): (Act, f32),
    layer_scale: &str,
) -> Result<Value, Error> {
    let m = s.at("mlp");
    let shape = [d, 1, kernel[0], kernel[1]];
    let x = emit(&m.at("conv"), x, &conv_bn(&m.at("conv"), shape, bn_eps)?, Geometry::same(shape, d))?;
    let shape = [mlp_dim, d, 1, 1];
    let x = emit(&m.at("fc1"), x, &biased(&m.at("fc1"), shape)?, Geometry::same(shape, 1))?;
    let x = layers::activation(&m.at("act"), x, act);
    let shape = [d, mlp_dim, 1, 1];
    let fc2 = layer_scaled(&s.at(layer_scale), biased(&m.at("fc2"), shape)?, d)?;
    emit(&m.at("fc2"), x, &fc2, Geometry::same(shape, 1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, OPTIONS};
    use super::*;

    #[test]
    fn a_block_is_that_of_timm() {
        let case = Case::read("rep_mixer_block");
        let c = RepMixer {
            dim: case.setting("dim"),
            mixer_kernel: case.setting("mixer_kernel"),
            mlp_kernel: case.setting("mlp_kernel"),
            mlp_dim: case.setting("mlp_dim"),
            scale_branch: case.setting("scale_branch"),
            act: case.setting("act"),
            bn_eps: case.setting("bn_eps"),
            reparameterized: false,
        };
        case.check(OPTIONS, &|s| rep_mixer_block(s, case.input(s, "input"), &c));
    }
}
