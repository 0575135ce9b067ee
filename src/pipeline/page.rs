//! `report.html`: the same as `report.json`, drawn. One file that needs no other.

use std::fmt::Write;

use super::narrow::PrecisionReport;
use crate::bench::Measured;
use crate::precision::Precision;
use crate::verify::Report;
use crate::verify::report::{Compared, TowerReport};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#1c2330;background:#fff}\
h1{font-size:1.5em;margin-bottom:0}h2{font-size:1.15em;margin:2em 0 .4em}h3{font-size:1em;margin:1.2em 0 .2em}\
p{margin:.3em 0}.note{color:#5a6472}.bad{color:#b3261e;font-weight:600}.good{color:#1b7f4b;font-weight:600}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2em .7em;border-bottom:1px solid #e3e6ea;\
text-align:right;white-space:nowrap}figure{margin:0}td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}.wide{overflow-x:auto}\
.row{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}svg text{font:11px system-ui,sans-serif;fill:#38414d}";

/// Colours of precisions, in the order of [`Precision::ALL`].
const COLOURS: [&str; 7] = ["#444c56", "#2f6fde", "#7aa7f0", "#d9480f", "#f2a36b", "#1b7f4b", "#74b894"];

/// The page of an export.
pub fn page(title: &str, report: &Report, precisions: &[PrecisionReport], timed: &[Measured]) -> String {
    let mut out = String::new();
    let outcome = if report.passed { "<span class=good>passed</span>" } else { "<span class=bad>FAILED</span>" };
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style><h1>{0}</h1><p>{outcome}: {1}</p>",
        escaped(title),
        escaped(&report.summary)
    );
    for line in report.failures.iter().map(|f| format!("failed: {f}")).chain(report.notes.iter().cloned()) {
        let _ = write!(out, "<p class=note>{}</p>", escaped(&line));
    }
    let _ = write!(out, "<h2>Every file</h2>{}", table(report, precisions, timed));
    let _ = write!(
        out,
        "<h2>Size against accuracy</h2><p class=note>Lower is closer to {}; further left is smaller.</p><div class=row>{}</div>",
        against(report),
        ["image", "text"].map(|tower| scatter(report, precisions, tower)).concat()
    );
    let drawn: Vec<&PrecisionReport> = precisions.iter().filter(|p| p.layers.iter().any(|l| l.error > 0.0)).collect();
    if !drawn.is_empty() {
        out.push_str(
            "<h2>Error per layer</h2><p class=note>Of what a layer gives over its size, root mean square, estimated \
             from its weights and what they meet. Hollow bars are layers kept in higher precision, by what they would \
             have lost.</p>",
        );
        drawn.iter().for_each(|precision| out.push_str(&bars(precision)));
    }
    if !report.rankings.is_empty() {
        let _ = write!(
            out,
            "<h2>Similarity of images and texts</h2><p class=note>Cosines, one row an image; the closest text of each is \
             framed. First {}.</p>",
            against(report)
        );
        for ranking in &report.rankings {
            let _ = write!(
                out,
                "<h3>{}, {}: top-1 agreement {:.0} % of {} images over {} texts</h3><div class=row>{}{}</div>",
                ranking.precision,
                escaped(&ranking.engine),
                ranking.top1_agreement * 100.0,
                ranking.images,
                ranking.texts,
                matrix(&ranking.expected),
                matrix(&ranking.found)
            );
        }
    }
    out.push_str("</html>\n");
    out
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

fn table(report: &Report, precisions: &[PrecisionReport], timed: &[Measured]) -> String {
    let mut out =
        "<div class=wide><table><tr><th>file<th>precision<th>engine<th>MB<th>least cosine<th>mean cosine<th>max abs\
                   <th>top-1<th>ms<th>kept<th>MB kept<th>clamped</tr>"
            .to_owned();
    for tower in &report.towers {
        let of = precisions.iter().find(|p| p.file == tower.file);
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let figures = worst(tower);
        let figure = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let top1 = report.rankings.iter().find(|r| r.precision == tower.precision && r.engine == tower.engine);
        let ms = timed.iter().find(|t| t.file == tower.file && t.engine == tower.engine);
        let ms = ms.and_then(|t| t.latency.first()).map(|latency| format!("{:.2}", latency.median_ms));
        let clamped: u64 = of.map_or(0, |p| p.clamped.iter().map(|(_, count)| count).sum());
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            escaped(&tower.file),
            tower.precision,
            escaped(&tower.engine),
            figure(of.map(|p| megabytes(p.size))),
            figure(figures.map(|f| format!("{:.7}", f.0))),
            figure(figures.map(|f| format!("{:.7}", f.1))),
            figure(figures.map(|f| format!("{:.1e}", f.2))),
            figure(top1.map(|r| format!("{:.0} %", r.top1_agreement * 100.0))),
            figure(ms),
            figure(of.map(|p| p.kept.to_string())),
            figure(of.map(|p| megabytes(p.kept_bytes))),
            clamped
        );
    }
    out + "</table></div>"
}

fn colour(precision: &str) -> &'static str {
    let at = Precision::ALL.iter().position(|p| p.name() == precision).unwrap_or(0);
    COLOURS[at % COLOURS.len()]
}

/// Size along, distance of the least cosine from 1 up, as a logarithm.
fn scatter(report: &Report, precisions: &[PrecisionReport], tower: &str) -> String {
    const SIZE: [f64; 2] = [460.0, 300.0];
    let points: Vec<(&str, &str, f64, f64)> = report
        .towers
        .iter()
        .filter(|t| t.tower == tower)
        .filter_map(|t| {
            let size = precisions.iter().find(|p| p.file == t.file)?.size;
            let distance = (1.0 - worst(t)?.0).clamp(1e-8, 1.0);
            Some((t.precision, t.engine.as_str(), size as f64 / 1e6, distance.log10()))
        })
        .collect();
    let most = points.iter().map(|p| p.2).fold(1e-3, f64::max) * 1.15;
    let x = |megabytes: f64| 50.0 + megabytes / most * (SIZE[0] - 70.0);
    let y = |log: f64| 20.0 + -log / 8.0 * (SIZE[1] - 60.0);
    let mut out = format!(
        "<figure><figcaption>{tower} tower</figcaption><svg width={0} height={1} viewBox=\"0 0 {0} {1}\" role=img>",
        SIZE[0], SIZE[1]
    );
    for log in 0..=8 {
        let at = y(-f64::from(log));
        let _ = write!(
            out,
            "<line x1=50 x2={} y1={at:.1} y2={at:.1} stroke=#e3e6ea /><text x=44 y={:.1} text-anchor=end>{}</text>",
            SIZE[0] - 10.0,
            at + 4.0,
            if log == 0 { "1".to_owned() } else { format!("1e-{log}") }
        );
    }
    for part in 0..=4 {
        let megabytes = most * f64::from(part) / 4.0;
        let _ =
            write!(out, "<text x={:.1} y={} text-anchor=middle>{megabytes:.0}</text>", x(megabytes), SIZE[1] - 24.0);
    }
    let _ = write!(
        out,
        "<text x={} y={} text-anchor=middle>MB</text><text x=8 y=12>1 − cosine</text>",
        SIZE[0] / 2.0,
        SIZE[1] - 6.0
    );
    let mut labelled: Vec<(f64, f64)> = Vec::new();
    for (precision, engine, megabytes, log) in points {
        let (x, y) = (x(megabytes), y(log));
        let _ = write!(
            out,
            "<circle cx={x:.1} cy={y:.1} r=5 fill={} fill-opacity=.8><title>{precision}, {}</title></circle>",
            colour(precision),
            escaped(engine)
        );
        // Engines that agree share a label.
        if !labelled.iter().any(|at| (at.0 - x).abs() < 4.0 && (at.1 - y).abs() < 11.0) {
            let _ = write!(out, "<text x={:.1} y={:.1}>{precision}</text>", x + 8.0, y + 4.0);
            labelled.push((x, y));
        }
    }
    out + "</svg></figure>"
}

/// A bar a layer, in order.
fn bars(report: &PrecisionReport) -> String {
    const HEIGHT: f64 = 150.0;
    let most = report.layers.iter().map(|l| l.error).fold(1e-9, f64::max);
    let width = (900.0 / report.layers.len().max(1) as f64).clamp(3.0, 16.0);
    let total = 60.0 + width * report.layers.len() as f64;
    let mut out = format!(
        "<h3>{}, {}: {} kept</h3><div class=wide><svg width={total:.0} height={height} viewBox=\"0 0 {total:.0} {height}\" role=img>",
        escaped(&report.file),
        report.precision,
        report.kept,
        height = HEIGHT + 30.0,
    );
    for part in 0..=2 {
        let at = 10.0 + HEIGHT * (1.0 - f64::from(part) / 2.0);
        let _ = write!(
            out,
            "<line x1=48 x2={total:.0} y1={at:.1} y2={at:.1} stroke=#e3e6ea /><text x=44 y={:.1} text-anchor=end>{:.1} %</text>",
            at + 4.0,
            most * f64::from(part) / 2.0 * 100.0
        );
    }
    for (at, layer) in report.layers.iter().enumerate() {
        let height = layer.error / most * HEIGHT;
        let fill = if layer.kept.is_some() { "none" } else { colour(report.precision) };
        let _ = write!(
            out,
            "<rect x={:.1} y={:.1} width={:.1} height={height:.1} fill={fill} stroke={}><title>{} ({}): {:.2} %{}</title></rect>",
            50.0 + width * at as f64,
            10.0 + HEIGHT - height,
            width - 1.5,
            colour(report.precision),
            escaped(&layer.name),
            layer.stored,
            layer.error * 100.0,
            match (layer.kept, layer.apart) {
                (Some(why), _) => format!(", kept: {why}"),
                (None, 0) => String::new(),
                (None, apart) => format!(", {apart} channels apart"),
            }
        );
    }
    let _ = write!(out, "<text x=50 y={}>layers in order; point at one for its name</text>", HEIGHT + 26.0);
    out + "</svg></div>"
}

/// Cosines as shades, the largest of each row framed.
fn matrix(rows: &[Vec<f32>]) -> String {
    const CELL: usize = 38;
    let all = || rows.iter().flatten().copied();
    let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
    let columns = rows.first().map_or(0, Vec::len);
    let (width, height) = (columns * CELL + 2, rows.len() * CELL + 2);
    let mut out = format!("<svg width={width} height={height} viewBox=\"0 0 {width} {height}\" role=img>");
    for (y, row) in rows.iter().enumerate() {
        let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        for (x, &value) in row.iter().enumerate() {
            let shade = if high > low { (value - low) / (high - low) } else { 0.0 };
            let stroke = if best == Some(x) { "#b3261e stroke-width=2" } else { "#fff" };
            let ink = if shade > 0.6 { "#fff" } else { "#1c2330" };
            let _ = write!(
                out,
                "<rect x={} y={} width={CELL} height={CELL} fill=#2f6fde fill-opacity={shade:.2} stroke={stroke} />\
                 <text x={} y={} text-anchor=middle style=\"fill:{ink}\">{value:.2}</text>",
                x * CELL + 1,
                y * CELL + 1,
                x * CELL + CELL / 2 + 1,
                y * CELL + CELL / 2 + 5,
            );
        }
    }
    out + "</svg>"
}
