//! `clip-onnx bench`: a process for every file, engine and number of threads, and a table of them.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use clip_onnx::bench::{Measured, Request, measure};
use clip_onnx::engine::{self, Engine, EngineKind, Engines, is_tract};
use serde::{Deserialize, Serialize};

use super::args::{BenchArgs, models};
use super::labels::distinct;
use super::memory::{self, Use};
use super::progress::Bars;

/// Said where tract alone was at hand and failed.
const WAY_OUT: &str = "ONNX Runtime may run what tract cannot: name its library with --ort-lib";

/// What was timed, and what could not be.
#[derive(Serialize, Deserialize)]
pub struct Timings {
    timed: Vec<Measured>,
    not_run: Vec<NotRun>,
    /// What the reader should know of the figures.
    notes: Vec<String>,
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct NotRun {
    file: PathBuf,
    engine: String,
    threads: usize,
    reason: String,
    /// Whether the engine failed, and another may not.
    engine_failed: bool,
}

/// Times everything asked for. What cannot be run is listed beside what can.
///
/// # Errors
/// When an engine is not there, or no process can be started.
pub fn bench(args: BenchArgs, max_memory: Option<u64>, bars: &Bars) -> anyhow::Result<Timings> {
    if args.here {
        end_with_the_parent();
        let files = args.models.iter().map(PathBuf::as_path).collect();
        memory::bound(max_memory, &Use { files, batch: args.batches.iter().copied().max().unwrap_or(1), items: 0 })?;
    }
    let library = args.engines.ort_lib.clone();
    let engines = Engines::from(args.engines.clone()).open()?;
    let mut timings = Timings { timed: vec![], not_run: vec![], notes: vec![], json: args.json };
    for model in &models(args.models.clone())? {
        for engine in &engines {
            let threads = if is_tract(&**engine) { vec![1] } else { distinct(args.threads.clone()) };
            for threads in threads {
                bars.say(&format!("timing {} with {}", model.display(), engine.name()));
                let request = request(&args, model, engine, threads);
                let timed = if args.here {
                    measure(&request).map_err(|error| {
                        let engine_failed = matches!(error, engine::Error::Failed { .. });
                        NotRun { engine_failed, ..NotRun::new(&request, error.to_string()) }
                    })
                } else {
                    in_child(&request, library.as_deref(), max_memory)?
                };
                match timed {
                    Ok(measured) => timings.took(&request, measured),
                    Err(not_run) => timings.not_run.push(not_run),
                }
            }
        }
    }
    let engine_failed = timings.not_run.iter().any(|not_run| not_run.engine_failed);
    if engine_failed && engines.iter().all(|engine| is_tract(&**engine)) && !args.here {
        timings.notes.push(WAY_OUT.to_owned());
    }
    Ok(timings)
}

fn request(args: &BenchArgs, model: &Path, engine: &Arc<dyn Engine>, threads: usize) -> Request {
    Request {
        model: model.to_owned(),
        engine: engine.clone(),
        threads,
        batches: distinct(args.batches.clone()),
        rounds: usize::from(args.rounds),
        tokens: args.text_length,
    }
}

/// A process that times has a pipe from the one that started it, which closes when that one ends, however
/// it does.
fn end_with_the_parent() {
    let watch = || {
        let mut nothing = [0];
        while io::stdin().read(&mut nothing).is_ok_and(|n| n > 0) {}
        std::process::exit(2);
    };
    // Without a thread to be had it ends when it has timed.
    let _ = std::thread::Builder::new().spawn(watch);
}

/// The same in a process of its own, whose memory is that of this file alone; or what it said.
fn in_child(
    request: &Request,
    library: Option<&Path>,
    max_memory: Option<u64>,
) -> anyhow::Result<Result<Measured, NotRun>> {
    let program = std::env::current_exe().context("where this program lies is not known")?;
    let batches = request.batches.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new(program);
    command.args([
        "--no-settings",
        "bench",
        "--here",
        "--json",
        "--engine",
        request.engine.kind().map_or("", EngineKind::name),
        "--batches",
        &batches,
    ]);
    command.args(["--threads", &request.threads.to_string(), "--rounds", &request.rounds.to_string()]);
    if let Some(tokens) = request.tokens {
        command.args(["--text-length", &tokens.to_string()]);
    }
    if let (Some(library), false) = (library, is_tract(&*request.engine)) {
        let mut argument = std::ffi::OsString::from("--ort-lib=");
        argument.push(library);
        command.arg(argument);
    }
    if let Some(bytes) = max_memory {
        command.args(["--max-memory", &bytes.to_string()]);
    }
    command.arg("--").arg(&request.model);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("a process to time in could not be started")?;
    // Held open until it has ended.
    let lifeline = child.stdin.take();
    let output = child.wait_with_output().context("a process that times was lost")?;
    drop(lifeline);
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("clip-onnx: ").replace('\n', " ");
    let Ok(mut timings) = serde_json::from_slice::<Timings>(&output.stdout) else {
        let ended = format!("{}: the process that timed it ended with {}", request.model.display(), output.status);
        return Ok(Err(NotRun::new(request, if said.is_empty() { ended } else { said })));
    };
    let not_run = timings.not_run.pop().unwrap_or_else(|| NotRun::new(request, said));
    Ok(timings.timed.pop().ok_or(not_run))
}

impl NotRun {
    fn new(request: &Request, reason: String) -> NotRun {
        let (file, engine) = (request.model.clone(), request.engine.name().to_owned());
        NotRun { file, engine, threads: request.threads, reason, engine_failed: false }
    }
}

impl Timings {
    fn took(&mut self, request: &Request, measured: Measured) {
        if let Some(batch) = measured.fixed_batch.filter(|&batch| request.batches != [batch]) {
            let note = format!("{} takes batches of {batch} and no others", measured.file);
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.timed.push(measured);
    }

    fn was_timed(&self, file: &Path) -> bool {
        self.timed.iter().any(|one| Path::new(&one.file) == file)
    }

    /// Why nothing could time some files, where there are such.
    pub fn failure(&self) -> Option<String> {
        let missed = self.not_run.iter().filter(|not_run| !self.was_timed(&not_run.file));
        let mut reasons = distinct(missed.map(|not_run| not_run.reason.clone()).collect());
        if reasons.is_empty() {
            return None;
        }
        reasons.extend(self.notes.iter().filter(|note| *note == WAY_OUT).cloned());
        Some(reasons.join("; "))
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{}", serde_json::to_string_pretty(self)?);
        }
        if self.timed.is_empty() {
            return Ok(());
        }
        let mut rows = vec![];
        for (at, tower) in self.timed.iter().enumerate() {
            // A heading for each file, not for each row: the table fits 80 columns.
            if !self.timed[..at].iter().any(|before| before.file == tower.file) {
                let input: Vec<String> = tower.input.iter().map(usize::to_string).collect();
                rows.push(format!("{} (input {})", tower.file, input.join("x")));
                rows.push(format!(
                    "  {:<19} {:>7} {:>5} {:>9} {:>8} {:>7} {:>7} {:>7}",
                    "engine", "threads", "batch", "median ms", "least ms", "ms/item", "load ms", "peak MB"
                ));
            }
            let peak = tower.peak_memory.map_or_else(|| "?".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
            for one in &tower.latency {
                rows.push(format!(
                    "  {:<19} {:>7} {:>5} {:>9.2} {:>8.2} {:>7.2} {:>7.0} {:>7}",
                    tower.engine,
                    tower.threads,
                    one.batch,
                    one.median_ms,
                    one.min_ms,
                    one.per_item_ms,
                    tower.load_ms,
                    peak
                ));
            }
        }
        for row in rows {
            writeln!(out, "{row}")?;
        }
        for not_run in self.not_run.iter().filter(|not_run| self.was_timed(&not_run.file)) {
            writeln!(out, "not run: {}", not_run.reason)?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }
}
