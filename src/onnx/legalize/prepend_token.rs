//! A class token before all positions, without an Expand to the batch size.

use super::At;
use crate::onnx::graph::{Role, Value};
use crate::onnx::ops::Ops;
use crate::tensor::Tensor;

/// Pads x with zeros in front and adds one table of the token and all position embeddings. If the target does not support
/// Pad and the batch size is fixed, adds the position embeddings and concatenates the token, repeated for the batch.
///
/// This is a composite operator and not a rewrite of Concat because the two forms store different constants, and neither
/// is the parameter as the checkpoint has it.
pub fn lower(s: &At, x: Value, token: &[f32], positions: &[f32]) -> Value {
    let width = token.len();
    let table = |name: &str, rows: usize, numbers: &[f32]| {
        Tensor::from_f32(name, &[rows, numbers.len() / rows / width, width], numbers)
    };
    if let Some(rows) = s.rows().filter(|_| s.target().avoids("Pad")) {
        let x = s.add(x, s.initializer("pos_embed", Role::Position, table("positions", 1, positions)));
        return s.concat(
            &[s.initializer("cls_token", Role::Position, table("class token", rows, &token.repeat(rows))), x],
            1,
        );
    }
    let x = s.pad_front(x, 3, 1);
    s.add(
        x,
        s.initializer("pos_embed", Role::Position, table("class token and positions", 1, &[token, positions].concat())),
    )
}

#[cfg(test)]
mod tests {
    use crate::onnx::CompositeOps;
    use crate::onnx::Target;
    use crate::onnx::testing::{Root, assert_close, floats, numbers, operators, run, targets};

    #[test]
    fn the_token_comes_first_and_positions_are_added() {
        let (token, positions, x) = (numbers(4, 1), numbers(12, 2), numbers(24, 3));
        let row = |b: usize| x[12 * b..][..12].iter().zip(&positions).map(|(x, p)| x + p).collect::<Vec<f32>>();
        let expected = [token.clone(), row(0), token.clone(), row(1)].concat();
        for (target, batch) in targets().into_iter().flat_map(|target: Target| [(target, 0), (target, 2)]) {
            let s = Root::new(target);
            let x = s.input("x", &[batch, 3, 4]);
            s.output("y", s.prepend_token(x, token.clone(), positions.clone()));
            let parts = s.0.into_parts();
            assert!(batch == 0 || !target.avoids("Pad") || !operators(&parts).contains(&"Pad"));
            let found = run(&parts, &[floats(&[2, 3, 4], 3)]);
            assert_close(&found[0], &expected, 0.0, target.profile.name);
        }
    }
}
