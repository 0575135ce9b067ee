//! ONNX Runtime as an engine: what files are deployed on. Its library is loaded at run time, from where
//! the user says it is; nothing of it is built in.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;

use super::Error;
use super::tower::Array;
use crate::onnx::read::Port;

/// The variable its bindings look at.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library, loaded.
#[derive(Clone, Debug)]
pub struct Runtime {
    environment: Environment,
    name: String,
}

/// A session on a file. Messages call it `path`.
pub struct Model {
    path: String,
    session: RefCell<Session>,
}

/// A session, and the element types of its inputs.
pub struct Plan<'a> {
    model: &'a Model,
    inputs: &'a [Port],
}

impl Runtime {
    /// Loads the library at `path`; a process has one.
    ///
    /// # Errors
    /// [`Error::Library`] when it is no such library, too old, or another was loaded before.
    pub fn load(path: &Path) -> Result<Runtime, Error> {
        static LOADED: Mutex<Option<(PathBuf, Runtime)>> = Mutex::new(None);
        let wrong = |reason: String| Error::Library { path: path.display().to_string(), reason };
        let path = path.canonicalize().map_err(|e| wrong(e.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some((was, runtime)) if *was == path => return Ok(runtime.clone()),
            Some((was, _)) => return Err(wrong(format!("{} was loaded before it", was.display()))),
            None => {}
        }
        let builder = ort::init_from(&path).map_err(|e| wrong(e.to_string()))?;
        let environment = builder.with_name(env!("CARGO_PKG_NAME")).with_telemetry(false).build();
        let environment = environment.map_err(|e| wrong(e.to_string()))?;
        let runtime = Runtime { environment, name: name(&path) };
        *loaded = Some((path, runtime.clone()));
        Ok(runtime)
    }

    /// What reports call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn session(&self, file: &Path, path: &str, threads: Option<usize>) -> Result<Model, Error> {
        let session = || -> Result<Session, String> {
            let mut builder = Session::builder(&self.environment).map_err(|e| e.to_string())?;
            if let Some(threads) = threads {
                builder = builder.with_intra_threads(threads).map_err(|e| e.to_string())?;
            }
            builder.commit_from_file(file).map_err(|e| e.to_string())
        };
        let session = session().map_err(|reason| failed(path, "load", reason))?;
        Ok(Model { path: path.to_owned(), session: RefCell::new(session) })
    }
}

impl Model {
    pub fn at<'a>(&'a self, inputs: &'a [Port]) -> Plan<'a> {
        Plan { model: self, inputs }
    }
}

impl Plan<'_> {
    /// Runs one batch; gives the outputs of these numbers.
    pub fn run(&self, arrays: &[&Array], wanted: &[usize]) -> Result<Vec<Array>, Error> {
        let narrow: Vec<Vec<i32>> = arrays.iter().map(|a| a.ids.iter().map(|&id| id as i32).collect()).collect();
        let bytes = |(port, array): (&Port, &&Array)| -> Vec<u8> {
            let taken = port.element_type == "uint8";
            array.values.iter().filter(|_| taken).map(|&v| v as u8).collect()
        };
        let bytes: Vec<Vec<u8>> = self.inputs.iter().zip(arrays).map(bytes).collect();
        let run = || -> ort::Result<Vec<Array>> {
            let mut values: Vec<(&str, SessionInputValue)> = Vec::new();
            for (((port, array), narrow), bytes) in self.inputs.iter().zip(arrays).zip(&narrow).zip(&bytes) {
                let value = match port.element_type.as_str() {
                    "int32" => TensorRef::from_array_view((array.shape.clone(), &narrow[..]))?.into(),
                    "uint8" => TensorRef::from_array_view((array.shape.clone(), &bytes[..]))?.into(),
                    "int64" => TensorRef::from_array_view((array.shape.clone(), &array.ids[..]))?.into(),
                    _ => TensorRef::from_array_view((array.shape.clone(), &array.values[..]))?.into(),
                };
                values.push((&port.name, value));
            }
            let mut session = self.model.session.borrow_mut();
            let outputs = session.run(values)?;
            let read = |&at: &usize| {
                let (shape, values) = outputs[at].try_extract_tensor::<f32>()?;
                let shape = shape.iter().map(|&n| n as usize).collect();
                Ok(Array { shape, values: values.to_vec(), ids: vec![] })
            };
            wanted.iter().map(read).collect()
        };
        run().map_err(|e| failed(&self.model.path, "run", e.to_string()))
    }
}

fn failed(path: &str, step: &'static str, reason: String) -> Error {
    Error::Engine { engine: "ONNX Runtime", path: path.to_owned(), step, reason: reason.replace('\n', " ") }
}

/// With the version the library's own file name tells, as in `libonnxruntime.so.1.23.0`: the bindings
/// do not hand it out.
fn name(path: &Path) -> String {
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let numbers: Vec<&str> = file.split('.').filter(|part| part.parse::<u32>().is_ok()).collect();
    if numbers.is_empty() { format!("ONNX Runtime ({file})") } else { format!("ONNX Runtime {}", numbers.join(".")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_librarys_name() {
        assert_eq!(name(Path::new("/lib/libonnxruntime.so.1.32.0")), "ONNX Runtime 1.32.0");
        assert_eq!(name(Path::new("/lib/libonnxruntime.1.23.1.dylib")), "ONNX Runtime 1.23.1");
        assert_eq!(name(Path::new("onnxruntime.dll")), "ONNX Runtime (onnxruntime.dll)");
    }

    #[test]
    fn what_is_no_library_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Runtime::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("is no ONNX Runtime library"), "{error}");
        assert!(Runtime::load(Path::new("/nowhere/libonnxruntime.so")).is_err());
    }
}
