//! Other precisions than float32, as passes over a finished graph.
//!
//! Each pass takes the float32 graph and gives another one with the same inputs and outputs. Weights stay lazy: scales, and
//! which layers stay in higher precision, are chosen beforehand; the numbers themselves are converted while the file is
//! written.
//!
//! | precision | weights | arithmetic |
//! |---|---|---|
//! | [`Precision::Fp16`] | float16 | float16, but for what is not safe in it |
//! | [`Precision::Fp16Weights`] | float16 | float32: engines widen them when they load the file |
//! | [`Precision::Int8`] | int8, a scale for every output channel | integer products of MatMul, inputs quantized as they come; the rest float32 |
//! | [`Precision::Int8Weights`] | the same | float32, as above |
//! | [`Precision::Int4`] | MatMul int4 in blocks of 32; the rest as `Int8Weights` | float32 |
//! | [`Precision::Int4Fp16`] | the same | float16 |
//!
//! Scales are those of least error, where errors of weights are weighted with the mean squares of what they are multiplied
//! with ([`Activations`]). Outlier channels go through a small float32 product beside the integer one (`outliers`, after
//! Dettmers et al. 2022, LLM.int8()); the others are smoothed between LayerNorm's gain and the weights behind it where that
//! reduces the error (`smooth`, after Xiao et al. 2023, SmoothQuant, and Lin et al. 2024, AWQ). Layers whose error is much
//! larger than the others' are promoted to higher precision (`assign`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

use crate::onnx::graph::Parts;
use crate::tensor::Error;

mod activations;
mod assign;
mod float16;
mod grid;
mod int4;
mod layers;
mod operators;
mod outliers;
mod packed;
mod quantize;
mod rewrite;
mod scheme;
mod smooth;

pub use activations::{Activations, ChannelStats, observed};
pub use scheme::{Arithmetic, Format, Precision, Scheme};

impl Precision {
    /// The graph in this precision.
    ///
    /// # Errors
    /// What reading a weight reports.
    pub fn apply(self, parts: &Parts, activations: &Activations, options: &Options) -> Result<Rewritten, Error> {
        let (scheme, mut changes) = (self.scheme(), Changes::default());
        let mut graph = if self.is_quantized() {
            quantize::apply(scheme, parts, activations, options, &mut changes)?
        } else {
            parts.clone()
        };
        if scheme.arithmetic == Arithmetic::Float16 {
            graph = float16::arithmetic(&graph, &mut changes);
        } else if scheme.weights == Format::Float16 {
            graph = float16::weights(&graph, options, &mut changes);
        }
        Ok(Rewritten { graph, layers: changes.layers, clamped: changes.clamped })
    }
}

/// How weights are quantized.
#[derive(Clone, Debug)]
pub struct Options {
    /// Layers whose names contain one of these stay in higher precision.
    pub exclude: Vec<String>,
    /// Layers that lose much more than the others stay in higher precision too.
    pub auto_exclude: bool,
    /// Names of layers that stay in higher precision since measuring has shown that they cost most.
    pub measured: Vec<String>,
    /// int8 weights of integer products between −63 and 63, for CPUs whose sums of two products overflow 16 bits.
    pub reduce_range: bool,
    /// Blocks of int4 have zero points.
    pub zero_points: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { exclude: vec![], auto_exclude: true, measured: vec![], reduce_range: false, zero_points: false }
    }
}

impl Options {
    /// Largest int8 weight of integer products.
    fn dynamic_limit(&self) -> f32 {
        if self.reduce_range { grid::INT7 } else { grid::INT8_DYNAMIC }
    }

    fn excludes(&self, layer: &str) -> bool {
        self.exclude.iter().any(|pattern| layer.contains(pattern.as_str()))
    }
}

/// A graph in another precision, and what became of its layers.
pub struct Rewritten {
    /// The graph, with its weights converted.
    pub graph: Parts,
    /// Each layer with weights: its precision, and the loss where it was measured.
    pub layers: Vec<LayerReport>,
    clamped: Vec<Clamped>,
}

impl Rewritten {
    /// Weights with numbers beyond float16, by name, once the file is written: how many of each became its largest.
    pub fn clamped(&self) -> Vec<(String, u64)> {
        clamped(&self.clamped)
    }
}

/// Numbers of a weight that are beyond float16, counted while it is written.
struct Clamped {
    name: String,
    count: Arc<AtomicU64>,
}

fn clamped(weights: &[Clamped]) -> Vec<(String, u64)> {
    let counts = weights.iter().map(|weight| (weight.name.clone(), weight.count.load(Ordering::Relaxed)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// What passes report while they rewrite a graph.
#[derive(Default)]
struct Changes {
    layers: Vec<LayerReport>,
    clamped: Vec<Clamped>,
}

impl Changes {
    fn count_clamped(&mut self, name: &str) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        self.clamped.push(Clamped { name: name.to_owned(), count: count.clone() });
        count
    }
}

/// What a precision does to one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// The name of its weight.
    pub name: String,
    /// What its weight is stored as.
    pub stored: &'static str,
    /// Whether higher precision would make a difference: it is quantized as only products of this precision are.
    #[serde(skip)]
    pub promotable: bool,
    /// RMS error of what the layer gives over its RMS, in the precision asked for: estimated from weights and
    /// [`Activations`].
    pub error: f64,
    /// Channels that are multiplied in float32.
    pub outlier_channels: usize,
    /// Bytes of its weight in the file.
    pub bytes: u64,
    /// Why it is in higher precision, if it is.
    pub promoted: Option<Reason>,
}

/// Why a layer is in higher precision than asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// [`Options::exclude`] names it.
    Excluded,
    /// [`Options::measured`] names it.
    Measured,
    /// Its error is much larger than other layers'.
    LargeError,
    /// It gains more by its bytes than other layers.
    Cheap,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Excluded => "excluded",
            Reason::Measured => "measured",
            Reason::LargeError => "large error",
            Reason::Cheap => "cheap for what it gains",
        })
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
