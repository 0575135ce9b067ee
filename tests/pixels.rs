//! Pictures as towers take them, against Pillow, torchvision and TensorFlow's way (`scripts/make_pixels.py`).

use std::path::Path;

use clip_onnx::config::{Dialect, Interpolation, ModelConfig, ResizeMode, VisionCfg, known};
use clip_onnx::pixels::{Picture, Pixels};
use ndarray::Array3;
use ndarray_npy::NpzReader;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pixels"))
}

fn model(mode: ResizeMode, interpolation: Interpolation, antialias: bool, size: [usize; 2]) -> ModelConfig {
    let mut config = known().find(|config| config.model == "ViT-B-32").unwrap().clone();
    config.preprocess_cfg.mean = [0.0; 3];
    config.preprocess_cfg.std = [1.0; 3];
    (config.preprocess_cfg.resize_mode, config.preprocess_cfg.interpolation) = (mode, interpolation);
    config.preprocess_cfg.antialias = antialias;
    if let VisionCfg::Vit(vit) = &mut config.vision_cfg {
        vit.image_size = Some(size);
    }
    config
}

/// Share of bytes that differ and by how much at most.
fn compare(name: &str, way: &str, config: &ModelConfig) -> (f64, i32) {
    let file = std::fs::File::open(folder().join("expected.npz")).unwrap();
    let expected: Array3<i32> = NpzReader::new(file).unwrap().by_name(&format!("{name}/{way}")).unwrap();
    let path = folder().join(name);
    let found = Pixels::new(config).of(&Picture::open(&path).unwrap(), &path).unwrap();
    let [_, _, height, width] = found[0].shape[..] else { panic!("{:?}", found[0].shape) };
    assert_eq!(expected.shape(), [height, width, 3], "{name} {way}");
    let found =
        |(y, x, c): (usize, usize, usize)| (found[0].values[(c * height + y) * width + x] * 255.0).round() as i32;
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
            // Where alpha leaves next to nothing of a colour, one step of a product is many of the colour.
            let least = if name.contains("alpha") && !way.starts_with("tensorflow") { 64 } else { 1 };
            let figures = format!("{name} {way}: {:.2} % differ, by {most} at most", share * 100.0);
            assert!(share <= 0.01 && most <= least, "{figures}");
        }
    }
}

/// What transformers crops is one pixel further up where a spare pixel is odd.
#[test]
fn transformers_crops_as_transformers_does() {
    let mut config = model(ResizeMode::Shortest, Interpolation::Bicubic, true, [32, 32]);
    let path = folder().join("wide.png");
    let of = |config: &ModelConfig| Pixels::new(config).of(&Picture::open(&path).unwrap(), &path).unwrap();
    let before = of(&config);
    config.dialect = Dialect::Transformers;
    assert!(
        before != of(&config),
        "123 x 77 becomes 51 x 32, of which 19 columns are spare: 9.5 goes to 10 or down to 9"
    );
}

#[test]
fn what_is_no_picture_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("no.jpg");
    for bytes in [&b"not a picture"[..], &[0xff, 0xd8, 0xff, 0xe0, 0, 16, b'J', b'F'], &[]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Picture::open(&path).unwrap_err().to_string();
        assert!(error.contains("no.jpg") && error.contains("expected a whole JPEG, PNG"), "{error}");
    }
    let whole = std::fs::read(folder().join("wide.png")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Picture::open(&path).is_err(), "half a picture");
    assert!(Picture::open(scratch.path()).unwrap_err().to_string().contains("cannot be read"));
}
