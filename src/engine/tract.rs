//! tract as an engine: pure Rust, always at hand.

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, PoisonError};

use tract_core::floats::FloatPrecisionTranslator;
use tract_core::internal::{
    DatumType, IntoRunnable, Symbol, TDim, ToDim, TractError, TractErrorContext, TypedModel, TypedNode,
    TypedRunnableModel,
};
use tract_core::ops::konst::Const;
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoTValue, TValue, Tensor};
use tract_onnx::tract_hir::internal::Factoid;

use super::array::{Array, Data};
use super::{Engine, EngineKind, Error, Session, Step};
use crate::guard;

/// Nodes of a graph, at most: optimising takes time by their square. The largest towers have 4000.
const MOST_NODES: usize = 8_000;

/// Bytes that any tensor may have, whatever is fed.
const LEAST_TENSOR: usize = 128 << 20;

/// Bytes that a tensor may have besides for each number that is fed.
const FOR_EACH_NUMBER: usize = 512;

/// tract, which is built in. It runs on one thread.
#[derive(Clone, Copy, Debug)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &str {
        concat!("tract ", env!("TRACT_VERSION"))
    }

    fn kind(&self) -> Option<EngineKind> {
        Some(EngineKind::Tract)
    }

    fn optimizes_for_shapes(&self) -> bool {
        true
    }

    fn load(&self, file: &Path, shown: &str, _threads: Option<usize>) -> Result<Box<dyn Session>, Error> {
        let untyped = guarded(shown, Step::Load, || load(file))?;
        let nodes = untyped.nodes().len();
        if nodes > MOST_NODES {
            let reason =
                format!("it has {nodes} nodes, of which tract optimises at most {MOST_NODES} in reasonable time");
            return Err(Error::failed("tract", shown, Step::Load, &reason));
        }
        let resizes = untyped.nodes().iter().any(|node| node.op.name() == "Resize");
        let graph = if resizes {
            Graph::Untyped(untyped)
        } else {
            Graph::Typed(guarded(shown, Step::Load, || widened(untyped.into_typed()?.into_decluttered()?))?)
        };
        Ok(Box::new(Model { path: shown.to_owned(), graph, plan: Mutex::new(None) }))
    }
}

/// A file as tract loaded it. Errors call it `path`.
struct Model {
    path: String,
    graph: Graph,
    /// What was optimised last, and the shapes of inputs it is for.
    plan: Mutex<Option<(Vec<Vec<usize>>, Plan)>>,
}

type Plan = Arc<TypedRunnableModel>;

enum Graph {
    Typed(TypedModel),
    /// One with operators that tract understands once all lengths are known, such as a Resize of images of any size.
    Untyped(InferenceModel),
}

impl Session for Model {
    fn run(&self, inputs: &[&Array], outputs: &[usize]) -> Result<Vec<Array>, Error> {
        let plan = self.plan(inputs)?;
        guarded(&self.path, Step::Run, || {
            let values = inputs.iter().map(|array| value(array)).collect::<Result<_, TractError>>()?;
            let found = plan.run(values)?;
            let read = |&at: &usize| {
                let view = found[at].to_plain_array_view::<f32>()?;
                Ok(Array::new(view.shape(), view.iter().copied().collect::<Vec<f32>>()))
            };
            outputs.iter().map(read).collect()
        })
    }
}

impl Model {
    /// The model optimised for the shapes of these inputs. Only the last one is kept: it may take as much memory as the
    /// model itself.
    fn plan(&self, inputs: &[&Array]) -> Result<Plan, Error> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|array| array.shape().to_vec()).collect();
        let mut kept = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, plan)) if *of == shapes => return Ok(plan.clone()),
            _ => *kept = None,
        }
        let plan = self.optimized(&shapes)?;
        *kept = Some((shapes, plan.clone()));
        Ok(plan)
    }

    /// Gives free axes the lengths of these shapes of the inputs, and optimises for them.
    fn optimized(&self, shapes: &[Vec<usize>]) -> Result<Plan, Error> {
        let mut bound: HashMap<Symbol, TDim> = HashMap::new();
        let mut types = Vec::new();
        for (at, lengths) in shapes.iter().enumerate() {
            let input = guarded(&self.path, Step::Optimize, || self.graph.input(at))?;
            let fits = input.shape.len() == lengths.len()
                && input.shape.iter().zip(lengths).all(|(dim, &len)| match dim {
                    TDim::Sym(symbol) => {
                        bound.insert(symbol.clone(), len.to_dim()).is_none_or(|was| was == len.to_dim())
                    }
                    dim => dim.to_i64().is_ok_and(|n| n == len as i64),
                });
            if !fits {
                let declared: Vec<String> = input.shape.iter().map(TDim::to_string).collect();
                let reason = format!("input `{}` is [{}], not {lengths:?}", input.name, declared.join(", "));
                return Err(Error::Unfit { path: self.path.clone(), reason });
            }
            types.push(input.datum_type);
        }
        // What attention over all pairs of positions comes to is a small part of it.
        let fed: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let most = LEAST_TENSOR + fed.saturating_mul(FOR_EACH_NUMBER);
        guarded(&self.path, Step::Optimize, || {
            let model = match &self.graph {
                Graph::Typed(model) if bound.is_empty() => model.clone(),
                Graph::Typed(model) => model.set_symbols(&bound)?,
                Graph::Untyped(model) => {
                    let mut model = model.clone();
                    for (at, (lengths, datum_type)) in shapes.iter().zip(&types).enumerate() {
                        model.set_input_fact(at, InferenceFact::dt_shape(*datum_type, lengths))?;
                    }
                    model.into_typed()?
                }
            };
            check_tensors(&model, most)?;
            model.into_decluttered()?.into_optimized()?.into_runnable()
        })
    }
}

/// Checks that no tensor between the nodes is of a size that no tower's is.
fn check_tensors(model: &TypedModel, most: usize) -> Result<(), TractError> {
    for node in model.nodes() {
        for output in &node.outputs {
            let Some(shape) = output.fact.shape.as_concrete() else { continue };
            let bytes = shape.iter().try_fold(output.fact.datum_type.size_of(), |n, &axis| n.checked_mul(axis));
            if bytes.is_none_or(|bytes| bytes > most) {
                let operator = node.op.name();
                return Err(TractError::msg(format!(
                    "node `{}` ({operator}) gives a tensor {shape:?}, of more than the {} MB that a tower may need for such inputs",
                    node.name,
                    most / 1_000_000
                )));
            }
        }
    }
    Ok(())
}

/// What a graph says of one input.
struct Input {
    name: String,
    shape: Vec<TDim>,
    datum_type: DatumType,
}

impl Graph {
    fn input(&self, at: usize) -> Result<Input, TractError> {
        Ok(match self {
            Graph::Typed(model) => {
                let fact = model.input_fact(at)?;
                let name = model.node(model.input_outlets()?[at].node).name.clone();
                Input { name, shape: fact.shape.to_vec(), datum_type: fact.datum_type }
            }
            Graph::Untyped(model) => {
                let fact = model.input_fact(at)?;
                let name = model.node(model.input_outlets()?[at].node).name.clone();
                let shape = fact.shape.concretize().context("an input's rank is not known")?;
                let datum_type = fact.datum_type.concretize().context("an input's type is not known")?;
                Input { name, shape: shape.to_vec(), datum_type }
            }
        })
    }
}

/// Arithmetic in float16 as arithmetic in float32, which takes tract a twentieth of the time.
fn widened(mut model: TypedModel) -> Result<TypedModel, TractError> {
    let computes_halves = |node: &TypedNode| {
        node.op_as::<Const>().is_none() && node.outputs.iter().any(|output| output.fact.datum_type == DatumType::F16)
    };
    if !model.nodes().iter().any(computes_halves) {
        return Ok(model);
    }
    model.transform(&FloatPrecisionTranslator::new(DatumType::F16, DatumType::F32))?;
    model.into_decluttered()
}

/// Reads a file. Where it is a link, as in a hub's cache, external weights may lie next to the file that it leads to,
/// under whatever name they have there, as in ONNX Runtime from 1.24.2 on. tract looks next to the link alone, and refuses
/// all else.
fn load(file: &Path) -> Result<InferenceModel, TractError> {
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let folder = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    let real = file.canonicalize().with_context(|| format!("following {}", file.display()))?;
    let (of_link, of_file) = (folder(file), folder(&real));
    let here = if of_link.as_os_str().is_empty() { Path::new(".") } else { &of_link };
    if here.canonicalize().is_ok_and(|here| here == of_file) {
        return onnx.model_for_path(file);
    }
    let mut model = onnx.proto_model_for_path(file)?;
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key == "location") {
            match real_name(here, &of_file, &entry.value) {
                Some(name) => entry.value = name,
                // tract refuses it, naming the path as it is written.
                None => return onnx.model_for_path(file),
            }
        }
    }
    let parsed = onnx.parse(&model, of_file.to_str())?;
    if !parsed.unresolved_inputs.is_empty() {
        return Err(TractError::msg(format!("inputs that come from nowhere: {:?}", parsed.unresolved_inputs)));
    }
    Ok(parsed.model)
}

/// The name in the folder `there` of what `location` leads to, a path inside the folder `here`; None where it leads
/// elsewhere.
fn real_name(here: &Path, there: &Path, location: &str) -> Option<String> {
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
    let real = here.join(location).canonicalize().ok().filter(|_| inside)?;
    let name = real.file_name()?.to_str()?;
    (real.parent() == Some(there)).then(|| name.to_owned())
}

fn value(array: &Array) -> Result<TValue, TractError> {
    let shape = array.shape();
    let tensor = match array.data() {
        Data::F32(values) => Tensor::from_shape(shape, values)?,
        Data::I64(ids) => Tensor::from_shape(shape, ids)?,
        Data::I32(ids) => Tensor::from_shape(shape, ids)?,
        Data::U8(bytes) => Tensor::from_shape(shape, bytes)?,
    };
    Ok(tensor.into_tvalue())
}

/// Runs tract code that may fail or, on a graph it does not expect, panic.
fn guarded<T>(path: &str, step: Step, run: impl FnOnce() -> Result<T, TractError>) -> Result<T, Error> {
    let failed = |reason: &str| Error::failed("tract", path, step, reason);
    match guard::guarded(run) {
        Ok(result) => result.map_err(|e| failed(&format!("{e:#}"))),
        Err(panic) => Err(failed(&panic)),
    }
}
