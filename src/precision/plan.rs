//! Which layer is stored how, and what that loses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::apart;
use super::grid::{self, INT8};
use super::layers::{Layer, Role, Weight, layers};
use super::moments::{channel, column_moments};
use super::packed::{Int4, Spelling};
use super::{Options, Precision, Study, rebalance};
use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::parallel::parallel;
use crate::tensor::Error;

/// A layer whose error is so many times the middle one's stands out.
const STANDS_OUT: f64 = 3.0;

/// What share of int4's bytes, one in so many, may go into int8 for layers that gain most by it.
const CHEAP: u64 = 4;

/// Fits of blocks that are remembered from planning to writing: 48 MiB of them. Beyond, they are sought
/// twice.
const REMEMBERED: usize = 1 << 22;

/// How a layer is written.
pub enum Form {
    /// float32.
    Whole,
    /// float16, widened.
    Half,
    /// int8, widened and scaled; scales of rows.
    Int8(Vec<f32>),
    /// int8, its input put on a grid as it comes.
    Dynamic(Vec<f32>),
    Int4(Int4),
}

impl Form {
    /// What reports call it.
    pub fn stored(&self) -> &'static str {
        match self {
            Form::Whole => "fp32",
            Form::Half => "fp16",
            Form::Int8(_) | Form::Dynamic(_) => "int8",
            Form::Int4(_) => "int4",
        }
    }

    /// Whether the form is what the precision is for, rather than what it has for other layers.
    pub fn is_own(&self) -> bool {
        matches!(self, Form::Dynamic(_) | Form::Int4(_))
    }

    /// Bytes of a weight of `[rows, columns]`.
    pub fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        let (numbers, rows) = ((rows * columns) as u64, rows as u64);
        match self {
            Form::Whole => numbers * 4,
            Form::Half => numbers * 2,
            Form::Int8(_) | Form::Dynamic(_) => numbers + rows * 4,
            Form::Int4(int4) => {
                let parts = int4.data();
                parts.0.byte_len() + parts.1.byte_len() + parts.2.map_or(0, |zeros| zeros.byte_len())
            }
        }
    }
}

/// What becomes of a layer.
pub struct Planned {
    pub layer: Layer,
    pub form: Form,
    /// In the precision asked for, whether kept or not.
    pub error: f64,
    pub kept: Option<&'static str>,
    /// What each row's product loses on average, where means were measured: for its bias to make up for.
    pub correction: Option<Vec<f32>>,
}

/// What becomes of a graph.
pub struct Plan {
    /// By the place of the node.
    pub layers: BTreeMap<usize, Planned>,
    /// Of LayerNorms' outputs: what the weights behind them are multiplied with.
    pub gains: HashMap<Value, Arc<[f32]>>,
}

/// Decides.
///
/// # Errors
/// What reading a weight reports.
pub fn plan(parts: &Parts, precision: Precision, study: &Study, options: &Options) -> Result<Plan, Error> {
    let mut found = layers(parts);
    let gains = rebalance::gains(parts, &found, study, (precision, options.dynamic_limit()))?;
    for (_, layer) in &mut found {
        if let Some(gains) = gains.get(&layer.input) {
            layer.weight = layer.weight.with_gains(gains.clone());
        }
    }
    let found = parallel(&found, |(at, layer)| Ok((*at, apart::taken(layer, precision, study)?)))?;
    let asked = |layer: &Layer| options.exclude.iter().any(|pattern| layer.name.contains(pattern.as_str()));
    let measured = |layer: &Layer| options.measured.contains(&layer.name);
    // With float16 scales, ONNX Runtime 1.32 gives wrong numbers for the standard spelling at its level EXTENDED.
    let standard = parts.target.has_int4() && precision == Precision::Int4;
    let spelling = if standard { Spelling::Standard } else { Spelling::NBits };
    let remembered = AtomicUsize::new(0);
    let forms = parallel(&found, |(_, layer)| wanted(layer, precision, study, options, (spelling, &remembered)))?;
    // Products in the precision's own form among themselves, and what is only stored in int8.
    let middles = [true, false].map(|own| middle(forms.iter().filter(|(form, _)| form.is_own() == own).map(|f| f.1)));
    let cheap = if !options.auto_exclude { HashSet::new() } else { cheap(&found, &forms, precision) };
    let mut plan = Plan { layers: BTreeMap::new(), gains };
    let mut again: Vec<(usize, Layer)> = Vec::new();
    for ((at, layer), (form, error)) in found.into_iter().zip(forms) {
        let middle = middles[usize::from(!form.is_own())];
        let stands_out = !!options.auto_exclude && layer.role != Role::Table && error > STANDS_OUT * middle;
        let kept = if asked(&layer) {
            Some("asked for")
        } else if measured(&layer) {
            Some("measured")
        } else if stands_out {
            Some("stands out")
        } else if cheap.contains(&at) {
            Some("cheap")
        } else {
            None
        };
        if kept.is_some() {
            again.push((at, layer.clone()));
        }
        plan.layers.insert(at, Planned { layer, form, error, kept, correction: None });
    }
    let higher = parallel(&again, |(_, layer)| higher(layer, precision, study))?;
    for ((at, _), form) in again.iter().zip(higher) {
        if let Some(planned) = plan.layers.get_mut(at) {
            if matches!(form, Form::Whole | Form::Half) {
                planned.layer = planned.layer.whole();
            }
            planned.form = form;
        }
    }
    let mut corrected: Vec<&mut Planned> =
        plan.layers.values_mut().filter(|planned| planned.layer.can_be_corrected()).collect();
    let corrections = parallel(&corrected, |planned| correction(planned, study, options))?;
    for (planned, correction) in corrected.iter_mut().zip(corrections) {
        planned.correction = correction;
    }
    Ok(plan)
}

/// Σ mean (w − ŵ) of each row.
fn correction(planned: &Planned, study: &Study, options: &Options) -> Result<Option<Vec<f32>>, Error> {
    let layer = &planned.layer;
    let Some(means) = study.means.get(&layer.input) else { return Ok(None) };
    let [_, columns] = layer.weight.rows();
    let means: Vec<f32> = (0..columns).map(|k| channel(means, k) * layer.weight.inverse_gain(k)).collect();
    let mut out = Vec::new();
    match &planned.form {
        Form::Int8(scales) | Form::Dynamic(scales) => {
            let limit = if planned.form.is_own() { options.dynamic_limit() } else { INT8 };
            layer.weight.for_each_rows(|block| {
                for row in block.chunks_exact(columns) {
                    let scale = scales[out.len()];
                    let lost = |v: f32| v - grid::round((v / scale).clamp(-limit, limit)) * scale;
                    out.push(row.iter().zip(&means).map(|(&v, mean)| lost(v) * mean).sum());
                }
                Ok::<(), Error>(())
            })?;
        }
        Form::Int4(int4) => {
            let mut sums = Vec::new();
            int4.for_each_block(|values, _, fit| {
                let start = sums.len() % columns.div_ceil(grid::BLOCK) * grid::BLOCK;
                let stored = grid::numbers(values, fit).zip(values).zip(&means[start..]);
                sums.push(stored.map(|((q, v), mean)| (v - (f32::from(q) - fit.zero) * fit.scale) * mean).sum::<f32>());
                Ok(())
            })
            .map_err(unwritten)?;
            out.extend(sums.chunks(columns.div_ceil(grid::BLOCK)).map(|row| row.iter().sum::<f32>()));
        }
        Form::Whole | Form::Half => return Ok(None),
    }
    Ok(Some(out))
}

/// What reading met, where nothing is written.
fn unwritten(error: crate::onnx::write::Error) -> Error {
    match error {
        crate::onnx::write::Error::Tensor(error) => error,
        _ => unreachable!("nothing is written"),
    }
}

/// Places of int4 layers that int8 serves most for its bytes: attention's projections, as a rule.
fn cheap(found: &[(usize, Layer)], forms: &[(Form, f64)], precision: Precision) -> HashSet<usize> {
    if !matches!(precision, Precision::Int4 | Precision::Int4Fp16) {
        return HashSet::new();
    }
    let bytes = |at: usize| forms[at].0.bytes(found[at].1.weight.rows());
    let extra = |at: usize| {
        let rows = found[at].1.weight.rows();
        Form::Int8(vec![]).bytes(rows).saturating_sub(bytes(at)).max(1)
    };
    let mut own: Vec<usize> = (0..forms.len()).filter(|&at| matches!(forms[at].0, Form::Int4(_))).collect();
    let worth = |at: usize| forms[at].1 * forms[at].1 / extra(at) as f64;
    own.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)));
    // With scales of float16 there is as much to gain: what float32's would take, five eighths of a byte a number.
    let numbers = |at: usize| found[at].1.weight.rows().iter().product::<usize>() as u64;
    let mut left = own.iter().map(|&at| numbers(at)).sum::<u64>() * 5 / 8 / CHEAP;
    own.retain(|&at| {
        let fits = extra(at) <= left;
        left -= if fits { extra(at) } else { 0 };
        fits
    });
    own.into_iter().map(|at| found[at].0).collect()
}

fn middle(errors: impl Iterator<Item = f64>) -> f64 {
    let mut errors: Vec<f64> = errors.collect();
    errors.sort_by(f64::total_cmp);
    errors.get(errors.len() / 2).copied().unwrap_or(0.0)
}

/// What each number of a row is multiplied with, mean square; gains taken out again.
fn met(layer: &Layer, study: &Study) -> Arc<[f32]> {
    let [_, columns] = layer.weight.rows();
    if layer.role == Role::Table {
        return vec![1.0; columns].into();
    }
    let moments = column_moments(&layer.weight.tensor, &study.moments(layer.input), columns, 0);
    // Channels that are nought as far as anyone knows still count a little.
    let floor = moments.iter().sum::<f32>() / columns as f32 * 1e-4;
    moments.iter().enumerate().map(|(k, m)| m.max(floor) * layer.weight.inverse_gain(k).powi(2)).collect()
}

/// The form that the precision has for a layer, and the error it makes.
fn wanted(
    layer: &Layer,
    precision: Precision,
    study: &Study,
    options: &Options,
    (spelling, remembered): (Spelling, &AtomicUsize),
) -> Result<(Form, f64), Error> {
    let moments = met(layer, study);
    match (precision, layer.role) {
        (Precision::Int8, Role::Factor) => {
            let (scales, lost, energy, squares) = rows_int8(&layer.weight, &moments, options.dynamic_limit())?;
            let peaks = study.peaks(layer.input);
            let peaks = (0..layer.weight.rows()[1]).map(|k| channel(&peaks, k) * layer.weight.inverse_gain(k));
            let range = peaks.fold(0.0f32, f32::max) * 2.0;
            let step = f64::from(range / 255.0);
            Ok((Form::Dynamic(scales), ((lost + step * step / 12.0 * squares) / energy.max(1e-30)).sqrt()))
        }
        (Precision::Int4 | Precision::Int4Fp16, Role::Factor) => {
            let half = precision == Precision::Int4Fp16;
            let int4 = Int4::new(layer.weight.clone(), moments, options.zero_points, spelling, half);
            let (mut lost, mut energy, mut fits) = (0f64, 0f64, Vec::new());
            int4.for_each_block(|values, moments, fit| {
                fits.push(*fit);
                lost += f64::from(fit.lost);
                energy += f64::from(grid::energy(values, moments));
                Ok(())
            })
            .map_err(unwritten)?;
            if remembered.fetch_add(fits.len(), Ordering::Relaxed) + fits.len() <= REMEMBERED {
                int4.keep(Some(fits));
            }
            Ok((Form::Int4(int4), (lost / energy.max(1e-30)).sqrt()))
        }
        // Depthwise kernels are few numbers, one large and the rest small where a skip is folded into them.
        (_, Role::Kernel) if layer.weight.tensor.shape()[1] == 1 => Ok((Form::Half, 0.0)),
        _ => {
            let (scales, lost, energy, _) = rows_int8(&layer.weight, &moments, INT8)?;
            Ok((Form::Int8(scales), (lost / energy.max(1e-30)).sqrt()))
        }
    }
}

/// The form of a layer that is kept from it.
fn higher(layer: &Layer, precision: Precision, study: &Study) -> Result<Form, Error> {
    Ok(match (precision, layer.role) {
        (Precision::Int4 | Precision::Int4Fp16, Role::Factor) => {
            Form::Int8(rows_int8(&layer.weight, &met(layer, study), INT8)?.0)
        }
        (Precision::Int8, Role::Factor) => Form::Whole,
        // What is evened out is written so in float32 alone.
        (Precision::Int8Weights, Role::Factor) if layer.weight.gains.is_some() => Form::Whole,
        _ => Form::Half,
    })
}

/// Scales of all rows in int8; squares lost, and squares there are, weighted; and squares not weighted.
fn rows_int8(weight: &Weight, moments: &[f32], limit: f32) -> Result<(Vec<f32>, f64, f64, f64), Error> {
    let [rows, columns] = weight.rows();
    let ones = vec![1.0; columns];
    let mut scales = Vec::with_capacity(rows);
    let (mut lost, mut energy, mut squares) = (0f64, 0f64, 0f64);
    weight.for_each_rows(|block| {
        for row in block.chunks_exact(columns) {
            let fit = grid::int8(row, moments, limit);
            scales.push(fit.scale);
            lost += f64::from(fit.lost);
            energy += f64::from(grid::energy(row, moments));
            squares += f64::from(grid::energy(row, &ones));
        }
        Ok::<(), Error>(())
    })?;
    Ok((scales, lost, energy, squares))
}
