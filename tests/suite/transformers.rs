//! transformers' folders, as `save_pretrained` leaves them: the model is what `config.json` says.
//!
//! `tests/transformers/` was written by `scripts/make_transformers.py`, which has transformers
//! compute the references.

use std::path::{Path, PathBuf};

use clip_onnx::checkpoint::Checkpoint;
use clip_onnx::config::{Act, Dialect, ModelConfig, TextPool};
use clip_onnx::error::sentence;
use clip_onnx::pipeline::{Convert, Export, ModelChoice, Silent, convert, export};
use clip_onnx::verify::EMBEDDING;

use crate::common::{model, root, worst};

const CASES: [&str; 4] = ["clip_eos", "clip_legacy", "siglip", "siglip2_naflex"];

fn folder(case: &str) -> PathBuf {
    root().join("tests/transformers").join(case)
}

fn request(case: &str, out: &Path) -> Export {
    Export::new(folder(case), out).reference(folder(case).join("reference.npz"))
}

/// A copy of a case to change.
fn copy(case: &str, to: &Path) {
    for entry in std::fs::read_dir(folder(case)).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
    }
}

#[test]
fn every_case_agrees_with_transformers_normalised_and_raw() {
    for case in CASES {
        for normalize in [true, false] {
            let out = tempfile::tempdir().unwrap();
            let mut request = request(case, &out.path().join("out"));
            request.graph.normalize = Some(normalize);
            let exported = export(&request, &Silent).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(exported.selected.config.dialect, Dialect::Transformers);
            let report = exported.report.unwrap();
            assert!(report.passed && worst(&report) <= EMBEDDING.bound, "{case}: {:?}", report.failures);
        }
    }
}

/// What the configuration says decides, where weights do not show it.
#[test]
fn the_configuration_beside_the_weights_is_followed() {
    let config = |case: &str| ModelConfig::read(&folder(case).join("config.json")).unwrap();
    let eos = config("clip_eos");
    assert_eq!(
        (eos.vision_cfg.as_ref().unwrap().act(), eos.text_cfg.as_ref().unwrap().pool_type),
        (Act::QuickGelu, TextPool::Eos)
    );
    assert_eq!(eos.text_cfg.as_ref().unwrap().eot_id, 250);
    let legacy = config("clip_legacy");
    assert_eq!(
        (legacy.vision_cfg.as_ref().unwrap().act(), legacy.text_cfg.as_ref().unwrap().pool_type),
        (Act::Gelu, TextPool::Argmax)
    );

    let bench = tempfile::tempdir().unwrap();
    copy("siglip", bench.path());
    let path = bench.path().join("config.json");
    let right: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut request = request("siglip", &bench.path().join("out"));
    request.source.checkpoint = bench.path().join("model.safetensors");
    for (section, field, value, said) in [
        ("vision_config", "hidden_act", "relu".into(), "vision_config.hidden_act is \"relu\", expected gelu"),
        ("vision_config", "num_channels", 4.into(), "vision_config.num_channels is 4, expected 3"),
        ("vision_config", "patch_size", "big".into(), "vision_config.patch_size is \"big\""),
        ("text_config", "projection_size", 32.into(), "expected vision_config.hidden_size 64"),
        ("vision_config", "num_hidden_layers", 3.into(), "missing parameter `visual.blocks.2"),
        ("text_config", "num_attention_heads", 5.into(), "text_cfg.heads is 5"),
    ] {
        let mut wrong = right.clone();
        wrong[section][field] = value;
        std::fs::write(&path, wrong.to_string()).unwrap();
        let error = sentence(&export(&request, &Silent).unwrap_err());
        assert!(error.contains(said) && error.contains("config.json"), "{field}: {error}");
    }
    std::fs::write(&path, "{").unwrap();
    let error = sentence(&export(&request, &Silent).unwrap_err());
    assert!(error.contains("config.json is not a model configuration: the file: EOF"), "{error}");
    // Another eps is no error, and is noticed.
    let mut wrong = right.clone();
    wrong["vision_config"]["layer_norm_eps"] = 1e-3.into();
    std::fs::write(&path, wrong.to_string()).unwrap();
    assert!(!export(&request, &Silent).unwrap().report.unwrap().passed);
    // Without a configuration, small dims like these are no known model's.
    std::fs::remove_file(&path).unwrap();
    request.output.folder = bench.path().join("none");
    let error = sentence(&export(&request, &Silent).unwrap_err());
    assert!(error.contains("no known model has these shapes"), "{error}");
    // It may be named instead, wherever it is.
    request.source.model = ModelChoice::File(folder("siglip").join("config.json"));
    assert!(export(&request, &Silent).unwrap().report.unwrap().passed);
}

#[test]
fn a_known_architecture_gets_its_name_licence_and_token_ids() {
    let text = r#"{"model_type": "siglip", "text_config": {"vocab_size": 256000, "hidden_size": 768,
        "projection_size": 768}, "vision_config": {"image_size": 256}}"#;
    let config = ModelConfig::from_transformers("config.json", text).unwrap().unwrap();
    assert_eq!(config.model, "ViT-B-16-SigLIP2-256");
    assert_eq!((config.text_cfg.as_ref().unwrap().pad_id, config.text_cfg.as_ref().unwrap().eot_id), (0, 1));
    assert_eq!(config.license.as_deref(), Some("apache-2.0"));
    let text = r#"{"model_type": "clip", "projection_dim": 512, "text_config": {"eos_token_id": 2},
        "vision_config": {}}"#;
    let config = ModelConfig::from_transformers("config.json", text).unwrap().unwrap();
    assert_eq!((config.model.as_str(), config.text_cfg.as_ref().unwrap().eot_id), ("ViT-B-32-quickgelu", 49407));
    assert!(
        ModelConfig::from_transformers("c", "{\"model_type\": \"bert\"}").unwrap_err().to_string().contains("bert")
    );
}

#[test]
fn image_processors_say_how_pixels_are_made() {
    let bench = tempfile::tempdir().unwrap();
    copy("siglip", bench.path());
    let text = r#"{"image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2], "resample": 2, "size": 32,
        "default_to_square": true}"#;
    std::fs::write(bench.path().join("preprocessor_config.json"), text).unwrap();
    let mut request = request("siglip", &bench.path().join("out"));
    request.source.checkpoint = bench.path().to_owned();
    let config = export(&request, &Silent).unwrap().selected.config;
    assert_eq!(config.preprocess_cfg.mean, [0.4; 3]);
    assert_eq!(config.preprocess_cfg.interpolation.to_string(), "bilinear");
    // The class's own size, where none is given.
    std::fs::write(bench.path().join("preprocessor_config.json"), "{}").unwrap();
    request.output.replace = true;
    let error = sentence(&export(&request, &Silent).unwrap_err());
    assert!(error.contains("size is 224x224, by the processor's default, expected the 32x32"), "{error}");
}

/// `CLIPConfig` still puts the sections of old over the new ones, its class's defaults with them.
#[test]
fn sections_of_old_go_over_the_new_ones() {
    let bench = tempfile::tempdir().unwrap();
    copy("clip_legacy", bench.path());
    let path = bench.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for section in ["vision_config", "text_config"] {
        json[format!("{section}_dict")] = json[section].clone();
        json[section]["hidden_act"] = "quick_gelu".into();
        json[section]["layer_norm_eps"] = 0.01.into();
    }
    std::fs::write(&path, json.to_string()).unwrap();
    let mut request = request("clip_legacy", &bench.path().join("out"));
    request.source.checkpoint = bench.path().to_owned();
    assert!(export(&request, &Silent).unwrap().report.unwrap().passed);
    json["vision_config_dict"].as_object_mut().unwrap().remove("hidden_act");
    let config = ModelConfig::from_transformers("c", &json.to_string()).unwrap().unwrap();
    assert_eq!(config.vision_cfg.as_ref().unwrap().act(), Act::QuickGelu);
}

/// What lies beside the weights is read or refused, never passed over.
#[test]
fn files_beside_the_weights_that_say_nothing_are_named() {
    let bench = tempfile::tempdir().unwrap();
    copy("siglip", bench.path());
    let mut request = request("siglip", &bench.path().join("out"));
    request.source.checkpoint = bench.path().to_owned();
    let right = std::fs::read_to_string(bench.path().join("config.json")).unwrap();
    for (file, text, said) in [
        (
            "config.json",
            "[]",
            "config.json is a transformers configuration that cannot be followed: model_type is absent",
        ),
        ("config.json", "{}", "model_type is absent"),
        ("config.json", r#"{"model_type": "siglip", "text_config": []}"#, "text_config is [], expected an object"),
        ("preprocessor_config.json", "{", "preprocessor_config.json is not a model configuration: the file"),
        (
            "preprocessor_config.json",
            r#"{"image_std": [0, 0, 0]}"#,
            "image_std is [0,0,0], expected three numbers above 0",
        ),
        ("preprocessor_config.json", r#"{"image_mean": "grey"}"#, "image_mean is \"grey\""),
    ] {
        std::fs::write(bench.path().join("config.json"), &right).unwrap();
        std::fs::write(bench.path().join(file), text).unwrap();
        let error = sentence(&export(&request, &Silent).unwrap_err());
        assert!(error.contains(said), "{file} {text}: {error}");
    }
    std::fs::remove_file(bench.path().join("preprocessor_config.json")).unwrap();
    std::fs::remove_file(bench.path().join("config.json")).unwrap();
    std::fs::create_dir(bench.path().join("config.json")).unwrap();
    let error = sentence(&export(&request, &Silent).unwrap_err());
    assert!(error.contains("config.json: cannot be read: is a directory"), "{error}");
}

#[test]
fn a_conversion_does_not_replace_its_source() {
    let bench = tempfile::tempdir().unwrap();
    copy("clip_legacy", bench.path());
    for file in ["model.safetensors.index.json", "model-00002-of-00006.safetensors"] {
        let out = bench.path().join(file);
        let before = std::fs::read(&out).unwrap();
        let mut to = Convert::new(bench.path(), &out);
        to.replace = true;
        let error = convert(&to, &Silent).unwrap_err();
        assert!(error.to_string().contains("is what would be converted"), "{error}");
        assert_eq!(error.remedy().as_deref(), Some("name another file to write"));
        assert!(std::fs::read(&out).unwrap() == before);
    }
}

/// Shards are one checkpoint: the same tensors, and the digest of `cat` of them.
#[test]
fn shards_are_read_by_their_index_and_faults_are_named() {
    let whole = Checkpoint::open(&folder("clip_legacy")).unwrap();
    assert_eq!(whole.file_name(), "model.safetensors.index.json");
    let mut all = Vec::new();
    for shard in 1..=6 {
        let shard = format!("model-0000{shard}-of-00006.safetensors");
        all.extend(std::fs::read(folder("clip_legacy").join(shard)).unwrap());
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&all);
    assert_eq!(whole.whole().sha256(|| true).unwrap().unwrap(), clip_onnx::files::hex(&digest));

    let bench = tempfile::tempdir().unwrap();
    copy("clip_legacy", bench.path());
    let path = bench.path().join("model.safetensors.index.json");
    let right = std::fs::read_to_string(&path).unwrap();
    let open = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Checkpoint::open(&path).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(open(&right), "");
    assert!(open("{}").contains("no index of a sharded checkpoint: missing field `weight_map`"));
    assert!(open(r#"{"weight_map": {}}"#).contains("names 0 files"));
    assert!(open(r#"{"weight_map": {"w": "../../etc/passwd"}}"#).contains("is not the name of a file beside it"));
    assert!(open(r#"{"weight_map": {"w": "/etc/passwd"}}"#).contains("is not the name of a file beside it"));
    assert!(open(r#"{"weight_map": {"w": "gone.bin"}}"#).contains("names shard `gone.bin`, which cannot be read"));
    let misplaced = right.replacen("00001-of", "00002-of", 1);
    assert!(open(&misplaced).contains("which is not in it"), "{}", open(&misplaced));
    // An index that names itself is no shard.
    assert!(open(r#"{"weight_map": {"w": "model.safetensors.index.json"}}"#).contains("is neither .npz nor"));
    let deep = format!("{{\"weight_map\": {}", "[".repeat(100_000));
    assert!(open(&deep).contains("no index of a sharded checkpoint"));
    open(&right);
    std::fs::write(bench.path().join("model-00003-of-00006.safetensors"), b"not one").unwrap();
    assert!(open(&right).contains("names shard `model-00003-of-00006.safetensors`, which is neither"));
}

#[test]
fn other_dialects_are_open_to_known_models_only() {
    let bench = tempfile::tempdir().unwrap();
    let mut request = request("siglip", &bench.path().join("out"));
    request.source.dialect = Some(Dialect::OpenClip);
    let error = sentence(&export(&request, &Silent).unwrap_err());
    assert!(error.contains("has no `open_clip` dialect"), "{error}");
    let known = ModelConfig::named("ViT-B-16-SigLIP").unwrap();
    let transformers = known.in_dialect(Dialect::Transformers).unwrap();
    assert_eq!(transformers.vision_cfg.as_ref().unwrap().act(), Act::GeluTanh);
    assert_eq!(transformers.preprocess_cfg.interpolation.to_string(), "bicubic");
}

#[test]
fn converted_to_open_clips_names_they_give_the_same_graphs() {
    for case in ["clip_eos", "clip_legacy", "siglip"] {
        let bench = tempfile::tempdir().unwrap();
        let converted = bench.path().join("open_clip.safetensors");
        let to = Convert::new(folder(case), &converted);
        convert(&to, &Silent).unwrap_or_else(|e| panic!("{case}: {e}"));
        let direct = request(case, &bench.path().join("direct"));
        export(&direct, &Silent).unwrap();
        let mut through = request(case, &bench.path().join("through"));
        through.source.checkpoint = converted;
        assert!(export(&through, &Silent).unwrap().report.unwrap().passed, "{case}");
        for file in ["vision_model.onnx", "text_model.onnx"] {
            let [a, b] = [&direct, &through].map(|request| {
                let mut model = model(&request.output.folder.join(file));
                model.metadata_props.retain(|p| !p.key().starts_with("source_"));
                prost::Message::encode_to_vec(&model)
            });
            assert!(a == b, "{case}/{file}");
        }
    }
}
