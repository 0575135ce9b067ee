//! Whole numbers for weights, and for the products of MatMul.

use std::collections::HashMap;

use super::apart::Apart;
use super::layers::{Constant, Layer, Role};
use super::packed::{Gained, Half, Int4, Int8, Spelling};
use super::plan::{Form, Planned, plan};
use super::rewrite::{FLOAT, Rewrite};
use super::{LayerReport, Narrowed, Options, Precision, Study};
use crate::onnx::Value;
use crate::onnx::graph::{self, Attribute, Data, Node, Parts};
use crate::onnx::write::MICROSOFT;
use crate::tensor::{Error, Tensor};

use super::grid::{BLOCK, INT8};

/// The graph with its layers in whole numbers.
///
/// # Errors
/// What reading a weight reports.
pub fn apply(
    precision: Precision,
    parts: &Parts,
    study: &Study,
    options: &Options,
    narrowed: &mut Narrowed,
) -> Result<Parts, Error> {
    let mut plan = plan(parts, precision, study, options)?;
    let (mut out, nodes) = Rewrite::new(parts);
    let mut made = Made::default();
    // What biases behind products have to make up for.
    let mut corrections: HashMap<Value, Vec<f32>> = HashMap::new();
    for (at, mut node) in nodes.into_iter().enumerate() {
        if let Some(gains) = node.outputs.first().and_then(|output| plan.gains.get(output)) {
            for input in node.inputs.iter_mut().skip(1) {
                let Some(Constant { name, role, tensor }) = out.weight(*input) else { continue };
                let evened: Vec<f32> = tensor.to_f32()?.iter().zip(&gains[..]).map(|(v, g)| v / g).collect();
                let evened = Tensor::from_f32(&name, &[evened.len()], &evened);
                *input = out.constant(&format!("{name}.evened"), role, Data::Float(evened));
            }
        }
        if node.op_type == "Add"
            && let Some(correction) = node.inputs.first().and_then(|product| corrections.get(product))
        {
            correct(&mut out, &mut node, 1, correction)?;
        }
        match plan.layers.remove(&at) {
            None => out.keep(node),
            Some(planned) => {
                let Planned { layer, form, error, kept, correction } = planned;
                let mut bytes = form.bytes(layer.weight.rows());
                let apart = layer.apart.as_ref().map_or(0, Apart::len);
                if let Some(apart) = &layer.apart {
                    bytes += apart.bytes();
                }
                let (name, stored, own) = (layer.name.clone(), form.stored(), form.is_own());
                narrowed.layers.push(LayerReport { name, stored, own, error, apart, bytes, kept });
                if let (Some(correction), Some(&output)) = (correction, node.outputs.first()) {
                    if node.op_type == "Conv" {
                        correct(&mut out, &mut node, 2, &correction)?;
                    } else {
                        corrections.insert(output, correction);
                    }
                }
                let beside = layer.apart.as_ref().map(|apart| beside(&mut out, &mut node, apart, &mut made));
                let form = if precision == Precision::Int4Fp16 { within_half(form, &layer, narrowed)? } else { form };
                // What is evened out behind a LayerNorm is within the others' range already.
                let masked = !plan.gains.contains_key(&layer.input);
                write(&mut out, node, layer, form, (options, masked), &mut made, narrowed);
                beside.into_iter().flatten().for_each(|sum| out.keep(sum));
            }
        }
    }
    Ok(out.finish())
}

/// Adds to a node's bias what its weights lose on average.
fn correct(out: &mut Rewrite, node: &mut Node, at: usize, correction: &[f32]) -> Result<(), Error> {
    let bias = node.inputs.get(at).and_then(|&value| out.weight(value));
    let Some(Constant { name, role, tensor }) = bias.filter(|bias| bias.tensor.shape() == [correction.len()]) else {
        return Ok(());
    };
    let corrected: Vec<f32> = tensor.to_f32()?.iter().zip(correction).map(|(b, c)| b + c).collect();
    let corrected = Tensor::from_f32(&name, &[corrected.len()], &corrected);
    node.inputs[at] = out.constant(&format!("{name}.corrected"), role, Data::Float(corrected));
    Ok(())
}

/// Values that several nodes may read.
#[derive(Default)]
struct Made {
    /// Weights as float32, by the weight of the old graph.
    widened: HashMap<Value, Value>,
    /// Inputs on a grid: numbers, scale and nought. Query, key and value are taken from the same input.
    inputs: HashMap<Value, [Value; 3]>,
    /// Inputs without their large channels.
    rest: HashMap<(Value, Vec<usize>), Value>,
    /// Large channels of an input.
    large: HashMap<(Value, Vec<usize>), Value>,
    /// What puts large channels in their places among so many.
    places: HashMap<(Vec<usize>, usize), Value>,
}

/// An input with the channels that are multiplied apart at nought, so that they do not set its range.
fn without(out: &mut Rewrite, x: Value, channels: &[usize], layer: &Layer, made: &mut Made) -> Value {
    let [_, columns] = layer.weight.rows();
    *made.rest.entry((x, channels.to_vec())).or_insert_with(|| {
        let from = out.name(x).to_owned();
        let kept: Vec<f32> = (0..columns).map(|k| if channels.contains(&k) { 0.0 } else { 1.0 }).collect();
        let kept = Data::Float(Tensor::from_f32("kept", &[columns], &kept));
        let kept = out.constant(&format!("{from}.kept"), graph::Role::Constant, kept);
        let [rest] = out.node(&from, ("", "Mul"), vec![x, kept], vec![]);
        rest
    })
}

/// int8 whose scales and largest numbers float16 has; what is beyond it becomes its largest number, and is told.
fn within_half(form: Form, layer: &Layer, narrowed: &mut Narrowed) -> Result<Form, Error> {
    let Form::Int8(mut scales) = form else { return Ok(form) };
    // The largest scale is rounded to float16 itself.
    let most = half::f16::MAX.to_f32() * (1.0 - 1.0 / 256.0);
    if scales.iter().all(|scale| scale * INT8 <= most) {
        return Ok(Form::Int8(scales));
    }
    scales.iter_mut().for_each(|scale| *scale = scale.min(most / INT8));
    let mut beyond = 0;
    layer.weight.for_each_rows(|rows| {
        beyond += rows.iter().filter(|v| v.abs() > most).count() as u64;
        Ok::<(), Error>(())
    })?;
    narrowed.counts_clamped(&layer.name).store(beyond, std::sync::atomic::Ordering::Relaxed);
    Ok(Form::Int8(scales))
}

/// Products of what goes apart, beside a node's own; gives the nodes that add them up, in place of which the
/// other is written.
fn beside(out: &mut Rewrite, node: &mut Node, apart: &Apart, made: &mut Made) -> Vec<Node> {
    let (x, name) = (node.inputs[0], out.name(node.inputs[1]).to_owned());
    let product = |out: &mut Rewrite, a: Value, b: Value| -> Value {
        let [product] = out.node(&node.name, ("", "MatMul"), vec![a, b], vec![]);
        product
    };
    let mut products = Vec::new();
    if let Some((channels, weights)) = &apart.columns {
        let large = *made.large.entry((x, channels.clone())).or_insert_with(|| {
            let values = channels.iter().map(|&k| k as i64).collect();
            let from = out.name(x).to_owned();
            let places = out.constant(
                &format!("{from}.large"),
                graph::Role::Constant,
                Data::Int64 { dims: vec![channels.len()], values },
            );
            let [large] = out.node(&from, ("", "Gather"), vec![x, places], vec![("axis", Attribute::Int(-1))]);
            large
        });
        let weights = out.constant(&format!("{name}.columns"), graph::Role::Weight, Data::Float(weights.clone()));
        products.push(product(out, large, weights));
    }
    if let Some((channels, weights)) = &apart.rows {
        let [rows, _] = apart.whole.rows();
        let places = *made.places.entry((channels.clone(), rows)).or_insert_with(|| {
            let mut ones = vec![0f32; channels.len() * rows];
            channels.iter().enumerate().for_each(|(at, row)| ones[at * rows + row] = 1.0);
            out.constant(
                "places",
                graph::Role::Constant,
                Data::Float(Tensor::from_f32("places", &[channels.len(), rows], &ones)),
            )
        });
        let weights = out.constant(&format!("{name}.rows"), graph::Role::Weight, Data::Float(weights.clone()));
        let large = product(out, x, weights);
        products.push(product(out, large, places));
    }
    let mut sums = Vec::new();
    for beside in products {
        let sum = node.outputs[0];
        node.outputs[0] = out.inner(sum);
        let inputs = vec![node.outputs[0], beside];
        let name = out.unique(&format!("{}/Add", node.name));
        sums.insert(0, Node { name, domain: "", op_type: "Add", inputs, outputs: vec![sum], attributes: vec![] });
    }
    sums
}

fn write(
    out: &mut Rewrite,
    mut node: Node,
    layer: Layer,
    form: Form,
    (options, masked): (&Options, bool),
    made: &mut Made,
    narrowed: &mut Narrowed,
) {
    let at = layer.role.input();
    let name = out.name(node.inputs[at]).to_owned();
    match form {
        Form::Whole => {
            if layer.weight.gains.is_some() {
                node.inputs[at] =
                    out.constant(&format!("{name}.evened"), graph::Role::Weight, Gained::data(layer.weight));
            }
            out.keep(node);
        }
        Form::Half => {
            let clamped = narrowed.counts_clamped(&name);
            let narrow =
                out.constant(&format!("{name}.fp16"), layer.role.of_graph(), Half::data(layer.weight.tensor, &clamped));
            if layer.role == Role::Table {
                node.inputs[at] = narrow;
                out.keep_then_cast(node, FLOAT);
            } else {
                node.inputs[at] = out.cast(&name, narrow, FLOAT);
                out.keep(node);
            }
        }
        Form::Int8(scales) if layer.role == Role::Table => table(out, node, &name, layer, scales),
        Form::Int8(scales) => {
            let alike = layer.weight.gains.is_none() && layer.weight.silent.is_none();
            node.inputs[at] = match made.widened.get(&node.inputs[at]) {
                Some(&value) if alike => value,
                _ => {
                    let (numbers, scales) = int8(out, &name, layer, scales, INT8);
                    let wide = out.cast(&name, numbers, FLOAT);
                    let [value] = out.node(&name, ("", "Mul"), vec![wide, scales], vec![]);
                    if alike {
                        made.widened.insert(node.inputs[at], value);
                    }
                    value
                }
            };
            out.keep(node);
        }
        Form::Dynamic(scales) => {
            let apart = layer.apart.as_ref().and_then(|apart| apart.columns.as_ref()).filter(|_| masked);
            let x = apart.map_or(node.inputs[0], |(channels, _)| without(out, node.inputs[0], channels, &layer, made));
            let from = out.name(x).to_owned();
            let quantize = || out.node(&from, ("", "DynamicQuantizeLinear"), vec![x], vec![]);
            let [numbers, scale, zero] = *made.inputs.entry(x).or_insert_with(quantize);
            let (weights, scales) = int8(out, &name, layer, scales, options.dynamic_limit());
            let [product] = out.node(&node.name, ("", "MatMulInteger"), vec![numbers, weights, zero], vec![]);
            let product = out.cast(&node.name, product, FLOAT);
            let [scales] = out.node(&node.name, ("", "Mul"), vec![scale, scales], vec![]);
            node.inputs = vec![product, scales];
            node.op_type = "Mul";
            out.keep(node);
        }
        Form::Int4(int4) => blocks(out, node, &name, &int4),
    }
}

/// Numbers and scales of a weight, as constants; the scales as they broadcast to it.
fn int8(out: &mut Rewrite, name: &str, layer: Layer, scales: Vec<f32>, limit: f32) -> (Value, Value) {
    let (weight, role) = (layer.weight, layer.role.of_graph());
    let values = Tensor::from_f32(name, &weight.row_shape(), &scales);
    let numbers = out.constant(&format!("{name}.int8"), role, Int8 { weight, scales, limit }.data());
    (numbers, out.constant(&format!("{name}.scale"), graph::Role::Constant, Data::Float(values)))
}

/// Rows of a table are widened and scaled once they are picked.
fn table(out: &mut Rewrite, mut node: Node, name: &str, layer: Layer, scales: Vec<f32>) {
    let ids = node.inputs[1];
    let width = layer.whole().weight.rows()[1];
    let (numbers, scales) = int8(out, name, layer, scales, INT8);
    let axis = || vec![("axis", Attribute::Int(0))];
    let [rows] = out.node(&node.name, ("", "Gather"), vec![numbers, ids], axis());
    let wide = out.cast(&node.name, rows, FLOAT);
    let [scale] = out.node(&node.name, ("", "Gather"), vec![scales, ids], axis());
    let [wide] = out.node(&node.name, ("", "Mul"), vec![wide, scale], vec![]);
    let shape =
        out.constant("row", graph::Role::Constant, Data::Int64 { dims: vec![3], values: vec![0, 0, width as i64] });
    node.inputs = vec![wide, shape];
    node.op_type = "Reshape";
    node.attributes.clear();
    out.keep(node);
}

/// A product with weights in int4.
fn blocks(out: &mut Rewrite, mut node: Node, name: &str, int4: &Int4) {
    let [rows, columns] = int4.weight.rows();
    let (numbers, scales, zeros) = int4.data();
    let mut inputs = vec![
        out.constant(&format!("{name}.int4"), graph::Role::Weight, numbers),
        out.constant(&format!("{name}.scale"), graph::Role::Constant, scales),
    ];
    inputs.extend(zeros.map(|zeros| out.constant(&format!("{name}.zero"), graph::Role::Constant, zeros)));
    match int4.spelling {
        Spelling::NBits => {
            node.inputs.truncate(1);
            node.inputs.extend(inputs);
            node.domain = MICROSOFT;
            node.op_type = "MatMulNBits";
            node.attributes = vec![
                ("K", Attribute::Int(columns as i64)),
                ("N", Attribute::Int(rows as i64)),
                ("bits", Attribute::Int(4)),
                ("block_size", Attribute::Int(BLOCK as i64)),
            ];
        }
        Spelling::Standard => {
            let attributes = vec![("axis", Attribute::Int(0)), ("block_size", Attribute::Int(BLOCK as i64))];
            let [weights] = out.node(name, ("", "DequantizeLinear"), inputs, attributes);
            node.inputs[1] = weights;
        }
    }
    out.keep(node);
}
