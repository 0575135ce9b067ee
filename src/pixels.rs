//! Images as the numbers an image tower takes: decoding, resizing, mean and standard deviation, as
//! a model's authors do them.

use std::path::Path;

use crate::config::{
    Dialect, ImageInput, Interpolation, ModelConfig, NAFLEX_PATCHES, PreprocessCfg, ResizeMode, VisionCfg,
};
use crate::engine::array::Array;
use crate::ports::PixelFormat;

mod picture;
mod pillow;
mod tensorflow;

pub use picture::Picture;

/// What can be wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be read: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{path} is no image that can be decoded ({reason}); expected a whole JPEG, PNG, WebP, GIF or BMP")]
    Decode { path: String, reason: String },
    #[error(
        "{path} has {width} x {height} pixels, which a tower's resizing makes {long} pixels long; at most {most} are. Crop it first"
    )]
    Long { path: String, width: usize, height: usize, long: usize, most: usize },
    #[error(
        "{path} has {width} x {height} pixels, and the model's images are not resized: expected {} x {}", expected[1], expected[0]
    )]
    Unfit { path: String, width: usize, height: usize, expected: [usize; 2] },
}

/// Pixels along the longer side after resizing, of which one square is cropped out.
const LONGEST: usize = 1 << 16;

/// How a model's pixels are made.
#[derive(Clone, Debug)]
pub struct Pixels {
    cfg: PreprocessCfg,
    /// Height and width; of NaFlex none.
    size: Option<[usize; 2]>,
    patch: usize,
    /// Whose code makes them.
    code: Dialect,
    format: PixelFormat,
}

impl Pixels {
    pub fn new(config: &ModelConfig) -> Pixels {
        let (size, patch) = match config.vision_cfg.as_ref().map(VisionCfg::input) {
            Some(ImageInput::Pixels(size)) => (Some(size), 1),
            Some(ImageInput::Patches { size }) => (None, size),
            // There are no images to make pixels of.
            None => (None, 1),
        };
        let cfg = config.preprocess_cfg.clone();
        Pixels { code: cfg.code.unwrap_or(config.dialect), cfg, size, patch, format: PixelFormat::Float }
    }

    /// In the format of a tower's input, instead of floats. Images of bytes are resized here too.
    #[must_use]
    pub fn in_format(self, format: PixelFormat) -> Pixels {
        Pixels { format, ..self }
    }

    /// The inputs of a tower for one image, each with one row: `[1, 3, H, W]` of floats or of bytes, channels
    /// last if it has them so, or NaFlex's patches, mask and positions. `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Decode`] for a picture without pixels, [`Error::Long`] or [`Error::Unfit`].
    pub fn of(&self, picture: &Picture, path: &Path) -> Result<Vec<Array>, Error> {
        if picture.height == 0 || picture.width == 0 {
            return Err(Error::Decode { path: path.display().to_string(), reason: "it has no pixels".to_owned() });
        }
        // open_clip converts to RGB after it has resized.
        let converted = match self.code {
            Dialect::OpenClip => None,
            Dialect::Transformers => Some(picture.over_white()),
            Dialect::Original => Some(picture.opaque()),
        };
        let picture = converted.as_deref().unwrap_or(picture);
        match self.size {
            Some(size) => {
                let Picture { height, width, values: bytes, .. } = self.fitted(picture, size, path)?;
                Ok(vec![match self.format {
                    PixelFormat::Bytes { last: true, .. } => Array::new([1, height, width, 3], bytes),
                    PixelFormat::Bytes { last: false, .. } => {
                        Array::new([1, 3, height, width], planes(&bytes, |v, _| v))
                    }
                    PixelFormat::Float => Array::new([1, 3, height, width], planes(&bytes, |v, c| self.number(v, c))),
                }])
            }
            None => Ok(self.patched(picture)),
        }
    }

    /// A byte as a tower of floats takes it.
    fn number(&self, byte: u8, channel: usize) -> f32 {
        let value = match self.cfg.rescale_factor {
            None => f32::from(byte) / 255.0,
            Some(factor) => f32::from(byte) * factor as f32,
        };
        (value - self.cfg.mean[channel] as f32) / self.cfg.std[channel] as f32
    }

    /// An image at a tower's size, three channels.
    fn fitted(&self, picture: &Picture, size: [usize; 2], path: &Path) -> Result<Picture, Error> {
        let [height, width] = [picture.height, picture.width];
        let path = || path.display().to_string();
        if self.cfg.resize_mode == ResizeMode::None && !self.cfg.crop && [height, width] != size {
            return Err(Error::Unfit { path: path(), width, height, expected: size });
        }
        let (scaled, interpolation) = self.scaled([height, width], size);
        let longest = scaled[0].max(scaled[1]);
        if longest > LONGEST {
            return Err(Error::Long { path: path(), width, height, long: longest, most: LONGEST });
        }
        let resized = if self.cfg.antialias {
            pillow::pillow(picture, scaled, interpolation)
        } else {
            tensorflow::tensorflow(picture, scaled)
        };
        Ok(resized.cropped(size, self.code == Dialect::Transformers, self.cfg.fill_color.unwrap_or_default()))
    }

    /// The size that an image is resized to, and by which filter, for a tower of `size`.
    fn scaled(&self, found: [usize; 2], size: [usize; 2]) -> ([usize; 2], Interpolation) {
        let to = self.cfg.resize_to.unwrap_or(size);
        let interpolation = self.cfg.interpolation;
        // As open_clip's and timm's `ResizeKeepRatio`.
        let by_ratio = |of: fn(f64, f64) -> f64| {
            let ratio = of(found[0] as f64 / to[0] as f64, found[1] as f64 / to[1] as f64);
            found.map(|n| ((n as f64 / ratio).round_ties_even() as usize).max(1))
        };
        match self.cfg.resize_mode {
            ResizeMode::None => (found, interpolation),
            ResizeMode::Squash | ResizeMode::Naflex => (to, interpolation),
            ResizeMode::Longest => (by_ratio(f64::max), interpolation),
            ResizeMode::Shortest if to[0] == to[1] => (shortest(found, to[0], self.cfg.longest_edge), interpolation),
            // open_clip knows bicubic alone with other shapes.
            ResizeMode::Shortest if self.code == Dialect::OpenClip => (by_ratio(f64::min), Interpolation::Bicubic),
            ResizeMode::Shortest => (by_ratio(f64::min), interpolation),
        }
    }

    /// NaFlex: sides of whole patches, as large as the most patches allow.
    fn patched(&self, picture: &Picture) -> Vec<Array> {
        let most = self.cfg.max_patches.unwrap_or(NAFLEX_PATCHES);
        let grid = naflex_grid([picture.height, picture.width], self.patch, most);
        let p = self.patch;
        let resized = if self.cfg.antialias {
            pillow::pillow(picture, grid.map(|n| n * p), self.cfg.interpolation)
        } else {
            tensorflow::tensorflow(picture, grid.map(|n| n * p))
        };
        let count = grid[0] * grid[1];
        let mut values = Vec::with_capacity(count * p * p * 3);
        let (mut ys, mut xs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for y in 0..grid[0] {
            for x in 0..grid[1] {
                for row in 0..p {
                    let start = ((y * p + row) * resized.width + x * p) * 3;
                    let pixels = resized.values[start..start + p * 3].iter().enumerate();
                    values.extend(pixels.map(|(at, &byte)| self.number(byte, at % 3)));
                }
                ys.push(y as i64);
                xs.push(x as i64);
            }
        }
        let ids = |ids: Vec<i64>| Array::new([1, count], ids);
        let patches = Array::new([1, count, p * p * 3], values);
        vec![patches, ids(vec![1; count]), ids(ys), ids(xs)]
    }
}

/// Pixels of three channels as three planes.
fn planes<T>(bytes: &[u8], number: impl Fn(u8, usize) -> T) -> Vec<T> {
    let number = &number;
    (0..3).flat_map(|channel| bytes.iter().skip(channel).step_by(3).map(move |&byte| number(byte, channel))).collect()
}

/// Height and width with the shorter side `side`, the longer one in proportion, cut off as torchvision does it; or the
/// longer one about `most`, as transformers' `get_size_with_aspect_ratio` has it.
fn shortest([height, width]: [usize; 2], side: usize, most: Option<usize>) -> [usize; 2] {
    let (short, long) = (height.min(width), height.max(width));
    let at = |side: usize, long: usize| if height < width { [side, long] } else { [long, side] };
    match most {
        Some(most) if long as f64 / short as f64 * side as f64 > most as f64 => {
            let side = most as f64 * short as f64 / long as f64;
            let whole = (side.round_ties_even() as usize).max(1);
            if short == whole {
                return [height, width];
            }
            at(whole, ((side * long as f64 / short as f64) as usize).max(1))
        }
        _ => at(side, side * long / short),
    }
}

/// Rows and columns of patches: the largest scale at which sides rounded up to whole patches make no more
/// than `most`. transformers' `get_image_size_for_max_num_patches`, after big_vision's.
fn naflex_grid(size: [usize; 2], patch: usize, most: usize) -> [usize; 2] {
    let at = |scale: f64| size.map(|n| ((n as f64 * scale / patch as f64).ceil() as usize).max(1));
    let (mut low, mut high) = (1e-6f64, 100.0f64);
    while high - low >= 1e-5 {
        let scale = (low + high) / 2.0;
        let [rows, columns] = at(scale);
        if rows * columns <= most { low = scale } else { high = scale }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naflex_fills_its_patches() {
        assert_eq!(naflex_grid([224, 224], 16, 256), [16, 16]);
        assert_eq!(naflex_grid([427, 640], 16, 256), [13, 19]);
        let [rows, columns] = naflex_grid([10, 20_000], 16, 256);
        assert!(rows * columns <= 256 && rows == 1, "{rows} x {columns}");
    }

    #[test]
    fn the_longer_side_may_have_a_limit() {
        assert_eq!(shortest([100, 300], 32, None), [32, 96]);
        assert_eq!(shortest([300, 100], 32, Some(100)), [96, 32]);
        // 32 would make 96 of the longer one: 80 is allowed, of which the shorter one is 26.7.
        assert_eq!(shortest([300, 100], 32, Some(80)), [80, 27]);
    }
}
