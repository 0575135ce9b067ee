//! Resizing as big_vision's own preprocessing does it.

use super::Picture;

/// As TensorFlow's bilinear without antialiasing, to bytes by cutting off: of what is made smaller, most
/// pixels are not looked at.
pub fn tensorflow(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let picture = picture.opaque();
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let tap = |at: usize| {
            let position = (at as f32 + 0.5) * scale - 0.5;
            let low = position.floor();
            let first = (low.max(0.0) as usize).min(from - 1);
            (first, ((low + 1.0).max(0.0) as usize).min(from - 1), position - low)
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
    Picture { height, width, channels: 3, values, turned: picture.turned }
}
