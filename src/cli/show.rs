//! Outcomes as text for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use clip_onnx::checkpoint::Skipped;
use clip_onnx::config::{Registered, known, registry};
use clip_onnx::layout::Layout;
use clip_onnx::layout::manifest::Rule;
use clip_onnx::modality::Modality;
use clip_onnx::onnx::read::Port;
use clip_onnx::pipeline::{
    Artifacts, CheckpointReport, Convert, Converted, Export, Exported, Folding, Inspected, OnnxReport,
};
use clip_onnx::providers::{Coverage, Refused};
use clip_onnx::verify::report::Verdict;

use super::plain::{lines, one_line};
use super::spell::spelled;

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// What was written, whether it passed, and what to do next.
pub fn exported(out: &mut impl Write, request: &Export, exported: &Exported) -> io::Result<()> {
    let config = &exported.selected.config;
    writeln!(
        out,
        "{} ({}), dialect {}, embedding {}{}",
        one_line(&config.model),
        one_line(&spelled(&exported.selected.found.to_string())),
        config.dialect,
        config.embed_dim,
        if exported.normalized { ", L2-normalised" } else { ", not normalised" }
    )?;
    for (name, Rule { rule, source, assumed }) in exported.selected.inputs() {
        writeln!(out, "  {name}: {rule} ({}{})", if assumed { "assumed " } else { "" }, one_line(&spelled(&source)))?;
    }
    for file in &exported.files {
        writeln!(out, "  {} ({})", file.path.display(), size(file.size))?;
    }
    for (file, coverage) in &exported.coverage {
        writeln!(out, "  {}: {}", file.display(), one_line(&coverage.to_string()))?;
    }
    match &exported.report {
        Some(report) => writeln!(out, "\n{}", spelled(&lines(&report.to_string())))?,
        None => writeln!(out, "\nnot verified (--no-verify)")?,
    }
    let bytes = exported.files.iter().map(|file| file.size).sum();
    let (folder, files) = (request.output.folder.display(), exported.files.len());
    writeln!(out, "wrote {folder}: {files} model {}, {}", if files == 1 { "file" } else { "files" }, size(bytes))?;
    let has_failed = exported.report.as_ref().is_some_and(|report| report.verdict == Verdict::Failed);
    if has_failed { Ok(()) } else { writeln!(out, "next: {}", next(request, exported)) }
}

/// The command that most people type after an export like this.
fn next(request: &Export, exported: &Exported) -> String {
    let (folder, config) = (quoted(&request.output.folder), &exported.selected.config);
    // Labels need both towers, and pictures of one size.
    let classifies = config.image_size().is_some() && config.has(Modality::Text);
    // CLIP's vocabulary is built in.
    let has_tokenizer = clip_onnx::tokenize::built_in(config) || request.output.folder.join("tokenizer.json").exists();
    let tokenizer = if has_tokenizer { "" } else { " --tokenizer tokenizer.json" };
    match (&request.graph.artifacts, request.layout.layout) {
        _ if request.layout.demo => format!("python3 -m http.server --directory {folder}"),
        (Artifacts::ZeroShot(_), _) => format!("clip-onnx classify {folder} photo.jpg"),
        (Artifacts::Combined, _) => match exported.files.first() {
            Some(file) => format!("clip-onnx inspect {}", quoted(&file.path)),
            None => format!("clip-onnx inspect {folder}"),
        },
        (Artifacts::Towers, Layout::Plain) if classifies => {
            format!("clip-onnx classify {folder} photo.jpg --labels cat,dog{tokenizer}")
        }
        _ => format!("clip-onnx bench {folder}"),
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

pub fn converted(out: &mut impl Write, request: &Convert, converted: &Converted) -> io::Result<()> {
    let config = &converted.selected.config;
    writeln!(
        out,
        "{} ({}): {} tensors under open_clip's names in {}; recorded dialect {}",
        one_line(&config.model),
        one_line(&spelled(&converted.selected.found.to_string())),
        converted.tensors,
        request.out.display(),
        config.dialect
    )
}

pub fn inspected(out: &mut impl Write, inspected: &Inspected, filter: Option<&str>) -> io::Result<()> {
    match inspected {
        Inspected::Checkpoint(report) => checkpoint(out, report, filter),
        Inspected::Onnx(report) => onnx(out, report),
    }
}

/// What execution providers take, and what they do not, by operator and reason.
pub fn taken(out: &mut impl Write, all: &[Coverage]) -> io::Result<()> {
    for taken in all {
        writeln!(out, "{} ({:.1} %)", one_line(&taken.to_string()), 100.0 * taken.share())?;
        for Refused { operator, count, why, first } in &taken.refused {
            let more = if *count > first.len() { ", …" } else { "" };
            writeln!(out, "  {count:>4} {}: {why} ({}{more})", one_line(operator), one_line(&first.join(", ")))?;
        }
    }
    Ok(())
}

/// A number of parameters as a person reads it.
fn count(n: u64) -> String {
    if n < 100_000 { n.to_string() } else { format!("{:.1} M", n as f64 / 1e6) }
}

fn line(out: &mut impl Write, label: &str, value: impl std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{label:<12} {}", one_line(&value.to_string()))
}

fn counts(map: &BTreeMap<String, impl std::fmt::Display>) -> String {
    let parts: Vec<String> = map.iter().map(|(name, n)| format!("{name} {n}")).collect();
    parts.join(", ")
}

fn checkpoint(out: &mut impl Write, report: &CheckpointReport, filter: Option<&str>) -> io::Result<()> {
    line(out, "file", format!("{} ({}, {})", report.file, report.format, size(report.size)))?;
    line(out, "tensors", format!("{} ({})", report.tensors.len(), counts(&report.dtypes)))?;
    if let Some(naming) = &report.naming {
        line(out, "naming", naming)?;
    }
    if let (Some(model), Some(found), Some(family), Some(dialect)) =
        (&report.model, &report.found, &report.family, &report.dialect)
    {
        line(out, "model", format!("{model} ({})", spelled(found)))?;
        line(out, "family", family)?;
        line(out, "dialect", dialect)?;
    }
    for (name, Rule { rule, source, assumed }) in &report.inputs {
        line(out, name, format!("{rule} ({}{source})", if *assumed { "assumed " } else { "" }))?;
    }
    for note in &report.notes {
        line(out, "note", note.clone())?;
    }
    for Skipped { place, what, .. } in &report.skipped {
        line(out, "skipped", format!("{place}: {what}"))?;
    }
    let parameters: BTreeMap<String, String> =
        report.parameters.iter().map(|(tower, &n)| (tower.clone(), count(n))).collect();
    if !parameters.is_empty() {
        line(out, "parameters", counts(&parameters))?;
    }
    for (tower, folding) in report.folding.iter().flatten() {
        let Folding { tensors, convs, batch_norms, scales } = folding;
        let parts = [("tensors", tensors), ("convolutions", convs), ("BatchNorms", batch_norms), ("scales", scales)];
        let changed = parts.iter().filter(|(_, [before, after])| before != after);
        let changed: Vec<String> =
            changed.map(|(what, [before, after])| format!("{what} {before} -> {after}")).collect();
        if !changed.is_empty() {
            line(out, "folding", format!("{tower}: {}", changed.join(", ")))?;
        }
    }
    if let Some(problem) = &report.problem {
        line(out, "problem", spelled(problem))?;
    }
    if let Some(against) = report.against.as_ref().filter(|_| !report.differences.is_empty()) {
        writeln!(out, "differences from {}:", one_line(against))?;
        const SHOWN: usize = 20;
        for difference in report.differences.iter().take(SHOWN) {
            writeln!(out, "  {}", one_line(&difference.to_string()))?;
        }
        if report.differences.len() > SHOWN {
            writeln!(out, "  and {} more (--json lists all)", report.differences.len() - SHOWN)?;
        }
    }
    let Some(filter) = filter else { return Ok(()) };
    writeln!(out)?;
    for tensor in report.tensors.iter().filter(|tensor| tensor.name.contains(filter)) {
        writeln!(out, "{:<9} {:<20} {}", tensor.dtype, format!("{:?}", tensor.shape), one_line(&tensor.name))?;
    }
    Ok(())
}

fn onnx(out: &mut impl Write, report: &OnnxReport) -> io::Result<()> {
    let summary = &report.summary;
    line(out, "graph", format!("{} ({})", summary.graph, summary.producer))?;
    let opsets: Vec<String> = summary.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
    line(out, "opset", format!("{}, IR {}", opsets.join(", "), summary.ir_version))?;
    if let Some(runtimes) = report.runtimes {
        line(out, "for", runtimes)?;
    }
    line(out, "size", size(summary.size))?;
    for (location, bytes) in &summary.external_data {
        let inside = clip_onnx::files::is_inside(Path::new(location));
        let found = if inside { size(*bytes) } else { "not in the model's folder, and not read".to_owned() };
        line(out, "weights in", format!("{location} ({found})"))?;
    }
    let port = |port: &Port| format!("{} {} [{}]", port.name, port.element_type, port.shape.join(", "));
    for input in &summary.inputs {
        line(out, "input", port(input))?;
    }
    for output in &summary.outputs {
        line(out, "output", port(output))?;
    }
    line(out, "parameters", format!("{} in {} initializers", count(summary.parameters), summary.initializers))?;
    line(out, "nodes", format!("{} ({})", summary.nodes, counts(&summary.operators)))?;
    if !summary.metadata.is_empty() {
        writeln!(out, "metadata:")?;
        for (key, value) in &summary.metadata {
            writeln!(out, "  {:<16} {}", one_line(key), one_line(value))?;
        }
    }
    Ok(())
}

/// A line for each known model; 80 columns.
pub fn models(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<30} {:<11} {:>7} {:>5} {:>7} {:>6} {:>5}",
        "model", "family", "image", "patch", "context", "vocab", "dim"
    )?;
    for config in known() {
        let image = config.image_size();
        let image = image.map_or_else(|| "any".to_owned(), |[height, width]| format!("{height}x{width}"));
        let patch = config.vision_cfg.as_ref().and_then(|vision| vision.family().dims().patch_size);
        let text = config.text_cfg.as_ref().map_or((0, 0), |text| (text.context_length, text.vocab_size));
        let patch = patch.map_or_else(|| "-".to_owned(), |patch| patch.to_string());
        writeln!(
            out,
            "{:<30} {:<11} {:>7} {:>5} {:>7} {:>6} {:>5}",
            config.model,
            config.family.to_string(),
            image,
            patch,
            text.0,
            text.1,
            config.embed_dim,
        )?;
    }
    writeln!(out, "Other sizes need their configuration: --config FILE, or the folder it is in.")
}

/// A line for each configuration of open_clip.
pub fn registered(out: &mut impl Write) -> io::Result<()> {
    let all: Vec<Registered> = registry().collect();
    writeln!(out, "{:<34} {:<22} published weights", "open_clip's configuration", "")?;
    for Registered { name, lacks, weights } in &all {
        let state = lacks.map_or_else(|| "yes".to_owned(), |what| format!("no: {what}"));
        let weights = if weights.is_empty() { "-".to_owned() } else { weights.join(" ") };
        writeln!(out, "{name:<34} {state:<22} {weights}")?;
    }
    let exported = || all.iter().filter(|one| one.lacks.is_none());
    let weights = |of: &mut dyn Iterator<Item = &Registered>| of.map(|one| one.weights.len()).sum::<usize>();
    writeln!(
        out,
        "{} of {} configurations and {} of {} published weights are exported.",
        exported().count(),
        all.len(),
        weights(&mut exported()),
        weights(&mut all.iter())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_would_part_them() {
        assert_eq!(quoted(Path::new("out/a-1.x")), "out/a-1.x");
        assert_eq!(quoted(Path::new("my model")), "'my model'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
    }
}
