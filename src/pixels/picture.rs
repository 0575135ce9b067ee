//! An image as it is stored: decoding, transparency, crops.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::Error;
use crate::guard::guarded;

/// Pixels an image may have: where Pillow takes a file for a decompression bomb, too.
const PIXELS: u64 = 178_956_970;

/// Bytes that decoding an image may take in all.
const MEMORY: u64 = 448 << 20;

/// Bytes of an image file, at most.
const FILE: u64 = 512 << 20;

/// Pixels times scans of a JPEG: each scan goes over all pixels.
const SCANNED: u64 = 1_200_000_000;

/// A decoded image: rows of pixels of three channels, or of four with alpha.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub values: Vec<u8>,
    /// Whether the file says that it is to be shown turned or mirrored, which is not done.
    pub turned: bool,
}

impl Picture {
    /// Decodes a file. Grey and palettes become colours, sixteen bits eight. What a file says of its orientation is
    /// followed where `orient` says so; the models' own pipelines do not.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Decode`].
    pub fn open(path: &Path, orient: bool) -> Result<Picture, Error> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        crate::files::ordinary(path)
            .and_then(|()| std::fs::File::open(path))
            .and_then(|file| file.take(FILE + 1).read_to_end(&mut bytes))
            .map_err(|error| Error::Read { path: name.clone(), error })?;
        if bytes.len() as u64 > FILE {
            let reason = format!("it has more than {FILE} bytes");
            return Err(Error::Decode { path: name, reason });
        }
        // Decoders may panic on bytes that they do not expect.
        let decoded = guarded(|| Picture::decode(&bytes, orient)).unwrap_or_else(Err);
        decoded.map_err(|reason| Error::Decode { path: name, reason: reason.replace('\n', " ") })
    }

    fn decode(bytes: &[u8], orient: bool) -> Result<Picture, String> {
        if is_cut_off(bytes) {
            return Err("a JPEG that is cut off".to_owned());
        }
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        let mut limits = Limits::default();
        let format = reader.format();
        // Of a PNG these are its profiles, its texts and its rows; pixels are counted below.
        limits.max_alloc = Some(if format == Some(ImageFormat::Png) { MEMORY / 8 } else { MEMORY });
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(format!("it has {width} x {height} pixels"));
        }
        bounded(&decoder, format, bytes, orient)?;
        // Tags that cannot be read are no reason to refuse an image.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
        if orient {
            image.apply_orientation(orientation);
        }
        let turned = !orient && orientation != Orientation::NoTransforms;
        Ok(Picture { turned, ..Picture::from(image) })
    }

    /// Without alpha, which is dropped.
    pub(crate) fn opaque(&self) -> Cow<'_, Picture> {
        if self.channels == 3 {
            return Cow::Borrowed(self);
        }
        let values = self.values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Cow::Owned(Picture { channels: 3, values, ..*self })
    }

    /// Over a white background, as transformers 5 converts to RGB (Pillow's `alpha_composite`).
    pub(super) fn over_white(&self) -> Cow<'_, Picture> {
        if self.channels == 3 {
            return Cow::Borrowed(self);
        }
        let over = |colour: u8, alpha: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(alpha));
            let sum = ((colour * alpha + 255 * (255 - alpha)) << 7) + (0x80 << 7);
            ((((sum >> 8) + sum) >> 8) >> 7) as u8
        };
        let pixel = |pixel: &[u8]| [0, 1, 2].map(|c| over(pixel[c], pixel[3]));
        let values = self.values.chunks_exact(4).flat_map(pixel).collect();
        Cow::Owned(Picture { channels: 3, values, ..*self })
    }

    /// The middle of `size`; what is missing of it is filled with `fill`. Of three channels. A spare pixel that is odd
    /// goes `down`, as in transformers, or where Python's `round` sends it, as in torchvision.
    pub(super) fn cropped(&self, [height, width]: [usize; 2], down: bool, fill: [u8; 3]) -> Picture {
        if [self.height, self.width] == [height, width] {
            return self.clone();
        }
        // Of each axis: where the source begins, where it goes, and how much of it there is.
        let range = |all: usize, part: usize| {
            if all < part {
                // What is odd of what is missing goes before it in transformers, behind it in torchvision.
                return (0, (part - all + usize::from(down)) / 2, all);
            }
            let spare = all - part;
            let first = if down || spare % 4 != 3 { spare / 2 } else { spare / 2 + 1 };
            (first, 0, part)
        };
        let ((top, at_y, rows), (left, at_x, columns)) = (range(self.height, height), range(self.width, width));
        let mut values = fill.repeat(height * width);
        for row in 0..rows {
            let from = ((top + row) * self.width + left) * 3;
            let to = ((at_y + row) * width + at_x) * 3;
            values[to..to + columns * 3].copy_from_slice(&self.values[from..from + columns * 3]);
        }
        Picture { height, width, channels: 3, values, turned: self.turned }
    }
}

/// An image in memory: grey becomes colours, sixteen bits eight.
impl From<DynamicImage> for Picture {
    fn from(image: DynamicImage) -> Picture {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, values) = if image.color().has_alpha() {
            (4, image.into_rgba8().into_raw())
        } else {
            (3, image.into_rgb8().into_raw())
        };
        Picture { height, width, channels, values, turned: false }
    }
}

/// Whether an image can be decoded in bounded memory and time. Decoders keep to no such limit by themselves.
fn bounded(decoder: &impl ImageDecoder, format: Option<ImageFormat>, bytes: &[u8], orient: bool) -> Result<(), String> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > PIXELS {
        return Err(format!("it has {width} x {height} pixels, of which at most {PIXELS} are decoded"));
    }
    // What is made of the decoded pixels: bytes, of three channels or four, and colours without their alpha.
    let color = decoder.color_type();
    let copy = match color {
        ColorType::Rgb8 | ColorType::Rgba8 => 0,
        _ => pixels * if color.has_alpha() { 4 } else { 3 },
    } + if color.has_alpha() { pixels * 4 } else { 0 };
    let scans = if format == Some(ImageFormat::Jpeg) { scans(bytes) } else { 0 };
    let turned = if orient { decoder.total_bytes() } else { 0 };
    let beside = match format {
        // Coefficients of all blocks, of sixteen bits.
        Some(ImageFormat::Jpeg) if scans > 1 => pixels * 6,
        // The canvas, and the frame that is drawn on it.
        Some(ImageFormat::Gif) => pixels * 4,
        // Planes, or what transforms leave.
        Some(ImageFormat::WebP) => pixels * 6,
        _ => 0,
    };
    let memory = decoder.total_bytes().saturating_add(copy + beside + turned);
    if memory > MEMORY {
        return Err(format!(
            "decoding its {width} x {height} pixels takes {} MB of memory, of which at most {} are used",
            memory / 1_000_000,
            MEMORY / 1_000_000
        ));
    }
    if scans * pixels > SCANNED {
        return Err(format!("it is a JPEG of {scans} scans over {width} x {height} pixels"));
    }
    Ok(())
}

/// Scans of a JPEG: one where it is neither progressive nor has a scan for each component.
fn scans(bytes: &[u8]) -> u64 {
    bytes.windows(2).filter(|pair| **pair == [0xff, 0xda]).count() as u64
}

/// Whether a JPEG ends before its last scan does: decoders fill up with grey.
fn is_cut_off(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    // Start of image, of scan, end of image. Within a scan 0xff is followed by zero or a restart.
    bytes.starts_with(&[0xff, 0xd8]) && last(0xd9) < last(0xda)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_bounded_before_they_are_decoded() {
        // A BMP's header alone.
        let bmp = |width: u32, height: u32| {
            let mut out = b"BM".to_vec();
            out.extend([0; 8]);
            for number in [54u32, 40, width, height, 1 | 24 << 16, 0, 0, 0, 0, 0, 0] {
                out.extend(number.to_le_bytes());
            }
            out
        };
        let refusal = |width: u32, height: u32| Picture::decode(&bmp(width, height), false).unwrap_err();
        assert!(refusal(65_535, 65_535).contains("65535 x 65535 pixels, of which at most 178956970"));
        assert!(refusal(13_000, 13_000).contains("takes 507 MB of memory"));
        let mut scans = vec![0xff, 0xd8, 0xff, 0xc2];
        scans.extend([0xff, 0xda, 0, 0].repeat(7));
        assert_eq!((super::scans(&scans), super::scans(&[0xff, 0xda])), (7, 1));
    }

    #[test]
    fn crops_are_where_python_rounds_them() {
        let picture = Picture { height: 5, width: 7, channels: 3, values: (0..105).collect(), turned: false };
        let first = |size: [usize; 2], down: bool| picture.cropped(size, down, [0; 3]).values[0];
        assert_eq!(first([2, 4], false), 3 * (2 * 7 + 2), "1.5 is 2, and so is 1.5");
        assert_eq!(first([4, 6], false), 0, "0.5 is 0");
        assert_eq!(first([2, 4], true), 3 * (7 + 1));
    }

    #[test]
    fn what_is_smaller_is_filled_up_around() {
        let picture = Picture { height: 1, width: 2, channels: 3, values: vec![1, 1, 1, 2, 2, 2], turned: false };
        let red = |down: bool| -> Vec<u8> {
            picture.cropped([2, 5], down, [7, 8, 9]).values.chunks_exact(3).map(|pixel| pixel[0]).collect()
        };
        // torchvision: one column to the left of it, two to the right; no row above, one below.
        assert_eq!(red(false), [7, 1, 2, 7, 7, 7, 7, 7, 7, 7]);
        // transformers on Pillow: two to the left, one row above.
        assert_eq!(red(true), [7, 7, 7, 7, 7, 7, 7, 1, 2, 7]);
    }

    #[test]
    fn white_shows_through() {
        let values = vec![10, 20, 30, 255, 10, 20, 30, 0, 10, 20, 30, 128];
        let picture = Picture { height: 1, width: 3, channels: 4, values, turned: false };
        // The last by Pillow 13: Image.alpha_composite over (255, 255, 255, 255).
        assert_eq!(picture.over_white().values, [10, 20, 30, 255, 255, 255, 132, 137, 142]);
    }
}
