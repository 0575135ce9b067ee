//! The layers towers are made of. `[B, N, D]` are batch, places and width; H heads.

use super::scope::Scope;
use crate::config::Act;
use crate::onnx::{Ops, Value};
use crate::params::Error;
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
    /// Number of places, where it is known at export.
    pub places: Option<usize>,
    /// Added to the scores, broadcast to `[B, H, N, N]`.
    pub mask: Option<Value>,
}

/// All blocks, in order.
pub fn blocks(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    (0..c.layers).try_fold(x, |x, i| block(&s.at("blocks").at(i), x, c))
}

/// Pre-norm block: x + Attn(LN(x)), then x + MLP(LN(x)). Dosovitskiy et al. 2021, eq. 2-3.
pub fn block(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    let y = layer_norm(&s.at("norm1"), x, c.width, c.norm_eps)?;
    let y = attention(&s.at("attn"), y, c)?;
    let x = s.add(x, y);

    let y = layer_norm(&s.at("norm2"), x, c.width, c.norm_eps)?;
    let y = mlp(&s.at("mlp"), y, c.width, c.mlp_dim, c.act)?;
    Ok(s.named("output", s.add(x, y)))
}

/// Self-attention: softmax(q kᵀ / √head_dim + mask) v. Vaswani et al. 2017, eq. 1.
fn attention(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    let qkv = qkv(&s.at("qkv"), x, c)?; // [B, N, 3*D]
    let scaled = s.build().fold;
    let heads = Heads { width: c.width, heads: c.heads, places: (c.places, c.places), mask: c.mask, scaled };
    let y = attend(s, s.split(qkv, c.width), &heads);
    linear(&s.at("proj"), y, c.width, c.width) // [B, N, D]
}

/// Queries, keys and values side by side; 1/√head_dim goes into the queries' rows.
fn qkv(s: &Scope, x: Value, c: &Transformer) -> Result<Value, Error> {
    let d = c.width;
    let (mut weight, mut bias) = (s.param("weight", &[3 * d, d])?, s.param("bias", &[3 * d])?);
    s.expect_heads("weight", c.heads)?;
    if s.build().fold {
        let scale = ((d / c.heads) as f64).powf(-0.5);
        for tensor in [&mut weight, &mut bias] {
            *tensor = Tensor::concat(&[tensor.rows(0..d)?.scaled(scale), tensor.rows(d..3 * d)?])?;
        }
    }
    let y = s.matmul(x, s.initializer("weight", weight.permute(&[1, 0])));
    Ok(s.add(y, s.initializer("bias", bias)))
}

/// Attention of one learned query over all places, then x + MLP(LN(x)). Zhai et al. 2022, §3.2.
pub fn map_head(s: &Scope, x: Value, c: &Transformer, heads: usize, mlp_dim: usize) -> Result<Value, Error> {
    let d = c.width;
    let latent = s.initializer("latent", s.param("latent", &[1, 1, d])?);
    let q = linear(&s.at("q"), latent, d, d)?; // [1, 1, D]
    s.expect_heads("q.weight", heads)?;
    let [k, v] = s.split(linear(&s.at("kv"), x, d, 2 * d)?, d);
    let heads = Heads { width: d, heads, places: (Some(1), c.places), mask: c.mask, scaled: false };
    let y = attend(s, [q, k, v], &heads);
    let x = linear(&s.at("proj"), y, d, d)?; // [B, 1, D]

    let y = layer_norm(&s.at("norm"), x, d, c.norm_eps)?;
    let y = mlp(&s.at("mlp"), y, d, mlp_dim, c.act)?;
    Ok(s.index(s.add(x, y), 0, 1)) // [B, D]
}

/// What attention needs to know besides q, k and v.
pub struct Heads {
    pub width: usize,
    pub heads: usize,
    /// Places of the queries and of the keys, where they are known at export.
    pub places: (Option<usize>, Option<usize>),
    pub mask: Option<Value>,
    /// Whether 1/√head_dim is in the query's weights already.
    pub scaled: bool,
}

/// Heads apart, scores, softmax, weighted values, heads together.
pub fn attend(s: &Scope, [q, k, v]: [Value; 3], c: &Heads) -> Value {
    let head_dim = c.width / c.heads;
    let apart = |x: Value, places: Option<usize>, perm: &[i64]| {
        s.transpose(s.reshape(x, &places_shape(places, &[c.heads, head_dim])), perm)
    };
    let q = s.named("q", apart(q, c.places.0, &[0, 2, 1, 3])); // [B, H, Nq, D/H]
    let k = s.named("k", apart(k, c.places.1, &[0, 2, 3, 1])); // [B, H, D/H, N]
    let v = s.named("v", apart(v, c.places.1, &[0, 2, 1, 3])); // [B, H, N, D/H]

    let q = if c.scaled { q } else { s.mul(q, s.scalar((head_dim as f32).powf(-0.5))) };
    let scores = s.matmul(q, k);
    let scores = c.mask.map_or(scores, |mask| s.add(scores, mask));
    let y = s.matmul(s.named("weights", s.softmax(scores, -1)), v); // [B, H, Nq, D/H]
    s.reshape(s.transpose(y, &[0, 2, 1, 3]), &places_shape(c.places.0, &[c.width])) // [B, Nq, D]
}

/// A reshape target that keeps the batch and the places: constant but for one -1 where the
/// number of places is known, else both axes are kept by 0.
fn places_shape(places: Option<usize>, rest: &[usize]) -> Vec<i64> {
    let lead = places.map_or([0, 0], |n| [-1, n as i64]);
    lead.into_iter().chain(rest.iter().map(|&n| n as i64)).collect()
}

/// fc2(act(fc1(x))).
pub fn mlp(s: &Scope, x: Value, width: usize, mlp_dim: usize, act: Act) -> Result<Value, Error> {
    let y = linear(&s.at("fc1"), x, width, mlp_dim)?;
    let y = activation(&s.at("act"), y, act);
    linear(&s.at("fc2"), y, mlp_dim, width)
}

pub fn activation(s: &Scope, x: Value, act: Act) -> Value {
    match act {
        Act::Gelu => s.gelu(x),
        Act::GeluTanh => s.gelu_tanh(x),
        Act::QuickGelu => s.quick_gelu(x),
    }
}

/// x Wᵀ + b. The weight is laid out (in, out) when it is written, so that no Transpose runs.
pub fn linear(s: &Scope, x: Value, d_in: usize, d_out: usize) -> Result<Value, Error> {
    let y = linear_without_bias(s, x, d_in, d_out)?;
    Ok(s.add(y, s.initializer("bias", s.param("bias", &[d_out])?)))
}

pub fn linear_without_bias(s: &Scope, x: Value, d_in: usize, d_out: usize) -> Result<Value, Error> {
    let w = s.param("weight", &[d_out, d_in])?.permute(&[1, 0]);
    Ok(s.matmul(x, s.initializer("weight", w)))
}

/// Over the last axis, with gain and bias.
pub fn layer_norm(s: &Scope, x: Value, width: usize, eps: f32) -> Result<Value, Error> {
    let weight = s.initializer("weight", s.param("weight", &[width])?);
    let bias = s.initializer("bias", s.param("bias", &[width])?);
    Ok(s.layer_normalization(x, weight, bias, eps))
}

/// `[1, 1, N, N]`, zero where place j ≤ i may be seen from i and the least float32 elsewhere.
pub fn causal_mask(s: &Scope, places: usize) -> Value {
    let values: Vec<f32> =
        (0..places * places).map(|at| if at % places <= at / places { 0.0 } else { f32::MIN }).collect();
    s.initializer("causal_mask", Tensor::from_f32("causal mask", &[1, 1, places, places], &values))
}

/// The matrix after pooling, where the model has one.
pub fn head(s: &Scope, x: Value, width: usize, embed_dim: usize, proj: bool, bias: bool) -> Result<Value, Error> {
    match (proj, bias) {
        (false, _) => Ok(x),
        (true, true) => linear(&s.at("head"), x, width, embed_dim),
        (true, false) => linear_without_bias(&s.at("head"), x, width, embed_dim),
    }
}
