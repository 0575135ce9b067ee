//! Removes axes of length 1 that are inserted only to be removed again: `[B, D]` → `[B, 1, D]` → `[B, D]`.
//!
//! The last block, computed for one position, keeps an axis for it, as the blocks before it have. With a fixed batch
//! OpenVINO 2026.3 and 2026.4 need that axis: they crash when they compile two residual sums of a fixed number of rows,
//! up to 8, of 128 numbers or less. Otherwise it only adds nodes, and it is wrong for targets that multiply matrices
//! only.

use std::collections::{HashMap, HashSet};

use super::ints;
use super::shapes::{Shapes, along_last_axis};
use crate::onnx::graph::Value;
use crate::onnx::program::{Call, Program, Step};

/// Removes each pair of an `Unsqueeze` of a matrix to `[B, 1, D]` and the `Squeeze` that reverts it, if there are only
/// operators along the last axis between them.
pub fn remove(mut program: Program) -> Program {
    let gone = removable(&program);
    // Outputs of removed calls are replaced by their inputs.
    let mut same: HashMap<Value, Value> = HashMap::new();
    program.steps.retain_mut(|step| {
        let read = |value: &mut Value| *value = same.get(value).copied().unwrap_or(*value);
        match step {
            Step::Call(call) => {
                call.inputs.iter_mut().for_each(read);
                if gone.contains(&call.outputs[0]) {
                    same.insert(call.outputs[0], call.inputs[0]);
                    return false;
                }
            }
            Step::Name { value, .. } | Step::Output { value, .. } => read(value),
            _ => {}
        }
        true
    });
    program
}

/// Outputs of the calls that can be removed.
fn removable(program: &Program) -> HashSet<Value> {
    let shapes = Shapes::of(program);
    let mut constants = HashSet::new();
    let mut makers: HashMap<Value, &Call> = HashMap::new();
    let mut readers: HashMap<Value, Vec<&Call>> = HashMap::new();
    let mut outputs = HashSet::new();
    for step in &program.steps {
        match step {
            Step::Initializer { value, .. } | Step::Shared { value, .. } => _ = constants.insert(*value),
            Step::Output { value, .. } => _ = outputs.insert(*value),
            Step::Call(call) => {
                call.outputs.iter().for_each(|&output| _ = makers.insert(output, call));
                call.inputs.iter().for_each(|&input| readers.entry(input).or_default().push(call));
            }
            _ => {}
        }
    }
    let is = |call: &Call, op_type: &str| call.op_type == op_type && ints(call, "axes") == Some(&[1]);
    let mut gone = HashSet::new();
    for end in makers.values().filter(|call| is(call, "Squeeze") && shapes.rank(call.inputs[0]) == Some(3)) {
        // The values between `end` and where the axis was inserted; and the latter.
        let (mut region, mut starts) = (HashSet::new(), HashSet::new());
        let mut open = vec![end.inputs[0]];
        let mut whole = true;
        while let Some(value) = open.pop() {
            if !region.insert(value) {
                continue;
            }
            match makers.get(&value) {
                Some(call) if is(call, "Unsqueeze") && shapes.rank(call.inputs[0]) == Some(2) => {
                    starts.insert(value);
                }
                Some(call) if along_last_axis(call, &shapes, &|value| constants.contains(&value)) => {
                    region.extend(&call.outputs);
                    open.extend(call.inputs.iter().filter(|value| !constants.contains(value)));
                }
                _ => whole = false,
            }
        }
        // No other call reads a value with the axis.
        let read_inside = |value: &Value| {
            let by = |call: &&Call| std::ptr::eq(*call, *end) || call.outputs.iter().all(|out| region.contains(out));
            !outputs.contains(value) && readers.get(value).is_none_or(|calls| calls.iter().all(by))
        };
        if whole && region.iter().all(read_inside) {
            gone.extend(starts);
            gone.insert(end.outputs[0]);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use crate::onnx::Ops;
    use crate::onnx::Target;
    use crate::onnx::testing::{Root, assert_close, floats, operators, run};

    /// x + MLP(LN(x)) over one position; with `shown`, another output reads a value with the axis.
    fn build(batch: usize, shown: bool) -> Root {
        let s = Root::new(Target::default());
        let [x, y] = [s.input("x", &[batch, 4]), s.input("y", &[batch, 4])].map(|x| s.unsqueeze(x, &[1]));
        let x = s.add(x, y);
        let y = s.layer_normalization(x, s.weight("gain", &[4]), s.weight("bias", &[4]), 1e-5);
        let [y, gate] = s.split(s.matmul(y, s.weight("fc1", &[4, 16])), 8);
        let y = s.matmul(s.mul(s.gelu(y), s.sigmoid(gate)), s.weight("fc2", &[8, 4]));
        let x = s.add(x, s.add(y, s.weight("b", &[4])));
        s.output("z", s.squeeze(x, &[1]));
        if shown {
            s.output("shown", s.identity(x));
        }
        s
    }

    #[test]
    fn axes_that_nobody_needs_are_gone_and_numbers_are_the_same() {
        let inputs = [floats(&[3, 4], 1), floats(&[3, 4], 2)];
        let [kept, removed, shown] =
            [(3, false), (0, false), (0, true)].map(|(batch, shown)| build(batch, shown).0.into_parts());
        let count = |of: &[&str], op: &str| of.iter().filter(|found| **found == op).count();
        for (parts, axes) in [(&kept, 2), (&removed, 0), (&shown, 2)] {
            assert_eq!(count(&operators(parts), "Unsqueeze"), axes);
            assert_eq!(count(&operators(parts), "Squeeze"), axes / 2);
        }
        let expected = run(&kept, &inputs);
        assert_close(&run(&removed, &inputs)[0], &expected[0], 1e-6, "removed");
        assert_close(&run(&shown, &inputs)[0], &expected[0], 1e-6, "shown");
    }
}
