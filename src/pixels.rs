//! Photographs as the numbers an image tower takes: decoding, resizing, mean and standard deviation, as
//! a model's authors do them.

use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::config::{Dialect, Interpolation, ModelConfig, PreprocessCfg, ResizeMode, VisionCfg};
use crate::verify::tower::{Array, Bytes};

mod pillow;
mod tensorflow;

/// What can be wrong with a photograph.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be read: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} is no image that can be decoded ({reason}); expected a whole JPEG, PNG, WebP, GIF or BMP")]
    Decode { path: String, reason: String },
    #[error(
        "{path} has {width} x {height} pixels, which a tower's resizing makes {long} pixels long; at most {most} are. Crop it first"
    )]
    Long { path: String, width: usize, height: usize, long: usize, most: usize },
}

/// Bytes a decoded photograph may take.
const MEMORY: u64 = 1 << 30;

/// Pixels along the longer side after resizing, of which one square is cropped out.
const LONGEST: usize = 1 << 16;

/// Patches NaFlex makes of a photograph, at most, where nothing else is asked for.
pub const NAFLEX_PATCHES: usize = 256;

/// A decoded photograph: rows of pixels of three channels, or of four with alpha.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Vec<u8>,
}

impl Picture {
    /// Decodes a file. Grey and palettes become colours, sixteen bits eight; what a file says of its
    /// orientation is not followed, as the models' own pipelines do not.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Decode`].
    pub fn open(path: &Path) -> Result<Picture, Error> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        crate::files::ordinary(path)
            .and_then(|()| std::fs::File::open(path))
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|source| Error::Read { path: name.clone(), source })?;
        Picture::decode(&bytes).map_err(|reason| Error::Decode { path: name, reason: reason.replace('\n', " ") })
    }

    fn decode(bytes: &[u8]) -> Result<Picture, String> {
        if is_cut_off(bytes) {
            return Err("a JPEG that is cut off".to_owned());
        }
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MEMORY);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("it has {width} x {height} pixels"));
        }
        let image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, values) = if image.color().has_alpha() {
            (4, image.into_rgba8().into_raw())
        } else {
            (3, image.into_rgb8().into_raw())
        };
        Ok(Picture { height, width, channels, values })
    }

    /// Without alpha, which is dropped.
    pub(crate) fn opaque(&self) -> Picture {
        if self.channels == 3 {
            return self.clone();
        }
        let values = self.values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Picture { channels: 3, values, ..*self }
    }

    /// The square in the middle, or what is asked for of it.
    fn cropped(&self, [height, width]: [usize; 2], down: bool) -> Picture {
        let place = |all: usize, part: usize| {
            let spare = all.saturating_sub(part);
            // Python's round goes to even numbers.
            if down || spare % 4 != 3 { spare / 2 } else { spare / 2 + 1 }
        };
        let (top, left) = (place(self.height, height), place(self.width, width));
        let row = |y: usize| {
            let start = ((top + y) * self.width + left) * self.channels;
            &self.values[start..start + width * self.channels]
        };
        let values = (0..height).flat_map(|y| row(y).iter().copied()).collect();
        Picture { height, width, channels: self.channels, values }
    }
}

/// Whether a JPEG ends before its last scan does: decoders fill up with grey.
fn is_cut_off(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    // Start of image, of scan, end of image. Within a scan 0xff is followed by nought or a restart.
    bytes.starts_with(&[0xff, 0xd8]) && last(0xd9) < last(0xda)
}

/// How a model's pixels are made.
#[derive(Clone, Debug)]
pub struct Pixels {
    cfg: PreprocessCfg,
    /// Height and width; of NaFlex none.
    size: Option<[usize; 2]>,
    patch: usize,
    /// Of NaFlex, at most.
    patches: usize,
    dialect: Dialect,
    /// For a tower that takes bytes.
    bytes: Option<Bytes>,
}

impl Pixels {
    pub fn new(config: &ModelConfig) -> Pixels {
        let naflex = matches!(config.vision_cfg, VisionCfg::NaflexVit(_));
        let patch = config.vision_cfg.vit().map_or(1, |vit| vit.patch_size);
        let size = if naflex { None } else { config.vision_cfg.image_size() };
        let cfg = config.preprocess_cfg.clone();
        Pixels { cfg, size, patch, patches: NAFLEX_PATCHES, dialect: config.dialect, bytes: None }
    }

    /// As bytes, where the tower takes them so.
    pub(crate) fn fed(self, bytes: Option<Bytes>) -> Pixels {
        Pixels { bytes, ..self }
    }

    /// What a tower takes of one photograph, each with one row: `[1, 3, H, W]` of floats or of bytes, channels
    /// last if it has them so, or NaFlex's patches, mask and places. `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Long`].
    pub fn of(&self, picture: &Picture, path: &Path) -> Result<Vec<Array>, Error> {
        match self.size {
            Some(size) => {
                let Picture { height, width, values: bytes, .. } = self.fitted(picture, size, path)?;
                if self.bytes == Some(Bytes::Last) {
                    let values = bytes.iter().map(|&byte| f32::from(byte)).collect();
                    return Ok(vec![Array { shape: vec![1, height, width, 3], values, ids: vec![] }]);
                }
                let mut values = vec![0f32; bytes.len()];
                let area = height * width;
                for (at, pixel) in bytes.chunks_exact(3).enumerate() {
                    (0..3).for_each(|c| values[c * area + at] = self.number(pixel[c], c));
                }
                Ok(vec![Array { shape: vec![1, 3, height, width], values, ids: vec![] }])
            }
            None => Ok(self.patched(picture)),
        }
    }

    /// A byte as the tower takes it.
    fn number(&self, byte: u8, channel: usize) -> f32 {
        if self.bytes.is_some() {
            return f32::from(byte);
        }
        (f32::from(byte) / 255.0 - self.cfg.mean[channel] as f32) / self.cfg.std[channel] as f32
    }

    /// A photograph at a tower's size, three channels.
    fn fitted(&self, picture: &Picture, size: [usize; 2], path: &Path) -> Result<Picture, Error> {
        if self.cfg.resize_mode != ResizeMode::Shortest {
            return Ok(self.resized(picture, size));
        }
        let [height, width] = [picture.height, picture.width];
        let (short, long) = (height.min(width), height.max(width));
        let mut interpolation = self.cfg.interpolation;
        let scaled = if size[0] == size[1] {
            let long = size[0] * long / short;
            if height < width { [size[0], long] } else { [long, size[0]] }
        } else {
            // open_clip's way with other shapes, which knows bicubic alone.
            interpolation = Interpolation::Bicubic;
            let ratio = (height as f64 / size[0] as f64).min(width as f64 / size[1] as f64);
            [height, width].map(|n| (n as f64 / ratio).round_ties_even() as usize)
        };
        let longest = scaled[0].max(scaled[1]);
        if longest > LONGEST {
            let path = path.display().to_string();
            return Err(Error::Long { path, width, height, long: longest, most: LONGEST });
        }
        let scaled = [scaled[0].max(size[0]), scaled[1].max(size[1])];
        let resized = pillow::pillow(picture, scaled, interpolation);
        Ok(resized.cropped(size, self.dialect == Dialect::Transformers))
    }

    fn resized(&self, picture: &Picture, size: [usize; 2]) -> Picture {
        if self.cfg.antialias {
            pillow::pillow(picture, size, self.cfg.interpolation)
        } else {
            tensorflow::tensorflow(picture, size)
        }
    }

    /// NaFlex: sides of whole patches, as large as the most patches allow.
    fn patched(&self, picture: &Picture) -> Vec<Array> {
        let grid = naflex_grid([picture.height, picture.width], self.patch, self.patches);
        let p = self.patch;
        let resized = self.resized(picture, grid.map(|n| n * p));
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
        let ids = |ids: Vec<i64>| Array { shape: vec![1, count], values: vec![], ids };
        let patches = Array { shape: vec![1, count, p * p * 3], values, ids: vec![] };
        vec![patches, ids(vec![1; count]), ids(ys), ids(xs)]
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
    fn crops_are_where_python_rounds_them() {
        let picture = Picture { height: 5, width: 7, channels: 3, values: (0..105).collect() };
        assert_eq!(picture.cropped([2, 4], false).values[0], 3 * (2 * 7 + 2), "1.5 is 2, and so is 1.5");
        assert_eq!(picture.cropped([4, 6], false).values[0], 0, "0.5 is 0");
        assert_eq!(picture.cropped([2, 4], true).values[0], 3 * (7 + 1));
    }
}
