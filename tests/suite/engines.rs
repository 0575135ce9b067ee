//! The real binary: timing, engines, and what it says of precisions.

use crate::common::bench::{Bench, EXPORT};
use crate::common::npz::{Arrays, Zip, read, write};

#[test]
fn bench_times_towers_in_processes_of_their_own() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify --no-hash")).succeeded();
    let outcome = bench.run("bench out --batches 1,2 --threads 2 --rounds 3 --engine tract --json");
    let timings: serde_json::Value = serde_json::from_str(&outcome.succeeded().out).unwrap();
    let timed = timings["timed"].as_array().unwrap();
    assert_eq!(timed.len(), 2, "tract has one thread");
    for tower in timed {
        assert_eq!((&tower["engine"], &tower["threads"]), (&clip_onnx::engine::tract().name().into(), &1.into()));
        assert!(tower["load_ms"].as_f64().unwrap() > 0.0);
        let latency = tower["latency"].as_array().unwrap();
        assert_eq!(latency.iter().map(|l| l["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
        for one in latency {
            let of = |key: &str| one[key].as_f64().unwrap();
            assert!(0.0 < of("min_ms") && of("min_ms") <= of("median_ms") && of("median_ms") <= of("max_ms"));
            assert!((of("per_item_ms") * of("batch") - of("median_ms")).abs() < 1e-9);
        }
    }
    if cfg!(target_os = "linux") {
        assert!(timed[0]["peak_memory"].as_u64().unwrap() > 1 << 20);
    }
    bench
        .run("bench out/text_model.onnx --text-length 5 --engine tract")
        .succeeded()
        .says(&["median ms", "text_model.onnx"]);
    bench.run("bench out/text_model.onnx --text-length 99 --engine tract").refused(&["at most 16 tokens, not 99"]);
    bench
        .run("bench out --engine onnxruntime --ort-lib config.json")
        .refused(&["config.json", "no ONNX Runtime library"]);
    bench.run("bench out --engine tract --ort-lib libonnxruntime.so").refused(&["libonnxruntime.so", "leave it out"]);
    bench
        .run(&format!("{EXPORT} --force --no-verify --ort-lib libonnxruntime.so"))
        .refused(&["--no-verify and --ort-lib"]);
    for flag in ["--threads", "--text-length", "--batches"] {
        assert!(
            bench.run(&format!("bench out {flag} 0")).err.contains(flag.trim_start_matches('-').trim_end_matches("es"))
        );
    }
    // What was timed is told, whatever else was not.
    let outcome =
        bench.run("bench out/text_model.onnx out/text_model.onnx config.json --batches 1,1 --engine tract --json");
    assert_eq!(outcome.code, Some(2));
    outcome.says(&["config.json", "not an ONNX model"]);
    let timings: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(timings["timed"].as_array().unwrap().len(), 1);
    assert_eq!(timings["timed"][0]["latency"].as_array().unwrap().len(), 1);
    assert_eq!(timings["not_run"][0]["engine_failed"], false);
    bench.run("bench checkpoint.npz --engine tract").refused(&["checkpoint.npz", "not an ONNX model"]);
    bench.run("bench nowhere --engine tract").refused(&["nowhere", "No such file"]);
}

#[test]
fn without_hashes_the_graphs_are_the_same_and_sums_are_left_out() {
    let bench = Bench::new("siglip_tiny");
    bench.run(EXPORT).succeeded();
    bench.run("export checkpoint.npz --config config.json --out plain --no-hash").succeeded();
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(bench.path(name)).unwrap()).unwrap()
    };
    let (hashed, plain) = (json("out/manifest.json"), json("plain/manifest.json"));
    assert!(hashed["metadata"]["source_sha256"].is_string() && plain["metadata"]["source_sha256"].is_null());
    assert!(hashed["files"][0]["sha256"].is_string() && plain["files"][0]["sha256"].is_null());
    let weights = |name: &str| std::fs::read(bench.path(name)).unwrap();
    let (hashed, plain) = (weights("out/vision_model.onnx"), weights("plain/vision_model.onnx"));
    let same = hashed.iter().zip(&plain).skip(64).take_while(|(a, b)| a == b).count();
    assert!(same > plain.len() - 8192, "all but the metadata: {same} of {}", plain.len());
}

/// An engine that cannot run a file says so; the file is not called good for it.
#[test]
fn what_no_engine_runs_is_no_pass() {
    let bench = Bench::new("openclip_vit_tiny");
    bench.run(&format!("{EXPORT} --no-verify --target onnxruntime")).succeeded();
    // The other files are run all the same.
    let outcome = bench.run("verify out --engine tract");
    assert_eq!(outcome.code, Some(1), "{}{}", outcome.out, outcome.err);
    outcome.says(&[
        "vision_model.onnx with tract",
        "failed: not run: tract",
        "out/text_model.onnx",
        "--ort-lib",
        "FAILED",
    ]);
    bench.run("verify out/text_model.onnx --engine tract").refused(&["tract could not run out/text_model.onnx"]);
    bench.run("bench out/text_model.onnx --engine tract").refused(&["tract could not run", "--ort-lib"]);
}

#[test]
fn precisions_are_named_measured_and_told() {
    let bench = Bench::new("siglip_tiny");
    for (flags, said) in [
        ("--precision int5", "[possible values: fp32, fp16, fp16-weights"),
        ("--max-drop 3", "how far a cosine may fall"),
        ("--no-verify --bench", "--no-verify and --bench do not go together"),
    ] {
        let outcome = bench.run(&format!("{EXPORT} {flags}"));
        assert_eq!(outcome.code, Some(2), "{flags}");
        assert!(outcome.err.contains(said), "{flags}: {}", outcome.err);
    }
    bench.run(&format!("{EXPORT} --precision int8 --calibrate nowhere.npz")).refused(&["nowhere.npz", "No such file"]);
    bench.run(&format!("{EXPORT} --precision int8 --calibrate config.json")).refused(&["config.json"]);
    let images: Arrays = read(&bench.fixture.reference()).into_iter().filter(|(name, _)| name == "image").collect();
    write(&bench.path("images.npz"), &images, Zip::Stored);
    bench
        .run(&format!("{EXPORT} --precision int8 --calibrate images.npz --engine tract"))
        .refused(&["images.npz", "`tokens`"]);
    assert_eq!(bench.entries(), ["checkpoint.npz", "config.json", "images.npz", "reference.npz"]);

    let outcome =
        bench.run(&format!("{EXPORT} --precision int8,fp32,int8 --bench --engine tract --reference reference.npz"));
    outcome.succeeded().says(&["vision_model_int8.onnx", "text_model.onnx", "passed: agrees"]);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["precisions"].as_array().unwrap().len(), 4);
    assert_eq!(report["timed"].as_array().unwrap().len(), 4);
    assert_eq!(report["rankings"][1]["precision"], "int8");
    let page = std::fs::read_to_string(bench.path("out/report.html")).unwrap();
    assert!(
        page.contains("vision_model_int8.onnx") && page.matches("<svg").count() >= 6 && page.ends_with("</html>\n")
    );
    assert!(!page.contains("http"), "it needs nothing but itself");
    bench.run("inspect out/text_model_int8.onnx").succeeded().says(&["MatMulInteger", "precision        int8"]);
}
