//! `clip-onnx classify`: probabilities of labels for photographs, with an exported folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueHint};
use clip_onnx::embed::Embedder;
use clip_onnx::pipeline::{Progress, Template};
use serde::Serialize;

use super::args::OUTPUT;
use super::embedding::{INPUTS, TowerArgs, photographs, tell_cut, tell_turned};
use super::labels::labels;
use super::plain::{self, one_line};
use super::progress::Bars;

#[derive(Args)]
pub struct ClassifyArgs {
    /// Folder of an export
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Photographs: files, folders, or patterns such as 'photos/*.jpg'
    #[arg(value_name = "PHOTO", required = true, value_hint = ValueHint::AnyPath)]
    pub images: Vec<PathBuf>,
    /// Labels, separated by commas [default: those of the folder]
    ///
    /// `export --labels` puts labels into a folder.
    #[arg(long, value_name = "LABEL,LABEL", value_delimiter = ',', help_heading = INPUTS)]
    pub labels: Vec<String>,
    /// Labels from a file in UTF-8, one a line; blank lines are skipped
    #[arg(long, value_name = "FILE", conflicts_with = "labels", help_heading = INPUTS)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub labels_file: Option<PathBuf>,
    /// Sentence around each label, with {} in its place [default: a photo of a {}]
    #[arg(long, value_name = "TEXT", help_heading = INPUTS)]
    pub template: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    #[command(flatten)]
    pub towers: TowerArgs,
}

/// A photograph's labels, the likeliest first.
#[derive(Serialize)]
struct Classified {
    image: PathBuf,
    labels: Vec<Likely>,
}

#[derive(Serialize)]
struct Likely {
    label: String,
    probability: f64,
}

impl Classified {
    fn new(image: &Path, labels: &[String], probabilities: Vec<f64>) -> Classified {
        let labels = labels.iter().cloned().zip(probabilities);
        let mut labels: Vec<Likely> = labels.map(|(label, probability)| Likely { label, probability }).collect();
        labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        Classified { image: image.to_owned(), labels }
    }
}

/// Classifies photographs; false when some could not be read.
///
/// # Errors
/// Whatever keeps all of it from being done.
pub fn classify(
    mut args: ClassifyArgs,
    max_memory: Option<u64>,
    bars: &Bars,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    old_labels(&mut args, bars);
    let mut notes = Vec::new();
    let images = photographs(&args.images, &mut notes)?;
    args.towers.bound(max_memory, &args.folder, images.len() + args.labels.len() + 1)?;
    let embedder = args.towers.open(&args.folder)?;
    let classes = Classes::new(&args, &embedder, bars)?;
    let (mut found, mut skipped, mut turned) = (Vec::new(), 0, 0);
    bars.count("photographs", images.len());
    for image in &images {
        match classes.of(image, &embedder) {
            Ok((one, is_turned)) => {
                found.push(one);
                turned += usize::from(is_turned);
            }
            // The only one: there is nothing else to say.
            Err(error) if images.len() == 1 => return Err(error),
            Err(error) => {
                skipped += 1;
                bars.warn(&format!("skipped: {}", super::error(&error)));
            }
        }
        bars.advance(1);
    }
    notes.extend(tell_turned(turned, images.len()));
    bars.finish();
    notes.iter().for_each(|note| bars.warn(note));
    if found.is_empty() {
        bail!("no photograph could be classified");
    }
    super::shown(if args.json { writeln!(out, "{}", plain::json(&found)?) } else { table(out, &found) })?;
    Ok(skipped == 0)
}

/// Labels behind the photograph, as they were given before `--labels`.
fn old_labels(args: &mut ClassifyArgs, bars: &Bars) {
    let is_photograph = |path: &PathBuf| {
        let text = path.to_string_lossy();
        path.exists() || path.extension().is_some() || text.contains(['/', '*', '?', '['])
    };
    if args.labels.is_empty() && args.labels_file.is_none() {
        let first = args.images.iter().skip(1).position(|path| !is_photograph(path)).map(|at| at + 1);
        if let Some(first) = first {
            let labels = args.images.split_off(first);
            args.labels = labels.iter().map(|label| label.to_string_lossy().into_owned()).collect();
            bars.warn("labels are now named with --labels; labels behind photographs work until the next release");
        }
    }
}

/// What photographs are compared with.
enum Classes {
    /// Labels that are inside a classifier.
    Inside,
    /// Labels, and an embedding of each.
    Texts(Vec<String>, Vec<Vec<f32>>),
}

impl Classes {
    fn new(args: &ClassifyArgs, embedder: &Embedder, bars: &Bars) -> anyhow::Result<Classes> {
        if args.labels.is_empty() && args.labels_file.is_none() {
            if args.template.is_some() && embedder.has_labels() {
                bail!("the labels in {} have their sentences; leave out --template", args.folder.display());
            }
            return Ok(Classes::Inside);
        }
        let labels = labels(args.labels.clone(), args.labels_file.as_deref(), &|message| bars.warn(message))?;
        let template = Template::new(args.template.as_deref().unwrap_or(Template::DEFAULT))?;
        let sentences: Vec<String> = labels.iter().map(|label| template.filled(label)).collect();
        bars.say("sentences");
        let mut texts = Vec::new();
        let cut = embedder.texts(&sentences, |_, found| {
            texts.push(found?);
            Ok(())
        })?;
        tell_cut(cut, bars);
        Ok(Classes::Texts(labels, texts))
    }

    /// The probabilities for a photograph, and whether its orientation tag was ignored.
    fn of(&self, image: &PathBuf, embedder: &Embedder) -> anyhow::Result<(Classified, bool)> {
        match self {
            Classes::Inside => {
                let (labels, probabilities, turned) = embedder.classify(image)?;
                Ok((Classified::new(image, &labels, probabilities), turned))
            }
            Classes::Texts(labels, texts) => {
                let mut embedding = Vec::new();
                let turned = embedder.images(std::slice::from_ref(image), |_, found| {
                    embedding = found?;
                    Ok(())
                })?;
                let probabilities = embedder.probabilities(&embedding, texts)?;
                Ok((Classified::new(image, labels, probabilities), turned > 0))
            }
        }
    }
}

/// A line for each label; above them the photograph where there are several.
fn table(out: &mut impl Write, found: &[Classified]) -> io::Result<()> {
    for Classified { image, labels } in found {
        if found.len() > 1 {
            writeln!(out, "{}", one_line(&image.display().to_string()))?;
        }
        let labels: Vec<(String, f64)> = labels.iter().map(|one| (one_line(&one.label), one.probability)).collect();
        let width = labels.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).min(40);
        let indent = if found.len() > 1 { "  " } else { "" };
        for (label, probability) in labels {
            let bar = "█".repeat((probability * 24.0).round() as usize);
            writeln!(out, "{}", format!("{indent}{label:width$}  {probability:9.6}  {bar}").trim_end())?;
        }
    }
    Ok(())
}
