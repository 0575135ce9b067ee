//! Every target and every part of the graph economy gives the authors' numbers; each can be turned
//! off, and is gone then.

use std::collections::{BTreeMap, BTreeSet};

use clip_onnx::bench;
use clip_onnx::config::{ModelConfig, TextPool, TextTower, VisionCfg};
use clip_onnx::engine;
use clip_onnx::onnx::Target;
use clip_onnx::onnx::proto::{GraphProto, ModelProto, tensor_shape_proto::dimension, type_proto};
use clip_onnx::onnx::target::{COREML, MOBILE, ONNX_RUNTIME, PORTABLE, QNN, WEB};
use clip_onnx::params::Params;
use clip_onnx::pipeline::{GraphOptions, Silent, TokenType, export};
use clip_onnx::precision::Precision;
use clip_onnx::providers::Provider;
use clip_onnx::towers::{self, Build};
use clip_onnx::verify::EMBEDDING;

use crate::common::{Fixture, fixtures, model, worst};

/// The usual options, with a change.
fn graph(change: impl FnOnce(&mut GraphOptions)) -> GraphOptions {
    let mut graph = GraphOptions::default();
    change(&mut graph);
    graph
}

/// Exports a fixture, holds it to its reference, gives both graphs.
fn built(fixture: &Fixture, graph: GraphOptions) -> [ModelProto; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut request = fixture.export_to(&folder.path().join("out"));
    let options = format!("{graph:?}");
    (request.graph, request.proof.batches) = (graph, Some(vec![1, 3]));
    let report = export(&request, &Silent).unwrap_or_else(|e| panic!("{}: {e}", fixture.name)).report.unwrap();
    assert!(report.passed && worst(&report) <= EMBEDDING.bound, "{} {options}: {:?}", fixture.name, report.failures);
    assert!(!folder.path().join("out").read_dir().unwrap().any(|e| e.unwrap().path().is_dir()), "no stand-in is left");
    ["vision_model.onnx", "text_model.onnx"].map(|file| model(&request.output.folder.join(file)))
}

fn count(model: &ModelProto, op: &str) -> usize {
    nodes(model).node.iter().filter(|n| n.op_type() == op).count()
}

fn nodes(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().unwrap()
}

#[test]
fn every_fixture_agrees_in_every_target() {
    let targets = [Target::with_opset(&PORTABLE, 20).unwrap(), Target::new(&ONNX_RUNTIME)];
    for fixture in fixtures() {
        for target in targets {
            let models = built(&fixture, graph(|graph| graph.target = target));
            let version = |m: &ModelProto| (m.opset_import[0].version(), m.ir_version());
            assert!(models.iter().all(|m| version(m) == (target.opset, target.ir_version())));
            // Portable files have its parts, which every engine has exactly.
            let is_one = || models.iter().all(|m| count(m, "Erf") + count(m, "Tanh") == 0);
            assert!(target.profile != &ONNX_RUNTIME || is_one(), "Gelu is one node");
            if target.profile == &ONNX_RUNTIME && !fixture.is_naflex() {
                assert!(models.iter().all(|m| count(m, "Softmax") <= 1), "Attention is one node but for the last");
            }
        }
    }
}

/// What each edge target's providers would leave to the CPU, over all fixtures: NNAPI the exact GELU, WebGPU what
/// NaFlex casts of int64; XNNPACK takes convolutions and products alone, whatever the graph.
#[test]
fn providers_take_what_edge_targets_write() {
    let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for fixture in fixtures() {
        for profile in [&MOBILE, &COREML, &QNN, &WEB] {
            if fixture.is_naflex() && profile.static_batch {
                continue;
            }
            for precision in [Precision::Fp32, Precision::Fp16] {
                let half = precision == Precision::Fp16;
                if half && !["siglip_tiny", "mobileclip_s0_tiny", "openclip_vit_tiny"].contains(&fixture.name.as_str())
                {
                    continue;
                }
                let folder = tempfile::tempdir().unwrap();
                // A fixed batch, so that WebNN takes something.
                let batch = if fixture.is_naflex() { None } else { Some(2) };
                let request = fixture.export_to(&folder.path().join("out"));
                let mut request = request.target(profile).precisions([precision]);
                (request.graph.batch, request.proof.batches) = (batch, batch.is_none().then(|| vec![1, 3]));
                let exported = export(&request, &Silent).unwrap_or_else(|e| panic!("{}: {e}", fixture.name));
                let report = exported.report.unwrap();
                assert!(report.passed, "{} {}: {:?}", fixture.name, profile.name, report.failures);
                assert!(half || worst(&report) <= EMBEDDING.bound, "{} {}", fixture.name, profile.name);
                assert_eq!(exported.coverage.len(), 2 * Provider::of_target(profile).len());
                for (_, coverage) in exported.coverage {
                    if half {
                        // Inputs are cast, of which not all take a cast; NNAPI knows float32 alone.
                        let others = matches!(coverage.provider, "XNNPACK" | "NNAPI");
                        assert!(others || coverage.share() > 0.9, "{coverage}");
                    } else if !fixture.is_naflex() || coverage.provider != "WebNN" {
                        let refused = coverage.refused.into_iter().map(|row| row.operator);
                        left.entry(coverage.provider).or_default().extend(refused);
                    }
                }
            }
        }
    }
    let operators = |provider: &str| left[provider].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(operators("CoreML"), [""; 0]);
    assert_eq!(operators("QNN"), [""; 0]);
    assert_eq!(operators("NNAPI"), ["Erf"]);
    assert_eq!(operators("WebGPU"), ["Cast"]);
    assert_eq!(operators("WebNN"), [""; 0]);
    assert!(left["XNNPACK"].contains("Add") && !left["XNNPACK"].contains("Conv"), "{:?}", left["XNNPACK"]);
}

#[test]
fn each_economy_can_be_left_out() {
    let all = GraphOptions::default();
    let off = graph(|graph| {
        let savings = &mut graph.savings;
        (savings.last_block, savings.map_query, savings.text_cut, savings.plain_depthwise) =
            (false, false, false, false);
    });
    let target = Target::new(&ONNX_RUNTIME);
    for name in [
        "siglip_tiny_odd",
        "siglip2_naflex_tiny_resized",
        "mobileclip_s1_tiny",
        "mobileclip2_s3_tiny",
        "mobileclip_b_tiny",
        "openclip_vit_tiny",
    ] {
        let fixture = Fixture::named(name);
        for target in [Target::default(), target] {
            let [on, off] = [&all, &off].map(|options| {
                let mut options = options.clone();
                options.target = target;
                built(&fixture, options)
            });
            let names = |m: &ModelProto| -> Vec<String> {
                let names = nodes(m).node.iter().map(|n| n.name().to_owned());
                names.chain(nodes(m).initializer.iter().map(|i| i.name().to_owned())).collect()
            };
            assert!(names(&on[0]) != names(&off[0]), "{name}");
            assert!(names(&on[1]) != names(&off[1]), "{name}");
        }
    }
}

/// The two products over all places that a constant query saves, and the values' one of the last block.
#[test]
fn unread_keys_and_values_are_not_computed() {
    let [siglip, text] = built(&Fixture::named("siglip_tiny"), GraphOptions::default());
    let has = |m: &ModelProto, name: &str| nodes(m).initializer.iter().any(|i| i.name() == name);
    assert!(has(&siglip, "visual.attn_pool.query") && !has(&siglip, "visual.attn_pool.kv.weight"));
    assert!(has(&text, "text.blocks.1.attn.k.weight") && !has(&text, "text.blocks.1.attn.qkv.weight"));
    assert!(has(&text, "text.blocks.0.attn.qkv.weight"));
}

#[test]
fn causal_text_is_cut_where_the_target_can_and_unmasked_text_never() {
    let target = Target::new(&ONNX_RUNTIME);
    let cut = |name: &str, graph: GraphOptions| count(&built(&Fixture::named(name), graph)[1], "Slice");
    let with_cut = graph(|graph| graph.target = target);
    assert!(cut("openclip_vit_tiny", with_cut.clone()) > 0);
    assert_eq!(cut("openclip_vit_tiny", GraphOptions::default()), 0);
    let without = graph(|graph| (graph.target, graph.savings.text_cut) = (target, false));
    assert_eq!(cut("openclip_vit_tiny", without), 0);
    for unmasked in ["mobileclip_s1_tiny", "mobileclip2_s0_tiny", "siglip_tiny"] {
        assert_eq!(cut(unmasked, with_cut.clone()), 0, "{unmasked}");
    }
}

#[test]
fn texts_may_have_any_length() {
    let dynamic = graph(|graph| graph.dynamic_text = true);
    let [_, text] = built(&Fixture::named("openclip_vit_tiny_quickgelu"), dynamic);
    let Some(type_proto::Value::TensorType(tensor)) = &nodes(&text).input[0].r#type.as_ref().unwrap().value else {
        panic!("a tensor")
    };
    let dims: Vec<String> = tensor
        .shape
        .as_ref()
        .unwrap()
        .dim
        .iter()
        .map(|d| match &d.value {
            Some(dimension::Value::DimParam(name)) => name.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(dims, ["batch_size", "sequence_length"]);
    // Where padding is looked at, it is filled up inside.
    for name in ["siglip_tiny", "mobileclip_s0_tiny", "siglip2_tiny_stacked"] {
        for int32 in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut request = Fixture::named(name).export_to(&folder.path().join("out"));
            request.graph.dynamic_text = true;
            request.graph.tokens = Some(if int32 { TokenType::Int32 } else { TokenType::Int64 });
            let report = export(&request, &Silent).unwrap().report.unwrap();
            assert!(report.passed && worst(&report) <= EMBEDDING.bound, "{name}: {:?}", report.failures);
            let short = bench::Request {
                model: request.output.folder.join("text_model.onnx"),
                engine: engine::tract(),
                threads: 1,
                batches: vec![1, 3],
                rounds: 1,
                tokens: Some(5),
            };
            let measured = bench::measure(&short).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(measured.input, [5], "{name}");
        }
    }
}

/// Texts may end early only where nothing behind the pooled place reaches the embedding: not below a
/// RepMixer, which looks ahead, and not where the last place is pooled, mask or no mask.
#[test]
fn a_mask_alone_does_not_let_texts_end_early() {
    let target = Target::new(&ONNX_RUNTIME);
    let read = |name: &str| ModelConfig::read(&Fixture::named(name).config()).unwrap();
    let slices = |config: &ModelConfig| {
        let build = Build { target, ..Build::default() };
        let parts = towers::text(config, &Params::recorder(), &build).unwrap().into_parts();
        parts.nodes.iter().filter(|node| node.op_type == "Slice").count()
    };
    let causal = read("openclip_vit_tiny");
    assert!(slices(&causal) > 0 && causal.text_cfg.as_ref().unwrap().ends_where_pooled());
    let rep_mixer = read("mobileclip_s0_tiny").with(|model| {
        let TextTower::Mct(mct) = &mut model.text_cfg.as_mut().unwrap().tower else { panic!("an MCT") };
        mct.causal = true;
    });
    let last = causal.with(|model| model.text_cfg.as_mut().unwrap().pool_type = TextPool::Last);
    for config in [rep_mixer.unwrap(), last.unwrap()] {
        assert!(slices(&config) == 0 && !config.text_cfg.as_ref().unwrap().ends_where_pooled());
    }
}

/// Channels leave a FastViT without a projection in their own order: no weights follow to undo another.
#[test]
fn channels_nobody_reads_next_keep_their_order() {
    let config = ModelConfig::read(&Fixture::named("mobileclip2_s0_tiny").config()).unwrap();
    let concats = |config: &ModelConfig| {
        let parts = towers::image(config, &Params::recorder(), &Build::default()).unwrap().into_parts();
        let nodes: Vec<String> = parts.nodes.iter().map(|node| node.name.clone()).collect();
        nodes.into_iter().filter(|name| name.ends_with("/Concat")).collect::<Vec<_>>()
    };
    let last = "visual/final_conv/reparam_conv/Concat".to_owned();
    assert!(concats(&config).contains(&last));
    let Some(VisionCfg::FastVit(fastvit)) = &config.vision_cfg else { panic!("a FastViT") };
    let width = fastvit.final_width();
    let without = config.with(|model| {
        // Without a projection the channels are the embedding.
        let Some(VisionCfg::FastVit(fastvit)) = &mut model.vision_cfg else { panic!("a FastViT") };
        (fastvit.head, model.embed_dim) = (None, width);
    });
    let without = concats(&without.unwrap());
    assert!(!without.contains(&last) && !without.is_empty(), "{without:?}");
}
