//! Labels and sentences: named, or from a file, one a line.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Labels that are named, or those of a file; each once. One name that is a file is read as `--labels-file`, which it
/// was called before.
///
/// # Errors
/// When the file cannot be read, or a label is blank.
pub fn labels(named: Vec<String>, file: Option<&Path>, warn: &dyn Fn(&str)) -> anyhow::Result<Vec<String>> {
    let old = match named.as_slice() {
        [one] if file.is_none() && Path::new(one).is_file() => Some(PathBuf::from(one)),
        _ => None,
    };
    if let [one] = named.as_slice()
        && file.is_none()
        && old.is_none()
        && (one.ends_with(".txt") || one.contains('/'))
    {
        bail!(
            "{one}: there is no such file; name a file of labels with --labels-file, and labels with --labels cat,dog"
        );
    }
    if old.is_some() {
        warn("labels from a file are now named with --labels-file; --labels FILE works until the next release");
    }
    let all = match old.as_deref().or(file) {
        Some(file) => lines(file)?,
        None => named,
    };
    let all: Vec<String> = all.into_iter().map(|label| label.trim().to_owned()).collect();
    if all.iter().any(String::is_empty) {
        bail!("a label is blank; leave it out");
    }
    let count = all.len();
    let labels = distinct(all);
    if labels.len() < count {
        warn(&format!("{count} labels are given, {} of them different; each is used once", labels.len()));
    }
    Ok(labels)
}

/// Lines of a file that are not blank.
pub fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        clip_onnx::files::read_text(file).map_err(|e| anyhow::anyhow!("{} cannot be read: {e}", file.display()))?;
    let text = text.trim_start_matches('\u{feff}');
    // Whatever line ends it has.
    let lines: Vec<String> =
        text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        bail!("{} has no line that is not blank", file.display());
    }
    Ok(lines)
}

/// Without repetitions, in the same order.
pub fn distinct<T: Clone + Eq + Hash>(mut all: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert(one.clone()));
    all
}
