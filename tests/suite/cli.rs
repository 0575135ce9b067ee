//! The real binary in a fresh folder: output, files, exit codes, and what it says of bad input.

use std::path::Path;

use assert_cmd::Command;
use clip_onnx::{Verify, engine};

use crate::common::bench::{Bench, EXPORT};
use crate::common::npz::{self, Array, Arrays, Zip, get, read, write};
use crate::common::{Fixture, root};

const INPUTS: [&str; 3] = ["checkpoint.npz", "config.json", "reference.npz"];

#[test]
fn a_file_the_manifest_lists_and_the_folder_lacks_is_no_pass() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    std::fs::remove_file(bench.path("out/vision_model.onnx")).unwrap();
    bench
        .run("verify out --reference reference.npz --engine tract")
        .refused(&["out has no vision_model.onnx", "manifest.json lists"]);
}

#[test]
fn verification_of_nothing_is_an_error() {
    let verify = || Verify::new(["vision_model.onnx"]).engines([engine::tract()]);
    for batches in [vec![], vec![0], vec![1, usize::MAX]] {
        let error = verify().batches(batches.clone()).run(&|_| {}).unwrap_err().to_string();
        assert!(error.contains("batch sizes"), "{batches:?}: {error}");
    }
    for drop in [0.0, -1.0, 5.0, f64::NAN, f64::INFINITY] {
        let error = verify().max_drop(drop).run(&|_| {}).unwrap_err().to_string();
        assert!(error.contains("loss of cosine"), "{drop}: {error}");
    }
}

#[test]
fn causes_are_said_once() {
    let bench = Bench::new("siglip_tiny");
    std::fs::write(bench.path("wrong.json"), "{").unwrap();
    std::fs::write(bench.path("index.json"), r#"{"weight_map": {"w": "gone.safetensors"}}"#).unwrap();
    let line = "export checkpoint.npz --out other --config";
    bench.run(&format!("{line} gone.json")).refused(&["gone.json cannot be read: No such file"]);
    bench.run(&format!("{line} wrong.json")).refused(&["wrong.json is not a model configuration"]);
    bench.run("inspect gone.npz").refused(&["gone.npz"]);
    bench.run("inspect index.json").refused(&["names shard `gone.safetensors`, which cannot be read: No such file"]);
    bench.run("verify gone.onnx").refused(&["gone.onnx"]);
}

#[test]
fn export_writes_a_folder_and_prints_the_table() {
    let bench = Bench::new("siglip_tiny");
    let outcome = bench.run(&format!("{EXPORT} --reference reference.npz"));
    outcome.succeeded().says(&["siglip_tiny", "vision_model.onnx", "relative", "passed: agrees with reference.npz"]);
    assert!(outcome.err.is_empty(), "silent when not a terminal: {}", outcome.err);
    let out = bench.path("out");
    let mut files: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["manifest.json", "report.html", "report.json", "text_model.onnx", "vision_model.onnx"]);
    let json =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap() };
    assert_eq!(json("report.json")["passed"], true);
    let manifest = json("manifest.json");
    for (at, name) in ["vision_model.onnx", "text_model.onnx"].iter().enumerate() {
        let bytes = std::fs::read(out.join(name)).unwrap();
        let entry = &manifest["files"][at];
        assert_eq!(entry["path"], *name);
        assert_eq!(entry["size"], bytes.len());
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
        assert_eq!(entry["sha256"], clip_onnx::files::hex(&digest));
    }
    assert_eq!(manifest["metadata"]["model"], "siglip_tiny");
    assert_eq!(manifest["options"]["normalize"], true);
    let source = <sha2::Sha256 as sha2::Digest>::digest(std::fs::read(bench.path("checkpoint.npz")).unwrap());
    assert_eq!(manifest["metadata"]["source_sha256"], clip_onnx::files::hex(&source));

    bench.run("verify out --reference reference.npz --batches 1,7").succeeded().says(&["passed"]);
    bench.run("verify out/vision_model.onnx --json").succeeded().says(&["\"compared\": false", "\"not compared\""]);
    bench.run("inspect out/text_model.onnx").succeeded().says(&[
        "input_ids int64 [batch_size, 16]",
        "ai.onnx 17",
        "LayerNormalization 5",
    ]);
    bench
        .run("inspect checkpoint.npz --config config.json --tensors MAPHead")
        .succeeded()
        .says(&["siglip_tiny (from --config)", "img/MAPHead_0/probe"]);
    bench.run("inspect checkpoint.npz --json").succeeded().says(&["\"differences\""]);
}

#[test]
fn existing_output_is_kept_unless_forced_and_never_when_foreign() {
    let bench = Bench::new("siglip_tiny");
    let short = format!("{EXPORT} --no-verify");
    bench.run(&short).succeeded();
    bench.run(&short).refused(&["out exists", "--force"]);
    bench.run(&format!("{short} --force")).succeeded();
    std::fs::create_dir(bench.path("photos")).unwrap();
    std::fs::write(bench.path("photos/a.jpg"), "a photo").unwrap();
    bench
        .run("export checkpoint.npz --config config.json --no-verify --force --out photos")
        .refused(&["no folder of clip-onnx"]);
    assert!(bench.path("photos/a.jpg").exists());
    bench.run("convert checkpoint.npz --config config.json -o a.safetensors").succeeded();
    bench
        .run("convert checkpoint.npz --config config.json -o a.safetensors")
        .refused(&["a.safetensors exists", "--force"]);
    bench.run("convert checkpoint.npz --config config.json -o a.safetensors --force").succeeded();
    assert_eq!(bench.entries(), ["a.safetensors", "checkpoint.npz", "config.json", "out", "photos", "reference.npz"]);
}

#[test]
fn a_failed_verification_leaves_the_folder_and_says_so() {
    let bench = Bench::new("siglip_tiny");
    bench.rewrite(|arrays| get(arrays, "txt/head/bias").values[0] += 0.01);
    let outcome = bench.run(&format!("{EXPORT} --reference reference.npz"));
    assert_eq!(outcome.code, Some(1), "{}{}", outcome.out, outcome.err);
    outcome.says(&["FAILED", "failed: text_model.onnx at batch 1 with tract", ": embedding relative"]);
    let report = std::fs::read_to_string(bench.path("out/report.json")).unwrap();
    assert!(report.contains("\"passed\": false"));
    let outcome = bench.run("verify out --reference reference.npz");
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn files_that_are_no_checkpoint_are_named_for_what_they_are() {
    let bench = Bench::new("siglip_tiny");
    let whole = std::fs::read(bench.path("checkpoint.npz")).unwrap();
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (vec![], &["is empty"]),
        (b"hello, I am text".to_vec(), &["neither .npz nor .pt"]),
        (b"<!DOCTYPE html><html>".to_vec(), &["HTML page"]),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), &["Git LFS pointer"]),
        (whole[..whole.len() / 2].to_vec(), &["not a whole zip archive", "truncated"]),
        (whole[..whole.len() - 10].to_vec(), &["not a whole zip archive"]),
        (whole[..3].to_vec(), &["neither"]),
        (vec![0x80, 2, b'}', b'q'], &["PyTorch"]),
        ([&(u64::MAX.to_le_bytes())[..], b"{}"].concat(), &["safetensors"]),
        ([&(2u64.to_le_bytes())[..], b"{"].concat(), &["safetensors"]),
    ];
    for (bytes, parts) in cases {
        std::fs::write(bench.path("checkpoint.npz"), bytes).unwrap();
        for command in [EXPORT, "inspect checkpoint.npz", "convert checkpoint.npz -o c.safetensors"] {
            bench.run(command).refused(&[&["checkpoint.npz"], parts].concat());
        }
        assert_eq!(bench.entries(), INPUTS);
    }
    bench.run("export nowhere.npz --out out").refused(&["nowhere.npz", "No such file"]);
    bench.run("export . --out out").refused(&["is a directory"]);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    type Change = Box<dyn Fn(&mut Arrays)>;
    let drop = |name: &'static str| -> Change { Box::new(move |a| a.retain(|(n, _)| n != name)) };
    let retype = |name: &'static str, descr: &'static str| -> Change { Box::new(move |a| get(a, name).descr = descr) };
    let set = |name: &'static str, value: f32| -> Change { Box::new(move |a| get(a, name).values[5] = value) };
    let reshape = |name: &'static str, shape: &'static [usize]| -> Change {
        Box::new(move |a| *get(a, name) = Array::new(shape, vec![0.5; shape.iter().product()]))
    };
    let bench = Bench::new("siglip_tiny");
    let cases: Vec<(Change, &[&str])> = vec![
        (
            drop("img/Transformer/encoderblock_1/MlpBlock_0/Dense_0/bias"),
            &[
                "missing parameter `visual.blocks.1.mlp.fc1.bias`",
                "[128]",
                "`img/Transformer/encoderblock_1/MlpBlock_0/Dense_0/bias`",
            ],
        ),
        (drop("txt/Embed_0/embedding"), &["`text.token_embedding.weight`", "[512, 64]"]),
        (drop("t"), &["`logit_scale`"]),
        (
            drop("img/MAPHead_0/MultiHeadDotProductAttention_0/value/bias"),
            &["value/bias` is missing, while", "`visual.attn_pool.kv.bias`"],
        ),
        (Box::new(|a| a.push(("img/cls".to_owned(), Array::new(&[1], vec![0.0])))), &["no row", "img/cls"]),
        (
            Box::new(|a| a.push(("img/head/bias".to_owned(), Array::new(&[64], vec![0.0; 64])))),
            &["not used", "img/head/bias"],
        ),
        (reshape("img/pos_embedding", &[1, 25, 64]), &["[1, 25, 64]", "expected [1, 16, 64]", "`img/pos_embedding`"]),
        (reshape("txt/head/kernel", &[64, 65]), &["`text.head.weight`", "[65, 64]", "expected [64, 64]"]),
        (reshape("txt/head/kernel", &[64]), &["`txt/head/kernel`", "expected (in, out)"]),
        (
            reshape("img/MAPHead_0/MultiHeadDotProductAttention_0/query/kernel", &[64, 2, 32]),
            &["stored with 2 heads", "expected 4"],
        ),
        (retype("t", "<i4"), &["`t` is int32", "expected float64, float32"]),
        (retype("img/embedding/bias", ">f4"), &["`img/embedding/bias`", "big-endian"]),
        (set("txt/head/bias", f32::NAN), &["`txt/head/bias` holds NaN at flat index 5"]),
        (set("txt/Embed_0/embedding", f32::INFINITY), &["`txt/Embed_0/embedding` holds inf", "finite"]),
        (
            set("img/Transformer/encoderblock_0/LayerNorm_0/scale", f32::NEG_INFINITY),
            &["encoderblock_0/LayerNorm_0/scale", "-inf"],
        ),
    ];
    for (change, parts) in cases {
        bench.rewrite(change);
        bench.run(EXPORT).refused(&[&["checkpoint.npz: "], parts].concat());
        bench
            .run("convert checkpoint.npz --config config.json -o c.safetensors")
            .refused(&[&["checkpoint.npz: "], parts].concat());
        assert_eq!(bench.entries(), INPUTS, "nothing half-written");
    }
}

#[test]
fn heads_joined_with_a_different_split_are_refused() {
    let bench = Bench::new("siglip_tiny");
    bench.rewrite(|a| {
        get(a, "img/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/key/kernel").shape = vec![64, 2, 32]
    });
    bench.run(EXPORT).refused(&["encoderblock_0/MultiHeadDotProductAttention_0", "heads"]);
}

#[test]
fn configurations_that_do_not_fit_are_named() {
    let bench = Bench::new("siglip_tiny");
    let cases: &[(&str, serde_json::Value, &[&str])] = &[
        ("/vision_cfg/heads", 5.into(), &["config.json", "vision_cfg.heads is 5", "divisor of width 64"]),
        ("/vision_cfg/layers", 0.into(), &["vision_cfg.layers is 0"]),
        ("/vision_cfg/layers", (-1).into(), &["config.json", "invalid value"]),
        ("/vision_cfg/patch_size", 0.into(), &["vision_cfg.patch_size is 0"]),
        ("/vision_cfg/act", "relu".into(), &["config.json", "relu", "quick_gelu"]),
        ("/vision_cfg/patch_embed", "conv_stem".into(), &["conv_stem"]),
        ("/vision_cfg/norm_eps", 0.into(), &["vision_cfg.norm_eps is 0"]),
        ("/vision_cfg/model_type", "naflexvit".into(), &["vision_cfg: unknown field `image_size`", "`pos_grid`"]),
        ("/vision_cfg/image_size", serde_json::json!([4, 32]), &["4x32", "at least one patch"]),
        ("/text_cfg/proj", "none".into(), &["text_cfg.proj"]),
        ("/text_cfg/eot_id", 512.into(), &["text_cfg.eot_id is 512", "vocab_size 512"]),
        ("/embed_dim", 0.into(), &["embed_dim is 0"]),
        ("/embed_dim", "64".into(), &["config.json", "embed_dim"]),
    ];
    let right = bench.fixture.config_json();
    for (pointer, value, parts) in cases {
        let mut wrong = right.clone();
        *wrong.pointer_mut(pointer).unwrap() = value.clone();
        std::fs::write(bench.path("config.json"), wrong.to_string()).unwrap();
        bench.run(EXPORT).refused(parts);
    }
    for (text, parts) in [("{", "config.json is not a model configuration"), ("{\"model\": 1}", "config.json")] {
        std::fs::write(bench.path("config.json"), text).unwrap();
        bench.run(EXPORT).refused(&[parts]);
    }
    let mut typo = right.clone();
    typo["vision_cfg"]["head"] = 4.into();
    std::fs::write(bench.path("config.json"), typo.to_string()).unwrap();
    bench.run(EXPORT).refused(&["unknown field `head`"]);
    bench.run("export checkpoint.npz --config none.json --out out").refused(&["none.json cannot be read"]);
    bench
        .run("export checkpoint.npz --model ViT-B-16-SigLIP --out out")
        .refused(&["expected", "ViT-B-16-SigLIP was chosen"]);
    bench.run("export checkpoint.npz --model ViT-B-16-SigLIP-99 --out out").refused(&["did you mean"]);
    bench.run("export checkpoint.npz --out out").refused(&[
        "no known model has these shapes",
        "the closest is ViT-",
        "--config",
    ]);
    assert_eq!(bench.entries(), INPUTS);
}

#[test]
fn references_that_do_not_fit_are_named() {
    let bench = Bench::new("siglip_tiny");
    let line = format!("{EXPORT} --reference other.npz");
    bench.run(&line).refused(&["other.npz", "cannot be read"]);
    std::fs::write(bench.path("other.npz"), "not a zip").unwrap();
    bench.run(&line).refused(&["other.npz", "not a whole .npz"]);
    let arrays = |names: &[&str]| {
        let mut arrays = read(&bench.fixture.reference());
        arrays.retain(|(n, _)| names.contains(&n.as_str()));
        arrays
    };
    write(&bench.path("other.npz"), &arrays(&["image_embedding"]), Zip::Stored);
    bench.run(&line).refused(
        &["other.npz has no float or integer array `image`", "it has image_embedding"]
            .map(|s| s.trim_start_matches("other.npz ")),
    );
    std::fs::copy(Fixture::named("siglip_tiny_rect").reference(), bench.path("other.npz")).unwrap();
    bench.run(&line).refused(&["`pixel_values`", "[4, 3, 48, 80]"]);
    let mut names = INPUTS.to_vec();
    names.insert(2, "other.npz");
    assert_eq!(bench.entries(), names, "an export that cannot be verified as asked is not left behind");
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let bench = Bench::new("siglip_tiny");
    bench.run("export checkpoint.npz --config config.json --out checkpoint.npz").refused(&["checkpoint.npz exists"]);
    bench
        .run("export checkpoint.npz --config config.json --out checkpoint.npz --force")
        .refused(&["no folder of clip-onnx"]);
    bench.run("export checkpoint.npz --config config.json --out checkpoint.npz/sub").refused(&["checkpoint.npz"]);
    assert_eq!(bench.entries(), INPUTS);
    if Path::new("/proc/self").exists() {
        bench.run("export checkpoint.npz --config config.json --out /proc/out").refused(&["/proc cannot be written"]);
    }
    bench.run("export checkpoint.npz --config config.json --no-verify --out a/b/out").succeeded();
    assert!(bench.path("a/b/out/manifest.json").exists());
}

#[test]
fn damaged_archives_are_refused_whole() {
    let bench = Bench::new("siglip_tiny");
    // Two members of one name.
    bench.rewrite(|_| {});
    let mut bytes = std::fs::read(bench.path("checkpoint.npz")).unwrap();
    for at in 0..bytes.len() - 5 {
        if &bytes[at..at + 5] == b"t.npy" {
            bytes[at] = b'b';
        }
    }
    std::fs::write(bench.path("checkpoint.npz"), &bytes).unwrap();
    bench.run(EXPORT).refused(&["checkpoint.npz", "members under"]);

    // A deflated member with a flipped byte fails its check when it is read.
    write(&bench.path("checkpoint.npz"), &read(&bench.fixture.checkpoint()), Zip::Deflated);
    let mut bytes = std::fs::read(bench.path("checkpoint.npz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(bench.path("checkpoint.npz"), &bytes).unwrap();
    bench.run(EXPORT).refused(&["checkpoint.npz", "does not inflate"]);
    assert_eq!(bench.entries(), INPUTS);

    // Every truncation is an error, none a panic.
    let whole = std::fs::read(bench.fixture.checkpoint()).unwrap();
    for end in (0..whole.len()).step_by(whole.len() / 23 + 1) {
        std::fs::write(bench.path("checkpoint.npz"), &whole[..end]).unwrap();
        bench.run("inspect checkpoint.npz").refused(&["checkpoint.npz"]);
    }
}

#[test]
fn naflex_sizes_must_be_whole_patches() {
    let bench = Bench::new("siglip2_naflex_tiny");
    bench.run(&format!("{EXPORT} --image-size 30x32")).refused(&[
        "--image-size",
        "30x32",
        "multiples of the patch size 8",
        "24x32",
    ]);
    bench.run(&format!("{EXPORT} --image-size 4")).refused(&["4x4", "at least one patch"]);
    bench.run(&format!("{EXPORT} --image-size 40x16")).succeeded().says(&["not compared: no reference"]);
    bench.run("inspect out/vision_model.onnx").succeeded().says(&["pixel_values float [batch_size, 3, 40, 16]"]);
    let clip = Bench::new("openclip_vit_tiny");
    let outcome = clip.run(&format!("{EXPORT} --no-verify --image-size 43x44"));
    assert!(outcome.succeeded().err.contains("rows and"), "{}", outcome.err);
}

#[test]
fn reference_logits_that_say_nothing_are_no_pass() {
    let bench = Bench::new("siglip_tiny");
    let with = |change: &dyn Fn(&mut Array)| {
        bench.other_reference("other.npz", |arrays| change(get(arrays, "logits_per_image")));
        bench.run(&format!("{EXPORT} --reference other.npz --force"))
    };
    with(&|_| {}).succeeded();
    let outcome = with(&|logits| logits.values.fill(f32::NAN));
    assert_eq!(outcome.code, Some(1), "{}{}", outcome.out, outcome.err);
    outcome.says(&["failed: logits"]);
    with(&|logits| *logits = Array::new(&[4, 5], vec![99.0; 20])).refused(&["`logits_per_image`", "[4, 5]", "[4, 6]"]);
    with(&|logits| *logits = Array::new(&[2, 6], vec![0.0; 12])).refused(&["`logits_per_image`", "[2, 6]"]);
    with(&|logits| logits.descr = "<i4").refused(&["`logits_per_image`", "floats"]);

    // The right logits under a wrong scale.
    bench.other_reference("other.npz", |arrays| {
        get(arrays, "logit_scale_exp").values.iter_mut().for_each(|scale| *scale *= 1.001);
    });
    let outcome = bench.run(&format!("{EXPORT} --reference other.npz --force"));
    assert_eq!(outcome.code, Some(1), "{}", outcome.out);
    outcome.says(&["failed: logits: logit scale"]);
}

#[test]
fn force_replaces_exports_and_nothing_that_was_put_beside_them() {
    let bench = Bench::new("siglip_tiny");
    let short = format!("{EXPORT} --no-verify");
    bench.run(&short).succeeded();
    std::fs::write(bench.path("out/NOTES.md"), "mine").unwrap();
    bench.run(&format!("{short} --force")).refused(&["out holds NOTES.md", "not replaced"]);
    std::fs::remove_file(bench.path("out/NOTES.md")).unwrap();
    // The input itself, moved into the folder that would be replaced.
    std::fs::copy(bench.path("checkpoint.npz"), bench.path("out/checkpoint.npz")).unwrap();
    let inside = "export out/checkpoint.npz --config config.json --no-verify --out out --force";
    bench.run(inside).refused(&["out holds checkpoint.npz"]);
    assert!(bench.path("out/checkpoint.npz").exists());
    bench.run("convert checkpoint.npz --config config.json -o out --force").refused(&["out is a folder"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(bench.path("config.json"), bench.path("link.safetensors")).unwrap();
        let link = "convert checkpoint.npz --config config.json -o link.safetensors --force";
        bench.run(link).refused(&["link.safetensors is no ordinary file"]);
        assert!(bench.path("link.safetensors").is_symlink());
        bench.run("convert checkpoint.npz --config config.json -o a.npz").refused(&["a.npz", ".safetensors"]);
    }
}

#[test]
fn an_empty_folder_is_filled_where_it_stands() {
    let bench = Bench::new("siglip_tiny");
    std::fs::create_dir(bench.path("mounted")).unwrap();
    let mut command = Command::cargo_bin("clip-onnx").unwrap();
    let checkpoint = bench.path("checkpoint.npz");
    let config = bench.path("config.json");
    let arguments: [&std::ffi::OsStr; 7] = [
        "export".as_ref(),
        checkpoint.as_ref(),
        "--config".as_ref(),
        config.as_ref(),
        "--out".as_ref(),
        ".".as_ref(),
        "--no-verify".as_ref(),
    ];
    command.current_dir(bench.path("mounted")).args(arguments).assert().success();
    let mut files: Vec<String> = std::fs::read_dir(bench.path("mounted"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["manifest.json", "text_model.onnx", "vision_model.onnx"]);
}

#[test]
fn damage_that_leaves_a_readable_archive_is_found() {
    let bench = Bench::new("siglip_tiny");
    // One bit of a stored weight.
    let mut bytes = std::fs::read(bench.path("checkpoint.npz")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(bench.path("checkpoint.npz"), &bytes).unwrap();
    bench.run(EXPORT).refused(&["checkpoint.npz: member `", "does not match its checksum"]);

    bench.rewrite(|a| get(a, "b").trailing = 1 << 20);
    bench.run(EXPORT).refused(&["tensor `b`", "where its shape [1] takes 4"]);

    let stacked = |a: &mut Arrays| *a = npz::stacked(std::mem::take(a), "img/Transformer/");
    bench.rewrite(|a| {
        stacked(a);
        let key = get(a, "img/Transformer/encoderblock/MultiHeadDotProductAttention_0/key/kernel");
        key.shape[0] = 3;
        let layer = key.values[..key.values.len() / 2].to_vec();
        key.values.extend(layer);
    });
    bench.run(EXPORT).refused(&["key/kernel` stacks 3 layers", "with 2"]);

    bench.rewrite(|a| {
        *a = npz::renamed(std::mem::take(a), |n| format!("opt/target/{n}"));
        a.push(("opt/target/img/Transformer/encoderblock_0/adapter".to_owned(), Array::new(&[1], vec![0.0])));
    });
    bench.run(EXPORT).refused(&["no row", "encoderblock_0/adapter"]);

    bench.rewrite(|a| get(a, "t").values[0] = 1000.0);
    bench.run(EXPORT).refused(&["`logit_scale` is 1000", "not finite"]);
    assert_eq!(bench.entries(), INPUTS);
}

#[test]
fn a_safetensors_header_of_any_length_is_one() {
    let bench = Bench::new("siglip_tiny");
    // A header of 0x13c bytes: its length begins with `<`.
    let mut header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
    header.resize(0x13c, b' ');
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &[0; 4]].concat();
    std::fs::write(bench.path("checkpoint.npz"), file).unwrap();
    bench.run("inspect checkpoint.npz").succeeded().says(&["safetensors"]);
}

#[test]
fn joined_tensors_of_two_precisions_lose_nothing_when_converted() {
    let bench = Bench::new("siglip_tiny");
    let query = "img/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel";
    bench.rewrite(|a| {
        get(a, query).descr = "<f2";
        get(a, "img/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/key/kernel").values[0] = 1e5;
    });
    bench.run("convert checkpoint.npz --config config.json -o c.safetensors").succeeded();
    bench.run("inspect c.safetensors --tensors blocks.0.attn.qkv").succeeded().says(&["float32   [192, 64]"]);
    bench.run("export c.safetensors --out out --no-verify").succeeded();
}

#[test]
fn the_manual_the_models_and_the_completions_are_there() {
    let bench = Bench::new("siglip_tiny");
    bench.run("--help").succeeded().says(&["Examples:", "Exit codes", "export", "inspect"]);
    for command in ["export", "verify", "convert", "inspect"] {
        bench.run(&format!("{command} --help")).succeeded().says(&["Examples"]);
    }
    bench.run("models").succeeded().says(&["ViT-B-16-SigLIP ", "ViT-SO400M-16-SigLIP2-NaFlex", "any"]);
    let listed = bench.run("models --json");
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed.succeeded().out).unwrap();
    let files = std::fs::read_dir(root().join("models")).unwrap().count();
    assert_eq!(listed.len(), files);
    bench.run("completions bash").succeeded().says(&["complete -F", " clip-onnx"]);
    bench.run("man").succeeded().says(&[
        ".TH clip-onnx 1",
        ".SH EXAMPLES",
        r"clip\-onnx\-export(1)",
        r#".SH "EXIT CODES""#,
    ]);
    bench.run("man export").succeeded().says(&[".TH clip-onnx-export 1", r#".SH "INPUTS AND OUTPUTS""#]);
    bench.run("man nothing").refused(&["no command `nothing`"]);
    bench.run("man --out checkpoint.npz").refused(&["checkpoint.npz"]);
    assert_eq!(bench.run("export").code, Some(2));
    assert_eq!(bench.run("export checkpoint.npz --out out --image-size big").code, Some(2));
}

/// Wheels carry what is committed: it must be what this program would write.
#[cfg(unix)]
#[test]
fn packaged_pages_and_completions_are_those_of_this_program() {
    let fresh = tempfile::tempdir().unwrap();
    let made = std::process::Command::new(root().join("scripts/make_packaging.sh"))
        .arg(assert_cmd::cargo::cargo_bin("clip-onnx"))
        .arg(fresh.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (kept, fresh) = (files_of(&root().join("packaging/data")), files_of(fresh.path()));
    let stale = kept.keys().chain(fresh.keys()).filter(|name| kept.get(*name) != fresh.get(*name));
    let stale: std::collections::BTreeSet<_> = stale.collect();
    assert!(stale.is_empty(), "packaging/data is not of this program; run scripts/make_packaging.sh: {stale:?}");
    assert!(kept.keys().any(|name| name.ends_with("man1/clip-onnx-export.1")), "{:?}", kept.keys());
}

/// Names, from `folder` on, and contents of everything below it.
fn files_of(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let contents = std::fs::read(&path).unwrap();
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), contents);
            }
        }
    }
    files
}

/// Which nodes a provider would not take, of our files and with what to do about it.
#[test]
fn providers_are_told_apart() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    let outcome = bench.run("inspect out/vision_model.onnx --provider coreml,webnn");
    outcome.succeeded().says(&[
        "CoreML takes ",
        "of ",
        "an export with a fixed batch has none",
        "ReduceL2",
        "WebNN takes 0",
    ]);
    let outcome = bench.run("inspect out/text_model.onnx --provider qnn --json");
    let json: serde_json::Value = serde_json::from_str(&outcome.succeeded().out).unwrap();
    let qnn = &json["providers"][0];
    assert!(qnn["provider"] == "QNN" && qnn["refused"].as_array().unwrap().len() > 1, "{qnn}");
    bench.run("inspect checkpoint.npz --config config.json --provider qnn").refused(&["checkpoint", "--provider"]);
    assert_eq!(bench.run("inspect out/text_model.onnx --provider tpu").code, Some(2));

    let line = format!("{EXPORT} --force --target coreml --engine tract");
    bench.run(&line).succeeded().says(&["vision_model.onnx: CoreML takes all", "text_model.onnx: CoreML takes all"]);
    bench.run(&format!("{line} --max-drop 0.01 --precision int8")).refused(&["--target coreml", "--max-drop"]);
    bench.run(&format!("{line} --dynamic-text")).refused(&["--target coreml", "--dynamic-text"]);
    bench.run(&format!("{line} --resize")).refused(&["--target", "--resize"]);
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bench.path("out/report.json")).unwrap()).unwrap();
    assert_eq!(json["providers"]["vision_model.onnx"][0]["provider"], "CoreML");
    let naflex = Bench::new("siglip2_naflex_tiny");
    naflex.run(&line).refused(&["--image-size", "--target"]);
}

/// Settings files, profiles and old names of flags are other ways to type the same.
#[test]
fn the_same_can_be_said_in_other_ways() {
    let bench = Bench::new("siglip_tiny");
    let sums = |folder: &str| {
        let manifest: serde_json::Value =
            serde_json::from_slice(&std::fs::read(bench.path(&format!("{folder}/manifest.json"))).unwrap()).unwrap();
        let files = manifest["files"].as_array().unwrap().iter();
        files.map(|file| file["sha256"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let line = "export checkpoint.npz --config config.json --no-verify";
    bench.run(&format!("{line} --target onnxruntime --precision fp32,int8 --exclude attn --out typed")).succeeded();
    let profile = bench.run(&format!("{line} --profile server --keep attn --out profile"));
    assert!(profile.succeeded().err.contains("--profile server: --target onnxruntime --precision fp32,int8"));
    assert!(profile.err.contains("--keep is now --exclude"), "{}", profile.err);
    assert_eq!(sums("profile"), sums("typed"));
    let settings =
        "[export]\ntarget = \"onnxruntime\"\nprecision = [\"fp32\", \"int8\"]\nexclude = \"attn\"\nno-verify = true\n";
    std::fs::write(bench.path("clip-onnx.toml"), settings).unwrap();
    let file = bench.run("export checkpoint.npz --config config.json --out file");
    assert!(file.succeeded().err.contains("clip-onnx.toml: "), "{}", file.err);
    assert_eq!(sums("file"), sums("typed"));
    bench
        .run("export checkpoint.npz --config config.json --no-settings --out plain")
        .succeeded()
        .says(&["wrote plain: 2 model files", "next: clip-onnx classify plain"]);
    std::fs::write(bench.path("clip-onnx.toml"), "[export]\nprecison = \"int8\"\n").unwrap();
    bench.run(line).refused(&["clip-onnx.toml", "`precison`", "did you mean `precision`"]);
    std::fs::write(bench.path("clip-onnx.toml"), "[bench]\nort-lib = \"lib.so\"\n").unwrap();
    bench.run(line).refused(&["clip-onnx.toml", "`ort-lib` loads native code", "--settings"]);
    bench.run("models --settings gone.toml").refused(&["gone.toml", "cannot be read"]);
}

/// Nothing that people read in a terminal is wider than 80 columns, paths and prose aside.
#[test]
fn tables_fit_a_terminal() {
    let bench = Bench::new("siglip_tiny");
    let outcome = bench.run(&format!("{EXPORT} --reference reference.npz --engine tract"));
    let tables = [
        outcome.succeeded().out.clone(),
        bench.run("models").succeeded().out.clone(),
        bench.run("bench out --engine tract --rounds 1").succeeded().out.clone(),
    ];
    // A rule and the file it is from is prose; a command is as long as it is.
    let is_prose = |line: &&str| line.starts_with("note") || line.starts_with("next") || line.contains(".json)");
    for line in tables.iter().flat_map(|table| table.lines()).filter(|line| !is_prose(line)) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
