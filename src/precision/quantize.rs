//! A graph with quantized weights, and integer products where the precision has them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::assign::{Assignment, Encoding, assign};
use super::grid::{BLOCK, INT8};
use super::int4::{BlockLayout, Int4, Int4Data};
use super::layers::{Constant, Layer, OutlierWeights, Outliers, WeightKind};
use super::packed::{Float16, Int8, Smoothed};
use super::rewrite::{FLOAT, Rewrite};
use super::scheme::{Arithmetic, Format, Scheme};
use super::smooth::divided;
use super::{Activations, Changes, LayerReport, Options};
use crate::onnx::Value;
use crate::onnx::graph::{Attribute, Data, Node, Parts, Role};
use crate::onnx::write::MICROSOFT;
use crate::tensor::{Error, Tensor};

/// What names of new constants end with, or are. They are in the files: another word would change files' bytes.
mod names {
    pub const SMOOTHED: &str = "evened";
    pub const CORRECTED: &str = "corrected";
    pub const INPUT_OUTLIERS: &str = "columns";
    pub const OUTPUT_OUTLIERS: &str = "rows";
    pub const OUTLIER_INDICES: &str = "large";
    pub const OUTLIER_MASK: &str = "kept";
    pub const OUTLIER_SCATTER: &str = "places";
    pub const TABLE_SHAPE: &str = "row";
}

/// The graph in a quantized precision, with float32 arithmetic but for integer products.
///
/// # Errors
/// What reading a weight reports.
pub fn apply(
    scheme: &'static Scheme,
    parts: &Parts,
    activations: &Activations,
    options: &Options,
    changes: &mut Changes,
) -> Result<Parts, Error> {
    let mut assigned = assign(parts, scheme, activations, options)?;
    let (out, nodes) = Rewrite::new(parts);
    let limit = options.dynamic_limit();
    let smoothing = assigned.smoothing;
    let mut pass = Quantize { out, shared: Shared::default(), smoothing, limit, scheme, changes };
    // By the product they are added to.
    let mut corrections: HashMap<Value, Vec<f32>> = HashMap::new();
    for (at, mut node) in nodes.into_iter().enumerate() {
        pass.divide_by_smoothing(&mut node)?;
        if node.op_type == "Add"
            && let Some(correction) = node.inputs.first().and_then(|product| corrections.get(product))
        {
            pass.correct(&mut node, 1, correction)?;
        }
        let Some(Assignment { layer, encoding, error, promoted, correction }) = assigned.layers.remove(&at) else {
            pass.out.keep(node);
            continue;
        };
        let outliers = layer.outliers.as_ref();
        pass.changes.layers.push(LayerReport {
            name: layer.name.clone(),
            stored: encoding.format().name(),
            promotable: encoding.is_for_products(),
            error,
            outlier_channels: outliers.map_or(0, Outliers::count),
            bytes: encoding.bytes(layer.weight.rows()) + outliers.map_or(0, Outliers::bytes),
            promoted,
        });
        if let (Some(correction), Some(&output)) = (correction, node.outputs.first()) {
            if node.op_type == "Conv" {
                pass.correct(&mut node, 2, &correction)?;
            } else {
                corrections.insert(output, correction);
            }
        }
        let sums = pass.outlier_products(&mut node, &layer);
        let encoding = pass.within_float16(encoding, &layer)?;
        pass.layer(node, layer, encoding);
        sums.into_iter().for_each(|sum| pass.out.keep(sum));
    }
    Ok(pass.out.finish())
}

struct Quantize<'a> {
    out: Rewrite,
    shared: Shared,
    /// Factors by the output of their LayerNorm.
    smoothing: HashMap<Value, Arc<[f32]>>,
    /// Largest int8 weight of integer products.
    limit: f32,
    scheme: &'static Scheme,
    changes: &'a mut Changes,
}

/// Values that several nodes may read.
#[derive(Default)]
struct Shared {
    /// Weights as float32, by the weight of the old graph.
    dequantized: HashMap<Value, Value>,
    /// Inputs of integer products: query, key and value read the same.
    inputs: HashMap<Value, QuantizedInput>,
    /// Inputs with outlier channels set to zero.
    masked: HashMap<(Value, Vec<usize>), Value>,
    /// Outlier channels of an input.
    outliers: HashMap<(Value, Vec<usize>), Value>,
    /// Matrices that put outlier channels where they are among so many.
    scatter: HashMap<(Vec<usize>, usize), Value>,
}

/// What `DynamicQuantizeLinear` gives.
#[derive(Clone, Copy)]
struct QuantizedInput {
    integers: Value,
    scale: Value,
    zero_point: Value,
}

/// Constants of a weight in int8.
struct Int8Constants {
    integers: Value,
    /// In a shape that broadcasts to the integers.
    scales: Value,
}

impl Quantize<'_> {
    /// Divides a LayerNorm's gain and bias by its smoothing factors.
    fn divide_by_smoothing(&mut self, node: &mut Node) -> Result<(), Error> {
        let Some(factors) = node.outputs.first().and_then(|output| self.smoothing.get(output)) else { return Ok(()) };
        for input in node.inputs.iter_mut().skip(1) {
            let Some(Constant { name, role, tensor }) = self.out.weight(*input) else { continue };
            let values = divided(&tensor.to_f32()?, factors);
            let values = Tensor::from_f32(&name, &[values.len()], &values);
            *input = self.out.constant(&format!("{name}.{}", names::SMOOTHED), role, Data::Float(values));
        }
        Ok(())
    }

    /// Adds to a node's bias, its input number `at`, the mean error of its quantized weight.
    fn correct(&mut self, node: &mut Node, at: usize, correction: &[f32]) -> Result<(), Error> {
        let bias = node.inputs.get(at).and_then(|&value| self.out.weight(value));
        let bias = bias.filter(|bias| bias.tensor.shape() == [correction.len()]);
        let Some(Constant { name, role, tensor }) = bias else { return Ok(()) };
        let corrected: Vec<f32> = tensor.to_f32()?.iter().zip(correction).map(|(b, c)| b + c).collect();
        let corrected = Tensor::from_f32(&name, &[corrected.len()], &corrected);
        node.inputs[at] = self.out.constant(&format!("{name}.{}", names::CORRECTED), role, Data::Float(corrected));
        Ok(())
    }

    /// Writes the float32 products of outlier channels. Gives the sums that add them to the node's own product, to be
    /// written behind it.
    fn outlier_products(&mut self, node: &mut Node, layer: &Layer) -> Vec<Node> {
        let Some(Outliers { inputs, outputs }) = &layer.outliers else { return vec![] };
        let (x, name) = (node.inputs[0], self.out.name(node.inputs[1]).to_owned());
        let mut products = Vec::new();
        if let Some(OutlierWeights { channels, weights }) = inputs {
            let read = self.outlier_inputs(x, channels);
            let weights = Data::Float(weights.clone());
            let weights = self.out.constant(&format!("{name}.{}", names::INPUT_OUTLIERS), Role::Weight, weights);
            products.push(self.matmul(node, read, weights));
        }
        if let Some(OutlierWeights { channels, weights }) = outputs {
            let [rows, _] = layer.full.rows();
            let scatter = self.scatter(channels, rows);
            let weights = Data::Float(weights.clone());
            let weights = self.out.constant(&format!("{name}.{}", names::OUTPUT_OUTLIERS), Role::Weight, weights);
            let written = self.matmul(node, x, weights);
            products.push(self.matmul(node, written, scatter));
        }
        let mut sums = Vec::new();
        for product in products {
            let sum = node.outputs[0];
            node.outputs[0] = self.out.inner(sum);
            let inputs = vec![node.outputs[0], product];
            let name = self.out.unique(&format!("{}/Add", node.name));
            sums.insert(0, Node { name, domain: "", op_type: "Add", inputs, outputs: vec![sum], attributes: vec![] });
        }
        sums
    }

    fn matmul(&mut self, node: &Node, a: Value, b: Value) -> Value {
        let [product] = self.out.node(&node.name, "MatMul", vec![a, b], vec![]);
        product
    }

    /// Outlier channels of an input.
    fn outlier_inputs(&mut self, x: Value, channels: &[usize]) -> Value {
        let out = &mut self.out;
        *self.shared.outliers.entry((x, channels.to_vec())).or_insert_with(|| {
            let from = out.name(x).to_owned();
            let values = channels.iter().map(|&k| k as i64).collect();
            let indices = Data::Int64 { dims: vec![channels.len()], values };
            let indices = out.constant(&format!("{from}.{}", names::OUTLIER_INDICES), Role::Constant, indices);
            let [picked] = out.node(&from, "Gather", vec![x, indices], vec![("axis", Attribute::Int(-1))]);
            picked
        })
    }

    /// A matrix `[channels, rows]` that puts outlier channels where they are among all rows.
    fn scatter(&mut self, channels: &[usize], rows: usize) -> Value {
        let out = &mut self.out;
        *self.shared.scatter.entry((channels.to_vec(), rows)).or_insert_with(|| {
            let mut ones = vec![0f32; channels.len() * rows];
            channels.iter().enumerate().for_each(|(at, row)| ones[at * rows + row] = 1.0);
            let ones = Tensor::from_f32(names::OUTLIER_SCATTER, &[channels.len(), rows], &ones);
            out.constant(names::OUTLIER_SCATTER, Role::Constant, Data::Float(ones))
        })
    }

    /// An input with its outlier channels set to zero, so that they do not set its range.
    fn without_outliers(&mut self, x: Value, layer: &Layer) -> Value {
        // Smoothing has brought the channels behind a LayerNorm within the range of the others.
        let inputs = layer.outliers.as_ref().and_then(|outliers| outliers.inputs.as_ref());
        let Some(outliers) = inputs.filter(|_| !self.smoothing.contains_key(&layer.input)) else { return x };
        let ([_, columns], channels, out) = (layer.weight.rows(), &outliers.channels, &mut self.out);
        *self.shared.masked.entry((x, channels.clone())).or_insert_with(|| {
            let from = out.name(x).to_owned();
            let mask: Vec<f32> = (0..columns).map(|k| if channels.contains(&k) { 0.0 } else { 1.0 }).collect();
            let mask = Data::Float(Tensor::from_f32(names::OUTLIER_MASK, &[columns], &mask));
            let mask = out.constant(&format!("{from}.{}", names::OUTLIER_MASK), Role::Constant, mask);
            let [masked] = out.node(&from, "Mul", vec![x, mask], vec![]);
            masked
        })
    }

    /// Where arithmetic is float16: int8 with scales that leave no product of theirs beyond its range. Numbers that are
    /// beyond it become the largest, and are counted.
    fn within_float16(&mut self, encoding: Encoding, layer: &Layer) -> Result<Encoding, Error> {
        let Encoding::Int8(mut scales) = encoding else { return Ok(encoding) };
        // The largest scale is rounded to float16 itself.
        let most = half::f16::MAX.to_f32() * (1.0 - 1.0 / 256.0);
        if self.scheme.arithmetic != Arithmetic::Float16 || scales.iter().all(|scale| scale * INT8 <= most) {
            return Ok(Encoding::Int8(scales));
        }
        scales.iter_mut().for_each(|scale| *scale = scale.min(most / INT8));
        let mut beyond = 0;
        layer.weight.for_each_row(|row| beyond += row.iter().filter(|v| v.abs() > most).count() as u64)?;
        self.changes.count_clamped(&layer.name).store(beyond, Ordering::Relaxed);
        Ok(Encoding::Int8(scales))
    }

    /// Writes a layer's node with its weight as encoded.
    fn layer(&mut self, mut node: Node, layer: Layer, encoding: Encoding) {
        let at = layer.kind.input();
        let old = node.inputs[at];
        let name = self.out.name(old).to_owned();
        match encoding {
            Encoding::Float32 => {
                if layer.weight.factors.is_some() {
                    let smoothed = Smoothed::data(layer.weight);
                    node.inputs[at] =
                        self.out.constant(&format!("{name}.{}", names::SMOOTHED), layer.kind.role(), smoothed);
                }
                self.out.keep(node);
            }
            Encoding::Float16 => {
                let clamped = self.changes.count_clamped(&name);
                let data = Float16::data(layer.weight.tensor, &clamped);
                let stored = self.out.constant(&format!("{name}.{}", Format::Float16.name()), layer.kind.role(), data);
                if layer.kind == WeightKind::Table {
                    node.inputs[at] = stored;
                    self.out.keep_then_cast(node, FLOAT);
                } else {
                    node.inputs[at] = self.out.cast(&name, stored, FLOAT);
                    self.out.keep(node);
                }
            }
            Encoding::Int8(scales) if layer.kind == WeightKind::Table => self.table(node, &name, layer, scales),
            Encoding::Int8(scales) => {
                node.inputs[at] = self.dequantized(old, &name, layer, scales);
                self.out.keep(node);
            }
            Encoding::DynamicInt8(scales) => self.integer_product(node, &name, layer, scales),
            Encoding::Int4(int4) => self.block_product(node, &name, &int4),
        }
    }

    /// Integers and scales of a weight.
    fn int8(&mut self, name: &str, layer: Layer, scales: Vec<f32>, limit: f32) -> Int8Constants {
        let Layer { weight, kind, .. } = layer;
        let of_rows = Tensor::from_f32(name, &weight.row_shape(), &scales);
        let data = Int8 { weight, scales, limit }.data();
        let integers = self.out.constant(&format!("{name}.{}", Format::Int8.name()), kind.role(), data);
        let scales = self.out.constant(&format!("{name}.scale"), Role::Constant, Data::Float(of_rows));
        Int8Constants { integers, scales }
    }

    /// A weight in int8 as float32; the same for all that read `old` as it is.
    fn dequantized(&mut self, old: Value, name: &str, layer: Layer, scales: Vec<f32>) -> Value {
        let is_plain = layer.weight.factors.is_none() && layer.weight.zeroed.is_none();
        if let Some(&value) = self.shared.dequantized.get(&old).filter(|_| is_plain) {
            return value;
        }
        let Int8Constants { integers, scales } = self.int8(name, layer, scales, INT8);
        let wide = self.out.cast(name, integers, FLOAT);
        let [value] = self.out.node(name, "Mul", vec![wide, scales], vec![]);
        if is_plain {
            self.shared.dequantized.insert(old, value);
        }
        value
    }

    /// `MatMulInteger` of a quantized input and weight, times both scales.
    fn integer_product(&mut self, mut node: Node, name: &str, layer: Layer, scales: Vec<f32>) {
        let x = self.without_outliers(node.inputs[0], &layer);
        let from = self.out.name(x).to_owned();
        let out = &mut self.out;
        let QuantizedInput { integers: input, scale, zero_point } = *self.shared.inputs.entry(x).or_insert_with(|| {
            let [integers, scale, zero_point] = out.node(&from, "DynamicQuantizeLinear", vec![x], vec![]);
            QuantizedInput { integers, scale, zero_point }
        });
        let Int8Constants { integers, scales } = self.int8(name, layer, scales, self.limit);
        let inputs = vec![input, integers, zero_point];
        let [product] = self.out.node(&node.name, "MatMulInteger", inputs, vec![]);
        let product = self.out.cast(&node.name, product, FLOAT);
        let [scales] = self.out.node(&node.name, "Mul", vec![scale, scales], vec![]);
        node.inputs = vec![product, scales];
        node.op_type = "Mul";
        self.out.keep(node);
    }

    /// Rows of a table in int8 are cast and scaled once they are picked.
    fn table(&mut self, mut node: Node, name: &str, layer: Layer, scales: Vec<f32>) {
        let ids = node.inputs[1];
        let [_, width] = layer.full.rows();
        let Int8Constants { integers, scales } = self.int8(name, layer, scales, INT8);
        let axis = || vec![("axis", Attribute::Int(0))];
        let [rows] = self.out.node(&node.name, "Gather", vec![integers, ids], axis());
        let wide = self.out.cast(&node.name, rows, FLOAT);
        let [scale] = self.out.node(&node.name, "Gather", vec![scales, ids], axis());
        let [wide] = self.out.node(&node.name, "Mul", vec![wide, scale], vec![]);
        // Groups of numbers become one row again.
        let shape = Data::Int64 { dims: vec![3], values: vec![0, 0, width as i64] };
        let shape = self.out.constant(names::TABLE_SHAPE, Role::Constant, shape);
        node.inputs = vec![wide, shape];
        node.op_type = "Reshape";
        node.attributes.clear();
        self.out.keep(node);
    }

    /// A product with a weight in int4.
    fn block_product(&mut self, mut node: Node, name: &str, int4: &Int4) {
        let [rows, columns] = int4.weight.rows();
        let Int4Data { integers, scales, zero_points } = int4.data();
        let integers = self.out.constant(&format!("{name}.{}", Format::Int4.name()), Role::Weight, integers);
        let mut inputs = vec![integers, self.out.constant(&format!("{name}.scale"), Role::Constant, scales)];
        inputs.extend(zero_points.map(|zeros| self.out.constant(&format!("{name}.zero"), Role::Constant, zeros)));
        match int4.layout() {
            BlockLayout::NBits => {
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
            BlockLayout::Standard => {
                let attributes = vec![("axis", Attribute::Int(0)), ("block_size", Attribute::Int(BLOCK as i64))];
                let [weights] = self.out.node(name, "DequantizeLinear", inputs, attributes);
                node.inputs[1] = weights;
            }
        }
        self.out.keep(node);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Precision, observed};
    use super::*;
    use crate::onnx::graph::{Dim, ElementType};
    use crate::onnx::{Graph, Target};

    /// |x| [rows, 32] times a matrix of 32 × 32, plus a bias.
    fn affine() -> (Parts, Vec<f32>) {
        let graph = Graph::new("tower", Target::default());
        let x = graph.input("x", ElementType::Float, vec![Dim::Named("rows"), Dim::Fixed(32)]);
        let values: Vec<f32> = (0..1024).map(|at| (at * 61 % 127) as f32 / 90.0 - 0.7).collect();
        let weight = graph.initializer("weight", Role::Weight, Tensor::from_f32("w", &[32, 32], &values));
        let bias = graph.initializer("bias", Role::Bias, Tensor::from_f32("b", &[32], &[0.25; 32]));
        let product = graph.node("", "MatMul", &[graph.node("", "Abs", &[x], vec![]), weight], vec![]);
        graph.output(graph.node("", "Add", &[product, bias], vec![]), "y", ElementType::Float, vec![]);
        (graph.into_parts(), values)
    }

    fn operators(parts: &Parts) -> Vec<&'static str> {
        parts.nodes.iter().map(|node| node.op_type).collect()
    }

    #[test]
    fn products_are_written_as_the_precision_has_them() {
        let graph = |precision: Precision| {
            precision.apply(&affine().0, &Activations::default(), &Options::default()).unwrap().graph
        };
        let integer = ["Abs", "DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"];
        assert_eq!(operators(&graph(Precision::Int8)), integer);
        assert_eq!(operators(&graph(Precision::Int8Weights)), ["Abs", "Cast", "Mul", "MatMul", "Add"]);
        let excluded = Options { exclude: vec!["weight".to_owned()], ..Options::default() };
        let kept = Precision::Int8.apply(&affine().0, &Activations::default(), &excluded).unwrap();
        assert_eq!(operators(&kept.graph), ["Abs", "MatMul", "Add"]);
        assert_eq!((kept.layers[0].stored, kept.layers[0].promotable), ("fp32", false));
    }

    /// Measured means of 1 in all channels: the bias gains the sum of each output channel's errors.
    #[test]
    fn biases_make_up_for_mean_errors() {
        let (parts, values) = affine();
        let mut observed = observed(&parts);
        observed.iter_mut().for_each(|(_, stats)| stats.add(&[2, 32], &[1.0; 64]));
        let rewritten =
            Precision::Int8Weights.apply(&parts, &Activations::measured(observed), &Options::default()).unwrap();
        let constant = |suffix: &str| {
            let found = rewritten.graph.initializers.iter().find(|i| i.name.ends_with(suffix)).unwrap();
            let Data::Float(tensor) = &found.data else { panic!("{} is not float32", found.name) };
            tensor.to_f32().unwrap()
        };
        let (scales, corrected) = (constant(".scale"), constant(".corrected"));
        for row in 0..32 {
            let stored =
                |k: usize| (values[k * 32 + row] / scales[row]).round_ties_even().clamp(-INT8, INT8) * scales[row];
            let error: f32 = (0..32).map(|k| values[k * 32 + row] - stored(k)).sum();
            assert!(error.abs() > 1e-6 && (corrected[row] - 0.25 - error).abs() < 1e-5, "{row}: {error}");
        }
    }
}
