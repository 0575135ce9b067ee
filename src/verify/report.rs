//! `report.json`: what was run, what came out, and whether it passed.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::inside::InsideReport;
use super::ranking::Ranking;
use super::tower::{Array, Kind, Tower};
use super::{Agreement, BATCH, DROP, EMBEDDING, Engine, LOGITS, Reference, SCALE, UNIT_NORM};
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
    pub verdict: Verdict,
    /// Whether the verdict is [`Verdict::Passed`].
    pub passed: bool,
    /// Whether there was a reference to compare with.
    pub compared: bool,
    /// One sentence saying what the outcome rests on.
    pub summary: String,
    pub engine: String,
    pub reference: Option<ReferenceReport>,
    pub towers: Vec<TowerReport>,
    /// What files make of embeddings inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<InsideReport>,
    pub logits: Option<LogitsReport>,
    /// Which text is closest to each image, by precision and engine.
    pub rankings: Vec<Ranking>,
    pub tolerances: Vec<ToleranceReport>,
    /// What else there is to know of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Everything that did not pass, one line each.
    pub failures: Vec<String>,
    /// Seconds per phase; the only part that differs between runs.
    pub seconds: std::collections::BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReferenceReport {
    pub file: String,
    pub sha256: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct ToleranceReport {
    pub name: &'static str,
    pub bound: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct TowerReport {
    pub file: String,
    pub engine: String,
    pub tower: &'static str,
    /// What lines call it: the file, and of one with both towers which it is.
    #[serde(skip)]
    pub label: String,
    pub precision: &'static str,
    pub output: String,
    pub normalized: bool,
    /// How far cosines may be below 1, where that decides: in other precisions than float32.
    pub allowed_drop: Option<f64>,
    /// How far rows may depend on the batch; null where they do, because its input is put on one grid.
    pub allowed_batch_error: Option<f64>,
    /// Batch size the file is frozen to; null when it is free.
    pub fixed_batch: Option<usize>,
    pub load_seconds: f64,
    pub batches: Vec<BatchReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct BatchReport {
    pub batch: usize,
    /// Rows run.
    pub rows: usize,
    pub seconds: f64,
    pub finite: bool,
    /// Largest distance from 1 of an embedding's length, where the file normalises.
    pub unit_norm_error: Option<f64>,
    /// Relative error against the same rows in the first batch size.
    pub consistency: Option<f64>,
    pub compared: Option<Compared>,
}

/// Comparison with the reference, or why there was none to be made.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Compared {
    Agreement(Agreement),
    Width { found: usize, expected: usize },
}

impl Compared {
    pub fn new(got: &Array, reference: &Array) -> Compared {
        if got.shape == reference.shape {
            return Compared::Agreement(Agreement::between(got, reference));
        }
        Compared::Width { found: got.shape[1], expected: reference.shape[1] }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct LogitsReport {
    pub max_abs: f64,
    /// `max_abs` over `logit_scale_exp`, which decides.
    pub over_scale: f64,
    pub logit_scale_exp: f64,
    pub logit_bias: f64,
    /// How far these are from the reference's, over its scale; none where it has none.
    pub scale_error: Option<f64>,
}

impl LogitsReport {
    pub fn new(max_abs: f64, scale: f64, bias: f64) -> LogitsReport {
        LogitsReport {
            max_abs,
            over_scale: max_abs / scale,
            logit_scale_exp: scale,
            logit_bias: bias,
            scale_error: None,
        }
    }
}

impl TowerReport {
    pub(super) fn new(
        tower: &Tower,
        engine: &Engine,
        max_drop: Option<f64>,
        normalized: bool,
        load_seconds: f64,
        batches: Vec<BatchReport>,
    ) -> TowerReport {
        let name = if tower.kind == Kind::Text { "text" } else { "image" };
        TowerReport {
            file: tower.name.clone(),
            engine: engine.name().to_owned(),
            precision: tower.precision.name(),
            tower: name,
            label: if tower.is_alone() { tower.name.clone() } else { format!("{}, {name}", tower.name) },
            allowed_drop: (tower.precision != Precision::Fp32)
                .then(|| max_drop.unwrap_or(1.0 - tower.precision.least_cosine())),
            allowed_batch_error: tower.precision.batch_bound(),
            output: tower.output_name.clone(),
            normalized,
            fixed_batch: tower.fixed_batch,
            load_seconds,
            batches,
        }
    }
}

/// `value <= bound`, and a line of the report where it is not. A NaN is not.
pub(super) fn within(failures: &mut Vec<String>, value: f64, tolerance: super::Tolerance, at: &str) {
    // Asked this way round, what is not a number fails.
    let good = value <= tolerance.bound;
    if !good {
        // 1 - 0.999 is not quite 0.001.
        let bound = (tolerance.bound * 1e12).round() / 1e12;
        failures.push(format!("{at}: {} {value:.2e}, allowed {bound:e}", tolerance.name));
    }
}

/// The note on a tower in another precision whose least cosine is below what is usual.
fn below_usual(tower: &TowerReport) -> Option<String> {
    const USUAL: f64 = 0.99;
    tower.allowed_drop?;
    let cosines = tower.batches.iter().filter_map(|batch| match &batch.compared {
        Some(Compared::Agreement(agreement)) => Some(agreement.cosine),
        _ => None,
    });
    let least = cosines.fold(f64::INFINITY, f64::min);
    (least < USUAL).then(|| {
        format!(
            "{} with {}: least cosine {least:.4}, below the usual {USUAL}; --max-drop {:.2} keeps layers in higher precision until it holds",
            tower.label,
            tower.engine,
            1.0 - USUAL
        )
    })
}

impl Report {
    /// `missed` are files that nothing ran, which is no pass.
    pub(super) fn new(
        reference: Option<&Reference>,
        (towers, inside): (Vec<TowerReport>, Vec<InsideReport>),
        logits: Option<LogitsReport>,
        rankings: Vec<Ranking>,
        missed: Vec<String>,
    ) -> Report {
        let (mut failures, missed) = (missed.clone(), missed.len());
        let mut seconds = std::collections::BTreeMap::new();
        for tower in &towers {
            seconds.insert(format!("load {} with {}", tower.label, tower.engine), tower.load_seconds);
            for batch in &tower.batches {
                let at = format!("{} at batch {} with {}", tower.label, batch.batch, tower.engine);
                seconds.insert(format!("run {at}"), batch.seconds);
                if !batch.finite {
                    failures.push(format!("{at}: output is not finite"));
                }
                if let Some(error) = batch.unit_norm_error {
                    within(&mut failures, error, UNIT_NORM, &at);
                }
                if let (Some(error), Some(bound)) = (batch.consistency, tower.allowed_batch_error) {
                    within(&mut failures, error, super::Tolerance { bound, ..BATCH }, &at);
                }
                match (&batch.compared, tower.allowed_drop) {
                    (Some(Compared::Agreement(agreement)), Some(bound)) => {
                        within(&mut failures, 1.0 - agreement.cosine, super::Tolerance { bound, ..DROP }, &at);
                    }
                    (Some(Compared::Agreement(agreement)), None) => {
                        within(&mut failures, agreement.relative_error, EMBEDDING, &at);
                    }
                    (Some(Compared::Width { found, expected }), _) => {
                        failures.push(format!("{at}: embeddings have width {found}, the reference {expected}"));
                    }
                    (None, _) => {}
                }
            }
        }
        inside.iter().for_each(|report| report.failure(&mut failures));
        if let Some(logits) = &logits {
            within(&mut failures, logits.over_scale, LOGITS, "logits");
            if let Some(error) = logits.scale_error {
                within(&mut failures, error, SCALE, "logits");
            }
        }
        let only_missed = failures.len() == missed;
        // Of int8 and int4 the usual measure of a good file is 0.99.
        let mut notes: Vec<String> = towers.iter().filter_map(below_usual).collect();
        let of_nothing: BTreeSet<&str> = towers
            .iter()
            .filter(|t| t.batches.iter().any(|b| b.compared.is_none()))
            .map(|t| t.label.as_str())
            .collect();
        let verdict = match (failures.is_empty(), reference.is_some() && of_nothing.is_empty() && !towers.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Passed,
            (true, false) => Verdict::NotCompared,
        };
        if reference.is_some() && !of_nothing.is_empty() {
            let names: Vec<&str> = of_nothing.iter().copied().collect();
            notes.push(format!("compared with nothing: {}", names.join(", ")));
        }
        let passed = verdict != Verdict::Failed;
        let mut engines: Vec<&str> = towers.iter().map(|tower| tower.engine.as_str()).collect();
        engines.dedup();
        let run: std::collections::BTreeSet<usize> = towers.iter().flat_map(|t| &t.batches).map(|b| b.batch).collect();
        let batches: Vec<String> = run.iter().map(usize::to_string).collect();
        let batches = batches.join(", ");
        let held = towers.iter().filter(|t| t.allowed_batch_error.is_some());
        let consistent = held.flat_map(|t| &t.batches).any(|b| b.consistency.is_some());
        let all_held = towers.iter().all(|t| t.allowed_batch_error.is_some());
        let independent = match (consistent, all_held) {
            (true, true) => "; rows independent of the batch",
            (true, false) => "; rows independent of the batch, but for int8",
            (false, _) => "",
        };
        let summary = match (reference, passed) {
            (Some(r), true) if verdict == Verdict::Passed => {
                format!("agrees with {} at batch {batches}, run with {}", r.file_name, engines.join(" and "))
            }
            (Some(r), true) => {
                format!("not every file takes what {} holds; what does agrees at batch {batches}", r.file_name)
            }
            (_, false) if only_missed => "not every file was run".to_owned(),
            (Some(r), false) => format!("does NOT agree with {}", r.file_name),
            (None, true) if towers.iter().flat_map(|t| &t.batches).any(|b| b.compared.is_some()) => format!(
                "no reference was given. The files agree with the same towers in float32, fed floats, at batch {batches}; outputs are finite and of unit norm where normalised{independent}"
            ),
            (None, true) => format!(
                "no reference was given. At batch {batches} outputs are finite and of unit norm where normalised{independent}. --reference FILE compares embeddings; scripts/make_reference.py writes one"
            ),
            (None, false) => "outputs are not what they have to be, whatever the reference: see above".to_owned(),
        };
        Report {
            verdict,
            passed: verdict == Verdict::Passed,
            compared: reference.is_some(),
            rankings,
            summary,
            engine: engines.join(", "),
            reference: reference.map(|r| ReferenceReport { file: r.file_name.clone(), sha256: r.sha256.clone() }),
            towers,
            inside,
            logits,
            tolerances: [EMBEDDING, LOGITS, SCALE, UNIT_NORM, BATCH]
                .map(|t| ToleranceReport { name: t.name, bound: t.bound })
                .to_vec(),
            notes,
            failures,
            seconds,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:<20} {:>5} {:>5} {:>10} {:>10} {:>10} {:>12}",
            "tower", "engine", "batch", "rows", "relative", "max abs", "mean abs", "cosine"
        )?;
        for tower in &self.towers {
            for batch in &tower.batches {
                write!(f, "{:<24} {:<20} {:>5} {:>5} ", tower.label, tower.engine, batch.batch, batch.rows)?;
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
            writeln!(f, "{:<57} {:>10.2e} {:>10.2e}", "logits", logits.over_scale, logits.max_abs)?;
        }
        for InsideReport { file, engine, output, shape, error, beside, .. } in &self.inside {
            let (rows, against) = (shape.first().copied().unwrap_or(0), format!("{output}, against {beside}"));
            writeln!(f, "{file:<24} {engine:<20} {:>5} {rows:>5} {error:>10.2e} {against}", "")?;
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
