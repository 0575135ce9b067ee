//! For tests of graphs: building one, and running it with tract.

use tract_core::internal::IntoRunnable;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModelExt, IntoTValue, TVec, Tensor as Array};

use super::builder::Graph;
use super::graph::{Dim, ElementType, Parts, Role, Value};
use super::ops::Ops;
use super::target::{PROFILES, Target};
use super::write::{Error, ExternalData, Options, write};
use crate::tensor::Tensor;

/// A graph and a path in it.
pub struct Root(pub Graph);

impl Ops for Root {
    fn graph(&self) -> &Graph {
        &self.0
    }

    fn path(&self) -> &str {
        "root"
    }
}

impl Root {
    /// An empty graph for `target`.
    pub fn new(target: Target) -> Root {
        Root(Graph::new("test", target))
    }

    /// A float32 input; 0 is an axis of any length.
    pub fn input(&self, name: &str, shape: &[usize]) -> Value {
        self.0.input(name, ElementType::Float, dims(shape))
    }

    /// An input of ids.
    pub fn ids(&self, name: &str, shape: &[usize], element: ElementType) -> Value {
        self.0.input(name, element, dims(shape))
    }

    /// A constant of [`numbers`].
    pub fn weight(&self, name: &str, shape: &[usize]) -> Value {
        self.0.initializer(name, Role::Weight, tensor(shape, name.len() as u64))
    }

    /// Declares an output.
    pub fn output(&self, name: &str, value: Value) {
        self.0.output(value, name, ElementType::Float, vec![]);
    }
}

fn dims(shape: &[usize]) -> Vec<Dim> {
    let names = ["rows", "length", "height", "width"];
    shape.iter().zip(names).map(|(&n, name)| if n == 0 { Dim::Named(name) } else { Dim::Fixed(n) }).collect()
}

/// As many numbers in -1 to 1, always the same ones.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A tensor of [`numbers`].
pub fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_f32("test", shape, &numbers(shape.iter().product(), seed))
}

/// An input's numbers.
pub fn floats(shape: &[usize], seed: u64) -> Array {
    Array::from_shape(shape, &numbers(shape.iter().product(), seed)).unwrap()
}

/// An input's ids.
pub fn ids(shape: &[usize], values: &[i64]) -> Array {
    Array::from_shape(shape, values).unwrap()
}

/// Writes a graph and runs it with tract: the numbers of each output.
pub fn run(parts: &Parts, inputs: &[Array]) -> Vec<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.onnx");
    let options = Options { external: ExternalData::Auto, hash: false };
    write::<Error>(parts, &path, options, |_| Ok(()), &|_| ()).unwrap();
    let mut model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(&path).unwrap();
    for (at, input) in inputs.iter().enumerate() {
        model.set_input_fact(at, InferenceFact::dt_shape(input.datum_type(), input.shape())).unwrap();
    }
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let inputs: TVec<_> = inputs.iter().map(|input| input.clone().into_tvalue()).collect();
    let outputs = plan.run(inputs).unwrap();
    outputs.iter().map(|output| output.to_plain_array_view::<f32>().unwrap().iter().copied().collect()).collect()
}

/// What a graph gives, built for a target.
pub fn run_for(target: Target, build: impl Fn(&Root), inputs: &[Array]) -> Vec<Vec<f32>> {
    let s = Root::new(target);
    build(&s);
    run(&s.0.into_parts(), inputs)
}

/// Operators of a graph.
pub fn operators(parts: &Parts) -> Vec<&'static str> {
    parts.nodes.iter().map(|node| node.op_type).collect()
}

/// Every target in each of its operator sets.
pub fn targets() -> Vec<Target> {
    let each = PROFILES.iter().flat_map(|&p| p.opsets.clone().filter_map(move |opset| Target::with_opset(p, opset)));
    each.collect()
}

/// Whether each number is the other one, within a bound.
pub fn assert_close(found: &[f32], expected: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: as many numbers");
    let far = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far <= bound, "{what}: {far:e} apart");
}
