//! Channels of very different sizes, evened out between a LayerNorm's gain and the weights behind it:
//! gain and bias of channel k are divided by s, the weights it meets multiplied with it. Exact but for
//! rounding in float32. Xiao et al. 2023 (SmoothQuant), eq. 4; Lin et al. 2024 (AWQ), eq. 4.

use std::collections::HashMap;
use std::sync::Arc;

use super::apart::large;
use super::grid::{BLOCK, INT8, gained};
use super::layers::Layer;
use super::{Precision, Study};
use crate::onnx::Value;
use crate::onnx::graph::Parts;
use crate::tensor::Error;

/// How much of the difference between channels goes into the weights.
const EXPONENTS: [f32; 6] = [0.0, 0.15, 0.3, 0.5, 0.7, 0.85];

/// What a change has to win to be made.
const WORTH: f64 = 0.97;

/// Gains of the weights behind LayerNorms, by the LayerNorm's output, where that loses less.
///
/// `form` is the precision, and the largest weight of products in whole numbers.
///
/// # Errors
/// What reading a weight reports.
pub fn gains(
    parts: &Parts,
    layers: &[(usize, Layer)],
    study: &Study,
    form: (Precision, f32),
) -> Result<HashMap<Value, Arc<[f32]>>, Error> {
    let norms = parts.nodes.iter().filter(|node| node.op_type == "LayerNormalization").filter_map(|node| {
        let output = *node.outputs.first()?;
        let behind: Vec<&Layer> = layers.iter().map(|(_, layer)| layer).filter(|layer| layer.input == output).collect();
        let readers = parts.nodes.iter().flat_map(|node| &node.inputs).filter(|&&input| input == output).count();
        let given = parts.outputs.iter().any(|port| port.name == parts.value_name(output));
        // Whoever else reads it would see other numbers.
        (!behind.is_empty() && behind.len() == readers && !given).then_some((output, behind))
    });
    let norms: Vec<(Value, Vec<&Layer>)> = norms.collect();
    let found = crate::parallel::parallel(&norms, |(output, behind)| best(*output, behind, study, form))?;
    Ok(norms.iter().zip(found).filter_map(|((output, _), gains)| Some((*output, gains?))).collect())
}

/// The gains that lose least behind one LayerNorm; none where none are worth it.
fn best(
    output: Value,
    behind: &[&Layer],
    study: &Study,
    (precision, limit): (Precision, f32),
) -> Result<Option<Arc<[f32]>>, Error> {
    let (mut moments, mut peaks) = (study.moments(output).to_vec(), study.peaks(output).to_vec());
    let columns = behind[0].weight.rows()[1];
    if moments.len() != columns || peaks.len() != columns || moments.iter().any(|&m| m <= 0.0) {
        return Ok(None);
    }
    // Largest weight that each channel meets.
    let mut tallest = vec![0f32; columns];
    let mut rows: Vec<f32> = Vec::new();
    for layer in behind {
        layer.weight.for_each_rows(|block| {
            for row in block.chunks_exact(columns) {
                tallest.iter_mut().zip(row).for_each(|(most, v)| *most = most.max(v.abs()));
            }
            rows.extend_from_slice(block);
            Ok::<(), Error>(())
        })?;
    }
    if tallest.contains(&0.0) {
        return Ok(None);
    }
    // What goes apart meets other weights, and has to stay within the range of the rest only.
    let apart: Vec<(usize, f32)> = large(&moments).into_iter().map(|k| (k, peaks[k])).collect();
    for &(k, _) in &apart {
        (moments[k], peaks[k], tallest[k]) = (0.0, 0.0, 0.0);
        rows.iter_mut().skip(k).step_by(columns).for_each(|v| *v = 0.0);
    }
    let (moments, peaks) = (moments, peaks);
    let fitted = |mut gains: Vec<f32>| -> Vec<f32> {
        let range = peaks.iter().zip(&gains).fold(0.0f32, |most, (peak, gain)| most.max(peak / gain));
        apart.iter().for_each(|&(k, peak)| gains[k] = if precision == Precision::Int8 { peak / range } else { 1.0 });
        gains
    };
    let candidate = |exponent: f32| -> Vec<f32> {
        let raw: Vec<f32> = match precision {
            Precision::Int8 => {
                peaks.iter().zip(&tallest).map(|(peak, w)| peak.powf(exponent) / w.powf(1.0 - exponent)).collect()
            }
            _ => moments.iter().map(|m| m.sqrt().powf(exponent)).collect(),
        };
        let rest = || raw.iter().enumerate().filter(|(k, _)| !apart.iter().any(|(at, _)| at == k));
        let middle = (rest().map(|(_, s)| f64::from(s.ln())).sum::<f64>() / rest().count() as f64).exp() as f32;
        fitted(raw.iter().map(|s| (s / middle).clamp(1e-4, 1e4)).collect())
    };
    let none = fitted(vec![1.0; columns]);
    let nought = vec![0.0; columns];
    let lost = |gains: &[f32]| match precision {
        Precision::Int8Weights => lost_dynamic(&rows, gains, (&moments, &nought), INT8),
        Precision::Int8 => lost_dynamic(&rows, gains, (&moments, &peaks), limit),
        _ => lost_blocks(&rows, gains, &moments),
    };
    let before = lost(&none);
    let all = EXPONENTS.iter().map(|&exponent| candidate(exponent)).map(|gains| (lost(&gains), gains));
    let best = all.min_by(|a, b| a.0.total_cmp(&b.0));
    let best = best.filter(|(lost, _)| *lost < before * WORTH).map(|(_, gains)| gains);
    let needed = precision == Precision::Int8 && !apart.is_empty();
    Ok(best.or(needed.then_some(none)).map(Into::into))
}

/// Squares lost by an input on one grid of 256, of such peaks, and weights on one a row up to `limit`.
fn lost_dynamic(rows: &[f32], gains: &[f32], (moments, peaks): (&[f32], &[f32]), limit: f32) -> f64 {
    let range = peaks.iter().zip(gains).fold(0.0f32, |most, (peak, gain)| most.max(peak / gain)) * 2.0;
    let input_step = f64::from(range / 255.0);
    let met: f64 = moments.iter().zip(gains).map(|(m, g)| f64::from(m / (g * g))).sum();
    let mut lost = 0.0;
    for row in rows.chunks_exact(gains.len()) {
        let (squares, most) = gained(row, gains);
        let step = f64::from(most / limit);
        lost += input_step * input_step / 12.0 * f64::from(squares) + step * step / 12.0 * met;
    }
    lost
}

/// Squares lost by weights on a grid of 16 a block.
fn lost_blocks(rows: &[f32], gains: &[f32], moments: &[f32]) -> f64 {
    let met: Vec<f64> = moments
        .chunks(BLOCK)
        .zip(gains.chunks(BLOCK))
        .map(|(m, g)| m.iter().zip(g).map(|(m, g)| f64::from(m / (g * g))).sum())
        .collect();
    let mut lost = 0.0;
    for row in rows.chunks_exact(gains.len()) {
        for ((values, gains), met) in row.chunks(BLOCK).zip(gains.chunks(BLOCK)).zip(&met) {
            let step = f64::from(gained(values, gains).1 / 7.5);
            lost += step * step / 12.0 * met;
        }
    }
    lost
}
