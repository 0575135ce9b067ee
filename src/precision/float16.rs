//! float16: as arithmetic, or as a way to keep weights.

use std::collections::{HashMap, HashSet};

use super::layers::{Constant, SMALL};
use super::packed::Half;
use super::rewrite::{FLOAT, FLOAT16, Rewrite};
use super::{LayerReport, Narrowed, Options};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, ElementType, Node, Parts, Role};
use crate::onnx::write::MICROSOFT;

/// Operators that stay in float32: sums over many squares, exponentials, and what divides by them.
const WIDE: &[&str] = &["ReduceL2", "Softmax", "Div", "Max", "Range"];

/// Weights in float16, widened where they are used: engines do that once, when they load the file.
pub fn weights(parts: &Parts, options: &Options, narrowed: &mut Narrowed) -> Parts {
    let (mut out, nodes) = Rewrite::new(parts);
    let mut widened: HashMap<Value, Value> = HashMap::new();
    for mut node in nodes {
        let table = node.op_type == "Gather";
        for at in 0..node.inputs.len() {
            let Some(Constant { name, role, tensor }) = out.weight(node.inputs[at]) else { continue };
            if tensor.len() < SMALL || matches!(role, Role::Labels | Role::Lookup) {
                continue;
            }
            let named = options.exclude.iter().any(|pattern| name.contains(pattern.as_str()));
            let bytes = tensor.len() as u64 * if named { 4 } else { 2 };
            if !widened.contains_key(&node.inputs[at]) {
                let (stored, kept) = if named { ("fp32", Some("asked for")) } else { ("fp16", None) };
                narrowed.layers.push(LayerReport {
                    name: name.clone(),
                    stored,
                    own: false,
                    error: 0.0,
                    apart: 0,
                    bytes,
                    kept,
                });
            }
            if named {
                continue;
            }
            let clamped = narrowed.counts_clamped(&name);
            if table && at == 0 {
                // Rows are widened, not the table.
                node.inputs[0] = out.constant(&format!("{name}.fp16"), role, Half::data(tensor, &clamped));
                continue;
            }
            node.inputs[at] = *widened.entry(node.inputs[at]).or_insert_with(|| {
                let narrow = out.constant(&format!("{name}.fp16"), role, Half::data(tensor, &clamped));
                out.cast(&name, narrow, FLOAT)
            });
        }
        let narrow_rows = table && out.is_new_constant(node.inputs[0]);
        if narrow_rows { out.keep_then_cast(node, FLOAT) } else { out.keep(node) }
    }
    out.finish()
}

/// What a computed float of the new graph is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Half,
    Wide,
}

/// Whether a node is one of those before a tower's first convolution that make pixels of bytes.
fn prepares_bytes(node: &Node, bytes: &HashSet<Value>, images: &HashSet<Value>) -> bool {
    let reads = |values: &HashSet<Value>| node.inputs.iter().any(|value| values.contains(value));
    reads(bytes) || (matches!(node.op_type, "Cast" | "Resize" | "Floor" | "Slice") && reads(images))
}

/// All arithmetic in float16, inputs and outputs in float32. What is computed from whole numbers alone,
/// such as NaFlex's positions, and what is not safe in float16 stays in float32; LayerNormalization takes
/// its mean and variance in float32 by its definition.
pub fn arithmetic(parts: &Parts, narrowed: &mut Narrowed) -> Parts {
    let (mut out, nodes) = Rewrite::new(parts);
    let mut kinds: HashMap<Value, Kind> = HashMap::new();
    // Values in the other element type, made where one is asked for first.
    let mut others: HashMap<Value, Value> = HashMap::new();
    let mut constants: HashMap<Value, Value> = HashMap::new();
    let (inputs, outputs) = out.ports();
    // Inputs in float32, or what bytes are widened to: as exact in float16, or nearly.
    let (images, whole): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, element)| *element == ElementType::Float);
    let values = |ports: Vec<(Value, ElementType)>| ports.into_iter().map(|(value, _)| value).collect();
    let mut images: HashSet<Value> = values(images);
    let mut bytes: HashSet<Value> = values(whole.into_iter().filter(|(_, e)| *e == ElementType::Uint8).collect());
    kinds.extend(images.iter().map(|&value| (value, Kind::Wide)));
    let outputs: HashSet<Value> = outputs.into_iter().collect();
    for mut node in nodes {
        if prepares_bytes(&node, &bytes, &images) {
            let wide = node.op_type == "Cast" || node.inputs.iter().any(|value| images.contains(value));
            kinds.extend(node.outputs.iter().filter(|_| wide).map(|&value| (value, Kind::Wide)));
            if wide { &mut images } else { &mut bytes }.extend(&node.outputs);
            out.keep(node);
            continue;
        }
        let computed: Vec<Value> = node.inputs.iter().copied().filter(|v| kinds.contains_key(v)).collect();
        let floats = !computed.is_empty() || node.inputs.iter().any(|&v| out.weight(v).is_some());
        let widens = node.op_type == "Cast";
        let all_wide = !computed.is_empty() && computed.iter().all(|v| kinds[v] == Kind::Wide && !images.contains(v));
        // Only a division by something computed is one by what may be small.
        let unsafe_in_half = WIDE.contains(&node.op_type) && (node.op_type != "Div" || computed.len() > 1);
        // Its scales are float16 already.
        let in_blocks = node.domain == MICROSOFT;
        let looks_up = node.inputs.iter().any(|&v| out.weight(v).is_some_and(|table| table.role == Role::Lookup));
        let squares = node.op_type == "Mul" && node.inputs.first() == node.inputs.get(1);
        let wide = widens || squares || looks_up || (all_wide && !in_blocks) || unsafe_in_half;
        let kind = if wide { Kind::Wide } else { Kind::Half };
        if !floats && !widens || matches!(node.op_type, "ArgMax" | "Shape" | "Equal") {
            out.keep(node);
            continue;
        }
        for at in 0..node.inputs.len() {
            let value = node.inputs[at];
            match kinds.get(&value) {
                Some(&found) if found != kind => {
                    let to = if kind == Kind::Half { FLOAT16 } else { FLOAT };
                    let from = out.name(value).to_owned();
                    node.inputs[at] = *others.entry(value).or_insert_with(|| out.cast(&from, value, to));
                }
                Some(_) => {}
                None => {
                    if let Some(Constant { name, role, tensor }) = out.weight(value).filter(|_| kind == Kind::Half) {
                        node.inputs[at] = *constants.entry(value).or_insert_with(|| {
                            let clamped = narrowed.counts_clamped(&name);
                            out.constant(&format!("{name}.fp16"), role, Half::data(tensor, &clamped))
                        });
                    }
                }
            }
        }
        if node.op_type == "Attention" {
            node.attributes.push(("softmax_precision", Attribute::Int(FLOAT)));
        }
        if kind == Kind::Half && node.outputs.iter().any(|value| outputs.contains(value)) {
            kinds.extend(node.outputs.iter().map(|&value| (value, Kind::Wide)));
            out.keep_then_cast(node, FLOAT);
            continue;
        }
        kinds.extend(node.outputs.iter().map(|&value| (value, kind)));
        out.keep(node);
    }
    out.finish()
}
