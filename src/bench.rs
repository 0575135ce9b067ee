//! How long a tower takes, and what it takes to have it: one file, one engine, in this process.
//!
//! What a process holds at its peak counts everything it did before, so a caller that wants the
//! figure of one file starts a process for it; the command line does.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::verify::{Engine, Error, inputs, tower::Tower};

/// What to time.
#[derive(Clone, Debug)]
pub struct Request {
    pub model: PathBuf,
    pub engine: Engine,
    /// Threads of one run; tract has one.
    pub threads: usize,
    pub batches: Vec<usize>,
    /// Timed runs of each batch, after one that is not.
    pub rounds: usize,
    /// Length of texts, start and end tokens included; the context's where that is none. Towers of a
    /// fixed context get the rest as padding.
    pub tokens: Option<usize>,
}

/// One tower's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// As it was named.
    pub file: String,
    /// Axes of one item of the first input: channels, height and width; tokens; or patches and their
    /// numbers.
    pub input: Vec<usize>,
    /// Batch size the file is frozen to; none when it is free.
    pub fixed_batch: Option<usize>,
    pub engine: String,
    pub threads: usize,
    /// From the file to something that can be run, without the optimisation for one batch size that
    /// tract does on top.
    pub load_ms: f64,
    pub latency: Vec<Latency>,
    /// Most bytes the process has held in memory, mapped files included; none where the system does not
    /// tell.
    pub peak_memory: Option<u64>,
}

/// Of one batch size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub batch: usize,
    pub rounds: usize,
    pub median_ms: f64,
    pub min_ms: f64,
    pub max_ms: f64,
    /// Median over the batch.
    pub per_item_ms: f64,
}

/// Times one tower.
///
/// # Errors
/// When the file cannot be read, loaded, fed or run.
pub fn measure(request: &Request) -> Result<Measured, Error> {
    let started = Instant::now();
    let mut towers = Tower::all(&request.model, &request.model, &request.engine, Some(request.threads))?;
    // There is one at least; of two both are timed at once.
    let mut tower = towers.swap_remove(0);
    let load_ms = milliseconds(started);
    let (mut latency, mut input) = (Vec::new(), Vec::new());
    let batches = tower.fixed_batch.map_or_else(|| request.batches.clone(), |batch| vec![batch]);
    for batch in batches {
        let inputs = inputs::typical(&tower, batch, request.tokens)?;
        input = inputs[0].shape[1..].to_vec();
        for other in &towers {
            tower.beside(other, inputs::typical(other, batch, request.tokens)?);
        }
        let runnable = tower.at_batch(batch, &inputs)?;
        runnable.run(&inputs)?;
        let mut times = Vec::with_capacity(request.rounds);
        for _ in 0..request.rounds {
            let started = Instant::now();
            runnable.run(&inputs)?;
            times.push(milliseconds(started));
        }
        times.sort_by(f64::total_cmp);
        let median_ms = times[times.len() / 2];
        latency.push(Latency {
            batch,
            rounds: request.rounds,
            median_ms,
            min_ms: times[0],
            max_ms: times[times.len() - 1],
            per_item_ms: median_ms / batch as f64,
        });
    }
    Ok(Measured {
        file: request.model.display().to_string(),
        input,
        fixed_batch: tower.fixed_batch,
        engine: request.engine.name().to_owned(),
        threads: request.threads,
        load_ms,
        latency,
        peak_memory: peak_memory(),
    })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// `VmHWM` of Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
