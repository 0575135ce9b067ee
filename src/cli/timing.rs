//! `clip-onnx bench`: a process for every file, engine and number of threads, and a table of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clip_onnx::bench::{Measured, Request, measure};
use clip_onnx::verify::{Engine, Engines};
use serde::Serialize;

use super::args::{BenchArgs, models};
use super::progress::Bars;

/// What was timed, and what could not be.
#[derive(Serialize)]
pub struct Timings {
    timed: Vec<Measured>,
    not_run: Vec<NotRun>,
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct NotRun {
    file: PathBuf,
    engine: String,
    threads: usize,
    reason: String,
}

/// Times everything asked for.
///
/// # Errors
/// When an engine is not there, or nothing runs a file.
pub fn bench(args: BenchArgs, bars: &Bars) -> anyhow::Result<Timings> {
    let (here, json, library) = (args.here, args.json, args.engines.ort_lib.clone());
    let models = models(args.models.clone())?;
    let engines = Engines::from(args.engines.clone()).open()?;
    let mut timings = Timings { timed: vec![], not_run: vec![], json };
    for model in &models {
        let mut reason = None;
        let before = timings.timed.len();
        for engine in &engines {
            let mut threads = if engine.is_tract() { vec![1] } else { args.threads.clone() };
            threads.dedup();
            for threads in threads {
                bars.say(&format!("timing {} with {}", model.display(), engine.name()));
                let timed = if here {
                    let alone = engines.iter().all(Engine::is_tract);
                    let timed = measure(&request(&args, model, engine, threads));
                    timed.map_err(|e| e.with_way_out(alone).to_string())
                } else {
                    apart(&args, model, engine, threads, library.as_deref())?
                };
                match timed {
                    Ok(measured) => timings.timed.push(measured),
                    Err(said) => {
                        reason.get_or_insert_with(|| said.clone());
                        let engine = engine.name().to_owned();
                        timings.not_run.push(NotRun { file: model.clone(), engine, threads, reason: said });
                    }
                }
            }
        }
        if let Some(reason) = reason.filter(|_| timings.timed.len() == before) {
            bail!(reason);
        }
    }
    Ok(timings)
}

fn request(args: &BenchArgs, model: &Path, engine: &Engine, threads: usize) -> Request {
    Request {
        model: model.to_owned(),
        engine: engine.clone(),
        threads,
        batches: args.batches.clone(),
        rounds: usize::from(args.rounds),
        tokens: args.tokens,
    }
}

/// The same in a process of its own, whose memory is that of this file alone; or what it said.
fn apart(
    args: &BenchArgs,
    model: &Path,
    engine: &Engine,
    threads: usize,
    library: Option<&Path>,
) -> anyhow::Result<Result<Measured, String>> {
    let listed = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let program = std::env::current_exe().context("where this program lies is not known")?;
    let mut command = Command::new(program);
    command.args(["bench", "--here", "--json", "--engine", engine.id(), "--threads", &threads.to_string()]);
    command.args(["--batches", &listed(&args.batches), "--rounds", &args.rounds.to_string()]);
    if let Some(tokens) = args.tokens {
        command.args(["--tokens", &tokens.to_string()]);
    }
    if let Some(library) = library {
        command.arg("--ort-lib").arg(library);
    }
    command.arg("--").arg(model).stdin(Stdio::null());
    let output = command.output().context("a process to time in could not be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().last().unwrap_or_default().trim_start_matches("clip-onnx: ").to_owned();
        return Ok(Err(if said.is_empty() { format!("{}: {}", model.display(), output.status) } else { said }));
    }
    let mut timings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(Ok(serde_json::from_value(timings["timed"][0].take())?))
}

impl Timings {
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", serde_json::to_string_pretty(self)?);
        }
        writeln!(
            out,
            "{:<20} {:<20} {:>7} {:>5} {:>10} {:>10} {:>10} {:>9} {:>9}",
            "tower", "engine", "threads", "batch", "median ms", "least ms", "ms/item", "load ms", "peak MB"
        )?;
        for tower in &self.timed {
            let peak = tower.peak_memory.map_or_else(|| "?".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
            for latency in &tower.latency {
                writeln!(
                    out,
                    "{:<20} {:<20} {:>7} {:>5} {:>10.2} {:>10.2} {:>10.2} {:>9.0} {peak:>9}",
                    tower.file,
                    tower.engine,
                    tower.threads,
                    latency.batch,
                    latency.median_ms,
                    latency.min_ms,
                    latency.per_item_ms,
                    tower.load_ms,
                )?;
            }
        }
        for not_run in &self.not_run {
            writeln!(out, "not run: {}", not_run.reason)?;
        }
        Ok(())
    }
}
