//! Channels that are much larger than the rest, multiplied apart from them.
//!
//! Trained towers have a few residual channels tens of times larger than the others. On one grid with
//! them, of inputs or of weights, the others have few steps left; and what is lost of them outweighs all
//! else in the sum. So those that a product reads, and those that it writes, go through a narrow product of
//! their own in floats, which is added to the one in whole numbers (after Dettmers et al. 2022, LLM.int8).

use super::grid::{BLOCK, largest};
use super::layers::{Layer, Role, Weight};
use super::{Precision, Study};
use crate::tensor::{Error, Tensor};

/// What is so many times the middle one, in squares, is large.
const LARGE: f32 = 36.0;

/// One channel in so many, at most, goes apart.
const FEW: usize = 48;

/// Numbers of a table's row that share a scale: with one for all, half as much again is lost, in squares.
const PIECE: usize = 128;

/// What of a product goes apart.
#[derive(Clone)]
pub struct Apart {
    /// Columns it reads, and their weights `[columns, out]`.
    pub columns: Option<(Vec<usize>, Tensor)>,
    /// Rows it writes, and their weights `[in, rows]`, nought in those columns.
    pub rows: Option<(Vec<usize>, Tensor)>,
    /// All of it.
    pub whole: Weight,
}

impl Apart {
    /// How many channels.
    pub fn len(&self) -> usize {
        [&self.columns, &self.rows].into_iter().flatten().map(|(channels, _)| channels.len()).sum()
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> u64 {
        [&self.columns, &self.rows].into_iter().flatten().map(|(_, weights)| weights.len() as u64 * 4).sum()
    }
}

/// Which are large, in order; none where the middle one is nought.
pub fn large(squares: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..squares.len()).collect();
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    let Some(middle) = order.get(order.len() / 2).map(|&at| squares[at]) else { return vec![] };
    let least = middle * LARGE;
    let mut large: Vec<usize> =
        order.into_iter().take(squares.len() / FEW).filter(|&at| middle > 0.0 && squares[at] > least).collect();
    large.sort_unstable();
    large
}

/// A layer with what goes apart taken from its weight: columns that meet what is large or are large, and rows
/// of which much would be lost, because they are large or a few of their numbers are.
///
/// # Errors
/// What reading the weight reports.
pub fn taken(layer: &Layer, precision: Precision, study: &Study) -> Result<Layer, Error> {
    let whole = &layer.weight;
    if layer.role == Role::Table {
        let [rows, width] = whole.rows();
        if width % PIECE != 0 {
            return Ok(layer.clone());
        }
        let pieces = whole.tensor.reshape(&[rows, width / PIECE, PIECE])?;
        let apart = Apart { columns: None, rows: None, whole: whole.clone() };
        return Ok(Layer { weight: Weight::new(pieces, Role::Table), apart: Some(apart), ..layer.clone() });
    }
    if layer.role != Role::Factor {
        return Ok(layer.clone());
    }
    let [_, columns] = whole.rows();
    let moments = study.moments(layer.input);
    // What is large in the input takes the others' range there, what is large in the weight that of rows.
    let mut read = if moments.len() == columns { large(&moments) } else { vec![] };
    let weighty = large(&squares_of_columns(whole)?);
    read.extend(weighty.into_iter().filter(|k| !read.contains(k)).collect::<Vec<_>>());
    read.sort_unstable();
    let mut rest = whole.clone();
    let mut apart = Apart { columns: None, rows: None, whole: whole.clone() };
    if !read.is_empty() {
        let one = |&k: &usize| Ok(whole.tensor.rows(k..k + 1)?.scaled(f64::from(whole.gain(k))));
        let weights = Tensor::concat(&read.iter().map(one).collect::<Result<Vec<_>, Error>>()?)?;
        let gains = (0..columns).map(|k| if read.contains(&k) { 0.0 } else { whole.gain(k) });
        rest = rest.with_gains(gains.collect());
        apart.columns = Some((read, weights));
    }
    let written = large(&steps(&rest, precision)?);
    if !written.is_empty() {
        let (mut values, mut at) = (Vec::new(), 0);
        rest.for_each_rows(|block| {
            for row in block.chunks_exact(columns) {
                if written.contains(&at) {
                    values.extend_from_slice(row);
                }
                at += 1;
            }
            Ok::<(), Error>(())
        })?;
        let name = whole.tensor.source_names().join("`, `");
        let weights = Tensor::from_f32(&name, &[written.len(), columns], &values).permute(&[1, 0]);
        rest = rest.without_rows(&written);
        apart.rows = Some((written, weights));
    }
    let any = apart.len() > 0;
    Ok(Layer { weight: rest, apart: any.then_some(apart), ..layer.clone() })
}

/// Of each column, over all rows.
fn squares_of_columns(weight: &Weight) -> Result<Vec<f32>, Error> {
    let [_, columns] = weight.rows();
    let mut squares = vec![0f32; columns];
    weight.for_each_rows(|rows| {
        for row in rows.chunks_exact(columns) {
            squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
        }
        Ok::<(), Error>(())
    })?;
    Ok(squares)
}

/// Of each row the square of its largest number, to which its step goes; of rows in blocks their sum.
fn steps(weight: &Weight, precision: Precision) -> Result<Vec<f32>, Error> {
    let [_, columns] = weight.rows();
    let block = if matches!(precision, Precision::Int4 | Precision::Int4Fp16) { BLOCK } else { columns };
    let mut steps = Vec::new();
    weight.for_each_rows(|rows| {
        let step = |row: &[f32]| -> f32 { row.chunks(block).map(|values| largest(values).powi(2)).sum() };
        steps.extend(rows.chunks_exact(columns).map(step));
        Ok::<(), Error>(())
    })?;
    Ok(steps)
}
