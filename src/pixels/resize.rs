//! Resizing as the libraries that models were trained with do it.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x4;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::Picture;
use crate::config::Interpolation;

/// As Pillow 13: along rows and along columns, to bytes in between; what is made smaller is averaged. Colours
/// count by their alpha, which is gone afterwards.
pub fn pillow(picture: &Picture, [height, width]: [usize; 2], interpolation: Interpolation) -> Picture {
    let filter = match interpolation {
        Interpolation::Bilinear => FilterType::Bilinear,
        // a = -1/2, Pillow's bicubic.
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    if [picture.height, picture.width] == [height, width] {
        return picture.opaque();
    }
    let has_alpha = picture.channels == 4;
    // Of all kinds of pixels there are, the library is compiled for this one alone.
    let mut values: Vec<u8> = if has_alpha {
        picture.values.clone()
    } else {
        picture.values.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect()
    };
    if has_alpha {
        values.chunks_exact_mut(4).for_each(multiplied);
    }
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    let mut resizer = Resizer::new();
    let mut size = [picture.width, picture.height];
    // Along rows first, unless twice as much goes along columns.
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let columns_first = lost(picture.height, height) > 2 * lost(picture.width, width);
    let between = if columns_first { [picture.width, height] } else { [width, picture.height] };
    for to in [between, [width, height]] {
        if to == size {
            continue;
        }
        let mut resized = vec![0; to[0] * to[1] * 4];
        let from = TypedImageRef::<U8x4>::from_buffer(size[0] as u32, size[1] as u32, &values);
        let image = TypedImage::<U8x4>::from_buffer(to[0] as u32, to[1] as u32, &mut resized);
        // Sizes are those of the buffers, by construction.
        if let (Ok(from), Ok(mut image)) = (from, image) {
            let done = resizer.resize_typed(&from, &mut image, &options);
            debug_assert!(done.is_ok());
        }
        (values, size) = (resized, to);
    }
    if has_alpha {
        values.chunks_exact_mut(4).for_each(divided);
    }
    Picture { height, width, channels: 4, values }.opaque()
}

/// Colours times alpha, rounded (Pillow's `RGBA` to `RGBa`).
fn multiplied(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    for colour in &mut pixel[..3] {
        let product = u32::from(*colour) * alpha + 128;
        *colour = (((product >> 8) + product) >> 8) as u8;
    }
}

/// Colours over alpha, cut off (Pillow's `RGBa` to `RGBA`).
fn divided(pixel: &mut [u8]) {
    let alpha = u32::from(pixel[3]);
    if !matches!(alpha, 0 | 255) {
        pixel[..3].iter_mut().for_each(|colour| *colour = (255 * u32::from(*colour) / alpha).min(255) as u8);
    }
}

/// As TensorFlow's bilinear without antialiasing, to bytes by cutting off: of what is made smaller, most
/// pixels are not looked at.
pub fn tensorflow(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let picture = picture.opaque();
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let tap = |at: usize| {
            let place = (at as f32 + 0.5) * scale - 0.5;
            let low = place.floor();
            let first = (low.max(0.0) as usize).min(from - 1);
            (first, ((low + 1.0).max(0.0) as usize).min(from - 1), place - low)
        };
        (0..to).map(tap).collect()
    };
    let (rows, columns) = (taps(picture.height, height), taps(picture.width, width));
    let value = |y: usize, x: usize, c: usize| f32::from(picture.values[(y * picture.width + x) * 3 + c]);
    let mut values = Vec::with_capacity(height * width * 3);
    for &(top, bottom, dy) in &rows {
        for &(left, right, dx) in &columns {
            for c in 0..3 {
                let above = value(top, left, c) + (value(top, right, c) - value(top, left, c)) * dx;
                let below = value(bottom, left, c) + (value(bottom, right, c) - value(bottom, left, c)) * dx;
                values.push((above + (below - above) * dy) as u8);
            }
        }
    }
    Picture { height, width, channels: 3, values }
}
