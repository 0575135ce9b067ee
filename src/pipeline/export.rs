//! `clip-onnx export`: checkpoint → folder of ONNX files, verified.

use std::path::PathBuf;
use std::sync::Arc;

use super::artifacts::{Files, ProofNeeds, Writer};
use super::manifest;
use super::model::Model;
use super::proof::{Proof, coverage};
use super::quantize::PrecisionReport;
use super::request::Export;
use super::resolve::Recipe;
use super::run::Run;
use super::runner::Runner;
use super::select::Selected;
use super::workspace::Workspace;
use super::zero_shot::ZeroShotHead;
use super::{Error, Progress, Silent, companions, graphs};
use crate::engine::Engine;
use crate::files::file_name;
use crate::onnx::write::Written;
use crate::providers::Coverage;
use crate::verify::{Reference, Report};

/// What came of an export.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The model, and what it was detected from.
    pub selected: Selected,
    /// Whether embeddings are normalised inside.
    pub normalized: bool,
    /// Models and their weights.
    pub files: Vec<Written>,
    /// What the providers that the target is for would take of each model.
    pub coverage: Vec<(PathBuf, Coverage)>,
    /// What each precision came to.
    pub precisions: Vec<PrecisionReport>,
    /// None where no verification was asked for.
    pub report: Option<Report>,
}

/// Exports a checkpoint. The folder is there in the end, whole, or it is not; a verification that fails leaves it, with
/// `passed: false` in its report.
///
/// # Errors
/// See [`Error`]; nothing is left behind then.
pub fn export(request: &Export, progress: &dyn Progress) -> Result<Exported, Error> {
    request.check()?;
    let work = Workspace::create(&request.output, &request.source.checkpoint)?;
    work.leftovers().iter().for_each(|leftover| progress.warn(&leftover.to_string()));
    let engines = request.ready_to_run()?;
    let model = Model::load(&request.source, work.path(), progress)?;
    let recipe = request.resolve(&model.selected.config)?;
    warn(&recipe, &model, progress);

    let companions = companions::write(request, &recipe, &model, &work, progress)?;
    work.start_digest(&model.checkpoint)?;
    let head = ZeroShotHead::of(&recipe, &model, &work, &engines, progress)?;
    let graphs = graphs::build(&model, &recipe, head.as_ref())?;
    let runner = Runner::new(request, &engines, &work)?;
    let writer = Writer { model: &model, recipe: &recipe, head: head.as_ref(), work: &work, runner: &runner, progress };
    let files = writer.write(graphs, ProofNeeds::new(request, &engines))?;
    let metadata = manifest::write(request, &recipe, &model, &files, &companions, &work)?;
    let coverage = coverage(&recipe, &files)?;

    // What was read is not needed to prove what was written: the mapped file is let go.
    let (checkpoint, selected) = model.into_selected()?;
    let proof = Proof { recipe: &recipe, selected: &selected, head, files: &files, coverage: &coverage };
    let report = proof.run(&request.proof, engines, &Run::new(checkpoint, &metadata), &work, progress)?;
    finish(work, &recipe, Outcome { selected, files, coverage, report })
}

/// All that is left to hand over.
struct Outcome {
    selected: Selected,
    files: Files,
    coverage: Vec<(PathBuf, Coverage)>,
    report: Option<Report>,
}

/// Puts every file where the layout has it, and the folder in its place.
fn finish(work: Workspace, recipe: &Recipe, outcome: Outcome) -> Result<Exported, Error> {
    let Outcome { selected, files, coverage, report } = outcome;
    let target = work.target().to_owned();
    let written: Vec<(String, PathBuf)> = files
        .written()
        .map(|file| file_name(&file.path))
        .map(|name| (name.clone(), recipe.layout.place(&name)))
        .collect();
    let Files { artifacts, precisions, baselines, fed_floats, tract_variants, .. } = files;
    // They are in the folder that is moved.
    drop((baselines, fed_floats, tract_variants));
    work.commit(written.iter().map(|(name, path)| (name.as_str(), path.as_path())))?;
    let files = artifacts.into_iter().flat_map(|artifact| artifact.written).zip(&written);
    Ok(Exported {
        selected,
        normalized: recipe.build.normalize,
        files: files.map(|(file, (_, path))| Written { path: target.join(path), ..file }).collect(),
        coverage: coverage.into_iter().map(|(file, found)| (recipe.layout.place(&file_name(&file)), found)).collect(),
        precisions,
        report,
    })
}

/// What the user should know before anything is written.
fn warn(recipe: &Recipe, model: &Model, progress: &dyn Progress) {
    model.warn_of_skipped(progress);
    if recipe.build.ports.pixels.resizes() && model.selected.config.preprocess_cfg.antialias {
        progress.warn(
            "pixels are averaged inside the graph (Resize with antialias): ONNX Runtime alone does that right; OpenVINO, MNN and OpenCV ignore it without a word",
        );
    }
}

impl Export {
    /// Exports, without progress shown.
    ///
    /// # Errors
    /// As [`export`].
    pub fn write(&self) -> Result<Exported, Error> {
        export(self, &Silent)
    }

    /// The engines, where anything is to be run, and files of inputs looked at: wrong ones should not cost an export.
    fn ready_to_run(&self) -> Result<Vec<Arc<dyn Engine>>, Error> {
        let engines = if self.runs() { self.proof.engines.open()? } else { vec![] };
        for file in self.proof.reference.iter().chain(&self.precision.calibrate) {
            // Read again when it is needed.
            Reference::read(file)?;
        }
        Ok(engines)
    }
}
