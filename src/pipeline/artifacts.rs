//! Every graph in every precision, as files.

use std::sync::Arc;

use super::graphs::{NamedGraph, fed_floats, tract_variants};
use super::model::Model;
use super::quantize::{PrecisionReport, Quantizer};
use super::request::Export;
use super::resolve::Recipe;
use super::runner::{Calibrated, Runner};
use super::workspace::{Scratch, Workspace};
use super::zero_shot::ZeroShotHead;
use super::{Error, Progress};
use crate::engine::{Engine, is_tract};
use crate::onnx::graph::Parts;
use crate::onnx::write::Written;
use crate::ports::PixelFormat;
use crate::precision::{Precision, Rewritten};

/// One model file and its weights.
pub struct Artifact {
    /// The graph, such as `vision_model`.
    pub graph: String,
    pub precision: Precision,
    /// The model, then the file its weights are in where they are not inside.
    pub written: Vec<Written>,
}

/// What was written, and what is run besides to prove it.
#[derive(Default)]
pub struct Files {
    pub artifacts: Vec<Artifact>,
    pub precisions: Vec<PrecisionReport>,
    /// float32 graphs that others are compared with where they are not among the files.
    pub baselines: Vec<Scratch>,
    /// The float32 image tower fed floats, where the files take bytes.
    pub fed_floats: Option<Scratch>,
    /// Files that tract runs, each instead of the file of the same name.
    pub tract_variants: Vec<Scratch>,
    pub calibrated: Calibrated,
}

impl Files {
    /// Every file, models and weights.
    pub fn written(&self) -> impl Iterator<Item = &Written> {
        self.artifacts.iter().flat_map(|artifact| &artifact.written)
    }

    /// The model files.
    pub fn models(&self) -> impl Iterator<Item = &Written> {
        self.artifacts.iter().filter_map(|artifact| artifact.written.first())
    }
}

/// How the files of an export are made: the recipe, and what runs graphs to calibrate them.
pub struct Writer<'a> {
    pub model: &'a Model,
    pub recipe: &'a Recipe,
    pub head: Option<&'a ZeroShotHead>,
    pub work: &'a Workspace,
    pub runner: &'a Runner<'a>,
    pub progress: &'a dyn Progress,
}

impl Writer<'_> {
    /// Writes every graph in every precision, and what proves them where `proof` is asked for.
    ///
    /// # Errors
    /// What reading a weight, calibrating or writing a file reports.
    pub fn write(&self, graphs: Vec<NamedGraph>, proof: Option<ProofNeeds>) -> Result<Files, Error> {
        let mut files = Files::default();
        for graph in graphs {
            let mut quantizer = self.quantizer(graph);
            for &precision in &self.recipe.precisions {
                let rewritten = quantizer.parts(precision, self.progress)?;
                let parts = &rewritten.graph;
                let name = format!("{}{}.onnx", parts.name, precision.suffix());
                let written = self.work.write_model(parts, &name, self.recipe.external, self.progress)?;
                self.warn_about(&rewritten, &name);
                files.precisions.push(PrecisionReport::new(precision, &rewritten, &written));
                files.artifacts.push(Artifact { graph: parts.name.clone(), precision, written });
            }
            files.calibrated = quantizer.calibrated();
            if proof.is_some_and(|proof| proof.compares_with_float32) {
                files.baselines.push(self.baseline(quantizer.into_float32())?);
            }
        }
        let Some(proof) = proof else { return Ok(files) };
        if self.recipe.build.ports.pixels != PixelFormat::Float {
            let NamedGraph { graph, metadata } = fed_floats(self.model, self.recipe)?;
            let mut parts = graph.into_parts();
            parts.metadata.extend(metadata);
            files.fed_floats = Some(self.work.scratch(&parts, "vision_model.onnx")?);
        }
        if proof.has_tract {
            files.tract_variants = self.tract_variants()?;
        }
        Ok(files)
    }

    fn quantizer(&self, NamedGraph { graph, metadata }: NamedGraph) -> Quantizer<'_> {
        let mut parts = graph.into_parts();
        parts.metadata.extend(metadata);
        Quantizer::new(parts, self.recipe, self.work, self.runner)
    }

    fn baseline(&self, mut parts: Parts) -> Result<Scratch, Error> {
        parts.metadata.insert("precision".to_owned(), Precision::Fp32.name().to_owned());
        self.work.scratch(&parts, &format!("{}.onnx", parts.name))
    }

    fn tract_variants(&self) -> Result<Vec<Scratch>, Error> {
        let mut out = Vec::new();
        for variant in tract_variants(self.model, self.recipe, self.head)? {
            let parts = self.quantizer(variant.graph).parts(variant.precision, self.progress)?.graph;
            out.push(self.work.scratch(&parts, &format!("{}{}.onnx", parts.name, variant.precision.suffix()))?);
        }
        Ok(out)
    }

    /// What the user should know of a file.
    fn warn_about(&self, rewritten: &Rewritten, name: &str) {
        for (weight, count) in rewritten.clamped() {
            self.progress
                .warn(&format!("{name}: {count} numbers of `{weight}` are beyond float16 and became its largest"));
        }
        for pattern in &self.recipe.quantize.exclude {
            let found = rewritten.layers.iter().any(|layer| layer.name.contains(pattern.as_str()));
            if !rewritten.layers.is_empty() && !found {
                self.progress.warn(&format!(
                    "{name}: no layer's name contains `{pattern}`, which was to be excluded; report.json lists the names"
                ));
            }
        }
    }
}

/// What a proof needs besides the files.
#[derive(Clone, Copy)]
pub struct ProofNeeds {
    /// Other precisions are compared with float32, which is not among the files.
    pub compares_with_float32: bool,
    /// tract is one of the engines.
    pub has_tract: bool,
}

impl ProofNeeds {
    /// None where nothing is to be proved.
    pub fn new(request: &Export, engines: &[Arc<dyn Engine>]) -> Option<ProofNeeds> {
        let precisions = &request.precision.precisions;
        request.proof.verify.then(|| ProofNeeds {
            compares_with_float32: request.proof.reference.is_none() && !precisions.contains(&Precision::Fp32),
            has_tract: engines.iter().any(|engine| is_tract(&**engine)),
        })
    }
}
