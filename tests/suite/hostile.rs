//! Damaged and hostile `.npz` and `.safetensors` files: each is one clear error, no panic, and
//! memory stays bounded. `torch.rs` does the same for PyTorch's containers.

use std::io::Write;
use std::path::{Path, PathBuf};

use clip_onnx::checkpoint::Checkpoint;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::root;

fn stored(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    zipped(members, CompressionMethod::Stored)
}

fn zipped(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An array with this header and so many bytes behind it.
fn npy(header: &str, bytes: usize) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16 + 1).to_le_bytes());
    out.extend(header.as_bytes());
    out.push(b'\n');
    out.resize(out.len() + bytes, 0);
    out
}

fn array(descr: &str, shape: &str, bytes: usize) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), bytes)
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

/// One member whose local and central headers say other things than its bytes: `field` is an offset
/// into the central directory's record.
fn patched(mut file: Vec<u8>, field: usize, bytes: &[u8]) -> Vec<u8> {
    let at = file.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap() + field;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// Names, bytes, and what the message has to say.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let one = |bytes: Vec<u8>| stored(&[("w.npy", bytes)]);
    let good = || one(array("<f4", "(2, 2)", 16));
    let st = |shape: &str, offsets: &str, dtype: &str, data: usize| {
        safetensors(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), data)
    };
    let mut twice = stored(&[("a.npy", array("<f4", "(1,)", 4)), ("b.npy", array("<f4", "(1,)", 4))]);
    for at in (0..twice.len() - 5).rev() {
        if &twice[at..at + 5] == b"b.npy" {
            twice[at] = b'a';
        }
    }
    let deflated = |bytes: Vec<u8>| zipped(&[("w.npy", bytes)], CompressionMethod::Deflated);
    let bomb = patched(deflated(array("<f4", "(1048576,)", 1 << 22)), 24, &u32::MAX.to_le_bytes()[..4]);
    let nested = format!("{{\"w\": {}", "[".repeat(200_000));
    vec![
        (
            "npz, an oversize shape",
            one(array("<f4", "(1000000, 1000000, 1000000)", 16)),
            "`w` has 1000000000000000000 elements",
        ),
        ("npz, a shape beyond 64 bits", one(array("<f4", "(99999999999999999999,)", 16)), "`w`"),
        ("npz, a negative shape", one(array("<f4", "(-1,)", 4)), "`w`"),
        ("npz, a shape of many axes", one(array("<f4", &format!("({})", "1, ".repeat(3000)), 4)), "`w`"),
        ("npz, fewer bytes than its shape", one(array("<f4", "(4, 4)", 60)), "`w` has 16 elements of float32"),
        ("npz, more bytes than its shape", one(array("<f4", "(2,)", 60)), "has 60 bytes where its shape"),
        ("npz, nothing at all under a huge axis", one(array("<f4", "(0, 18446744073709551615)", 0)), "`w`"),
        ("npz, a dtype of objects", one(array("|O", "(1,)", 8)), "`w`"),
        ("npz, structured", one(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4)), "`w`"),
        ("npz, complex numbers", one(array("<c8", "(1,)", 8)), "`w`"),
        ("npz, big-endian", one(array(">f4", "(1,)", 4)), "big-endian"),
        ("npz, no magic", one(b"NUMPY of old".to_vec()), "`w`"),
        ("npz, an unknown version", one(b"\x93NUMPY\x09\x00\x10\x00".to_vec()), "`w`"),
        ("npz, a header longer than the file", one(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec()), "`w`"),
        ("npz, a header that is no dictionary", one(npy("import os", 4)), "`w`"),
        ("npz, a header without a shape", one(npy("{'descr': '<f4', 'fortran_order': False}", 4)), "`w`"),
        ("npz, a header nested without end", one(npy(&format!("{{'shape': {}", "(".repeat(60_000)), 4)), "`w`"),
        ("npz, a member that is no array", stored(&[("readme.txt", b"hello".to_vec())]), "is not a .npy array"),
        ("npz, two members of one name", twice, "expected each name once"),
        ("npz, no members", stored(&[]), "no key map"),
        ("npz, a deflated bomb", bomb, "deflate cannot"),
        ("npz, an unknown compression", patched(good(), 10, &[12, 0]), ""),
        ("npz, a member beyond the end", patched(good(), 42, &[0xff, 0xff, 0xff, 0x7f]), ""),
        (
            "npz, a member longer than the file",
            patched(patched(good(), 20, &[0xff, 0xff, 0xff, 0x7f]), 24, &[0xff, 0xff, 0xff, 0x7f]),
            "",
        ),
        ("npz, encrypted", patched(good(), 8, &[1, 0]), ""),
        ("npz, cut in its directory", good()[..good().len() - 9].to_vec(), "not a whole zip archive"),
        ("npz, cut in its data", good()[..40].to_vec(), "not a whole zip archive"),
        ("safetensors, a header length of 2^63", [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat(), "safetensors"),
        ("safetensors, a header longer than the file", [&900u64.to_le_bytes()[..], b"{}"].concat(), "safetensors"),
        ("safetensors, a header that is no JSON", safetensors("{\"w\":", 0), "safetensors"),
        ("safetensors, a header nested without end", safetensors(&nested, 0), "safetensors"),
        ("safetensors, an oversize shape", st("[1000000000,1000000000,1000000000]", "[0,4]", "F32", 4), "safetensors"),
        ("safetensors, a negative shape", st("[-1]", "[0,4]", "F32", 4), "safetensors"),
        ("safetensors, offsets past the end", st("[2]", "[0,8]", "F32", 4), "safetensors"),
        ("safetensors, offsets backwards", st("[1]", "[4,0]", "F32", 4), "safetensors"),
        ("safetensors, a shape that is not its bytes", st("[3]", "[0,8]", "F32", 8), "safetensors"),
        ("safetensors, a hole in the data", st("[1]", "[4,8]", "F32", 8), "safetensors"),
        (
            "safetensors, overlapping tensors",
            safetensors(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
            "safetensors",
        ),
        ("safetensors, an unknown dtype", st("[1]", "[0,4]", "F33", 4), "safetensors"),
        ("safetensors, an eight-bit float", st("[4]", "[0,4]", "F8_E4M3", 4), "`w`: has dtype F8_E4M3"),
        ("safetensors, trailing bytes", st("[1]", "[0,4]", "F32", 400), "safetensors"),
        ("safetensors, cut in its data", st("[100]", "[0,400]", "F32", 399), "safetensors"),
        (
            "safetensors, two tensors of one name",
            safetensors(
                r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
            ),
            "safetensors",
        ),
    ]
}

/// The whole program on each file, in at most this much address space: one line, exit code 2. What
/// runs first is an ordinary file, which shows that the space is enough to work in.
#[test]
#[cfg(target_os = "linux")]
fn every_file_is_one_line_in_bounded_memory() {
    const KIB: usize = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile");
    let run = |path: &Path, command: &str| {
        let line = format!("ulimit -v {KIB}; exec \"$0\" {command}");
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_clip-onnx"));
        std::process::Command::new("sh").arg("-c").arg(line).arg(binary).arg(path).output().unwrap()
    };
    let fixture = root().join("tests/fixtures/siglip_tiny/checkpoint.npz");
    let good = run(&fixture, "inspect \"$1\"");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));

    let cases = cases();
    assert!(cases.len() >= 40);
    for (name, bytes, said) in cases {
        std::fs::write(&path, bytes).unwrap();
        for command in ["export \"$1\" --out out", "convert \"$1\" --out out.safetensors"] {
            let output = run(&path, command);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{name}: {error}");
            assert!(error.starts_with("clip-onnx: ") && error.contains("hostile"), "{name}: {error}");
            assert!(error.contains(said), "{name}: no `{said}` in: {error}");
        }
    }
}

/// What is no ordinary file is refused before it is opened, and a reference is held to its own size:
/// in bounded memory and time, nothing left behind.
#[test]
#[cfg(target_os = "linux")]
fn pipes_devices_and_hostile_references_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    std::fs::write(
        at("huge.npz"),
        zipped(&[("image.npy", array("<f4", "(1000000000000, 1000)", 4))], CompressionMethod::Deflated),
    )
    .unwrap();
    let (fixture, binary) = (root().join("tests/fixtures/siglip_tiny"), env!("CARGO_BIN_EXE_clip-onnx"));
    let checkpoint = format!("{0}/checkpoint.npz --config {0}/config.json --out out", fixture.display());
    for (line, said) in [
        ("export pipe --out out".to_owned(), "pipe: cannot be read: is no ordinary file"),
        ("convert pipe --out out.safetensors".to_owned(), "no ordinary file"),
        ("inspect pipe".to_owned(), "no ordinary file"),
        ("verify pipe".to_owned(), "no ordinary file"),
        ("export /dev/zero --out out".to_owned(), "no ordinary file"),
        (format!("export {checkpoint} --reference pipe"), "no ordinary file"),
        (format!("export {checkpoint} --reference /dev/zero"), "no ordinary file"),
        (format!("export {checkpoint} --reference huge.npz"), "`image` has 1000000000000000 elements"),
    ] {
        let limited = format!("ulimit -v 262144; exec timeout 20 {binary} {line}");
        let output =
            std::process::Command::new("sh").arg("-c").arg(limited).current_dir(folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{line}: {error}");
        assert!(error.contains(said), "{line}: {error}");
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "nothing half-written");
}

#[test]
fn no_truncation_and_no_changed_byte_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed");
    let two = stored(&[("a.npy", array("<f4", "(3, 2)", 24)), ("b.npy", array("<f2", "(5,)", 10))]);
    let deflated = zipped(&[("a.npy", array("<f4", "(3, 2)", 24))], CompressionMethod::Deflated);
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for whole in [two, deflated, safetensors(header, 8)] {
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(Checkpoint::open(&path).is_err(), "cut at {end} of {}", whole.len());
        }
        for at in 0..whole.len() {
            for flip in [0x01, 0x55, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                std::fs::write(&path, &bytes).unwrap();
                if let Ok(checkpoint) = Checkpoint::open(&path) {
                    // Read, or refused by name; the numbers of a changed file may be anything.
                    checkpoint.tensors().iter().for_each(|(_, tensor)| drop(tensor.to_f32()));
                }
            }
        }
    }
}
