//! What comes before an image tower's first convolution: floats as preprocessing leaves them, or bytes
//! as decoders do, of pictures that may have any size.

use crate::config::{Dialect, Interpolation, ModelConfig, PreprocessCfg, ResizeMode};
use crate::onnx::graph::{Dim, ElementType, Role};
use crate::onnx::ops::Resample;
use crate::onnx::{Ops, Value};
use crate::params::reparam::Rescale;
use crate::ports::{PixelFormat, Ports};
use crate::tensor::Tensor;
use crate::towers::scope::Scope;

/// Pixels as the first convolution reads them: `[B, 3, H, W]`.
#[derive(Clone, Copy)]
pub struct Image {
    pub value: Value,
    /// What that convolution has to do to them; nothing to floats.
    pub rescale: Option<Rescale>,
}

impl Image {
    /// Declares the tower's input. `padded` says whether its first convolution is, whose padding stands for
    /// pixels of the mean.
    pub fn input(s: &Scope, size: [usize; 2], model: &ModelConfig, ports: &Ports, padded: bool) -> Image {
        let (name, [height, width]) = (ports.image, size.map(Dim::Fixed));
        let PixelFormat::Bytes { last, alpha, resize } = ports.pixels else {
            let dims = vec![s.batch(), Dim::Fixed(3), height, width];
            return Image { value: s.graph().input(name, ElementType::Float, dims), rescale: None };
        };
        let [height, width] = if resize { [Dim::Named("height"), Dim::Named("width")] } else { [height, width] };
        let channels = if alpha { Dim::Named("channels") } else { Dim::Fixed(3) };
        let dims = if last { [height, width, channels] } else { [channels, height, width] };
        let x = s.graph().input(name, ElementType::Uint8, [vec![s.batch()], dims.to_vec()].concat());

        let (s, cfg) = (s.at("pixels"), &model.preprocess_cfg);
        let planes = match (last, alpha) {
            (true, _) if resize => split(&s, x),
            (true, true) => s.transpose(s.slice(x, s.ints(&[0]), s.ints(&[3]), 3), &[0, 3, 1, 2]),
            (true, false) => s.transpose(x, &[0, 3, 1, 2]),
            (false, true) => s.slice(x, s.ints(&[0]), s.ints(&[3]), 1),
            (false, false) => x,
        }; // [B, 3, H, W]
        let x = s.cast_float(if resize { fitted(&s, planes, size, model) } else { planes });
        let mut rescale = Rescale {
            scale: cfg.std.map(|std| cfg.factor() / std),
            shift: [0, 1, 2].map(|c| -cfg.mean[c] / cfg.std[c]),
        };
        if !padded || rescale.shift == [0.0; 3] {
            return Image { value: x, rescale: Some(rescale) };
        }
        let mean = cfg.mean.map(|mean| (mean / cfg.factor()) as f32);
        let mean = s.initializer("mean", Role::Constant, Tensor::from_f32("mean", &[3, 1, 1], &mean));
        rescale.shift = [0.0; 3];
        Image { value: s.sub(x, mean), rescale: Some(rescale) }
    }
}

/// `[B, H, W, 3 or more]` as three planes. Not by a transposition: ONNX Runtime 1.32 would move that behind the
/// resizing, whose sizes it then mistakes.
fn split(s: &Scope, x: Value) -> Value {
    let plane = |channel: i64| s.unsqueeze(s.index(x, channel, 3), &[1]);
    s.concat(&[plane(0), plane(1), plane(2)], 1)
}

/// Why a graph cannot resize as a rule says; None where it can.
pub fn cannot_resize(model: &ModelConfig) -> Option<String> {
    let cfg = &model.preprocess_cfg;
    if !matches!(cfg.interpolation, Interpolation::Bilinear | Interpolation::Bicubic) {
        return Some(format!("`Resize` has no {} filter", cfg.interpolation));
    }
    if !matches!(cfg.resize_mode, ResizeMode::Squash | ResizeMode::Shortest) {
        return Some(format!("resize_mode {} is not made in a graph", cfg.resize_mode));
    }
    if cfg.longest_edge.is_some() {
        return Some("a longest edge is not made in a graph".to_owned());
    }
    let (to, size) = (cfg.resize_to?, model.image_size()?);
    let smaller = to.iter().zip(&size).any(|(to, size)| to < size);
    smaller.then(|| "photographs that are filled up are not made in a graph".to_owned())
}

/// Bytes of pictures of any size, at the tower's: as [`crate::pixels`] does it.
fn fitted(s: &Scope, x: Value, size: [usize; 2], model: &ModelConfig) -> Value {
    let cfg = &model.preprocess_cfg;
    let code = cfg.code.unwrap_or(model.dialect);
    let to = cfg.resize_to.unwrap_or(size);
    let whole = |[height, width]: [usize; 2]| s.ints(&[height as i64, width as i64]);
    let (sizes, interpolation) = if cfg.resize_mode != ResizeMode::Shortest {
        (whole(to), cfg.interpolation)
    } else if to[0] == to[1] {
        // The shorter side, the longer one in proportion, cut off as torchvision does it.
        let found = s.lengths(x, 2, 4); // [height, width]
        let shorter = s.reduce_min(found, &[0], true);
        (s.div(s.mul(found, s.ints(&[to[0] as i64])), shorter), cfg.interpolation)
    } else {
        let sides = s.cast_float(s.lengths(x, 2, 4));
        let target = s.initializer("size", Role::Constant, Tensor::from_f32("size", &[2], &to.map(|n| n as f32)));
        let ratio = s.reduce_min(s.div(sides, target), &[0], true);
        let sizes = s.cast_int64(s.round(s.div(sides, ratio)));
        // open_clip knows bicubic alone with other shapes.
        let bicubic = code == Dialect::OpenClip;
        (s.max(sizes, whole(to)), if bicubic { Interpolation::Bicubic } else { cfg.interpolation })
    };
    let x = resized(s, x, sizes, interpolation, cfg);
    if cfg.resize_mode != ResizeMode::Shortest && to == size {
        return x;
    }
    // The middle; Python's round goes to even numbers, as the operator does.
    let spare = s.sub(sizes, whole(size));
    let start = match code {
        Dialect::Transformers => s.div(spare, s.ints(&[2])),
        Dialect::Original | Dialect::OpenClip => s.cast_int64(s.round(s.mul(s.cast_float(spare), s.scalar(0.5)))),
    };
    let end = s.add(start, whole(size));
    s.op("Slice", &[x, start, end, s.ints(&[2, 3])], vec![])
}

/// To `sizes`, height and width, as bytes.
fn resized(s: &Scope, x: Value, sizes: Value, interpolation: Interpolation, cfg: &PreprocessCfg) -> Value {
    let resample = Resample { cubic: interpolation == Interpolation::Bicubic, antialias: cfg.antialias };
    if cfg.antialias {
        // ONNX Runtime's kernel for bytes is Pillow's: bytes between both passes too.
        return s.resize(x, sizes, &[2, 3], resample);
    }
    // TensorFlow cuts off what is behind the point.
    s.cast_uint8(s.floor(s.resize(s.cast_float(x), sizes, &[2, 3], resample)))
}
