//! Text towers: token ids → one embedding. This file has what all of them share: the input, texts of any length,
//! embeddings, the pooled position and the projection; the blocks are in one file per family.

mod clip;
mod mct;

use super::layers::{self, Transformer};
use super::pool::Position;
use super::scope::Scope;
use super::{Encoded, SEQUENCE, Want};
use crate::config::{TextCfg, TextPool, TextTower};
use crate::onnx::composite::{Pooled, Texts};
use crate::onnx::graph::{Dim, ElementType, Role};
use crate::onnx::{CompositeOps, Mask, Ops, Value};
use crate::params::Error;
use crate::ports::Ports;

/// `input_ids` `[B, L]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, c: &TextCfg, embed_dim: usize, ports: &Ports, want: Want) -> Result<Encoded, Error> {
    let text = Text::input(s, c, ports);
    let Encoded { tokens, pooled } = match &c.tower {
        TextTower::Transformer(_) => clip::encode(s, &text, c, want)?,
        TextTower::Mct(mct) => mct::encode(s, &text, c, mct, want)?,
    };
    let pooled = layers::head(s, pooled, c.blocks().width, embed_dim, c.head)?;
    Ok(Encoded { tokens, pooled })
}

/// A batch of texts.
struct Text {
    /// `[B, L]`
    ids: Value,
    /// L, `[1]`, if it depends on the input.
    length: Option<Value>,
    /// Pooled position of each row, `[B, 1]`; None if it is the same for all.
    pooled: Option<Value>,
}

impl Text {
    /// Declares the input and finds the pooled position of each row.
    ///
    /// If every position attends only to those before it, nothing after a row's pooled position matters. So texts may
    /// have any length; and the batch may be cut after its last pooled position, which is exact and makes short texts
    /// several times faster.
    fn input(s: &Scope, c: &TextCfg, ports: &Ports) -> Text {
        let (dynamic, ends) = (s.options().dynamic_text, c.ends_where_pooled());
        let dims = vec![s.batch(), if dynamic { SEQUENCE } else { Dim::Fixed(c.context_length) }];
        let element = if ports.int32 { ElementType::Int32 } else { ElementType::Int64 };
        let ids = s.graph().input(ports.tokens, element, dims.clone());
        ports.mask.into_iter().for_each(|mask| s.graph().ignored_input(mask, dims.clone()));

        let ids = if dynamic && !ends { filled_up(s, ids, c, ports) } else { ids };
        let length = (dynamic && ends).then(|| s.at("cut").length(ids, 1));
        let pooled = match c.pool_type {
            TextPool::Last | TextPool::First => return Text { ids, length, pooled: None },
            TextPool::Argmax => Pooled::LargestId,
            TextPool::Eos => Pooled::FirstOf(c.eot_id),
        };
        let TextCfg { context_length, vocab_size, .. } = *c;
        let texts = Texts { pooled, context_length, vocab_size, int32: ports.int32 };
        let pooled = s.at("pool").pooled_position(ids, length, texts);
        let text = Text { ids, length, pooled: Some(pooled) };
        if !s.options().cut_text {
            return text;
        }
        let cut = s.at("cut");
        let last = cut.reduce_max(pooled, &[0, 1], false);
        let text = Text { length: Some(cut.add(cut.reshape(last, &[1]), cut.ints(&[1]))), ..text };
        Text { ids: text.cut(s, ids, 1), ..text }
    }

    /// The first L entries of an axis.
    fn cut(&self, s: &Scope, x: Value, axis: i64) -> Value {
        let cut = s.at("cut");
        self.length.map_or(x, |length| cut.slice(x, cut.ints(&[0]), length, axis))
    }

    /// Token and position embeddings: `[B, L, D]`.
    fn embed(&self, s: &Scope, c: &TextCfg) -> Result<Value, Error> {
        let embedding = s.at("token_embedding");
        let table = embedding.param("weight", &[c.vocab_size, c.blocks().width])?;
        let x = embedding.gather(embedding.initializer("weight", Role::Table, table), self.ids, 0); // [B, L, D]
        let positions =
            s.initializer("pos_embed", Role::Position, s.param("pos_embed", &[c.context_length, c.blocks().width])?);
        Ok(s.add(x, self.cut(s, positions, 0)))
    }

    /// Parameters of the blocks, and the position pooled from their output.
    fn transformer(&self, s: &Scope, c: &TextCfg) -> (Transformer, Position) {
        let causal = c.tower.family().is_causal().then(|| self.cut(s, s.causal_mask(c.context_length), 1)); // [context, L]
        let positions = if self.length.is_some() { None } else { Some(c.context_length) };
        let mask = causal.map(|mask| Mask::Causal(self.cut(s, mask, 0))); // [L, L]
        let transformer = Transformer::of(c.blocks(), positions, mask);
        let position = match (self.pooled, c.pool_type) {
            (Some(position), _) => Position::OfRow {
                mask: causal.map(|mask| s.mask_row(mask, position, self.length)),
                index: s.row_index(position, c.context_length),
            },
            (None, TextPool::First) => Position::Fixed(0),
            (None, _) => Position::Fixed(c.context_length - 1),
        };
        (transformer, position)
    }
}

/// Pads ids of any number to `[B, L]`, for models that attend to padding or pool it. Uses only operators whose output
/// shapes do not depend on the input's.
fn filled_up(s: &Scope, ids: Value, c: &TextCfg, ports: &Ports) -> Value {
    let s = s.at("fill");
    let pad = s.ints(&[c.pad_id]);
    let pad = if ports.int32 { s.cast_int32(pad) } else { pad };
    let first = s.gather(ids, s.ints(&vec![0; c.context_length]), 1); // [B, L]
    let padding = s.add(s.sub(first, first), pad);
    s.slice(s.concat(&[ids, padding], 1), s.ints(&[0]), s.ints(&[c.context_length as i64]), 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, OPTIONS};
    use super::*;
    use crate::config::{ClipText, Head, Transformer as Blocks};
    use crate::towers::scope::Options;

    /// Ports whose ids are the case's input.
    pub const PORTS: Ports = Ports { tokens: "input", ..Ports::PLAIN };

    /// The text tower of a case.
    pub fn config(case: &Case) -> TextCfg {
        let blocks = Blocks {
            width: case.setting("width"),
            layers: case.setting("layers"),
            heads: case.setting("heads"),
            mlp_dim: case.setting("mlp_dim"),
            act: case.setting("act"),
            norm_eps: case.setting("norm_eps"),
            layer_scale: false,
        };
        TextCfg {
            context_length: case.setting("context_length"),
            vocab_size: case.setting("vocab_size"),
            tower: TextTower::Transformer(ClipText { blocks, causal: !case.setting::<bool>("no_causal_mask") }),
            pool_type: case.setting("pool_type"),
            head: Some(Head { bias: false }),
            pad_id: 0,
            sot_id: None,
            eot_id: 31,
            clean: None,
        }
    }

    #[test]
    fn a_tower_is_that_of_open_clip() {
        let case = Case::read("text_embed_pool");
        let (c, embed_dim) = (config(&case), case.setting("embed_dim"));
        for (last_block, dynamic_text) in [(true, false), (false, false), (true, true), (false, true)] {
            let options = Options { last_block, dynamic_text, ..OPTIONS };
            case.check(options, &|s| Ok(tower(s, &c, embed_dim, &PORTS, Want::Pooled)?.pooled));
        }
    }
}
