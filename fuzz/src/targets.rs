//! One function for each reader of bytes from outside: whatever they are, it neither panics nor hangs, and takes little
//! memory. Errors are what most inputs come to, and are dropped.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clip_onnx::checkpoint::Checkpoint;
use clip_onnx::config::{Clean, Dialect, ModelConfig};
use clip_onnx::embed::store::Store;
use clip_onnx::embed::{Embedder, Options};
use clip_onnx::engine;
use clip_onnx::onnx::read::summary;
use clip_onnx::pipeline::{Export, Inspected, Silent, Source, export, inspect};
use clip_onnx::pixels::{Picture, Pixels};
use clip_onnx::providers::{self, Provider};
use clip_onnx::tokenize::Tokenizer;
use clip_onnx::verify::{Reference, Verify};

/// Names of all targets.
pub const ALL: [&str; 18] = [
    "npz",
    "torch",
    "legacy",
    "script",
    "safetensors",
    "index",
    "reference",
    "config",
    "transformers",
    "processor",
    "open_clip",
    "onnx",
    "verify",
    "manifest",
    "partial",
    "tokenizer",
    "sentence",
    "image",
];

/// Runs one target on one input.
///
/// # Panics
/// When there is no such target, or the library panics.
pub fn run(target: &str, data: &[u8]) {
    match target {
        "npz" | "torch" | "legacy" | "script" | "safetensors" => checkpoint(data),
        "index" => index(data),
        "reference" => drop(Reference::read(&file("reference.npz", data))),
        "config" => config(data),
        "transformers" => beside("config.json", data),
        "processor" => beside("preprocessor_config.json", data),
        "open_clip" => beside("open_clip_config.json", data),
        "onnx" => onnx(data),
        "verify" => verify(data),
        "manifest" => manifest(data),
        "partial" => partial(data),
        "tokenizer" => tokenizer(data),
        "sentence" => sentence(data),
        "image" => image(data),
        other => panic!("there is no target {other}"),
    }
}

/// The root of the repository.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        if here.join("tests/fixtures").exists() { here.to_owned() } else { here.join("..") }
    })
}

/// A folder for this thread, in memory where there is such a file system.
fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let make = || {
            let memory = Path::new("/dev/shm");
            let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
            let path = above.join(format!("clip-onnx-fuzz-{}-{thread}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        folder.get_or_insert_with(make).clone()
    })
}

fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, data).unwrap();
    // A file that was just written is waited for, so that a change right behind it is seen.
    let written = std::fs::File::options().write(true).open(&path);
    written.and_then(|file| file.set_modified(std::time::UNIX_EPOCH)).unwrap();
    path
}

/// A checkpoint: its directory, and its small tensors.
fn checkpoint(data: &[u8]) {
    read(&file("checkpoint", data));
}

fn read(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    for (_, tensor) in checkpoint.tensors() {
        if tensor.len() < 1 << 16 {
            let _ = tensor.to_f32();
        }
    }
    let _ = checkpoint.whole().sha256(|| true);
}

/// An index beside two shards.
fn index(data: &[u8]) {
    let shard = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let shard = [&(shard.len() as u64).to_le_bytes()[..], shard, &[0; 4]].concat();
    file("one.safetensors", &shard);
    read(&file("model.safetensors.index.json", data));
}

/// A configuration of ours: read, in each dialect, written again, and a checkpoint exported with it.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = ModelConfig::parse("it", text) else { return };
    for dialect in Dialect::ALL {
        let _ = config.in_dialect(dialect);
    }
    let json = config.to_json().to_string();
    assert_eq!(ModelConfig::parse("it", &json).map(|again| again.to_json().to_string()).ok(), Some(json));
    let path = file("config.json", data);
    let out = folder().join("out");
    let mut request = Export::new(root().join("tests/fixtures/siglip_tiny/checkpoint.npz"), &out).unverified();
    request.source.model = clip_onnx::ModelChoice::File(path);
    request.output.hash = false;
    let _ = export(&request, &Silent);
    let _ = std::fs::remove_dir_all(out);
}

/// A file beside a checkpoint in transformers' or open_clip's form.
fn beside(name: &str, data: &[u8]) {
    let place = folder().join(format!("beside-{name}"));
    if !place.exists() {
        std::fs::create_dir_all(&place).unwrap();
        let (from, to) = match name {
            "open_clip_config.json" => {
                ("fixtures/openclip_vit_tiny_quickgelu/checkpoint.safetensors", "open_clip_model.safetensors")
            }
            _ => ("transformers/clip_eos/model.safetensors", "model.safetensors"),
        };
        std::fs::copy(root().join("tests").join(from), place.join(to)).unwrap();
        if name == "preprocessor_config.json" {
            std::fs::copy(root().join("tests/transformers/clip_eos/config.json"), place.join("config.json")).unwrap();
        }
    }
    std::fs::write(place.join(name), data).unwrap();
    if let Ok(Inspected::Checkpoint(report)) = inspect(&Source::new(&place)) {
        let _ = serde_json::to_string(&report);
    }
}

/// An ONNX file as `inspect` reads it.
fn onnx(data: &[u8]) {
    let path = file("model.onnx", data);
    if let Ok(summary) = summary(&path) {
        let _ = engine::Signature::of(&summary);
    }
    let _ = providers::check(&path, &Provider::ALL);
}

/// An ONNX file as `verify` runs it.
fn verify(data: &[u8]) {
    let path = file("vision_model.onnx", data);
    let _ = Verify::new([path]).engines([engine::tract()]).batches([1, 2]).run(&|_| ());
}

/// A folder's manifest.
fn manifest(data: &[u8]) {
    file("manifest.json", data);
    if let Ok(embedder) = Embedder::open(folder(), Options::new(engine::tract())) {
        let _ = embedder.made_with();
        let _ = embedder.probabilities(&[1.0, 0.0], &[vec![0.5, 0.5]]);
    }
}

/// What an interrupted run left.
fn partial(data: &[u8]) {
    file("rows.json.partial", data);
    let target = folder().join("rows.json");
    if let Ok(store) = Store::open(&target, "x", 2, true, true) {
        let _ = store.found(clip_onnx::Modality::Text, "a");
    }
}

fn model(name: &str) -> ModelConfig {
    ModelConfig::named(name).unwrap().clone()
}

/// A tokenizer.json, and sentences with it.
fn tokenizer(data: &[u8]) {
    static CONFIG: OnceLock<ModelConfig> = OnceLock::new();
    let config = CONFIG.get_or_init(|| model("ViT-B-16-SigLIP"));
    let path = file("tokenizer.json", data);
    let Ok(tokenizer) = Tokenizer::new(config, Some(&path)) else { return };
    for sentence in ["A photo of a (cat), 3 dogs", "", "é 猫 \u{1f600} \u{0301}", &"a".repeat(300)] {
        let _ = tokenizer.row(sentence);
    }
}

/// A sentence, cleaned in all ways, and as CLIP's tokens.
fn sentence(data: &[u8]) {
    static CLIP: OnceLock<Tokenizer> = OnceLock::new();
    let text = String::from_utf8_lossy(data);
    for clean in [Clean::None, Clean::Lower, Clean::Mended, Clean::Spaced, Clean::Canonical, Clean::Unpunctuated] {
        let _ = clean.apply(&text);
    }
    let tokenizer = CLIP.get_or_init(|| Tokenizer::new(&model("ViT-B-32"), None).unwrap());
    let row = tokenizer.row(&text).unwrap();
    assert_eq!(row.len(), tokenizer.context_length());
}

/// An image, as pixels of three models.
fn image(data: &[u8]) {
    let path = file("image", data);
    for orient in [false, true] {
        let Ok(picture) = Picture::open(&path, orient) else { continue };
        if picture.height * picture.width > 1 << 20 {
            continue;
        }
        for name in ["ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP-S0"] {
            let _ = Pixels::new(&model(name)).of(&picture, &path);
        }
    }
}
