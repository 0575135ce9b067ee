//! One embedding from all places: a place taken, or attention of one query.
//!
//! Nobody reads the other places of the last block, so it is computed for the pooled one alone; and
//! with one query neither keys nor values of the others are needed. For a head with query q,
//!
//! ```text
//! softmax(q·(Wk·x + bk)) · (Wv·x + bv)  =  Wv·(Σ weights·x) + bv,   weights = softmax((Wkᵀq)·x)
//! ```
//!
//! as q·bk is the same for every place and the weights sum to one. Exact but for rounding.

use super::layers::{self, Transformer};
use super::scope::Scope;
use crate::onnx::target::RowPlace;
use crate::onnx::{Heads, Mask, Ops, Value, attention};
use crate::params::Error;
use crate::params::reparam::constant_query;
use crate::tensor::Tensor;

/// Which place is pooled.
#[derive(Clone, Copy)]
pub enum Place {
    /// The same one in every row.
    Fixed(usize),
    /// One of each row, as [`RowPlace`] has it: `[B, 1]`, of all rows one after another where it is
    /// [`RowPlace::Rows`], or a one among zeros, `[B, 1, N]`; and what it may see, `[B, 1, N]` to add to scores.
    OfRow { place: Value, by: RowPlace, mask: Option<Value> },
}

impl Place {
    /// The pooled place of `[B, N, D]`, as `[B, D]`.
    pub fn take(self, s: &Scope, x: Value, c: &Transformer) -> Value {
        match (self, s.build().rows().zip(c.places)) {
            (Place::Fixed(place), Some((rows, places))) if s.graph().target().profile.equal_ranks => {
                let at: Vec<i64> = (0..rows).map(|row| (row * places + place) as i64).collect();
                s.gather(x, s.ints(&at), 0)
            }
            (Place::Fixed(place), _) => s.index(x, place as i64, 1),
            (Place::OfRow { place, by: RowPlace::Elements, .. }, _) => {
                // The place of a row, once for each of its D numbers.
                let places = s.expand(s.unsqueeze(place, &[2]), &[1, 1, c.width as i64]); // [B, 1, D]
                s.squeeze(s.gather_elements(x, places, 1), &[1])
            }
            (Place::OfRow { place, by: RowPlace::Rows, .. }, _) => {
                let all = s.reshape(x, &[-1, c.width as i64]); // [B·N, D]
                s.squeeze(s.gather(all, place, 0), &[1])
            }
            (Place::OfRow { place, by: RowPlace::OneHot, .. }, _) => {
                s.squeeze(s.matmul(place, layers::places(s, x, c.places, c.width)), &[1])
            }
        }
    }
}

/// All blocks, and of what they give the pooled place: `[B, N, D]` → `[B, D]`.
pub fn blocks(s: &Scope, x: Value, place: Place, c: &Transformer) -> Result<Value, Error> {
    if !s.build().last_block {
        let x = layers::blocks(s, x, c)?;
        return Ok(place.take(&s.at("pool"), x, c));
    }
    let last = c.layers - 1;
    let blocks = s.at("blocks");
    let x = (0..last).try_fold(x, |x, i| layers::block(&blocks.at(i), x, c))?;
    last_block(&blocks.at(last), x, place, c)
}

/// [`layers::block`] where only one place is wanted.
fn last_block(s: &Scope, x: Value, place: Place, c: &Transformer) -> Result<Value, Error> {
    let d = c.width;
    let y = layers::layer_norm(&s.at("norm1"), x, d, c.norm_eps)?; // [B, N, D]
    let a = s.at("attn");
    let (weight, bias) = layers::qkv_parameters(&a, c)?;
    let q = a.at("q");
    let here = layers::affine(&q, place.take(s, y, c), &weight.rows(0..d)?, Some(bias.rows(0..d)?)); // [B, D]
    let head_dim = d / c.heads;
    let here = if s.build().fold { here } else { q.mul(here, q.scalar((head_dim as f32).powf(-0.5))) };

    let query = keys_of(&a, here, &weight.rows(d..2 * d)?, (d, c.heads))?; // [B, H, D]
    let mask = match place {
        Place::OfRow { mask, .. } => mask,
        Place::Fixed(at) => match c.mask {
            // The last place sees all.
            Some(Mask::Causal(mask)) if c.places != Some(at + 1) => {
                Some(s.unsqueeze(s.gather(mask, s.ints(&[at as i64]), 0), &[0])) // [1, 1, N]
            }
            _ => None,
        },
    };
    let values = (weight.rows(2 * d..3 * d)?, bias.rows(2 * d..3 * d)?);
    let y = layers::places(&a, y, c.places, d);
    let y = weighted(&a, y, query, values, mask, (d, c.heads))?;
    let x = place.take(s, x, c); // [B, D]
    let [x, y] = [x, y].map(|x| one_place(s, x));
    let y = layers::linear(&a.at("proj"), y, d, d)?;
    let x = layers::feed_forward(s, "norm2", s.add(x, y), c, c.mlp_dim)?;
    Ok(s.named("output", only_place(s, x)))
}

/// Whether what is left of the last block keeps an axis for its one place: OpenVINO 2026.3 and 2026.4 crash when they
/// compile two residual sums of a known number of rows, up to 8, of 128 numbers or less. Targets that multiply
/// matrices alone have no such axis.
fn keeps_place(s: &Scope) -> bool {
    s.build().rows().is_some() && !s.graph().target().profile.equal_ranks
}

/// `[B, D]` as `[B, 1, D]`, where [`keeps_place`] says so.
fn one_place(s: &Scope, x: Value) -> Value {
    if keeps_place(s) { s.unsqueeze(x, &[1]) } else { x }
}

/// What [`one_place`] gave, as `[B, D]`.
fn only_place(s: &Scope, x: Value) -> Value {
    if keeps_place(s) { s.squeeze(x, &[1]) } else { x }
}

/// Softmax of `query [B or 1, H, D]` over the places of `x [B, N, D]`, their weighted sum, and the
/// values' matrix and bias once: `[B, D]`.
fn weighted(
    s: &Scope,
    x: Value,
    query: Value,
    (weight, bias): (Tensor, Tensor),
    mask: Option<Value>,
    (d, heads): (usize, usize),
) -> Result<Value, Error> {
    let scores = s.matmul(query, s.transpose(x, &[0, 2, 1])); // [B, H, N]
    let scores = mask.map_or(scores, |mask| s.add(scores, mask));
    let y = s.matmul(s.named("weights", s.softmax(scores, -1)), x); // [B, H, D]
    let v = s.at("v");
    let y = if s.graph().target().profile.equal_ranks {
        let weight = weight.reshape(&[heads, d / heads, d])?.permute(&[0, 2, 1]);
        v.reshape(heads_first(&v, y, weight), &[-1, d as i64])
    } else {
        // What each head has of all channels, of which its own are taken.
        let all = v.matmul(y, v.initializer("weight", weight.permute(&[1, 0]))); // [B, H, D]
        v.reduce_sum(v.mul(all, head_mask(&v, d, heads)), &[1], false)
    }; // [B, D]
    Ok(v.add(y, v.initializer("bias", bias)))
}

/// Wkᵀq, head by head, of the queries `[B, D]`: `[B, H, D]`.
fn keys_of(s: &Scope, queries: Value, weight: &Tensor, (d, heads): (usize, usize)) -> Result<Value, Error> {
    let k = s.at("k");
    if s.graph().target().profile.equal_ranks {
        let by_head = k.reshape(queries, &[-1, heads as i64, (d / heads) as i64]);
        return Ok(heads_first(&k, by_head, weight.reshape(&[heads, d / heads, d])?));
    }
    // Each head's part of the query among zeros.
    let by_head = k.mul(k.unsqueeze(queries, &[1]), head_mask(&k, d, heads)); // [B, H, D]
    Ok(k.matmul(by_head, k.initializer("weight", weight.clone())))
}

/// One where a channel is a head's, else zero: `[H, D]`. With it products need a constant of two axes alone, instead of a
/// matrix for each head: OpenCV 5 and MNN 3.6 give wrong numbers where those are broadcast over a batch, and ONNX
/// Runtime's `quantize_dynamic(per_channel=True)` writes what it cannot run. It costs H times the multiplications of one
/// row, which is less than a hundredth of a tower's.
fn head_mask(s: &Scope, d: usize, heads: usize) -> Value {
    let own = |at: usize| if at % d / (d / heads) == at / d { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..heads * d).map(own).collect();
    s.initializer("heads", Tensor::from_f32("heads", &[heads, d], &values))
}

/// `[B, H, I]` times a matrix `[I, O]` for each head: `[B, H, O]`. Heads are the leading axis of both factors, for targets
/// whose factors have as many axes.
fn heads_first(s: &Scope, x: Value, weight: Tensor) -> Value {
    let x = s.transpose(x, &[1, 0, 2]);
    s.transpose(s.matmul(x, s.initializer("weight", weight)), &[1, 0, 2])
}

/// Attention of one learned query over all places, then x + MLP(LN(x)): `[B, N, D]` → `[B, D]`.
/// The query is a constant, so it is folded into the keys. Zhai et al. 2022, §3.2.
pub fn map_head(s: &Scope, x: Value, c: &Transformer, heads: usize, mlp_dim: usize) -> Result<Value, Error> {
    let d = c.width;
    let latent = s.param("latent", &[1, 1, d])?;
    s.expect_heads("q.weight", heads)?;
    let y = if s.build().map_query {
        let (q, kv) = (s.at("q"), s.at("kv"));
        let query = (q.param("weight", &[d, d])?, q.param("bias", &[d])?);
        let (weight, bias) = (kv.param("weight", &[2 * d, d])?, kv.param("bias", &[2 * d])?);
        let query = constant_query(&latent, (&query.0, &query.1), &weight.rows(0..d)?, heads);
        let rows = s.build().rows().filter(|_| s.graph().target().profile.equal_ranks);
        let query = Tensor::concat(&vec![query; rows.unwrap_or(1)])?;
        let values = (weight.rows(d..2 * d)?, bias.rows(d..2 * d)?);
        let mask = match c.mask {
            Some(Mask::Added(mask)) => Some(s.squeeze(mask, &[1])), // [B, 1, N]
            Some(Mask::Causal(_)) | None => None,
        };
        let x = layers::places(s, x, c.places, d);
        weighted(s, x, s.initializer("query", query), values, mask, (d, heads))?
    } else {
        let q = layers::linear(&s.at("q"), s.initializer("latent", latent), d, d)?; // [1, 1, D]
        let [k, v] = s.split(layers::linear(&s.at("kv"), x, d, 2 * d)?, d);
        let (places, mask) = (c.places, c.mask);
        let heads = Heads { width: d, heads, places, mask, scaled: false, one_query: true };
        let y = attention(s, [q, k, v], &heads); // [B, 1, D]
        if s.graph().target().profile.equal_ranks { y } else { s.index(y, 0, 1) }
    };
    let x = layers::linear(&s.at("proj"), y, d, d)?; // [B, D]
    layers::feed_forward(s, "norm", x, c, mlp_dim)
}
