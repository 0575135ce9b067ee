//! Attention over heads: one operator where the operator set has it, otherwise its parts.

use super::At;
use crate::onnx::composite::{Heads, Mask};
use crate::onnx::graph::{Attribute, Value};
use crate::onnx::ops::Ops;

/// `inputs` are q, k, v, and the mask where there is one.
pub fn lower(s: &At, inputs: &[Value], c: &Heads) -> Value {
    let [q, k, v] = [inputs[0], inputs[1], inputs[2]];
    // The operator requires a query for each row of the batch; and tract does not support masks that are broadcast over
    // queries.
    let plain = !c.one_query && !matches!(c.mask, Some(Mask::Added(_)));
    if s.target().has_attention() && plain {
        return one_node(s, [q, k, v], c);
    }
    decomposed(s, [q, k, v], inputs.get(3).copied(), c)
}

fn one_node(s: &At, qkv: [Value; 3], c: &Heads) -> Value {
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

/// Heads split, scores, softmax, weighted values, heads joined.
fn decomposed(s: &At, [q, k, v]: [Value; 3], mask: Option<Value>, c: &Heads) -> Value {
    let head_dim = c.width / c.heads;
    let split = |x: Value, positions: Option<usize>, perm: &[i64]| {
        s.transpose(s.reshape(x, &shape(positions, &[c.heads, head_dim])), perm)
    };
    let queries = if c.one_query { Some(1) } else { c.positions };
    let q = s.named("q", split(q, queries, &[0, 2, 1, 3])); // [B, H, N, D/H]
    let k = s.named("k", split(k, c.positions, &[0, 2, 3, 1])); // [B, H, D/H, N]
    let v = s.named("v", split(v, c.positions, &[0, 2, 1, 3])); // [B, H, N, D/H]

    let q = if c.scaled { q } else { s.mul(q, s.scalar((head_dim as f32).powf(-0.5))) };
    let scores = s.matmul(q, k);
    let scores = mask.map_or(scores, |mask| s.add(scores, mask));
    let y = s.matmul(s.named("weights", s.softmax(scores, -1)), v); // [B, H, N, D/H]
    s.reshape(s.transpose(y, &[0, 2, 1, 3]), &shape(queries, &[c.width])) // [B, N, D]
}

/// A reshape target that keeps the batch and the positions: constant but for one -1 where the number of positions is
/// known, else both axes are kept by 0.
fn shape(positions: Option<usize>, rest: &[usize]) -> Vec<i64> {
    let lead = positions.map_or([0, 0], |n| [-1, n as i64]);
    lead.into_iter().chain(rest.iter().map(|&n| n as i64)).collect()
}

#[cfg(test)]
mod tests {
    use crate::onnx::CompositeOps;
    use crate::onnx::Target;
    use crate::onnx::composite::{Heads, Mask};
    use crate::onnx::target::ONNX_RUNTIME;
    use crate::onnx::testing::{Root, assert_close, floats, numbers, operators, run, run_for};

    const SHAPE: [usize; 3] = [2, 5, 6];
    const HEADS: Heads = Heads { width: 6, heads: 2, positions: Some(5), one_query: false, mask: None, scaled: false };

    fn build(causal: bool) -> impl Fn(&Root) {
        move |s: &Root| {
            let qkv = ["q", "k", "v"].map(|name| s.input(name, &[0, 5, 6]));
            let mask = causal.then(|| Mask::Causal(s.causal_mask(5)));
            s.output("y", s.attention(qkv, Heads { mask, ..HEADS }));
        }
    }

    /// softmax(q kᵀ / √d + mask) v, element by element.
    fn expected(causal: bool) -> Vec<f32> {
        let [q, k, v] = [1, 2, 3].map(|seed| numbers(60, seed));
        let at = |b: usize, n: usize, channel: usize| (b * 5 + n) * 6 + channel;
        let mut y = vec![0.0; 60];
        for (b, h, i) in (0..2).flat_map(|b| (0..2).flat_map(move |h| (0..5).map(move |i| (b, h, i)))) {
            let seen = if causal { i + 1 } else { 5 };
            let score = |j: usize| (0..3).map(|c| q[at(b, i, 3 * h + c)] * k[at(b, j, 3 * h + c)]).sum::<f32>();
            let weights: Vec<f32> = (0..seen).map(|j| (score(j) / 3f32.sqrt()).exp()).collect();
            let total: f32 = weights.iter().sum();
            for c in 3 * h..3 * h + 3 {
                y[at(b, i, c)] = weights.iter().enumerate().map(|(j, w)| w / total * v[at(b, j, c)]).sum();
            }
        }
        y
    }

    #[test]
    fn one_operator_and_its_parts_are_attention() {
        let inputs = [1, 2, 3].map(|seed| floats(&SHAPE, seed));
        for causal in [false, true] {
            for target in [Target::default(), Target::new(&ONNX_RUNTIME)] {
                let found = run_for(target, build(causal), &inputs);
                assert_close(&found[0], &expected(causal), 1e-6, target.profile.name);
            }
        }
    }

    #[test]
    fn a_mask_of_padding_and_a_single_query_are_decomposed() {
        let s = Root::new(Target::new(&ONNX_RUNTIME));
        let qkv = ["q", "k", "v"].map(|name| s.input(name, &[0, 5, 6]));
        let mask = s.input("mask", &[0, 1, 1, 5]);
        s.output("y", s.attention(qkv, Heads { mask: Some(Mask::Added(mask)), ..HEADS }));
        let parts = s.0.into_parts();
        assert!(!operators(&parts).contains(&"Attention"));
        // Nobody sees the last two positions: as if there were three.
        let mut inputs = [1, 2, 3].map(|seed| floats(&SHAPE, seed)).to_vec();
        let hidden = [0.0f32, 0.0, 0.0, -1e9, -1e9];
        inputs.push(tract_onnx::prelude::Tensor::from_shape(&[2, 1, 1, 5], &[hidden, hidden].concat()).unwrap());
        let masked = run(&parts, &inputs);

        let s = Root::new(Target::default());
        let qkv = ["q", "k", "v"].map(|name| s.input(name, &[0, 0, 6]));
        s.output("y", s.attention(qkv, Heads { positions: None, ..HEADS }));
        let short = |seed| {
            let all = numbers(60, seed);
            let rows: Vec<f32> = all.chunks(30).flat_map(|row| row[..18].to_vec()).collect();
            tract_onnx::prelude::Tensor::from_shape(&[2, 3, 6], &rows).unwrap()
        };
        let short = run(&s.0.into_parts(), &[1, 2, 3].map(short));
        let first: Vec<f32> = masked[0].chunks(30).flat_map(|row| row[..18].to_vec()).collect();
        assert_close(&first, &short[0], 1e-6, "padding");
    }
}
