//! Every precision of every kind of tower, run by tract against the authors' embeddings; what is kept,
//! measured and reported.

use std::path::Path;

use clip_onnx::pipeline::{Export, Exported, Silent, export};
use clip_onnx::precision::{Precision, Reason};
use clip_onnx::verify::report::{Compared, TowerReport};

use crate::common::Fixture;
use crate::common::npz::{Arrays, Zip, get, read, write};

fn exported(change: impl FnOnce(&mut Export), fixture: &Fixture, out: &Path) -> Exported {
    let mut request = fixture.export_to(out).precisions(Precision::ALL);
    request.proof.batches = Some(vec![1, 3]);
    change(&mut request);
    export(&request, &Silent).unwrap_or_else(|error| panic!("{}: {error}", fixture.name))
}

/// Least cosine of each file with the reference.
fn cosines(exported: &Exported) -> Vec<(String, &'static str, f64)> {
    let report = exported.report.as_ref().unwrap();
    let least = |tower: &TowerReport| {
        let cosines = tower.batches.iter().map(|batch| match &batch.compared {
            Some(Compared::Agreement(agreement)) => agreement.cosine,
            other => panic!("{}: {other:?}", tower.file),
        });
        cosines.fold(f64::INFINITY, f64::min)
    };
    report.towers.iter().map(|tower| (tower.file.clone(), tower.precision, least(tower))).collect()
}

/// The least cosine of towers of 64 channels, tighter than what files are held to in most precisions; towers of hundreds
/// lose less.
fn bound(name: &str) -> f64 {
    let precision = Precision::parse(name).unwrap();
    match precision {
        Precision::Fp32 => 1.0 - 1e-9,
        Precision::Fp16Weights => 0.999_995,
        Precision::Int8 => 0.998,
        Precision::Int4 | Precision::Int4Fp16 => 0.95,
        Precision::Fp16 | Precision::Int8Weights => precision.least_cosine(),
    }
}

#[test]
fn every_precision_agrees_as_far_as_it_can() {
    for name in ["siglip_tiny", "mobileclip_s0_tiny", "openclip_vit_tiny", "siglip2_naflex_tiny", "mobileclip2_s3_tiny"]
    {
        let (fixture, folder) = (Fixture::named(name), tempfile::tempdir().unwrap());
        let exported = exported(|_| (), &fixture, &folder.path().join("out"));
        let report = exported.report.as_ref().unwrap();
        assert!(report.passed, "{name}: {report}");
        assert_eq!(report.rankings.len(), 7, "{name}");
        let cosines = cosines(&exported);
        assert_eq!(cosines.len(), 14);
        for (file, precision, cosine) in &cosines {
            assert!(*cosine >= bound(precision), "{name} {file}: {cosine}");
        }
        let size = |suffix: &str| {
            let named = |p: &&clip_onnx::pipeline::PrecisionReport| p.file == format!("text_model{suffix}.onnx");
            exported.precisions.iter().find(named).unwrap().size
        };
        assert!(
            size("_int8w") < size("_fp16w") && size("_fp16w") < size("") && size("_q4") <= size("_int8w"),
            "{name}"
        );
    }
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let (fixture, folder) = (Fixture::named("siglip_tiny"), tempfile::tempdir().unwrap());
    let bytes = |name: &str| {
        let out = folder.path().join(name);
        let exported = exported(|request| *request = request.clone().unverified(), &fixture, &out);
        assert_eq!(exported.files.len(), 14);
        exported.files.iter().map(|file| std::fs::read(&file.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(bytes("a"), bytes("b"));
}

#[test]
fn layers_named_are_kept_and_reported() {
    let (fixture, folder) = (Fixture::named("openclip_vit_tiny"), tempfile::tempdir().unwrap());
    let precisions = vec![Precision::Fp16Weights, Precision::Int8, Precision::Int8Weights, Precision::Int4];
    let change = |request: &mut Export| {
        request.precision.exclude = vec!["mlp.fc2".to_owned()];
        request.precision.auto_exclude = false;
        request.precision.precisions = precisions;
    };
    let exported = exported(change, &fixture, &folder.path().join("out"));
    for report in exported.precisions {
        assert!(report.kept > 0 && report.kept_bytes > 0, "{}", report.file);
        for layer in &report.layers {
            assert_eq!(layer.promoted.is_some(), layer.name.contains("mlp.fc2"), "{}: {}", report.file, layer.name);
        }
        let stored = |name: &str| report.layers.iter().find(|l| l.name.ends_with(name)).unwrap().stored;
        let expected = match report.precision {
            "fp16-weights" => ("fp32", "fp16"),
            "int8" => ("fp32", "int8"),
            "int8-weights" => ("fp16", "int8"),
            _ => ("int8", "int4"),
        };
        let name = if report.precision == "fp16-weights" { [".fc2.weight", ".fc1.weight"] } else { [".fc2", ".fc1"] };
        assert_eq!((stored(name[0]), stored(name[1])), expected, "{}", report.file);
    }
}

/// Six channels that whatever writes the residual stream makes tens of times larger.
fn planted(fixture: &Fixture, to: &Path) {
    let mut arrays: Arrays = read(&fixture.checkpoint());
    for (name, array) in &mut arrays {
        let writes = ["MlpBlock_0/Dense_1/kernel", "MlpBlock_0/Dense_1/bias", "0/out/kernel", "0/out/bias"];
        if !name.contains("encoderblock") || !writes.iter().any(|part| name.ends_with(part)) {
            continue;
        }
        let width = *array.shape.last().unwrap();
        for (at, value) in array.values.iter_mut().enumerate() {
            if [3, 11, 20, 33, 40, 57].contains(&(at % width)) {
                *value *= 20.0 + (at % width) as f32 / 2.0;
            }
        }
    }
    write(to, &arrays, Zip::Stored);
}

/// Outliers are multiplied apart, by the weights alone, and as measured. Compared with the float32 towers of
/// the same weights.
#[test]
fn planted_outliers_are_lived_with() {
    let (fixture, folder) = (Fixture::named("siglip_tiny"), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("planted.npz");
    planted(&fixture, &checkpoint);
    let with = |name: &str, calibrate: bool, precision: Precision, max_drop: f64| {
        let change = |request: &mut Export| {
            request.source.checkpoint.clone_from(&checkpoint);
            request.precision.precisions = vec![precision];
            request.precision.auto_exclude = precision != Precision::Int8;
            request.proof.reference = None;
            request.precision.max_drop = Some(max_drop);
            request.precision.calibrate = calibrate.then(|| fixture.reference());
        };
        let exported = exported(change, &fixture, &folder.path().join(name));
        assert!(exported.report.as_ref().unwrap().failures.is_empty(), "{}", exported.report.unwrap());
        exported
    };
    for (name, calibrate) in [("weights", false), ("measured", true)] {
        let exported = with(name, calibrate, Precision::Int8, 0.005);
        assert!(exported.precisions.iter().all(|report| report.kept == 0), "{name}");
        for report in &exported.precisions {
            let divided =
                |part: &str| report.layers.iter().filter(|l| l.name.contains(part) && l.outlier_channels > 0).count();
            assert!(divided("fc1") > 0 && divided("fc2") > 0, "{name}: {report:?}");
        }
        let file = clip_onnx::onnx::read::summary(&exported.files[0].path).unwrap();
        assert!(file.operators.contains_key("MatMulInteger") && file.operators.contains_key("DynamicQuantizeLinear"));
    }
    let exported = with("int4", true, Precision::Int4, 0.02);
    let stored = |stored: &str| {
        exported.precisions.iter().flat_map(|report| &report.layers).filter(|layer| layer.stored == stored).count()
    };
    assert!(stored("int4") > 0 && stored("int8") > 0, "{} int4, {} int8", stored("int4"), stored("int8"));
}

/// Channels inside a block that are large by themselves, made up for behind it: the same embeddings, and as
/// good ones, as integers, as without them.
#[test]
fn large_channels_inside_do_not_set_the_others_range() {
    let (fixture, folder) = (Fixture::named("siglip_tiny"), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("inside.npz");
    let mut arrays: Arrays = read(&fixture.checkpoint());
    let mut changed = 0;
    for (name, array) in arrays.iter_mut().filter(|(name, _)| name.contains("encoderblock")) {
        // The value channel 5: the last two axes of its kernel [D, heads, D/heads], the first two of what follows.
        let (channels, factor) = match name {
            name if name.ends_with("0/value/kernel") => (array.shape[1] * array.shape[2], 60.0),
            name if name.ends_with("0/value/bias") => (array.values.len(), 60.0),
            name if name.ends_with("0/out/kernel") => (0, 1.0 / 60.0),
            _ => continue,
        };
        let width = array.shape.last().copied().unwrap();
        for (at, value) in array.values.iter_mut().enumerate() {
            let channel = if channels == 0 { at / width } else { at % channels };
            *value *= if channel == 5 { factor } else { 1.0 };
        }
        changed += 1;
    }
    assert!(changed >= 12, "{changed}");
    write(&checkpoint, &arrays, Zip::Stored);
    let change = |request: &mut Export| {
        request.source.checkpoint.clone_from(&checkpoint);
        request.precision.precisions = vec![Precision::Fp32, Precision::Int8, Precision::Int8Weights];
    };
    let exported = exported(change, &fixture, &folder.path().join("out"));
    for (file, precision, cosine) in cosines(&exported) {
        assert!(cosine >= bound(precision), "{file}: {cosine}");
    }
    let layers = || exported.precisions.iter().filter(|p| p.precision == "int8").flat_map(|p| &p.layers);
    assert!(layers().filter(|layer| layer.name.ends_with("attn.proj")).all(|layer| layer.outlier_channels > 0));
}

#[test]
fn layers_are_kept_until_what_is_measured_holds() {
    let (fixture, folder) = (Fixture::named("openclip_vit_tiny"), tempfile::tempdir().unwrap());
    let with = |name: &str, max_drop: f64| {
        let change = |request: &mut Export| {
            request.precision.precisions = vec![Precision::Int4];
            request.precision.max_drop = Some(max_drop);
            request.precision.calibrate = Some(fixture.reference());
            request.proof.batches = Some(vec![1, 3]);
        };
        exported(change, &fixture, &folder.path().join(name))
    };
    let measured = |exported: &Exported| {
        let layers = exported.precisions.iter().flat_map(|report| &report.layers);
        layers.filter(|layer| layer.promoted == Some(Reason::Measured)).count()
    };
    let (loose, tight, impossible) = (with("loose", 0.5), with("tight", 0.0015), with("impossible", 1e-9));
    assert_eq!(measured(&loose), 0);
    let kept = [&loose, &tight, &impossible].map(measured);
    assert!(0 < kept[1] && kept[1] < kept[2], "{kept:?}");
    assert!(tight.report.as_ref().unwrap().passed, "{}", tight.report.unwrap());
    assert!(!impossible.report.as_ref().unwrap().passed, "int8 loses more than that");
    assert!(impossible.precisions.iter().flat_map(|p| &p.layers).all(|layer| layer.stored != "int4"));
}

#[test]
fn what_float16_cannot_hold_is_clamped_and_told() {
    let (fixture, folder) = (Fixture::named("siglip_tiny"), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join("large.npz");
    let mut arrays = read(&fixture.checkpoint());
    get(&mut arrays, "img/pos_embedding").values[5] = 1e6;
    write(&checkpoint, &arrays, Zip::Stored);
    let change = |request: &mut Export| {
        request.source.checkpoint.clone_from(&checkpoint);
        (request.precision.precisions, request.proof.reference) = (vec![Precision::Fp16], None);
    };
    let exported = exported(change, &fixture, &folder.path().join("out"));
    let clamped: Vec<_> = exported.precisions.iter().flat_map(|report| report.clamped.clone()).collect();
    assert_eq!(clamped, [("visual.pos_embed".to_owned(), 1)]);
}

/// int4 as standard operators is nothing for tract: told, and no pass.
#[test]
fn what_nothing_ran_is_no_pass() {
    let (fixture, folder) = (Fixture::named("openclip_vit_tiny"), tempfile::tempdir().unwrap());
    let change = |request: &mut Export| {
        request.precision.precisions = vec![Precision::Fp32, Precision::Int4];
        request.graph.target = clip_onnx::onnx::Target::with_opset(&clip_onnx::onnx::target::PORTABLE, 21).unwrap();
        request.proof.engines.kinds = vec![clip_onnx::engine::EngineKind::Tract];
    };
    let exported = exported(change, &fixture, &folder.path().join("out"));
    let report = exported.report.unwrap();
    assert!(!report.passed);
    assert_eq!(report.failures.len(), 2, "{report}");
    for failure in &report.failures {
        assert!(
            failure.starts_with("not run: tract could not load") && failure.contains("ONNX Runtime may run it"),
            "{failure}"
        );
    }
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(page.contains("FAILED") && page.contains("not run") && page.contains("<svg"));
}
