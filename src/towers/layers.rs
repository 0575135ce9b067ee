//! The layers towers are made of. `[B, N, D]` are batch, positions and width; H heads.

use super::scope::Scope;
use crate::config::{self, Act, Head};
use crate::onnx::graph::Role;
use crate::onnx::{CompositeOps, Heads, Mask, Ops, Value};
use crate::params::Error;
use crate::params::reparam::{RowScale, linear_after};
use crate::tensor::Tensor;

/// What the blocks of one transformer have in common.
#[derive(Clone, Copy)]
pub struct Transformer {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    pub act: Act,
    pub norm_eps: f32,
    pub layer_scale: bool,
    /// Number of positions, where it is known at export.
    pub positions: Option<usize>,
    pub mask: Option<Mask>,
}

impl Transformer {
    /// Of a configuration's blocks.
    pub fn of(blocks: &config::Transformer, positions: Option<usize>, mask: Option<Mask>) -> Transformer {
        let config::Transformer { width, layers, heads, mlp_dim, act, norm_eps, layer_scale } = *blocks;
        Transformer { width, layers, heads, mlp_dim, act, norm_eps, layer_scale, positions, mask }
    }
}

/// All blocks, in order.
pub fn blocks(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    (0..c.layers).try_fold(x, |x, i| block(&s.at("blocks").at(i), x, c))
}

/// Pre-norm block: x + Attn(LN(x)), then x + MLP(LN(x)). Dosovitskiy et al. 2021, eq. 2-3. With layer scales, what is
/// added is multiplied by them.
pub fn block(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    let y = layer_norm(&s.at("norm1"), x, c.width, c.norm_eps)?;
    let y = attend(&s.at("attn"), y, c)?; // [B, N, D]
    let y = scaled_linear(&s.at("attn").at("proj"), y, [c.width; 2], layer_scale(s, "ls1", c)?)?;
    let x = s.add(x, y);
    Ok(s.named("output", feed_forward(s, "norm2", x, c, c.mlp_dim, layer_scale(s, "ls2", c)?)?))
}

/// The numbers `[D]` of a layer scale, in the blocks that have some.
pub fn layer_scale(s: &Scope, name: &str, c: &Transformer) -> Result<Option<Tensor>, Error> {
    c.layer_scale.then(|| s.at(name).param("gamma", &[c.width])).transpose()
}

/// x + MLP(LN(x)), over any axes before the last.
pub fn feed_forward(
    s: &Scope,
    norm: &str,
    x: Value,
    c: &Transformer,
    mlp_dim: usize,
    scale: Option<Tensor>,
) -> Result<Value, Error> {
    let y = layer_norm(&s.at(norm), x, c.width, c.norm_eps)?;
    let m = s.at("mlp");
    let y = linear(&m.at("fc1"), y, c.width, mlp_dim)?;
    let y = activation(&m.at("act"), y, c.act);
    let y = scaled_linear(&m.at("fc2"), y, [mlp_dim, c.width], scale)?;
    Ok(s.add(x, y))
}

/// Self-attention, without its last matrix.
fn attend(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    let scaled = s.options().fold;
    let (weight, bias) = qkv_parameters(s, c)?;
    let x = affine(&s.at("qkv"), x, &weight, Some(bias)); // [B, N, 3*D]
    let (positions, mask) = (c.positions, c.mask);
    let heads = Heads { width: c.width, heads: c.heads, positions, mask, scaled, one_query: false };
    Ok(s.attention(s.split(x, c.width), heads)) // [B, N, D]
}

/// Weight `[3*D, D]` and bias of queries, keys and values; 1/√head_dim goes into the queries' rows.
pub fn qkv_parameters(s: &Scope, c: &Transformer) -> Result<(Tensor, Tensor), Error> {
    let (d, s) = (c.width, s.at("qkv"));
    let (weight, bias) = (s.param("weight", &[3 * d, d])?, s.param("bias", &[3 * d])?);
    s.expect_heads("weight", c.heads)?;
    if !s.options().fold {
        return Ok((weight, bias));
    }
    let scale = ((d / c.heads) as f64).powf(-0.5);
    let fold = |t: &Tensor| Tensor::concat(&[t.rows(0..d)?.scaled(scale), t.rows(d..3 * d)?]);
    Ok((fold(&weight)?, fold(&bias)?))
}

pub fn activation(s: &Scope, x: Value, act: Act) -> Value {
    match act {
        Act::Gelu => s.gelu(x),
        Act::GeluTanh => s.gelu_tanh(x),
        Act::QuickGelu => s.quick_gelu(x),
    }
}

/// x Wᵀ + b for parameters at hand. The weight is laid out (in, out) when it is written, so that no
/// Transpose runs.
pub fn affine(s: &Scope, x: Value, weight: &Tensor, bias: Option<Tensor>) -> Value {
    let y = s.matmul(x, s.initializer("weight", Role::Weight, weight.permute(&[1, 0])));
    bias.map_or(y, |bias| s.add(y, s.initializer("bias", Role::Bias, bias)))
}

/// x Wᵀ + b for the parameters of this scope.
pub fn linear(s: &Scope, x: Value, d_in: usize, d_out: usize) -> Result<Value, Error> {
    Ok(affine(s, x, &s.param("weight", &[d_out, d_in])?, Some(s.param("bias", &[d_out])?)))
}

/// (x Wᵀ + b) times a layer scale, where there is one: it is folded into the matrix.
pub fn scaled_linear(s: &Scope, x: Value, [d_in, d_out]: [usize; 2], scale: Option<Tensor>) -> Result<Value, Error> {
    let Some(scale) = scale else { return linear(s, x, d_in, d_out) };
    let (weight, bias) = (s.param("weight", &[d_out, d_in])?, s.param("bias", &[d_out])?);
    if s.options().fold {
        let (weight, bias) = linear_after(&weight, Some(&bias), None, RowScale::Each(scale));
        return Ok(affine(s, x, &weight, Some(bias)));
    }
    let y = affine(s, x, &weight, Some(bias));
    Ok(s.mul(y, s.initializer("gamma", Role::Norm, scale)))
}

/// Over the last axis, with gain and bias.
pub fn layer_norm(s: &Scope, x: Value, width: usize, eps: f32) -> Result<Value, Error> {
    let weight = s.initializer("weight", Role::Norm, s.param("weight", &[width])?);
    let bias = s.initializer("bias", Role::Norm, s.param("bias", &[width])?);
    Ok(s.layer_normalization(x, weight, bias, eps))
}

/// The matrix after pooling, where the model has one.
pub fn head(s: &Scope, x: Value, width: usize, embed_dim: usize, head: Option<Head>) -> Result<Value, Error> {
    let Some(head) = head else { return Ok(x) };
    let s = s.at("head");
    let bias = if head.bias { Some(s.param("bias", &[embed_dim])?) } else { None };
    Ok(affine(&s, x, &s.param("weight", &[embed_dim, width])?, bias))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, OPTIONS};
    use super::*;

    #[test]
    fn a_block_is_that_of_open_clip_and_timm() {
        for name in ["block_gelu", "block_quick_gelu", "block_gelu_tanh", "block_causal"] {
            let case = Case::read(name);
            let c = case.transformer();
            case.check(OPTIONS, &|s| {
                let x = case.input(s, "input");
                let mask = case.setting::<bool>("causal").then(|| Mask::Causal(s.causal_mask(case.shape("input")[1])));
                block(s, x, &Transformer { mask, ..c })
            });
        }
    }
}
