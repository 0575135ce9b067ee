//! `report.html`: the same as `report.json`, drawn. One file that needs no other.

use std::fmt::Write;

use super::quantize::PrecisionReport;
use super::run::Run;
use crate::bench::Measured;
use crate::layout::manifest::Rule;
use crate::modality::Modality;
use crate::verify::report::{Compared, TowerReport, Verdict};
use crate::verify::{BATCH, EMBEDDING, LOGITS, Report, UNIT_NORM};

mod charts;

/// Of both colour schemes, and of phones.
const STYLE: &str = include_str!("report_html/style.css");

/// What the page is about.
pub struct Page<'a> {
    pub model: &'a str,
    /// How inputs are made.
    pub inputs: &'a [(&'static str, Rule)],
    pub run: &'a Run,
    pub report: &'a Report,
    pub precisions: &'a [PrecisionReport],
    pub timed: &'a [Measured],
}

/// The page of an export.
pub fn page(of: &Page) -> String {
    let mut out = String::new();
    let Page { report, precisions, .. } = *of;
    let class = match report.verdict {
        Verdict::Passed => "passed",
        Verdict::NotCompared => "open",
        Verdict::Failed => "failed",
    };
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{0}: {1}</title><style>{STYLE}</style></head><body><h1>{0}</h1><p><span class={class}>{1}</span>: {2}</p>",
        escaped(of.model),
        report.verdict,
        escaped(&report.summary)
    );
    for line in report.failures.iter().map(|f| format!("failed: {f}")).chain(report.notes.iter().cloned()) {
        let _ = write!(out, "<p class=note>{}</p>", escaped(&line));
    }
    out.push_str(&facts(of));
    let is_compared = report.towers.iter().any(|tower| worst(tower).is_some());
    if !report.compared {
        out.push_str(&without_reference(of));
    }
    let _ = write!(out, "<h2>Every file</h2>{}", table(of));
    if is_compared {
        let charts = Modality::ALL.map(|modality| charts::scatter(report, precisions, modality)).concat();
        let _ = write!(
            out,
            "<h2>Size and accuracy</h2><p class=note>Distance from {}, as 1 − the least cosine: lower is closer. Further \
             left is smaller.</p>{}<div class=row>{charts}</div>",
            against(report),
            charts::engines(report)
        );
    }
    let drawn: Vec<&PrecisionReport> = precisions.iter().filter(|p| p.layers.iter().any(|l| l.error > 0.0)).collect();
    if !drawn.is_empty() {
        out.push_str(
            "<h2>Error of each layer</h2><p class=note>Root mean square of the error of a layer's output over that of the \
             output, estimated from its weights and from what it is fed. Hollow bars are layers that are kept in higher \
             precision, at the error they would have.</p>",
        );
        drawn.iter().for_each(|precision| out.push_str(&charts::bars(precision)));
    }
    if !report.rankings.is_empty() {
        let _ = write!(
            out,
            "<h2>Similarity of images and texts</h2><p class=note>Cosines; a row is an image, a column a text. The closest \
             text of each image is framed.</p>"
        );
        for ranking in &report.rankings {
            let _ = write!(
                out,
                "<h3>{} with {}: the closest text is the same for {:.0} % of {} images over {} texts</h3>\
                 <div class=row>{}{}</div>",
                ranking.precision,
                escaped(&ranking.engine),
                ranking.top1_agreement * 100.0,
                ranking.images,
                ranking.texts,
                charts::matrix(&ranking.expected, against(report)),
                charts::matrix(&ranking.found, &format!("{} with {}", ranking.precision, ranking.engine))
            );
        }
    }
    out.push_str("</body></html>\n");
    out
}

/// What was run, with what, on what.
fn facts(of: &Page) -> String {
    let mut out = "<dl>".to_owned();
    let mut fact = |name: &str, value: &str| {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
    };
    let run = of.run;
    let sum = run.checkpoint_sha256.as_ref().map_or_else(String::new, |sum| format!(", SHA-256 {sum}"));
    fact("checkpoint", &format!("{}{sum}", run.checkpoint));
    for (name, Rule { rule, source, assumed }) in of.inputs {
        fact(name, &format!("{rule} ({}{source})", if *assumed { "assumed " } else { "" }));
    }
    if let Some(reference) = &of.report.reference {
        fact("reference", &format!("{}, SHA-256 {}", reference.file, reference.sha256));
    }
    fact("engines", &of.report.engine);
    fact("machine", &run.machine);
    fact("made with", &format!("clip-onnx {}, {}", run.tool_version, run.date));
    out + "</dl>"
}

/// What was checked all the same, and how there is more to check.
fn without_reference(of: &Page) -> String {
    let report = of.report;
    let mut batches: Vec<usize> = report.towers.iter().flat_map(|t| &t.batches).map(|b| b.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let batches: Vec<String> = batches.iter().map(usize::to_string).collect();
    let mut checked = vec![format!("every file loads, and runs at batch {}", batches.join(", "))];
    checked.push("every output is finite".to_owned());
    let all = || report.towers.iter().flat_map(|tower| &tower.batches);
    if let Some(worst) = all().filter_map(|batch| batch.unit_norm_error).reduce(f64::max) {
        checked.push(format!("embeddings are of length 1, to {worst:.0e} (allowed {:e})", UNIT_NORM.bound));
    }
    if let Some(worst) = all().filter_map(|batch| batch.consistency).reduce(f64::max) {
        checked.push(format!(
            "a row gives the same whatever else is in the batch, to {worst:.0e} (allowed in float32 {:e})",
            BATCH.bound
        ));
    }
    let list: String = checked.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
    format!(
        "<h2>What was checked</h2><p>No embedding was compared with one of the authors' code, so that nothing here says \
         whether the model is right. What was checked without:</p><ul>{list}</ul>\
         <h2>How to compare</h2><p>Write the reference with the authors' code, once, where torch is at hand, and export \
         again with it. Embeddings are then held to {:e}, logits to {:e}.</p>\
         <p><code>python scripts/make_reference.py CHECKPOINT --model NAME -o reference.npz</code></p>\
         <p><code>clip-onnx verify FOLDER --reference reference.npz</code></p>",
        EMBEDDING.bound, LOGITS.bound
    )
}

/// What files were compared with.
fn against(report: &Report) -> &'static str {
    if report.compared { "the reference" } else { "float32" }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The worst of a tower's batches: least and mean cosine, largest difference.
fn worst(tower: &TowerReport) -> Option<(f64, f64, f64)> {
    let compared = tower.batches.iter().filter_map(|batch| match &batch.compared {
        Some(Compared::Agreement(agreement)) => Some(agreement),
        _ => None,
    });
    compared.map(|a| (a.cosine, a.cosine_mean, a.max_abs)).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2)))
}

/// A column: its title, and a cell for every tower.
struct Column {
    title: &'static str,
    cells: Vec<Option<String>>,
}

fn table(of: &Page) -> String {
    let Page { report, precisions, timed, .. } = *of;
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let written = |tower: &TowerReport| precisions.iter().find(|p| p.file == tower.file);
    let ranked = |tower: &TowerReport| {
        report.rankings.iter().find(|r| r.precision == tower.precision && r.engine == tower.engine)
    };
    let latency = |tower: &TowerReport| {
        let timed = timed.iter().find(|t| t.file == tower.file && t.engine == tower.engine)?;
        timed.latency.first().map(|latency| format!("{:.2}", latency.median_ms))
    };
    let positive = |count: u64| (count > 0).then(|| count.to_string());
    type Cell<'a> = Box<dyn Fn(&TowerReport) -> Option<String> + 'a>;
    let columns: Vec<(&'static str, Cell)> = vec![
        ("file", Box::new(|t| Some(t.label.clone()))),
        ("precision", Box::new(|t| Some(t.precision.to_owned()))),
        ("engine", Box::new(|t| Some(t.engine.clone()))),
        ("MB", Box::new(|t| written(t).map(|p| megabytes(p.size)))),
        ("least cosine", Box::new(|t| worst(t).map(|w| format!("{:.7}", w.0)))),
        ("mean cosine", Box::new(|t| worst(t).map(|w| format!("{:.7}", w.1)))),
        ("max abs", Box::new(|t| worst(t).map(|w| format!("{:.1e}", w.2)))),
        ("same closest text", Box::new(|t| ranked(t).map(|r| format!("{:.0} %", r.top1_agreement * 100.0)))),
        ("ms, batch 1, 1 thread", Box::new(latency)),
        ("layers kept", Box::new(|t| written(t).and_then(|p| positive(p.kept as u64)))),
        ("MB kept", Box::new(|t| written(t).filter(|p| p.kept > 0).map(|p| megabytes(p.kept_bytes)))),
        ("clamped", Box::new(|t| written(t).and_then(|p| positive(p.clamped.iter().map(|(_, n)| n).sum())))),
    ];
    // What no file has is left out.
    let filled =
        columns.into_iter().map(|(title, cell)| Column { title, cells: report.towers.iter().map(cell).collect() });
    let columns: Vec<Column> = filled.filter(|column| column.cells.iter().any(Option::is_some)).collect();
    let class =
        |column: &Column| if matches!(column.title, "file" | "precision" | "engine") { " class=text" } else { "" };
    let mut out = "<table><thead><tr>".to_owned();
    for column in &columns {
        let _ = write!(out, "<th{}>{}</th>", class(column), column.title);
    }
    out.push_str("</tr></thead><tbody>");
    for at in 0..report.towers.len() {
        out.push_str("<tr>");
        for column in &columns {
            let text = column.cells[at].as_deref().map_or_else(String::new, escaped);
            let _ = write!(out, "<td{} data-label=\"{}\">{text}</td>", class(column), column.title);
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    if !timed.is_empty() {
        let _ = write!(out, "<p class=note>Times: median of 10 runs on {}.</p>", escaped(&of.run.machine));
    }
    out
}
