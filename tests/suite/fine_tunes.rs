//! What people save: one tower alone, a model inside of others, LoRA adapters, folders of other libraries.
//!
//! `tests/cases/own-lora*` and `own-timm-*` were written by `scripts/make_fine_tunes.py`.

use std::path::{Path, PathBuf};

use clip_onnx::checkpoint::Checkpoint;
use clip_onnx::embed::{Embedder, Options};
use clip_onnx::engine;
use clip_onnx::error::sentence;
use clip_onnx::layout::Layout;
use clip_onnx::modality::Modality;
use clip_onnx::pipeline::{Convert, Export, ModelChoice, Silent, convert, export};
use clip_onnx::precision::Precision;
use clip_onnx::verify::EMBEDDING;
use clip_onnx::verify::report::Verdict;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use crate::common::{Fixture, Remarks, case, root, worst};

/// Exports and compares; gives the remarks.
fn agrees(request: Export, what: &str) -> Vec<String> {
    let remarks = Remarks::default();
    let report = export(&request, &remarks).unwrap_or_else(|e| panic!("{what}: {}", sentence(&e))).report.unwrap();
    assert_eq!(report.verdict, Verdict::Passed, "{what}: {report}");
    assert!(worst(&report) <= EMBEDDING.bound, "{what}");
    remarks.0.into_inner().unwrap()
}

fn request(checkpoint: &Path, out: &Path) -> Export {
    Export::new(checkpoint, out.join("out"))
}

/// Cases of one tower: where the checkpoint is, and which tower it has.
const TOWERS: &[(&str, Modality)] = &[
    ("tower-clip-vision-projection/model", Modality::Image),
    ("tower-siglip-vision-flat-names/model", Modality::Image),
    ("tower-siglip2-naflex-vision/model", Modality::Image),
    ("tower-timm-siglip/model", Modality::Image),
    ("own-timm-clip/model", Modality::Image),
    ("own-timm-eva02/model", Modality::Image),
    ("own-timm-fastvit/model", Modality::Image),
    ("own-timm-siglip/model", Modality::Image),
    ("tower-clip-text-flat-names/model", Modality::Text),
];

fn reference(checkpoint: &Path) -> PathBuf {
    checkpoint.with_file_name("reference.npz")
}

#[test]
fn a_tower_alone_is_exported_and_compared() {
    for (folder, tower) in TOWERS {
        let (out, checkpoint) = (tempfile::tempdir().unwrap(), case(folder));
        agrees(request(&checkpoint, out.path()).reference(reference(&checkpoint)), folder);
        let file = |tower: Modality| {
            out.path().join(format!("out/{}_model.onnx", if tower == Modality::Image { "vision" } else { "text" }))
        };
        assert!(file(*tower).exists() && !file(tower.other()).exists(), "{folder}");
    }
    // Of a configuration of both towers, the one that the file has is left.
    let (out, folder) = (tempfile::tempdir().unwrap(), case("tower-openclip-visual-only"));
    let file = folder.join("checkpoint.pt");
    let model = ModelChoice::File(folder.join("config.json"));
    let remarks = agrees(request(&file, out.path()).model(model).reference(reference(&file)), "visual alone");
    assert!(remarks.iter().any(|remark| remark.contains("no text tower")), "{remarks:?}");
}

#[test]
fn a_tower_alone_has_every_precision_and_the_layouts_for_one() {
    let all = [Precision::Fp32, Precision::Fp16, Precision::Int8, Precision::Int4];
    for (folder, tower) in TOWERS {
        let (out, checkpoint) = (tempfile::tempdir().unwrap(), case(folder));
        let report =
            export(&request(&checkpoint, out.path()).precisions(all).reference(reference(&checkpoint)), &Silent);
        assert_eq!(report.unwrap().report.unwrap().verdict, Verdict::Passed, "{folder}");
        let naflex = folder.contains("naflex");
        for layout in Layout::ALL {
            let out = tempfile::tempdir().unwrap();
            let outcome = export(&request(&checkpoint, out.path()).layout(layout).unverified(), &Silent);
            let one = matches!(layout, Layout::Plain) || (layout == Layout::Hf && !naflex);
            assert_eq!(outcome.is_ok(), one, "{folder}, {}: {:?}", layout.name(), outcome.err().map(|e| e.sentence()));
        }
        // `embed` makes its pixels; a text tower needs a vocabulary.
        if *tower == Modality::Image {
            let embedder = Embedder::open(out.path().join("out"), Options::new(engine::tract())).unwrap();
            let mut rows = 0;
            let photo = root().join("examples/sample/circle.png");
            let each = |_: &Path, row: Result<Vec<f32>, clip_onnx::embed::Error>| {
                let norm = row?.iter().map(|v| v * v).sum::<f32>();
                assert!((norm - 1.0).abs() < 1e-4, "{folder}: {norm}");
                rows += 1;
                Ok(())
            };
            embedder.images(&[photo], each).unwrap();
            assert_eq!(rows, 1, "{folder}");
        }
    }
}

#[test]
fn a_tower_alone_is_converted_and_read_again() {
    for (folder, _) in TOWERS.iter().filter(|(folder, _)| !folder.contains("naflex")) {
        let (out, checkpoint) = (tempfile::tempdir().unwrap(), case(folder));
        let file = out.path().join("converted.safetensors");
        convert(&Convert::new(&checkpoint, &file), &Silent).unwrap_or_else(|e| panic!("{folder}: {}", e.sentence()));
        agrees(request(&file, out.path()).reference(reference(&checkpoint)), folder);
    }
}

/// The fixture's tensors under other names.
fn renamed(to: &Path, names: impl Fn(&str) -> String, more: &[&str]) {
    let checkpoint = Checkpoint::open(&Fixture::named("openclip_vit_tiny").checkpoint()).unwrap();
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let own = checkpoint.tensors().iter().map(|(name, t)| (names(name), t.shape(), bytes(t.to_f32().unwrap())));
    let more = more.iter().map(|name| ((*name).to_owned(), vec![3], bytes(vec![1.0, 2.0, 3.0])));
    let all: Vec<_> = own.chain(more).collect();
    let views = all.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, to).unwrap();
}

#[test]
fn a_model_inside_of_others_gives_the_same_graphs() {
    let folder = tempfile::tempdir().unwrap();
    let config = Fixture::named("openclip_vit_tiny").config();
    let graphs = |names: &dyn Fn(&str) -> String, more: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        // The file's name is in the graph's metadata.
        let file = folder.path().join("checkpoint.safetensors");
        renamed(&file, names, more);
        let mut request = request(&file, out.path()).model(ModelChoice::File(config.clone())).unverified();
        request.output.hash = false;
        let remarks = Remarks::default();
        export(&request, &remarks).unwrap_or_else(|e| panic!("{}", sentence(&e)));
        let read = |name: &str| std::fs::read(out.path().join("out").join(name)).unwrap();
        ([read("vision_model.onnx"), read("text_model.onnx")], remarks.0.into_inner().unwrap())
    };
    let (plain, _) = graphs(&|name| name.to_owned(), &[]);
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_fsdp_wrapped_module.",
        "model.",
        "clip.",
        "clip_model.",
        "net.",
        "model.clip_model.",
        "ema_state_dict.",
        "model_ema.module.",
        "averaged_model.module.",
    ] {
        let (wrapped, remarks) = graphs(&|name| format!("{prefix}{name}"), &[]);
        assert!(wrapped == plain, "{prefix}");
        assert!(remarks.iter().any(|remark| remark.contains("taken off")), "{prefix}: {remarks:?}");
    }
    // On part of the names, and between others.
    let split = |name: &str| match name {
        "logit_scale" => "_logit_scale.module.logit_scale".to_owned(),
        name if name.starts_with("visual.") => format!("_image_encoder.module.{name}"),
        name => format!("_text_encoder.module.{name}"),
    };
    assert!(graphs(&split, &[]).0 == plain);
    let nested = |name: &str| {
        name.replace("visual.", "visual._orig_mod.").replace("resblocks.0.", "resblocks.0._checkpoint_wrapped_module.")
    };
    assert!(graphs(&nested, &[]).0 == plain);
    // What is outside both towers is left out, and named.
    for (prefix, more) in [("", ["classifier.weight", "loss.scale"]), ("model.", ["classifier.weight", "ema.decay"])] {
        let (with_more, remarks) = graphs(&|name| format!("{prefix}{name}"), &more);
        assert!(with_more == plain, "{more:?}");
        assert!(more.iter().all(|name| remarks.iter().any(|remark| remark.contains(name))), "{remarks:?}");
    }
}

#[test]
fn of_two_models_one_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pair.safetensors");
    let checkpoint = Checkpoint::open(&Fixture::named("openclip_vit_tiny").checkpoint()).unwrap();
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut all = Vec::new();
    for (name, tensor) in checkpoint.tensors() {
        let values = tensor.to_f32().unwrap();
        let other = values.iter().map(|v| v * 0.5).collect();
        all.push((format!("student.{name}"), tensor.shape(), bytes(values)));
        all.push((format!("teacher.{name}"), tensor.shape(), bytes(other)));
    }
    let views = all.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &file).unwrap();
    let fixture = Fixture::named("openclip_vit_tiny");
    let asked = |prefix: Option<&str>| {
        let mut request = request(&file, folder.path()).model(ModelChoice::File(fixture.config())).replace();
        request.source.weights_prefix = prefix.map(str::to_owned);
        request.reference(fixture.folder.join("reference.npz"))
    };
    let said = export(&asked(None), &Silent).unwrap_err().sentence();
    assert!(said.contains("`student.`, `teacher.`") && said.contains("weights_prefix"), "{said}");
    let said = export(&asked(Some("net.")), &Silent).unwrap_err().sentence();
    assert!(said.contains("`net.`") && said.contains("`student.`"), "{said}");
    agrees(asked(Some("student")), "student");
    let other = export(&asked(Some("teacher.")), &Silent).unwrap().report.unwrap();
    assert_eq!(other.verdict, Verdict::Failed);
}

#[test]
fn adapters_are_merged_as_peft_merges_them() {
    let folder = case("own-lora");
    for adapter in ["plain", "second", "patterns", "dora", "saved"] {
        let out = tempfile::tempdir().unwrap();
        let mut request = request(&folder.join("base"), out.path());
        request.source.adapters.push(folder.join(adapter));
        let remarks = agrees(request.reference(folder.join(format!("{adapter}.npz"))), adapter);
        assert!(remarks.iter().any(|remark| remark.contains(&format!("adapter {adapter} is merged"))), "{remarks:?}");
        let manifest = std::fs::read_to_string(out.path().join("out/manifest.json")).unwrap();
        assert!(manifest.contains(&format!("\"adapters\": \"{adapter} (sha256 ")), "{manifest}");
    }
    // With the adapter inside.
    let out = tempfile::tempdir().unwrap();
    agrees(request(&folder.join("whole"), out.path()).reference(folder.join("plain.npz")), "whole");
    for (name, file) in [("own-lora-attention", "base"), ("lora-unmerged", "model")] {
        let out = tempfile::tempdir().unwrap();
        let mut request = request(&case(name).join(file), out.path());
        if name == "own-lora-attention" {
            request.source.adapters.push(case(name).join("adapter"));
        }
        agrees(request.reference(case(name).join("reference.npz")), name);
    }
    // An adapter of another model.
    let out = tempfile::tempdir().unwrap();
    let mut request = request(&case("own-lora-attention/base"), out.path());
    request.source.adapters.push(folder.join("plain"));
    let said = export(&request.unverified(), &Silent).unwrap_err().sentence();
    assert!(said.contains("part of an adapter, and the model has no"), "{said}");
}

#[test]
fn folders_and_families_of_other_libraries_are_followed() {
    for (name, file) in [("folder-sentence-transformers", "model"), ("family-metaclip2", "model")] {
        let out = tempfile::tempdir().unwrap();
        agrees(request(&case(name).join(file), out.path()).reference(case(name).join("reference.npz")), name);
    }
}

#[test]
fn one_tower_of_two_is_exported_where_that_is_asked_for() {
    let fixture = Fixture::named("openclip_vit_tiny");
    for only in Modality::ALL {
        let out = tempfile::tempdir().unwrap();
        let mut request = request(&fixture.checkpoint(), out.path()).model(ModelChoice::File(fixture.config()));
        request.source.only = Some(only);
        let exported = export(&request.unverified(), &Silent).unwrap();
        assert_eq!(exported.files.len(), 1);
        assert!(exported.selected.config.has(only) && !exported.selected.config.has(only.other()));
    }
}
