//! How long a tower takes, and what it takes to have it: one file, one engine, in this process.
//!
//! What a process holds at its peak counts everything it did before, so a caller that wants the
//! figure of one file starts a process for it; the command line does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::engine::{Array, Engine, Error, Tower, inputs};

/// What to time.
#[derive(Clone, Debug)]
pub struct Request {
    pub model: PathBuf,
    pub engine: Arc<dyn Engine>,
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

/// Times one file: its tower, or both at once.
///
/// # Errors
/// When the file cannot be read, loaded, fed or run.
pub fn measure(request: &Request) -> Result<Measured, Error> {
    let started = Instant::now();
    let towers = Tower::all(&request.model, &request.model, &*request.engine, Some(request.threads))?;
    let load_ms = milliseconds(started);
    let mut towers = towers.into_iter();
    let Some(mut tower) = towers.next() else {
        let path = request.model.display().to_string();
        return Err(Error::Unfit { path, reason: "it holds no tower".to_owned() });
    };
    let others: Vec<Tower> = towers.collect();
    let (mut latency, mut input) = (Vec::new(), Vec::new());
    let fixed_batch = tower.signature().fixed_batch;
    for batch in fixed_batch.map_or_else(|| request.batches.clone(), |batch| vec![batch]) {
        let inputs = made_up(&tower, batch, request.tokens)?;
        input = inputs.first().map(|input| input.shape()[1..].to_vec()).unwrap_or_default();
        for other in &others {
            tower.feed_other(other, &made_up(other, batch, request.tokens)?)?;
        }
        latency.push(time(&tower, &inputs, batch, request.rounds)?);
    }
    Ok(Measured {
        file: request.model.display().to_string(),
        input,
        fixed_batch,
        engine: request.engine.name().to_owned(),
        threads: request.threads,
        load_ms,
        latency,
        peak_memory: peak_memory(),
    })
}

fn made_up(tower: &Tower, batch: usize, tokens: Option<usize>) -> Result<Vec<Array>, Error> {
    inputs::typical(tower.signature(), batch, tokens).map_err(|reason| tower.unfit(reason))
}

/// Runs a batch once, for the engine to optimise for it, and then so many times to be timed.
fn time(tower: &Tower, inputs: &[Array], batch: usize, rounds: usize) -> Result<Latency, Error> {
    tower.run(inputs)?;
    let mut times = Vec::with_capacity(rounds);
    // One at least, so that there is a median.
    for _ in 0..rounds.max(1) {
        let started = Instant::now();
        tower.run(inputs)?;
        times.push(milliseconds(started));
    }
    times.sort_by(f64::total_cmp);
    let median_ms = times[times.len() / 2];
    let (min_ms, max_ms) = (times[0], times[times.len() - 1]);
    Ok(Latency { batch, rounds: times.len(), median_ms, min_ms, max_ms, per_item_ms: median_ms / batch as f64 })
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
