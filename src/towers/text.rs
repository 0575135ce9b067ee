//! Text transformer: token and position embeddings, blocks, one pooled place, projection.
//! Radford et al. 2021; open_clip's `TextTransformer`; SigLIP differs by fields alone.

use super::SEQUENCE;
use super::fastvit::{self, RepMixer};
use super::layers::{self, Transformer};
use super::pool::{self, Place};
use super::scope::Scope;
use crate::config::{Proj, TextCfg, TextModel, TextPool};
use crate::onnx::graph::{Dim, ElementType};
use crate::onnx::{Mask, Ops, Value};
use crate::params::Error;

/// `input_ids` int64 `[B, L]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, c: &TextCfg, embed_dim: usize) -> Result<Value, Error> {
    let length = if s.build().dynamic_text { SEQUENCE } else { Dim::Fixed(c.context_length) };
    let ids = {
        let ports = s.build().ports;
        let element = if ports.int32 { ElementType::Int32 } else { ElementType::Int64 };
        s.graph().input(ports.tokens, element, vec![s.rows(), length])
    };
    let ids = if s.build().dynamic_text && !c.ends_where_pooled() { filled_up(s, ids, c) } else { ids };
    let (text, ids) = Text::of(s, ids, c);

    let embedding = s.at("token_embedding");
    let table = embedding.param("weight", &[c.vocab_size, c.width])?;
    let x = embedding.gather(embedding.initializer("weight", table), ids, 0); // [B, L, D]
    let positions = s.initializer("pos_embed", s.param("pos_embed", &[c.context_length, c.width])?);
    let x = s.add(x, text.cut(s, positions, 0));

    let causal = (!c.no_causal_mask).then(|| layers::causal_mask(s, c.context_length)); // [L, L]
    let causal = causal.map(|mask| text.cut(s, mask, 1));
    let transformer = Transformer {
        width: c.width,
        layers: c.layers,
        heads: c.heads,
        mlp_dim: c.mlp_dim,
        act: c.act,
        norm_eps: c.norm_eps,
        places: text.places(c),
        mask: causal.map(|mask| Mask::Causal(text.cut(s, mask, 0))),
    };
    let place = match text.place {
        Some(place) => Place::OfRow { place, mask: causal.map(|mask| s.gather(mask, place, 0)) },
        None if c.pool_type == TextPool::First => Place::Fixed(0),
        None => Place::Fixed(c.context_length - 1),
    };
    if s.build().ports.hidden {
        let x = match c.model_type {
            TextModel::Transformer => layers::blocks(s, x, &transformer)?,
            TextModel::Mct => mct(s, x, c, &transformer)?,
        };
        let x = layers::layer_norm(&s.at("norm"), x, c.width, c.norm_eps)?;
        let places = text.places(c).map_or(SEQUENCE, Dim::Fixed);
        let x = place.take(&s.at("pool"), super::hidden(s, x, places, c.width));
        return layers::head(s, x, c.width, embed_dim, c.proj == Proj::Linear, c.proj_bias);
    }
    let x = match c.model_type {
        TextModel::Transformer => pool::blocks(s, x, place, &transformer)?,
        TextModel::Mct => place.take(&s.at("pool"), mct(s, x, c, &transformer)?),
    }; // [B, D]
    let x = layers::layer_norm(&s.at("norm"), x, c.width, c.norm_eps)?;
    layers::head(s, x, c.width, embed_dim, c.proj == Proj::Linear, c.proj_bias)
}

/// Ids of any number as `[B, L]`, with padding behind them: where padding is attended to or pooled, texts have
/// their meaning at full length alone. In operators that know no lengths.
fn filled_up(s: &Scope, ids: Value, c: &TextCfg) -> Value {
    let s = s.at("fill");
    let pad = s.ints(&[c.pad_id]);
    let pad = if s.build().ports.int32 { s.cast_int32(pad) } else { pad };
    let first = s.gather(ids, s.ints(&vec![0; c.context_length]), 1); // [B, L]
    let padding = s.add(s.sub(first, first), pad);
    s.slice(s.concat(&[ids, padding], 1), s.ints(&[0]), s.ints(&[c.context_length as i64]), 1)
}

/// What the ids of a batch say: where each row ends, and how long the longest is.
///
/// Where every place sees only those before it, nothing behind a row's pooled place matters. So the
/// batch may be cut behind its last one, which is exact, and short texts take a fraction of the time.
struct Text {
    /// Pooled place of each row, `[B, 1]`; None where it is the same in all.
    place: Option<Value>,
    /// Number of places, where it depends on the input.
    length: Option<Value>,
}

impl Text {
    /// Reads `ids [B, L]`; gives them back, cut.
    fn of(s: &Scope, ids: Value, c: &TextCfg) -> (Text, Value) {
        let (pool, int32) = (s.at("pool"), s.build().ports.int32);
        let place = match c.pool_type {
            TextPool::Last | TextPool::First => None,
            // The end token has the largest id. ONNX Runtime 1.14 has no ArgMax of int64.
            TextPool::Argmax => Some(pool.arg_max(if int32 { ids } else { pool.cast_int32(ids) }, 1, true)),
            // ArgMax takes the first of equals.
            TextPool::Eos => {
                // Whole numbers this small are floats without loss, whatever the ids' type.
                let (ids, eot) = if int32 {
                    (pool.cast_float(ids), pool.scalar(c.eot_id as f32))
                } else {
                    (ids, s.graph().int64(&[], &[c.eot_id]))
                };
                Some(pool.arg_max(pool.cast_float(pool.equal(ids, eot)), 1, true))
            }
        };
        if let Some(place) = place.filter(|_| s.build().cuts_text(c)) {
            let cut = s.at("cut");
            let last = cut.reduce_max(place, &[0, 1], false);
            let length = cut.add(cut.reshape(last, &[1]), cut.ints(&[1]));
            let text = Text { place: Some(place), length: Some(length) };
            let ids = text.cut(s, ids, 1);
            return (text, ids);
        }
        let free = s.build().dynamic_text && c.ends_where_pooled();
        let length = free.then(|| s.at("cut").length(ids, 1));
        (Text { place, length }, ids)
    }

    /// The first places of an axis: as many as there are in the text.
    fn cut(&self, s: &Scope, x: Value, axis: i64) -> Value {
        let cut = s.at("cut");
        self.length.map_or(x, |length| cut.slice(x, cut.ints(&[0]), length, axis))
    }

    fn places(&self, c: &TextCfg) -> Option<usize> {
        if self.length.is_some() { None } else { Some(c.context_length) }
    }
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
