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
    /// [`RowPlace::Rows`], or a one among noughts, `[B, 1, N]`; and what it may see, `[B, 1, N]` to add to scores.
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
            (Place::OfRow { place, by: RowPlace::GatherNd, .. }, _) => s.gather_nd(x, place, 1),
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

    // Wkᵀq, head by head.
    let k = a.at("k");
    let keys = weight.rows(d..2 * d)?.reshape(&[c.heads, head_dim, d])?;
    let query = if s.graph().target().profile.equal_ranks {
        let here = k.reshape(here, &[-1, c.heads as i64, head_dim as i64]);
        heads_first(&k, here, keys)
    } else {
        let here = k.reshape(here, &[-1, c.heads as i64, 1, head_dim as i64]); // [B, H, 1, D/H]
        k.reshape(k.matmul(here, k.initializer("weight", keys)), &[-1, c.heads as i64, d as i64])
    }; // [B, H, D]
    let mask = match place {
        Place::OfRow { mask, .. } => mask,
        Place::Fixed(_) => None,
    };
    let values = (weight.rows(2 * d..3 * d)?, bias.rows(2 * d..3 * d)?);
    let y = layers::places(&a, y, c.places, d);
    let y = weighted(&a, y, query, values, mask, (d, c.heads))?;
    let y = layers::linear(&a.at("proj"), y, d, d)?;
    let x = s.add(place.take(s, x, c), y); // [B, D]
    Ok(s.named("output", layers::feed_forward(s, "norm2", x, c, c.mlp_dim)?))
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
    let weight = weight.reshape(&[heads, d / heads, d])?.permute(&[0, 2, 1]);
    let y = if s.graph().target().profile.equal_ranks {
        heads_first(&v, y, weight)
    } else {
        v.matmul(v.unsqueeze(y, &[2]), v.initializer("weight", weight)) // [B, H, 1, D/H]
    };
    Ok(v.add(v.reshape(y, &[-1, d as i64]), v.initializer("bias", bias)))
}

/// `[B, H, I]` times a matrix `[I, O]` for each head, where both factors have as many axes: `[B, H, O]`.
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
        let query = constant_query(&latent, (&query.0, &query.1), &weight.rows(0..d)?, heads)?;
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
