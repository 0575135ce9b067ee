//! Norms and maxima, for runtimes that do not support every reduction.

use super::At;
use crate::onnx::graph::Value;
use crate::onnx::ops::Ops;

/// Without `ReduceL2` if its axes are an input: MNN 3.6 ignores them and computes one norm for the whole batch.
pub fn l2_norm(s: &At, x: Value, width: usize) -> Value {
    let target = s.target();
    if !target.avoids("ReduceL2") && !target.axes_are_inputs() {
        return s.reduce_l2(x, &[-1], true);
    }
    let squares = s.mul(x, x);
    if !target.avoids("ReduceSum") {
        return s.sqrt(s.reduce_sum(squares, &[-1], true));
    }
    let mean = s.reduce_mean(squares, &[-1], true);
    s.sqrt(s.mul(mean, s.scalar(width as f32)))
}

/// With pooling if `ReduceMax` is not supported.
pub fn row_max(s: &At, x: Value) -> Value {
    if !s.target().avoids("ReduceMax") {
        return s.reduce_max(x, &[1], true);
    }
    s.squeeze(s.global_max_pool(s.unsqueeze(x, &[1, 2])), &[2, 3])
}

/// With `Clip` if `Max` is not supported.
pub fn at_least(s: &At, x: Value, least: f32, rank: usize) -> Value {
    if s.target().avoids("Max") {
        return s.op("Clip", &[x, s.scalar(least)], vec![]);
    }
    s.max(x, s.number(least, rank))
}

#[cfg(test)]
mod tests {
    use crate::onnx::CompositeOps;
    use crate::onnx::testing::{Root, assert_close, floats, numbers, operators, run, targets};

    #[test]
    fn norms_and_maxima_are_of_each_row_in_what_a_target_has() {
        let x = numbers(32, 1);
        let rows = || x.chunks(8);
        let norm: Vec<f32> = rows().map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
        let largest: Vec<f32> = rows().map(|row| row.iter().copied().fold(f32::MIN, f32::max)).collect();
        let at_least: Vec<f32> = x.iter().map(|x| x.max(0.25)).collect();
        for target in targets() {
            let s = Root::new(target);
            let x = s.input("x", &[4, 8]);
            s.output("norm", s.l2_norm(x, 8));
            s.output("largest", s.row_max(x));
            s.output("at_least", s.at_least(x, 0.25, 2));
            let parts = s.0.into_parts();
            assert!(operators(&parts).into_iter().all(|op| !target.avoids(op)), "{}", target.profile.name);
            let found = run(&parts, &[floats(&[4, 8], 1)]);
            assert_close(&found[0], &norm, 1e-6, "norm");
            assert_close(&found[1], &largest, 0.0, "largest");
            assert_close(&found[2], &at_least, 0.0, "at least");
        }
    }
}
