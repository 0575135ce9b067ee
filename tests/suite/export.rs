//! Every fixture: export, run with tract, compare with the authors' numbers.

use std::collections::BTreeMap;

use clip_onnx::pipeline::{ModelChoice, Silent, export};
use clip_onnx::verify::{EMBEDDING, LOGITS};

use crate::common::{Fixture, bytes, fixtures, model, worst};

#[test]
fn every_fixture_agrees_with_its_reference_normalised_and_raw() {
    let mut failures = Vec::new();
    for fixture in fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let both = fixture.checkpoints().into_iter().flat_map(|file| [(file.clone(), true), (file, false)]);
        for (at, (checkpoint, normalize)) in both.enumerate() {
            let mut request = fixture.export_to(&folder.path().join(at.to_string()));
            (request.source.checkpoint, request.graph.normalize) = (checkpoint, Some(normalize));
            let report = export(&request, &Silent).unwrap().report.unwrap();
            assert!(report.compared);
            assert_eq!(report.towers.len(), 2);
            assert!(report.towers.iter().all(|t| t.normalized == normalize && t.batches.len() == 4));
            let logits = report.logits.as_ref().expect("both towers give logits");
            if !report.passed || worst(&report) > EMBEDDING.bound || logits.over_scale > LOGITS.bound {
                failures.push(format!("{} normalize {normalize}: {:?}", fixture.name, report.failures));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Containers hold the same values, so they give the same bytes.
#[test]
fn containers_of_the_same_values_give_the_same_graphs() {
    let graphs = |name: &str| {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let mut request = fixture.export_to(&folder.path().join("out"));
        request = request.unverified();
        request.source.model = ModelChoice::File(Fixture::named("mobileclip_s0_tiny").config());
        export(&request, &Silent).unwrap();
        ["vision_model.onnx", "text_model.onnx"].map(|file| {
            let mut model = model(&request.output.folder.join(file));
            model.metadata_props.retain(|p| !p.key().starts_with("source_"));
            prost::Message::encode_to_vec(&model)
        })
    };
    let plain = graphs("mobileclip_s0_tiny");
    for form in ["safetensors", "legacy", "wrapped", "strided"] {
        assert!(graphs(&format!("mobileclip_s0_tiny_{form}")) == plain, "{form}");
    }
}

/// What is left of a FastViT: no BatchNormalization, no layer scale, one convolution a branch set.
#[test]
fn a_fastvit_is_folded_to_plain_convolutions() {
    for name in ["mobileclip_s0_tiny", "mobileclip_s1_tiny", "mobileclip2_s3_tiny", "mobileclip2_s0_tiny_folded"] {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let mut request = fixture.export_to(&folder.path().join("out"));
        request = request.unverified();
        export(&request, &Silent).unwrap();
        let graph = model(&request.output.folder.join("vision_model.onnx")).graph.unwrap();
        let count = |op: &str| graph.node.iter().filter(|n| n.op_type() == op).count();
        assert_eq!(count("BatchNormalization"), 0);
        let config = &fixture.config_json()["vision_cfg"];
        let layers: Vec<u64> = config["stage_layers"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let flags = |key: &str| config[key].as_array().unwrap().iter().filter(|f| *f == true).count();
        let mixers = config["token_mixers"].as_array().unwrap();
        let rep_mixers: u64 = layers.iter().zip(mixers).filter(|(_, m)| *m == "repmixer").map(|(n, _)| n).sum();
        let blocks: u64 = layers.iter().sum();
        // Stem, downsamplings, position convolutions, SE pairs, the last one; a mixer and an MLP a block.
        let expected = 3 + 2 * (layers.len() - 1) + flags("pos_embs") + 2 * (flags("se_downsamples") + 1) + 1;
        assert_eq!(count("Conv"), expected + (rep_mixers + 3 * blocks) as usize, "{name}");
    }
}

/// Nothing folded: the checkpoint's own nodes, and the same numbers.
#[test]
fn unfolded_graphs_keep_their_branches_and_agree() {
    for (name, norms) in [
        ("mobileclip_s0_tiny", true),
        ("mobileclip_s1_tiny", true),
        ("mobileclip2_s3_tiny", true),
        ("mobileclip2_s0_tiny_folded", true),
        ("mobileclip_b_tiny", true),
        ("siglip_tiny", false),
    ] {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let counts = [true, false].map(|fold| {
            let mut request = fixture.export_to(&folder.path().join(fold.to_string()));
            request.graph.savings.fold = fold;
            let report = export(&request, &Silent).unwrap().report.unwrap();
            assert!(report.passed && worst(&report) <= EMBEDDING.bound, "{name}: {:?}", report.failures);
            let graph = model(&request.output.folder.join("vision_model.onnx")).graph.unwrap();
            ["BatchNormalization", "Conv", "Mul"].map(|op| graph.node.iter().filter(|n| n.op_type() == op).count())
        });
        let [folded, unfolded] = counts;
        assert_eq!((folded[0], unfolded[0] > 0), (0, norms), "{name}");
        assert!(
            unfolded[1] >= folded[1] && (unfolded[2] > folded[2] || name == "mobileclip_b_tiny"),
            "{name}: {counts:?}"
        );
    }
}

#[test]
fn naflex_frozen_to_an_image_size_agrees_too() {
    for (name, size) in [("siglip2_naflex_tiny", [32, 32]), ("siglip2_naflex_tiny_resized", [24, 48])] {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let mut request = fixture.export_to(&folder.path().join("out"));
        request.source.image_size = Some(size);
        let report = export(&request, &Silent).unwrap().report.unwrap();
        assert!(report.passed, "{name}: {:?}", report.failures);
        let vision = model(&folder.path().join("out/vision_model.onnx")).graph.unwrap();
        assert_eq!(vision.input.len(), 1);
        assert_eq!(vision.input[0].name(), "pixel_values");
    }
}

#[test]
fn the_same_command_twice_gives_the_same_bytes() {
    for name in ["siglip_tiny", "siglip2_tiny_stacked_noprefix", "siglip2_naflex_tiny"] {
        let fixture = Fixture::named(name);
        let folder = tempfile::tempdir().unwrap();
        let outs = ["a", "b"].map(|out| folder.path().join(out));
        for out in &outs {
            export(&fixture.export_to(out), &Silent).unwrap();
        }
        for file in ["vision_model.onnx", "text_model.onnx", "manifest.json"] {
            assert!(bytes(&outs[0], file) == bytes(&outs[1], file), "{name}/{file}");
        }
    }
}

#[test]
fn external_data_is_one_aligned_sidecar_and_changes_no_number() {
    let fixture = Fixture::named("siglip_tiny_rect");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut request = fixture.export_to(&out);
    request.output.external_data = true;
    let exported = export(&request, &Silent).unwrap();
    assert!(exported.report.unwrap().passed);
    let graph = model(&out.join("text_model.onnx")).graph.unwrap();
    let size = std::fs::metadata(out.join("text_model.onnx_data")).unwrap().len();
    let mut external = 0;
    for tensor in &graph.initializer {
        let entries: BTreeMap<&str, &str> = tensor.external_data.iter().map(|e| (e.key(), e.value())).collect();
        let bytes: i64 = tensor.dims.iter().product::<i64>() * 4;
        if entries.is_empty() {
            assert!(tensor.raw_data().len() < 1024, "{}", tensor.name());
            continue;
        }
        external += 1;
        assert_eq!(entries["location"], "text_model.onnx_data");
        let (offset, length): (u64, u64) = (entries["offset"].parse().unwrap(), entries["length"].parse().unwrap());
        assert_eq!(offset % 4096, 0);
        assert_eq!(length as i64, bytes, "{}", tensor.name());
        assert!(offset + length <= size);
    }
    assert!(external > 10);
    let manifest: serde_json::Value = serde_json::from_slice(&bytes(&out, "manifest.json")).unwrap();
    let listed: Vec<&str> = manifest["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(listed, ["vision_model.onnx", "vision_model.onnx_data", "text_model.onnx", "text_model.onnx_data"]);
}

#[test]
fn graphs_read_well_and_say_what_they_are() {
    let fixture = Fixture::named("siglip_tiny");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    export(&fixture.export_to(&out), &Silent).unwrap();
    let vision = model(&out.join("vision_model.onnx"));
    assert_eq!((vision.ir_version(), vision.opset_import[0].version()), (8, 17));
    let metadata: BTreeMap<&str, &str> = vision.metadata_props.iter().map(|e| (e.key(), e.value())).collect();
    for (key, value) in [
        ("model", "siglip_tiny"),
        ("dialect", "original"),
        ("embed_dim", "64"),
        ("normalized", "true"),
        ("precision", "fp32"),
        ("license", "apache-2.0"),
        ("source_file", "checkpoint.npz"),
        ("image_size", "32x32"),
        ("tool_version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    for key in ["source_sha256", "preprocess", "logit_scale", "logit_scale_exp", "logit_bias"] {
        assert!(metadata.contains_key(key), "{key}");
    }
    let text = model(&out.join("text_model.onnx"));
    let metadata: BTreeMap<&str, &str> = text.metadata_props.iter().map(|e| (e.key(), e.value())).collect();
    for (key, value) in [("context_length", "16"), ("pad_id", "1"), ("eot_id", "1"), ("vocab_size", "512")] {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }

    let graph = vision.graph.unwrap();
    let nodes: Vec<&str> = graph.node.iter().map(|n| n.name()).collect();
    assert!(nodes.contains(&"visual/blocks/1/attn/qkv/MatMul"), "{nodes:?}");
    assert_eq!(nodes.iter().collect::<std::collections::HashSet<_>>().len(), nodes.len());
    let weights: Vec<&str> = graph.initializer.iter().map(|t| t.name()).collect();
    assert!(weights.contains(&"visual.blocks.1.attn.qkv.weight"), "{weights:?}");
    assert!(graph.node.iter().any(|n| n.output[0] == "visual/blocks/0/output"));
    // Weights are laid out when written, not in the graph.
    let names: std::collections::HashSet<&str> = weights.iter().copied().collect();
    for node in graph.node.iter().filter(|n| n.op_type() == "Transpose") {
        assert!(!names.contains(node.input[0].as_str()), "{} transposes a weight", node.name());
    }
}

/// The attributes float32 comparison cannot always tell apart, seen in the file.
#[test]
fn eps_and_norm_are_those_of_the_configuration() {
    let fixture = Fixture::named("siglip_tiny");
    let folder = tempfile::tempdir().unwrap();
    for (eps, at) in [(1e-6f32, "a"), (1e-5, "b")] {
        let mut config = fixture.config_json();
        config["vision_cfg"]["norm_eps"] = serde_json::json!(eps);
        config["text_cfg"]["norm_eps"] = serde_json::json!(eps * 2.0);
        let path = folder.path().join(format!("{at}.json"));
        std::fs::write(&path, config.to_string()).unwrap();
        let mut request = fixture.export_to(&folder.path().join(at));
        request.source.model = ModelChoice::File(path);
        request = request.unverified();
        export(&request, &Silent).unwrap();
        for (file, eps, norms) in [("vision_model.onnx", eps, 6), ("text_model.onnx", eps * 2.0, 5)] {
            let graph = model(&request.output.folder.join(file)).graph.unwrap();
            let found: Vec<f32> = graph
                .node
                .iter()
                .filter(|n| n.op_type() == "LayerNormalization")
                .map(|n| n.attribute.iter().find(|a| a.name() == "epsilon").unwrap().f())
                .collect();
            assert_eq!(found, vec![eps; norms], "{file}");
        }
    }
    for (dialect, op) in [("original", "Add"), ("open_clip", "Max")] {
        let mut config = fixture.config_json();
        config["dialect"] = dialect.into();
        let path = folder.path().join(format!("{dialect}.json"));
        std::fs::write(&path, config.to_string()).unwrap();
        let mut request = fixture.export_to(&folder.path().join(dialect));
        request.source.model = ModelChoice::File(path);
        request = request.unverified();
        export(&request, &Silent).unwrap();
        let graph = model(&request.output.folder.join("text_model.onnx")).graph.unwrap();
        let tail: Vec<&str> = graph.node[graph.node.len() - 3..].iter().map(|n| n.op_type()).collect();
        assert_eq!(tail, ["ReduceL2", op, "Div"]);
    }
}
