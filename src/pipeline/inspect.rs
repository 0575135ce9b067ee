//! `clip-onnx inspect`: what a checkpoint or an ONNX file is.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::select::{Choice, Difference, differences, ranked, select};
use super::{Error, Silent, open};
use crate::checkpoint::Checkpoint;
use crate::onnx::read::{Summary, summary};
use crate::params::Params;

/// What a file turned out to be.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspected {
    Checkpoint(Box<CheckpointReport>),
    Onnx(Box<Summary>),
}

/// A checkpoint at a glance.
#[derive(Debug, Serialize)]
pub struct CheckpointReport {
    pub file: String,
    pub format: String,
    pub size: u64,
    /// How tensors are named; null when no key map knows them.
    pub naming: Option<String>,
    pub family: Option<String>,
    pub model: Option<String>,
    /// What the model was found from.
    pub found: Option<String>,
    pub dialect: Option<String>,
    /// Why no model was found.
    pub problem: Option<String>,
    /// Numbers per tower, and beside them.
    pub parameters: BTreeMap<String, u64>,
    /// Tensors per element type.
    pub dtypes: BTreeMap<String, usize>,
    /// What the file lacks or has too much of, against the model or the closest one.
    pub differences: Vec<Difference>,
    /// The model the differences are against.
    pub against: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub tensors: Vec<TensorReport>,
}

#[derive(Debug, Serialize)]
pub struct TensorReport {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// Looks at `path`, whichever kind of file it is.
///
/// # Errors
/// When the file is neither a checkpoint nor an ONNX model.
pub fn inspect(path: &Path, choice: &Choice) -> Result<Inspected, Error> {
    // ONNX begins with its first field, the IR version; a safetensors header's length may too.
    let starts_as_onnx = || {
        let mut first = [0; 9];
        let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut first));
        read.is_ok() && first[0] == 0x08 && first[8] != b'{'
    };
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) || starts_as_onnx() {
        let summary = summary(path).map_err(|e| Error::Verify(e.into()))?;
        return Ok(Inspected::Onnx(Box::new(summary)));
    }
    Ok(Inspected::Checkpoint(Box::new(checkpoint(&open(path)?, choice)?)))
}

fn checkpoint(checkpoint: &Checkpoint, choice: &Choice) -> Result<CheckpointReport, Error> {
    let mut report = CheckpointReport {
        file: checkpoint.file_name(),
        format: checkpoint.format().to_string(),
        size: checkpoint.size(),
        naming: None,
        family: None,
        model: None,
        found: None,
        dialect: None,
        problem: None,
        parameters: BTreeMap::new(),
        dtypes: BTreeMap::new(),
        differences: vec![],
        against: None,
        metadata: checkpoint.metadata().clone(),
        tensors: vec![],
    };
    for (name, tensor) in checkpoint.tensors() {
        *report.dtypes.entry(tensor.dtype().to_string()).or_insert(0) += 1;
        report.tensors.push(TensorReport {
            name: name.clone(),
            dtype: tensor.dtype().to_string(),
            shape: tensor.shape(),
        });
    }
    let params = match Params::from_checkpoint(checkpoint) {
        Ok(params) => params,
        Err(problem) => {
            report.problem = Some(problem.to_string());
            return Ok(report);
        }
    };
    report.naming = Some(params.naming().to_string());
    for (name, tensor) in params.tensors() {
        let tower = match name.split_once('.') {
            Some(("visual", _)) => "image",
            Some(("text", _)) => "text",
            _ => "logits",
        };
        *report.parameters.entry(tower.to_owned()).or_insert(0) += tensor.len() as u64;
    }
    match select(choice, checkpoint, &params, &Silent) {
        Ok(selected) => {
            let config = &selected.config;
            report.model = Some(config.model.clone());
            report.family = Some(config.family.to_string());
            report.dialect = Some(config.dialect.to_string());
            report.found = Some(selected.found.to_string());
            report.differences = differences(config, &params);
            report.against = Some(config.model.clone());
        }
        Err(problem @ (Error::NoFit { .. } | Error::Ambiguous { .. })) => {
            report.problem = Some(match problem {
                // The differences are listed below.
                Error::NoFit { .. } => "no known model has these shapes; give --model NAME or --config FILE".to_owned(),
                other => other.to_string(),
            });
            let dialect = choice.dialect.unwrap_or(params.naming().dialect());
            if let Some((config, differences)) = ranked(&params, dialect).into_iter().next() {
                report.against = Some(config.model);
                report.differences = differences;
            }
        }
        Err(problem) => return Err(problem),
    }
    Ok(report)
}
