//! LayerNormalization as its parts, for targets that do not support the operator.
//!
//! Runs on the quantized graph, because quantization looks for the operator.

use crate::onnx::graph::{Attribute, Data, Initializer, Node, Parts, Role, Value};
use crate::tensor::Tensor;

/// (x − mean(x)) / √(mean((x − mean(x))²) + ε) · gain + bias, with Pow, the form that ONNX Runtime fuses back
/// into one operator for its CPU kernels. Ba et al. 2016, eq. 4.
pub fn decompose(mut parts: Parts) -> Parts {
    if !parts.target.avoids("LayerNormalization") {
        return parts;
    }
    for node in std::mem::take(&mut parts.nodes) {
        match (node.op_type, &node.inputs[..]) {
            ("LayerNormalization", &[x, gain, bias]) => {
                let mut at = Decomposed { parts: &mut parts, path: node.name.clone() };
                let epsilon = node.attributes.iter().find_map(|(key, value)| match value {
                    Attribute::Float(epsilon) if *key == "epsilon" => Some(*epsilon),
                    _ => None,
                });
                let mean = at.mean(x);
                let centred = at.node("Sub", vec![x, mean]);
                let two = at.constant("exponent", 2.0);
                let squares = at.node("Pow", vec![centred, two]);
                let variance = at.mean(squares);
                let epsilon = epsilon.unwrap_or(1e-5);
                let epsilon = at.constant(&format!("epsilon_{epsilon:e}"), epsilon);
                let above = at.node("Add", vec![variance, epsilon]);
                let deviation = at.node("Sqrt", vec![above]);
                let y = at.node("Div", vec![centred, deviation]);
                let y = at.node("Mul", vec![y, gain]);
                at.last("Add", vec![y, bias], node.outputs);
            }
            _ => parts.nodes.push(node),
        }
    }
    parts
}

/// Adds the nodes that replace one LayerNormalization, under its name.
struct Decomposed<'a> {
    parts: &'a mut Parts,
    path: String,
}

impl Decomposed<'_> {
    fn node(&mut self, op_type: &'static str, inputs: Vec<Value>) -> Value {
        self.with(op_type, inputs, vec![])
    }

    fn with(&mut self, op_type: &'static str, inputs: Vec<Value>, attributes: Vec<(&'static str, Attribute)>) -> Value {
        let name = self.name(op_type);
        let output = self.parts.add_value(format!("{name}_output"));
        self.parts.nodes.push(Node { name, domain: "", op_type, inputs, outputs: vec![output], attributes });
        output
    }

    fn last(&mut self, op_type: &'static str, inputs: Vec<Value>, outputs: Vec<Value>) {
        let name = self.name(op_type);
        self.parts.nodes.push(Node { name, domain: "", op_type, inputs, outputs, attributes: vec![] });
    }

    /// An unused node name: the operator's, or that with a number.
    fn name(&self, op_type: &str) -> String {
        let taken = |name: &String| self.parts.nodes.iter().rev().take(12).any(|node| node.name == *name);
        let mut names = (0..).map(|n| match n {
            0 => format!("{}/{op_type}", self.path),
            n => format!("{}/{op_type}_{n}", self.path),
        });
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    fn mean(&mut self, x: Value) -> Value {
        let keepdims = ("keepdims", Attribute::Int(1));
        if !self.parts.target.axes_are_inputs() {
            return self.with("ReduceMean", vec![x], vec![("axes", Attribute::Ints(vec![-1])), keepdims]);
        }
        let last = self.shared("axes", Data::Int64 { dims: vec![1], values: vec![-1] });
        self.with("ReduceMean", vec![x, last], vec![keepdims])
    }

    fn constant(&mut self, name: &str, value: f32) -> Value {
        self.shared(name, Data::Float(Tensor::from_f32("constant", &[], &[value])))
    }

    /// A constant shared by all decomposed norms.
    fn shared(&mut self, name: &str, data: Data) -> Value {
        let name = format!("constants/layer_norm_{name}");
        let found = self.parts.values().find(|&value| self.parts.value_name(value) == name);
        found.unwrap_or_else(|| {
            self.parts.initializers.push(Initializer { name: name.clone(), role: Role::Constant, data });
            self.parts.add_value(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::target::MOBILE;
    use crate::onnx::testing::{Root, assert_close, floats, operators, run};
    use crate::onnx::{Ops, Target};

    #[test]
    fn parts_are_the_norm() {
        for opset in MOBILE.opsets.clone() {
            let s = Root::new(Target::with_opset(&MOBILE, opset).unwrap());
            let norm = |x, name: &str| {
                let [gain, bias] = ["gain", "bias"].map(|part| s.weight(&format!("{name}.{part}"), &[6]));
                s.layer_normalization(x, gain, bias, 1e-5)
            };
            s.output("y", norm(norm(s.input("x", &[3, 6]), "first"), "second"));
            let whole = s.0.into_parts();
            let parts = decompose(whole.clone());
            assert!(operators(&whole).contains(&"LayerNormalization"));
            assert!(!operators(&parts).contains(&"LayerNormalization"));
            let names: std::collections::HashSet<&String> = parts.nodes.iter().map(|node| &node.name).collect();
            assert_eq!(names.len(), parts.nodes.len(), "names are unique");
            let inputs = [floats(&[3, 6], 1)];
            assert_close(&run(&parts, &inputs)[0], &run(&whole, &inputs)[0], 1e-5, "norm");
        }
    }
}
