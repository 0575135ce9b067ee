//! `report.json`: what was run, what came out, and whether it passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::inside::InsideReport;
use super::ranking::Ranking;
use super::{Agreement, BATCH, DROP, EMBEDDING, LOGITS, Reference, SCALE, UNIT_NORM};
use crate::engine::{Array, Engine, Tower};
use crate::modality::Modality;
use crate::precision::Precision;

/// What a verification came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// Every tower was compared, and nothing is beyond its bound.
    #[serde(rename = "passed")]
    Passed,
    /// Nothing that was checked failed, and there was nothing to compare embeddings with.
    #[serde(rename = "not compared")]
    NotCompared,
    /// Something that was checked is beyond its bound.
    #[serde(rename = "failed")]
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "passed",
            Verdict::NotCompared => "not compared",
            Verdict::Failed => "FAILED",
        })
    }
}

/// The outcome of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The outcome in one word.
    pub verdict: Verdict,
    /// Whether the verdict is [`Verdict::Passed`].
    pub passed: bool,
    /// Whether there was a reference to compare with.
    pub compared: bool,
    /// One sentence saying what the outcome rests on.
    pub summary: String,
    /// Names of the engines that ran files, separated by commas.
    pub engine: String,
    /// The reference file; null where there was none.
    pub reference: Option<ReferenceReport>,
    /// Results for each tower, file and engine.
    pub towers: Vec<TowerReport>,
    /// What files make of embeddings inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<InsideReport>,
    /// Logits against the reference's; null where they could not be compared.
    pub logits: Option<LogitsReport>,
    /// Which text is closest to each image, by precision and engine.
    pub rankings: Vec<Ranking>,
    /// Bounds that the verdict rests on.
    pub tolerances: Vec<ToleranceReport>,
    /// What else there is to know of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Everything that did not pass, one line each.
    pub failures: Vec<String>,
    /// Seconds per phase. These, and the seconds of every load and batch, are all that differs between runs.
    pub seconds: BTreeMap<String, f64>,
}

/// The file of reference embeddings.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceReport {
    /// Name of the file.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// A [`Tolerance`](super::Tolerance), as reports show it.
#[derive(Clone, Debug, Serialize)]
pub struct ToleranceReport {
    /// Name of the figure.
    pub name: &'static str,
    /// Largest accepted value.
    pub bound: f64,
}

/// Results for one tower of one file with one engine.
#[derive(Clone, Debug, Serialize)]
pub struct TowerReport {
    /// Name of the file.
    pub file: String,
    /// Name of the engine.
    pub engine: String,
    /// Whether the tower embeds images or texts.
    #[serde(rename = "tower")]
    pub modality: Modality,
    /// What lines call it: the file, and of one with both towers the modality.
    #[serde(skip)]
    pub label: String,
    /// Name of the file's precision.
    pub precision: &'static str,
    /// Name of the embedding's output.
    pub output: String,
    /// Whether the graph L2-normalizes embeddings.
    pub normalized: bool,
    /// How far cosines may be below 1, where that decides: in other precisions than float32.
    pub allowed_drop: Option<f64>,
    /// How far rows may depend on the batch; null where they do, because activations are quantised with one scale for
    /// all rows.
    pub allowed_batch_error: Option<f64>,
    /// Batch size the file is frozen to; null when it is free.
    pub fixed_batch: Option<usize>,
    /// Seconds that loading the file took.
    pub load_seconds: f64,
    /// Results for each batch size.
    pub batches: Vec<BatchReport>,
}

/// Results for one batch size.
#[derive(Clone, Debug, Serialize)]
pub struct BatchReport {
    /// Batch size.
    pub batch: usize,
    /// Rows run.
    pub rows: usize,
    /// Seconds that all runs took.
    pub seconds: f64,
    /// Whether every element of every embedding is finite.
    pub finite: bool,
    /// Largest distance from 1 of an embedding's length, where the file normalises.
    pub unit_norm_error: Option<f64>,
    /// Relative error against the same rows in the first batch size.
    pub consistency: Option<f64>,
    /// Comparison with the reference; null where the reference does not have this tower.
    pub compared: Option<Compared>,
}

/// Comparison with the reference, or why there was none to be made.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Compared {
    /// The figures of the comparison.
    Agreement(Agreement),
    /// The shapes differ, so nothing was compared.
    Width {
        /// Length of the file's embeddings.
        found: usize,
        /// Length of the reference's embeddings.
        expected: usize,
    },
}

impl Compared {
    /// Compares two arrays of embeddings `[N, D]`.
    pub fn new(got: &Array, reference: &Array) -> Compared {
        if got.shape() == reference.shape() {
            return Compared::Agreement(Agreement::between(got, reference));
        }
        let [found, expected] = [got, reference].map(|array| array.shape().last().copied().unwrap_or(0));
        Compared::Width { found, expected }
    }
}

/// Logits computed from both towers' embeddings, against the reference's.
#[derive(Clone, Debug, Serialize)]
pub struct LogitsReport {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// `max_abs` over `logit_scale_exp`, which decides.
    pub over_scale: f64,
    /// exp(`logit_scale`), which similarities are multiplied by.
    pub logit_scale_exp: f64,
    /// Bias added to the logits; 0 where the model has none.
    pub logit_bias: f64,
    /// How far these are from the reference's, over its scale; none where it has none.
    pub scale_error: Option<f64>,
}

impl TowerReport {
    pub(super) fn new(
        tower: &Tower,
        engine: &dyn Engine,
        max_drop: Option<f64>,
        load_seconds: f64,
        batches: Vec<BatchReport>,
        normalized: bool,
    ) -> TowerReport {
        let signature = tower.signature();
        let (name, modality, precision) = (tower.name(), signature.modality(), signature.precision);
        TowerReport {
            file: name.to_owned(),
            engine: engine.name().to_owned(),
            precision: precision.name(),
            modality,
            label: if tower.is_alone() { name.to_owned() } else { format!("{name}, {modality}") },
            allowed_drop: (precision != Precision::Fp32).then(|| max_drop.unwrap_or(1.0 - precision.least_cosine())),
            allowed_batch_error: precision.batch_bound(),
            output: signature.embedding_name.clone(),
            normalized,
            fixed_batch: signature.fixed_batch,
            load_seconds,
            batches,
        }
    }

    /// What lines call a batch.
    fn at(&self, batch: &BatchReport) -> String {
        format!("{} at batch {} with {}", self.label, batch.batch, self.engine)
    }

    /// Lines about what is beyond its bound.
    fn failures(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for batch in &self.batches {
            let at = self.at(batch);
            if !batch.finite {
                lines.push(format!("{at}: output is not finite"));
            }
            lines.extend(batch.unit_norm_error.and_then(|error| UNIT_NORM.exceeded(error, &at)));
            if let (Some(error), Some(bound)) = (batch.consistency, self.allowed_batch_error) {
                lines.extend(BATCH.at(bound).exceeded(error, &at));
            }
            match (&batch.compared, self.allowed_drop) {
                (Some(Compared::Agreement(agreement)), Some(bound)) => {
                    lines.extend(DROP.at(bound).exceeded(1.0 - agreement.cosine, &at));
                }
                (Some(Compared::Agreement(agreement)), None) => {
                    lines.extend(EMBEDDING.exceeded(agreement.relative_error, &at));
                }
                (Some(Compared::Width { found, expected }), _) => {
                    lines.push(format!("{at}: embeddings have width {found}, the reference {expected}"));
                }
                (None, _) => {}
            }
        }
        lines
    }

    fn is_compared(&self) -> bool {
        self.batches.iter().all(|batch| batch.compared.is_some())
    }

    /// The note on a tower in another precision whose least cosine is below what is usual of a good file.
    fn below_usual(&self) -> Option<String> {
        const USUAL: f64 = 0.99;
        self.allowed_drop?;
        let cosines = self.batches.iter().filter_map(|batch| match &batch.compared {
            Some(Compared::Agreement(agreement)) => Some(agreement.cosine),
            _ => None,
        });
        let least = cosines.fold(f64::INFINITY, f64::min);
        (least < USUAL).then(|| {
            format!(
                "{} with {}: least cosine {least:.4}, below the usual {USUAL}; a bound of {:.2} on the drop, set when exporting, keeps layers in higher precision until it holds",
                self.label,
                self.engine,
                1.0 - USUAL
            )
        })
    }
}

impl LogitsReport {
    fn failures(&self) -> impl Iterator<Item = String> {
        let scale = self.scale_error.and_then(|error| SCALE.exceeded(error, "logits"));
        LOGITS.exceeded(self.over_scale, "logits").into_iter().chain(scale)
    }
}

/// Everything a report is made of.
pub(super) struct Outcomes {
    pub towers: Vec<TowerReport>,
    pub inside: Vec<InsideReport>,
    pub logits: Option<LogitsReport>,
    pub rankings: Vec<Ranking>,
    /// A line for each file that no engine ran, which is no pass.
    pub not_run: Vec<String>,
    pub notes: Vec<String>,
}

impl Outcomes {
    /// A line for everything that did not pass.
    fn failures(&self) -> Vec<String> {
        let mut lines = self.not_run.clone();
        lines.extend(self.towers.iter().flat_map(TowerReport::failures));
        lines.extend(self.inside.iter().filter_map(InsideReport::failure));
        lines.extend(self.logits.iter().flat_map(LogitsReport::failures));
        lines
    }

    /// Towers that there was nothing to compare with.
    fn not_compared(&self) -> BTreeSet<&str> {
        let towers = self.towers.iter().filter(|tower| !tower.is_compared());
        towers.map(|tower| tower.label.as_str()).collect()
    }

    /// Names of the engines, in the order in which they were used.
    fn engines(&self) -> Vec<&str> {
        let mut engines: Vec<&str> = self.towers.iter().map(|tower| tower.engine.as_str()).collect();
        engines.dedup();
        engines
    }

    fn seconds(&self) -> BTreeMap<String, f64> {
        let mut seconds = BTreeMap::new();
        for tower in &self.towers {
            seconds.insert(format!("load {} with {}", tower.label, tower.engine), tower.load_seconds);
            for batch in &tower.batches {
                seconds.insert(format!("run {}", tower.at(batch)), batch.seconds);
            }
        }
        seconds
    }

    /// One sentence saying what the verdict rests on. `only_not_run` says that nothing else failed.
    fn summary(&self, reference: Option<&Reference>, verdict: Verdict, only_not_run: bool) -> String {
        let batches = || self.towers.iter().flat_map(|tower| &tower.batches);
        let sizes: BTreeSet<usize> = batches().map(|batch| batch.batch).collect();
        let sizes = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let independent = self.independent();
        match (reference, verdict) {
            (Some(reference), Verdict::Passed) => {
                let engines = self.engines().join(" and ");
                format!("agrees with {} at batch {sizes}, run with {engines}", reference.file_name)
            }
            (Some(reference), Verdict::NotCompared) => {
                let file = &reference.file_name;
                format!("not every file takes what {file} holds; what does agrees at batch {sizes}")
            }
            (_, Verdict::Failed) if only_not_run => "not every file was run".to_owned(),
            (Some(reference), Verdict::Failed) => format!("does NOT agree with {}", reference.file_name),
            (None, Verdict::Failed) => "a figure is beyond its bound, see above".to_owned(),
            (None, _) if batches().any(|batch| batch.compared.is_some()) => format!(
                "no reference was given. The files agree with the float32 towers at batch {sizes}; outputs are finite and of unit norm where normalised{independent}"
            ),
            (None, _) => format!(
                "no reference was given. At batch {sizes} outputs are finite and of unit norm where normalised{independent}. To compare embeddings, give a reference, which scripts/make_reference.py writes"
            ),
        }
    }

    /// What the summary says of rows in batches.
    fn independent(&self) -> &'static str {
        let bounded = || self.towers.iter().filter(|tower| tower.allowed_batch_error.is_some());
        let was_measured = bounded().flat_map(|tower| &tower.batches).any(|batch| batch.consistency.is_some());
        match (was_measured, bounded().count() == self.towers.len()) {
            (true, true) => "; rows independent of the batch",
            (true, false) => "; rows independent of the batch, but for int8",
            (false, _) => "",
        }
    }
}

impl Report {
    pub(super) fn new(reference: Option<&Reference>, outcomes: Outcomes) -> Report {
        let failures = outcomes.failures();
        let not_compared = outcomes.not_compared();
        let is_compared = reference.is_some() && not_compared.is_empty() && !outcomes.towers.is_empty();
        let verdict = match (failures.is_empty(), is_compared) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Passed,
            (true, false) => Verdict::NotCompared,
        };
        let mut notes = outcomes.notes.clone();
        notes.extend(outcomes.towers.iter().filter_map(TowerReport::below_usual));
        if reference.is_some() && !not_compared.is_empty() {
            notes.push(format!("compared with nothing: {}", Vec::from_iter(not_compared).join(", ")));
        }
        Report {
            verdict,
            passed: verdict == Verdict::Passed,
            compared: reference.is_some(),
            summary: outcomes.summary(reference, verdict, failures.len() == outcomes.not_run.len()),
            engine: outcomes.engines().join(", "),
            reference: reference.map(|r| ReferenceReport { file: r.file_name.clone(), sha256: r.sha256.clone() }),
            seconds: outcomes.seconds(),
            tolerances: [EMBEDDING, LOGITS, SCALE, UNIT_NORM, BATCH]
                .map(|t| ToleranceReport { name: t.name, bound: t.bound })
                .to_vec(),
            notes,
            failures,
            towers: outcomes.towers,
            inside: outcomes.inside,
            logits: outcomes.logits,
            rankings: outcomes.rankings,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A heading for each file and engine: tables fit 80 columns.
        for tower in &self.towers {
            writeln!(f, "{} with {}", tower.label, tower.engine)?;
            let heads = ["batch", "rows", "relative", "max abs", "mean abs"];
            let [batch, rows, relative, largest, mean] = heads;
            writeln!(f, "  {batch:>5} {rows:>5} {relative:>10} {largest:>10} {mean:>10} {:>12}", "cosine")?;
            for batch in &tower.batches {
                write!(f, "  {:>5} {:>5} ", batch.batch, batch.rows)?;
                match &batch.compared {
                    Some(Compared::Agreement(a)) => writeln!(
                        f,
                        "{:>10.2e} {:>10.2e} {:>10.2e} {:>12.9}",
                        a.relative_error, a.max_abs, a.mean_abs, a.cosine
                    )?,
                    Some(Compared::Width { found, expected }) => {
                        writeln!(f, "width {found}, reference has {expected}")?;
                    }
                    None => writeln!(f, "not compared")?,
                }
            }
        }
        if let Some(logits) = &self.logits {
            writeln!(f, "logits\n  {:>11} {:>10.2e} {:>10.2e}", "", logits.over_scale, logits.max_abs)?;
        }
        for InsideReport { file, engine, output, shape, error, against, .. } in &self.inside {
            let rows = shape.first().copied().unwrap_or(0);
            writeln!(f, "{output} of {file} with {engine}, against {against}\n  {:>5} {rows:>5} {error:>10.2e}", "")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for failure in &self.failures {
            writeln!(f, "failed: {failure}")?;
        }
        write!(f, "{}: {}", self.verdict, self.summary)
    }
}
