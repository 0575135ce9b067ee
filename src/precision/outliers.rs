//! Outlier channels, multiplied in float32 beside the integer product of the others.
//!
//! Trained towers have a few residual channels tens of times larger than the rest. With one scale for all, of an input or
//! of a row of weights, the others have few steps left, and their rounding errors outweigh everything else in the sum. So
//! the outlier channels that a product reads, and those that it writes, go through a small float32 product of their own,
//! which is added to the integer one. Dettmers et al. 2022 (LLM.int8()), §3.2.

use super::Activations;
use super::grid::{BLOCK, largest};
use super::layers::{Layer, OutlierWeights, Outliers, Weight, WeightKind};
use super::scheme::Format;
use crate::tensor::{Error, Tensor};

/// The mean square of an outlier channel is above this many times the median.
const ABOVE_MEDIAN: f32 = 36.0;

/// At most one in this many channels is an outlier.
const MOST: usize = 48;

/// Numbers of a table's row that share a scale: with one for the whole row, squared errors are half as large again.
const TABLE_GROUP: usize = 128;

/// The outlier channels, in ascending order, of channels with these mean squares; none where the median is zero.
pub fn outlier_channels(mean_squares: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..mean_squares.len()).collect();
    order.sort_by(|&a, &b| mean_squares[b].total_cmp(&mean_squares[a]));
    let Some(median) = order.get(order.len() / 2).map(|&at| mean_squares[at]) else { return vec![] };
    let bound = median * ABOVE_MEDIAN;
    order.truncate(mean_squares.len() / MOST);
    order.retain(|&at| median > 0.0 && mean_squares[at] > bound);
    order.sort_unstable();
    order
}

/// The layer with its outlier channels taken out of the weight that is quantized: input channels that are large in the
/// input or in the weight, and output channels whose scales would be large. Rows of tables are split into groups instead.
///
/// # Errors
/// What reading the weight reports.
pub fn divided(layer: &Layer, weights: Format, activations: &Activations) -> Result<Layer, Error> {
    match layer.kind {
        WeightKind::Table => in_groups(layer),
        WeightKind::Matrix => {
            let (inputs, rest) = input_channels(layer, activations)?;
            let (outputs, rest) = output_channels(&rest, weights)?;
            let any = inputs.is_some() || outputs.is_some();
            let outliers = any.then_some(Outliers { inputs, outputs });
            Ok(Layer { weight: rest, outliers, ..layer.clone() })
        }
        WeightKind::HeadMatrices | WeightKind::Kernel => Ok(layer.clone()),
    }
}

/// A table `[rows, width]` as `[rows, groups, numbers]`, where groups come out even.
fn in_groups(layer: &Layer) -> Result<Layer, Error> {
    let [rows, width] = layer.full.rows();
    if width % TABLE_GROUP != 0 {
        return Ok(layer.clone());
    }
    let groups = layer.full.tensor.reshape(&[rows, width / TABLE_GROUP, TABLE_GROUP])?;
    Ok(Layer { weight: Weight::new(groups, WeightKind::Table), ..layer.clone() })
}

/// Outlier input channels, and the weight without them.
fn input_channels(layer: &Layer, activations: &Activations) -> Result<(Option<OutlierWeights>, Weight), Error> {
    let full = &layer.full;
    let [_, columns] = full.rows();
    let mean_squares = activations.mean_squares(layer.input);
    // Those of the input would set the scale of all its channels, those of the weight the scale of each row.
    let mut channels = if mean_squares.len() == columns { outlier_channels(&mean_squares) } else { vec![] };
    let of_weight = outlier_channels(&column_squares(full)?);
    channels.extend(of_weight.into_iter().filter(|k| !channels.contains(k)).collect::<Vec<_>>());
    channels.sort_unstable();
    if channels.is_empty() {
        return Ok((None, full.clone()));
    }
    let one = |&k: &usize| Ok(full.tensor.rows(k..k + 1)?.scaled(f64::from(full.factor(k))));
    let weights = Tensor::concat(&channels.iter().map(one).collect::<Result<Vec<_>, Error>>()?)?;
    let factors = (0..columns).map(|k| if channels.contains(&k) { 0.0 } else { full.factor(k) });
    let rest = full.with_factors(factors.collect());
    Ok((Some(OutlierWeights { channels, weights }), rest))
}

/// Outlier output channels of what is left of a weight, and the weight without them.
fn output_channels(weight: &Weight, weights: Format) -> Result<(Option<OutlierWeights>, Weight), Error> {
    let [_, columns] = weight.rows();
    let channels = outlier_channels(&row_steps(weight, weights)?);
    if channels.is_empty() {
        return Ok((None, weight.clone()));
    }
    let (mut values, mut at) = (Vec::new(), 0);
    weight.for_each_row(|row| {
        if channels.contains(&at) {
            values.extend_from_slice(row);
        }
        at += 1;
    })?;
    let name = weight.tensor.source_names().join("`, `");
    let weights = Tensor::from_f32(&name, &[channels.len(), columns], &values).permute(&[1, 0]);
    let rest = weight.without_rows(&channels);
    Ok((Some(OutlierWeights { channels, weights }), rest))
}

/// The sum of squares of each column.
fn column_squares(weight: &Weight) -> Result<Vec<f32>, Error> {
    let [_, columns] = weight.rows();
    let mut squares = vec![0f32; columns];
    weight.for_each_row(|row| squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v))?;
    Ok(squares)
}

/// The squared largest number of each row, to which its squared step is proportional; of rows in blocks, their sum.
fn row_steps(weight: &Weight, weights: Format) -> Result<Vec<f32>, Error> {
    let [_, columns] = weight.rows();
    let block = if weights == Format::Int4 { BLOCK } else { columns };
    let mut steps = Vec::new();
    weight.for_each_row(|row| steps.push(row.chunks(block).map(|values| largest(values).powi(2)).sum()))?;
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Graph, Target};

    #[test]
    fn a_mean_square_above_36_times_the_median_is_an_outlier() {
        let mut mean_squares = vec![2.0; 96];
        assert!(outlier_channels(&mean_squares).is_empty());
        mean_squares[70] = 72.1;
        mean_squares[3] = 72.0;
        assert_eq!(outlier_channels(&mean_squares), [70]);
        // No more than one in 48: the largest ones.
        (mean_squares[5], mean_squares[9]) = (1e3, 1e4);
        assert_eq!(outlier_channels(&mean_squares), [5, 9]);
        assert!(outlier_channels(&mean_squares[..47]).is_empty());
        assert!(outlier_channels(&[&[1.0; 10][..], &[0.0; 90]].concat()).is_empty());
    }

    /// x · W = x without outliers · W without them + outlier inputs · their rows + outlier outputs in their columns.
    #[test]
    fn the_parts_of_a_divided_product_add_up_to_it() {
        let (inputs, outputs) = (96, 60);
        let mut values: Vec<f32> = (0..inputs * outputs).map(|at| (at * 37 % 101) as f32 - 50.0).collect();
        values[7 * outputs..8 * outputs].iter_mut().for_each(|v| *v *= 64.0);
        values.iter_mut().skip(11).step_by(outputs).for_each(|v| *v *= 64.0);
        let graph = Graph::new("tower", Target::default());
        let tensor = Tensor::from_f32("w", &[inputs, outputs], &values);
        let layer = Layer::new("w", WeightKind::Matrix, graph.scalar(0.0), tensor);
        let divided = divided(&layer, Format::Int8, &Activations::default()).unwrap();
        let outliers = divided.outliers.unwrap();
        let (read, written) = (outliers.inputs.clone().unwrap(), outliers.outputs.clone().unwrap());
        assert_eq!((&read.channels[..], &written.channels[..], outliers.count()), (&[7][..], &[11][..], 2));
        assert_eq!(outliers.bytes(), 4 * (inputs + outputs) as u64);

        let mut sum = vec![0.0; inputs * outputs];
        let mut row = 0;
        divided
            .weight
            .for_each_row(|values| {
                (0..inputs).for_each(|k| sum[k * outputs + row] += values[k]);
                row += 1;
            })
            .unwrap();
        let of_input = read.weights.to_f32().unwrap();
        (0..outputs).for_each(|row| sum[7 * outputs + row] += of_input[row]);
        let of_output = written.weights.to_f32().unwrap();
        (0..inputs).for_each(|k| sum[k * outputs + 11] += of_output[k]);
        assert_eq!(sum, values);
    }
}
