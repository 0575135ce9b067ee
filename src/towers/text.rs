//! Text transformer: token and position embeddings, blocks, one pooled place, projection.
//! Radford et al. 2021; open_clip's `TextTransformer`; SigLIP differs by fields alone.

use super::SEQUENCE;
use super::fastvit::{self, RepMixer};
use super::layers::{self, Transformer};
use super::pool::{self, Place};
use super::scope::Scope;
use crate::config::{MctText, TextCfg, TextPool, TextTower};
use crate::onnx::graph::{Dim, ElementType};
use crate::onnx::target::RowPlace;
use crate::onnx::{Mask, Ops, Value};
use crate::params::Error;
use crate::tensor::Tensor;

/// Up to here float16 holds every whole number.
const WHOLE_HALVES: usize = 1 << 11;

/// `input_ids` int64 `[B, L]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, c: &TextCfg, embed_dim: usize) -> Result<Value, Error> {
    let (width, norm_eps) = (c.blocks().width, c.blocks().norm_eps);
    let length = if s.build().dynamic_text { SEQUENCE } else { Dim::Fixed(c.context_length) };
    let ids = {
        let ports = s.build().ports;
        let element = if ports.int32 { ElementType::Int32 } else { ElementType::Int64 };
        let ids = s.graph().input(ports.tokens, element, vec![s.rows(), length.clone()]);
        ports.mask.into_iter().for_each(|mask| s.graph().ignored_input(mask, vec![s.rows(), length.clone()]));
        ids
    };
    let ids = if s.build().dynamic_text && !c.ends_where_pooled() { filled_up(s, ids, c) } else { ids };
    let (text, ids) = Text::of(s, ids, c);

    let embedding = s.at("token_embedding");
    let table = embedding.param("weight", &[c.vocab_size, width])?;
    let x = embedding.gather(embedding.initializer("weight", table), ids, 0); // [B, L, D]
    let positions = s.initializer("pos_embed", s.param("pos_embed", &[c.context_length, width])?);
    let x = layers::rows(s, s.add(x, text.cut(s, positions, 0)), width);

    let causal = c.tower.family().is_causal().then(|| layers::causal_mask(s, c.context_length)); // [L, L]
    let causal = causal.map(|mask| text.cut(s, mask, 1));
    let mask = causal.map(|mask| Mask::Causal(text.cut(s, mask, 0)));
    let transformer = Transformer::of(c.blocks(), text.places(c), mask);
    let place = match text.place {
        Some(place) => text.place_of_row(s, place, causal, c),
        None if c.pool_type == TextPool::First => Place::Fixed(0),
        None => Place::Fixed(c.context_length - 1),
    };
    if s.build().ports.hidden {
        let x = match &c.tower {
            TextTower::Transformer(_) => layers::blocks(s, x, &transformer)?,
            TextTower::Mct(c) => mct(s, x, c, &transformer)?,
        };
        let x = layers::layer_norm(&s.at("norm"), x, width, norm_eps)?;
        let places = text.places(c).map_or(SEQUENCE, Dim::Fixed);
        let x = layers::rows(s, super::hidden(s, x, places, width), width);
        let x = place.take(&s.at("pool"), x, &transformer);
        return layers::head(s, x, width, embed_dim, c.head);
    }
    let x = match &c.tower {
        TextTower::Transformer(_) => pool::blocks(s, x, place, &transformer)?,
        TextTower::Mct(c) => place.take(&s.at("pool"), mct(s, x, c, &transformer)?, &transformer),
    }; // [B, D]
    let x = layers::layer_norm(&s.at("norm"), x, width, norm_eps)?;
    layers::head(s, x, width, embed_dim, c.head)
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
    /// Pooled place of each row, `[B, 1]`, or a one there among zeros, `[B, L]` ([`RowPlace::OneHot`]); None
    /// where it is the same in all.
    place: Option<Value>,
    /// Number of places, where it depends on the input.
    length: Option<Value>,
}

impl Text {
    /// Reads `ids [B, L]`; gives them back, cut.
    fn of(s: &Scope, ids: Value, c: &TextCfg) -> (Text, Value) {
        let pool = s.at("pool");
        let text = Text { place: None, length: free_length(s, ids, c) };
        let place = match c.pool_type {
            TextPool::Last | TextPool::First => None,
            _ if row_place(s, c) == RowPlace::OneHot => {
                return (Text { place: Some(text.one_hot(&pool, ids, c)), ..text }, ids);
            }
            TextPool::Argmax | TextPool::Eos => Some(text.largest_rank(&pool, ids, c)),
        };
        if let Some(place) = place.filter(|_| s.build().cuts_text(c)) {
            let cut = s.at("cut");
            let last = cut.reduce_max(place, &[0, 1], false);
            let length = cut.add(cut.reshape(last, &[1]), cut.ints(&[1]));
            let text = Text { place: Some(place), length: Some(length) };
            let ids = text.cut(s, ids, 1);
            return (text, ids);
        }
        (Text { place, ..text }, ids)
    }

    /// The first places of an axis: as many as there are in the text.
    fn cut(&self, s: &Scope, x: Value, axis: i64) -> Value {
        let cut = s.at("cut");
        self.length.map_or(x, |length| cut.slice(x, cut.ints(&[0]), length, axis))
    }

    /// A one at the pooled place among zeros, `[B, L]`. Ids become floats by tables, which more providers take
    /// than a cast, and are compared digit by digit: no number here is larger than float16 holds exactly. Of
    /// equal ids the first counts.
    fn one_hot(&self, s: &Scope, ids: Value, c: &TextCfg) -> Value {
        let numbers = |name: &str, count: usize, of: &dyn Fn(usize) -> usize| {
            let numbers: Vec<f32> = (0..count).map(|n| of(n) as f32).collect();
            s.initializer(name, Tensor::from_f32(name, &[count], &numbers))
        };
        let of_ids = |name: &str, of: &dyn Fn(usize) -> usize| s.gather(numbers(name, c.vocab_size, of), ids, 0);
        let largest = |x: Value| s.relu(s.sub(s.scalar(1.0), s.sub(s.row_max(x), x))); // a one at each of them
        let ends = if c.pool_type == TextPool::Eos {
            // Where there is none the first place is pooled, as by ArgMax.
            largest(of_ids("is_end", &|id| usize::from(id as i64 == c.eot_id)))
        } else {
            let high = largest(of_ids("high", &|id| id / WHOLE_HALVES));
            largest(s.mul(high, of_ids("low", &|id| id % WHOLE_HALVES + 1)))
        };
        let earlier = numbers("earlier", c.context_length, &|place| c.context_length - place);
        largest(s.mul(ends, self.cut(s, earlier, 0)))
    }

    /// The pooled place of each row, `[B, 1]`: of the largest id, or the first end token, as `ArgMax` of ranks. No two
    /// ranks of a row are equal, as runtimes differ in which of equals they take (rten 0.27 the last). ONNX Runtime
    /// 1.14 has no ArgMax of int64.
    fn largest_rank(&self, s: &Scope, ids: Value, c: &TextCfg) -> Value {
        let ids = if s.build().ports.int32 { s.cast_int64(ids) } else { ids };
        let (length, earlier) = (c.context_length as i64, (0..c.context_length).rev());
        if c.pool_type == TextPool::Eos {
            // Where there is none the first place is pooled. Numbers this small are exact as floats.
            let is_end = s.cast_float(s.equal(ids, s.graph().int64(&[], &[c.eot_id])));
            let earlier: Vec<f32> = earlier.map(|n| n as f32).collect();
            let earlier = s.initializer("earlier", Tensor::from_f32("earlier", &[c.context_length], &earlier));
            let earlier = self.cut(s, earlier, 0);
            return s.arg_max(s.add(s.mul(is_end, s.scalar(length as f32)), earlier), 1, true);
        }
        let earlier: Vec<i64> = earlier.map(|n| n as i64).collect();
        let earlier = self.cut(s, s.ints(&earlier), 0);
        let ranks = s.add(s.mul(ids, s.graph().int64(&[], &[length])), earlier);
        let fits = c.vocab_size as i64 * length <= i64::from(i32::MAX);
        s.arg_max(if fits { s.cast_int32(ranks) } else { ranks }, 1, true)
    }

    /// What is pooled of each row, and what it may see by the causal mask.
    fn place_of_row(&self, s: &Scope, place: Value, causal: Option<Value>, c: &TextCfg) -> Place {
        let (pool, by) = (s.at("pool"), row_place(s, c));
        if by == RowPlace::OneHot {
            let seen = |mask: Value| pool.unsqueeze(pool.matmul(place, self.cut(s, mask, 0)), &[1]);
            return Place::OfRow { mask: causal.map(seen), place: pool.unsqueeze(place, &[1]), by };
        }
        let mask = causal.map(|mask| s.gather(mask, place, 0));
        let place = match s.build().rows() {
            Some(rows) if by == RowPlace::Rows && rows > 1 => {
                let first: Vec<i64> = (0..rows).map(|row| (row * c.context_length) as i64).collect();
                pool.add(place, s.graph().int64(&[rows, 1], &first))
            }
            _ => place,
        };
        Place::OfRow { place, by, mask }
    }

    fn places(&self, c: &TextCfg) -> Option<usize> {
        if self.length.is_some() { None } else { Some(c.context_length) }
    }
}

/// The number of places, where texts are of any length.
fn free_length(s: &Scope, ids: Value, c: &TextCfg) -> Option<Value> {
    let free = s.build().dynamic_text && c.ends_where_pooled();
    free.then(|| s.at("cut").length(ids, 1))
}

/// As the target has it, where its numbers are exact.
fn row_place(s: &Scope, c: &TextCfg) -> RowPlace {
    let by = s.graph().target().profile.row_place;
    let exact = c.context_length <= WHOLE_HALVES && c.vocab_size <= WHOLE_HALVES * WHOLE_HALVES;
    if by == RowPlace::OneHot && !exact { RowPlace::Elements } else { by }
}

/// MobileCLIP-S0's blocks: a convolution along the text before and after the attention layers.
/// They are numbered as one list. Vasu et al. 2024, §4.1 (Text-RepMixer).
fn mct(s: &Scope, x: Value, c: &MctText, transformer: &Transformer) -> Result<Value, Error> {
    let (kernel, width) = ([1, c.mixer.kernel], c.blocks.width);
    let rep_mixer = RepMixer {
        dim: width,
        mixer_kernel: kernel,
        mlp_kernel: kernel,
        mlp_dim: c.mixer.mlp_dim,
        scale_branch: false,
        act: c.blocks.act,
        bn_eps: c.mixer.bn_eps,
        reparameterized: c.mixer.reparameterized,
    };
    let along_text = |s: &Scope, x: Value| -> Result<Value, Error> {
        let x = layers::places(s, x, transformer.places, width);
        let x = s.unsqueeze(s.transpose(x, &[0, 2, 1]), &[2]); // [B, D, 1, L]
        let x = fastvit::rep_mixer_block(s, x, &rep_mixer)?;
        Ok(layers::rows(s, s.transpose(s.squeeze(x, &[2]), &[0, 2, 1]), width)) // [B, L, D]
    };
    let blocks = s.at("blocks");
    let x = along_text(&blocks.at(0), x)?;
    let x = (1..=c.blocks.layers).try_fold(x, |x, i| layers::block(&blocks.at(i), x, transformer))?;
    along_text(&blocks.at(c.blocks.layers + 1), x)
}
