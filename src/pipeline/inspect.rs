//! `clip-onnx inspect`: what a checkpoint or an ONNX file is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::adapters;
use super::model::open;
use super::select::{Difference, differences, keep_those_of, ranked, select};
use super::{Error, Setting, Silent, Source};
use crate::checkpoint::{self, Checkpoint, Skipped};
use crate::config::ModelConfig;
use crate::layout::manifest::Rule;
use crate::modality::Modality;
use crate::onnx::graph::Parts;
use crate::onnx::read::{Summary, summary};
use crate::output::MANIFEST;
use crate::params::{self, Params};
use crate::providers;
use crate::towers::{self, Build};

/// What a file turned out to be.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspected {
    /// A file with weights.
    Checkpoint(Box<CheckpointReport>),
    /// An ONNX model.
    Onnx(Box<OnnxReport>),
}

/// An ONNX file at a glance.
#[derive(Debug, Serialize)]
pub struct OnnxReport {
    /// Inputs, outputs, operators and sizes.
    #[serde(flatten)]
    pub summary: Summary,
    /// Runtimes the file is for, where it names its target.
    pub runtimes: Option<&'static str>,
}

/// A checkpoint at a glance.
#[derive(Debug, Serialize)]
pub struct CheckpointReport {
    /// Name of the file.
    pub file: String,
    /// Container format.
    pub format: String,
    /// Size in bytes.
    pub size: u64,
    /// How tensors are named; null when no key map knows them.
    pub naming: Option<String>,
    /// Lineage of the model; null without a model.
    pub family: Option<String>,
    /// Name of the model; null where no model was chosen.
    pub model: Option<String>,
    /// What the model was found from.
    pub found: Option<String>,
    /// Dialect that an export would follow; null without a model.
    pub dialect: Option<String>,
    /// How pixels and rows of ids are made, and where that is from; empty without a model.
    pub inputs: BTreeMap<&'static str, Rule>,
    /// How the model's weights were found among the tensors, where there was something to find.
    pub notes: Vec<String>,
    /// What a PyTorch file holds besides tensors, of which nothing was run.
    pub skipped: Vec<Skipped>,
    /// Why no model was found.
    pub problem: Option<String>,
    /// Number of parameters of each tower, and of those that logits are made with.
    pub parameters: BTreeMap<String, u64>,
    /// Tensors per element type.
    pub dtypes: BTreeMap<String, usize>,
    /// What the file lacks or has too much of, against the model or the closest one.
    pub differences: Vec<Difference>,
    /// The model the differences are against.
    pub against: Option<String>,
    /// What folding does to each tower; null without a model.
    pub folding: Option<BTreeMap<&'static str, Folding>>,
    /// Metadata of the container, by key.
    pub metadata: BTreeMap<String, String>,
    /// Every tensor of the file.
    pub tensors: Vec<TensorReport>,
}

/// A tower as it is stored, and as it is exported.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Folding {
    /// Tensors of the checkpoint, and those of the exported graph.
    pub tensors: [usize; 2],
    /// `Conv` nodes of the unfolded graph, and of the exported one.
    pub convs: [usize; 2],
    /// `BatchNormalization` nodes, likewise.
    pub batch_norms: [usize; 2],
    /// Multiplications by a layer scale or the attention scale, likewise.
    pub scales: [usize; 2],
}

#[derive(Debug, Serialize)]
pub struct TensorReport {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// Looks at a source's checkpoint, which may be an ONNX file too.
///
/// # Errors
/// When the file is neither a checkpoint nor an ONNX model.
pub fn inspect(source: &Source) -> Result<Inspected, Error> {
    let path = source.checkpoint.as_path();
    if super::refusal::is_onnx(path) {
        let summary = summary(path).map_err(|e| Error::Engine(e.into()))?;
        let runtimes = providers::runtimes(&summary);
        return Ok(Inspected::Onnx(Box::new(OnnxReport { summary, runtimes })));
    }
    if path.join(MANIFEST).is_file() && checkpoint::locate(path).is_err() {
        return Err(Error::Unsupported {
            path: path.display().to_string(),
            what: "it is a folder that an export wrote".to_owned(),
            way_out: "name one of the .onnx files in it".to_owned(),
        });
    }
    Ok(Inspected::Checkpoint(Box::new(checkpoint(&open(path)?, source)?)))
}

fn checkpoint(checkpoint: &Checkpoint, source: &Source) -> Result<CheckpointReport, Error> {
    let mut report = CheckpointReport {
        file: checkpoint.file_name(),
        format: checkpoint.format().to_string(),
        size: checkpoint.size(),
        naming: None,
        family: None,
        model: None,
        found: None,
        dialect: None,
        inputs: BTreeMap::new(),
        notes: vec![],
        skipped: checkpoint.skipped().to_vec(),
        problem: None,
        parameters: BTreeMap::new(),
        dtypes: BTreeMap::new(),
        differences: vec![],
        against: None,
        folding: None,
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
    let (reading, _) = adapters::reading(source, checkpoint)?;
    let mut params = match Params::from_checkpoint(checkpoint, &reading) {
        Ok(params) => params,
        Err(problem) => {
            report.problem = Some(Error::names(checkpoint, problem).sentence());
            return Ok(report);
        }
    };
    report.naming = Some(params.naming().to_string());
    report.notes = params.notes();
    for (name, tensor) in params.tensors() {
        let tower = match name.split_once('.') {
            Some(("visual", _)) => "image",
            Some(("text", _)) => "text",
            _ => "logits",
        };
        *report.parameters.entry(tower.to_owned()).or_insert(0) += tensor.len() as u64;
    }
    match select(source, checkpoint, &params, &Silent) {
        Ok(selected) => {
            let config = &selected.config;
            report.model = Some(config.model.clone());
            report.family = Some(config.family.to_string());
            report.dialect = Some(config.dialect.to_string());
            report.found = Some(selected.found.to_string());
            report.inputs = selected.inputs().into_iter().collect();
            keep_those_of(config, &mut params);
            report.differences = differences(config, &params);
            report.against = Some(config.model.clone());
            if report.differences.is_empty() {
                report.folding = folding(config, &params).ok();
            }
        }
        Err(problem @ (Error::NoFit { .. } | Error::Ambiguous { .. })) => {
            report.problem = Some(match problem {
                // The differences are listed below.
                Error::NoFit { .. } => {
                    format!(
                        "no known model has these shapes; choose one with {} or {}",
                        Setting::Model,
                        Setting::Config
                    )
                }
                other => other.sentence(),
            });
            let dialect = source.dialect.unwrap_or(params.naming().dialect());
            if let Some((config, differences)) = ranked(&params, dialect).into_iter().next() {
                report.against = Some(config.model.clone());
                report.differences = differences;
            }
        }
        Err(problem) => return Err(problem),
    }
    Ok(report)
}

/// Builds the towers both ways, over a recorder: names and shapes tell all there is to count.
fn folding(config: &ModelConfig, params: &Params) -> Result<BTreeMap<&'static str, Folding>, params::Error> {
    let build = |fold| -> Result<_, params::Error> {
        let (recorder, build) = (Params::recorder(), Build { fold, ..Build::default() });
        let towers = [(Modality::Image, towers::image as towers::Tower), (Modality::Text, towers::text)];
        let has = towers.into_iter().filter(|(tower, _)| config.has(*tower));
        has.map(|(tower, graph)| Ok((tower, graph(config, &recorder, &build)?.into_parts())))
            .collect::<Result<Vec<_>, _>>()
    };
    let (plain, folded) = (build(false)?, build(true)?);
    let count = |parts: &Parts, op: &str| parts.nodes.iter().filter(|node| node.op_type == op).count();
    let report = |root: &str, before: &Parts, after: &Parts| {
        let both = |op: &str| [count(before, op), count(after, op)];
        let of_tower = params.tensors().filter(|(name, _)| name.starts_with(root));
        let stored: BTreeSet<&str> = of_tower.flat_map(|(_, tensor)| tensor.source_names()).collect();
        let weights = after.initializers.iter().filter(|i| i.name.starts_with(root)).count();
        Folding {
            tensors: [stored.len(), weights],
            convs: both("Conv"),
            batch_norms: both("BatchNormalization"),
            scales: both("Mul").map(|n| n - count(after, "Mul")),
        }
    };
    let towers = plain.iter().zip(&folded);
    Ok(towers
        .map(|((tower, before), (_, after))| (tower.name(), report(params::prefix(*tower), before, after)))
        .collect())
}
