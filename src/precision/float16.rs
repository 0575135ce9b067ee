//! float16: as arithmetic, or as a way to store weights.

use std::collections::{HashMap, HashSet};

use super::layers::{Constant, SMALL};
use super::operators::{FLOAT32_ONLY, INTEGER_RESULTS, PIXELS};
use super::packed::Float16;
use super::rewrite::{FLOAT, FLOAT16, Rewrite};
use super::scheme::Format;
use super::{Changes, LayerReport, Options, Reason};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, ElementType, Node, Parts, Role};
use crate::onnx::write::MICROSOFT;

/// Large weights in float16, cast to float32 where they are used: engines do that once, when they load the file.
pub fn weights(parts: &Parts, options: &Options, changes: &mut Changes) -> Parts {
    let (mut out, nodes) = Rewrite::new(parts);
    let mut widened: HashMap<Value, Value> = HashMap::new();
    let mut reported: HashSet<Value> = HashSet::new();
    for mut node in nodes {
        let mut picks_rows = false;
        for at in 0..node.inputs.len() {
            let value = node.inputs[at];
            let Some(constant) = out.weight(value).filter(is_stored_in_float16) else { continue };
            let excluded = options.excludes(&constant.name);
            if reported.insert(value) {
                changes.layers.push(report(&constant, excluded));
            }
            if excluded {
                continue;
            }
            let Constant { name, role, tensor } = constant;
            let mut stored = |out: &mut Rewrite| {
                let clamped = changes.count_clamped(&name);
                out.constant(&format!("{name}.fp16"), role, Float16::data(tensor.clone(), &clamped))
            };
            if node.op_type == "Gather" && at == 0 {
                // The rows that are picked are cast, not the table.
                node.inputs[at] = stored(&mut out);
                picks_rows = true;
                continue;
            }
            node.inputs[at] = *widened.entry(value).or_insert_with(|| {
                let stored = stored(&mut out);
                out.cast(&name, stored, FLOAT)
            });
        }
        if picks_rows { out.keep_then_cast(node, FLOAT) } else { out.keep(node) }
    }
    out.finish()
}

/// Whether a constant is a weight, large enough, that float16 may hold.
fn is_stored_in_float16(constant: &Constant) -> bool {
    constant.tensor.len() >= SMALL && !matches!(constant.role, Role::Labels | Role::Lookup)
}

fn report(weight: &Constant, excluded: bool) -> LayerReport {
    let (stored, size) = if excluded { (Format::Float32, 4) } else { (Format::Float16, 2) };
    LayerReport {
        name: weight.name.clone(),
        stored: stored.name(),
        promotable: false,
        error: 0.0,
        outlier_channels: 0,
        bytes: weight.tensor.len() as u64 * size,
        promoted: excluded.then_some(Reason::Excluded),
    }
}

/// The type of a computed float of the new graph.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Float {
    Half,
    Single,
}

/// All arithmetic in float16, inputs and outputs in float32. What is computed from integers alone, such as NaFlex's
/// positions, and what is not safe in float16 stays in float32; LayerNormalization takes its mean and variance in float32
/// by its definition.
pub fn arithmetic(parts: &Parts, changes: &mut Changes) -> Parts {
    let (out, nodes) = Rewrite::new(parts);
    let (pixels, bytes) = (out.inputs(ElementType::Float), out.inputs(ElementType::Uint8));
    let mut pass = Arithmetic {
        floats: pixels.iter().map(|&value| (value, Float::Single)).collect(),
        outputs: out.outputs(),
        pixels,
        bytes,
        casts: HashMap::new(),
        constants: HashMap::new(),
        out,
        changes,
    };
    nodes.into_iter().for_each(|node| pass.node(node));
    pass.out.finish()
}

struct Arithmetic<'a> {
    out: Rewrite,
    changes: &'a mut Changes,
    /// What computed floats are.
    floats: HashMap<Value, Float>,
    /// float32 inputs, and what bytes are widened to: float16 has them exactly, or nearly.
    pixels: HashSet<Value>,
    /// Pixels as bytes.
    bytes: HashSet<Value>,
    outputs: HashSet<Value>,
    /// Computed floats in the other type, made where one is needed first.
    casts: HashMap<Value, Value>,
    /// Constants in float16.
    constants: HashMap<Value, Value>,
}

impl Arithmetic<'_> {
    fn node(&mut self, mut node: Node) {
        if self.prepares_pixels(&node) {
            let floats = node.op_type == "Cast" || node.inputs.iter().any(|value| self.pixels.contains(value));
            if floats {
                self.floats.extend(node.outputs.iter().map(|&value| (value, Float::Single)));
            }
            if floats { &mut self.pixels } else { &mut self.bytes }.extend(&node.outputs);
            return self.out.keep(node);
        }
        let computed = node.inputs.iter().any(|value| self.floats.contains_key(value));
        let reads_floats = computed || node.inputs.iter().any(|&value| self.out.weight(value).is_some());
        if (!reads_floats && node.op_type != "Cast") || INTEGER_RESULTS.contains(&node.op_type) {
            return self.out.keep(node);
        }
        let float = if self.stays_single(&node) { Float::Single } else { Float::Half };
        for input in &mut node.inputs {
            *input = self.input(*input, float);
        }
        if node.op_type == "Attention" {
            node.attributes.push(("softmax_precision", Attribute::Int(FLOAT)));
        }
        if float == Float::Half && node.outputs.iter().any(|value| self.outputs.contains(value)) {
            self.floats.extend(node.outputs.iter().map(|&value| (value, Float::Single)));
            return self.out.keep_then_cast(node, FLOAT);
        }
        self.floats.extend(node.outputs.iter().map(|&value| (value, float)));
        self.out.keep(node);
    }

    /// Whether a node is one of those in front of the first convolution that make pixels of bytes.
    fn prepares_pixels(&self, node: &Node) -> bool {
        let reads = |values: &HashSet<Value>| node.inputs.iter().any(|value| values.contains(value));
        reads(&self.bytes) || (PIXELS.contains(&node.op_type) && reads(&self.pixels))
    }

    /// Whether a node of floats computes in float32.
    fn stays_single(&self, node: &Node) -> bool {
        let computed: Vec<Value> = node.inputs.iter().copied().filter(|v| self.floats.contains_key(v)).collect();
        let single = |value: &Value| self.floats[value] == Float::Single && !self.pixels.contains(value);
        // Blocks of integers have float16 scales already.
        let all_single = !computed.is_empty() && computed.iter().all(single) && node.domain != MICROSOFT;
        // Only what is computed may be small enough for a division by it to be unsafe.
        let unsafe_in_half = FLOAT32_ONLY.contains(&node.op_type) && (node.op_type != "Div" || computed.len() > 1);
        let squares = node.op_type == "Mul" && node.inputs.first() == node.inputs.get(1);
        let looks_up = node.inputs.iter().any(|&v| self.out.weight(v).is_some_and(|table| table.role == Role::Lookup));
        node.op_type == "Cast" || squares || looks_up || all_single || unsafe_in_half
    }

    /// An input of a node that computes in `float`.
    fn input(&mut self, value: Value, float: Float) -> Value {
        let Some(&found) = self.floats.get(&value) else {
            let Some(Constant { name, role, tensor }) = self.out.weight(value).filter(|_| float == Float::Half) else {
                return value;
            };
            return *self.constants.entry(value).or_insert_with(|| {
                let clamped = self.changes.count_clamped(&name);
                self.out.constant(&format!("{name}.fp16"), role, Float16::data(tensor, &clamped))
            });
        };
        if found == float {
            return value;
        }
        let to = if float == Float::Half { FLOAT16 } else { FLOAT };
        let from = self.out.name(value).to_owned();
        *self.casts.entry(value).or_insert_with(|| self.out.cast(&from, value, to))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Precision;
    use super::super::activations::Activations;
    use super::*;
    use crate::onnx::graph::Dim;
    use crate::onnx::{Graph, Target};
    use crate::tensor::Tensor;

    /// x [1, 32] times a matrix of 32 × 32 of this role.
    fn product(role: Role) -> Parts {
        let graph = Graph::new("tower", Target::default());
        let x = graph.input("x", ElementType::Float, vec![Dim::Fixed(1), Dim::Fixed(32)]);
        let weight = graph.initializer("matrix", role, Tensor::from_f32("w", &[32, 32], &[0.5; 1024]));
        let y = graph.node("y", "MatMul", &[x, weight], vec![]);
        graph.output(y, "y", ElementType::Float, vec![Dim::Fixed(1), Dim::Fixed(32)]);
        graph.into_parts()
    }

    #[test]
    fn label_embeddings_stay_float32_where_weights_do_not() {
        let stored = |role: Role| {
            let out = Precision::Fp16Weights
                .apply(&product(role), &Activations::default(), &Options::default())
                .unwrap_or_else(|error| panic!("{error}"));
            let [weight] = &out.graph.initializers[..] else { panic!("one weight") };
            (weight.data.byte_len(), out.graph.nodes.iter().map(|node| node.op_type).collect::<Vec<_>>())
        };
        assert_eq!(stored(Role::Weight), (2048, vec!["Cast", "MatMul"]));
        assert_eq!(stored(Role::Labels), (4096, vec!["MatMul"]));
    }

    #[test]
    fn arithmetic_is_float16_between_float32_inputs_and_outputs() {
        let mut changes = Changes::default();
        let out = arithmetic(&product(Role::Weight), &mut changes);
        let nodes: Vec<&str> = out.nodes.iter().map(|node| node.op_type).collect();
        assert_eq!(nodes, ["Cast", "MatMul", "Cast"]);
        assert!(changes.layers.is_empty());
    }
}
