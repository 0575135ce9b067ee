//! Pictures as towers take them, against Pillow, torchvision and TensorFlow's way (`scripts/make_pixels.py`).

use std::path::Path;

use clip_onnx::config::{
    Dialect, Interpolation, ModelConfig, PatchEmbed, PatchWeight, ResizeMode, Stem, VisionCfg, known,
};
use clip_onnx::pixels::{Picture, Pixels};
use ndarray::Array3;
use ndarray_npy::ReadNpyExt;

use crate::common::npz;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pixels"))
}

fn model(mode: ResizeMode, interpolation: Interpolation, antialias: bool, size: [usize; 2]) -> ModelConfig {
    let config = known().find(|config| config.model == "ViT-B-32").unwrap();
    let config = config.with(|model| {
        let cfg = &mut model.preprocess_cfg;
        (cfg.mean, cfg.std, cfg.antialias) = ([0.0; 3], [1.0; 3], antialias);
        (cfg.resize_mode, cfg.interpolation) = (mode, interpolation);
        if let Some(VisionCfg::Vit(vit)) = &mut model.vision_cfg {
            // Patches of one pixel: the smallest size is that of a patch.
            vit.image_size = size;
            vit.stem = Stem::Patches(PatchEmbed { size: 1, weight: PatchWeight::Conv, bias: false });
        }
    });
    config.unwrap()
}

/// Share of bytes that differ and by how much at most.
fn compare(name: &str, way: &str, config: &ModelConfig) -> (f64, i32) {
    let bytes = npz::member(&folder().join("expected.npz"), &format!("{name}/{way}"));
    let expected = Array3::<i32>::read_npy(&bytes[..]).unwrap();
    let path = folder().join(name);
    let found = Pixels::new(config).of(&Picture::open(&path, false).unwrap(), &path).unwrap();
    let [_, _, height, width] = found[0].shape()[..] else { panic!("{:?}", found[0].shape()) };
    assert_eq!(expected.shape(), [height, width, 3], "{name} {way}");
    let found = |(y, x, c): (usize, usize, usize)| {
        (found[0].floats().unwrap()[(c * height + y) * width + x] * 255.0).round() as i32
    };
    let differences: Vec<i32> = expected.indexed_iter().map(|(at, byte)| (found(at) - byte).abs()).collect();
    let differing = differences.iter().filter(|&&d| d > 0).count();
    (differing as f64 / differences.len() as f64, differences.into_iter().max().unwrap())
}

#[test]
fn pixels_are_pillows() {
    use Interpolation::{Bicubic, Bilinear};
    use ResizeMode::{Shortest, Squash};
    let ways = [
        ("shortest_bicubic_32", model(Shortest, Bicubic, true, [32, 32])),
        ("shortest_bilinear_32", model(Shortest, Bilinear, true, [32, 32])),
        ("shortest_bicubic_24x40", model(Shortest, Bicubic, true, [24, 40])),
        ("squash_bicubic_32", model(Squash, Bicubic, true, [32, 32])),
        ("squash_bicubic_96", model(Squash, Bicubic, true, [96, 96])),
        ("tensorflow_32", model(Squash, Bilinear, false, [32, 32])),
    ];
    for name in ["wide.png", "tall.png", "alpha.png", "grey.png", "grey_alpha.png", "one.png"] {
        for (way, config) in &ways {
            let (share, most) = compare(name, way, config);
            // TensorFlow's stand-in is torch, whose sums go in another order before they are cut off.
            let few = if way.starts_with("tensorflow") { 0.01 } else { 0.0 };
            let figures = format!("{name} {way}: {:.2} % differ, by {most} at most", share * 100.0);
            assert!(share <= few && most <= 1, "{figures}");
        }
    }
}

/// Half noise, half a ramp: the pictures of `scripts/make_resize.py`.
fn drawn([height, width, channels]: [usize; 3]) -> Picture {
    let mut state = (height * 1000 + width * 10 + channels) as u32;
    let values = (0..height * width * channels).map(|at| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 24) as usize;
        let ramp = at / channels % width * 255 / width;
        ((noise + ramp) / 2 + if noise > 200 { 60 } else { 0 }).min(255) as u8
    });
    Picture { height, width, channels, values: values.collect(), turned: false }
}

#[derive(serde::Deserialize)]
struct Resized {
    from: [usize; 3],
    to: [usize; 2],
    way: String,
    bytes: String,
}

/// Smaller, larger, and one of each; what the page in `web/` is held to as well.
#[test]
fn resizing_is_pillows_byte_for_byte() {
    let data = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/web/test/data/resize.json")).unwrap();
    let rows: Vec<Resized> = serde_json::from_str(&data).unwrap();
    assert!(rows.len() > 80);
    for Resized { from, to, way, bytes } in rows {
        let named = Interpolation::ALL.into_iter().find(|interpolation| interpolation.to_string() == way);
        let interpolation = named.unwrap_or(Interpolation::Bilinear);
        let config = model(ResizeMode::Squash, interpolation, way != "tensorflow", to);
        let found = Pixels::new(&config).of(&drawn(from), Path::new("drawn")).unwrap();
        let (area, values) = (to[0] * to[1], found[0].floats().unwrap());
        let byte = |at: usize| (values[at % 3 * area + at / 3] * 255.0).round() as u8;
        let found: String = (0..area * 3).map(|at| format!("{:02x}", byte(at))).collect();
        assert!(found == bytes, "{way} from {from:?} to {to:?}");
    }
}

/// What transformers crops is one pixel further up where a spare pixel is odd.
#[test]
fn transformers_crops_as_transformers_does() {
    let config = model(ResizeMode::Shortest, Interpolation::Bicubic, true, [32, 32]);
    let path = folder().join("wide.png");
    let of = |config: &ModelConfig| Pixels::new(config).of(&Picture::open(&path, false).unwrap(), &path).unwrap();
    let before = of(&config);
    let transformers = config.with(|model| model.dialect = Dialect::Transformers).unwrap();
    assert!(
        before != of(&transformers),
        "123 x 77 becomes 51 x 32, of which 19 columns are spare: 9.5 goes to 10 or down to 9"
    );
}

#[test]
fn what_is_no_picture_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("no.jpg");
    for bytes in [&b"not a picture"[..], &[0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F'], &[]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Picture::open(&path, false).unwrap_err().to_string();
        assert!(error.contains("no.jpg") && error.contains("expected a whole JPEG, PNG"), "{error}");
    }
    let whole = std::fs::read(folder().join("wide.png")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Picture::open(&path, false).is_err(), "half a picture");
    assert!(Picture::open(scratch.path(), false).unwrap_err().to_string().contains("cannot be read"));
}
