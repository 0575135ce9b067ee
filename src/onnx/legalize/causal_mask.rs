//! The causal mask as numbers to add to scores.

use super::At;
use crate::onnx::graph::{Role, Value};
use crate::tensor::Tensor;

/// The masked value is the smallest float32; or, where a runtime may compute in float16 and that would become infinite, a
/// number within its range that is far below all scores too.
pub fn lower(s: &At, positions: usize) -> Value {
    let unseen = if s.target().profile.half_range { -3e4 } else { f32::MIN };
    let seen = |at: usize| at % positions <= at / positions;
    let values: Vec<f32> = (0..positions * positions).map(|at| if seen(at) { 0.0 } else { unseen }).collect();
    s.initializer("causal_mask", Role::Constant, Tensor::from_f32("causal mask", &[positions, positions], &values))
}

#[cfg(test)]
mod tests {
    use crate::onnx::CompositeOps;
    use crate::onnx::target::{MOBILE, PORTABLE, QNN};
    use crate::onnx::testing::{Root, run};
    use crate::onnx::{Ops, Target};

    #[test]
    fn what_comes_later_is_far_below_all_scores_and_within_the_target_range() {
        for (profile, unseen) in [(&PORTABLE, f32::MIN), (&MOBILE, -3e4), (&QNN, -3e4)] {
            let s = Root::new(Target::new(profile));
            s.output("y", s.add(s.causal_mask(3), s.scalar(0.0)));
            let found = run(&s.0.into_parts(), &[]);
            assert_eq!(found[0], [0.0, unseen, unseen, 0.0, 0.0, unseen, 0.0, 0.0, 0.0], "{}", profile.name);
        }
    }
}
