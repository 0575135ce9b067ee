//! Embeddings as files. What is done so far is kept in a second file, so that a run that was stopped goes on.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use ndarray::Array2;
use ndarray_npy::WriteNpyExt;
use serde::{Deserialize, Serialize};

use crate::checkpoint::write;
use crate::modality::{Modality, PerModality};
use crate::output::OutputFile;
use crate::setting::Setting;
use crate::tensor::Tensor;

/// What can be wrong with a file of embeddings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file's extension names no supported format.
    #[error("{path}: a file of embeddings ends with .npy, .json or .safetensors")]
    Kind {
        /// Path of the file.
        path: String,
    },
    /// A `.npy` file for both images and texts.
    #[error("{path} holds one array, and there are images and texts")]
    OneArray {
        /// Path of the file.
        path: String,
    },
    /// The file exists, and was not to be replaced.
    #[error("{path} exists")]
    Exists {
        /// Path of the file.
        path: String,
    },
    /// The operating system could not write the file.
    #[error("{path} cannot be written: {reason}")]
    Write {
        /// Path of the file.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// The file's folder cannot be used, or the file cannot be moved to its final name.
    #[error(transparent)]
    Place(#[from] crate::output::Error),
    /// The partial file at this path comes from a run with another folder or other options.
    #[error("{path} is what an earlier run left of another folder or of other options")]
    Other {
        /// Path of the file.
        path: String,
    },
}

impl Error {
    /// What would help, as a sentence without its end: settings in backticks, by their fields.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Error::OneArray { .. } => "name a .json or .safetensors for both".to_owned(),
            Error::Exists { .. } => format!("replace it with {}, or name another place", Setting::Replace),
            Error::Other { .. } => "remove it, or name another place".to_owned(),
            Error::Kind { .. } | Error::Write { .. } | Error::Place(_) => return None,
        })
    }
}

/// One embedding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Whether it is of an image or of a text.
    #[serde(rename = "of")]
    pub modality: Modality,
    /// A path, or the text.
    pub name: String,
    /// Components of the embedding, `embed_dim` of them.
    pub embedding: Vec<f32>,
    /// Size and time of change of an image file, so that another image of the same name is embedded again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<(u64, u64)>,
}

impl Entry {
    /// The entry of one image or text. Of an image, size and modification time of the file `name` are recorded.
    pub fn new(modality: Modality, name: String, embedding: Vec<f32>) -> Entry {
        let stamp = if modality == Modality::Image { stamp(Path::new(&name)) } else { None };
        Entry { modality, name, embedding, stamp }
    }

    fn key(&self) -> (Modality, String) {
        (self.modality, self.name.clone())
    }
}

/// Length and modification time of a file, in nanoseconds since 1970.
pub(super) fn stamp(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    let changed = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((found.len(), changed.as_nanos() as u64))
}

/// First line of what is done so far.
#[derive(PartialEq, Serialize, Deserialize)]
struct Header {
    /// What embeddings depend on: folder, precision.
    made_with: String,
}

/// What a file of names is called, after the array's.
const NAMES: &str = "names.txt";

/// A file of embeddings in the making.
pub struct Store {
    target: PathBuf,
    partial: PathBuf,
    log: File,
    done: HashMap<(Modality, String), Entry>,
    force: bool,
    /// Whether an earlier run left a partial file.
    resumed: bool,
}

/// What a partial file holds.
#[derive(Default)]
struct Partial {
    entries: Vec<Entry>,
    /// Where each entry ends.
    ends: Vec<u64>,
    /// Where the header ends; 0 where there is none.
    header: u64,
}

impl Partial {
    /// Reads what an earlier run left. What was being written when it was stopped may be cut off: up to there it counts.
    fn read(path: &Path, expected: &Header) -> Result<Partial, Error> {
        let other = || Error::Other { path: path.display().to_string() };
        // A link is not followed, and a pipe not waited for.
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.is_file() => {}
            Ok(_) => return Err(other()),
            Err(_) => return Ok(Partial::default()),
        }
        let Ok(file) = File::open(path) else { return Ok(Partial::default()) };
        let (mut lines, mut line, mut found) = (BufReader::new(file), String::new(), Partial::default());
        let (mut at, mut starts_over) = (0, false);
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
            at += line.len() as u64;
            if found.header == 0 {
                let header: Header = serde_json::from_str(&line).map_err(|_| other())?;
                starts_over = header != *expected;
                found.header = at;
            } else if starts_over {
                // Somebody's embeddings, made otherwise.
                return Err(other());
            } else if let Ok(entry) = serde_json::from_str::<Entry>(&line) {
                let width = found.entries.first().map_or(entry.embedding.len(), |first| first.embedding.len());
                if entry.embedding.is_empty() || entry.embedding.len() != width {
                    return Err(other());
                }
                found.entries.push(entry);
                found.ends.push(at);
            } else {
                break;
            }
            line.clear();
        }
        if found.header == 0 && std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
            return Err(other());
        }
        Ok(if starts_over { Partial::default() } else { found })
    }

    /// Without the rows of the batch that was not finished: embeddings may depend on what is in a batch with them, and
    /// are to be those of a run that was not interrupted.
    fn in_whole_batches(mut self, batch: usize) -> Partial {
        let last = self.entries.last().map(|entry| entry.modality);
        // Of the other modality all are done.
        let of_last = self.entries.iter().filter(|entry| Some(entry.modality) == last).count();
        let whole = self.entries.len() - of_last % batch.max(1);
        self.entries.truncate(whole);
        self.ends.truncate(whole);
        self
    }

    fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(self.header)
    }
}

impl Store {
    /// Begins `target`, or goes on with the whole batches that an earlier run left in `target.partial`. `both` says
    /// whether images and texts will come.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(target: &Path, made_with: &str, batch: usize, both: bool, force: bool) -> Result<Store, Error> {
        let path = || target.display().to_string();
        match extension(target) {
            "npy" if both => return Err(Error::OneArray { path: path() }),
            "npy" | "json" | "safetensors" => {}
            _ => return Err(Error::Kind { path: path() }),
        }
        if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let reason = format!("there is no folder {}; make it first", folder.display());
            return Err(Error::Write { path: path(), reason });
        }
        let partial = with_suffix(target, "partial");
        let header = Header { made_with: made_with.to_owned() };
        let found = Partial::read(&partial, &header)?.in_whole_batches(batch);
        let resumed = found.header > 0;
        // Names are put into their place before the array: with a partial file they are of a run that was stopped there.
        let names = with_suffix(target, NAMES);
        let written = if extension(target) == "npy" && !resumed { vec![target, &names] } else { vec![target] };
        let is_there = |path: &&Path| path.symlink_metadata().is_ok() && !force;
        if let Some(there) = written.into_iter().find(is_there) {
            return Err(Error::Exists { path: there.display().to_string() });
        }
        let failed =
            |e: &dyn std::fmt::Display| Error::Write { path: partial.display().to_string(), reason: e.to_string() };
        let mut log = OpenOptions::new().create(true).append(true).open(&partial).map_err(|e| failed(&e))?;
        log.set_len(found.length()).map_err(|e| failed(&e))?;
        if found.header == 0 {
            line(&mut log, &header).map_err(|e| failed(&e))?;
        }
        let done = found.entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        Ok(Store { target: target.to_owned(), partial, log, done, force, resumed })
    }

    /// What an earlier run found for this one, unless the image has changed since.
    pub fn found(&self, modality: Modality, name: &str) -> Option<&Entry> {
        let entry = self.done.get(&(modality, name.to_owned()))?;
        (modality == Modality::Text || entry.stamp == stamp(Path::new(name))).then_some(entry)
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add(&mut self, entry: Entry) -> Result<(), Error> {
        let failed =
            |e: std::io::Error| Error::Write { path: self.partial.display().to_string(), reason: e.to_string() };
        line(&mut self.log, &entry).map_err(failed)?;
        self.done.insert(entry.key(), entry);
        Ok(())
    }

    /// Writes the file with these, in this order, and removes the partial one.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self, order: &[(Modality, String)]) -> Result<(), Error> {
        let entries: Vec<&Entry> = order.iter().filter_map(|key| self.done.get(key)).collect();
        write_all(&self.target, &entries, self.force, self.resumed)?;
        self.done.clear();
        Ok(())
    }
}

/// A partial file without embeddings is removed: there is nothing to go on with.
impl Drop for Store {
    fn drop(&mut self) {
        if self.done.is_empty() {
            // What is left of it is read again by the next run, and is not wrong then.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

fn line(log: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    log.write_all(text.as_bytes())
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

/// `path` with `.suffix` added to its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn matrix(entries: &[&Entry]) -> Result<Array2<f32>, String> {
    let width = entries.first().map_or(0, |entry| entry.embedding.len());
    let values = entries.iter().flat_map(|entry| entry.embedding.iter().copied()).collect();
    Array2::from_shape_vec((entries.len(), width), values).map_err(|e| e.to_string())
}

/// Writes embeddings, whole or not at all: `.npy` and the names in `.npy.names.txt`, a line each; `.json`;
/// `.safetensors` with `image_embeds` and `text_embeds`, names in the metadata.
fn write_all(target: &Path, entries: &[&Entry], force: bool, resumed: bool) -> Result<(), Error> {
    let failed = |reason: String| Error::Write { path: target.display().to_string(), reason };
    let mut output = OutputFile::create(target, force)?;
    match extension(target) {
        "npy" => {
            matrix(entries)
                .and_then(|rows| rows.write_npy(output.file()).map_err(|e| e.to_string()))
                .map_err(failed)?;
            let path = with_suffix(target, NAMES);
            let failed = |e: std::io::Error| Error::Write { path: path.display().to_string(), reason: e.to_string() };
            let mut list = OutputFile::create(&path, force || resumed)?;
            let text: String = names(entries).iter().map(|name| format!("{}\n", name.replace('\n', " "))).collect();
            list.file().write_all(text.as_bytes()).map_err(failed)?;
            list.commit()?;
        }
        "safetensors" => safetensors(entries, output.file()).map_err(failed)?,
        _ => serde_json::to_writer(output.file(), &json(entries)).map_err(|e| failed(e.to_string()))?,
    }
    output.commit()?;
    Ok(())
}

/// Images and texts.
fn split<'a>(entries: &[&'a Entry]) -> PerModality<Vec<&'a Entry>> {
    let (image, text) = entries.iter().partition(|entry| entry.modality == Modality::Image);
    PerModality { image, text }
}

fn names<'a>(entries: &[&'a Entry]) -> Vec<&'a str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn safetensors(entries: &[&Entry], out: &mut File) -> Result<(), String> {
    let PerModality { image, text } = split(entries);
    let lists = [("images", &image), ("texts", &text)];
    let metadata = lists.map(|(key, entries)| (key.to_owned(), serde_json::json!(names(entries)).to_string()));
    let mut tensors = Vec::new();
    for (key, entries) in [("image_embeds", &image), ("text_embeds", &text)] {
        let values = matrix(entries)?;
        if values.nrows() > 0 {
            let values = Tensor::from_f32(key, values.shape(), values.as_slice().unwrap_or_default());
            tensors.push((key.to_owned(), values));
        }
    }
    // The safetensors crate writes metadata in another order each time.
    write::safetensors(out, &BTreeMap::from(metadata), &tensors, &|_| ()).map_err(|e| e.to_string())
}

fn json(entries: &[&Entry]) -> serde_json::Value {
    let list = |entries: Vec<&Entry>, key: &str| -> Vec<serde_json::Value> {
        entries.iter().map(|entry| serde_json::json!({key: entry.name, "embedding": entry.embedding})).collect()
    };
    let PerModality { image, text } = split(entries);
    serde_json::json!({"images": list(image, "path"), "texts": list(text, "text")})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(modality: Modality, name: &str) -> Entry {
        Entry { modality, name: name.to_owned(), embedding: vec![1.0], stamp: None }
    }

    #[test]
    fn an_unfinished_batch_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.json");
        let resumed = |of: &[(Modality, &str)]| -> Vec<String> {
            let mut store = Store::open(&target, "x", 2, true, false).unwrap();
            of.iter().for_each(|(modality, name)| store.add(entry(*modality, name)).unwrap());
            drop(store);
            let store = Store::open(&target, "x", 2, true, false).unwrap();
            let mut names: Vec<String> = store.done.keys().map(|(_, name)| name.clone()).collect();
            names.sort();
            let _ = std::fs::remove_file(&store.partial);
            names
        };
        use Modality::{Image, Text};
        assert_eq!(resumed(&[(Image, "a"), (Image, "b"), (Image, "c")]), ["a", "b"]);
        // All images are done before the first text is.
        assert_eq!(resumed(&[(Image, "a"), (Image, "b"), (Image, "c"), (Text, "d")]), ["a", "b", "c"]);
        assert_eq!(resumed(&[(Text, "d")]), [""; 0]);
    }

    #[test]
    fn other_models_rows_are_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.json");
        let mut store = Store::open(&target, "x", 1, true, false).unwrap();
        store.add(entry(Modality::Text, "a")).unwrap();
        drop(store);
        assert!(matches!(Store::open(&target, "y", 1, true, false), Err(Error::Other { .. })));
    }
}
