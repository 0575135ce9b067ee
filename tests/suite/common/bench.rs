//! The real binary in a folder of its own.

use std::path::PathBuf;

use assert_cmd::Command;
use tempfile::TempDir;

use super::Fixture;
use super::npz::{Arrays, Zip, integers, read, write};

/// A folder with `checkpoint.npz`, `config.json` and `reference.npz` of a fixture.
pub struct Bench {
    pub folder: TempDir,
    pub fixture: Fixture,
}

impl Bench {
    pub fn new(fixture: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), fixture: Fixture::named(fixture) };
        // Containers are told from their bytes, so one name serves for all.
        std::fs::copy(bench.fixture.checkpoint(), bench.path("checkpoint.npz")).unwrap();
        for file in ["config.json", "reference.npz"] {
            std::fs::copy(bench.fixture.folder.join(file), bench.path(file)).unwrap();
        }
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, line: &str) -> Outcome {
        let mut command = Command::cargo_bin("clip-onnx").unwrap();
        let output = command.current_dir(self.folder.path()).args(line.split_whitespace()).output().unwrap();
        Outcome {
            line: line.to_owned(),
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn rewrite(&self, change: impl FnOnce(&mut Arrays)) {
        let mut arrays = read(&self.fixture.checkpoint());
        change(&mut arrays);
        write(&self.path("checkpoint.npz"), &arrays, Zip::Stored);
    }

    /// The fixture's reference, changed, under another name.
    pub fn other_reference(&self, name: &str, change: impl FnOnce(&mut Arrays)) {
        let mut arrays = read(&self.fixture.reference());
        // Integers, which `read` leaves out.
        let mut tokens = integers(&self.fixture.reference(), "tokens");
        tokens.descr = "<i4";
        arrays.push(("tokens".to_owned(), tokens));
        change(&mut arrays);
        write(&self.path(name), &arrays, Zip::Stored);
    }

    /// Everything in the folder, hidden files too.
    pub fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// Refused with one line that has all of `parts`.
    pub fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{}: {}{}", self.line, self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "{}: {}", self.line, self.err);
        assert!(self.err.starts_with("clip-onnx: "), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{}: no `{part}` in: {}", self.line, self.err);
        }
        // An error whose words hold its cause, and which names it as its source, would say it twice.
        let said: Vec<_> = self.err.trim_end().split(": ").collect();
        let twice = said.iter().enumerate().find(|(at, cause)| said[..*at].contains(cause));
        assert!(twice.is_none(), "{}: said twice: {}", self.line, self.err);
    }

    /// Refused by the parser of the command line.
    pub fn refused_usage(&self, part: &str) {
        assert!(self.code == Some(2) && self.err.contains(part), "{}: {}", self.line, self.err);
    }

    pub fn succeeded(&self) -> &Outcome {
        assert_eq!(self.code, Some(0), "{}: {}{}", self.line, self.out, self.err);
        self
    }

    pub fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.out.contains(part), "{}: no `{part}` in: {}", self.line, self.out);
        }
    }
}

/// A tokenizer of `siglip_tiny`'s vocabulary of 64: letters, and SigLIP's marks.
pub fn tokenizer(bench: &Bench) {
    let letters = ('a'..='z').map(|letter| serde_json::json!([letter.to_string(), -3.0]));
    let marks = ["<pad>", "</s>", "<unk>", " "].map(|mark| serde_json::json!([mark, -9.0]));
    let vocabulary: Vec<_> = marks.into_iter().chain(letters).collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary},
    });
    std::fs::write(bench.path("tokenizer.json"), json.to_string()).unwrap();
}

/// The main job, to which flags are added.
pub const EXPORT: &str = "export checkpoint.npz --config config.json --out out";
