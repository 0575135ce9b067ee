//! `embed`, `classify` and layouts: the real binary on a folder it exported.

use clip_onnx::embed::{Embedder, Items, Options, cosine};
use clip_onnx::engine;
use ndarray::{Array2, Axis};
use ndarray_npy::read_npy;

use crate::common::bench::{Bench, EXPORT, Outcome, tokenizer};
use crate::common::model;

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pixels");

fn json(bench: &Bench, name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(bench.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap()
}

#[test]
fn photographs_and_sentences_become_rows_and_bad_ones_are_skipped() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    bench.run(&format!("{EXPORT} --no-verify --tokenizer tokenizer.json")).succeeded();
    let outcome = bench.run(&format!("embed out --image {PICTURES} --out a.npy --batch 4 --engine tract"));
    outcome.succeeded().says(&["6 embeddings in a.npy"]);
    let whole: Array2<f32> = read_npy(bench.path("a.npy")).unwrap();
    assert_eq!(whole.nrows(), 6);
    for row in whole.axis_iter(Axis(0)) {
        assert!((row.dot(&row) - 1.0).abs() < 1e-4, "normalised");
    }
    let names = std::fs::read_to_string(bench.path("a.npy.names.txt")).unwrap();
    assert!(names.lines().count() == 6 && names.lines().nth(5).unwrap().ends_with("wide.png"));

    // What is of another model is not gone on with; what is somebody's is not overwritten.
    std::fs::write(bench.path("d.npy.names.txt"), "mine").unwrap();
    let line = format!("embed out --image {PICTURES}/wide.png --engine tract");
    bench.run(&format!("{line} --out d.npy")).refused(&["d.npy.names.txt exists"]);
    std::fs::write(bench.path("e.npy.partial"), "mine").unwrap();
    bench.run(&format!("{line} --out e.npy")).refused(&["e.npy.partial"]);
    assert_eq!(std::fs::read_to_string(bench.path("e.npy.partial")).unwrap(), "mine");
    bench.run("embed out --image nowhere.png --out f.npy --engine tract");
    assert!(!bench.path("f.npy").exists(), "none could be embedded");

    // One at a time gives the same as a batch, and a bad one costs itself alone.
    std::fs::write(bench.path("bad.jpg"), b"\xff\xd8\xff\xe0 no").unwrap();
    let outcome = bench.run(&format!(
        "embed out --image {PICTURES}/wide.png bad.jpg nowhere.png {PICTURES}/one.png --out b.npy --batch 1 --engine tract"
    ));
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    assert!(outcome.err.contains("bad.jpg") && outcome.err.contains("nowhere.png"), "{}", outcome.err);
    let some: Array2<f32> = read_npy(bench.path("b.npy")).unwrap();
    let same = |a: usize, b: usize| (&whole.row(a) - &some.row(b)).iter().all(|d| d.abs() < 1e-5);
    assert!(some.nrows() == 2 && same(5, 0) && same(3, 1));

    // Both in one file; an array alone cannot hold both.
    let both = format!("embed out --image {PICTURES}/wide.png --text cat dog --engine tract");
    bench.run(&format!("{both} --out c.npy")).refused(&["c.npy", ".safetensors"]);
    bench.run(&format!("{both} --out c.json")).succeeded();
    let found = json(&bench, "c.json");
    assert_eq!((found["images"].as_array().unwrap().len(), found["texts"].as_array().unwrap().len()), (1, 2));
    bench.run(&format!("{both} --out c.json")).refused(&["c.json exists", "--force"]);
    bench.run(&format!("{both} --out c.txt")).refused(&[".npy, .json or .safetensors"]);
    bench.run(&both).succeeded().says(&["cosine", "wide.png", "cat"]);
    bench.run("embed out --engine tract").refused(&["nothing to embed"]);
    bench.run("embed nowhere --text cat --engine tract").refused(&["nowhere", "no folder that an export wrote"]);
}

/// A program embeds one image or text after another, or many at once; what is named twice is embedded once.
#[test]
fn a_program_embeds_images_and_texts() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    bench.run(&format!("{EXPORT} --no-verify --tokenizer tokenizer.json")).succeeded();
    let embedder = Embedder::open(bench.path("out"), Options::new(engine::tract())).unwrap();
    let wide = std::path::Path::new(PICTURES).join("wide.png");
    let items = Items::new([wide.clone(), wide.clone()], ["cat".to_owned(), "cat".to_owned()]);
    let mut events = Vec::new();
    let embedded = embedder.embed(&items, &mut |event| events.push(format!("{event:?}"))).unwrap();
    let started = ["Image", "Text"].map(|modality| format!("Started {{ modality: {modality}, count: 1 }}"));
    assert_eq!(events, [&started[0], "Embedded", &started[1], "Embedded"]);
    let [image, text] = &embedded.entries[..] else { panic!("{embedded:?}") };
    let same = |a: &[f32], b: &[f32]| cosine(a, b) > 1.0 - 1e-6;
    assert!(same(&embedder.image_file(&wide).unwrap(), &image.embedding));
    assert!(same(&embedder.image(&image::open(&wide).unwrap()).unwrap(), &image.embedding));
    assert!(same(&embedder.text("cat").unwrap(), &text.embedding));
    assert!(!same(&embedder.text("dog").unwrap(), &text.embedding));
    assert!(embedder.image(&image::DynamicImage::new_rgb8(0, 4)).unwrap_err().to_string().contains("no pixels"));
    let nowhere = Items::new([wide.with_file_name("nowhere.png")], []);
    assert!(embedder.embed(&nowhere, &mut |_| ()).is_err(), "none could be embedded");
}

/// What is done is kept until the end, a line cut off counts as not done.
#[test]
fn a_run_that_was_stopped_goes_on() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    bench.run(&format!("{EXPORT} --no-verify --tokenizer tokenizer.json")).succeeded();
    let line = format!("embed out --image {PICTURES} --out a.json --engine tract --batch 2");
    assert!(bench.run(&line).succeeded().err.contains("whose extension is none of jpg"));
    let whole = std::fs::read(bench.path("a.json")).unwrap();
    std::fs::remove_file(bench.path("a.json")).unwrap();
    assert!(!bench.path("a.json.partial").exists());
    // Nothing is left of a run that did nothing, and nothing done by one that was killed is no reason to stop.
    bench.run(&format!("{line} --precision int8")).refused(&["no image tower in int8", "fp32"]);
    assert!(!bench.path("a.json.partial").exists());
    std::fs::write(bench.path("a.json.partial"), "{\"made_with\":\"other\"}\n").unwrap();
    bench.run(&line).succeeded();
    std::fs::remove_file(bench.path("a.json")).unwrap();
    let done = "{\"made_with\":\"other\"}\n{\"of\":\"image\"}\n";
    std::fs::write(bench.path("a.json.partial"), done).unwrap();
    bench.run(&line).refused(&["a.json.partial", "another folder or of other options"]);
    assert_eq!(std::fs::read_to_string(bench.path("a.json.partial")).unwrap(), done);
    std::fs::remove_file(bench.path("a.json.partial")).unwrap();

    bench.run(&line).succeeded();
    let found = json(&bench, "a.json");
    std::fs::remove_file(bench.path("a.json")).unwrap();
    // As if it had been stopped while it wrote the fourth: the third is of a batch that was not finished.
    let mut options = Options::new(engine::tract());
    options.batch = 2;
    let made_with = Embedder::open(bench.path("out"), options).unwrap().made_with();
    let mut partial = serde_json::json!({"made_with": made_with}).to_string() + "\n";
    for image in &found["images"].as_array().unwrap()[..3] {
        let path = image["path"].as_str().unwrap();
        let changed = std::fs::metadata(path).unwrap();
        let nanos = changed.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let entry = serde_json::json!({"of": "image", "name": path, "embedding": image["embedding"],
            "stamp": [changed.len(), nanos]});
        partial += &format!("{entry}\n");
    }
    std::fs::write(bench.path("a.json.partial"), partial + "{\"of\": \"image\", \"na").unwrap();
    let outcome = bench.run(&line);
    assert!(outcome.succeeded().err.contains("2 of 6 were done by an earlier run"), "{}", outcome.err);
    assert_eq!(std::fs::read(bench.path("a.json")).unwrap(), whole);
}

#[test]
fn photographs_are_ranked_by_labels() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    tokenizer(&bench);
    let line = format!("classify out {PICTURES}/wide.png --labels cat,dog --engine tract");
    bench.run(&line).refused(&["not built in", "--tokenizer"]);
    let line = format!("{line} --tokenizer tokenizer.json");
    let ranked = |found: &serde_json::Value| -> Vec<(String, f64)> {
        let labels = found["labels"].as_array().unwrap().iter();
        labels.map(|r| (r["label"].as_str().unwrap().to_owned(), r["probability"].as_f64().unwrap())).collect()
    };
    let read = |outcome: &Outcome| -> serde_json::Value { serde_json::from_str(&outcome.out).unwrap() };
    let one = bench.run(&format!("{} --json", line.replace("cat,dog", "cat,dog,bird")));
    let one = ranked(&read(one.succeeded())[0]);
    assert!(one.len() == 3 && one.is_sorted_by(|a, b| a.1 >= b.1), "{one:?}");
    assert!(one.iter().all(|(_, p)| (0.0..=1.0).contains(p)));
    // Several photographs at once give what each gives alone; one that is none is skipped.
    std::fs::write(bench.path("none.png"), "not an image").unwrap();
    let several = format!("classify out {PICTURES}/wide.png none.png {PICTURES}/tall.png --labels cat,dog,bird");
    let several = bench.run(&format!("{several} --engine tract --tokenizer tokenizer.json --json"));
    assert_eq!(several.code, Some(1), "{}", several.err);
    assert!(several.err.contains("skipped: none.png"), "{}", several.err);
    let found = read(&several);
    assert_eq!((found.as_array().unwrap().len(), ranked(&found[0])), (2, one.clone()));
    // Labels behind the photograph, as it was before.
    let old = format!("classify out {PICTURES}/wide.png cat dog bird --engine tract --tokenizer tokenizer.json --json");
    let old = bench.run(&old);
    assert!(old.succeeded().err.contains("--labels"), "{}", old.err);
    assert_eq!(ranked(&read(&old)[0]), one);
    bench.run(&format!("{line} --template photo")).refused(&["has no {}"]);
    std::fs::write(bench.path("blank.txt"), "\n  \n").unwrap();
    let blank = format!("classify out {PICTURES}/wide.png --labels-file blank.txt --engine tract");
    bench.run(&blank).refused(&["blank.txt"]);
    bench.run(&format!("{line} --threads 2")).refused(&["--threads", "tract runs on one thread"]);
}

/// Files, names of inputs and outputs, and what stands beside them, as each runtime looks for them.
#[test]
fn layouts_are_what_their_runtimes_look_for() {
    let bench = Bench::new("siglip_tiny");
    tokenizer(&bench);
    let line = |layout: &str| {
        format!(
            "{EXPORT} --force --layout {layout} --tokenizer tokenizer.json --reference reference.npz --engine tract"
        )
    };
    let summary = |name: &str| clip_onnx::onnx::read::summary(&bench.path(name)).unwrap();
    let names = |ports: &[clip_onnx::onnx::read::Port]| -> Vec<String> {
        ports.iter().map(|port| format!("{} {}", port.name, port.element_type)).collect()
    };
    bench.run(&line("hf")).succeeded();
    for tower in ["vision", "text"] {
        let found = summary(&format!("out/onnx/{tower}_model.onnx"));
        assert_eq!(names(&found.outputs), ["last_hidden_state float", "pooler_output float"], "{tower}");
        assert_eq!(found.outputs[0].shape.len(), 3);
    }
    assert_eq!(json(&bench, "out/config.json")["model_type"], "siglip");
    assert_eq!(json(&bench, "out/preprocessor_config.json")["image_processor_type"], "SiglipImageProcessor");
    assert_eq!(json(&bench, "out/tokenizer_config.json")["pad_token"], "</s>");
    assert_eq!(json(&bench, "out/special_tokens_map.json")["eos_token"], "</s>");
    assert!(bench.path("out/tokenizer.json").exists());
    bench.run("verify out --reference reference.npz --engine tract").succeeded();
    bench.run(&format!("embed out --image {PICTURES}/wide.png --text cat --engine tract")).succeeded();

    bench.run(&line("immich")).succeeded();
    let (visual, textual) = (summary("out/visual/model.onnx"), summary("out/textual/model.onnx"));
    assert_eq!(
        (names(&visual.inputs), names(&visual.outputs)),
        (vec!["image float".into()], vec!["embedding float".into()])
    );
    assert_eq!(
        (names(&textual.inputs), names(&textual.outputs)),
        (vec!["text int32".into()], vec!["embedding float".into()])
    );
    assert_eq!(json(&bench, "out/visual/preprocess_cfg.json")["mode"], "RGB");
    assert_eq!(json(&bench, "out/config.json")["text_cfg"]["context_length"], 16);
    assert!(bench.path("out/textual/tokenizer.json").exists());
    bench.run("verify out --reference reference.npz --engine tract").succeeded();

    let outcome = bench.run(&format!("{} --precision fp32,fp16,int8", line("clip-as-service")));
    let differs =
        "another vocabulary, another context length, another image size, another mean and deviation, another resizing";
    assert!(outcome.succeeded().err.contains(differs), "{}", outcome.err);
    // What else clip-server feeds may be left out.
    assert_eq!(names(&summary("out/textual.onnx").inputs), ["input_ids int32"]);
    for file in ["textual.onnx", "textual_fp16.onnx", "textual_int8.onnx"] {
        let graph = model(&bench.path("out").join(file)).graph.unwrap();
        assert_eq!(graph.input.iter().map(|input| input.name()).collect::<Vec<_>>(), ["input_ids", "attention_mask"]);
        assert!(graph.initializer.iter().any(|tensor| tensor.name() == "attention_mask" && tensor.dims == [1, 16]));
    }
    assert!(bench.path("out/visual.onnx").exists() && !bench.path("out/visual").exists());
    std::fs::create_dir(bench.path("out/more")).unwrap();
    std::fs::write(bench.path("out/more/mine.txt"), "").unwrap();
    bench.run(&line("hf")).refused(&["more", "no export wrote"]);
    let fixed = EXPORT.replace("out out", "out fixed");
    bench.run(&format!("{fixed} --static 2 --token-type int32 --reference reference.npz --engine tract")).succeeded();
    let fixed = summary("fixed/text_model.onnx");
    assert_eq!((fixed.inputs[0].shape[0].as_str(), fixed.outputs[0].shape[0].as_str()), ("2", "2"));
    assert_eq!(names(&fixed.inputs), ["input_ids int32"]);
    let line = "--tokenizer tokenizer.json --text cat --engine tract";
    bench.run(&format!("embed fixed --image {PICTURES} {line}")).succeeded();
    bench.run(&format!("{EXPORT} --layout immich --no-normalize")).refused(&["immich", "--no-normalize"]);
}

/// A repository that open_clip makes the model of: its weights, and every choice of them in its own words.
#[test]
fn a_folder_for_open_clip_has_weights_and_configuration() {
    let bench = Bench::new("openclip_vit_tiny_quickgelu");
    let line = format!("{EXPORT} --force --layout open_clip --engine tract --reference reference.npz");
    bench.run(&line).succeeded();
    let found = json(&bench, "out/open_clip_config.json");
    let (own, cfg) = (bench.fixture.config_json(), &found["model_cfg"]);
    assert_eq!((&cfg["embed_dim"], &cfg["quick_gelu"]), (&own["embed_dim"], &serde_json::json!(true)));
    for field in ["width", "layers"] {
        assert_eq!(cfg["vision_cfg"][field], own["vision_cfg"][field], "{field}");
    }
    let head = own["vision_cfg"]["width"].as_u64().unwrap() / own["vision_cfg"]["heads"].as_u64().unwrap();
    assert_eq!(cfg["vision_cfg"]["head_width"], head);
    assert_eq!(found["preprocess_cfg"]["resize_mode"], "shortest");
    let manifest = json(&bench, "out/manifest.json");
    let listed: Vec<&str> =
        manifest["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    let weights = "open_clip_model.safetensors";
    assert!(listed.contains(&weights) && listed.contains(&"onnx/vision_model.onnx"), "{listed:?}");
    // The weights are a checkpoint like any other, and give the same.
    bench.run(&format!("export out/{weights} --out again --reference reference.npz --engine tract")).succeeded();
    bench.run(&line).succeeded();

    let bench = Bench::new("siglip_tiny");
    bench.run(&line).refused(&["timm", "64 channels", "--layout"]);
    let bench = Bench::new("siglip2_naflex_tiny");
    bench.run(&line).refused(&["--image-size"]);
    let bench = Bench::new("mobileclip_s0_tiny");
    bench.run(&line).refused(&["timm", "FastViT"]);
}
