//! Scales of integer weights: which loses least.
//!
//! A row or block of weights w is stored as integers q and a scale s. Its error is Σ m (w − q s)², with m the mean square of
//! what each weight is multiplied with: scales are chosen by that, not by the largest weight alone.

use multiversion::multiversion;

/// Largest int8: −128 is not used, so that the grid is symmetric.
pub const INT8: f32 = 127.0;

/// Largest int8 weight of integer products. CPUs without VNNI add two of them in 16 bits: with numbers up
/// to 127 enough of those sums overflow to lose more than half the digits, up to 90 next to none do.
pub const INT8_DYNAMIC: f32 = 90.0;

/// Up to this no sum of two products with a byte passes 16 bits.
pub const INT7: f32 = 63.0;

/// Numbers that share a scale in int4.
pub const BLOCK: usize = 32;

/// The zero point of int4 blocks that have none of their own, stored as 0 to 15.
pub const MIDDLE: f32 = 8.0;

/// Scales that are tried, as shares of the one that just holds the largest number: clipping it may serve the rest.
const SHRINK_INT8: [f32; 6] = [1.0, 0.96, 0.92, 0.87, 0.82, 0.76];
const SHRINK_INT4: [f32; 5] = [1.0, 0.94, 0.88, 0.81, 0.73];

/// Independent partial sums, for SIMD.
const LANES: usize = 8;

/// Integers from `low` to `high`.
#[derive(Clone, Copy)]
struct Grid {
    low: f32,
    high: f32,
}

/// How a row or block is quantized, w ≈ (q − zero point) · scale, and its error Σ m (w − ŵ)².
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub scale: f32,
    pub zero_point: f32,
    pub error: f32,
}

/// To the nearest integer, ties to even, of numbers below 2²²: the addition leaves no bits for the fraction, and takes the
/// place of a call.
#[inline(always)]
pub fn round(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

impl Grid {
    #[inline(always)]
    fn quantize(self, v: f32, inverse: f32) -> f32 {
        round((v * inverse).max(self.low).min(self.high))
    }

    /// Σ m (v − q s)².
    #[inline(always)]
    fn error(self, values: &[f32], mean_squares: &[f32], scale: f32) -> f32 {
        let inverse = 1.0 / scale;
        let term = |v: f32, m: f32| {
            let error = v - self.quantize(v, inverse) * scale;
            m * error * error
        };
        summed(values, mean_squares, term)
    }

    /// Σ m v q and Σ m q² for the integers that `scale` gives.
    #[inline(always)]
    fn products(self, values: &[f32], mean_squares: &[f32], scale: f32) -> (f32, f32) {
        let inverse = 1.0 / scale;
        let (mut vq, mut qq) = ([0f32; LANES], [0f32; LANES]);
        let (mut v, mut m) = (values.chunks_exact(LANES), mean_squares.chunks_exact(LANES));
        for (v, m) in v.by_ref().zip(m.by_ref()) {
            for lane in 0..LANES {
                let q = self.quantize(v[lane], inverse);
                vq[lane] += m[lane] * v[lane] * q;
                qq[lane] += m[lane] * q * q;
            }
        }
        for (lane, (&v, &m)) in v.remainder().iter().zip(m.remainder()).enumerate() {
            let q = self.quantize(v, inverse);
            vq[lane] += m * v * q;
            qq[lane] += m * q * q;
        }
        (vq.iter().sum(), qq.iter().sum())
    }

    /// The scale of least error for the integers that `scale` gives, Σ m v q / Σ m q².
    #[inline(always)]
    fn refit(self, values: &[f32], mean_squares: &[f32], scale: f32) -> f32 {
        let (vq, qq) = self.products(values, mean_squares, scale);
        usable(vq / qq).unwrap_or(scale)
    }

    /// The best of `scales`, each refitted: the error that is left for its integers is Σ m v² − (Σ m v q)² / Σ m q².
    #[inline(always)]
    fn best(self, values: &[f32], mean_squares: &[f32], scales: &[f32]) -> Fit {
        let (mut best, mut most) = (scales[0], f32::NEG_INFINITY);
        for &scale in scales {
            let (vq, qq) = self.products(values, mean_squares, scale);
            let explained = vq * vq / qq;
            if explained > most
                && let Some(refitted) = usable(vq / qq)
            {
                (best, most) = (refitted, explained);
            }
        }
        let scale = self.refit(values, mean_squares, best);
        Fit { scale, zero_point: -self.low, error: self.error(values, mean_squares, scale) }
    }
}

/// A scale that can be divided by.
#[inline(always)]
fn usable(scale: f32) -> Option<f32> {
    (scale.is_finite() && scale.abs() > f32::MIN_POSITIVE).then_some(scale)
}

#[inline(always)]
fn summed(values: &[f32], mean_squares: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (mut values, mut mean_squares) = (values.chunks_exact(LANES), mean_squares.chunks_exact(LANES));
    for (v, m) in values.by_ref().zip(mean_squares.by_ref()) {
        for lane in 0..LANES {
            sums[lane] += term(v[lane], m[lane]);
        }
    }
    let rest = values.remainder().iter().zip(mean_squares.remainder()).map(|(&v, &m)| term(v, m)).sum::<f32>();
    sums.iter().sum::<f32>() + rest
}

/// Σ m v².
#[multiversion(targets("x86_64+avx2"))]
pub fn energy(values: &[f32], mean_squares: &[f32]) -> f32 {
    summed(values, mean_squares, |v, m| m * v * v)
}

/// Largest absolute value.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut most = [0f32; LANES];
    let mut values = values.chunks_exact(LANES);
    for v in values.by_ref() {
        for lane in 0..LANES {
            most[lane] = if v[lane].abs() > most[lane] { v[lane].abs() } else { most[lane] };
        }
    }
    values.remainder().iter().chain(&most).fold(0.0, |most, v| most.max(v.abs()))
}

/// Σ (v f)² and the largest |v f| of a row whose numbers are multiplied with `factors`.
#[multiversion(targets("x86_64+avx2"))]
pub fn scaled_energy(values: &[f32], factors: &[f32]) -> (f32, f32) {
    let (mut sums, mut most) = ([0f32; LANES], [0f32; LANES]);
    let (mut v, mut f) = (values.chunks_exact(LANES), factors.chunks_exact(LANES));
    for (v, f) in v.by_ref().zip(f.by_ref()) {
        for lane in 0..LANES {
            let x = (v[lane] * f[lane]).abs();
            sums[lane] += x * x;
            most[lane] = if x > most[lane] { x } else { most[lane] };
        }
    }
    for (lane, (v, f)) in v.remainder().iter().zip(f.remainder()).enumerate() {
        let x = (v * f).abs();
        sums[lane] += x * x;
        most[lane] = most[lane].max(x);
    }
    (sums.iter().sum(), most.iter().fold(0.0, |most, x| most.max(*x)))
}

/// A row in int8 between −`limit` and `limit`.
#[multiversion(targets("x86_64+avx2"))]
pub fn int8(values: &[f32], mean_squares: &[f32], limit: f32) -> Fit {
    let most = largest(values);
    if most == 0.0 {
        return Fit { scale: 1.0, zero_point: 0.0, error: 0.0 };
    }
    let grid = Grid { low: -limit, high: limit };
    let mut best = Fit { scale: most / limit, zero_point: 0.0, error: f32::INFINITY };
    for shrink in SHRINK_INT8 {
        let scale = most * shrink / limit;
        let error = grid.error(values, mean_squares, scale);
        if error < best.error {
            best = Fit { scale, error, ..best };
        }
    }
    let scale = grid.refit(values, mean_squares, best.scale);
    let error = grid.error(values, mean_squares, scale);
    if error < best.error { Fit { scale, error, ..best } } else { best }
}

/// A block in int4, integers from −8 to 7 times a scale. The scale may be negative, so that −8 lies on the side of the
/// largest number.
#[multiversion(targets("x86_64+avx2"))]
pub fn int4(values: &[f32], mean_squares: &[f32]) -> Fit {
    let most = values.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    if most == 0.0 {
        return Fit { scale: 1.0, zero_point: MIDDLE, error: 0.0 };
    }
    let grid = Grid { low: -8.0, high: 7.0 };
    let mut scales = [0f32; 2 * SHRINK_INT4.len()];
    for (pair, shrink) in scales.chunks_exact_mut(2).zip(SHRINK_INT4) {
        (pair[0], pair[1]) = (most / -8.0 * shrink, most / 7.0 * shrink);
    }
    grid.best(values, mean_squares, &scales)
}

/// A block in int4 with a zero point of its own, or with the middle one where its error is less.
#[multiversion(targets("x86_64+avx2"))]
pub fn int4_with_zero(values: &[f32], mean_squares: &[f32]) -> Fit {
    let mut best = int4(values, mean_squares);
    let low = values.iter().fold(0.0f32, |least, &v| least.min(v));
    let high = values.iter().fold(0.0f32, |most, &v| most.max(v));
    if low == high {
        return best;
    }
    for shrink in SHRINK_INT4 {
        let scale = (high - low) * shrink / 15.0;
        let middle = round(-low * shrink / scale).clamp(0.0, 15.0);
        for zero in [middle - 1.0, middle, middle + 1.0] {
            if (0.0..=15.0).contains(&zero) {
                let fit = Grid { low: -zero, high: 15.0 - zero }.best(values, mean_squares, &[scale]);
                if fit.error < best.error {
                    best = fit;
                }
            }
        }
    }
    best
}

/// A row in int8, of this scale, between −`limit` and `limit`.
pub fn int8_values(row: &[f32], scale: f32, limit: f32) -> impl Iterator<Item = f32> {
    row.iter().map(move |v| round((v / scale).clamp(-limit, limit)))
}

/// A block in int4 as it is stored, 0 to 15.
pub fn int4_values(values: &[f32], fit: &Fit) -> impl Iterator<Item = u8> {
    let (inverse, zero) = (1.0 / fit.scale, fit.zero_point);
    let grid = Grid { low: -zero, high: 15.0 - zero };
    values.iter().map(move |&v| (grid.quantize(v, inverse) + zero) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        // Sums of uniform numbers are close to normal ones.
        (0..n).map(|_| (0..6).map(|_| next()).sum()).collect()
    }

    /// Σ m (w − (q − zero point) s)², by definition.
    fn error(values: &[f32], mean_squares: &[f32], fit: &Fit) -> f64 {
        let restored = int4_values(values, fit).map(|q| (f32::from(q) - fit.zero_point) * fit.scale);
        let terms = values.iter().zip(mean_squares).zip(restored);
        terms.map(|((w, m), restored)| f64::from(*m) * f64::from(w - restored).powi(2)).sum()
    }

    #[test]
    fn sums_in_lanes_are_sums() {
        for n in [1, 7, 8, 31, 64, 100] {
            let (values, factors) = (noise(n), noise(n));
            let expected: f32 = values.iter().zip(&factors).map(|(v, f)| (v * f) * (v * f)).sum();
            let most = values.iter().zip(&factors).fold(0.0f32, |m, (v, f)| m.max((v * f).abs()));
            let (sum, largest) = scaled_energy(&values, &factors);
            assert!((sum - expected).abs() <= 1e-5 * expected && largest == most, "{n}");
            assert_eq!(super::largest(&values), values.iter().fold(0.0f32, |m, v| m.max(v.abs())));
            let mean_squares: Vec<f32> = factors.iter().map(|f| f * f).collect();
            assert!((energy(&values, &mean_squares) - expected).abs() <= 1e-5 * expected, "{n}");
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_integer_and_ties_are_even() {
        for v in [0.0f32, 0.49, 0.5, 1.5, 2.5, -0.5, -1.5, -2.51, 126.5, 4_000_000.0] {
            assert_eq!(round(v), v.round_ties_even(), "{v}");
        }
    }

    /// Half a step at most where nothing is clipped, and never more in all than with the largest number as the bound.
    #[test]
    fn int8_rows_are_off_by_half_a_step_at_most() {
        for limit in [INT8, INT8_DYNAMIC, INT7] {
            let row = noise(100);
            let ones = vec![1.0; row.len()];
            let error = |scale: f32| -> f32 {
                int8_values(&row, scale, limit).zip(&row).map(|(q, v)| (v - q * scale).powi(2)).sum()
            };
            let fit = int8(&row, &ones, limit);
            for (q, v) in int8_values(&row, fit.scale, limit).zip(&row) {
                assert!(q.abs() <= limit);
                let held = v.abs() <= limit * fit.scale;
                assert!(!held || (v - q * fit.scale).abs() <= fit.scale * 0.5001, "{v} of {fit:?}");
            }
            let plain = error(largest(&row) / limit);
            assert!(error(fit.scale) <= plain * 1.0001 && (error(fit.scale) - fit.error).abs() <= 1e-3 * plain);
        }
    }

    /// A weight whose input is zero may be clipped; one whose input is large may not.
    #[test]
    fn errors_count_by_what_weights_are_multiplied_with() {
        let mut row = noise(64);
        row[10] = 40.0;
        let mut mean_squares = vec![1.0; 64];
        mean_squares[10] = 0.0;
        let scales = [&mean_squares, &vec![1.0; 64]].map(|mean_squares| int8(&row, mean_squares, INT8).scale);
        assert!(scales[0] < 0.8 * scales[1], "{scales:?}");
    }

    #[test]
    fn chosen_scales_lose_less_than_plain_rounding() {
        let values = noise(BLOCK * 40);
        let mean_squares: Vec<f32> = (0..values.len()).map(|at| if at % 13 == 0 { 30.0 } else { 1.0 }).collect();
        let (mut plain, mut chosen, mut with_zero) = (0.0, 0.0, 0.0);
        for (values, mean_squares) in values.chunks(BLOCK).zip(mean_squares.chunks(BLOCK)) {
            let most = values.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            plain += error(values, mean_squares, &Fit { scale: most / -8.0, zero_point: MIDDLE, error: 0.0 });
            let fit = int4(values, mean_squares);
            assert!((error(values, mean_squares, &fit) - f64::from(fit.error)).abs() < 1e-4 * f64::from(fit.error));
            chosen += error(values, mean_squares, &fit);
            with_zero += error(values, mean_squares, &int4_with_zero(values, mean_squares));
        }
        assert!(chosen < 0.8 * plain && with_zero < chosen, "{plain} {chosen} {with_zero}");
    }

    #[test]
    fn rows_of_zeros_and_of_one_number_are_exact() {
        let ones = [1.0; BLOCK];
        for value in [0.0f32, 3.5, -1e-30, 1e30] {
            let values = [value; BLOCK];
            let restored = |back: f32| {
                assert!((back - value).abs() <= value.abs() * 1e-6, "{value} came back as {back}");
            };
            for fit in [int4(&values, &ones), int4_with_zero(&values, &ones)] {
                int4_values(&values, &fit).for_each(|q| restored((f32::from(q) - fit.zero_point) * fit.scale));
            }
            let fit = int8(&values, &ones, INT8);
            int8_values(&values, fit.scale, INT8).for_each(|q| restored(q * fit.scale));
        }
    }
}
