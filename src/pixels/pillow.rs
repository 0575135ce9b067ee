//! Resizing as Pillow 13 does it, byte for byte (`src/libImaging/Resample.c`): weights in fixed point, of 22 bits, along
//! rows and along columns, to bytes in between.

use std::borrow::Cow;

use multiversion::multiversion;

use super::Picture;
use crate::config::Interpolation;

/// Bits behind the point of a weight: eight are the byte's, two for sums below zero and above one.
const BITS: u32 = 32 - 8 - 2;

/// To `[height, width]`. What is made smaller is averaged. Colours count by their alpha, which is gone afterwards.
pub fn pillow(picture: &Picture, [height, width]: [usize; 2], interpolation: Interpolation) -> Picture {
    if [picture.height, picture.width] == [height, width] {
        return picture.opaque().into_owned();
    }
    if interpolation == Interpolation::Nearest {
        return nearest(&picture.opaque(), [height, width]);
    }
    let mut now = Cow::Borrowed(picture);
    let has_alpha = now.channels == 4;
    if has_alpha {
        now.to_mut().values.chunks_exact_mut(4).for_each(multiplied);
    }
    // Along rows first, unless the height loses more than twice what the width does.
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let columns_first = height < picture.height && lost(picture.height, height) > 2 * lost(picture.width, width);
    for along_columns in [columns_first, !columns_first] {
        if (along_columns && now.height == height) || (!along_columns && now.width == width) {
            continue;
        }
        now = Cow::Owned(match (along_columns, has_alpha) {
            (true, _) => columns(&now, height, interpolation),
            (false, true) => rows::<4>(&now, width, interpolation),
            (false, false) => rows::<3>(&now, width, interpolation),
        });
    }
    if has_alpha {
        now.to_mut().values.chunks_exact_mut(4).for_each(divided);
    }
    now.opaque().into_owned()
}

/// Each pixel that of the source which its middle is in (`Geometry.c`, `ImagingScaleAffine`).
fn nearest(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let positions = |from: usize, to: usize| -> Vec<usize> {
        let scale = from as f64 / to as f64;
        // Added up, as there.
        let middles = std::iter::successors(Some(0.5 * scale), |at| Some(at + scale));
        middles.take(to).map(|at| (at as usize).min(from - 1)).collect()
    };
    let (rows, columns) = (positions(picture.height, height), positions(picture.width, width));
    let mut values = Vec::with_capacity(height * width * 3);
    for row in rows {
        for &column in &columns {
            let at = (row * picture.width + column) * 3;
            values.extend_from_slice(&picture.values[at..at + 3]);
        }
    }
    Picture { height, width, channels: 3, values, turned: picture.turned }
}

/// Which pixels of a line become one, and how much each counts.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Of every pixel of a line that becomes `to` pixels long.
fn taps(from: usize, to: usize, interpolation: Interpolation) -> Vec<Taps> {
    let (filter, support): (fn(f64) -> f64, f64) = match interpolation {
        // The nearest pixel is found otherwise.
        Interpolation::Box | Interpolation::Nearest => (square, 0.5),
        Interpolation::Bilinear => (triangle, 1.0),
        Interpolation::Hamming => (hamming, 1.0),
        Interpolation::Bicubic => (cubic, 2.0),
        Interpolation::Lanczos => (lanczos, 3.0),
    };
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let (support, shrink) = (support * stretch, 1.0 / stretch);
    let tap = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        // Casts cut off, as in C; what is below zero becomes zero.
        let first = (centre - support + 0.5) as usize;
        let last = ((centre + support + 0.5) as usize).min(from);
        let weight = |x: usize| filter((x as f64 - centre + 0.5) * shrink);
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let share = |w: f64| if sum == 0.0 { w } else { w / sum };
        let whole = |w: f64| (w * f64::from(1 << BITS) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
        Taps { first, weights: weights.into_iter().map(|w| whole(share(w))).collect() }
    };
    (0..to).map(tap).collect()
}

/// Pillow's box.
fn square(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

/// Its hamming: a sinc under a window.
fn hamming(x: f64) -> f64 {
    let x = x.abs();
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let x = x * std::f64::consts::PI;
    // As it is written there, in float32.
    x.sin() / x * (f64::from(0.54f32) + f64::from(0.46f32) * x.cos())
}

/// Its lanczos, of three lobes.
fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// Its bilinear.
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Its bicubic, a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Rows become `width` pixels long; pixels have `N` bytes.
#[multiversion(targets("x86_64+avx2"))]
fn rows<const N: usize>(picture: &Picture, width: usize, interpolation: Interpolation) -> Picture {
    let taps = taps(picture.width, width, interpolation);
    let mut values = Vec::with_capacity(picture.height * width * N);
    for row in picture.values.chunks_exact(picture.width * N) {
        let (pixels, _) = row.as_chunks::<N>();
        for Taps { first, weights } in &taps {
            let mut sums = [1 << (BITS - 1); N];
            for (pixel, weight) in pixels[*first..].iter().zip(weights) {
                (0..N).for_each(|c| sums[c] += i32::from(pixel[c]) * weight);
            }
            values.extend(sums.map(byte));
        }
    }
    Picture { width, values, ..*picture }
}

/// Columns become `height` pixels long.
#[multiversion(targets("x86_64+avx2"))]
fn columns(picture: &Picture, height: usize, interpolation: Interpolation) -> Picture {
    let stride = picture.width * picture.channels;
    let mut values = Vec::with_capacity(height * stride);
    let mut sums = vec![0i32; stride];
    for Taps { first, weights } in taps(picture.height, height, interpolation) {
        sums.fill(1 << (BITS - 1));
        for (row, weight) in picture.values[first * stride..].chunks_exact(stride).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
        }
        values.extend(sums.iter().map(|&sum| byte(sum)));
    }
    Picture { height, values, ..*picture }
}

/// Colours times alpha, rounded (`RGBA` to `RGBa`).
fn multiplied(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    for colour in &mut pixel[..3] {
        let product = u32::from(*colour) * alpha + 128;
        *colour = (((product >> 8) + product) >> 8) as u8;
    }
}

/// Colours over alpha, cut off (`RGBa` to `RGBA`).
fn divided(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    if !matches!(alpha, 0 | 255) {
        pixel[..3].iter_mut().for_each(|colour| *colour = (255 * u32::from(*colour) / alpha).min(255) as u8);
    }
}
