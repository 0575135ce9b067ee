//! Every configuration field that reaches the graph, flipped one at a time, is noticed: some
//! fixture leaves the bound, or the change is refused by name.
//!
//! A field that could be flipped unnoticed is one nobody can rely on.

use std::collections::{BTreeMap, BTreeSet};

use clip_onnx::pipeline::{ModelChoice, Silent, export};
use clip_onnx::verify::EMBEDDING;
use serde_json::{Value, json};

use crate::common::{Fixture, fixtures, worst};

/// Fields that say what the model is or how its inputs are made, and do not reach the graph.
const DESCRIPTIVE: &[&str] = &[
    "/model",
    "/family",
    "/naming",
    "/license",
    "/preprocess_cfg",
    // The tokenizer's; only pool_type `eos` looks at eot_id, and no SigLIP model pools so.
    "/text_cfg/pad_id",
    "/text_cfg/sot_id",
    "/text_cfg/eot_id",
    // How the source stores the kernel: a convolution or a matrix, the same product either way.
    "/vision_cfg/patch_embed",
    // Distinguished by the norm's operator: `eps_and_norm_are_those_of_the_configuration`.
    "/dialect",
];

/// Other values for a field.
fn flips(pointer: &str, value: &Value) -> Vec<Value> {
    let field = pointer.rsplit('/').next().unwrap();
    match (field, value) {
        ("norm_eps" | "bn_eps", _) => vec![json!(1e-5), json!(1e-4)],
        ("act", _) => vec![json!("gelu"), json!("gelu_tanh"), json!("quick_gelu")],
        ("pool", _) => vec![json!("token"), json!("avg")],
        ("pool_type", _) => vec![json!("first"), json!("last"), json!("argmax"), json!("eos")],
        ("proj", Value::String(s)) => vec![json!(if s == "none" { "linear" } else { "none" })],
        ("attn_norm", Value::String(s)) => {
            vec![json!(if s == "batch_norm" { "layer_norm_2d" } else { "batch_norm" })]
        }
        ("model_type", Value::String(s)) if s == "vit" => vec![json!("naflexvit")],
        ("model_type", Value::String(s)) if s == "naflexvit" => vec![json!("vit")],
        ("model_type", Value::String(s)) if s == "transformer" => vec![json!("mct")],
        ("model_type", Value::String(s)) if s == "mct" => vec![json!("transformer")],
        ("model_type", _) => vec![json!("vit")],
        ("logit_scale_max", _) => vec![json!(10.0)],
        ("image_size" | "pos_grid", Value::Array(side)) => {
            let (a, b) = (side[0].as_u64().unwrap(), side[1].as_u64().unwrap());
            vec![json!([a * 2, b]), json!([b * 2, a * 3])]
        }
        (_, Value::Bool(b)) => vec![json!(!b)],
        (_, Value::Array(items)) => (0..items.len())
            .map(|at| {
                let mut items = items.clone();
                items[at] = match &items[at] {
                    Value::Bool(b) => json!(!b),
                    Value::String(s) if s == "repmixer" => json!("attention"),
                    Value::String(_) => json!("repmixer"),
                    Value::Number(n) if n.is_u64() => json!(n.as_u64().unwrap() + 1),
                    other => json!(other.as_f64().unwrap() * 2.0),
                };
                Value::Array(items)
            })
            .collect(),
        ("se_rd_divisor_final" | "se_rd_divisor_downsample", Value::Number(n)) => vec![json!(n.as_u64().unwrap() * 3)],
        // Another divisor where there is one, and another number.
        (_, Value::Number(n)) if n.is_u64() => vec![json!(n.as_u64().unwrap() * 2), json!(n.as_u64().unwrap() + 1)],
        (_, Value::Number(n)) => vec![json!(n.as_f64().unwrap() * 2.0)],
        _ => panic!("no flip for {pointer} = {value}"),
    }
}

fn leaves(at: &str, value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(&format!("{at}/{key}"), value, out));
        }
        _ => {
            out.insert(at.to_owned());
        }
    }
}

enum Outcome {
    Refused(String),
    Error(f64),
    LogitsOff,
}

fn outcome(fixture: &Fixture, config: &Value) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut request = fixture.export_to(&folder.path().join("out"));
    request.source.model = ModelChoice::File(path);
    request.proof.batches = Some(vec![2]);
    match export(&request, &Silent) {
        Err(error) => Outcome::Refused(clip_onnx::error::sentence(&error)),
        Ok(exported) => {
            let report = exported.report.unwrap();
            match worst(&report) {
                error if error <= EMBEDDING.bound && !report.passed => Outcome::LogitsOff,
                error => Outcome::Error(error),
            }
        }
    }
}

#[test]
fn every_field_that_reaches_the_graph_is_noticed_when_it_is_wrong() {
    let mut cases = fixtures();
    // Other containers of the same model, with the same configuration.
    let same = ["safetensors", "legacy", "wrapped", "strided", "fp16", "bf16"];
    cases.retain(|case| !same.iter().any(|form| case.name == format!("mobileclip_s0_tiny_{form}")));
    assert!(cases.len() >= 24);
    let mut fields = BTreeSet::new();
    for fixture in &cases {
        leaves("", &fixture.config_json(), &mut fields);
    }
    fields.retain(|f| !DESCRIPTIVE.iter().any(|d| f == d || f.starts_with(&format!("{d}/"))));
    assert!(fields.len() > 60, "{fields:?}");

    // Numbers differ from fixture to fixture; a word or a bool must each be noticed on its own.
    let mut noticed: BTreeMap<String, bool> = BTreeMap::new();
    let (mut unseen, mut unnamed) = (Vec::new(), Vec::new());
    for field in &fields {
        for fixture in &cases {
            let right = fixture.config_json();
            let Some(value) = right.pointer(field) else { continue };
            for flip in flips(field, value).into_iter().filter(|flip| flip != value) {
                let mut wrong = right.clone();
                *wrong.pointer_mut(field).unwrap() = flip.clone();
                let named = field.rsplit('/').next().unwrap();
                let key = if flip.is_string() || flip.is_boolean() { format!("{field} {flip}") } else { field.clone() };
                let noticed = noticed.entry(key).or_insert(false);
                match outcome(fixture, &wrong) {
                    // Refused: by the field's name, or by a tensor that is missing, of another
                    // shape, or left over because of it.
                    Outcome::Refused(error) => {
                        if !error.contains(named) && !error.contains('`') {
                            unnamed.push(format!("{field} = {flip} on {}: {error}", fixture.name));
                        }
                        *noticed = true;
                    }
                    Outcome::LogitsOff => *noticed = true,
                    Outcome::Error(error) if error > EMBEDDING.bound => *noticed = true,
                    Outcome::Error(error) => unseen.push(format!("{field} {flip} {}: {error:.1e}", fixture.name)),
                }
            }
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    let unnoticed: Vec<&String> = noticed.iter().filter(|&(_, &seen)| !seen).map(|(key, _)| key).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}; {unseen:#?}");
}

#[test]
fn the_right_eps_gives_the_smaller_error_everywhere() {
    for fixture in fixtures() {
        for field in [
            "/vision_cfg/norm_eps",
            "/text_cfg/norm_eps",
            "/vision_cfg/bn_eps",
            "/text_cfg/bn_eps",
            "/vision_cfg/conv_stem/bn_eps",
        ] {
            let right = fixture.config_json();
            let Some(eps) = right.pointer(field).and_then(Value::as_f64) else { continue };
            let mut wrong = right.clone();
            *wrong.pointer_mut(field).unwrap() = json!(if eps < 5e-6 { 1e-5 } else { 1e-6 });
            let (Outcome::Error(good), Outcome::Error(bad)) = (outcome(&fixture, &right), outcome(&fixture, &wrong))
            else {
                panic!("{} {field}: refused", fixture.name)
            };
            // Where the files are the authors' own folded form, the eps is folded away with them.
            let folded_away = field.ends_with("bn_eps") && fixture.name.ends_with("_folded");
            assert!(
                good < bad || folded_away,
                "{} {field}: {good:.1e} with {eps:e}, {bad:.1e} with the other",
                fixture.name
            );
        }
    }
}
