//! What runs a file: tract, which is built in, or ONNX Runtime, where its library is at hand.

use std::path::{Path, PathBuf};

use super::Error;
use super::onnxruntime::{self, Runtime, VARIABLE};
use super::tower::Array;
use super::tract;
use crate::onnx::read::Port;

/// An engine, ready to load files.
#[derive(Clone, Debug)]
pub enum Engine {
    Tract,
    OnnxRuntime(Runtime),
}

/// Which engines to take.
#[derive(Clone, Debug, Default)]
pub struct Engines {
    /// By name; all that are there when empty.
    pub names: Vec<String>,
    /// ONNX Runtime's library; where none is named, what the variable its bindings use names.
    pub library: Option<PathBuf>,
}

impl Engines {
    /// The engines' names.
    pub const NAMES: [&'static str; 2] = ["tract", "onnxruntime"];

    /// Loads them.
    ///
    /// # Errors
    /// [`Error::Library`] when ONNX Runtime's is no library, [`Error::NoLibrary`] when it is asked for by
    /// name and none is named, [`Error::IdleLibrary`] when one is named that the engines do not need.
    pub fn open(&self) -> Result<Vec<Engine>, Error> {
        let wanted = |name: &str| self.names.is_empty() || self.names.iter().any(|n| n == name);
        let mut out = Vec::new();
        if wanted("tract") {
            out.push(Engine::Tract);
        }
        if wanted("onnxruntime") {
            let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
            match self.library.clone().or(named) {
                Some(library) => out.push(Engine::OnnxRuntime(Runtime::load(&library)?)),
                None if self.names.is_empty() => {}
                None => return Err(Error::NoLibrary),
            }
        } else if let Some(library) = &self.library {
            return Err(Error::IdleLibrary { path: library.display().to_string() });
        }
        Ok(out)
    }
}

impl Engine {
    /// With its version.
    pub fn name(&self) -> &str {
        match self {
            Engine::Tract => tract::NAME,
            Engine::OnnxRuntime(runtime) => runtime.name(),
        }
    }

    /// As [`Engines::names`] has it.
    pub fn id(&self) -> &'static str {
        Engines::NAMES[usize::from(!self.is_tract())]
    }

    pub fn is_tract(&self) -> bool {
        matches!(self, Engine::Tract)
    }

    pub(super) fn load(&self, file: &Path, shown: &str, threads: Option<usize>) -> Result<Model, Error> {
        Ok(match self {
            Engine::Tract => Model::Tract(Box::new(tract::Model::load(file, shown)?)),
            Engine::OnnxRuntime(runtime) => Model::OnnxRuntime(runtime.session(file, shown, threads)?),
        })
    }
}

/// A loaded file.
pub enum Model {
    Tract(Box<tract::Model>),
    OnnxRuntime(onnxruntime::Model),
}

/// A loaded file, bound to lengths of its inputs.
pub enum Plan<'a> {
    Tract(Box<tract::Plan>),
    OnnxRuntime(onnxruntime::Plan<'a>),
}

impl Model {
    /// Binds free axes; the number of an input that does not fit, in the inner error.
    pub fn at<'a>(&'a self, lengths: &[Vec<usize>], inputs: &'a [Port]) -> Result<Result<Plan<'a>, usize>, Error> {
        Ok(match self {
            Model::Tract(model) => model.at(lengths)?.map(|plan| Plan::Tract(Box::new(plan))),
            Model::OnnxRuntime(model) => Ok(Plan::OnnxRuntime(model.at(inputs))),
        })
    }
}

impl Plan<'_> {
    /// Runs one batch; gives the outputs of these numbers.
    pub fn run(&self, inputs: &[&Array], wanted: &[usize]) -> Result<Vec<Array>, Error> {
        match self {
            Plan::Tract(plan) => plan.run(inputs, wanted),
            Plan::OnnxRuntime(plan) => plan.run(inputs, wanted),
        }
    }
}
