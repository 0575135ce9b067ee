//! Inputs when there is no reference: fixed, so that two runs see the same.

use super::Error;
use super::tower::{Array, Kind, Pictures, Tower};

/// The seed of everything here.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// `rows` rows for every input of a tower, as different as they come: texts of all lengths, NaFlex images
/// of several shapes.
pub fn fixed(tower: &Tower, rows: usize) -> Vec<Array> {
    let mut noise = Noise(SEED);
    match tower.kind {
        Kind::Image => vec![pixels(tower, rows, &mut noise)],
        Kind::Naflex => {
            let grids: Vec<[usize; 2]> = (0..rows).map(|row| [3 + row % 4, 6 - row % 3]).collect();
            naflex(tower, &grids, &mut noise)
        }
        Kind::Text => {
            let length = tower.context_length();
            // Sentences of different lengths, the last as long as fits.
            let words = |row: usize| if row + 1 == rows { length } else { (3 + 5 * row) % length + 1 };
            vec![texts(tower, rows, length, words, &mut noise)]
        }
    }
}

/// `rows` rows as they are met in use: texts of `tokens` tokens, or of the whole context; NaFlex images of
/// 16 by 16 patches.
///
/// # Errors
/// [`Error::Tower`] when the context is shorter.
pub fn typical(tower: &Tower, rows: usize, tokens: Option<usize>) -> Result<Vec<Array>, Error> {
    let mut noise = Noise(SEED);
    Ok(match tower.kind {
        Kind::Image => vec![pixels(tower, rows, &mut noise)],
        Kind::Naflex => naflex(tower, &vec![[16, 16]; rows], &mut noise),
        Kind::Text => {
            let context = tower.context_length();
            let tokens = tokens.unwrap_or(context);
            if tokens > context {
                return Err(tower.unfit(format!("its texts have at most {context} tokens, not {tokens}")));
            }
            let length = if tower.takes_any_length() { tokens } else { context };
            vec![texts(tower, rows, length, |_| tokens, &mut noise)]
        }
    })
}

/// Bytes, so that a tower which takes them sees what one of floats does.
fn pixels(tower: &Tower, rows: usize, noise: &mut Noise) -> Array {
    let [height, width] = tower.image_size();
    let values = (0..rows * 3 * height * width).map(|_| (noise.next() >> 56) as f32).collect();
    let pictures = Pictures::Bytes(Array { shape: vec![rows, 3, height, width], values, ids: vec![] });
    // Bytes are never refused.
    tower.image(&pictures).unwrap_or(Array { shape: vec![0; 4], values: vec![], ids: vec![] })
}

/// Rows of `length` ids, of which `words` are a text with its start and end.
fn texts(tower: &Tower, rows: usize, length: usize, words: impl Fn(usize) -> usize, noise: &mut Noise) -> Array {
    let vocabulary = tower.vocab_size();
    let [sot, eot, pad] = tower.special_ids();
    let mut ids = Vec::with_capacity(rows * length);
    for row in 0..rows {
        let words = words(row);
        for at in 0..length {
            ids.push(match at {
                0 if sot.is_some() && words > 1 => sot.unwrap_or(0),
                at if at + 1 == words => eot.unwrap_or(1),
                at if at < words => 2 + (noise.next() % (vocabulary.max(7) as u64 - 6)) as i64,
                _ => pad.unwrap_or(0),
            });
        }
    }
    Array { shape: vec![rows, length], values: vec![], ids }
}

/// Images of so many patches high and wide, padded to the longest.
fn naflex(tower: &Tower, grids: &[[usize; 2]], noise: &mut Noise) -> Vec<Array> {
    let rows = grids.len();
    let places = grids.iter().map(|[h, w]| h * w).max().unwrap_or(1);
    let [low, high] = tower.value_range();
    let mut patches = noise.uniform(&[rows, places, tower.patch_values()], low, high);
    let mut ids = [vec![], vec![], vec![]];
    for (row, [h, w]) in grids.iter().enumerate() {
        for at in 0..places {
            let patch = at < h * w;
            ids[0].push(i64::from(patch));
            ids[1].push(if patch { (at / w) as i64 } else { 0 });
            ids[2].push(if patch { (at % w) as i64 } else { 0 });
            if !patch {
                let start = (row * places + at) * tower.patch_values();
                patches.values[start..start + tower.patch_values()].fill(0.0);
            }
        }
    }
    let integers = ids.map(|ids| Array { shape: vec![rows, places], values: vec![], ids });
    std::iter::once(patches).chain(integers).collect()
}

/// Largest distance from 1 of a row's length.
pub fn unit_norm_error(array: &Array) -> f64 {
    let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let error = |row| (norm(array.row(row)) - 1.0).abs();
    (0..array.shape[0]).map(error).fold(0.0, |most, e| if e.is_nan() { f64::INFINITY } else { most.max(e) })
}

/// SplitMix64 (Steele et al. 2014): enough for inputs that only must not be special.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self, shape: &[usize], low: f32, high: f32) -> Array {
        let values = (0..shape.iter().product()).map(|_| {
            let unit = (self.next() >> 40) as f32 / (1u32 << 24) as f32;
            low + unit * (high - low)
        });
        Array { values: values.collect(), ids: vec![], shape: shape.to_vec() }
    }
}
