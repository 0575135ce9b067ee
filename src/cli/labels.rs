//! Labels and sentences: named, or one a line in a file.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::Path;

use anyhow::bail;

/// Labels that are named, then those of a file; each once.
pub fn labels(named: Vec<String>, file: Option<&Path>, warn: &dyn Fn(&str)) -> anyhow::Result<Vec<String>> {
    let mut all = named;
    if let Some(file) = file {
        all.extend(lines(file)?.into_iter().map(|label| label.trim().to_owned()));
    }
    if all.iter().any(|label| label.trim().is_empty()) {
        bail!("a label is blank; leave it out");
    }
    let count = all.len();
    let labels = distinct(all);
    if labels.len() < count {
        warn(&format!("labels are taken once: {count} are named, {} are different", labels.len()));
    }
    Ok(labels)
}

/// Lines of a file that hold something.
pub fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text =
        clip_onnx::files::read_text(file).map_err(|e| anyhow::anyhow!("{} cannot be read: {e}", file.display()))?;
    let text = text.trim_start_matches('\u{feff}');
    // Whatever ends them.
    let lines: Vec<String> =
        text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        bail!("{} has no line that holds anything", file.display());
    }
    Ok(lines)
}

/// Without what was there before, in the same order.
pub fn distinct<T: Clone + Eq + Hash>(mut all: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert(one.clone()));
    all
}
