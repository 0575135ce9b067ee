//! For tests of towers' parts: options, parameters, and a graph of one part.

use super::scope::{Options, Scope};
use crate::onnx::graph::{ElementType, Parts};
use crate::onnx::testing::numbers;
use crate::onnx::{Graph, Target, Value};
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
