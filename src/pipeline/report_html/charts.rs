//! What the report draws, as SVG.

use std::fmt::Write;

use super::{PrecisionReport, escaped, worst};
use crate::modality::Modality;
use crate::precision::Precision;
use crate::verify::Report;

/// The variable of a precision's colour.
fn colour(precision: &str) -> String {
    let at = Precision::ALL.iter().position(|p| p.name() == precision).unwrap_or(0);
    format!("var(--p{at})")
}

/// Engines in the order of the report, which have a mark each.
fn names(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for tower in &report.towers {
        if !names.contains(&tower.engine.as_str()) {
            names.push(&tower.engine);
        }
    }
    names
}

/// A circle for the first engine, a square for the second, a diamond for others.
fn mark(engine: usize, [x, y]: [f64; 2], fill: &str, title: &str) -> String {
    let title = format!("<title>{}</title>", escaped(title));
    match engine {
        0 => format!("<circle cx={x:.1} cy={y:.1} r=5 style=\"fill:{fill}\">{title}</circle>"),
        1 => format!("<rect x={:.1} y={:.1} width=9 height=9 style=\"fill:{fill}\">{title}</rect>", x - 4.5, y - 4.5),
        _ => format!("<path d=\"M{x:.1} {:.1}l6 6-6 6-6-6z\" style=\"fill:{fill}\">{title}</path>", y - 6.0),
    }
}

/// Which mark is which engine.
pub fn engines(report: &Report) -> String {
    let key = |(at, name): (usize, &&str)| {
        let mark = mark(at, [7.0, 7.0], "var(--ink)", name);
        format!("<span class=key><svg viewBox=\"0 0 14 14\" aria-hidden=true>{mark}</svg>{}</span>", escaped(name))
    };
    format!("<p>{}</p>", names(report).iter().enumerate().map(key).collect::<String>())
}

/// Round numbers from zero to the first that is not below `most`, four to six of them.
fn ticks(most: f64) -> Vec<f64> {
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| most / step <= 5.0).unwrap_or(power);
    let count = (most / step - 1e-9).ceil().max(1.0) as usize;
    (0..=count).map(|n| n as f64 * step).collect()
}

/// A number without zeros behind its point.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Size along, distance of the least cosine from 1 up, as a logarithm; nothing where nothing was compared.
pub fn scatter(report: &Report, precisions: &[PrecisionReport], modality: Modality) -> String {
    const SIZE: [f64; 2] = [460.0, 300.0];
    let engines = names(report);
    let points: Vec<(&str, usize, f64, f64)> = report
        .towers
        .iter()
        .filter(|t| t.modality == modality)
        .filter_map(|t| {
            let size = precisions.iter().find(|p| p.file == t.file)?.size;
            let distance = (1.0 - worst(t)?.0).clamp(1e-8, 1.0);
            let engine = engines.iter().position(|name| *name == t.engine)?;
            Some((t.precision, engine, size as f64 / 1e6, distance.log10()))
        })
        .collect();
    if points.is_empty() {
        return String::new();
    }
    let marks = ticks(points.iter().map(|p| p.2).fold(1e-3, f64::max) * 1.08);
    let most = marks.last().copied().unwrap_or(1.0);
    // Names of precisions stand to the right of the last mark.
    let x = |megabytes: f64| 50.0 + megabytes / most * (SIZE[0] - 130.0);
    let y = |log: f64| 20.0 + -log / 8.0 * (SIZE[1] - 60.0);
    let mut out = format!(
        "<figure><figcaption>{modality} tower</figcaption><svg viewBox=\"0 0 {0} {1}\" role=img aria-label=\"size and accuracy\">",
        SIZE[0], SIZE[1]
    );
    for log in 0..=8 {
        let at = y(-f64::from(log));
        let _ = write!(
            out,
            "<line class=grid x1=50 x2={} y1={at:.1} y2={at:.1} /><text x=44 y={:.1} text-anchor=end>{}</text>",
            SIZE[0] - 10.0,
            at + 4.0,
            if log == 0 { "1".to_owned() } else { format!("1e-{log}") }
        );
    }
    for megabytes in marks {
        let _ = write!(
            out,
            "<text x={:.1} y={} text-anchor=middle>{}</text>",
            x(megabytes),
            SIZE[1] - 24.0,
            short(megabytes)
        );
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
        let _ =
            write!(out, "{}", mark(engine, [x, y], &colour(precision), &format!("{precision}, {}", engines[engine])));
        // Engines that agree share a label.
        if !labelled.iter().any(|at| (at.0 - x).abs() < 4.0 && (at.1 - y).abs() < 11.0) {
            let _ = write!(out, "<text x={:.1} y={:.1}>{precision}</text>", x + 9.0, y + 4.0);
            labelled.push((x, y));
        }
    }
    out + "</svg></figure>"
}

/// A bar a layer, in order.
pub fn bars(report: &PrecisionReport) -> String {
    const SIZE: [f64; 2] = [960.0, 150.0];
    let marks = ticks(report.layers.iter().map(|l| l.error * 100.0).fold(1e-7, f64::max));
    let most = marks.last().copied().unwrap_or(1.0);
    let width = ((SIZE[0] - 60.0) / report.layers.len().max(1) as f64).min(56.0);
    let mut out = format!(
        "<figure class=wide><figcaption>{}, {}: {} of {} layers kept in higher precision</figcaption>\
         <svg viewBox=\"0 0 {} {}\" role=img aria-label=\"error of each layer\">",
        escaped(&report.file),
        report.precision,
        report.kept,
        report.layers.len(),
        SIZE[0],
        SIZE[1] + 30.0
    );
    for mark in marks {
        let at = 10.0 + SIZE[1] * (1.0 - mark / most);
        let _ = write!(
            out,
            "<line class=grid x1=48 x2={} y1={at:.1} y2={at:.1} /><text x=44 y={:.1} text-anchor=end>{} %</text>",
            SIZE[0],
            at + 4.0,
            short(mark)
        );
    }
    let colour = colour(report.precision);
    for (at, layer) in report.layers.iter().enumerate() {
        let height = layer.error * 100.0 / most * SIZE[1];
        let fill = if layer.promoted.is_some() { "none" } else { &colour };
        let _ = write!(
            out,
            "<rect x={:.1} y={:.1} width={:.1} height={height:.1} style=\"fill:{fill};stroke:{colour}\"><title>{} ({}): {:.2} %{}</title></rect>",
            50.0 + width * at as f64,
            10.0 + SIZE[1] - height,
            (width - 1.5).max(0.5),
            escaped(&layer.name),
            layer.stored,
            layer.error * 100.0,
            match (layer.promoted, layer.outlier_channels) {
                (Some(why), _) => format!(", kept: {why}"),
                (None, 0) => String::new(),
                (None, count) => format!(", {count} outlier channels in float"),
            }
        );
    }
    let _ = write!(out, "<text x=50 y={}>layers in order; point at one for its name</text>", SIZE[1] + 26.0);
    out + "</svg></figure>"
}

/// Cosines as shades, the largest of each row framed.
pub fn matrix(rows: &[Vec<f32>], title: &str) -> String {
    const CELL: usize = 38;
    let all = || rows.iter().flatten().copied();
    let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
    let columns = rows.first().map_or(0, Vec::len);
    let (width, height) = (columns * CELL + 2, rows.len() * CELL + 2);
    let mut out = format!(
        "<figure style=\"max-width:{width}px\"><figcaption>{}</figcaption><svg viewBox=\"0 0 {width} {height}\" role=img aria-label=cosines>",
        escaped(title)
    );
    for (y, row) in rows.iter().enumerate() {
        let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        for (x, &value) in row.iter().enumerate() {
            let shade = if high > low { (value - low) / (high - low) } else { 0.0 };
            let class = if best == Some(x) { "cell best" } else { "cell" };
            let _ = write!(
                out,
                "<rect class=\"{class}\" x={} y={} width={} height={} fill-opacity={:.2} /><text x={} y={} text-anchor=middle>{value:.2}</text>",
                x * CELL + 2,
                y * CELL + 2,
                CELL - 2,
                CELL - 2,
                0.08 + 0.5 * shade,
                x * CELL + CELL / 2 + 1,
                y * CELL + CELL / 2 + 5,
            );
        }
    }
    out + "</svg></figure>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_largest() {
        assert_eq!(ticks(0.47), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]);
        assert_eq!(ticks(330.0), [0.0, 100.0, 200.0, 300.0, 400.0]);
        for most in [0.003, 1.0, 7.3, 12.0, 99.0, 1234.0] {
            let ticks = ticks(most);
            assert!((3..=7).contains(&ticks.len()) && *ticks.last().unwrap() >= most * 0.999, "{most}: {ticks:?}");
        }
        assert_eq!(short(0.30000000000000004), "0.3");
    }
}
