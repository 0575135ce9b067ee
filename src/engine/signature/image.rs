//! How a tower takes images: order of the axes, bytes or floats, and the numbers that bytes become.

use super::Metadata;
use crate::config::PreprocessCfg;
use crate::engine::array::{Array, Data, ElementType};
use crate::onnx::read::Port;
use crate::ports::PixelFormat;

/// Pixels along a side where a file leaves them free and does not say what it was made for.
const IMAGE_SIZE: usize = 224;

/// One array of pixels, `[N, 3, H, W]`, or `[N, H, W, 3]` where the format has channels last.
#[derive(Clone, Debug)]
pub struct ImageInput {
    /// Order of the axes, element type and value range of the pixels.
    pub format: PixelFormat,
    /// Height and width; where the file leaves them free, what it says it was made for.
    pub size: [usize; 2],
    /// Preprocessing of images, where the file's metadata holds it.
    pub preprocess: Option<PreprocessCfg>,
}

impl ImageInput {
    pub(super) fn of(port: &Port, said: &Metadata) -> ImageInput {
        let format = pixel_format(port);
        let height = if channels_are_last(format) { 1 } else { 2 };
        let stated = said.image_size();
        let size = [0, 1].map(|axis| port.fixed(height + axis).or(stated[axis]).unwrap_or(IMAGE_SIZE));
        ImageInput { format, size, preprocess: said.preprocess() }
    }

    /// Images `[N, 3, H, W]` as this tower takes them. They are bytes, as decoders give them, or float32, as
    /// preprocessing leaves them. None where the tower takes bytes and there are floats that no byte becomes.
    pub fn from_images(&self, images: &Array) -> Option<Array> {
        let plane = images.shape().iter().skip(2).product::<usize>().max(1);
        let channel = |at: usize| at / plane % 3;
        let rescaling = Rescaling::of(self.preprocess.as_ref());
        let array = match (images.data(), self.format) {
            (Data::F32(_), PixelFormat::Float) | (Data::U8(_), PixelFormat::Bytes { .. }) => images.clone(),
            (Data::U8(bytes), PixelFormat::Float) => {
                let values = bytes.iter().enumerate().map(|(at, &byte)| rescaling.float(byte, channel(at)));
                Array::new(images.shape(), values.collect::<Vec<f32>>())
            }
            (Data::F32(values), PixelFormat::Bytes { .. }) => {
                let bytes = values.iter().enumerate().map(|(at, &value)| rescaling.byte(value, channel(at)));
                Array::new(images.shape(), bytes.collect::<Option<Vec<u8>>>()?)
            }
            (Data::I64(_) | Data::I32(_), _) => return None,
        };
        if channels_are_last(self.format) { array.channels_last() } else { Some(array) }
    }
}

/// How a byte becomes a float: times a factor, less the mean, over the standard deviation of its channel.
struct Rescaling {
    factor: f64,
    mean: [f64; 3],
    std: [f64; 3],
}

impl Rescaling {
    /// To 0 to 1 where the file does not say how.
    fn of(cfg: Option<&PreprocessCfg>) -> Rescaling {
        let unit = Rescaling { factor: 1.0 / 255.0, mean: [0.0; 3], std: [1.0; 3] };
        cfg.map_or(unit, |cfg| Rescaling { factor: cfg.factor(), mean: cfg.mean, std: cfg.std })
    }

    fn float(&self, byte: u8, channel: usize) -> f32 {
        ((f64::from(byte) * self.factor - self.mean[channel]) / self.std[channel]) as f32
    }

    /// The byte that becomes `value`; None where there is none.
    fn byte(&self, value: f32, channel: usize) -> Option<u8> {
        let value = ((f64::from(value) * self.std[channel] + self.mean[channel]) / self.factor) as f32;
        let is_byte = (value - value.round()).abs() <= 1e-2 && (-0.5..255.5).contains(&value);
        is_byte.then(|| value.round() as u8)
    }
}

fn channels_are_last(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Bytes { last: true, .. })
}

/// How an input of four axes holds its images.
fn pixel_format(port: &Port) -> PixelFormat {
    if ElementType::of_onnx(&port.element_type) != Some(ElementType::U8) {
        return PixelFormat::Float;
    }
    let is_channels =
        |axis: usize| port.fixed(axis) == Some(3) || port.shape.get(axis).is_some_and(|n| n == "channels");
    let last = !is_channels(1) || is_channels(3);
    let (channels, height) = if last { (3, 1) } else { (1, 2) };
    PixelFormat::Bytes { last, alpha: port.fixed(channels).is_none(), resize: port.fixed(height).is_none() }
}
