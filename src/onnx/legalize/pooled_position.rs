//! The pooled position of each text: finding it in the ids, and selecting it from activations and from the mask.
//!
//! These are composite operators and not rewrites of standard ones because the three ways ([`PositionSelect`]) have no
//! operator in common: what is an index in one is a one-hot vector in another.

use std::collections::HashMap;

use super::{At, reduce};
use crate::onnx::composite::{Pooled, Texts};
use crate::onnx::graph::{Role, Value};
use crate::onnx::ops::Ops;
use crate::onnx::target::PositionSelect;
use crate::tensor::Tensor;

/// Up to here float16 holds every integer.
const FLOAT16_INTEGERS: usize = 1 << 11;

/// How each position found so far is represented.
#[derive(Default)]
pub struct Positions(HashMap<Value, PositionSelect>);

impl Positions {
    /// Ids `[B, L]` → position `[B, 1]`; or one-hot, `[B, L]`, where the target selects with products.
    pub fn find(&mut self, s: &At, ids: Value, length: Option<Value>, c: &Texts) -> Value {
        let by = s.target().profile.position_select;
        // One-hot vectors only if the numbers they are computed from are exact in float16.
        let exact = c.context_length <= FLOAT16_INTEGERS && c.vocab_size <= FLOAT16_INTEGERS * FLOAT16_INTEGERS;
        let by = if by == PositionSelect::OneHot && !exact { PositionSelect::Elements } else { by };
        let position = match by {
            PositionSelect::OneHot => one_hot(s, ids, length, c),
            PositionSelect::Elements | PositionSelect::Rows => largest_rank(s, ids, length, c),
        };
        self.0.insert(position, by);
        position
    }

    /// The position as [`Positions::take`] needs it.
    pub fn index(&mut self, s: &At, position: Value, positions: usize) -> Value {
        let by = self.of(position);
        let s = s.at("pool");
        let index = match (by, s.rows()) {
            (PositionSelect::OneHot, _) => s.unsqueeze(position, &[1]), // [B, 1, N]
            (PositionSelect::Rows, Some(rows)) if rows > 1 => {
                let first: Vec<i64> = (0..rows).map(|row| (row * positions) as i64).collect();
                s.add(position, s.graph().int64(&[rows, 1], &first))
            }
            _ => position,
        };
        self.0.insert(index, by);
        index
    }

    /// The row of a mask at each position.
    pub fn mask_row(&self, s: &At, mask: Value, position: Value, length: Option<Value>) -> Value {
        match self.of(position) {
            PositionSelect::OneHot => {
                let pool = s.at("pool");
                pool.unsqueeze(pool.matmul(position, cut(s, mask, length)), &[1])
            }
            PositionSelect::Elements | PositionSelect::Rows => s.gather(mask, position, 0),
        }
    }

    /// The activations at each position: `[B, N, D]` → `[B, D]`.
    pub fn take(&self, s: &At, x: Value, index: Value, width: usize) -> Value {
        match self.of(index) {
            PositionSelect::Elements => {
                // The position, repeated for each of the D channels.
                let positions = s.expand(s.unsqueeze(index, &[2]), &[1, 1, width as i64]); // [B, 1, D]
                s.squeeze(s.gather_elements(x, positions, 1), &[1])
            }
            PositionSelect::Rows => {
                let all = s.reshape(x, &[-1, width as i64]); // [B·N, D]
                s.squeeze(s.gather(all, index, 0), &[1])
            }
            PositionSelect::OneHot => s.squeeze(s.matmul(index, x), &[1]),
        }
    }

    fn of(&self, position: Value) -> PositionSelect {
        self.0.get(&position).copied().unwrap_or(PositionSelect::Elements)
    }
}

/// The first `length` entries of the first axis.
fn cut(s: &At, x: Value, length: Option<Value>) -> Value {
    let cut = s.at("cut");
    length.map_or(x, |length| cut.slice(x, cut.ints(&[0]), length, 0))
}

/// One-hot vectors of the pooled positions, `[B, L]`. Ids are converted to floats with lookup tables, which more
/// execution providers support than a cast, and compared digit by digit, so that all numbers are exact in float16. Of
/// equal ids the first counts.
fn one_hot(s: &At, ids: Value, length: Option<Value>, c: &Texts) -> Value {
    let numbers = |name: &str, role: Role, count: usize, of: &dyn Fn(usize) -> usize| {
        let numbers: Vec<f32> = (0..count).map(|n| of(n) as f32).collect();
        s.initializer(name, role, Tensor::from_f32(name, &[count], &numbers))
    };
    let of_ids =
        |name: &str, of: &dyn Fn(usize) -> usize| s.gather(numbers(name, Role::Lookup, c.vocab_size, of), ids, 0);
    let largest = |x: Value| s.relu(s.sub(s.scalar(1.0), s.sub(reduce::row_max(s, x), x))); // 1 at each of them
    let ends = match c.pooled {
        // If there is none the first position is pooled, as by ArgMax.
        Pooled::FirstOf(end) => largest(of_ids("is_end", &|id| usize::from(id as i64 == end))),
        Pooled::LargestId => {
            let high = largest(of_ids("high", &|id| id / FLOAT16_INTEGERS));
            largest(s.mul(high, of_ids("low", &|id| id % FLOAT16_INTEGERS + 1)))
        }
    };
    let earlier = numbers("earlier", Role::Constant, c.context_length, &|position| c.context_length - position);
    largest(s.mul(ends, cut(s, earlier, length)))
}

/// The pooled position of each row, `[B, 1]`: the ArgMax of ranks that put the largest id, or the end token, first. All
/// ranks of a row differ, because runtimes differ in which of equal maxima they return (rten 0.27 the last). Ranks are
/// int32 if they fit: ONNX Runtime 1.14 has no ArgMax for int64.
fn largest_rank(s: &At, ids: Value, length: Option<Value>, c: &Texts) -> Value {
    let ids = if c.int32 { s.cast_int64(ids) } else { ids };
    let (count, earlier) = (c.context_length as i64, (0..c.context_length).rev());
    match c.pooled {
        Pooled::FirstOf(end) => {
            // If there is none the first position is pooled. Numbers this small are exact as floats.
            let is_end = s.cast_float(s.equal(ids, s.graph().int64(&[], &[end])));
            let earlier: Vec<f32> = earlier.map(|n| n as f32).collect();
            let earlier =
                s.initializer("earlier", Role::Constant, Tensor::from_f32("earlier", &[c.context_length], &earlier));
            let earlier = cut(s, earlier, length);
            s.arg_max(s.add(s.mul(is_end, s.scalar(count as f32)), earlier), 1, true)
        }
        Pooled::LargestId => {
            let earlier: Vec<i64> = earlier.map(|n| n as i64).collect();
            let earlier = cut(s, s.ints(&earlier), length);
            let ranks = s.add(s.mul(ids, s.graph().int64(&[], &[count])), earlier);
            let fits = c.vocab_size as i64 * count <= i64::from(i32::MAX);
            s.arg_max(if fits { s.cast_int32(ranks) } else { ranks }, 1, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::CompositeOps;
    use crate::onnx::Target;
    use crate::onnx::graph::ElementType;
    use crate::onnx::target::WEB;
    use crate::onnx::testing::{Root, assert_close, floats, ids, numbers, operators, run, targets};

    const LENGTH: usize = 5;
    /// The largest id twice, an end token behind it, no end token, an end token first.
    const IDS: [i64; 20] = [1, 9, 3, 9, 7, 2, 8, 7, 7, 0, 5, 4, 3, 2, 1, 7, 9, 7, 0, 0];

    fn texts(pooled: Pooled) -> Texts {
        Texts { pooled, context_length: LENGTH, vocab_size: 10, int32: false }
    }

    #[test]
    fn the_first_largest_id_or_end_token_is_pooled_in_every_target() {
        let x = numbers(4 * LENGTH * 3, 1);
        let mask = numbers(LENGTH * LENGTH, 4);
        for (pooled, at) in [(Pooled::LargestId, [1, 1, 0, 1]), (Pooled::FirstOf(7), [4, 2, 0, 0])] {
            let taken: Vec<f32> =
                at.iter().enumerate().flat_map(|(row, at)| x[(row * LENGTH + at) * 3..][..3].to_vec()).collect();
            let seen: Vec<f32> = at.iter().flat_map(|at| mask[at * LENGTH..][..LENGTH].to_vec()).collect();
            for target in targets() {
                let s = Root::new(target);
                let input = s.ids("ids", &[4, LENGTH], ElementType::Int64);
                let x = s.input("x", &[4, LENGTH, 3]);
                let position = s.pooled_position(input, None, texts(pooled));
                let mask = s.weight("mask", &[LENGTH, LENGTH]);
                s.output("seen", s.mask_row(mask, position, None));
                s.output("taken", s.take_position(x, s.row_index(position, LENGTH), 3));
                let found = run(&s.0.into_parts(), &[ids(&[4, LENGTH], &IDS), floats(&[4, LENGTH, 3], 1)]);
                assert_close(&found[0], &seen, 1e-6, target.profile.name);
                assert_close(&found[1], &taken, 1e-6, target.profile.name);
            }
        }
    }

    #[test]
    fn texts_may_be_shorter_than_the_context() {
        let found = |ids_of: &[i64], length: usize, target| {
            let s = Root::new(target);
            let input = s.ids("ids", &[1, 0], ElementType::Int64);
            let x = s.input("x", &[1, 0, 3]);
            let position = s.pooled_position(input, Some(s.length(input, 1)), texts(Pooled::LargestId));
            s.output("taken", s.take_position(x, s.row_index(position, LENGTH), 3));
            run(&s.0.into_parts(), &[ids(&[1, length], ids_of), floats(&[1, length, 3], 1)]).remove(0)
        };
        for target in targets().into_iter().filter(|target| !target.profile.static_batch) {
            assert_close(&found(&[1, 9, 9], 3, target), &numbers(9, 1)[3..6], 1e-6, target.profile.name);
        }
    }

    #[test]
    fn large_vocabularies_are_not_compared_in_floats() {
        let s = Root::new(Target::new(&WEB));
        let input = s.ids("ids", &[1, 3], ElementType::Int64);
        let texts = Texts { vocab_size: FLOAT16_INTEGERS * FLOAT16_INTEGERS + 1, ..texts(Pooled::LargestId) };
        let position = s.pooled_position(input, None, texts);
        let x = s.input("x", &[1, 3, 2]);
        s.output("taken", s.take_position(x, s.row_index(position, LENGTH), 2));
        assert!(operators(&s.0.into_parts()).contains(&"ArgMax"));
    }
}
