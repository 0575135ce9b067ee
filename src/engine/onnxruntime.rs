//! ONNX Runtime as an engine. Its library is loaded at run time from where it is installed; nothing of it is built in.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::SessionInputValue;
use ort::value::TensorRef;

use super::array::{Array, Data};
use super::{Engine, EngineKind, Error, Session, Step};

/// The library that the environment names.
pub(super) fn library_of_environment() -> Option<PathBuf> {
    std::env::var_os(super::LIBRARY_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// ONNX Runtime's library, loaded.
#[derive(Clone, Debug)]
pub struct OnnxRuntime {
    environment: Environment,
    name: String,
}

/// A session on a file. Errors call it `path`.
struct Model {
    path: String,
    /// Of the inputs that have to be fed, in the file's order.
    inputs: Vec<String>,
    session: Mutex<ort::session::Session>,
}

impl OnnxRuntime {
    /// Loads the library at `path`; a process can have one.
    ///
    /// # Errors
    /// [`Error::Library`] when it is no such library, too old, or another was loaded before.
    pub fn load(path: &Path) -> Result<OnnxRuntime, Error> {
        static LOADED: Mutex<Option<(PathBuf, OnnxRuntime)>> = Mutex::new(None);
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
        // What fails is reported as an error; the log repeats it, with names of the file as they are.
        if std::env::var_os("ORT_LOG").is_none() {
            environment.set_log_level(ort::logging::LogLevel::Fatal);
        }
        let runtime = OnnxRuntime { environment, name: name(&path) };
        *loaded = Some((path, runtime.clone()));
        Ok(runtime)
    }

    fn session(&self, file: &Path, threads: Option<usize>) -> Result<ort::session::Session, String> {
        let mut builder = ort::session::Session::builder(&self.environment).map_err(|e| e.to_string())?;
        if let Some(threads) = threads {
            builder = builder.with_intra_threads(threads).map_err(|e| e.to_string())?;
        }
        builder.commit_from_file(file).map_err(|e| e.to_string())
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> Option<EngineKind> {
        Some(EngineKind::OnnxRuntime)
    }

    fn load(&self, file: &Path, shown: &str, threads: Option<usize>) -> Result<Box<dyn Session>, Error> {
        let session = self.session(file, threads).map_err(|reason| failed(shown, Step::Load, &reason))?;
        let inputs = session.inputs().iter().map(|input| input.name().to_owned()).collect();
        Ok(Box::new(Model { path: shown.to_owned(), inputs, session: Mutex::new(session) }))
    }
}

impl Session for Model {
    fn run(&self, inputs: &[&Array], outputs: &[usize]) -> Result<Vec<Array>, Error> {
        self.outputs(inputs, outputs).map_err(|e| failed(&self.path, Step::Run, &e.to_string()))
    }
}

impl Model {
    fn outputs(&self, inputs: &[&Array], wanted: &[usize]) -> ort::Result<Vec<Array>> {
        let mut values: Vec<(&str, SessionInputValue)> = Vec::new();
        for (name, array) in self.inputs.iter().zip(inputs) {
            values.push((name, value(array)?));
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(values)?;
        let read = |&at: &usize| {
            let (shape, values) = outputs[at].try_extract_tensor::<f32>()?;
            let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
            Ok(Array::new(shape, values.to_vec()))
        };
        wanted.iter().map(read).collect()
    }
}

fn value(array: &Array) -> ort::Result<SessionInputValue<'_>> {
    let shape = array.shape().to_vec();
    Ok(match array.data() {
        Data::F32(values) => TensorRef::from_array_view((shape, &values[..]))?.into(),
        Data::I64(ids) => TensorRef::from_array_view((shape, &ids[..]))?.into(),
        Data::I32(ids) => TensorRef::from_array_view((shape, &ids[..]))?.into(),
        Data::U8(bytes) => TensorRef::from_array_view((shape, &bytes[..]))?.into(),
    })
}

fn failed(path: &str, step: Step, reason: &str) -> Error {
    Error::failed("ONNX Runtime", path, step, reason)
}

/// With the version that the library's own file name tells, as in `libonnxruntime.so.1.23.0`: the bindings
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
        let error = OnnxRuntime::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("is no ONNX Runtime library"), "{error}");
        assert!(OnnxRuntime::load(Path::new("/nowhere/libonnxruntime.so")).is_err());
    }
}
