//! Text transformer: token and position embeddings, blocks, one pooled place, projection.
//! Radford et al. 2021; open_clip's `TextTransformer`; SigLIP differs by fields alone.

use super::BATCH;
use super::layers::{self, Transformer};
use super::scope::Scope;
use crate::config::{Proj, TextCfg, TextPool};
use crate::onnx::graph::{Dim, ElementType};
use crate::onnx::{Ops, Value};
use crate::params::Error;

/// `input_ids` int64 `[B, L]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, c: &TextCfg, embed_dim: usize) -> Result<Value, Error> {
    let length = c.context_length;
    let ids = s.graph().input("input_ids", ElementType::Int64, vec![BATCH, Dim::Fixed(length)]);

    let embedding = s.at("token_embedding");
    let table = embedding.param("weight", &[c.vocab_size, c.width])?;
    let x = embedding.gather(embedding.initializer("weight", table), ids, 0); // [B, L, D]
    let x = s.add(x, s.initializer("pos_embed", s.param("pos_embed", &[length, c.width])?));

    let mask = (!c.no_causal_mask).then(|| layers::causal_mask(s, length));
    let transformer = Transformer {
        width: c.width,
        layers: c.layers,
        heads: c.heads,
        mlp_dim: c.mlp_dim,
        act: c.act,
        norm_eps: c.norm_eps,
        places: Some(length),
        mask,
    };
    let x = layers::blocks(s, x, &transformer)?;
    let x = layers::layer_norm(&s.at("norm"), x, c.width, c.norm_eps)?;

    let x = pool(&s.at("pool"), x, ids, c); // [B, D]
    layers::head(s, x, c.width, embed_dim, c.proj == Proj::Linear, c.proj_bias)
}

fn pool(s: &Scope, x: Value, ids: Value, c: &TextCfg) -> Value {
    let place = match c.pool_type {
        TextPool::Last => return s.index(x, c.context_length as i64 - 1, 1),
        TextPool::First => return s.index(x, 0, 1),
        // The end token has the largest id.
        TextPool::Argmax => s.arg_max(ids, 1, true),
        // ArgMax takes the first of equals.
        TextPool::Eos => {
            let eot = s.graph().int64(&[], &[c.eot_id]);
            s.arg_max(s.cast_float(s.equal(ids, eot)), 1, true)
        }
    }; // [B, 1]
    s.gather_nd(x, place, 1)
}
