//! Products of vectors with one matrix per head.
//!
//! Computed with the matrix of all heads and a mask of each head's channels. So the product has a constant with two
//! axes, instead of a matrix for each head: OpenCV 5 and MNN 3.6 give wrong numbers when those are broadcast over a
//! batch, and ONNX Runtime's `quantize_dynamic(per_channel=True)` writes a model that it cannot run. It costs H times
//! the multiplications of one row, which is less than a hundredth of a tower's.
//!
//! For targets whose factors must have equal ranks and the same leading axes, heads are the leading axis of both factors.

use super::At;
use crate::onnx::composite::HeadRows;
use crate::onnx::graph::{Role, Value};
use crate::onnx::ops::Ops;
use crate::tensor::Tensor;

/// `[B, D]` → `[B, H, I]`.
pub fn lower_to(s: &At, x: Value, m: &HeadRows) -> Value {
    if s.target().profile.equal_ranks {
        let x = s.reshape(x, &[-1, m.heads as i64, (m.matrix.shape()[0] / m.heads) as i64]);
        return heads_first(s, x, m.by_head.clone());
    }
    // Each head's channels of x, zeros elsewhere.
    let x = s.mul(s.unsqueeze(x, &[1]), head_mask(s, m)); // [B, H, D]
    s.matmul(x, s.initializer("weight", Role::Weight, m.matrix.clone()))
}

/// `[B, H, I]` → `[B, D]`.
pub fn lower_from(s: &At, x: Value, m: &HeadRows) -> Value {
    if s.target().profile.equal_ranks {
        let x = heads_first(s, x, m.by_head.permute(&[0, 2, 1]));
        return s.reshape(x, &[-1, m.matrix.shape()[0] as i64]);
    }
    // All channels for each head, of which its own are selected.
    let all = s.matmul(x, s.initializer("weight", Role::Weight, m.matrix.permute(&[1, 0]))); // [B, H, D]
    s.reduce_sum(s.mul(all, head_mask(s, m)), &[1], false)
}

/// `[H, D]`: 1 where a channel belongs to a head, else 0.
fn head_mask(s: &At, m: &HeadRows) -> Value {
    let (d, heads) = (m.matrix.shape()[0], m.heads);
    let own = |at: usize| if at % d / (d / heads) == at / d { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..heads * d).map(own).collect();
    s.initializer("heads", Role::Constant, Tensor::from_f32("heads", &[heads, d], &values))
}

/// `[B, H, I]` times a matrix `[I, O]` per head: `[B, H, O]`.
fn heads_first(s: &At, x: Value, weight: Tensor) -> Value {
    let x = s.transpose(x, &[1, 0, 2]);
    s.transpose(s.matmul(x, s.initializer("weight", Role::Weight, weight)), &[1, 0, 2])
}

#[cfg(test)]
mod tests {
    use crate::onnx::CompositeOps;
    use crate::onnx::Target;
    use crate::onnx::composite::HeadRows;
    use crate::onnx::target::{MOBILE, PORTABLE};
    use crate::onnx::testing::{Root, assert_close, floats, numbers, run_for, tensor};

    /// B, H, D/H and I.
    const SIZES: [usize; 4] = [3, 2, 3, 5];

    fn matrix() -> HeadRows {
        HeadRows::new(tensor(&[6, 5], 7), 2).unwrap()
    }

    #[test]
    fn each_head_has_rows_of_its_own() {
        let [b, h, d, i] = SIZES;
        let (m, short, long) = (numbers(30, 7), numbers(18, 1), numbers(30, 2));
        let mut to = vec![0.0; b * h * i];
        let mut from = vec![0.0; b * h * d];
        for (b, h) in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
            for (d, i) in (0..d).flat_map(|d| (0..i).map(move |i| (d, i))) {
                let channel = b * 6 + h * 3 + d;
                to[(b * 2 + h) * 5 + i] += short[channel] * m[(h * 3 + d) * 5 + i];
                from[channel] += long[(b * 2 + h) * 5 + i] * m[(h * 3 + d) * 5 + i];
            }
        }
        for profile in [&PORTABLE, &MOBILE] {
            let build = |s: &Root| {
                s.output("to", s.linear_to_heads(s.input("x", &[b, 6]), matrix()));
                s.output("from", s.linear_from_heads(s.input("y", &[b, 2, 5]), matrix()));
            };
            let found = run_for(Target::new(profile), build, &[floats(&[3, 6], 1), floats(&[3, 2, 5], 2)]);
            assert_close(&found[0], &to, 1e-6, "to heads");
            assert_close(&found[1], &from, 1e-6, "from heads");
        }
    }
}
