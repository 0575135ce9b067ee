//! `clip-onnx embed` and `clip-onnx classify`: photographs and sentences through an exported folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use clip_onnx::embed::store::Entry;
use clip_onnx::embed::{Embedder, Event, Items, Options, cosine};
use clip_onnx::engine::{Engines, is_tract};
use clip_onnx::modality::Modality;
use clip_onnx::pipeline::{Progress, Template};
use clip_onnx::precision::Precision;

use super::args::EngineArgs;
use super::labels::{labels, lines};
use super::parse::parse_precision;
use super::progress::Bars;

/// Endings of files that are taken from a folder of photographs.
const PHOTOGRAPHS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];

#[derive(Args)]
pub struct TowerArgs {
    /// Folder an export wrote
    pub folder: PathBuf,
    /// Files of this precision. Default: fp32, or the first there is
    #[arg(long, value_name = "NAME", value_parser = parse_precision)]
    pub precision: Option<Precision>,
    /// The model's tokenizer.json, where its vocabulary is not built in (SigLIP) and the folder has none
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Photographs or sentences that are run at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Threads of ONNX Runtime; all cores where nothing is said. tract has one
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Turn and mirror photographs as their orientation tags say. The models' own pipelines do not, and neither is it
    /// done without this
    #[arg(long)]
    pub orient: bool,
    #[command(flatten)]
    pub engines: EngineArgs,
}

impl TowerArgs {
    fn open(&self) -> anyhow::Result<Embedder> {
        // ONNX Runtime where its library is at hand: it is the faster one.
        let engine = Engines::from(self.engines.clone()).open()?.pop().context("--engine names none")?;
        if self.threads.is_some() && is_tract(&*engine) {
            bail!("--threads is for ONNX Runtime, and tract runs on one thread; name its library with --ort-lib");
        }
        let mut options = Options::new(engine);
        options.precision = self.precision;
        options.tokenizer = self.tokenizer.clone();
        options.threads = self.threads;
        options.batch = usize::from(self.batch);
        options.orient = self.orient;
        Ok(Embedder::open(&self.folder, options)?)
    }
}

#[derive(Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    pub towers: TowerArgs,
    /// Photographs: files, folders (with what is in them, however deep), or patterns such as 'photos/*.jpg'
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// Sentences
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub text: Vec<String>,
    /// Sentences from a file in UTF-8, one a line; blank lines are left out
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// File to write: .npy (names in FILE.names.txt), .json or .safetensors. Without it a table is printed.
    /// A run that was stopped goes on where it was: what is done is kept in FILE.partial until the end
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace FILE
    #[arg(long, requires = "out")]
    pub force: bool,
}

#[derive(Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    pub towers: TowerArgs,
    /// Photograph
    pub image: PathBuf,
    /// What it may show. Without any, and without --labels, those that `export --labels` put into the folder
    pub labels: Vec<String>,
    /// What it may show, from a file in UTF-8, one a line; blank lines are left out
    #[arg(long = "labels", value_name = "FILE")]
    pub labels_file: Option<PathBuf>,
    /// Sentence around each label, with {} in its place. Default: 'a photo of a {}'
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Embeds; false when something was skipped.
///
/// # Errors
/// Whatever keeps all of it from being done.
pub fn embed(args: EmbedArgs, bars: &Bars, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut notes = Vec::new();
    let images = photographs(&args.image, &mut notes)?;
    let mut sentences = args.text.clone();
    if let Some(file) = &args.texts {
        sentences.extend(lines(file)?);
    }
    if images.is_empty() && sentences.is_empty() {
        bail!("there is nothing to embed: name photographs with --image or sentences with --text");
    }
    let embedder = args.towers.open()?;
    let (photographs, items) = (images.len(), Items::new(images, sentences));
    let mut watch = |event: Event| match event {
        Event::Resumed { done, of } => bars.warn(&format!("{done} of {of} are done by an earlier run")),
        Event::Started { modality: Modality::Image, count } => bars.count("photographs", count),
        Event::Started { modality: Modality::Text, count } => bars.count("sentences", count),
        Event::Skipped(error) => {
            bars.advance(1);
            bars.warn(&format!("skipped: {error}"));
        }
        _ => bars.advance(1),
    };
    let embedded = match &args.out {
        Some(path) => embedder.embed_into(path, args.force, &items, &mut watch)?,
        None => embedder.embed(&items, &mut watch)?,
    };
    notes.extend(tell_turned(embedded.turned, photographs));
    tell_cut(embedded.cut, bars);
    bars.finish();
    notes.iter().for_each(|note| bars.warn(note));
    match &args.out {
        Some(path) => super::printed(writeln!(out, "{} embeddings in {}", embedded.count, path.display())),
        None => super::printed(table(out, &embedded.entries)),
    }
    Ok(embedded.skipped == 0)
}

/// Photographs by sentences where there are both, else the first numbers of each.
fn table(out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    let (images, texts): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| entry.modality == Modality::Image);
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0).min(48);
    if images.is_empty() || texts.is_empty() {
        for entry in entries {
            let first: Vec<String> = entry.embedding.iter().take(6).map(|v| format!("{v:9.5}")).collect();
            writeln!(out, "{:width$}  {} …  [{}]", entry.name, first.join(" "), entry.embedding.len())?;
        }
        return Ok(());
    }
    writeln!(out, "cosine of")?;
    for image in images {
        for text in &texts {
            let cosine = cosine(&image.embedding, &text.embedding);
            writeln!(out, "{:width$}  {:width$}  {cosine:8.5}", image.name, text.name)?;
        }
    }
    Ok(())
}

/// Classifies one photograph.
///
/// # Errors
/// Whatever keeps it from being done.
pub fn classify(args: ClassifyArgs, bars: &Bars, out: &mut impl Write) -> anyhow::Result<()> {
    let embedder = args.towers.open()?;
    let (labels, probabilities) = if args.labels.is_empty() && args.labels_file.is_none() {
        if args.template.is_some() && embedder.has_labels() {
            bail!("the labels in {} have their sentences; leave out --template", args.towers.folder.display());
        }
        bars.say("photograph");
        let (labels, probabilities, turned) = embedder.classify(&args.image)?;
        tell_turned(usize::from(turned), 1).iter().for_each(|note| bars.warn(note));
        (labels, probabilities)
    } else {
        let labels = labels(args.labels.clone(), args.labels_file.as_deref(), &|message| bars.warn(message))?;
        let template = Template::new(args.template.as_deref().unwrap_or(Template::DEFAULT))?;
        let sentences: Vec<String> = labels.iter().map(|label| template.filled(label)).collect();
        let probabilities = of_sentences(&args.image, &sentences, &embedder, bars)?;
        (labels, probabilities)
    };
    bars.finish();
    let mut ranked: Vec<(&String, f64)> = labels.iter().zip(probabilities).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    if args.json {
        let list: Vec<_> =
            ranked.iter().map(|(label, p)| serde_json::json!({"label": label, "probability": p})).collect();
        super::printed(writeln!(out, "{}", serde_json::to_string_pretty(&list)?));
        return Ok(());
    }
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).min(40);
    for (label, probability) in ranked {
        let bar = "█".repeat((probability * 40.0).round() as usize);
        super::printed(writeln!(out, "{label:width$}  {probability:9.6}  {bar}"));
    }
    Ok(())
}

/// How likely each sentence is, by the folder's towers.
fn of_sentences(photo: &PathBuf, sentences: &[String], embedder: &Embedder, bars: &Bars) -> anyhow::Result<Vec<f64>> {
    bars.say("sentences");
    let mut texts = Vec::new();
    let cut = embedder.texts(sentences, |_, found| {
        texts.push(found?);
        Ok(())
    })?;
    tell_cut(cut, bars);
    bars.say("photograph");
    let mut image = Vec::new();
    let turned = embedder.images(std::slice::from_ref(photo), |_, found| {
        image = found?;
        Ok(())
    })?;
    tell_turned(turned, 1).iter().for_each(|note| bars.warn(note));
    Ok(embedder.probabilities(&image, &texts)?)
}

/// The note on photographs with an orientation tag that was not followed.
fn tell_turned(turned: usize, of: usize) -> Option<String> {
    let some = if of == 1 { "the photograph has".to_owned() } else { format!("{turned} of the photographs have") };
    (turned > 0).then(|| {
        format!(
            "{some} an orientation tag, which is not followed, as in the models' own pipelines; --orient follows it"
        )
    })
}

fn tell_cut(cut: usize, bars: &Bars) {
    if cut > 0 {
        bars.warn(&format!(
            "{cut} of the sentences {} than the model reads, and cut",
            if cut == 1 { "is longer" } else { "are longer" }
        ));
    }
}

/// Files that are named, those in folders, and those that patterns match; each kind in order of names. What of folders
/// is left out goes to `notes`.
fn photographs(named: &[PathBuf], notes: &mut Vec<String>) -> anyhow::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for path in named {
        let text = path.display().to_string();
        if path.is_dir() {
            let before = out.len();
            let others = walk(path, &mut out)?;
            if out.len() == before {
                bail!("{text} holds no photograph ({})", PHOTOGRAPHS.join(", "));
            }
            if others > 0 {
                let endings = PHOTOGRAPHS.join(", ");
                notes.push(format!(
                    "files in {text} that are left out, as their names end in none of {endings}: {others}"
                ));
            }
        } else if !path.exists() && text.contains(['*', '?', '[']) {
            let before = out.len();
            let found = glob::glob(&text).with_context(|| format!("`{text}` is no pattern"))?;
            out.extend(found.filter_map(Result::ok).filter(|path| path.is_file()));
            if out.len() == before {
                bail!("`{text}` matches no file");
            }
        } else {
            // One that is missing is reported when its turn comes, with what can be done.
            out.push(path.clone());
        }
    }
    Ok(out)
}

/// Takes what is in a folder; how many files are no photographs by their names.
fn walk(folder: &Path, out: &mut Vec<PathBuf>) -> anyhow::Result<usize> {
    let mut others = 0;
    let failed = |e: io::Error| anyhow::anyhow!("{} cannot be read: {e}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>().map_err(failed)?;
    paths.sort();
    for path in paths {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        // A link to a folder may lead back into it.
        if path.is_dir() && !path.is_symlink() {
            others += walk(&path, out)?;
        } else if PHOTOGRAPHS.contains(&ending.as_str()) {
            out.push(path);
        } else {
            others += 1;
        }
    }
    Ok(others)
}
