//! What graphs take and give besides the plain towers: bytes, pictures of any size, both towers in one file,
//! labels inside, every place.

use clip_onnx::onnx::Target;
use clip_onnx::onnx::read::{Port, Summary, summary};
use clip_onnx::onnx::target::{ONNX_RUNTIME, PORTABLE};
use clip_onnx::pipeline::{Artifacts, Export, ExtraOutputs, Silent, export};
use clip_onnx::ports::PixelFormat as Pixels;
use clip_onnx::precision::Precision;
use clip_onnx::verify::{EMBEDDING, LOGITS, Report};
use ndarray::{Array2, Axis};
use ndarray_npy::read_npy;

use crate::common::bench::{Bench, EXPORT, tokenizer};
use crate::common::npz::get;
use crate::common::{Fixture, bytes, worst};

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pixels");
const BYTES: Pixels = Pixels::Bytes { last: true, alpha: true, resize: false };

/// One fixture of each way pixels and tokens go: MAP head, conv stem, FastViT, class token, both NaFlex's.
const FIXTURES: [&str; 6] = [
    "siglip_tiny_rect",
    "mobileclip_b_tiny",
    "mobileclip_s0_tiny",
    "openclip_vit_tiny_quickgelu",
    "lit_tiny_imghead",
    "siglip2_naflex_tiny",
];

fn exported(request: &Export) -> Report {
    let name = request.source.checkpoint.display();
    let report = export(request, &Silent).unwrap_or_else(|e| panic!("{name}: {e}")).report.unwrap();
    assert!(report.passed, "{name}: {:?}", report.failures);
    report
}

fn described(bench: &Bench, name: &str) -> Summary {
    summary(&bench.path(name)).unwrap()
}

fn ports(ports: &[Port]) -> Vec<String> {
    ports.iter().map(|port| format!("{} {} [{}]", port.name, port.element_type, port.shape.join(", "))).collect()
}

#[test]
fn both_towers_in_one_file_agree_and_so_do_their_logits() {
    for name in FIXTURES {
        let fixture = Fixture::named(name);
        for (fold, target) in [
            (true, Target::default()),
            (false, Target::with_opset(&PORTABLE, 20).unwrap()),
            (true, Target::new(&ONNX_RUNTIME)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut request = fixture.export_to(&folder.path().join("out"));
            request.graph.artifacts = Artifacts::Combined;
            (request.graph.savings.fold, request.graph.target) = (fold, target);
            let report = exported(&request);
            assert!(worst(&report) <= EMBEDDING.bound, "{name}: {:.2e}", worst(&report));
            let towers: Vec<&str> = report.towers.iter().map(|tower| tower.modality.name()).collect();
            assert_eq!(towers, ["image", "text"], "{name}");
            let [inside] = &report.inside[..] else { panic!("{name}: {:?}", report.inside) };
            assert!(inside.output == "logits_per_image" && inside.error <= LOGITS.bound, "{name}: {inside:?}");
            let logits = report.logits.expect("the reference has them");
            assert!(logits.over_scale <= LOGITS.bound && logits.scale_error.is_none_or(|e| e < 1e-5), "{name}");
        }
    }
}

#[test]
fn both_towers_in_one_file_are_used_as_two() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    let line = format!("{EXPORT} --tokenizer tokenizer.json --engine tract --force");
    bench.run(&format!("{line} --no-verify").replace(" --engine tract", "")).succeeded();
    let both = format!("embed out --image {PICTURES}/wide.png {PICTURES}/tall.png --text cat dog bird --engine tract");
    bench.run(&format!("{both} -o apart.json")).succeeded();
    bench.run(&format!("{line} --combined --layout hf --image-size 32 --precision fp32,int8")).succeeded();
    let found = described(&bench, "out/onnx/model.onnx");
    let names: Vec<&str> = found.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]);
    assert_eq!(found.outputs[0].shape, ["image_batch_size", "text_batch_size"]);
    assert_eq!(
        ports(&found.inputs),
        ["pixel_values float [image_batch_size, 3, 32, 32]", "input_ids int64 [text_batch_size, sequence_length]"]
    );
    assert!(bench.path("out/onnx/model_int8.onnx").exists() && !bench.path("out/model.onnx").exists());

    bench.run(&format!("{line} --combined --reference reference.npz")).succeeded();
    bench.run(&format!("{both} -o together.json")).succeeded();
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(bench.path(name)).unwrap()).unwrap()
    };
    let (apart, together) = (read("apart.json"), read("together.json"));
    for of in ["images", "texts"] {
        let numbers = |json: &serde_json::Value| -> Vec<f64> {
            let rows = json[of].as_array().unwrap().iter().flat_map(|row| row["embedding"].as_array().unwrap());
            rows.map(|v| v.as_f64().unwrap()).collect()
        };
        let (apart, together) = (numbers(&apart), numbers(&together));
        assert!(!apart.is_empty() && apart.len() == together.len());
        assert!(apart.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-6), "{of}");
    }
    bench.run("verify out --reference reference.npz --engine tract").succeeded().says(&["logits_per_image", "text"]);
    bench.run("bench out --engine tract --rounds 1 --batches 2").succeeded().says(&["model.onnx"]);
    bench.run(&format!("{line} --combined --static 2 --reference reference.npz")).succeeded();
    bench.run(&format!("classify out {PICTURES}/wide.png cat dog --engine tract")).succeeded().says(&["cat", "dog"]);
    bench.run(&format!("{line} --combined --layout immich")).refused(&["immich", "combined", "--combined"]);
    bench.run(&format!("{line} --combined --no-normalize")).refused(&["--no-normalize"]);
    bench.run(&format!("{line} --combined --max-drop 0.01 --precision int8")).refused(&["--max-drop"]);
}

#[test]
fn labels_become_part_of_the_file() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    // With its own bias everything is next to impossible.
    bench.rewrite(|arrays| get(arrays, "b").values.fill(31.0));
    let line = format!("{EXPORT} --tokenizer tokenizer.json --engine tract --force");
    bench.run(&line).succeeded();
    let ask = |labels: &str| -> Vec<(String, f64)> {
        let outcome = bench.run(&format!("classify out {PICTURES}/wide.png {labels} --json --engine tract"));
        let found: serde_json::Value = serde_json::from_str(&outcome.succeeded().out).unwrap();
        let entry =
            |r: &serde_json::Value| (r["label"].as_str().unwrap().to_owned(), r["probability"].as_f64().unwrap());
        found[0]["labels"].as_array().unwrap().iter().map(entry).collect()
    };
    bench.run(&format!("classify out {PICTURES}/wide.png --engine tract")).refused(&["no labels inside", "--labels"]);
    let expected = ask("--labels cat,dog,snail");
    assert!(expected[0].1 > 0.01 && expected[0].1 - expected[2].1 > 1e-3, "{expected:?}");
    // As editors on other systems leave it: a mark in front, blanks, blank lines, a label twice.
    std::fs::write(bench.path("labels.txt"), "\u{feff}cat\r\n\r\n  dog \n\t\nsnail\ncat\n").unwrap();
    for flags in ["", "--image-type uint8 --precision fp32,int8", "--static 2", "--target onnxruntime"] {
        let outcome = bench.run(&format!("{line} --labels-file labels.txt {flags}"));
        assert!(outcome.succeeded().err.contains("4 labels are given, 3 of them different"), "{}", outcome.err);
        let found = ask("");
        assert_eq!(found.len(), 3);
        for (label, probability) in &found {
            let (_, expected) = expected.iter().find(|(other, _)| other == label).unwrap();
            let bound = if flags.contains("int8") { 1e-2 } else { 1e-5 };
            assert!((probability - expected).abs() < bound, "{flags}: {found:?}, {expected}");
        }
    }
    assert_eq!(std::fs::read_to_string(bench.path("out/labels.txt")).unwrap(), "cat\ndog\nsnail\n");
    // Named one by one, and the file's older flag.
    let written = bytes(&bench.path("out"), "classifier.onnx");
    bench.run(&format!("{line} --labels cat,dog,snail --target onnxruntime")).succeeded();
    assert_eq!(bytes(&bench.path("out"), "classifier.onnx"), written);
    let old = bench.run(&format!("{line} --labels labels.txt --target onnxruntime"));
    assert!(old.succeeded().err.contains("--labels-file"), "{}", old.err);
    assert_eq!(bytes(&bench.path("out"), "classifier.onnx"), written);
    bench.run(&format!("{EXPORT} --force --template x{{}}")).refused(&["--template", "--labels"]);
    let file = described(&bench, "out/classifier.onnx");
    assert_eq!(ports(&file.outputs), ["probabilities float [batch_size, 3]", "image_embeds float [batch_size, 64]"]);
    assert_eq!(file.metadata["labels"], r#"["cat","dog","snail"]"#);
    bench.run("verify out --engine tract").succeeded().says(&["probabilities"]);
    bench.run("embed out --text cat --engine tract --tokenizer tokenizer.json").refused(&["without a text tower"]);
    // What the line's own splitting cannot say: two sentences, whose mean it is.
    let sentences = ["{}", "x{}"].map(|template| format!("--template {template}")).join(" ");
    bench.run(&format!("{line} --labels-file labels.txt {sentences}")).succeeded();
    assert_ne!(ask("")[0].1, expected[0].1);
    bench.run(&format!("{line} --labels-file labels.txt --template none")).refused(&["the template `none` has no {}"]);
    std::fs::write(bench.path("once.txt"), "cat\ndog\n").unwrap();
    bench.run(&format!("{line} --labels-file once.txt --layout hf")).refused(&["hf", "--labels"]);
    bench
        .run(&format!("{line} --labels-file once.txt --token-type int32"))
        .refused(&["no tokens", "leave out --labels or --token-type"]);
    bench.run(&format!("{line} --labels-file once.txt --dynamic-text")).refused(&["no tokens", "--dynamic-text"]);
    let asked = format!("classify out {PICTURES}/wide.png --engine tract");
    bench.run(&format!("{asked} --template x{{}}")).refused(&["leave out --template"]);
    bench
        .run(&format!("{asked} --labels cat --tokenizer tokenizer.json"))
        .refused(&["is a classifier", "without labels"]);
    // Line ends of old editors, and labels that are too long for sixteen letters.
    std::fs::write(bench.path("long.txt"), format!("cat\r{}\r", "cat ".repeat(300))).unwrap();
    let outcome = bench.run(&format!("{line} --labels-file long.txt"));
    assert!(outcome.succeeded().err.contains("2 of 2 sentences are longer than 16 tokens"), "{}", outcome.err);
    std::fs::write(bench.path("latin.txt"), b"cat\ncaf\xe9\n").unwrap();
    bench.run(&format!("{line} --labels-file latin.txt")).refused(&["latin.txt", "line 2", "UTF-8"]);
    std::fs::write(bench.path("blank.txt"), " \n\n").unwrap();
    bench.run(&format!("{line} --labels-file blank.txt")).refused(&["blank.txt"]);
    let without = line.replace("--tokenizer tokenizer.json", "");
    // One that lies beside the checkpoint is taken without being named.
    bench.run(&format!("{without} --labels-file once.txt --no-verify")).succeeded();
    std::fs::remove_file(bench.path("tokenizer.json")).unwrap();
    bench.run(&format!("{without} --labels-file once.txt")).refused(&["not built in", "--tokenizer"]);
}

#[test]
fn every_place_is_an_output_where_that_is_asked_for() {
    for name in FIXTURES {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut request = fixture.export_to(&out).precisions([Precision::Fp32, Precision::Fp16, Precision::Int8]);
        request.graph.outputs = ExtraOutputs { hidden: true, patches: true };
        let report = exported(&request);
        let whole = report.towers.iter().filter(|tower| tower.precision == "fp32");
        assert_eq!(whole.map(|tower| tower.output.as_str()).collect::<Vec<_>>(), ["image_embeds", "text_embeds"]);
        let image = summary(&out.join("vision_model.onnx")).unwrap().outputs;
        let text = summary(&out.join("text_model.onnx")).unwrap().outputs;
        let names = |outputs: &[Port]| outputs.iter().map(|port| port.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&image), ["last_hidden_state", "patch_tokens", "image_embeds"], "{name}");
        assert_eq!(names(&text), ["last_hidden_state", "text_embeds"], "{name}");
        assert!(image[..2].iter().all(|port| port.shape.len() == 3), "{name}: {image:?}");
        if let (Some(all), Some(patches)) = (image[0].fixed(1), image[1].fixed(1)) {
            assert_eq!(
                all - patches,
                usize::from(name.starts_with("openclip") || name == "mobileclip_b_tiny"),
                "{name}"
            );
        }
    }
}

#[test]
fn bytes_give_what_preprocessed_pixels_do() {
    for name in FIXTURES.into_iter().filter(|name| !name.contains("naflex")) {
        for (pixels, opset) in [
            (BYTES, 17),
            (Pixels::Bytes { last: false, alpha: false, resize: false }, 20),
            (Pixels::Bytes { last: true, alpha: true, resize: true }, 18),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let target = Target::with_opset(&PORTABLE, opset).unwrap();
            let mut request = Fixture::named(name).export_to(&folder.path().join("out"));
            (request.graph.target, request.graph.pixels) = (target, Some(pixels));
            // Where the reference's images are no bytes: with the same tower fed floats.
            let report = exported(&request);
            assert!(worst(&report) <= EMBEDDING.bound, "{name} {pixels:?}: {:.2e}", worst(&report));
        }
    }
}

#[test]
fn photographs_give_the_same_through_bytes() {
    let bench = Bench::new("mobileclip_s0_tiny");
    let photographs = || -> Array2<f32> {
        bench.run(&format!("embed out --image {PICTURES} -o a.npy --force --engine tract")).succeeded();
        read_npy(bench.path("a.npy")).unwrap()
    };
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    let expected = photographs();
    for flags in [
        "--image-type uint8",
        "--image-type uint8-nchw",
        "--image-type uint8 --static 3",
        "--resize",
        "--image-type uint8 --precision fp16",
    ] {
        bench.run(&format!("{EXPORT} --force --engine tract {flags}")).succeeded();
        let found = photographs();
        for (found, expected) in found.axis_iter(Axis(0)).zip(expected.axis_iter(Axis(0))) {
            let bound = if flags.contains("fp16") { 2e-2 } else { 2e-5 };
            let most = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(most < bound, "{flags}: {most}");
        }
    }
    let ports_of = |flags: &str, name: &str| {
        bench.run(&format!("{EXPORT} --force --no-verify {flags}")).succeeded();
        ports(&described(&bench, &format!("out/{name}")).inputs)
    };
    assert_eq!(
        ports_of("--image-type uint8", "vision_model.onnx"),
        ["pixel_values uint8 [batch_size, 64, 64, channels]"]
    );
    assert_eq!(ports_of("--image-type uint8 --static 3", "vision_model.onnx"), ["pixel_values uint8 [3, 64, 64, 3]"]);
    assert_eq!(ports_of("--resize", "vision_model.onnx"), ["pixel_values uint8 [batch_size, height, width, channels]"]);
    assert_eq!(ports_of("--layout immich-uint8", "visual/model.onnx"), ["image uint8 [batch_size, 64, 64, 3]"]);
    let found = described(&bench, "out/visual/model.onnx");
    assert_eq!(ports(&found.outputs), ["image_embedding float [batch_size, 48]"]);
    // A reference of floats proves towers fed bytes only through the same tower fed floats.
    for flags in ["--image-type uint8", "--resize --precision int8", "--layout immich-uint8"] {
        let line = format!("{EXPORT} --force --engine tract --reference reference.npz {flags}");
        bench.run(&line).succeeded().says(&["image tower, fed floats", "passed: agrees with reference.npz"]);
    }
    bench.other_reference("wrong.npz", |arrays| {
        for key in ["image_embedding", "image_embedding_normalized"] {
            get(arrays, key).values.iter_mut().for_each(|value| *value = *value * 1.01 + 0.01);
        }
    });
    let outcome = bench.run(&format!("{EXPORT} --force --engine tract --reference wrong.npz --image-type uint8"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    outcome.says(&["failed: image tower, fed floats at batch 1", "does NOT agree with wrong.npz"]);
    bench.run(&format!("{EXPORT} --force --image-type float --resize")).refused(&["--resize", "--image-type float"]);
    bench
        .run(&format!("{EXPORT} --force --image-type uint8 --layout immich"))
        .refused(&["--image-type and --layout immich"]);
    bench
        .run(&format!("{EXPORT} --force --image-type float --layout immich-uint8"))
        .refused(&["--image-type and --layout immich"]);
    bench
        .run(&format!("{EXPORT} --force --token-type int64 --layout immich"))
        .refused(&["--token-type and --layout immich"]);
    bench
        .run(&format!("{EXPORT} --force --resize --opset 17"))
        .refused(&["opset 17", "choose a later one with --opset"]);
    bench
        .run(&format!("{EXPORT} --force --outputs last_hidden_state --layout immich"))
        .refused(&["immich", "--outputs"]);
}
