//! Hostile files given to the program itself: each ends in bounded time and memory, with exit code 0 to 2 and one sentence.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::CommandCargoExt;

use crate::common::bench::{Bench, EXPORT};
use crate::common::root;

/// Kilobytes of address space: the program itself, its libraries' and threads' stacks, and 512 MB.
const SPACE: u64 = 1_200_000;

/// Runs the program with limits on CPU time and address space.
fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let program = Command::cargo_bin("clip-onnx").unwrap().get_program().to_owned();
    let mut command = Command::new("sh");
    let limits = format!("ulimit -t 20; ulimit -c 0; ulimit -v {SPACE}; exec \"$0\" \"$@\"");
    command.args(["-c", &limits]).arg(program).args(arguments);
    command.current_dir(bench.folder.path()).env_remove("RUST_BACKTRACE").output().unwrap()
}

/// What the program says of a hostile file: one sentence, besides notes.
fn sentence(output: &Output, what: &str) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{what}: {:?}: {error}", output.status);
    let is_said = |line: &&str| !line.starts_with("note: run with `RUST_BACKTRACE") && !line.is_empty();
    let lines: Vec<&str> = error.lines().filter(is_said).collect();
    assert!(lines.len() <= 2 && lines.iter().all(|line| line.len() < 1000), "{what}: {error}");
    lines.join("\n")
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/fuzz").join(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn pickled(program: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    out.start_file("a/data.pkl", options).unwrap();
    out.write_all(program).unwrap();
    out.finish().unwrap().into_inner()
}

/// Programs of a few hundred kilobytes that would make gigabytes, or take minutes.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    use zip::CompressionMethod::{Deflated, Stored};
    let repeated = |start: &[u8], again: &[u8], times: usize| {
        let mut out = [&b"\x80\x02"[..], start].concat();
        (0..times).for_each(|_| out.extend(again));
        out.push(b'.');
        out
    };
    let text = |length: usize| [&b"X"[..], &(length as u32).to_le_bytes(), &vec![b'a'; length]].concat();
    let storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n";
    let long_key = [&storage[..], &text(200_000), b"X\x03\x00\x00\x00cpuK\x01tq\x00"].concat();
    let state = [&b"}("[..], &b"K\x01K\x02".repeat(50_000), b"uq\x00"].concat();
    let arguments = [&b"("[..], &b"N".repeat(400_000), b"tq\x00"].concat();
    // A dictionary whose long key leads to itself, and to a tensor.
    let shared = [&b"}q\x00"[..], &text(100_000), b"q\x010"].concat();
    vec![
        ("a long program, deflated", pickled(&repeated(b"", b"N", 300_000_000), Deflated)),
        ("a program of empty lists, deflated", pickled(&repeated(b"", b"]", 60_000_000), Deflated)),
        ("states copied", pickled(&repeated(&state, b"c__torch__\nM\n)\x81h\x00b", 30_000), Stored)),
        ("storages' keys", pickled(&repeated(&long_key, b"h\x00Q", 60_000), Stored)),
        ("arguments copied", pickled(&repeated(&arguments, b"cx\nf\nh\x00R0", 200_000), Stored)),
        ("names of shared parts", pickled(&repeated(&shared, b"h\x00h\x01h\x00s", 50_000), Stored)),
    ]
}

#[test]
fn pickles_are_bounded() {
    let bench = Bench::new("siglip_tiny");
    for (what, bytes) in bombs() {
        std::fs::write(bench.path("bomb.pt"), bytes).unwrap();
        let said = sentence(&run(&bench, &["inspect", "bomb.pt"]), what);
        assert!(said.contains("bomb.pt"), "{what}: {said}");
    }
}

#[test]
fn onnx_files_are_bounded() {
    let bench = Bench::new("siglip_tiny");
    for file in corpus("verify").into_iter().chain(corpus("onnx")) {
        let shown = file.display().to_string();
        for arguments in [&["inspect", &shown][..], &["verify", &shown, "--engine", "tract"]] {
            sentence(&run(&bench, arguments), &format!("{arguments:?}"));
        }
    }
}

#[test]
fn photographs_are_bounded_and_the_others_are_embedded() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    let good = root().join("tests/pixels/wide.png").display().to_string();
    for file in corpus("image") {
        let shown = file.display().to_string();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let output =
            run(&bench, &["embed", "out", "--image", &shown, &good, "--engine", "tract", "-o", "e.npy", "--force"]);
        let said = sentence(&output, &name);
        let is_hostile = !name.starts_with("seed-");
        assert_eq!(output.status.code(), Some(i32::from(is_hostile)), "{name}: {said}");
        let rows: ndarray::Array2<f32> = ndarray_npy::read_npy(bench.path("e.npy")).unwrap();
        assert_eq!(rows.nrows(), if is_hostile { 1 } else { 2 }, "{name}");
    }
}

#[test]
fn tokenizers_are_bounded() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    for file in corpus("tokenizer") {
        let (shown, long) = (file.display().to_string(), "a".repeat(5000));
        let arguments =
            ["embed", "out", "--text", "A photo, 3 dogs", "", &long, "--tokenizer", &shown, "--engine", "tract"];
        sentence(&run(&bench, &arguments), &shown);
    }
}

#[test]
fn configurations_are_bounded() {
    let bench = Bench::new("siglip_tiny");
    let folder = bench.path("model");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(root().join("tests/transformers/clip_eos/model.safetensors"), folder.join("model.safetensors"))
        .unwrap();
    for file in corpus("transformers") {
        std::fs::copy(&file, folder.join("config.json")).unwrap();
        sentence(&run(&bench, &["inspect", "model"]), &file.display().to_string());
    }
    for file in corpus("config") {
        let shown = file.display().to_string();
        let arguments = ["export", "checkpoint.npz", "--config", &shown, "--out", "o", "--no-verify", "--force"];
        sentence(&run(&bench, &arguments), &shown);
    }
}

#[test]
fn what_terminals_would_follow_is_spelled_out() {
    let bench = Bench::new("siglip_tiny");
    let fuzz = root().join("tests/fuzz");
    for (file, spelled) in [
        ("npz/names_ctrl.npz", "\\u{1b}[31m"),
        ("npz/names_ctrl.npz", "b\\u{202e}"),
        ("safetensors/meta_esc.safetensors", "visual.proj\\u{1b}[31m"),
    ] {
        let output = run(&bench, &["inspect", &fuzz.join(file).display().to_string(), "--tensors"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(spelled), "{file}: {text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{file}: {text}");
    }
    let output = run(&bench, &["inspect", &fuzz.join("onnx/esc.onnx").display().to_string(), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json.to_string().contains("\\u001b[31m") && !output.stdout.contains(&0x1b));
}

#[test]
fn memory_has_a_limit_that_can_be_named() {
    let bench = Bench::new("siglip_tiny");
    bench.run(&format!("{EXPORT} --no-verify --max-memory 2G")).succeeded();
    bench.run("inspect out/vision_model.onnx --max-memory lots").refused_usage("expected a number of bytes above 0");
    if cfg!(target_os = "linux") {
        let output = run(&bench, &["verify", "out", "--engine", "tract", "--max-memory", "1M"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(sentence(&output, "1M").contains("memory allocation of"));
    }
}

/// External data that is a pipe, or outside the model's folder.
#[cfg(unix)]
#[test]
fn external_data_is_looked_at_first() {
    let bench = Bench::new("siglip_tiny");
    let copy = |name: &str| std::fs::copy(root().join("tests/fuzz/onnx").join(name), bench.path(name)).unwrap();
    copy("ext_fifo.onnx");
    copy("ext_passwd.onnx");
    assert!(Command::new("mkfifo").arg(bench.path("fifo.bin")).status().unwrap().success());
    let refused = |line: &[&str], said: &str| {
        let found = sentence(&run(&bench, line), said);
        assert!(found.contains(said), "{line:?}: {found}");
    };
    refused(&["verify", "ext_fifo.onnx"], "is no ordinary file");
    refused(&["bench", "ext_fifo.onnx"], "is no ordinary file");
    refused(&["verify", "ext_passwd.onnx"], "which is not in the model's folder");
    let output = run(&bench, &["inspect", "ext_passwd.onnx"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("passwd (not in the model's folder, and not read)"), "{text}");
    // A manifest that names a tower elsewhere.
    bench.run(&format!("{EXPORT} --no-verify")).succeeded();
    let manifest = std::fs::read_to_string(bench.path("out/manifest.json")).unwrap();
    let elsewhere = manifest.replace("\"vision_model.onnx\"", "\"../vision_model.onnx\"");
    std::fs::write(bench.path("out/manifest.json"), elsewhere).unwrap();
    let photo = root().join("tests/pixels/wide.png").display().to_string();
    refused(&["embed", "out", "--image", &photo], "lists `../vision_model.onnx`, which is not in the folder");
}

/// Two members of one name, in the zip64 form.
#[test]
fn archives_are_counted() {
    let bench = Bench::new("siglip_tiny");
    let twice = Path::new("tests/fuzz/npz/dup_zip64.npz");
    let said = sentence(&run(&bench, &["inspect", &root().join(twice).display().to_string()]), "zip64");
    assert!(said.contains("lists 2 members under 1 names"), "{said}");
}
