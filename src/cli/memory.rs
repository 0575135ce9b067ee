//! A bound on the memory of commands that run ONNX files: a graph from outside may ask for any amount.

use std::path::Path;

use anyhow::bail;
use clip_onnx::engine::Signature;
use clip_onnx::onnx::read::summary;

/// What every command may take.
const BASE: u64 = 448 << 20;

/// What decoding one image may take, beside a tower.
const IMAGE: u64 = 512 << 20;

/// Of each byte of files: weights in float32 where they are packed, and a copy of them that an engine reorders.
const FOR_FILES: u64 = 20;

/// Bytes for each number of a batch that is fed.
const FOR_INPUTS: u64 = 128;

/// Bytes for each item that is embedded, which is kept until the end.
const FOR_ITEMS: u64 = 16 << 10;

/// What a command is about to do, from which its bound follows where none is asked for.
#[derive(Default)]
pub struct Use<'a> {
    /// ONNX files, or folders of them; other files they are used with.
    pub files: Vec<&'a Path>,
    /// Rows that are run at once.
    pub batch: usize,
    /// Images and texts, 0 where none are embedded.
    pub items: usize,
}

/// Bounds the memory of this process from here on: by `asked`, or by what the files and the batch justify. A process that
/// asks for more ends with a sentence and exit code 2.
///
/// # Errors
/// When a bound is asked for where there is none.
pub fn bound(asked: Option<u64>, of: &Use) -> anyhow::Result<()> {
    set(asked, || {
        let (mut bytes, mut numbers) = (0, 0);
        for path in &of.files {
            walk(path, &mut |file| {
                // Manifests and reports are text, and have bounds of their own.
                let counts = !["manifest.json", "report.json"].iter().any(|name| file.ends_with(name));
                bytes += if counts { file.metadata().map_or(0, |found| found.len()) } else { 0 };
                if file.extension().is_some_and(|extension| extension == "onnx") {
                    numbers = numbers.max(largest_row(file));
                }
            });
        }
        let image = if of.items > 0 { IMAGE } else { 0 };
        let inputs = FOR_INPUTS.saturating_mul(numbers).saturating_mul(of.batch as u64);
        [FOR_FILES.saturating_mul(bytes), inputs, FOR_ITEMS.saturating_mul(of.items as u64), image]
            .into_iter()
            .fold(BASE, u64::saturating_add)
    })
}

/// Bounds the memory by what is asked for, if anything is.
///
/// # Errors
/// As [`bound`].
pub fn asked(asked: Option<u64>) -> anyhow::Result<()> {
    if asked.is_some() { set(asked, || 0) } else { Ok(()) }
}

#[cfg(target_os = "linux")]
fn set(asked: Option<u64>, otherwise: impl FnOnce() -> u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Data);
    let most = asked.unwrap_or_else(otherwise).min(before.maximum.unwrap_or(u64::MAX));
    let bounded = setrlimit(Resource::Data, Rlimit { current: Some(most), maximum: before.maximum });
    match (bounded, asked) {
        (Err(error), Some(_)) => bail!("--max-memory cannot be set: {error}"),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn set(asked: Option<u64>, _otherwise: impl FnOnce() -> u64) -> anyhow::Result<()> {
    match asked {
        Some(_) => bail!("--max-memory is for Linux; other operating systems have no such limit"),
        None => Ok(()),
    }
}

/// Numbers of the largest row that a file's towers take.
fn largest_row(file: &Path) -> u64 {
    let signatures = summary(file).ok().and_then(|summary| Signature::of(&summary).ok()).unwrap_or_default();
    let rows = signatures.iter().map(|one| one.input.row().saturating_mul(one.fixed_batch.unwrap_or(1)));
    rows.max().unwrap_or(0) as u64
}

/// The ordinary files of a folder, or the file itself with those beside it that are its external weights.
fn walk(path: &Path, each: &mut dyn FnMut(&Path)) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        // A link to a folder may lead back into it.
        for path in entries.filter(|path| path.is_file() || !path.is_symlink()) {
            if path.is_dir() { walk(&path, each) } else { each(&path) }
        }
        return;
    }
    each(path);
    let external = summary(path).map(|summary| summary.external_data).unwrap_or_default();
    let inside = external.keys().filter(|location| clip_onnx::files::is_inside(Path::new(location)));
    inside.for_each(|location| each(&path.with_file_name(location)));
}
