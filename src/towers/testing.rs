//! For tests of towers' parts: options, parameters, a graph of one part, and the numbers that timm and open_clip
//! compute for it.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use tract_onnx::prelude::{Datum, Tensor as Array};

use super::layers::Transformer;
use super::scope::{Options, Scope};
use crate::onnx::graph::{Dim, ElementType, Parts};
use crate::onnx::target::{MOBILE, ONNX_RUNTIME, QNN};
use crate::onnx::testing::{numbers, run};
use crate::onnx::{Graph, Ops, Target, Value};
use crate::params::{Error, Params};
use crate::tensor::Tensor;

/// All graph economies, and a batch of any size.
pub const OPTIONS: Options = Options {
    batch: None,
    fold: true,
    last_block: true,
    map_query: true,
    dynamic_text: false,
    cut_text: false,
    plain_depthwise: true,
};

/// Parameters of these names and shapes, with numbers of their own.
pub fn params_of(shapes: &[(&str, &[usize])]) -> Params {
    let tensor = |name: &str, shape: &[usize]| {
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Tensor::from_f32(name, shape, &numbers(shape.iter().product(), seed))
    };
    Params::given(shapes.iter().map(|(name, shape)| ((*name).to_owned(), tensor(name, shape))))
}

/// The graph of one part, over parameters of the shapes it asks for.
pub fn built(target: Target, options: &Options, build: &dyn Fn(&Scope) -> Result<Value, Error>) -> Parts {
    let build_with = |params: &Params| {
        let graph = Graph::new("test", target);
        let y = build(&Scope::root(&graph, params, options, "root")).unwrap();
        graph.output(y, "y", ElementType::Float, vec![]);
        graph
    };
    let recorder = Params::recorder();
    build_with(&recorder);
    let wanted = recorder.into_wanted();
    let shapes: Vec<(&str, &[usize])> = wanted.iter().map(|(name, w)| (name.as_str(), &w.shape[..])).collect();
    build_with(&params_of(&shapes)).into_parts()
}

/// A target of each kind: of those that differ in which operators replace the composite ones.
pub fn targets() -> [Target; 4] {
    [Target::default(), Target::new(&ONNX_RUNTIME), Target::new(&MOBILE), Target::new(&QNN)]
}

/// Largest difference from the stored output, over its root mean square. Both sides compute in float32.
const BOUND: f32 = 2e-5;

/// The tensors of a case that are its inputs, in the order they are declared and fed.
const INPUTS: [&str; 4] = ["input", "patch_mask", "patch_y", "patch_x"];

/// A file of `tests/blocks`: one part of a tower as timm or open_clip compute it, written by `scripts/make_blocks.py`.
pub struct Case {
    name: &'static str,
    settings: serde_json::Value,
    /// Inputs, `output`, and parameters under their canonical names relative to the part's prefix.
    tensors: BTreeMap<String, Array>,
}

impl Case {
    pub fn read(name: &'static str) -> Case {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/blocks/{name}.safetensors"));
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let settings = &header.metadata().as_ref().unwrap()["settings"];
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(key, tensor)| {
            let array = match tensor.dtype() {
                Dtype::F32 => array(tensor.shape(), tensor.data(), f32::from_le_bytes),
                Dtype::I64 => array(tensor.shape(), tensor.data(), i64::from_le_bytes),
                other => panic!("{name}: `{key}` is {other:?}"),
            };
            (key.to_owned(), array)
        });
        Case { name, settings: serde_json::from_str(settings).unwrap(), tensors: tensors.collect() }
    }

    /// A setting; null where the case has none of this name.
    pub fn setting<T: DeserializeOwned>(&self, field: &str) -> T {
        serde_json::from_value(self.settings[field].clone()).unwrap_or_else(|e| panic!("{}: {field}: {e}", self.name))
    }

    /// One transformer block of the case's settings, over as many positions as the input has, without a mask.
    pub fn transformer(&self) -> Transformer {
        Transformer {
            width: self.setting("width"),
            layers: 1,
            heads: self.setting("heads"),
            mlp_dim: self.setting("mlp_dim"),
            act: self.setting("act"),
            norm_eps: self.setting("norm_eps"),
            layer_scale: false,
            positions: Some(self.shape("input")[1]),
            mask: None,
        }
    }

    /// Shape of one of the case's tensors.
    pub fn shape(&self, name: &str) -> &[usize] {
        self.tensors[name].shape()
    }

    /// Numbers of one of the case's tensors.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        floats_of(&self.tensors[name])
    }

    /// The stored output `[B, N, D]` at one position: `[B, D]`.
    pub fn output_at(&self, position: usize) -> Vec<f32> {
        let &[_, positions, width] = self.shape("output") else { panic!("{}: output [B, N, D]", self.name) };
        let output = self.numbers("output");
        output.chunks(positions * width).flat_map(|row| row[position * width..][..width].to_vec()).collect()
    }

    /// Declares one of the case's inputs; they have to be declared in the order of [`INPUTS`].
    pub fn input(&self, s: &Scope, name: &str) -> Value {
        let array = &self.tensors[name];
        let element = if array.datum_type() == f32::datum_type() { ElementType::Float } else { ElementType::Int64 };
        let rest = array.shape()[1..].iter().map(|&n| Dim::Fixed(n));
        s.graph().input(name, element, std::iter::once(s.batch()).chain(rest).collect())
    }

    /// Compares the part that `build` makes of the parameters with the stored output.
    pub fn check(&self, options: Options, build: &dyn Fn(&Scope) -> Result<Value, Error>) {
        self.check_against(&self.numbers("output"), options, build);
    }

    /// Compares it with these numbers: folded and not, for a target of each kind. All parameters have to be read.
    pub fn check_against(&self, expected: &[f32], options: Options, build: &dyn Fn(&Scope) -> Result<Value, Error>) {
        let inputs: Vec<Array> = INPUTS.iter().filter_map(|&input| self.tensors.get(input).cloned()).collect();
        for (target, fold) in targets().into_iter().flat_map(|target| [(target, true), (target, false)]) {
            let batch = target.profile.static_batch.then(|| inputs[0].shape()[0]);
            let (options, params) = (Options { batch, fold, ..options }, self.params());
            let graph = Graph::new("test", target);
            let y = build(&Scope::root(&graph, &params, &options, "root")).unwrap();
            graph.output(y, "y", ElementType::Float, vec![]);
            params.expect_all_read().unwrap();
            let found = run(&graph.into_parts(), &inputs).remove(0);
            assert_near(&found, expected, &format!("{}, {}, fold {fold}", self.name, target.profile.name));
        }
    }

    fn params(&self) -> Params {
        let parameters = self.tensors.iter().filter(|(name, _)| *name != "output" && !INPUTS.contains(&name.as_str()));
        Params::given(
            parameters.map(|(name, array)| {
                (format!("root.{name}"), Tensor::from_f32(name, array.shape(), &floats_of(array)))
            }),
        )
    }
}

fn array<const N: usize, T: Datum + Copy>(shape: &[usize], bytes: &[u8], number: fn([u8; N]) -> T) -> Array {
    let numbers: Vec<T> = bytes.chunks_exact(N).map(|bytes| number(bytes.try_into().unwrap())).collect();
    Array::from_shape(shape, &numbers).unwrap()
}

fn floats_of(array: &Array) -> Vec<f32> {
    array.to_plain_array_view::<f32>().unwrap().iter().copied().collect()
}

/// Whether numbers are those of a case but for rounding.
pub fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: as many numbers");
    let rms = (expected.iter().map(|n| n * n).sum::<f32>() / expected.len() as f32).sqrt();
    let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / rms).fold(0.0, |a: f32, b| {
        // `max` would drop a NaN.
        if b.is_nan() { f32::INFINITY } else { a.max(b) }
    });
    assert!(error <= BOUND, "{what}: {error:e} of the root mean square apart");
}
