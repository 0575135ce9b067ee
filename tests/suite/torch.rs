//! PyTorch files: every container gives the same tensors, and a file that wants more than tensors
//! is refused by the name of what it wants.
//!
//! `tests/torch/` was written by `scripts/make_torch_files.py`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use clip_onnx::checkpoint::{Checkpoint, Format};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::common::root;

fn values(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let floats = checkpoint.tensors().iter().filter(|(_, t)| t.dtype().is_weight());
    floats.map(|(n, t)| (n.clone(), (t.shape(), t.to_f32().unwrap()))).collect()
}

#[test]
fn every_form_gives_the_same_tensors() {
    let folder = root().join("tests/torch");
    let expected = values(&folder.join("expected.npz"));
    assert_eq!(expected.len(), 5);
    for form in ["zip", "legacy", "script", "trace", "parameters", "views"] {
        assert_eq!(values(&folder.join(format!("{form}.pt"))), expected, "{form}");
    }
    // A wrapper's prefix is part of the names still.
    let training = values(&folder.join("training.pt"));
    assert!(training.keys().map(|name| name.strip_prefix("module.").unwrap()).eq(expected.keys()));
    assert!(training.values().eq(expected.values()));
    let half = values(&folder.join("half.pt"));
    for (name, (shape, values)) in &expected {
        let narrow: Vec<f32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
        assert_eq!(half[name], (shape.clone(), narrow));
    }
    let format = |form: &str| Checkpoint::open(&folder.join(form)).unwrap().format();
    assert_eq!((format("zip.pt"), format("legacy.pt")), (Format::Torch, Format::TorchLegacy));
}

/// PyTorch's own checksums are held to, but for those it was told to leave out.
#[test]
fn one_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.pt");
    let whole = std::fs::read(root().join("tests/torch/zip.pt")).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&whole)).unwrap();
    let starts: Vec<(String, u64)> = (0..archive.len())
        .map(|at| {
            let member = archive.by_index(at).unwrap();
            (member.name().unwrap().into_owned(), member.data_start().unwrap())
        })
        .collect();
    let place = |name: &str| starts.iter().find(|(n, _)| n.ends_with(name)).unwrap().1 as usize;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
    };
    flipped(place("data/0"));
    let error = Checkpoint::open(&damaged).unwrap().whole().sha256(|| true).unwrap_err().to_string();
    assert!(error.contains("data/0` does not match its checksum"), "{error}");
    flipped(place("data.pkl") + 40);
    let error = Checkpoint::open(&damaged).err().unwrap().to_string();
    assert!(error.contains("data.pkl` does not match its checksum"), "{error}");

    // Left out: zero in both of the archive's records.
    let mut bytes = whole;
    for (record, sum) in [(&b"PK\x01\x02"[..], 16), (b"PK\x03\x04", 14), (b"PK\x07\x08", 4)] {
        for at in 0..bytes.len() - 20 {
            if bytes[at..].starts_with(record) {
                bytes[at + sum..at + sum + 4].fill(0);
            }
        }
    }
    bytes[place("data/0")] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    assert!(Checkpoint::open(&damaged).unwrap().whole().sha256(|| true).is_ok());
}

/// The container is told from the bytes, not from the name.
#[test]
fn names_of_files_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let misnamed = folder.path().join("weights.npz");
    std::fs::copy(root().join("tests/torch/legacy.pt"), &misnamed).unwrap();
    assert_eq!(values(&misnamed).len(), 5);
}

#[test]
fn no_truncation_panics() {
    let folder = tempfile::tempdir().unwrap();
    for form in ["zip", "legacy", "script", "training"] {
        let whole = std::fs::read(root().join(format!("tests/torch/{form}.pt"))).unwrap();
        for end in (0..whole.len()).step_by(37) {
            let path = folder.path().join("cut.pt");
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(Checkpoint::open(&path).is_err(), "{form} cut at {end}");
        }
        // Any one byte changed: an error or a checkpoint, never a panic.
        for at in (0..whole.len()).step_by(11) {
            let path = folder.path().join("changed.pt");
            let mut bytes = whole.clone();
            bytes[at] = bytes[at].wrapping_add(0x55);
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(checkpoint) = Checkpoint::open(&path) {
                for (_, tensor) in checkpoint.tensors() {
                    let _ = tensor.to_f32();
                }
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn ints(out: &mut Vec<u8>, values: &[i32]) {
    out.push(b'(');
    for value in values {
        out.push(b'J');
        out.extend(value.to_le_bytes());
    }
    out.push(b't');
}

/// `{"w": tensor}`, as PyTorch pickles it.
fn tensor(storage: &str, key: &str, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    text(&mut out, "w");
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(&mut out, "storage");
    out.extend(format!("ctorch\n{storage}\n").as_bytes());
    text(&mut out, key);
    text(&mut out, "cpu");
    out.extend(b"J\x08\x00\x00\x00tQJ");
    out.extend(offset.to_le_bytes());
    ints(&mut out, shape);
    ints(&mut out, strides);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    out
}

fn archive(pickle: &[u8], extra: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let zeros = [0u8; 32]; // eight floats
    for (name, bytes) in [("data.pkl", pickle), ("data/0", &zeros)].into_iter().chain(extra.iter().copied()) {
        zip.start_file(format!("archive/{name}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn hostile_files_are_refused_by_name() {
    let good = |shape: &[i32], strides: &[i32]| tensor("FloatStorage", "0", 0, shape, strides);
    let mut cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("runs a shell", archive(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", &[]), "wants to run `os.system`"),
        ("evaluates", archive(b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", &[]), "`__builtin__.eval`"),
        ("hidden in a protocol 4 name", archive(b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", &[]), "`posix.system`"),
        ("loads another file", archive(b"\x80\x02ctorch\nload\n.", &[]), "`torch.load`"),
        ("a namespace alone", archive(b"\x80\x02cargparse\nNamespace\n)\x81.", &[]), "run `argparse.Namespace`"),
        (
            "a numpy scalar alone",
            archive(b"\x80\x02cnumpy.core.multiarray\nscalar\n.", &[]),
            "run `numpy.core.multiarray.scalar`",
        ),
        ("calls a storage", archive(b"\x80\x02ctorch\nFloatStorage\n)R.", &[]), "run `torch.FloatStorage`"),
        ("an empty state dict", archive(b"\x80\x02ccollections\nOrderedDict\n)\x81.", &[]), "no tensors in it"),
        (
            "a state dict under the key of an object that is to be made",
            archive(b"\x80\x02}X\x05\x00\x00\x00modelcmy\nModel\n)\x81}bs.", &[]),
            "`model` is an object of `my.Model`; only tensors are read",
        ),
        ("an instruction of old", archive(b"\x80\x02i", &[]), "opcode 0x69"),
        ("no program", archive(b"", &[]), "ends in the middle"),
        ("ends early", archive(&good(&[2, 4], &[4, 1])[..60], &[]), "does not end"),
        ("a string that does not end", archive(b"\x80\x02X\xff\xff\xff\xffab", &[]), "ends in the middle"),
        ("recalls nothing", archive(b"\x80\x02h\x07.", &[]), "recalls"),
        ("closes nothing", archive(b"\x80\x02t.", &[]), "closes what it did not open"),
        ("takes from nothing", archive(b"\x80\x02R.", &[]), "empty stack"),
        ("no tensors", archive(b"\x80\x02}.", &[]), "no tensors"),
        ("a list", archive(b"\x80\x02].", &[]), "no tensors"),
        ("too large a shape", archive(&good(&[3, 4], &[4, 1]), &[]), "`w` has 12 elements"),
        ("a huge shape", archive(&good(&[i32::MAX, i32::MAX, i32::MAX], &[1, 1, 1]), &[]), "`w` has"),
        ("an expanded view", archive(&good(&[1 << 30], &[0]), &[]), "`w` has 1073741824 elements"),
        ("strides past the end", archive(&good(&[2, 2], &[7, 7]), &[]), "`w`"),
        ("an offset past the end", archive(&tensor("FloatStorage", "0", 1 << 30, &[1], &[1]), &[]), "`w`"),
        ("a negative offset", archive(&tensor("FloatStorage", "0", -1, &[1], &[1]), &[]), "negative storage offset"),
        ("a negative size", archive(&good(&[-1], &[1]), &[]), "negative size or stride"),
        ("a negative stride", archive(&good(&[2], &[-1]), &[]), "negative size or stride"),
        ("a stride too few", archive(&good(&[2, 2], &[1]), &[]), "2 sizes and 1 strides"),
        ("too many axes", archive(&good(&[1; 65], &[1; 65]), &[]), "65 axes"),
        ("a storage that is not there", archive(&tensor("FloatStorage", "9", 0, &[1], &[1]), &[]), "storage `9`"),
        (
            "a storage of complex numbers",
            archive(&tensor("ComplexFloatStorage", "0", 0, &[1], &[1]), &[]),
            "`torch.ComplexFloatStorage`",
        ),
        (
            "doubles in a storage of floats",
            archive(&tensor("DoubleStorage", "0", 0, &[8], &[1]), &[]),
            "`w` has 8 elements of float64",
        ),
        ("big-endian storages", archive(&good(&[2], &[1]), &[("byteorder", b"big")]), "big-endian"),
        ("a program that is no text", archive(b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", &[]), "not text"),
        ("protocol 1", archive(b"\x80\x01.", &[]), "protocol 1"),
    ];
    // Dictionaries that hold the one before twice: 2^n paths to the tensor.
    let mut shared = b"\x80\x02".to_vec();
    shared.extend(&good(&[1], &[1])[2..good(&[1], &[1]).len() - 1]);
    for level in 0..40u8 {
        shared.extend([b'q', level, b'}']);
        for name in ["l", "r"] {
            text(&mut shared, name);
            shared.extend([b'h', level, b's']);
        }
    }
    shared.push(b'.');
    cases.push(("a bomb of shared parts", archive(&shared, &[]), "nest or repeat without end"));
    // A dictionary that holds itself.
    let mut cycle = b"\x80\x02}q\x00".to_vec();
    text(&mut cycle, "self");
    cycle.extend(b"h\x00s.");
    cases.push(("a cycle", archive(&cycle, &[]), "nest or repeat without end"));
    let mut deep = b"\x80\x02N".to_vec();
    deep.extend(std::iter::repeat_n(0x85, 500_000));
    deep.push(b'.');
    cases.push(("half a million nested tuples", archive(&deep, &[]), "no tensors"));

    // The same without a zip around: pre-1.6 files.
    let legacy = std::fs::read(root().join("tests/torch/legacy.pt")).unwrap();
    let magic = &legacy[..15];
    cases.push(("legacy, runs a shell", [magic, b"\x80\x02cos\nsystem\n."].concat(), "ends in the middle"));
    cases.push(("legacy, only the magic", magic.to_vec(), "ends in the middle"));
    cases.push(("legacy, storages cut", legacy[..legacy.len() - 20].to_vec(), "it may be truncated"));
    cases.push(("a bare pickle", b"\x80\x02}.".to_vec(), "bare pickle"));

    assert!(cases.len() >= 40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pt");
    for (name, bytes, said) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = Checkpoint::open(&path).err().unwrap_or_else(|| panic!("{name}: was read")).to_string();
        assert!(error.contains(said), "{name}: no `{said}` in: {error}");
    }
}
