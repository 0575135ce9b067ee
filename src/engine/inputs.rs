//! Made-up inputs for a tower, the same in every run: to verify without a reference, to calibrate, and to time.

use super::array::Array;
use super::signature::{ImageInput, Input, NaflexInput, Signature, TextInput};

/// The seed of everything here.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Words of the vocabulary that are used where a file does not say how many there are.
const SAFE_VOCABULARY: usize = 100;
/// Rows and columns of patches of a NaFlex image as it is met in use.
const TYPICAL_GRID: [usize; 2] = [16, 16];

/// Numbers of all rows, at most.
const MOST: usize = 1 << 30;

fn bounded(signature: &Signature, rows: usize) -> Result<(), String> {
    let row = signature.input.row();
    match rows.checked_mul(row).filter(|&numbers| numbers <= MOST) {
        Some(_) => Ok(()),
        None => Err(format!("{rows} rows of {row} numbers are more than the {MOST} that are made up at once")),
    }
}

/// `rows` rows for each input of a tower, as different as they come: texts of all lengths, NaFlex images of several
/// shapes.
///
/// # Errors
/// When they would be too large.
pub fn varied(signature: &Signature, rows: usize) -> Result<Vec<Array>, String> {
    bounded(signature, rows)?;
    let mut noise = Noise(SEED);
    Ok(match &signature.input {
        Input::Image(image) => vec![pixels(image, rows, &mut noise)],
        Input::Naflex(input) => {
            let grids: Vec<[usize; 2]> = (0..rows).map(|row| [3 + row % 4, 6 - row % 3]).collect();
            naflex(input, &grids, &mut noise)
        }
        Input::Text(text) => {
            let length = text.context_length;
            // Sentences of different lengths, the last as long as fits.
            let tokens = |row: usize| if row + 1 == rows { length } else { (3 + 5 * row) % length + 1 };
            vec![texts(text, rows, length, tokens, &mut noise)]
        }
    })
}

/// `rows` rows as they are met in use: texts of `tokens` tokens, or of the whole context; NaFlex images of 16 × 16
/// patches.
///
/// # Errors
/// When the context is shorter, or they would be too large.
pub fn typical(signature: &Signature, rows: usize, tokens: Option<usize>) -> Result<Vec<Array>, String> {
    bounded(signature, rows)?;
    let mut noise = Noise(SEED);
    Ok(match &signature.input {
        Input::Image(image) => vec![pixels(image, rows, &mut noise)],
        Input::Naflex(input) => naflex(input, &vec![TYPICAL_GRID; rows], &mut noise),
        Input::Text(text) => {
            let context = text.context_length;
            let tokens = tokens.unwrap_or(context);
            if tokens > context {
                return Err(format!("its texts have at most {context} tokens, not {tokens}"));
            }
            let length = if text.any_length { tokens } else { context };
            vec![texts(text, rows, length, |_| tokens, &mut noise)]
        }
    })
}

/// Bytes, so that a tower which takes them sees the same images as one that takes floats.
fn pixels(input: &ImageInput, rows: usize, noise: &mut Noise) -> Array {
    let [height, width] = input.size;
    let bytes: Vec<u8> = (0..rows * 3 * height * width).map(|_| (noise.next() >> 56) as u8).collect();
    let images = Array::new([rows, 3, height, width], bytes);
    // Images of bytes always have a form that a tower takes.
    input.from_images(&images).unwrap_or(images)
}

/// Rows of `length` ids, of which the first `tokens` are a text with its start and end.
fn texts(input: &TextInput, rows: usize, length: usize, tokens: impl Fn(usize) -> usize, noise: &mut Noise) -> Array {
    // Ids 0 and 1, and the last ones, are special in most vocabularies.
    let words = input.vocab_size.unwrap_or(SAFE_VOCABULARY).max(7) as u64 - 6;
    let mut ids = Vec::with_capacity(rows * length);
    for row in 0..rows {
        let tokens = tokens(row);
        for at in 0..length {
            ids.push(match (at, input.sot_id) {
                (0, Some(sot)) if tokens > 1 => sot,
                (at, _) if at + 1 == tokens => input.eot_id.unwrap_or(1),
                (at, _) if at < tokens => 2 + (noise.next() % words) as i64,
                _ => input.pad_id.unwrap_or(0),
            });
        }
    }
    Array::new([rows, length], ids)
}

/// Images of so many patches high and wide, padded to the one with the most: patches, mask, rows and columns.
fn naflex(input: &NaflexInput, grids: &[[usize; 2]], noise: &mut Noise) -> Vec<Array> {
    let (rows, values) = (grids.len(), input.patch_values);
    let positions = grids.iter().map(|[h, w]| h * w).max().unwrap_or(1);
    let [low, high] = input.value_range;
    let mut patches: Vec<f32> = (0..rows * positions * values).map(|_| noise.uniform(low, high)).collect();
    let (mut mask, mut ys, mut xs) = (vec![], vec![], vec![]);
    for (row, [h, w]) in grids.iter().enumerate() {
        for at in 0..positions {
            let is_patch = at < h * w;
            mask.push(i64::from(is_patch));
            ys.push(if is_patch { (at / w) as i64 } else { 0 });
            xs.push(if is_patch { (at % w) as i64 } else { 0 });
            if !is_patch {
                patches[(row * positions + at) * values..][..values].fill(0.0);
            }
        }
    }
    let ids = [mask, ys, xs].map(|ids| Array::new([rows, positions], ids));
    std::iter::once(Array::new([rows, positions, values], patches)).chain(ids).collect()
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

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u32 << 24) as f32;
        low + unit * (high - low)
    }
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::file;
    use super::*;

    fn signature(inputs: &[&str], metadata: &[(&str, &str)]) -> Signature {
        Signature::of(&file(inputs, &["out float [N, 4]"], metadata)).unwrap().remove(0)
    }

    const SPECIAL: [(&str, &str); 4] = [("vocab_size", "20"), ("sot_id", "18"), ("eot_id", "19"), ("pad_id", "0")];

    #[test]
    fn texts_start_end_and_are_padded() {
        let text = signature(&["ids int64 [N, 8]"], &SPECIAL);
        let inputs = varied(&text, 3).unwrap();
        assert_eq!(inputs, varied(&text, 3).unwrap(), "the same every time");
        let rows: Vec<&[i64]> = inputs[0].ids().unwrap().chunks(8).collect();
        for (row, tokens) in rows.iter().zip([4, 1, 8]) {
            assert!(row[tokens..].iter().all(|&id| id == 0) && row[tokens - 1] == 19, "{row:?}");
            assert!(tokens == 1 || row[0] == 18, "{row:?}");
            assert!(row[..tokens - 1].iter().skip(1).all(|id| (2..16).contains(id)), "{row:?}");
        }
    }

    #[test]
    fn typical_texts_are_as_long_as_asked_for() {
        let [fixed, free] = ["ids int64 [N, 8]", "ids int64 [N, L]"].map(|input| signature(&[input], &SPECIAL));
        assert_eq!(typical(&fixed, 2, Some(5)).unwrap()[0].shape(), [2, 8]);
        assert_eq!(typical(&free, 2, Some(5)).unwrap()[0].shape(), [2, 5]);
        assert_eq!(typical(&fixed, 2, Some(9)).unwrap_err(), "its texts have at most 8 tokens, not 9");
    }

    #[test]
    fn bytes_and_floats_are_the_same_images() {
        let [bytes, floats] = ["x uint8 [N, 4, 5, 3]", "x float [N, 3, 4, 5]"]
            .map(|input| varied(&signature(&[input], &[]), 2).unwrap().remove(0));
        assert_eq!((bytes.shape(), floats.shape()), (&[2, 4, 5, 3][..], &[2, 3, 4, 5][..]));
        let Input::Image(input) = signature(&["x uint8 [N, 4, 5, 3]"], &[]).input else { panic!() };
        assert_eq!(input.from_images(&floats), Some(bytes));
    }

    #[test]
    fn naflex_images_are_padded_to_the_largest() {
        const INPUTS: [&str; 4] = ["p float [N, P, 2]", "m int64 [N, P]", "y int64 [N, P]", "x int64 [N, P]"];
        let inputs = varied(&signature(&INPUTS, &[]), 2).unwrap();
        // Grids of 3 × 6 and 4 × 5 patches.
        assert_eq!(inputs[0].shape(), [2, 20, 2]);
        let ids = |at: usize| inputs[at].ids().unwrap();
        assert_eq!(ids(1).iter().sum::<i64>(), 18 + 20);
        assert_eq!((ids(1)[17], ids(1)[18], ids(2)[17], ids(3)[17], ids(2)[18]), (1, 0, 2, 5, 0));
        assert!(inputs[0].row(0)[18 * 2..].iter().all(|&v| v == 0.0));
        assert!(inputs[0].row(1).iter().all(|v| (0.0..1.0).contains(v)));
    }
}
