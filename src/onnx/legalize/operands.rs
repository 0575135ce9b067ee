//! Constant operands, such as the shape of Reshape, are attributes while a graph is built. Here they become inputs, as the
//! operator set requires.

use super::At;
use crate::onnx::graph::{Attribute, Value};
use crate::onnx::ops::Ops;
use crate::onnx::program::Call;

/// The attribute that becomes the operator's last input, if there is one.
pub fn operand(op_type: &str, axes_are_inputs: bool) -> Option<&'static str> {
    match op_type {
        "Reshape" | "Expand" => Some("shape"),
        "Pad" => Some("pads"),
        "Split" => Some("split"),
        "Unsqueeze" | "Squeeze" | "ReduceSum" => Some("axes"),
        "ReduceMax" | "ReduceMin" | "ReduceMean" | "ReduceL2" => axes_are_inputs.then_some("axes"),
        "Gather" => Some("index"),
        _ => None,
    }
}

/// Adds the call with its operand as an input; None if it has none.
pub fn lower(s: &At, call: &Call) -> Option<Vec<Value>> {
    let name = operand(call.op_type, s.target().axes_are_inputs())?;
    let mut call = call.clone();
    let at = call.attributes.iter().position(|(key, _)| *key == name)?;
    call.inputs.push(match call.attributes.remove(at).1 {
        Attribute::Ints(ints) => s.ints(&ints),
        // A scalar.
        Attribute::Int(int) => s.graph().int64(&[], &[int]),
        Attribute::Float(_) | Attribute::Text(_) => return None,
    });
    Some(s.graph().call(call))
}

#[cfg(test)]
mod tests {
    use crate::onnx::Ops;
    use crate::onnx::testing::{Root, assert_close, floats, run, targets};

    #[test]
    fn operands_are_where_an_operator_set_has_them() {
        let mut results = vec![];
        for target in targets() {
            let s = Root::new(target);
            let x = s.input("x", &[0, 4, 6]);
            let [a, b] = s.split(s.reshape(x, &[-1, 4, 6]), 3);
            let y = s.expand(s.reduce_mean(s.add(a, b), &[1], true), &[1, 2, 3]);
            let y = s.squeeze(s.unsqueeze(s.pad_front(y, 3, 1), &[1]), &[1]);
            s.output("y", s.add(y, s.unsqueeze(s.reduce_sum(s.index(x, 1, 1), &[-1], true), &[2])));
            let parts = s.0.into_parts();
            let mean = parts.nodes.iter().find(|node| node.op_type == "ReduceMean").unwrap();
            assert_eq!(mean.inputs.len(), if target.opset >= 18 { 2 } else { 1 });
            assert_eq!(mean.attributes.len(), if target.opset >= 18 { 1 } else { 2 });
            results.push(run(&parts, &[floats(&[2, 4, 6], 1)]).remove(0));
        }
        results.iter().for_each(|result| assert_close(result, &results[0], 0.0, "all operator sets"));
    }
}
