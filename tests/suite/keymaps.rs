//! Every published checkpoint's list of names and shapes: nothing unmapped, nothing missing, the
//! model found, both towers built. No weights, milliseconds.

use std::path::Path;

use clip_onnx::checkpoint::Checkpoint;
use clip_onnx::config::{Dialect, ModelConfig, names};
use clip_onnx::params::{Params, Reading, big_vision, open_clip};
use clip_onnx::pipeline::{Inspected, ModelChoice, Source, inspect};
use clip_onnx::tensor::Tensor;
use clip_onnx::towers::{self, Build};

use crate::common::{Fixture, root};

fn keys(name: &str) -> Vec<(String, Tensor)> {
    let text = std::fs::read_to_string(root().join(format!("tests/keys/{name}.txt"))).unwrap();
    let line = |line: &str| {
        let (name, shape) = line.split_once(' ').unwrap();
        let shape: Vec<usize> = shape.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        (name.to_owned(), Tensor::zeros(&shape))
    };
    text.lines().map(line).collect()
}

/// Parameters in millions, image and text, as published.
const PUBLISHED: &[(&str, u64, u64)] = &[
    ("ViT-B-16-SigLIP", 93, 110),
    ("ViT-L-16-SigLIP-256", 316, 336),
    ("ViT-SO400M-14-SigLIP", 428, 450),
    ("ViT-SO400M-14-SigLIP-384", 428, 450),
    ("ViT-B-16-SigLIP-i18n-256", 93, 278),
    ("ViT-SO400M-16-SigLIP-i18n-256", 428, 700),
    ("ViT-B-16-SigLIP2", 93, 282),
    ("ViT-B-32-SigLIP2-256", 95, 282),
    ("ViT-L-16-SigLIP2-256", 316, 566),
    ("ViT-SO400M-14-SigLIP2-378", 428, 708),
    ("ViT-gopt-16-SigLIP2-384", 1164, 708),
    ("ViT-B-16-SigLIP2-NaFlex", 93, 282),
    ("ViT-SO400M-16-SigLIP2-NaFlex", 428, 708),
    ("MobileCLIP2-S3", 125, 124),
    ("MobileCLIP2-S4", 322, 124),
    ("MobileCLIP2-L-14", 304, 124),
    ("ViT-B-32", 88, 63),
    ("ViT-H-14", 632, 354),
];

/// Every list of `tests/keys`: the model's name, and the list's.
fn lists() -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join("tests/keys")).unwrap();
    let mut lists: Vec<String> =
        files.map(|f| f.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    lists.sort();
    lists.into_iter().map(|list| (list.split('.').next().unwrap().to_owned(), list)).collect()
}

#[test]
fn every_known_model_is_found_from_its_names_and_shapes() {
    assert!(names().iter().all(|name| lists().iter().any(|(model, _)| model == name)), "a list for every model");
    let mut needs = std::collections::HashMap::new();
    for (name, list) in lists() {
        let params =
            Params::from_checkpoint(&Checkpoint::from_tensors(Path::new(&list), keys(&list)), &Reading::default());
        let params = params.unwrap_or_else(|e| panic!("{list}: {e}"));
        let (naming, dialect) = (params.naming(), params.naming().dialect());
        let in_file = |model: &str| ModelConfig::named(model).unwrap().for_file(naming, dialect).ok();
        let config = in_file(&name).unwrap_or_else(|| panic!("{list}: no dialect {dialect}"));
        towers::image(&config, &params, &Build::default()).unwrap_or_else(|e| panic!("{list}: {e}"));
        towers::text(&config, &params, &Build::default()).unwrap_or_else(|e| panic!("{list}: {e}"));
        towers::logits(&config, &params).unwrap();
        params.expect_all_read().unwrap_or_else(|e| panic!("{list}: {e}"));

        let wanted: Vec<_> = towers::wanted(&config).unwrap().into_iter().collect();
        let stored = |n: &str, heads: Option<usize>| params.heads(n).is_none() || params.heads(n) == heads;
        assert!(wanted.iter().all(|(n, w)| w.heads.is_none() || stored(n, w.heads)), "{list}: heads");

        let fitting: Vec<&str> = names()
            .into_iter()
            .filter(|other| {
                let Some(config) = in_file(other) else { return false };
                let wanted = needs
                    .entry((other.to_string(), naming.to_string()))
                    .or_insert_with(|| towers::wanted(&config).unwrap());
                wanted.len() == params.shapes().count()
                    && params.shapes().all(|(n, shape)| wanted.get(n).is_some_and(|w| w.shape == shape))
            })
            .collect();
        // Models that differ in what weights do not show: GELU, preprocessing, training data.
        let alike: &[&[&str]] = &[
            &["ViT-B-32", "ViT-B-32-quickgelu"],
            &["ViT-B-16", "ViT-B-16-quickgelu"],
            &["ViT-L-14", "ViT-L-14-quickgelu"],
            &["ViT-L-14-336", "ViT-L-14-336-quickgelu"],
            &["ViT-H-14", "ViT-H-14-quickgelu"],
            &["ViT-H-14-378", "ViT-H-14-378-quickgelu"],
            &["MobileCLIP-S3", "MobileCLIP2-S3"],
            &["MobileCLIP-S4", "MobileCLIP2-S4"],
            &["MobileCLIP-L-14", "MobileCLIP2-L-14"],
            &["MobileCLIP-S2", "MobileCLIP2-S2"],
            &["MobileCLIP-B", "MobileCLIP2-B"],
        ];
        let alike = alike.iter().find(|group| group.contains(&name.as_str())).copied();
        match alike {
            Some(group) if !list.ends_with(".apple") => {
                let (mut fitting, mut group) = (fitting, group.to_vec());
                fitting.sort_unstable();
                group.sort_unstable();
                assert_eq!(fitting, group, "{list}");
            }
            _ => assert_eq!(fitting, [name.as_str()], "{list}"),
        }
    }
}

#[test]
fn parameter_counts_are_the_published_ones() {
    for &(name, image, text) in PUBLISHED {
        let params =
            Params::from_checkpoint(&Checkpoint::from_tensors(Path::new(name), keys(name)), &Reading::default())
                .unwrap();
        let millions = |tower: &str| {
            let shapes = params.shapes().filter(|(n, _)| n.starts_with(tower));
            let count: usize = shapes.map(|(_, s)| s.iter().product::<usize>()).sum();
            (count as f64 / 1e6).round() as u64
        };
        assert_eq!((millions("visual."), millions("text.")), (image, text), "{name}");
    }
}

/// The table of open_clip's names, backwards and forwards, covers what big_vision's gives.
#[test]
fn both_namings_meet_in_the_same_parameters() {
    let (from, to) = (big_vision::siglip(), open_clip::Form::Siglip.map(true));
    for name in names().into_iter().filter(|name| name.contains("SigLIP") && !name.contains("NaFlex")) {
        let canonical = from.apply(&keys(name), None).unwrap().0;
        let renamed: Vec<(String, Tensor)> =
            canonical.iter().flat_map(|(n, mapped)| to.backwards(n, &mapped.tensor).unwrap()).collect();
        let back = to.apply(&renamed, None).unwrap().0;
        assert!(canonical.keys().eq(back.keys()), "{name}");
        assert!(canonical.iter().all(|(n, m)| m.tensor.shape() == back[n].tensor.shape()), "{name}");
    }
}

/// open_clip's SigLIP names follow open_clip's GELU, which is exact for B/16.
#[test]
fn dialects_change_what_the_table_says_they_change() {
    use clip_onnx::config::Act::{Gelu, GeluTanh};
    for (name, vision, text) in [
        ("ViT-B-16-SigLIP", Gelu, Gelu),
        ("ViT-B-16-SigLIP2-512", Gelu, GeluTanh),
        ("ViT-B-32-SigLIP2-256", GeluTanh, GeluTanh),
        ("ViT-L-16-SigLIP2-384", Gelu, GeluTanh),
        ("ViT-L-16-SigLIP2-512", GeluTanh, GeluTanh),
        ("ViT-SO400M-14-SigLIP2-378", Gelu, GeluTanh),
        ("ViT-SO400M-16-SigLIP-i18n-256", GeluTanh, Gelu),
        ("ViT-gopt-16-SigLIP2-384", GeluTanh, GeluTanh),
    ] {
        let original = ModelConfig::named(name).unwrap();
        let open_clip = original.in_dialect(Dialect::OpenClip).unwrap();
        assert_eq!(
            (original.vision_cfg.as_ref().unwrap().act(), original.text_cfg.as_ref().unwrap().act()),
            (GeluTanh, GeluTanh)
        );
        assert_eq!(
            (open_clip.vision_cfg.as_ref().unwrap().act(), open_clip.text_cfg.as_ref().unwrap().act()),
            (vision, text),
            "{name}"
        );
    }
}

#[test]
fn inspect_tells_what_keeps_a_checkpoint_from_being_a_model() {
    let fixture = Fixture::named("siglip_tiny");
    let Inspected::Checkpoint(report) = inspect(&Source::new(fixture.checkpoint())).unwrap() else {
        panic!("a checkpoint")
    };
    assert_eq!((report.format.as_str(), report.naming.as_deref()), ("npz", Some("big_vision")));
    assert!(report.model.is_none() && report.problem.is_some() && !report.differences.is_empty());
    let mut source = Source::new(fixture.checkpoint());
    source.model = ModelChoice::File(fixture.config());
    let Inspected::Checkpoint(report) = inspect(&source).unwrap() else { panic!("a checkpoint") };
    assert_eq!(report.model.as_deref(), Some("siglip_tiny"));
    assert!(report.differences.is_empty());
}

/// Known models are found in the form timm's `reparameterize_model` leaves them in too.
#[test]
fn folded_checkpoints_of_known_models_are_found() {
    for name in ["MobileCLIP-S1", "MobileCLIP2-S0", "MobileCLIP2-S3"] {
        let naming = clip_onnx::config::Naming::OpenClip;
        let mut config = ModelConfig::named(name).unwrap().for_file(naming, Dialect::OpenClip).unwrap();
        assert!(config.fold_image_branches(), "{name}");
        let names = open_clip::Form::FastVit.map(config.text_cfg.as_ref().unwrap().head.unwrap().bias);
        let wanted = towers::wanted(&config).unwrap();
        let tensors: Vec<(String, Tensor)> =
            wanted.iter().flat_map(|(n, w)| names.backwards(n, &Tensor::zeros(&w.shape)).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{}.safetensors", name.replace('-', "_")));
        let tensors: Vec<(String, Tensor)> = tensors
            .into_iter()
            .map(|(n, t)| (n.clone(), Tensor::from_f32(&n, &t.shape(), &vec![0.01; t.len()])))
            .collect();
        let mut file = std::fs::File::create(&path).unwrap();
        let metadata = std::collections::BTreeMap::new();
        clip_onnx::checkpoint::write::safetensors(&mut file, &metadata, &tensors, &|_| ()).unwrap();
        for model in [ModelChoice::Detect, ModelChoice::Named(name.to_owned())] {
            let mut source = Source::new(&path);
            source.model = model;
            let Inspected::Checkpoint(report) = inspect(&source).unwrap() else { panic!("a checkpoint") };
            assert_eq!(report.model.as_deref(), Some(name), "{:?}", report.problem);
            assert!(report.differences.is_empty(), "{name}: {:?}", report.differences.first());
        }
    }
}
