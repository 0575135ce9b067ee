//! Whole numbers for weights: which scale loses least.
//!
//! What a layer loses is Σ m (w − q s)² over its weights, with m the mean square of what each is
//! multiplied with: a scale is chosen by that, not by the largest weight alone.

/// Largest int8: −128 is not used, so that the grid is the same both ways.
pub const INT8: f32 = 127.0;

/// Largest int8 of products in whole numbers. CPUs without VNNI add two of them in 16 bits: with numbers up
/// to 127 enough of those sums overflow to lose more than half the digits, up to 90 next to none do.
pub const INT8_DYNAMIC: f32 = 90.0;

/// Up to this no sum of two products with a byte passes 16 bits.
pub const INT7: f32 = 63.0;

use multiversion::multiversion;

/// Numbers that share a scale in int4.
pub const BLOCK: usize = 32;

/// What stands for nought in int4 where there are no zero points.
pub const MIDDLE: f32 = 8.0;

/// How far below the largest number a scale is looked for: clipping one number may serve the rest.
const SHRINK_INT8: [f32; 6] = [1.0, 0.96, 0.92, 0.87, 0.82, 0.76];
const SHRINK_INT4: [f32; 5] = [1.0, 0.94, 0.88, 0.81, 0.73];

/// Sums side by side, so that they need not wait for one another.
const LANES: usize = 8;

/// Whole numbers from `low` to `high`.
#[derive(Clone, Copy)]
struct Grid {
    low: f32,
    high: f32,
}

/// A scale, the number that stands for nought, and the weighted squares they lose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub scale: f32,
    pub zero: f32,
    pub lost: f32,
}

/// To the nearest whole number, ties to even, for what is below 2²²: an addition that pushes the
/// fraction out, in place of a call.
#[inline(always)]
pub fn round(v: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (v + SHIFT) - SHIFT
}

impl Grid {
    #[inline(always)]
    fn number(self, v: f32, inverse: f32) -> f32 {
        round((v * inverse).max(self.low).min(self.high))
    }

    /// Σ m (v − q s)².
    #[inline(always)]
    fn lost(self, values: &[f32], moments: &[f32], scale: f32) -> f32 {
        let inverse = 1.0 / scale;
        let term = |v: f32, m: f32| {
            let error = v - self.number(v, inverse) * scale;
            m * error * error
        };
        summed(values, moments, term)
    }

    /// Σ m v q and Σ m q² for the whole numbers that `scale` gives.
    #[inline(always)]
    fn products(self, values: &[f32], moments: &[f32], scale: f32) -> (f32, f32) {
        let inverse = 1.0 / scale;
        let (mut vq, mut qq) = ([0f32; LANES], [0f32; LANES]);
        let (mut v, mut m) = (values.chunks_exact(LANES), moments.chunks_exact(LANES));
        for (v, m) in v.by_ref().zip(m.by_ref()) {
            for lane in 0..LANES {
                let q = self.number(v[lane], inverse);
                vq[lane] += m[lane] * v[lane] * q;
                qq[lane] += m[lane] * q * q;
            }
        }
        for (lane, (&v, &m)) in v.remainder().iter().zip(m.remainder()).enumerate() {
            let q = self.number(v, inverse);
            vq[lane] += m * v * q;
            qq[lane] += m * q * q;
        }
        (vq.iter().sum(), qq.iter().sum())
    }

    /// The scale that fits best the whole numbers that `scale` gives, Σ m v q / Σ m q².
    #[inline(always)]
    fn refit(self, values: &[f32], moments: &[f32], scale: f32) -> f32 {
        let (vq, qq) = self.products(values, moments, scale);
        usable(vq / qq).unwrap_or(scale)
    }

    /// The best of `scales`, each refitted: of the numbers it gives, what is left is Σ m v² − (Σ m v q)² /
    /// Σ m q².
    #[inline(always)]
    fn best(self, values: &[f32], moments: &[f32], scales: &[f32]) -> Fit {
        let (mut best, mut most) = (scales[0], f32::NEG_INFINITY);
        for &scale in scales {
            let (vq, qq) = self.products(values, moments, scale);
            let explained = vq * vq / qq;
            if explained > most
                && let Some(refitted) = usable(vq / qq)
            {
                (best, most) = (refitted, explained);
            }
        }
        let scale = self.refit(values, moments, best);
        Fit { scale, zero: -self.low, lost: self.lost(values, moments, scale) }
    }
}

/// A scale that can be divided by.
#[inline(always)]
fn usable(scale: f32) -> Option<f32> {
    (scale.is_finite() && scale.abs() > f32::MIN_POSITIVE).then_some(scale)
}

#[inline(always)]
fn summed(values: &[f32], moments: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (mut values, mut moments) = (values.chunks_exact(LANES), moments.chunks_exact(LANES));
    for (v, m) in values.by_ref().zip(moments.by_ref()) {
        for lane in 0..LANES {
            sums[lane] += term(v[lane], m[lane]);
        }
    }
    let rest = values.remainder().iter().zip(moments.remainder()).map(|(&v, &m)| term(v, m)).sum::<f32>();
    sums.iter().sum::<f32>() + rest
}

/// Σ m v².
#[multiversion(targets("x86_64+avx2"))]
pub fn energy(values: &[f32], moments: &[f32]) -> f32 {
    summed(values, moments, |v, m| m * v * v)
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

/// Σ v² g² and the largest |v g| of a row whose numbers are multiplied with `gains`.
#[multiversion(targets("x86_64+avx2"))]
pub fn gained(values: &[f32], gains: &[f32]) -> (f32, f32) {
    let (mut sums, mut most) = ([0f32; LANES], [0f32; LANES]);
    let (mut v, mut g) = (values.chunks_exact(LANES), gains.chunks_exact(LANES));
    for (v, g) in v.by_ref().zip(g.by_ref()) {
        for lane in 0..LANES {
            let x = (v[lane] * g[lane]).abs();
            sums[lane] += x * x;
            most[lane] = if x > most[lane] { x } else { most[lane] };
        }
    }
    for (lane, (v, g)) in v.remainder().iter().zip(g.remainder()).enumerate() {
        let x = (v * g).abs();
        sums[lane] += x * x;
        most[lane] = most[lane].max(x);
    }
    (sums.iter().sum(), most.iter().fold(0.0, |most, x| most.max(*x)))
}

/// A row in int8 between −`limit` and `limit`.
#[multiversion(targets("x86_64+avx2"))]
pub fn int8(values: &[f32], moments: &[f32], limit: f32) -> Fit {
    let most = largest(values);
    if most == 0.0 {
        return Fit { scale: 1.0, zero: 0.0, lost: 0.0 };
    }
    let grid = Grid { low: -limit, high: limit };
    let mut best = Fit { scale: most / limit, zero: 0.0, lost: f32::INFINITY };
    for shrink in SHRINK_INT8 {
        let scale = most * shrink / limit;
        let lost = grid.lost(values, moments, scale);
        if lost < best.lost {
            best = Fit { scale, lost, ..best };
        }
    }
    let scale = grid.refit(values, moments, best.scale);
    let lost = grid.lost(values, moments, scale);
    if lost < best.lost { Fit { scale, lost, ..best } } else { best }
}

/// A block in int4, numbers from −8 to 7 times a scale. The scale may be negative, so that the number the
/// grid has once more lies on the side that needs it.
#[multiversion(targets("x86_64+avx2"))]
pub fn int4(values: &[f32], moments: &[f32]) -> Fit {
    let most = values.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
    if most == 0.0 {
        return Fit { scale: 1.0, zero: MIDDLE, lost: 0.0 };
    }
    let grid = Grid { low: -8.0, high: 7.0 };
    let mut scales = [0f32; 2 * SHRINK_INT4.len()];
    for (pair, shrink) in scales.chunks_exact_mut(2).zip(SHRINK_INT4) {
        (pair[0], pair[1]) = (most / -8.0 * shrink, most / 7.0 * shrink);
    }
    grid.best(values, moments, &scales)
}

/// A block in int4 with a zero point of its own, or without where that loses less.
#[multiversion(targets("x86_64+avx2"))]
pub fn int4_with_zero(values: &[f32], moments: &[f32]) -> Fit {
    let mut best = int4(values, moments);
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
                let fit = Grid { low: -zero, high: 15.0 - zero }.best(values, moments, &[scale]);
                if fit.lost < best.lost {
                    best = fit;
                }
            }
        }
    }
    best
}

/// Numbers of a block as they are stored, 0 to 15.
pub fn numbers(values: &[f32], fit: &Fit) -> impl Iterator<Item = u8> {
    let (inverse, zero) = (1.0 / fit.scale, fit.zero);
    let grid = Grid { low: -zero, high: 15.0 - zero };
    values.iter().map(move |&v| (grid.number(v, inverse) + zero) as u8)
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

    /// Weighted squares by definition.
    fn lost(values: &[f32], moments: &[f32], fit: &Fit) -> f64 {
        let stored = numbers(values, fit);
        let one = |((v, m), q): ((&f32, &f32), u8)| {
            f64::from(*m) * f64::from(v - (f32::from(q) - fit.zero) * fit.scale).powi(2)
        };
        values.iter().zip(moments).zip(stored).map(one).sum()
    }

    #[test]
    fn sums_in_lanes_are_sums() {
        for n in [1, 7, 8, 31, 64, 100] {
            let (values, gains) = (noise(n), noise(n));
            let expected: f32 = values.iter().zip(&gains).map(|(v, g)| (v * g) * (v * g)).sum();
            let most = values.iter().zip(&gains).fold(0.0f32, |m, (v, g)| m.max((v * g).abs()));
            let (sum, largest) = gained(&values, &gains);
            assert!((sum - expected).abs() <= 1e-5 * expected && largest == most, "{n}");
            assert_eq!(super::largest(&values), values.iter().fold(0.0f32, |m, v| m.max(v.abs())));
            let moments: Vec<f32> = gains.iter().map(|g| g * g).collect();
            assert!((energy(&values, &moments) - expected).abs() <= 1e-5 * expected, "{n}");
        }
    }

    #[test]
    fn chosen_scales_lose_less_than_plain_rounding() {
        let values = noise(BLOCK * 40);
        let moments: Vec<f32> = (0..values.len()).map(|at| if at % 13 == 0 { 30.0 } else { 1.0 }).collect();
        let (mut plain, mut chosen, mut with_zero) = (0.0, 0.0, 0.0);
        for (values, moments) in values.chunks(BLOCK).zip(moments.chunks(BLOCK)) {
            let most = values.iter().fold(0.0f32, |m, &v| if v.abs() > m.abs() { v } else { m });
            plain += lost(values, moments, &Fit { scale: most / -8.0, zero: MIDDLE, lost: 0.0 });
            let fit = int4(values, moments);
            assert!((lost(values, moments, &fit) - f64::from(fit.lost)).abs() < 1e-4 * f64::from(fit.lost));
            chosen += lost(values, moments, &fit);
            with_zero += lost(values, moments, &int4_with_zero(values, moments));
        }
        assert!(chosen < 0.8 * plain && with_zero < chosen, "{plain} {chosen} {with_zero}");
    }

    #[test]
    fn rows_of_nothing_and_of_one_number_stay_what_they_are() {
        let ones = [1.0; BLOCK];
        for value in [0.0f32, 3.5, -1e-30, 1e30] {
            let values = [value; BLOCK];
            for fit in [int4(&values, &ones), int4_with_zero(&values, &ones)] {
                for q in numbers(&values, &fit) {
                    let back = (f32::from(q) - fit.zero) * fit.scale;
                    assert!((back - value).abs() <= value.abs() * 1e-6, "{value} came back as {back}");
                }
            }
            let fit = int8(&values, &ones, 127.0);
            let back = round((value / fit.scale).clamp(-127.0, 127.0)) * fit.scale;
            assert!((back - value).abs() <= value.abs() * 1e-6, "{value} came back as {back}");
        }
    }
}
