//! Resampling a grid of positions to another image size.
//!
//! The rule depends on whose numbers are to be reproduced: big_vision zooms with corners
//! aligned (`scipy.ndimage.zoom`, order 1), open_clip and timm use antialiased bicubic with
//! half-pixel centres (`F.interpolate`), and NaFlex antialiased bilinear.

use super::{Error, Params};
use crate::config::{Dialect, ModelConfig, PositionLayout, Positions};
use crate::tensor::Tensor;

/// How a grid becomes another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// First and last samples stay where they are.
    CornerAligned,
    /// Triangle filter, widened when shrinking.
    AntialiasedBilinear,
    /// Cubic filter with a = -½, widened when shrinking.
    AntialiasedBicubic,
    /// Cubic filter with a = -¾ over four samples, the border repeated: torch's without antialias.
    Bicubic,
}

impl Rule {
    /// The rule the authors of a tower use, or those of the dialect it is run in.
    pub fn of(positions: &Positions, dialect: Dialect) -> Rule {
        match (positions.layout, dialect) {
            (PositionLayout::Grid, _) => Rule::AntialiasedBilinear,
            (PositionLayout::Sequence { .. }, Dialect::Original) => Rule::CornerAligned,
            (PositionLayout::Sequence { .. }, Dialect::OpenClip) => Rule::AntialiasedBicubic,
            (PositionLayout::Sequence { .. }, Dialect::Transformers) => Rule::Bicubic,
        }
    }

    /// Weight of input sample `i` of `from` for output sample `o` of `to`, before they are
    /// normalised to sum to one.
    fn weight(self, o: usize, to: usize, i: usize, from: usize) -> f64 {
        let (o, i) = (o as f64, i as f64);
        if self == Rule::CornerAligned {
            let spacing = if to > 1 { (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
            return (1.0 - (o * spacing - i).abs()).max(0.0);
        }
        let ratio = from as f64 / to as f64;
        let x = (((o + 0.5) * ratio - 0.5 - i) / ratio.max(1.0)).abs();
        match self {
            Rule::AntialiasedBicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Rule::AntialiasedBicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Rule::AntialiasedBicubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }

    /// For each output sample, the normalised weights of all input samples.
    fn matrix(self, from: usize, to: usize) -> Vec<Vec<f64>> {
        let row = |o| {
            if self == Rule::Bicubic {
                return four_samples(o, to, from);
            }
            let row: Vec<f64> = (0..from).map(|i| self.weight(o, to, i, from)).collect();
            let sum: f64 = row.iter().sum();
            row.iter().map(|w| w / sum).collect()
        };
        (0..to).map(row).collect()
    }
}

/// Weights of [`Rule::Bicubic`], whose samples beyond the border are the border's own.
fn four_samples(o: usize, to: usize, from: usize) -> Vec<f64> {
    const A: f64 = -0.75;
    let cubic = |x: f64| match x.abs() {
        x if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x => ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A,
    };
    let centre = (o as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
    let mut row = vec![0.0; from];
    for sample in (-1..=2).map(|k| centre.floor() + f64::from(k)) {
        row[sample.clamp(0.0, from as f64 - 1.0) as usize] += cubic(centre - sample);
    }
    row
}

impl Params {
    /// Resamples the image tower's position table `[1, prefix + rows·columns, width]` (NaFlex `[rows, columns, width]`)
    /// from the grid of `from` to that of `to`, the same model at another image size. The class token's row stays as it
    /// is.
    ///
    /// # Errors
    /// A table that is missing or not of `from`'s shape.
    pub fn resize_positions(&mut self, from: &ModelConfig, to: &ModelConfig) -> Result<(), Error> {
        const NAME: &str = "visual.pos_embed";
        let [old, new] = [from, to].map(|config| config.vision_cfg.as_ref()?.family().positions());
        let (Some(old), Some(new)) = (old, new) else { return Ok(()) };
        let (Positions { grid: [rows, columns], width, layout }, grid) = (old, new.grid);
        let prefix = match layout {
            PositionLayout::Sequence { prefix } => prefix,
            PositionLayout::Grid => 0,
        };
        let stored = self.get(NAME, &old.shape())?;
        let resized_shape = [1, prefix + grid[0] * grid[1], width];
        let resized = if grid == [rows, columns] {
            stored.reshape(&resized_shape)?
        } else {
            let values = stored.to_f32()?;
            let (class, patches) = values.split_at(prefix * width);
            let name = stored.source_names().join("`, `");
            let patches = Tensor::from_f32(&name, &[rows, columns, width], patches);
            let new = resample(&patches, grid, Rule::of(&old, from.dialect))?.to_f32()?;
            Tensor::from_f32(&name, &resized_shape, &[class, &new].concat())
        };
        self.insert(NAME, resized);
        Ok(())
    }
}

/// `grid` `[rows, columns, width]` as `[to rows, to columns, width]`, in float64.
///
/// # Errors
/// What reading the tensor reports.
pub fn resample(grid: &Tensor, to: [usize; 2], rule: Rule) -> Result<Tensor, Error> {
    let shape = grid.shape();
    let (rows, columns, width) = (shape[0], shape[1], shape[2]);
    let values = grid.to_f32()?;
    let across = rule.matrix(columns, to[1]);
    let mut wide = vec![0f64; rows * to[1] * width];
    for (at, out) in wide.chunks_exact_mut(width).enumerate() {
        let (row, column) = (at / to[1], at % to[1]);
        for (i, &w) in across[column].iter().enumerate().filter(|&(_, &w)| w != 0.0) {
            let from = &values[(row * columns + i) * width..][..width];
            out.iter_mut().zip(from).for_each(|(out, &v)| *out += w * f64::from(v));
        }
    }
    let down = rule.matrix(rows, to[0]);
    let mut out = Vec::with_capacity(to[0] * to[1] * width);
    for weights in &down {
        let mut line = vec![0f64; to[1] * width];
        for (i, &w) in weights.iter().enumerate().filter(|&(_, &w)| w != 0.0) {
            let from = &wide[i * line.len()..][..line.len()];
            line.iter_mut().zip(from).for_each(|(out, &v)| *out += w * v);
        }
        out.extend(line.iter().map(|&v| v as f32));
    }
    let name = grid.source_names().join("`, `");
    Ok(Tensor::from_f32(&name, &[to[0], to[1], width], &out))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are scipy's and torch's, printed by `scripts/resample_values.py`.
    #[test]
    fn a_ramp_with_a_bump_resamples_as_scipy_and_torch_do() {
        let grid: Vec<f32> = (0..12).map(|i| i as f32 + if i == 5 { 3.0 } else { 0.0 }).collect();
        let grid = Tensor::from_f32("grid", &[3, 4, 1], &grid);
        for (rule, to, expected) in include!("../../tests/resample_values.in") {
            let got = resample(&grid, to, rule).unwrap().to_f32().unwrap();
            assert_eq!(got.len(), expected.len());
            for (got, want) in got.iter().zip(expected) {
                // torch sums in float32: two units in the last digit of the largest value, 11.
                assert!((got - want).abs() < 2.0 * f32::EPSILON * 11.0, "{rule:?} {to:?}: {got} {want}");
            }
        }
    }

    #[test]
    fn every_rule_keeps_a_grid_of_its_own_size() {
        let values: Vec<f32> = (0..30).map(|i| (i * i % 17) as f32).collect();
        let grid = Tensor::from_f32("grid", &[3, 5, 2], &values);
        for rule in [Rule::CornerAligned, Rule::AntialiasedBilinear, Rule::AntialiasedBicubic, Rule::Bicubic] {
            assert_eq!(resample(&grid, [3, 5], rule).unwrap().to_f32().unwrap(), values, "{rule:?}");
        }
    }
}
