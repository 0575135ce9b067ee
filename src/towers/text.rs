//! Text transformer: token and position embeddings, blocks, one pooled place, projection.
//! Radford et al. 2021; open_clip's `TextTransformer`; SigLIP differs by fields alone.

use super::BATCH;
use super::fastvit::{self, RepMixer};
use super::layers::{self, Transformer};
use super::scope::Scope;
use crate::config::{Proj, TextCfg, TextModel, TextPool};
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
    let x = match c.model_type {
        TextModel::Transformer => layers::blocks(s, x, &transformer)?,
        TextModel::Mct => mct(s, x, c, &transformer)?,
    };
    let x = layers::layer_norm(&s.at("norm"), x, c.width, c.norm_eps)?;

    let x = pool(&s.at("pool"), x, ids, c); // [B, D]
    layers::head(s, x, c.width, embed_dim, c.proj == Proj::Linear, c.proj_bias)
}

/// MobileCLIP-S0's blocks: a convolution along the text before and after the attention layers.
/// They are numbered as one list. Vasu et al. 2024, §4.1 (Text-RepMixer).
fn mct(s: &Scope, x: Value, c: &TextCfg, transformer: &Transformer) -> Result<Value, Error> {
    let (Some(kernel), Some(mlp_dim), Some(bn_eps), Some(reparameterized)) =
        (c.repmixer_kernel, c.repmixer_mlp_dim, c.bn_eps, c.reparameterized)
    else {
        // Such a configuration does not pass its check.
        return layers::blocks(s, x, transformer);
    };
    let rep_mixer = RepMixer {
        dim: c.width,
        mixer_kernel: kernel,
        mlp_kernel: kernel,
        mlp_dim,
        scale_branch: false,
        act: c.act,
        bn_eps,
        reparameterized,
    };
    let along_text = |s: &Scope, x: Value| -> Result<Value, Error> {
        let x = s.unsqueeze(s.transpose(x, &[0, 2, 1]), &[2]); // [B, D, 1, L]
        let x = fastvit::rep_mixer_block(s, x, &rep_mixer)?;
        Ok(s.transpose(s.squeeze(x, &[2]), &[0, 2, 1])) // [B, L, D]
    };
    let blocks = s.at("blocks");
    let x = along_text(&blocks.at(0), x)?;
    let x = (1..=c.layers).try_fold(x, |x, i| layers::block(&blocks.at(i), x, transformer))?;
    along_text(&blocks.at(c.layers + 1), x)
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
