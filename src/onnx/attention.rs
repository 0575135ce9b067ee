//! Attention over heads, spelled as one operator or as its parts. Vaswani et al. 2017, eq. 1.

use super::graph::{Attribute, Value};
use super::ops::Ops;

/// What may be seen from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Place j from i where j ≤ i. The value is that as numbers to add, `[1, 1, N, N]`, for targets
    /// that have no word for it.
    Causal(Value),
    /// Numbers to add to the scores, broadcast to `[B, H, Nq, N]`.
    Added(Value),
}

/// What attention needs to know besides q, k and v.
#[derive(Clone, Copy)]
pub struct Heads {
    pub width: usize,
    pub heads: usize,
    /// Number of places, where it is known at export.
    pub places: Option<usize>,
    /// Whether there is one query, the same for the whole batch: `[1, 1, D]`.
    pub one_query: bool,
    pub mask: Option<Mask>,
    /// Whether 1/√head_dim is in the query's weights already.
    pub scaled: bool,
}

/// softmax(q kᵀ / √head_dim + mask) v for q, k, v `[B, N, D]`, heads side by side in D.
pub fn attention(s: &impl Ops, [q, k, v]: [Value; 3], c: &Heads) -> Value {
    // The operator takes no query that is not of the batch, and tract no mask that is the same for
    // all queries of a row.
    let plain = !c.one_query && !matches!(c.mask, Some(Mask::Added(_)));
    let one = s.graph().target().has_attention() && plain;
    if one { one_node(s, [q, k, v], c) } else { decomposed(s, [q, k, v], c) }
}

fn one_node(s: &impl Ops, qkv: [Value; 3], c: &Heads) -> Value {
    let heads = Attribute::Int(c.heads as i64);
    let mut attributes = vec![("kv_num_heads", heads.clone()), ("q_num_heads", heads)];
    if c.scaled {
        // The default is 1/√head_dim.
        attributes.push(("scale", Attribute::Float(1.0)));
    }
    if matches!(c.mask, Some(Mask::Causal(_))) {
        attributes.push(("is_causal", Attribute::Int(1)));
    }
    s.op("Attention", &qkv, attributes)
}

/// Heads apart, scores, softmax, weighted values, heads together.
fn decomposed(s: &impl Ops, [q, k, v]: [Value; 3], c: &Heads) -> Value {
    let head_dim = c.width / c.heads;
    let apart = |x: Value, places: Option<usize>, perm: &[i64]| {
        s.transpose(s.reshape(x, &places_shape(places, &[c.heads, head_dim])), perm)
    };
    let queries = if c.one_query { Some(1) } else { c.places };
    let q = s.named("q", apart(q, queries, &[0, 2, 1, 3])); // [B, H, N, D/H]
    let k = s.named("k", apart(k, c.places, &[0, 2, 3, 1])); // [B, H, D/H, N]
    let v = s.named("v", apart(v, c.places, &[0, 2, 1, 3])); // [B, H, N, D/H]

    let q = if c.scaled { q } else { s.mul(q, s.scalar((head_dim as f32).powf(-0.5))) };
    let scores = s.matmul(q, k);
    let scores = match c.mask {
        Some(Mask::Causal(mask) | Mask::Added(mask)) => s.add(scores, mask),
        None => scores,
    };
    let y = s.matmul(s.named("weights", s.softmax(scores, -1)), v); // [B, H, N, D/H]
    let rows = [-1, c.width as i64]; // [B·N, D]
    let together =
        if s.graph().target().profile.equal_ranks { rows.to_vec() } else { places_shape(queries, &[c.width]) };
    s.reshape(s.transpose(y, &[0, 2, 1, 3]), &together) // [B, N, D]
}

/// A reshape target that keeps the batch and the places: constant but for one -1 where the
/// number of places is known, else both axes are kept by 0.
fn places_shape(places: Option<usize>, rest: &[usize]) -> Vec<i64> {
    let lead = places.map_or([0, 0], |n| [-1, n as i64]);
    lead.into_iter().chain(rest.iter().map(|&n| n as i64)).collect()
}
