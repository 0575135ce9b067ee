//! GELU as its parts, for operator sets and runtimes without the operator.

use super::At;
use crate::onnx::graph::Value;
use crate::onnx::ops::Ops;

/// x Φ(x) = ½ x (1 + erf(x / √2)), in the form that ONNX Runtime fuses: with a division, not a multiplication by
/// 0.7071.
pub fn exact(s: &At, x: Value) -> Value {
    let erf = s.erf(s.div(x, s.scalar(std::f32::consts::SQRT_2)));
    let y = s.mul(x, s.add(erf, s.scalar(1.0)));
    s.mul(y, s.scalar(0.5))
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), in the form that ONNX Runtime fuses: with Pow for the cube. Hendrycks and
/// Gimpel 2016.
pub fn tanh(s: &At, x: Value) -> Value {
    let cube = s.pow(x, s.scalar(3.0));
    let inner = s.add(x, s.mul(cube, s.scalar(0.044_715)));
    let tanh = s.tanh(s.mul(inner, s.scalar((2.0 / std::f64::consts::PI).sqrt() as f32)));
    let y = s.mul(x, s.add(tanh, s.scalar(1.0)));
    s.mul(y, s.scalar(0.5))
}

#[cfg(test)]
mod tests {
    use crate::onnx::Ops;
    use crate::onnx::testing::{Root, assert_close, floats, numbers, operators, run, targets};

    #[test]
    fn parts_and_operators_are_gelu() {
        let tanh = |x: f32| {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        let expected: Vec<f32> = numbers(32, 1).into_iter().map(tanh).collect();
        for target in targets() {
            let s = Root::new(target);
            let x = s.input("x", &[4, 8]);
            s.output("exact", s.gelu(x));
            s.output("tanh", s.gelu_tanh(x));
            let parts = s.0.into_parts();
            assert_eq!(operators(&parts).contains(&"Gelu"), target.has_gelu());
            let found = run(&parts, &[floats(&[4, 8], 1)]);
            // Both are the same function, but for 5e-4.
            assert_close(&found[0], &expected, 5e-4, "exact");
            assert_close(&found[1], &expected, 1e-6, "tanh");
            assert!(found[0] != found[1], "{}", target.profile.name);
        }
    }
}
