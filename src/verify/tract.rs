//! tract as an engine: pure Rust, always there.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};
use std::sync::Arc;

use anyhow::Context;
use tract_core::floats::FloatPrecisionTranslator;
use tract_core::internal::{
    DatumType, IntoRunnable, Symbol, TDim, ToDim, TractError, TypedModel, TypedNode, TypedRunnableModel,
};
use tract_core::ops::konst::Const;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoTValue, TValue, Tensor, tvec,
};
use tract_onnx::tract_hir::internal::Factoid;

use super::Error;
use super::tower::Array;

/// What reports call it.
pub const NAME: &str = "tract 0.23.9";

/// A file as tract loaded it. Messages call it `path`.
pub struct Model {
    path: String,
    form: Form,
}

enum Form {
    Typed(TypedModel),
    /// What has operators that tract understands once lengths are known, such as a Resize of pictures of any
    /// size.
    Untyped(InferenceModel),
}

/// A model optimised for the lengths of its inputs.
pub struct Plan {
    path: String,
    wanted: Vec<DatumType>,
    plan: Arc<TypedRunnableModel>,
}

impl Model {
    pub fn load(file: &Path, path: &str) -> Result<Model, Error> {
        let untyped = guarded(path, "load", || load(file))?;
        let resizes = untyped.nodes().iter().any(|node| node.op.name() == "Resize");
        let form = if resizes {
            Form::Untyped(untyped)
        } else {
            Form::Typed(guarded(path, "load", || widened(untyped.into_typed()?.into_decluttered()?))?)
        };
        Ok(Model { path: path.to_owned(), form })
    }

    /// Binds free axes to `lengths` of the inputs, and optimises for them; the number of the input whose
    /// axes do not fit, in the inner error.
    pub fn at(&self, lengths: &[Vec<usize>]) -> Result<Result<Plan, usize>, Error> {
        let mut bound: HashMap<Symbol, TDim> = HashMap::new();
        let mut wanted = Vec::new();
        for (at, lengths) in lengths.iter().enumerate() {
            let (shape, datum_type) = guarded(&self.path, "inspect", || self.input(at))?;
            let fits = shape.len() == lengths.len()
                && shape.iter().zip(lengths).all(|(dim, &len)| match dim {
                    TDim::Sym(symbol) => {
                        bound.insert(symbol.clone(), len.to_dim()).is_none_or(|was| was == len.to_dim())
                    }
                    dim => dim.to_i64().is_ok_and(|n| n == len as i64),
                });
            if !fits {
                return Ok(Err(at));
            }
            wanted.push(datum_type);
        }
        let plan = guarded(&self.path, "optimise", || {
            let model = match &self.form {
                Form::Typed(model) if bound.is_empty() => model.clone(),
                Form::Typed(model) => model.set_symbols(&bound)?,
                Form::Untyped(model) => {
                    let mut model = model.clone();
                    for (at, (lengths, wanted)) in lengths.iter().zip(&wanted).enumerate() {
                        model.set_input_fact(at, InferenceFact::dt_shape(*wanted, lengths))?;
                    }
                    model.into_typed()?
                }
            };
            model.into_decluttered()?.into_optimized()?.into_runnable()
        })?;
        Ok(Ok(Plan { path: self.path.clone(), wanted, plan }))
    }

    fn input(&self, at: usize) -> Result<(Vec<TDim>, DatumType), TractError> {
        Ok(match &self.form {
            Form::Typed(model) => {
                let fact = model.input_fact(at)?;
                (fact.shape.to_vec(), fact.datum_type)
            }
            Form::Untyped(model) => {
                let fact = model.input_fact(at)?;
                let shape = fact.shape.concretize().context("an input's rank is not known")?;
                (shape.to_vec(), fact.datum_type.concretize().context("an input's type is not known")?)
            }
        })
    }
}

impl Plan {
    /// Runs one batch; gives the outputs of these numbers.
    pub fn run(&self, inputs: &[&Array], wanted: &[usize]) -> Result<Vec<Array>, Error> {
        guarded(&self.path, "run", || {
            let mut values = tvec!();
            for (array, &wanted) in inputs.iter().zip(&self.wanted) {
                values.push(value(array, wanted)?);
            }
            let outputs = self.plan.run(values)?;
            let read = |&at: &usize| {
                let view = outputs[at].to_plain_array_view::<f32>()?;
                Ok(Array { shape: view.shape().to_vec(), values: view.iter().copied().collect(), ids: vec![] })
            };
            wanted.iter().map(read).collect()
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

/// Reads a file. Where it is a link, as in a hub's cache, weights may lie beside the file that it leads to, whatever they
/// are called there: as ONNX Runtime has it from 1.24.2 on. tract looks beside the link alone, and refuses all else.
fn load(file: &Path) -> Result<InferenceModel, TractError> {
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let folder = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    let real = file.canonicalize().with_context(|| format!("following {}", file.display()))?;
    let (beside, there) = (folder(file), folder(&real));
    let here = if beside.as_os_str().is_empty() { Path::new(".") } else { &beside };
    if here.canonicalize().is_ok_and(|here| here == there) {
        return onnx.model_for_path(file);
    }
    let mut model = onnx.proto_model_for_path(file)?;
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key == "location") {
            match real_name(here, &there, &entry.value) {
                Some(name) => entry.value = name,
                // Refused there, in words that are of the path as it is written.
                None => return onnx.model_for_path(file),
            }
        }
    }
    let parsed = onnx.parse(&model, there.to_str())?;
    if !parsed.unresolved_inputs.is_empty() {
        return Err(TractError::msg(format!("inputs that come from nowhere: {:?}", parsed.unresolved_inputs)));
    }
    Ok(parsed.model)
}

/// The name in `there` of what `location` leads to, a path inside the folder `here`; None where it leads elsewhere.
fn real_name(here: &Path, there: &Path, location: &str) -> Option<String> {
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
    let real = here.join(location).canonicalize().ok().filter(|_| inside)?;
    let name = real.file_name()?.to_str()?;
    (real.parent() == Some(there)).then(|| name.to_owned())
}

fn value(array: &Array, wanted: DatumType) -> Result<TValue, TractError> {
    let tensor = match wanted {
        DatumType::F32 => Tensor::from_shape(&array.shape, &array.values)?,
        DatumType::U8 => {
            let bytes: Vec<u8> = array.values.iter().map(|&v| v as u8).collect();
            Tensor::from_shape(&array.shape, &bytes)?
        }
        DatumType::I32 => {
            let ids: Vec<i32> = array.ids.iter().map(|&id| id as i32).collect();
            Tensor::from_shape(&array.shape, &ids)?
        }
        _ => Tensor::from_shape(&array.shape, &array.ids)?,
    };
    Ok(tensor.into_tvalue())
}

thread_local! {
    static GUARDED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread is inside tract code whose panics are caught and reported as errors. A
/// program can ask in its panic hook, to say them once.
pub fn panics_are_caught() -> bool {
    GUARDED.get()
}

/// Runs tract code that may fail or, on a graph it does not expect, panic.
fn guarded<T>(path: &str, step: &'static str, run: impl FnOnce() -> Result<T, TractError>) -> Result<T, Error> {
    let failed = |reason: String| Error::Engine { engine: "tract", path: path.to_owned(), step, reason };
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    match outcome {
        Ok(result) => result.map_err(|e| failed(format!("{e:#}").replace('\n', " "))),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(failed(format!("it panicked ({})", said.unwrap_or("without a message").replace('\n', " "))))
        }
    }
}
