//! Token ids against the authors' own tokenizers (`scripts/make_tokens.py`).

use clip_onnx::config::{ModelConfig, known};
use clip_onnx::tokenize::{Error, Tokenizer};

fn model(name: &str) -> ModelConfig {
    known().find(|config| config.model == name).unwrap().clone()
}

#[test]
fn clips_ids_are_open_clips() {
    let rows: serde_json::Value = serde_json::from_str(include_str!("../clip_tokens.json")).unwrap();
    let tokenizer = Tokenizer::new(&model("ViT-B-32"), None).unwrap();
    let mut differing = Vec::new();
    for row in rows.as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let mut expected: Vec<i64> = row["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        expected.resize(77, 0);
        let found = tokenizer.row(text).unwrap();
        if found != expected {
            differing.push(format!("{text:?}:\n  {expected:?}\n  {found:?}"));
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {}:\n{}",
        differing.len(),
        rows.as_array().unwrap().len(),
        differing.join("\n")
    );
}

/// A vocabulary that is not built in has to be named, and to be the model's.
#[test]
fn tokenizers_of_other_models_are_refused() {
    let siglip = model("ViT-B-16-SigLIP");
    let remedy = Tokenizer::new(&siglip, None).err().unwrap().remedy().unwrap();
    assert!(remedy.contains("`source.tokenizer`"), "{remedy}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(Tokenizer::new(&siglip, Some(&path)), Err(Error::Read { .. })));
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["</s>", -2.0]]},
    });
    std::fs::write(&path, json.to_string()).unwrap();
    let error = Tokenizer::new(&siglip, Some(&path)).err().unwrap().to_string();
    assert!(error.contains("ends sentences with id 2, the model's end with 1"), "{error}");
}

/// The published tokenizers, which are not this repository's to carry: where their paths are given.
#[test]
fn published_tokenizers_are_taken() {
    for (variable, name) in [("SIGLIP_TOKENIZER", "ViT-B-16-SigLIP"), ("SIGLIP2_TOKENIZER", "ViT-B-16-SigLIP2")] {
        let Some(path) = std::env::var_os(variable) else {
            eprintln!("not run: {variable} does not name the published tokenizer.json of {name}");
            continue;
        };
        let config = model(name);
        let text = &config.text_cfg.as_ref().unwrap();
        let tokenizer = Tokenizer::new(&config, Some(path.as_ref())).unwrap();
        for sentence in ["a photo of a cat", "Zwei HUNDE, am Strand!", "", "猫の写真", &"very ".repeat(200)] {
            let row = tokenizer.row(sentence).unwrap();
            assert_eq!(row.len(), text.context_length, "{sentence}");
            let end = row.iter().position(|&id| id == text.eot_id).unwrap_or_else(|| panic!("{sentence} has no end"));
            assert!(row[end + 1..].iter().all(|&id| id == text.pad_id), "{sentence}: {row:?}");
            assert!(row[..end].iter().all(|&id| id > 1), "{sentence}: {row:?}");
        }
    }
}
