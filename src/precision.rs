//! Other precisions than float32, as passes over a finished graph.
//!
//! Each pass takes the float32 graph and gives another one with the same inputs and outputs. Weights
//! stay lazy: what is worked out beforehand are scales of rows and which layers to leave alone; the
//! numbers themselves are made while the file is written.
//!
//! | precision | weights | arithmetic |
//! |---|---|---|
//! | [`Precision::Fp16`] | float16 | float16, but for what is not safe in it |
//! | [`Precision::Fp16Weights`] | float16 | float32: engines widen them when they load the file |
//! | [`Precision::Int8`] | int8, a scale for every output channel | MatMul in integers, its input put on a grid as it comes; the rest float32 |
//! | [`Precision::Int8Weights`] | the same | float32, as above |
//! | [`Precision::Int4`] | MatMul int4 in blocks of 32; the rest as `Int8Weights` | float32 |
//! | [`Precision::Int4Fp16`] | the same | float16 |
//!
//! Scales lose least where it counts: errors of weights are weighed with the mean squares of what they
//! are multiplied with (`moments`). Channels that are much larger than the rest go through a narrow product
//! of floats beside the one in whole numbers (`apart`, after Dettmers et al. 2022, LLM.int8); the others are
//! evened out between LayerNorm's gain and the weights behind it where that loses less (`rebalance`, after
//! Xiao et al. 2023, SmoothQuant, and Lin et al. 2024, AWQ). Layers that lose much more than the others are
//! kept in a higher precision.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::tensor::Error;
use moments::Moments;

mod apart;
mod float16;
mod grid;
mod integer;
mod layers;
mod moments;
mod packed;
mod plan;
mod rebalance;
mod rewrite;

/// How numbers are kept and reckoned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&str", try_from = "String")]
pub enum Precision {
    Fp32,
    Fp16,
    Fp16Weights,
    Int8,
    Int8Weights,
    Int4,
    Int4Fp16,
}

impl Precision {
    pub const ALL: [Precision; 7] = [
        Precision::Fp32,
        Precision::Fp16,
        Precision::Fp16Weights,
        Precision::Int8,
        Precision::Int8Weights,
        Precision::Int4,
        Precision::Int4Fp16,
    ];

    /// What flags, metadata and reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
            Precision::Fp16Weights => "fp16-weights",
            Precision::Int8 => "int8",
            Precision::Int8Weights => "int8-weights",
            Precision::Int4 => "int4",
            Precision::Int4Fp16 => "int4-fp16",
        }
    }

    /// What a file's name ends with before `.onnx`: transformers.js' word for it, where it has one.
    pub fn suffix(self) -> &'static str {
        match self {
            Precision::Fp32 => "",
            Precision::Fp16 => "_fp16",
            Precision::Fp16Weights => "_fp16w",
            Precision::Int8 => "_int8",
            Precision::Int8Weights => "_int8w",
            Precision::Int4 => "_q4",
            Precision::Int4Fp16 => "_q4f16",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// How far the measured cosine may fall below 1 before layers are kept from the precision, where
    /// nothing else is asked for.
    pub fn usual_drop(self) -> f64 {
        match self {
            Precision::Int8 => 0.002,
            Precision::Int4 | Precision::Int4Fp16 => 0.01,
            _ => 0.001,
        }
    }

    /// The least cosine with the float32 embeddings that files of this precision are held to when nothing
    /// else is asked for: below it something is broken, not merely rounded.
    pub fn least_cosine(self) -> f64 {
        match self {
            Precision::Fp32 => 1.0 - 1e-7,
            Precision::Fp16 | Precision::Fp16Weights => 0.9999,
            Precision::Int8Weights => 0.999,
            Precision::Int8 => 0.99,
            Precision::Int4 | Precision::Int4Fp16 => 0.9,
        }
    }

    /// Most by which a row alone and the same row in a batch may differ, over the RMS; none where rows know
    /// of one another because a batch's input is put on one grid.
    pub fn batch_bound(self) -> Option<f64> {
        match self {
            Precision::Fp32 => Some(1e-5),
            Precision::Fp16Weights | Precision::Int8Weights | Precision::Int4 => Some(1e-4),
            Precision::Fp16 | Precision::Int4Fp16 => Some(5e-2),
            Precision::Int8 => None,
        }
    }

    /// Whether scales are to be chosen, by what weights meet.
    pub fn is_quantized(self) -> bool {
        matches!(self, Precision::Int8 | Precision::Int8Weights | Precision::Int4 | Precision::Int4Fp16)
    }

    /// The graph in this precision.
    ///
    /// # Errors
    /// What reading a weight reports.
    pub fn apply(self, parts: &Parts, study: &Study, options: &Options) -> Result<Narrowed, Error> {
        let mut narrowed = Narrowed::default();
        let parts = match self {
            Precision::Fp32 => parts.clone(),
            Precision::Fp16 => float16::arithmetic(parts, &mut narrowed),
            Precision::Fp16Weights => float16::weights(parts, options, &mut narrowed),
            Precision::Int8 | Precision::Int8Weights | Precision::Int4 => {
                integer::apply(self, parts, study, options, &mut narrowed)?
            }
            Precision::Int4Fp16 => {
                let parts = integer::apply(self, parts, study, options, &mut narrowed)?;
                float16::arithmetic(&parts, &mut narrowed)
            }
        };
        Ok(Narrowed { parts: Some(parts), ..narrowed })
    }
}

impl From<Precision> for &'static str {
    fn from(precision: Precision) -> &'static str {
        precision.name()
    }
}

impl TryFrom<String> for Precision {
    type Error = String;

    fn try_from(name: String) -> Result<Precision, String> {
        Precision::parse(&name).ok_or_else(|| format!("`{name}` is no precision"))
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the user decides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Layers whose names hold one of these stay in higher precision.
    pub exclude: Vec<String>,
    /// Layers that lose much more than the others are not kept.
    pub auto_exclude: bool,
    /// Layers that measuring has shown to cost most.
    pub measured: Vec<String>,
    /// int8 weights between −63 and 63, for CPUs whose products of whole numbers overflow.
    pub reduce_range: bool,
    /// Blocks of int4 have zero points.
    pub zero_points: bool,
}

impl Options {
    /// Largest weight of products in whole numbers.
    fn dynamic_limit(&self) -> f32 {
        if self.reduce_range { grid::INT7 } else { grid::INT8_DYNAMIC }
    }
}

/// What is known of a graph's activations.
#[derive(Clone, Default)]
pub struct Study {
    /// Mean squares of channels.
    moments: HashMap<Value, Moments>,
    /// Largest absolute values of channels, where they were measured.
    peaks: HashMap<Value, Moments>,
    /// Means of channels, where they were measured.
    means: HashMap<Value, Moments>,
}

/// How far beyond its root mean square a channel goes, where it was not measured.
const PEAK: f32 = 4.5;

impl Study {
    /// As far as weights tell.
    ///
    /// # Errors
    /// What reading a weight reports.
    pub fn of_weights(parts: &Parts) -> Result<Study, Error> {
        Ok(Study { moments: moments::estimate(parts)?, ..Study::default() })
    }

    /// As measured.
    pub fn measured(channels: impl Iterator<Item = (Value, Channels)>) -> Study {
        let mut study = Study::default();
        for (value, channels) in channels {
            let per_count =
                |sums: &[f64]| -> Moments { sums.iter().map(|sum| (sum / channels.count) as f32).collect() };
            study.moments.insert(value, per_count(&channels.squares));
            study.means.insert(value, per_count(&channels.sums));
            study.peaks.insert(value, channels.peaks.into());
        }
        study
    }

    fn moments(&self, value: Value) -> Moments {
        self.moments.get(&value).cloned().unwrap_or_else(|| Arc::from([1.0f32]))
    }

    fn peaks(&self, value: Value) -> Moments {
        let measured = self.peaks.get(&value).cloned();
        measured.unwrap_or_else(|| self.moments(value).iter().map(|m| m.sqrt() * PEAK).collect())
    }
}

/// Channels of an activation as they are measured, over everything it is given.
pub struct Channels {
    /// Where the channels' axis is: the last, or the second of convolutions.
    last: bool,
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
    peaks: Vec<f32>,
}

impl Channels {
    fn new(last: bool) -> Channels {
        Channels { last, count: 0.0, sums: vec![], squares: vec![], peaks: vec![] }
    }

    /// Whether all that was added were numbers.
    pub fn are_finite(&self) -> bool {
        self.squares.iter().all(|square| square.is_finite())
    }

    /// Adds an activation of `shape`.
    pub fn add(&mut self, shape: &[usize], values: &[f32]) {
        let width = if self.last { shape.last() } else { shape.get(1) }.copied().unwrap_or(1).max(1);
        let run: usize = if self.last { 1 } else { shape.iter().skip(2).product::<usize>().max(1) };
        self.sums.resize(width, 0.0);
        self.squares.resize(width, 0.0);
        self.peaks.resize(width, 0.0);
        for (at, values) in values.chunks(run).enumerate() {
            let channel = at % width;
            for &v in values {
                self.sums[channel] += f64::from(v);
                self.squares[channel] += f64::from(v) * f64::from(v);
                self.peaks[channel] = self.peaks[channel].max(v.abs());
            }
        }
        self.count += (values.len() / width) as f64;
    }
}

/// What to measure to know what layers meet, each with what adds it up.
pub fn watched(parts: &Parts) -> Vec<(Value, Channels)> {
    let given: Vec<&str> = parts.inputs.iter().map(|port| port.name.as_str()).collect();
    let mut out: Vec<(Value, Channels)> = Vec::new();
    for (_, layer) in layers::layers(parts) {
        let measurable = layer.role != layers::Role::Table && !given.contains(&parts.value_name(layer.input));
        if measurable && !out.iter().any(|(value, _)| *value == layer.input) {
            out.push((layer.input, Channels::new(layer.role != layers::Role::Kernel)));
        }
    }
    out
}

/// A graph in another precision, and what became of its layers.
#[derive(Default)]
pub struct Narrowed {
    parts: Option<Parts>,
    pub layers: Vec<LayerReport>,
    clamped: Vec<(String, Arc<AtomicU64>)>,
}

/// What a precision does to one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    pub name: String,
    /// What its weights are stored as.
    pub stored: &'static str,
    /// Whether it is in the precision's own form: others are what it has for small or other layers.
    #[serde(skip)]
    pub own: bool,
    /// Error of what the layer gives over its size, root mean square: of the precision asked for, as
    /// estimated from the weights and what they meet.
    pub error: f64,
    /// Channels of it that are multiplied apart, in floats.
    pub apart: usize,
    /// Bytes of its weights in the file.
    pub bytes: u64,
    /// Why it is in higher precision, if it is.
    pub kept: Option<&'static str>,
}

impl Narrowed {
    /// The graph, once.
    pub fn take_parts(&mut self) -> Parts {
        self.parts.take().unwrap_or_else(|| unreachable!("a graph is taken once"))
    }

    /// Weights that float16 has no number for, by name, once the file is written: how many of each.
    pub fn clamped(&self) -> Vec<(String, u64)> {
        let counts = self.clamped.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn counts_clamped(&mut self, name: &str) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        self.clamped.push((name.to_owned(), count.clone()));
        count
    }
}

pub type Rewritten = Narrowed;
pub type Activations = Study;
pub use self::watched as observed;
