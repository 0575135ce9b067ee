//! `clip-onnx embed`: embeddings of photographs and sentences, with an exported folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueHint};
use clip_onnx::embed::store::Entry;
use clip_onnx::embed::{Embedder, Event, Items, Options, cosine};
use clip_onnx::engine::{Engines, is_tract};
use clip_onnx::modality::Modality;
use clip_onnx::pipeline::Progress;
use clip_onnx::precision::Precision;

use super::args::{EngineArgs, MODEL, OUTPUT};
use super::labels::lines;
use super::memory::{self, Use};
use super::plain::one_line;
use super::progress::Bars;
use super::values;

pub const INPUTS: &str = "Inputs";
const ENGINE: &str = "Engine";

/// Extensions of files that are read from a folder of photographs.
const PHOTOGRAPHS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];

#[derive(Args)]
pub struct TowerArgs {
    /// Precision of the files to use [default: fp32, or the first there is]
    #[arg(long, value_name = "NAME", help_heading = MODEL, value_parser = values::precision())]
    pub precision: Option<Precision>,
    /// The model's tokenizer.json, where the folder has none
    ///
    /// CLIP's vocabulary is built in.
    #[arg(long, value_name = "FILE", help_heading = MODEL, value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
    /// Photographs or sentences that are run at once
    #[arg(long, value_name = "N", help_heading = ENGINE, default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Threads of ONNX Runtime [default: all cores]
    ///
    /// tract runs on one thread.
    #[arg(long, value_name = "N", help_heading = ENGINE)]
    pub threads: Option<usize>,
    /// Rotate and flip photographs as their orientation tags say
    ///
    /// The models' own pipelines ignore these tags, and so does this command by default.
    #[arg(long, help_heading = INPUTS)]
    pub orient: bool,
    #[command(flatten, next_help_heading = ENGINE)]
    pub engines: EngineArgs,
}

impl TowerArgs {
    /// Bounds the memory of embedding so many items.
    ///
    /// # Errors
    /// As [`memory::bound`].
    pub fn bound(&self, max_memory: Option<u64>, folder: &Path, items: usize) -> anyhow::Result<()> {
        let files = std::iter::once(folder).chain(self.tokenizer.as_deref()).collect();
        memory::bound(max_memory, &Use { files, batch: usize::from(self.batch), items })
    }

    /// The towers of a folder.
    ///
    /// # Errors
    /// When an engine or the folder cannot be used.
    pub fn open(&self, folder: &Path) -> anyhow::Result<Embedder> {
        // ONNX Runtime where its library is available: it is faster.
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
        Ok(Embedder::open(folder, options)?)
    }
}

#[derive(Args)]
pub struct EmbedArgs {
    /// Folder of an export
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
    /// Photographs: files, folders, or patterns such as 'photos/*.jpg'
    ///
    /// Of folders, files in subfolders too.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = INPUTS, value_hint = ValueHint::AnyPath)]
    pub image: Vec<PathBuf>,
    /// Sentences
    #[arg(long, value_name = "TEXT", num_args = 1.., help_heading = INPUTS)]
    pub text: Vec<String>,
    /// Sentences from a file in UTF-8, one a line; blank lines are skipped
    #[arg(long, value_name = "FILE", help_heading = INPUTS, value_hint = ValueHint::FilePath)]
    pub texts: Option<PathBuf>,
    /// File to write: .npy, .json or .safetensors [default: print a table]
    ///
    /// Beside .npy, names go to FILE.names.txt. A run that was interrupted continues: finished embeddings
    /// are kept in FILE.partial until the end.
    #[arg(long, short, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long, requires = "out", help_heading = OUTPUT)]
    pub force: bool,
    #[command(flatten)]
    pub towers: TowerArgs,
}

/// Embeds; false when something was skipped.
///
/// # Errors
/// Whatever keeps all of it from being done.
pub fn embed(args: EmbedArgs, max_memory: Option<u64>, bars: &Bars, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut notes = Vec::new();
    let images = photographs(&args.image, &mut notes)?;
    let mut sentences = args.text.clone();
    if let Some(file) = &args.texts {
        sentences.extend(lines(file)?);
    }
    if images.is_empty() && sentences.is_empty() {
        bail!("there is nothing to embed; name photographs with --image or sentences with --text or --texts");
    }
    args.towers.bound(max_memory, &args.folder, images.len() + sentences.len())?;
    let embedder = args.towers.open(&args.folder)?;
    let (photographs, items) = (images.len(), Items::new(images, sentences));
    let mut watch = |event: Event| match event {
        Event::Leftover(leftover) => bars.warn(&leftover.to_string()),
        Event::Resumed { done, of } => bars.warn(&format!("{done} of {of} were done by an earlier run")),
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
        None => super::shown(table(out, &embedded.entries))?,
    }
    Ok(embedded.skipped == 0)
}

/// Photographs by sentences where there are both, else the first numbers of each.
fn table(out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    let shown = |entry: &Entry| one_line(&entry.name);
    let (images, texts): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| entry.modality == Modality::Image);
    let width = entries.iter().map(|entry| shown(entry).chars().count()).max().unwrap_or(0).min(48);
    if images.is_empty() || texts.is_empty() {
        for entry in entries {
            let first: Vec<String> = entry.embedding.iter().take(6).map(|v| format!("{v:9.5}")).collect();
            writeln!(out, "{:width$}  {} …  [{}]", shown(entry), first.join(" "), entry.embedding.len())?;
        }
        return Ok(());
    }
    writeln!(out, "cosine of")?;
    for image in images {
        for text in &texts {
            let cosine = cosine(&image.embedding, &text.embedding);
            writeln!(out, "{:width$}  {:width$}  {cosine:8.5}", shown(image), shown(text))?;
        }
    }
    Ok(())
}

/// The note on photographs with an orientation tag that was not followed.
pub fn tell_turned(turned: usize, of: usize) -> Option<String> {
    let some = if of == 1 {
        "the photograph has".to_owned()
    } else if turned == 1 {
        format!("1 of {of} photographs has")
    } else {
        format!("{turned} of {of} photographs have")
    };
    (turned > 0).then(|| {
        format!("{some} an orientation tag, which is ignored as in the models' own pipelines; --orient follows it")
    })
}

/// Notes that sentences were cut.
pub fn tell_cut(cut: usize, bars: &Bars) {
    if cut > 0 {
        bars.warn(&format!(
            "{cut} {} than the model's context, and cut",
            if cut == 1 { "sentence is longer" } else { "sentences are longer" }
        ));
    }
}

/// Files that are named, those in folders, and those that patterns match; each kind in order of names. Skipped files of
/// folders are counted in `notes`.
///
/// # Errors
/// When a folder cannot be read or has no photograph, or a pattern matches nothing.
pub fn photographs(named: &[PathBuf], notes: &mut Vec<String>) -> anyhow::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for path in named {
        let text = path.display().to_string();
        if path.is_dir() {
            let before = out.len();
            let others = walk(path, &mut out)?;
            if out.len() == before {
                bail!("{text} has no file that ends in {}", PHOTOGRAPHS.join(", "));
            }
            if others > 0 {
                let endings = PHOTOGRAPHS.join(", ");
                let files = if others == 1 { "1 file is" } else { &format!("{others} files are") };
                notes.push(format!("{text}: {files} skipped, whose extension is none of {endings}"));
            }
        } else if !path.exists() && text.contains(['*', '?', '[']) {
            let before = out.len();
            let found = glob::glob(&text).with_context(|| format!("`{text}` is not a pattern"))?;
            out.extend(found.filter_map(Result::ok).filter(|path| path.is_file()));
            if out.len() == before {
                bail!("`{text}` matches no file");
            }
        } else {
            // One that is missing is reported when it is read.
            out.push(path.clone());
        }
    }
    Ok(out)
}

/// Adds the photographs of a folder and its subfolders; gives the number of other files.
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
