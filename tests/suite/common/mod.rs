//! Fixture lookup, and what tests read of an export.

pub mod bench;
pub mod npz;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clip_onnx::pipeline::{Export, ModelChoice, Progress};
use clip_onnx::verify::Report;
use clip_onnx::verify::report::Compared;

/// A folder of `tests/fixtures`.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub name: String,
    pub folder: PathBuf,
}

impl Fixture {
    pub fn named(name: &str) -> Fixture {
        let folder = root().join("tests/fixtures").join(name);
        assert!(folder.is_dir(), "no fixture {name}");
        Fixture { name: name.to_owned(), folder }
    }

    /// The checkpoint, or the first of those that hold the same values.
    pub fn checkpoint(&self) -> PathBuf {
        self.checkpoints().remove(0)
    }

    pub fn checkpoints(&self) -> Vec<PathBuf> {
        let files = ["npz", "pt", "safetensors"].map(|e| self.folder.join(format!("checkpoint.{e}")));
        let files: Vec<PathBuf> = files.into_iter().filter(|f| f.exists()).collect();
        assert!(!files.is_empty(), "{} has no checkpoint", self.name);
        files
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    pub fn config_json(&self) -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(self.config()).unwrap()).unwrap()
    }

    pub fn reference(&self) -> PathBuf {
        self.folder.join("reference.npz")
    }

    pub fn is_naflex(&self) -> bool {
        self.name.contains("naflex")
    }

    /// An export of this fixture against its reference.
    pub fn export_to(&self, out: &Path) -> Export {
        let request = Export::new(self.checkpoint(), out).model(ModelChoice::File(self.config()));
        let mut request = request.reference(self.reference());
        request.proof.batches = Some(vec![1, 2, 3, 7]);
        request
    }
}

/// Every fixture: a folder is a case.
pub fn fixtures() -> Vec<Fixture> {
    let mut out: Vec<Fixture> = std::fs::read_dir(root().join("tests/fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|folder| Fixture { name: folder.file_name().unwrap().to_string_lossy().into_owned(), folder })
        .collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(out.len() >= 30, "{} fixtures", out.len());
    out
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Largest relative error of any tower at any batch size; infinite where widths differ.
pub fn worst(report: &Report) -> f64 {
    let batches = report.towers.iter().flat_map(|tower| &tower.batches);
    batches
        .map(|batch| match &batch.compared {
            Some(Compared::Agreement(agreement)) => agreement.relative_error,
            Some(Compared::Width { .. }) => f64::INFINITY,
            None => panic!("{} was not compared", batch.batch),
        })
        .fold(0.0, f64::max)
}

/// The bytes of a file of an export.
pub fn bytes(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{}/{name}: {e}", folder.display()))
}

/// A decoded model.
pub fn model(path: &Path) -> clip_onnx::onnx::proto::ModelProto {
    prost::Message::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

/// A folder of `tests/cases`.
pub fn case(name: &str) -> PathBuf {
    root().join("tests/cases").join(name)
}

/// Remarks, for tests to read.
#[derive(Default)]
pub struct Remarks(pub Mutex<Vec<String>>);

impl Progress for Remarks {
    fn start(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}
