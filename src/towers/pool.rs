//! Pooling `[B, N, D]` to `[B, D]`: one position, or attention of one query.
//!
//! If only one position is pooled, the last block is computed for that position only; and with one query neither keys
//! nor values of the others are needed. For a head with query q,
//!
//! ```text
//! softmax(q·(Wk·x + bk)) · (Wv·x + bv)  =  Wv·(Σ weights·x) + bv,   weights = softmax((Wkᵀq)·x)
//! ```
//!
//! as q·bk is the same for every position and the weights sum to one. Exact but for rounding.

use super::layers::{self, Transformer};
use super::scope::Scope;
use crate::onnx::graph::Role;
use crate::onnx::{CompositeOps, HeadRows, Heads, Mask, Ops, Value};
use crate::params::Error;
use crate::params::reparam::constant_query;
use crate::tensor::Tensor;

/// Which position is pooled.
#[derive(Clone, Copy)]
pub enum Position {
    /// The same position in every row.
    Fixed(usize),
    /// One position per row, as [`CompositeOps::row_index`] gives it, and its row of the mask, `[B, 1, N]`.
    OfRow { index: Value, mask: Option<Value> },
}

impl Position {
    /// Selects the position: `[B, N, D]` → `[B, D]`.
    pub fn take(self, s: &Scope, x: Value, width: usize) -> Value {
        match self {
            Position::Fixed(position) => s.index(x, position as i64, 1),
            Position::OfRow { index, .. } => s.take_position(x, index, width),
        }
    }
}

/// All blocks, then the pooled position of their output: `[B, N, D]` → `[B, D]`.
pub fn blocks(s: &Scope, x: Value, position: Position, c: &Transformer) -> Result<Value, Error> {
    if !s.options().last_block {
        let x = layers::blocks(s, x, c)?;
        return Ok(position.take(&s.at("pool"), x, c.width));
    }
    let last = c.layers - 1;
    let blocks = s.at("blocks");
    let x = (0..last).try_fold(x, |x, i| layers::block(&blocks.at(i), x, c))?;
    last_block(&blocks.at(last), x, position, c)
}

/// [`layers::block`], computed for one position only.
fn last_block(s: &Scope, x: Value, position: Position, c: &Transformer) -> Result<Value, Error> {
    let d = c.width;
    let y = layers::layer_norm(&s.at("norm1"), x, d, c.norm_eps)?; // [B, N, D]
    let a = s.at("attn");
    let (weight, bias) = layers::qkv_parameters(&a, c)?;
    let q = a.at("q");
    let query = layers::affine(&q, position.take(s, y, d), &weight.rows(0..d)?, Some(bias.rows(0..d)?)); // [B, D]
    let scale = ((d / c.heads) as f32).powf(-0.5);
    let query = if s.options().fold { query } else { q.mul(query, q.scalar(scale)) };

    let query = a.at("k").linear_to_heads(query, HeadRows::new(weight.rows(d..2 * d)?, c.heads)?); // Wkᵀq: [B, H, D]
    let mask = match position {
        Position::OfRow { mask, .. } => mask,
        Position::Fixed(at) => match c.mask {
            // The last position attends to all.
            Some(Mask::Causal(mask)) if c.positions != Some(at + 1) => {
                Some(s.unsqueeze(s.gather(mask, s.ints(&[at as i64]), 0), &[0])) // [1, 1, N]
            }
            _ => None,
        },
    };
    let keys = a.transpose(y, &[0, 2, 1]); // [B, D, N]
    let values = (HeadRows::new(weight.rows(2 * d..3 * d)?, c.heads)?, bias.rows(2 * d..3 * d)?);
    let y = attend(&a, [query, keys, y], mask, values); // [B, D]
    let x = position.take(s, x, d); // [B, D]
    // The rest is that of any block, over one position.
    let [x, y] = [x, y].map(|x| s.unsqueeze(x, &[1])); // [B, 1, D]
    let y = layers::scaled_linear(&a.at("proj"), y, [d; 2], layers::layer_scale(s, "ls1", c)?)?;
    let x = layers::feed_forward(s, "norm2", s.add(x, y), c, c.mlp_dim, layers::layer_scale(s, "ls2", c)?)?;
    Ok(s.named("output", s.squeeze(x, &[1]))) // [B, D]
}

/// Softmax of `query [B or 1, H, D]` · `keys [B, D, N]`, the sum of `x [B, N, D]` weighted by it, then the value matrix
/// and bias: `[B, D]`.
fn attend(s: &Scope, [query, keys, x]: [Value; 3], mask: Option<Value>, (weight, bias): (HeadRows, Tensor)) -> Value {
    let scores = s.matmul(query, keys); // [B, H, N]
    let scores = mask.map_or(scores, |mask| s.add(scores, mask));
    let y = s.matmul(s.named("weights", s.softmax(scores, -1)), x); // [B, H, D]
    let v = s.at("v");
    v.add(v.linear_from_heads(y, weight), v.initializer("bias", Role::Bias, bias)) // [B, D]
}

/// Attention of one learned query over all positions, then x + MLP(LN(x)): `[B, N, D]` → `[B, D]`.
/// The query is a constant, so it is folded into the keys. Zhai et al. 2022, §3.2.
pub fn map_head(s: &Scope, x: Value, c: &Transformer, heads: usize, mlp_dim: usize) -> Result<Value, Error> {
    let d = c.width;
    let latent = s.param("latent", &[1, 1, d])?;
    s.expect_heads("q.weight", heads)?;
    let y = if s.options().map_query {
        let (q, kv) = (s.at("q"), s.at("kv"));
        let query = (q.param("weight", &[d, d])?, q.param("bias", &[d])?);
        let (weight, bias) = (kv.param("weight", &[2 * d, d])?, kv.param("bias", &[2 * d])?);
        let query = constant_query(&latent, (&query.0, &query.1), &weight.rows(0..d)?, heads); // [1, H, D]
        let values = (HeadRows::new(weight.rows(d..2 * d)?, heads)?, bias.rows(d..2 * d)?);
        let mask = match c.mask {
            Some(Mask::Added(mask)) => Some(s.squeeze(mask, &[1])), // [B, 1, N]
            Some(Mask::Causal(_)) | None => None,
        };
        let keys = s.transpose(x, &[0, 2, 1]); // [B, D, N]
        attend(s, [s.initializer("query", Role::Query, query), keys, x], mask, values)
    } else {
        let q = layers::linear(&s.at("q"), s.initializer("latent", Role::Query, latent), d, d)?; // [1, 1, D]
        let [k, v] = s.split(layers::linear(&s.at("kv"), x, d, 2 * d)?, d);
        let (positions, mask) = (c.positions, c.mask);
        let heads = Heads { width: d, heads, positions, mask, scaled: false, one_query: true };
        s.index(s.attention([q, k, v], heads), 0, 1) // [B, 1, D] → [B, D]
    };
    let x = layers::linear(&s.at("proj"), y, d, d)?; // [B, D]
    layers::feed_forward(s, "norm", x, c, mlp_dim, None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, OPTIONS, built, targets};
    use super::*;
    use crate::config::Act;
    use crate::onnx::composite::{Pooled, Texts};
    use crate::onnx::graph::{Dim, ElementType};
    use crate::onnx::testing::{assert_close, floats, ids, run};
    use crate::towers::scope::Options;

    const BLOCKS: Transformer = Transformer {
        width: 8,
        layers: 2,
        heads: 2,
        mlp_dim: 12,
        act: Act::Gelu,
        norm_eps: 1e-5,
        layer_scale: false,
        positions: Some(4),
        mask: None,
    };

    /// Checks that both options give the same numbers, for targets of each kind.
    fn same(
        on: Options,
        off: Options,
        build: &dyn Fn(&Scope) -> Result<Value, Error>,
        inputs: &[tract_onnx::prelude::Tensor],
    ) {
        for target in targets() {
            let result = |options: Options| {
                let options = Options { batch: target.profile.static_batch.then_some(3), ..options };
                run(&built(target, &options, build), inputs).remove(0)
            };
            let (on, off) = (result(on), result(off));
            assert!(on.iter().any(|n| n.abs() > 0.1));
            assert_close(&on, &off, 1e-5, target.profile.name);
        }
    }

    fn tokens(s: &Scope) -> Value {
        s.graph().input("x", ElementType::Float, vec![s.batch(), Dim::Fixed(4), Dim::Fixed(8)])
    }

    #[test]
    fn the_last_block_for_one_position_is_the_whole_one_there() {
        let off = Options { last_block: false, ..OPTIONS };
        for (position, causal, fold) in [(0, false, true), (0, true, true), (2, true, false), (3, true, true)] {
            let build = |s: &Scope| {
                let mask = causal.then(|| Mask::Causal(s.causal_mask(4)));
                blocks(s, tokens(s), Position::Fixed(position), &Transformer { mask, ..BLOCKS })
            };
            same(Options { fold, ..OPTIONS }, Options { fold, ..off }, &build, &[floats(&[3, 4, 8], 1)]);
        }
    }

    #[test]
    fn each_row_may_have_a_position_of_its_own() {
        let off = Options { last_block: false, ..OPTIONS };
        let build = |s: &Scope| {
            let ids = s.graph().input("ids", ElementType::Int64, vec![s.batch(), Dim::Fixed(4)]);
            let texts = Texts { pooled: Pooled::LargestId, context_length: 4, vocab_size: 9, int32: false };
            let position = s.pooled_position(ids, None, texts);
            let mask = s.causal_mask(4);
            let of_row =
                Position::OfRow { mask: Some(s.mask_row(mask, position, None)), index: s.row_index(position, 4) };
            blocks(s, tokens(s), of_row, &Transformer { mask: Some(Mask::Causal(mask)), ..BLOCKS })
        };
        let inputs = [ids(&[3, 4], &[1, 8, 0, 0, 8, 0, 0, 0, 1, 2, 3, 8]), floats(&[3, 4, 8], 1)];
        same(OPTIONS, off, &build, &inputs);
    }

    #[test]
    fn a_constant_query_folded_into_keys_gives_the_same_attention() {
        let off = Options { map_query: false, ..OPTIONS };
        let build = |s: &Scope| map_head(&s.at("attn_pool"), tokens(s), &BLOCKS, 2, 12);
        same(OPTIONS, off, &build, &[floats(&[3, 4, 8], 1)]);
    }

    #[test]
    fn the_last_block_is_that_of_open_clip_at_the_pooled_position() {
        let case = Case::read("last_block");
        let position = Position::Fixed(case.setting("position"));
        case.check(OPTIONS, &|s| last_block(s, case.input(s, "input"), position, &case.transformer()));

        let case = Case::read("block_causal");
        let positions = case.shape("input")[1];
        for at in 0..positions {
            case.check_against(&case.output_at(at), OPTIONS, &|s| {
                let x = case.input(s, "input");
                let mask = Some(Mask::Causal(s.causal_mask(positions)));
                last_block(s, x, Position::Fixed(at), &Transformer { mask, ..case.transformer() })
            });
        }
    }

    #[test]
    fn the_map_head_is_that_of_timm() {
        let case = Case::read("map_head");
        let (heads, mlp_dim) = (case.setting("map_heads"), case.setting("map_mlp_dim"));
        // A head has its own number of heads and width of the MLP.
        let c = Transformer {
            width: case.setting("width"),
            act: case.setting("act"),
            norm_eps: case.setting("norm_eps"),
            layer_scale: false,
            positions: Some(case.shape("input")[1]),
            ..BLOCKS
        };
        for map_query in [true, false] {
            let options = Options { map_query, ..OPTIONS };
            case.check(options, &|s| map_head(s, case.input(s, "input"), &c, heads, mlp_dim));
        }
    }
}
