//! Small inputs made after public reports, and others of the same kinds (`scripts/make_cases.py`): what stands beside a
//! checkpoint is followed, what is no tensor is read past, and what a folder's links lead to is loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_onnx::embed::{Embedder, Options};
use clip_onnx::engine::{self, Engine, Session, Step};
use clip_onnx::error::{chain, sentence};
use clip_onnx::pipeline::{Export, ModelChoice, Silent, Source, export, inspect};
use clip_onnx::verify::report::Verdict;
use clip_onnx::verify::{EMBEDDING, Verify};
use ndarray::Array2;

use crate::common::{Remarks, case, model, npz, root, worst};

fn expected(case: &Path, key: &str) -> Array2<f32> {
    npz::floats(&case.join("reference.npz"), key)
}

/// Exports what is in `model/`; gives where its rules come from.
fn exported(case: &Path, out: &Path) -> Vec<(String, String, bool)> {
    let request = Export::new(case.join("model"), out).unverified();
    let exported = export(&request, &Silent).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
    exported.selected.inputs().into_iter().map(|(_, rule)| (rule.rule, rule.source, rule.assumed)).collect()
}

fn embedder(folder: &Path) -> Embedder {
    let mut options = Options::new(engine::tract());
    options.batch = 2;
    Embedder::open(folder, options).unwrap()
}

fn relative_error(found: &[Vec<f32>], expected: &Array2<f32>) -> f64 {
    let wanted = expected.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / expected.len() as f64;
    let differences = found.iter().flatten().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, f64::max) / wanted.sqrt()
}

fn embedded(folder: &Path, photo: &Path) -> Vec<Vec<f32>> {
    let mut found = Vec::new();
    let each = |_: &Path, row: Result<Vec<f32>, clip_onnx::embed::Error>| {
        found.push(row?);
        Ok(())
    };
    embedder(folder).images(&[photo.to_owned()], each).unwrap();
    found
}

/// The rule, where it is from, and the embedding of a photograph beside the reference's.
#[test]
fn pixels_are_what_the_files_beside_the_weights_say() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, source, part) in [
        ("pixels-crop-pct", "preprocessor_config.json", "shortest to 40 and crop"),
        ("pixels-rescale", "preprocessor_config.json", "times 0.00784313725490196"),
        ("pixels-siglip-v5", "processor_config.json", "mean 0.1 0.2 0.3, std 0.4 0.5 0.6"),
        ("pixels-squash", "preprocessor_config.json", "32, bicubic, squash, OpenAI's"),
        ("openclip-config-pixels", "open_clip_config.json", "32, bilinear, squash, mean 0.5 0.4 0.3, std 0.2 0.25 0.3"),
        (
            "own-pixels-lanczos-raw",
            "preprocessor_config.json",
            "lanczos, squash to 40x48 and crop, not rescaled, not normalised",
        ),
        (
            "own-pixels-longest-edge",
            "preprocessor_config.json",
            "bilinear, shortest to 36 (longest at most 50) and crop",
        ),
        ("own-pixels-not-resized", "processor_config.json", "not resized, mean 0.3 0.2 0.1"),
        ("own-openclip-longest", "open_clip_config.json", "32x48, bilinear, longest and fill, filled with 90 90 90"),
    ] {
        let (case, out) = (case(name), scratch.path().join(name));
        let (rule, from, assumed) = exported(&case, &out)[0].clone();
        assert!(rule.contains(part) && from == source && !assumed, "{name}: {rule} ({from})");
        let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
        assert!(manifest.contains(&format!("\"source\": \"{source}\"")), "{name}: the manifest says where it is from");
        let found = embedded(&out, &case.join("photo.png"));
        let file = if name == "openclip-config-pixels" { "photo.npz" } else { "reference.npz" };
        let wanted: Array2<f32> = npz::floats(&case.join(file), "image_embedding_normalized");
        let error = relative_error(&found, &wanted);
        // transformers resizes by torchvision, whose bytes may be one off Pillow's.
        let bound = if name.starts_with("own-pixels-l") { 5e-2 } else { EMBEDDING.bound };
        assert!(error <= bound, "{name}: {error:e}");
    }
}

#[test]
fn padding_start_and_end_are_what_the_tokenizer_says() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, rule, texts) in [
        (
            "tokens-siglip2-pads-with-0",
            "16 ids, end 1, padding 0",
            vec!["a photo of a cat", "two big red car on the street"],
        ),
        ("own-tokens-siglip-map", "16 ids, end 3, padding 5", vec!["a red car"]),
        ("own-tokens-clip-words", "16 ids, start 98, end 99, padding 0", vec!["two photo of the big dog"]),
    ] {
        let (case, out) = (case(name), scratch.path().join(name));
        let (found, from, assumed) = exported(&case, &out)[1].clone();
        assert!(found.starts_with(rule) && from.contains("tokenizer.json") && !assumed, "{name}: {found} ({from})");
        assert!(out.join("tokenizer.json").exists(), "{name}: taken without being named");
        let (mut rows, texts) = (Vec::new(), texts.into_iter().map(str::to_owned).collect::<Vec<_>>());
        let each = |_: &str, row: Result<Vec<f32>, clip_onnx::embed::Error>| {
            rows.push(row?);
            Ok(())
        };
        embedder(&out).texts(&texts, each).unwrap();
        let error = relative_error(&rows, &expected(&case, "text_embedding_normalized"));
        assert!(error <= EMBEDDING.bound, "{name}: {error:e}");
    }
}

/// A checkpoint with its `config.json` and reference.
fn proven(folder: &str, file: &str) -> Result<(Vec<String>, f64), String> {
    let (case, out, remarks) = (case(folder), tempfile::tempdir().unwrap(), Remarks::default());
    let request = Export::new(case.join(file), out.path().join("out"))
        .model(ModelChoice::File(case.join("config.json")))
        .reference(case.join("reference.npz"));
    let report = export(&request, &remarks).map_err(|e| sentence(&e))?.report.unwrap();
    assert_eq!(report.verdict, Verdict::Passed, "{folder}: {report}");
    Ok((remarks.0.into_inner().unwrap(), worst(&report)))
}

#[test]
fn more_than_tensors_is_read_past_and_told() {
    for (folder, file, told) in [
        ("pickle-namespace", "checkpoint.pt", &["`args` (an object of `argparse.Namespace`)"][..]),
        ("pickle-numpy-scalar", "checkpoint.pt", &["multiarray.scalar"]),
        ("own-pickles", "lightning.pt", &["Hyper", "pathlib"]),
        ("own-pickles", "flat.pt", &["`_extra`"]),
    ] {
        let (remarks, error) = proven(folder, file).unwrap();
        assert!(error <= EMBEDDING.bound, "{folder}/{file}: {error:e}");
        let remark = remarks.iter().find(|remark| remark.contains("nothing of that was run")).unwrap();
        told.iter().for_each(|part| assert!(remark.contains(part), "{folder}/{file}: {remark}"));
        let found = inspect(&Source::new(case(folder).join(file))).unwrap();
        let json = serde_json::to_value(&found).unwrap();
        assert!(json["skipped"].as_array().unwrap().iter().any(|skipped| skipped["opaque"] == true), "{json}");
    }
    let refused = proven("own-pickles", "module.pt").unwrap_err();
    assert!(refused.contains("`model` is an object of `open_clip.model.CLIP`; only tensors are read"), "{refused}");
}

/// A position that sees those before it alone is pooled as one, with the last block's economy and without.
#[test]
fn texts_pooled_first_see_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    for last_block in [true, false] {
        let case = case("own-openclip-first");
        let mut request = Export::new(&case, scratch.path().join(last_block.to_string()));
        request.graph.savings.last_block = last_block;
        let request = request.reference(case.join("reference.npz"));
        let report = export(&request, &Silent).unwrap().report.unwrap();
        assert!(report.verdict == Verdict::Passed && worst(&report) <= EMBEDDING.bound, "{report}");
    }
}

#[test]
fn long_clips_two_tables_are_one() {
    let (_, error) = proven("family-longclip", "checkpoint.pt").unwrap();
    assert!(error <= EMBEDDING.bound, "{error:e}");
}

/// Other tools mistake products of a batch with one constant matrix a head, and rows that are taken below a shared axis.
#[test]
fn other_tools_find_no_products_they_mistake() {
    let scratch = tempfile::tempdir().unwrap();
    exported(&case("hub-cache-and-tools"), &scratch.path().join("out"));
    for file in ["vision_model.onnx", "text_model.onnx"] {
        let graph = model(&scratch.path().join("out").join(file)).graph.unwrap();
        let operators: Vec<&str> = graph.node.iter().filter_map(|node| node.op_type.as_deref()).collect();
        assert!(!operators.contains(&"GatherND"), "{file}");
        for node in graph.node.iter().filter(|node| node.op_type() == "MatMul") {
            let constant = graph.initializer.iter().find(|weight| weight.name() == node.input[1]);
            let Some(3) = constant.map(|weight| weight.dims.len()) else { continue };
            // Heads lead both factors.
            let before = graph.node.iter().find(|other| other.output.contains(&node.input[0])).unwrap();
            assert_eq!(before.op_type(), "Transpose", "{file}: {}", node.name());
        }
    }
}

/// Files as a hub's cache has them: links to blobs of other names, beside one another.
#[cfg(unix)]
#[test]
fn exports_inside_a_hubs_cache_are_run() {
    use std::os::unix::fs::symlink;

    let scratch = tempfile::tempdir().unwrap();
    let (out, cache) = (scratch.path().join("out"), scratch.path().join("models--somebody--clip"));
    let case = case("hub-cache-and-tools");
    let mut request = Export::new(case.join("model"), &out).unverified();
    request.output.external_data = true;
    export(&request, &Silent).unwrap();
    let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots/0123abcd"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    for (at, entry) in std::fs::read_dir(&out).unwrap().enumerate() {
        let entry = entry.unwrap();
        let blob = format!("{at:040x}");
        std::fs::copy(entry.path(), blobs.join(&blob)).unwrap();
        symlink(Path::new("../../blobs").join(&blob), snapshot.join(entry.file_name())).unwrap();
    }
    let verified = |folder: &Path| {
        let request = Verify::new(clip_onnx::verify::models_in(folder).unwrap());
        request.reference(case.join("reference.npz")).engines([engine::tract()]).batches([1, 3]).run(&|_| {})
    };
    let report = verified(&snapshot).unwrap();
    assert_eq!(report.verdict, Verdict::Passed, "{report}");
    let mut rows = 0;
    let texts = vec!["a".to_owned()];
    // Its vocabulary is of 100 words, and no tokenizer is there: the tower is loaded all the same.
    assert!(embedder(&snapshot).texts(&texts, |_, _| Ok(())).is_err());
    embedder(&snapshot)
        .images(&[root().join("tests/pixels/wide.png")], |_, row| {
            rows += usize::from(row.is_ok());
            Ok(())
        })
        .unwrap();
    assert_eq!(rows, 1);

    // Weights that lie anywhere else stay refused.
    let elsewhere = scratch.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let data = snapshot.join("text_model.onnx_data");
    std::fs::copy(&data, elsewhere.join("weights")).unwrap();
    std::fs::remove_file(&data).unwrap();
    symlink(elsewhere.join("weights"), &data).unwrap();
    let report = verified(&snapshot).unwrap();
    assert!(!report.passed && report.failures.iter().any(|f| f.contains("outside the model directory")), "{report}");
}

/// Nothing of what is there is passed over in silence, and nothing is said to have passed that was not compared.
#[test]
fn a_verdict_needs_something_to_compare_with_and_to_run() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let request = Export::new(case("hub-cache-and-tools").join("model"), &out);
    let report = export(&request, &Silent).unwrap().report.unwrap();
    assert!(report.verdict == Verdict::NotCompared && !report.passed && report.failures.is_empty(), "{report}");
    assert!(report.to_string().lines().last().unwrap().starts_with("not compared: no reference"), "{report}");
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<span class=open>not compared</span>") && page.contains("How to compare"));
    assert!(!page.contains("<svg") && !page.contains("class=passed"), "no empty charts");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    assert_eq!((json["verdict"].as_str(), json["passed"].as_bool()), (Some("not compared"), Some(false)));
    assert!(json["run"]["checkpoint_sha256"].is_string() && json["run"]["machine"].is_string());

    let verify = |models: Vec<PathBuf>, engines: Vec<Arc<dyn Engine>>| {
        chain(&Verify::new(models).engines(engines).batches([1]).run(&|_| {}).unwrap_err())
    };
    assert!(verify(vec![out.join("text_model.onnx")], vec![]).contains("no engine"));
    assert!(verify(vec![], vec![engine::tract()]).contains("no file to verify"));
}

/// An engine of a program's own, which here has tract do the work.
#[derive(Debug)]
struct Mine(Arc<dyn Engine>);

impl Engine for Mine {
    fn name(&self) -> &str {
        "mine 1.0"
    }

    fn load(&self, file: &Path, shown: &str, threads: Option<usize>) -> Result<Box<dyn Session>, engine::Error> {
        if shown.ends_with("text_model.onnx") {
            return Err(engine::Error::failed(self.name(), shown, Step::Load, "it\nruns no texts"));
        }
        self.0.load(file, shown, threads)
    }
}

#[test]
fn a_program_verifies_with_an_engine_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let (case, out) = (case("hub-cache-and-tools"), scratch.path().join("out"));
    exported(&case, &out);
    let engines = || -> [Arc<dyn Engine>; 1] { [Arc::new(Mine(engine::tract()))] };
    let image = Verify::new([out.join("vision_model.onnx")]).reference(case.join("reference.npz")).engines(engines());
    let report = image.run(&|_| {}).unwrap();
    assert_eq!((report.verdict, report.engine.as_str()), (Verdict::Passed, "mine 1.0"), "{report}");
    let error = Verify::new([out.join("text_model.onnx")]).engines(engines()).run(&|_| {}).unwrap_err().to_string();
    assert!(error.starts_with("mine 1.0 could not load ") && error.ends_with("it runs no texts"), "{error}");
}

/// A JPEG whose file says that it is to be shown turned by a quarter.
fn turned_jpeg(path: &Path) {
    let picture = image::open(root().join("tests/pixels/wide.png")).unwrap().to_rgb8();
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture).unwrap();
    // Behind the start of image: a segment of Exif with one field, orientation 6.
    let tiff = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0".as_slice(), &[0; 4]].concat();
    let exif = [b"Exif\0\0", &tiff[..]].concat();
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    let segment = [&[0xff, 0xe1], &length[..], &exif].concat();
    bytes.splice(2..2, segment);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn orientation_tags_are_told_and_followed_where_that_is_asked_for() {
    use clip_onnx::pixels::Picture;

    let scratch = tempfile::tempdir().unwrap();
    let photo = scratch.path().join("turned.jpg");
    turned_jpeg(&photo);
    let [stored, shown] = [false, true].map(|orient| Picture::open(&photo, orient).unwrap());
    assert_eq!((stored.height, stored.width, stored.turned), (shown.width, shown.height, true));
    assert!(!shown.turned, "nothing is left to do");
    // A quarter to the right: what was the lower left corner is the upper left one.
    let corner = (stored.height - 1) * stored.width * 3;
    assert_eq!(shown.values[..3], stored.values[corner..corner + 3]);

    let out = scratch.path().join("out");
    exported(&case("pixels-squash"), &out);
    let run = |flags: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("clip-onnx").unwrap();
        command.args(["embed", out.to_str().unwrap(), "--engine", "tract", "--image", photo.to_str().unwrap()]);
        let output = command.args(flags).output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let ((plain, told), (turned, silent)) = (run(&[]), run(&["--orient"]));
    assert!(told.contains("the photograph has an orientation tag, which is ignored"), "{told}");
    assert!(plain != turned && silent.is_empty(), "{silent}");
}

/// What is no checkpoint is named as what it is, and what is of another architecture by that; nothing is left behind.
#[test]
fn refusals_name_what_was_found() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let folder = path("export");
    exported(&case("pixels-squash"), &folder);
    std::fs::create_dir(path("adapter")).unwrap();
    std::fs::write(
        path("adapter/adapter_config.json"),
        r#"{"base_model_name_or_path": "openai/clip-vit-base-patch32"}"#,
    )
    .unwrap();
    std::fs::write(path("adapter/adapter_model.safetensors"), "x").unwrap();
    let named = |names: &[&str], beside: &[(&str, &str)]| {
        let folder = tempfile::tempdir_in(scratch.path()).unwrap().keep();
        let header: serde_json::Map<String, serde_json::Value> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let entry = serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]});
                ((*name).to_owned(), entry)
            })
            .collect();
        let header = serde_json::Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; 4 * names.len()]].concat();
        std::fs::write(folder.join("open_clip_model.safetensors"), bytes).unwrap();
        beside.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        folder.display().to_string()
    };
    let native = ["visual.conv1.weight", "logit_scale", "token_embedding.weight"];
    let with = |more: &'static str| named(&[&native[..], &[more]].concat(), &[]);
    let show = |path: PathBuf| path.display().to_string();
    for (checkpoint, flags, parts) in [
        (show(folder.join("vision_model.onnx")), "", &["an ONNX model already", "clip-onnx verify"][..]),
        (show(folder), "", &["a folder that an export wrote", "clip-onnx embed"]),
        (show(path("adapter")), "", &["LoRA adapter, which needs openai/clip-vit-base-patch32", "--adapter"]),
        ("openai/clip-vit-base-patch32".to_owned(), "", &["hf download openai/clip-vit-base-patch32"]),
        (show(path("nowhere.pt")), "", &["nowhere.pt"]),
        (show(case("pixels-squash").join("model")), "--model ViT-B32", &["did you mean ViT-B-32"]),
        (with("visual.layer1.0.conv1.weight"), "", &["parts of a tower", "a CLIP ResNet", "supported are"]),
        (
            with("visual.transformer.resblocks.0.attn.ln_q.weight"),
            "",
            &["parts of a tower: visual.transformer.resblocks.0.attn.ln_q.weight"],
        ),
        (with("positional_embedding_other"), "", &["parts of a tower: positional_embedding_other"]),
        (
            named(
                &["visual.trunk.stem.0.weight", "visual.trunk.stages.0.blocks.0.conv_dw.weight"],
                &[(
                    "open_clip_config.json",
                    r#"{"model_cfg": {"embed_dim": 8, "vision_cfg": {"timm_model_name": "convnext_base"}, "text_cfg": {}}}"#,
                )],
            ),
            "",
            &["timm_model_name `convnext_base` in open_clip_config.json"],
        ),
        (
            named(&["vision_model.something"], &[("config.json", r#"{"model_type": "blip"}"#)]),
            "",
            &["model_type `blip` in config.json"],
        ),
    ] {
        let out = path("out");
        let mut command = assert_cmd::Command::cargo_bin("clip-onnx").unwrap();
        command.current_dir(scratch.path()).args(["export", &checkpoint, "--out", "out"]);
        let output = command.args(flags.split_whitespace()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{checkpoint}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{checkpoint}: no `{part}` in: {said}"));
        assert!(!said.contains("emove them"), "no advice that would change what a tower computes: {said}");
        assert!(!out.exists());
    }
    let outside = with("classifier.weight");
    let mut command = assert_cmd::Command::cargo_bin("clip-onnx").unwrap();
    let output = command.args(["export", &outside, "--out", "out"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("outside both towers are left out: classifier.weight"), "{said}");
}

/// A checkpoint of a published model's names and shapes, whose weights are a hole in the file.
fn hollow(list: &str, to: &Path) {
    let text = std::fs::read_to_string(root().join(format!("tests/keys/{list}.txt"))).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for line in text.lines() {
        let (name, dims) = line.split_once(' ').unwrap();
        let shape: Vec<u64> = dims.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        let start = end;
        end += 4 * shape.iter().product::<u64>();
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    std::fs::write(to, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let file = std::fs::File::options().write(true).open(to).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

/// One architecture is published with several rules: the folder says which, and of the bare file the assumption is told.
#[test]
fn published_weights_have_their_authors_pixels() {
    let laion = r#"{"model_cfg": {"embed_dim": 768, "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024,
        "patch_size": 14}, "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12}},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;
    let dfn = r#"{"model_cfg": {"embed_dim": 1024, "quick_gelu": true, "vision_cfg": {"image_size": 224, "layers": 32,
        "width": 1280, "head_width": 80, "patch_size": 14}, "text_cfg": {"context_length": 77, "vocab_size": 49408,
        "width": 1024, "heads": 16, "layers": 24}}, "preprocess_cfg": {"interpolation": "bicubic", "resize_mode": "squash"}}"#;
    for (model, config, told, otherwise) in [
        ("ViT-L-14", laion, "mean 0.5, std 0.5", "LAION-2B's weights of it"),
        ("ViT-H-14-quickgelu", dfn, "224, bicubic, squash, OpenAI's", "DFN5B's weights of it"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("open_clip_model.safetensors");
        hollow(model, &file);
        let inspected = |choice: ModelChoice| {
            let mut source = Source::new(&file);
            source.model = choice;
            let json = serde_json::to_value(inspect(&source).unwrap()).unwrap();
            assert_eq!(json["model"], model);
            json["inputs"]["pixels"].clone()
        };
        let bare = inspected(ModelChoice::Named(model.to_owned()));
        assert_eq!(bare["assumed"], true, "{bare}");
        assert!(bare["source"].as_str().unwrap().contains(otherwise), "{bare}");
        std::fs::write(folder.path().join("open_clip_config.json"), config).unwrap();
        let from_folder = inspected(ModelChoice::Detect);
        assert_eq!((&from_folder["source"], &from_folder["assumed"]), (&"open_clip_config.json".into(), &false.into()));
        assert!(from_folder["rule"].as_str().unwrap().contains(told), "{from_folder}");
    }
}
