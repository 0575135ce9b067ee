//! All files of a verification, run with one engine after another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::inside::{self, InsideReport};
use super::ranking::Embedded;
use super::ranking::Ranking;
use super::report::{LogitsReport, TowerReport};
use super::tower::TowerRun;
use super::{Error, Reference, Verify, logits};
use crate::engine::{self, Array, Engine, Tower, is_tract};
use crate::modality::PerModality;
use crate::precision::Precision;

/// What reports call the image tower fed floats, which is not among the files.
const FED_FLOATS: &str = "image tower, fed floats";

/// What came of the engines so far.
#[derive(Default)]
pub struct Outcome {
    pub towers: Vec<TowerReport>,
    pub inside: Vec<InsideReport>,
    /// Those that are furthest off.
    pub logits: Option<LogitsReport>,
    pub rankings: Vec<Ranking>,
    /// Files that an engine could not run.
    pub not_run: Vec<(PathBuf, engine::Error)>,
    pub notes: Vec<String>,
}

impl Outcome {
    /// Runs all files with one engine.
    ///
    /// # Errors
    /// When a file cannot be read or fed. One that the engine cannot run goes to `not_run`.
    pub fn with_engine(
        &mut self,
        request: &Verify,
        engine: &dyn Engine,
        reference: Option<&Reference>,
        step: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let mut pass = Pass {
            request,
            engine,
            reference,
            step,
            baselines: PerModality::default(),
            embedded: BTreeMap::new(),
            logit_parameters: None,
            notes: BTreeSet::new(),
        };
        if let Some(path) = &request.fed_floats {
            match pass.fed_floats(path) {
                Ok(report) => self.towers.extend(report),
                // Without it towers fed bytes are compared with nothing, which the report says.
                Err(Error::Engine(engine::Error::Failed { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let baselines = request.baselines.iter().map(|path| (path, false));
        let reported = request.models.iter().map(|path| (path, true));
        for (path, is_reported) in baselines.chain(reported) {
            match pass.file(path, is_reported) {
                Ok((reports, inside)) if is_reported => {
                    self.towers.extend(reports);
                    self.inside.extend(inside);
                }
                Ok(_) => {}
                Err(Error::Engine(error @ engine::Error::Failed { .. })) => self.not_run.push((path.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        self.rankings.extend(pass.rankings());
        let found = pass.logits()?;
        if found.as_ref().is_some_and(|found| self.logits.as_ref().is_none_or(|l| found.over_scale > l.over_scale)) {
            self.logits = found;
        }
        self.notes.extend(pass.notes);
        Ok(())
    }
}

/// One engine's run through the files.
struct Pass<'a> {
    request: &'a Verify,
    engine: &'a dyn Engine,
    reference: Option<&'a Reference>,
    step: &'a dyn Fn(&str),
    /// Embeddings of the first float32 tower of each modality.
    baselines: PerModality<Option<Array>>,
    /// Embeddings of both towers of a precision, of the images and texts that belong together.
    embedded: BTreeMap<Precision, PerModality<Option<Embedded>>>,
    /// `exp(logit_scale)` and bias of the first file that carries them.
    logit_parameters: Option<(f64, f64)>,
    notes: BTreeSet<String>,
}

impl<'a> Pass<'a> {
    /// Loads a file, runs its towers, and checks what it computes from their embeddings.
    fn file(&mut self, path: &Path, is_reported: bool) -> Result<(Vec<TowerReport>, Option<InsideReport>), Error> {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        (self.step)(&format!("loading {name} with {}", self.engine.name()));
        let started = Instant::now();
        let (file, shown) = (self.request.file(path, self.engine), self.request.shown(path, &name));
        let mut towers = Tower::all(file, &shown, self.engine, None)?;
        let load_seconds = started.elapsed().as_secs_f64();
        let (mut reports, mut inputs) = (vec![], vec![]);
        for tower in &towers {
            let (report, fed) = self.tower(tower, is_reported, load_seconds)?;
            reports.push(report);
            inputs.push(fed);
        }
        let labels = self.request.labels.as_ref().map(|labels| &labels.0);
        let inside = if is_reported { inside::check(&mut towers, &inputs, labels, self.engine.name())? } else { None };
        Ok((reports, inside))
    }

    /// The image tower fed floats that towers fed bytes are compared with: run on made-up inputs for them, and compared
    /// with the reference itself. Without that a reference would say nothing of the towers fed bytes.
    fn fed_floats(&mut self, path: &Path) -> Result<Option<TowerReport>, Error> {
        let started = Instant::now();
        let mut towers = Tower::all(path, path, self.engine, None)?;
        let Some(tower) = towers.pop() else { return Ok(None) };
        let load_seconds = started.elapsed().as_secs_f64();
        self.run_tower(&tower, None, false, load_seconds)?;
        match self.reference.filter(|reference| reference.feeds(&tower)) {
            Some(reference) => {
                let (report, _) = self.run_tower(&tower, Some(reference), true, load_seconds)?;
                Ok(Some(TowerReport { file: FED_FLOATS.to_owned(), label: FED_FLOATS.to_owned(), ..report }))
            }
            None => Ok(None),
        }
    }

    /// Runs a tower on the reference, or on made-up inputs; gives what came of it, and what it was fed.
    fn tower(
        &mut self,
        tower: &Tower,
        is_reported: bool,
        load_seconds: f64,
    ) -> Result<(TowerReport, Vec<Array>), Error> {
        let precision = tower.signature().precision;
        if is_tract(self.engine) && matches!(precision, Precision::Fp16 | Precision::Int4Fp16) {
            self.notes.insert(format!("{}: float16 arithmetic is run as float32", self.engine.name()));
        }
        let reference = if is_reported { self.reference_for(tower) } else { None };
        self.run_tower(tower, reference, is_reported, load_seconds)
    }

    fn run_tower(
        &mut self,
        tower: &Tower,
        reference: Option<&'a Reference>,
        is_reported: bool,
        load_seconds: f64,
    ) -> Result<(TowerReport, Vec<Array>), Error> {
        let signature = tower.signature();
        let run = TowerRun {
            tower,
            engine: self.engine,
            reference,
            baseline: self.baselines.get(signature.modality()).as_ref(),
            batches: &self.request.batches,
            step: self.step,
        };
        let inputs = run.inputs()?;
        let found = run.run(&inputs)?;
        let report =
            TowerReport::new(tower, self.engine, self.request.max_drop, load_seconds, found.batches, found.normalized);
        self.keep(tower, found.embedded, is_reported, reference.is_some());
        Ok((report, inputs))
    }

    /// The reference, if the tower can be fed from it; with a note if not.
    fn reference_for(&mut self, tower: &Tower) -> Option<&'a Reference> {
        let reference = self.reference?;
        if reference.feeds(tower) {
            return Some(reference);
        }
        let signature = tower.signature();
        let has_baseline = self.baselines.get(signature.modality()).is_some() && !signature.always_resizes();
        self.notes.insert(format!(
            "{}: {} takes other pixels than the images of {}: {}",
            self.engine.name(),
            tower.name(),
            reference.path,
            if has_baseline {
                "compared with the same tower fed floats, which is compared with the reference"
            } else {
                "not compared"
            }
        ));
        None
    }

    /// Keeps embeddings to compare other towers with, and to rank.
    fn keep(&mut self, tower: &Tower, embedded: Option<Embedded>, is_reported: bool, from_reference: bool) {
        let signature = tower.signature();
        let (modality, precision) = (signature.modality(), signature.precision);
        if is_reported {
            self.logit_parameters = self.logit_parameters.or(signature.logits());
            // Images that were made up and texts of a reference do not belong together.
            if from_reference == self.reference.is_some() && embedded.is_some() {
                *self.embedded.entry(precision).or_default().get_mut(modality) = embedded.clone();
            }
        }
        let baseline = self.baselines.get_mut(modality);
        if precision == Precision::Fp32 && baseline.is_none() {
            *baseline = embedded.map(|embedded| embedded.found);
        }
    }

    /// Images and texts of each precision of which both towers were run.
    fn pairs(&self) -> impl Iterator<Item = (Precision, &Embedded, &Embedded)> {
        self.embedded.iter().filter_map(|(&precision, of)| Some((precision, of.image.as_ref()?, of.text.as_ref()?)))
    }

    fn rankings(&self) -> Vec<Ranking> {
        self.pairs()
            .filter_map(|(precision, images, texts)| Ranking::new(precision, self.engine.name(), images, texts))
            .collect()
    }

    /// Of the float32 towers, where there is a reference.
    fn logits(&self) -> Result<Option<LogitsReport>, Error> {
        let whole = self.pairs().find(|(precision, _, _)| *precision == Precision::Fp32);
        let (Some(reference), Some((_, images, texts))) = (self.reference, whole) else { return Ok(None) };
        logits::compare(reference, &images.found, &texts.found, self.logit_parameters)
    }
}
