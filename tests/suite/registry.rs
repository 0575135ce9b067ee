//! Every configuration of open_clip, opened as the folder that its repository is: names and shapes are real, values are holes
//! in the file. What is supported is found, and fits to the last tensor; the rest is refused by the name of what is missing.
//!
//! `tests/registry.json.gz` was written by `scripts/make_registry.py`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use clip_onnx::config::registry;
use clip_onnx::pipeline::{Inspected, Source, inspect};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::root;

#[derive(Deserialize)]
struct Entry {
    model_cfg: Value,
    /// Element type, then the shape.
    tensors: BTreeMap<String, Vec<Value>>,
}

fn write(folder: &Path, entry: &Entry) {
    let config = json!({"model_cfg": entry.model_cfg, "preprocess_cfg": {}});
    std::fs::write(folder.join("open_clip_config.json"), config.to_string()).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, tensor) in &entry.tensors {
        let (dtype, size) = match tensor[0].as_str().unwrap() {
            "float32" => ("F32", 4),
            "int64" => ("I64", 8),
            "bool" => ("BOOL", 1),
            other => panic!("{other}"),
        };
        let shape: Vec<u64> = tensor[1..].iter().map(|n| n.as_u64().unwrap()).collect();
        let start = end;
        end += size * shape.iter().product::<u64>();
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let path = folder.join("open_clip_model.safetensors");
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(8 + header.len() as u64 + end).unwrap();
}

#[test]
fn every_configuration_is_found_or_refused_by_name() {
    let packed = std::fs::read(root().join("tests/registry.json.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let entries: BTreeMap<String, Entry> = serde_json::from_str(&text).unwrap();
    assert_eq!((entries.len(), registry().count()), (144, 144));
    assert_eq!(registry().map(|known| known.weights.len()).sum::<usize>(), 196);
    let mut found = 0;
    for known in registry() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &entries[known.name]);
        let outcome = inspect(&Source::new(folder.path())).map_err(|e| e.sentence());
        let problem = match outcome {
            Ok(Inspected::Checkpoint(report)) => match report.problem {
                Some(problem) => Err(problem),
                None if report.differences.is_empty() => Ok(report.model),
                None => Err(format!("{:?}", report.differences)),
            },
            Ok(Inspected::Onnx(_)) => panic!("{} is a checkpoint", known.name),
            Err(problem) => Err(problem),
        };
        match known.lacks {
            None => {
                assert!(problem.is_ok(), "{}: {problem:?}", known.name);
                found += 1;
            }
            Some(what) => {
                let said = problem.expect_err(&format!("{} lacks {what}", known.name));
                // A tower is named by a field of the configuration, or by names of tensors.
                assert!(
                    said.contains("open_clip_config.json") || said.contains("names such as"),
                    "{}: {said}",
                    known.name
                );
            }
        }
    }
    assert_eq!(found, 83);
}
