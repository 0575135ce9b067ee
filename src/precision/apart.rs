//! Channels that are much larger than the rest, multiplied apart from them.
//!
//! Trained towers have a few residual channels tens of times larger than the others. On one grid with
//! them, of inputs or of weights, the others have few steps left; and what is lost of them outweighs all
//! else in the sum. So those that a product reads, and those that it writes, go through a narrow product of
//! their own in floats, which is added to the one in whole numbers (after Dettmers et al. 2022, LLM.int8).

use super::layers::{Layer, Role, Weight};
use super::moments::weighted;
use super::Study;
use crate::tensor::{Error, Tensor};

/// A channel whose mean square is so many times the middle one's is large.
const LARGE: f32 = 36.0;

/// One channel in so many, at most, goes apart.
const FEW: usize = 48;

/// What of a product goes apart.
#[derive(Clone)]
pub struct Apart {
    pub channels: Channels,
    /// Of columns `[columns, out]`, of rows `[in, rows]`.
    pub weights: Tensor,
    /// All of it.
    pub whole: Weight,
}

/// What channels are to a product.
#[derive(Clone)]
pub enum Channels {
    /// Read.
    Columns(Vec<usize>),
    /// Written.
    Rows(Vec<usize>),
}

impl Apart {
    /// How many channels.
    pub fn len(&self) -> usize {
        match &self.channels {
            Channels::Columns(channels) | Channels::Rows(channels) => channels.len(),
        }
    }
}

/// Channels that are large, in order; none where the middle one is nought.
pub fn large(moments: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..moments.len()).collect();
    order.sort_by(|&a, &b| moments[b].total_cmp(&moments[a]));
    let Some(middle) = order.get(order.len() / 2).map(|&at| moments[at]) else { return vec![] };
    let least = middle * LARGE;
    let mut large: Vec<usize> =
        order.into_iter().take(moments.len() / FEW).filter(|&at| middle > 0.0 && moments[at] > least).collect();
    large.sort_unstable();
    large
}

/// A layer with what goes apart taken from its weight.
///
/// # Errors
/// What reading the weight reports.
pub fn taken(layer: &Layer, study: &Study) -> Result<Layer, Error> {
    if layer.role != Role::Factor {
        return Ok(layer.clone());
    }
    let whole = &layer.weight;
    let [_, columns] = whole.rows();
    let moments = study.moments(layer.input);
    let read = if moments.len() == columns { large(&moments) } else { vec![] };
    let (weight, channels, weights) = if !read.is_empty() {
        let one = |&k: &usize| Ok(whole.tensor.rows(k..k + 1)?.scaled(f64::from(whole.gain(k))));
        let weights = Tensor::concat(&read.iter().map(one).collect::<Result<Vec<_>, Error>>()?)?;
        let gains = (0..columns).map(|k| if read.contains(&k) { 0.0 } else { whole.gain(k) });
        (whole.with_gains(gains.collect()), Channels::Columns(read), weights)
    } else if whole.gains.is_none() {
        let written = large(&weighted(whole, &moments, 1)?);
        if written.is_empty() {
            return Ok(layer.clone());
        }
        let turned = whole.tensor.permute(&[1, 0]);
        let weights = written.iter().map(|&r| turned.rows(r..r + 1)).collect::<Result<Vec<_>, Error>>()?;
        let weights = Tensor::concat(&weights)?.permute(&[1, 0]);
        (whole.without_rows(&written), Channels::Rows(written), weights)
    } else {
        return Ok(layer.clone());
    };
    let apart = Apart { channels, weights, whole: whole.clone() };
    Ok(Layer { weight, apart: Some(apart), ..layer.clone() })
}
