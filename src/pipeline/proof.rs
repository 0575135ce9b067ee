//! What was written is run, compared and timed, and the reports of that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::artifacts::Files;
use super::quantize::PrecisionReport;
use super::report_html::{Page, page};
use super::request::ProofOptions;
use super::resolve::Recipe;
use super::run::Run;
use super::select::Selected;
use super::workspace::{Scratch, Workspace};
use super::zero_shot::ZeroShotHead;
use super::{Error, Progress};
use crate::bench;
use crate::engine::{self, Engine};
use crate::files::file_name;
use crate::layout::manifest::Rule;
use crate::output::{PAGE, REPORT, pretty};
use crate::providers::{self, Coverage, Provider};
use crate::verify::{Report, Verify};

/// What a report says where tract ran other graphs.
const TRACT_VARIANT: &str = "tract can run neither texts that are cut at the batch's last end token nor int4 products beside Attention: it ran the same towers for the target `portable`, without the cut; the files themselves are for ONNX Runtime to run";

/// `report.json`.
#[derive(Serialize)]
struct WholeReport<'a> {
    run: &'a Run,
    /// How inputs are made, and where that is from.
    inputs: BTreeMap<&'static str, &'a Rule>,
    #[serde(flatten)]
    verification: &'a Report,
    precisions: &'a [PrecisionReport],
    /// What execution providers would take, by file, where the target is for some.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    providers: BTreeMap<String, Vec<&'a Coverage>>,
    /// Where it was asked for.
    #[serde(skip_serializing_if = "<[bench::Measured]>::is_empty")]
    timed: &'a [bench::Measured],
}

/// What the providers that the target is for would take of each model file.
///
/// # Errors
/// A file that cannot be read again.
pub fn coverage(recipe: &Recipe, files: &Files) -> Result<Vec<(PathBuf, Coverage)>, Error> {
    let mut out = Vec::new();
    for file in files.models() {
        let wanted = Provider::of_target(recipe.build.target.profile);
        let found = providers::check(&file.path, wanted).map_err(engine::Error::from)?;
        out.extend(found.into_iter().map(|found| (PathBuf::from(file_name(&file.path)), found)));
    }
    Ok(out)
}

/// What there is to prove.
pub struct Proof<'a> {
    pub recipe: &'a Recipe,
    pub selected: &'a Selected,
    pub head: Option<ZeroShotHead>,
    pub files: &'a Files,
    pub coverage: &'a [(PathBuf, Coverage)],
}

impl Proof<'_> {
    /// Runs every file, and writes `report.json` and `report.html`; nothing where no proof is asked for.
    ///
    /// # Errors
    /// A file that cannot be loaded or run. One that gives other numbers is no error, but a report that has not passed.
    pub fn run(
        self,
        options: &ProofOptions,
        engines: Vec<Arc<dyn Engine>>,
        run: &Run,
        work: &Workspace,
        progress: &dyn Progress,
    ) -> Result<Option<Report>, Error> {
        if !options.verify {
            return Ok(None);
        }
        let report = self.verification(options, &engines, work).run(&|what| progress.start(what, None))?;
        let timed = if options.bench { timed(self.files, &engines, progress) } else { vec![] };
        let (precisions, inputs) = (&self.files.precisions, self.selected.inputs());
        let whole = WholeReport {
            run,
            inputs: inputs.iter().map(|(name, rule)| (*name, rule)).collect(),
            verification: &report,
            precisions,
            providers: by_file(self.coverage),
            timed: &timed,
        };
        work.write(PathBuf::from(REPORT), pretty(&whole).as_bytes())?;
        let model = &self.selected.config.model;
        let shown = Page { model, inputs: &inputs, run, report: &report, precisions, timed: &timed };
        work.write(PathBuf::from(PAGE), page(&shown).as_bytes())?;
        Ok(Some(report))
    }

    /// What is run, and what it is compared with.
    fn verification(&self, options: &ProofOptions, engines: &[Arc<dyn Engine>], work: &Workspace) -> Verify {
        let Files { tract_variants, baselines, fed_floats, .. } = self.files;
        let variant = |variant: &Scratch| (work.path().join(file_name(&variant.path)), variant.path.clone());
        let mut out = Verify::new(self.files.models().map(|file| file.path.clone()))
            .engines(engines.iter().cloned())
            .batches(options.batch_sizes().iter().copied())
            .tract_variants(tract_variants.iter().map(variant).collect())
            .labels(self.head.as_ref().map(ZeroShotHead::array))
            .baselines(baselines.iter().map(|baseline| baseline.path.clone()).collect())
            .fed_floats(fed_floats.as_ref().map(|file| file.path.clone()))
            .notes(tract_variants.iter().take(1).map(|_| TRACT_VARIANT.to_owned()).collect())
            .shown_in(work.target().to_owned());
        if let Some(reference) = &options.reference {
            out = out.reference(reference);
        }
        self.recipe.max_drop.map_or(out.clone(), |drop| out.max_drop(drop))
    }
}

/// By file name.
fn by_file(coverage: &[(PathBuf, Coverage)]) -> BTreeMap<String, Vec<&Coverage>> {
    let mut out: BTreeMap<String, Vec<&Coverage>> = BTreeMap::new();
    coverage.iter().for_each(|(file, found)| out.entry(file_name(file)).or_default().push(found));
    out
}

/// One item at a time on one thread, every file with every engine that runs it.
fn timed(files: &Files, engines: &[Arc<dyn Engine>], progress: &dyn Progress) -> Vec<bench::Measured> {
    let mut out = Vec::new();
    let models = files.models().map(|file| &file.path);
    for (model, engine) in models.flat_map(|model| engines.iter().map(move |engine| (model, engine))) {
        progress.start(&format!("timing {} with {}", file_name(model), engine.name()), None);
        let request = bench::Request {
            model: model.clone(),
            engine: engine.clone(),
            threads: 1,
            batches: vec![1],
            rounds: 10,
            tokens: None,
        };
        // What an engine cannot run is in the verification.
        out.extend(bench::measure(&request).ok().map(|measured| bench::Measured {
            file: file_name(model),
            // That of this process, which has done other things.
            peak_memory: None,
            ..measured
        }));
    }
    out
}
