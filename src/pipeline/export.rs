//! `clip-onnx export`: checkpoint → folder of ONNX files, verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::describe::{Measured, SOURCE_SHA256, file_name, image_metadata, manifest, metadata, pretty, text_metadata};
use super::digest::Digest;
use super::narrow::{Narrowing, PrecisionReport, Scratch};
use super::page::page;
use super::select::{Choice, Selected};
use super::{Built, Error, Loaded, Progress, load};
use crate::bench;
use crate::checkpoint::hex;
use crate::config::{ModelConfig, VisionCfg};
use crate::onnx::Target;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, weight_bytes, write};
use crate::package::hf;
use crate::package::layout::Layout;
use crate::package::{Folder, MANIFEST, PAGE, REPORT};
use crate::params::Params;
use crate::precision::{self, Narrowed, Precision};
use crate::tokenize::{self, Tokenizer};
use crate::towers::{self, Build, Pixels, Ports};
use crate::verify::{self, Engine, Engines, Report};

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Export {
    pub checkpoint: PathBuf,
    /// The folder to write.
    pub out: PathBuf,
    /// Replace a folder that is there.
    pub force: bool,
    pub choice: Choice,
    /// Height and width to build for instead of the model's own.
    pub image_size: Option<[usize; 2]>,
    /// Whose folder it is; names of inputs and outputs are [`Build::ports`].
    pub layout: Layout,
    /// The model's `tokenizer.json`, to go with the towers.
    pub tokenizer: Option<PathBuf>,
    /// Token ids as int32, or as int64; as the layout has them where nothing is said.
    pub int32_tokens: Option<bool>,
    /// How images come; as the layout has them where nothing is said.
    pub pixels: Option<Pixels>,
    /// How the towers are written down.
    pub build: Build,
    /// Each tower is written once in each of these.
    pub precisions: Vec<Precision>,
    /// How precisions other than float32 are made.
    pub narrowing: precision::Options,
    /// Inputs to measure activations and losses with, of the form of a reference.
    pub calibrate: Option<PathBuf>,
    /// How far cosines may fall below 1 in other precisions; layers are kept from them until it holds.
    pub max_drop: Option<f64>,
    pub external_data: ExternalData,
    /// Work out the SHA-256 of the checkpoint and of every file, and check the checkpoint's own sums.
    pub hash: bool,
    /// Load and run what was written.
    pub verify: bool,
    /// Time it too.
    pub bench: bool,
    /// What to run it with.
    pub engines: Engines,
    pub reference: Option<PathBuf>,
    pub batches: Vec<usize>,
}

impl Export {
    /// With the names and types that the layout has for a model of this family.
    fn laid_out(&self, config: &ModelConfig) -> Result<Export, Error> {
        let refused = |what: String, way_out: &str| {
            let path = self.checkpoint.display().to_string();
            Err(Error::Unsupported { path, what, way_out: way_out.to_owned() })
        };
        let (layout, model) = (self.layout.name(), &config.model);
        let mut request = self.clone();
        let build = &mut request.build;
        build.ports = self.layout.ports(config.family);
        build.batch = build.rows();
        // What the user can leave out to have axes free.
        let fixed = if self.build.batch.is_some() { "--static" } else { "--target" };
        let of_target = self.layout == Layout::Plain && build.target.profile.int32_tokens;
        build.ports.int32 = self.int32_tokens.unwrap_or(build.ports.int32 || of_target);
        build.normalize = self.layout.normalizes().unwrap_or(build.normalize);
        if let Some(pixels) = self.pixels.filter(|pixels| *pixels != build.ports.pixels) {
            if self.layout != Layout::Plain {
                let takes = build.ports.pixels.name();
                return refused(
                    format!("{layout} feeds {takes} images, of one size"),
                    "leave out --image and --resize, or take another --layout",
                );
            }
            build.ports.pixels = pixels;
        }
        if let (Pixels::Bytes { alpha, resize, .. }, Some(_)) = (&mut build.ports.pixels, build.batch) {
            // Every axis is fixed then.
            *alpha = false;
            if *resize {
                return refused(
                    format!("{fixed} fixes every axis, and --resize leaves height and width free"),
                    "leave out one of them",
                );
            }
        }
        if build.ports.pixels.resizes() && !build.target.can_resize() {
            return refused(
                format!("opset {} has no resizing that averages", build.target.opset),
                "take --opset 18 or a later one",
            );
        }
        if matches!(config.vision_cfg, VisionCfg::NaflexVit(_)) {
            let frozen = "freeze it with --image-size";
            if self.layout != Layout::Plain {
                let what = format!("{model} takes patches, mask and places, which {layout} does not make");
                return refused(what, &format!("{frozen}, or take another --layout"));
            }
            if build.batch.is_some() {
                let what = format!("{model} takes any number of patches, whatever the batch");
                let other = if fixed == "--static" { "leave out --static" } else { "take another --target" };
                return refused(what, &format!("{frozen}, or {other}"));
            }
            if build.ports.pixels != Pixels::Float {
                let what = format!("{model} takes patches, no pictures");
                return refused(what, &format!("{frozen}, or leave out --image and --resize"));
            }
        }
        Ok(request)
    }

    /// Whether something has to be run before files are written.
    pub(super) fn measures(&self) -> bool {
        self.calibrate.is_some() || self.max_drop.is_some()
    }

    /// Where weights go: a target may want them beside the model always.
    pub(super) fn external(&self) -> ExternalData {
        if self.build.target.profile.external_data { ExternalData::Always } else { self.external_data }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Exported {
    pub selected: Selected,
    /// Whether embeddings are normalised inside.
    pub normalized: bool,
    pub files: Vec<Written>,
    /// Of precisions other than float32.
    pub precisions: Vec<PrecisionReport>,
    /// None when no verification was asked for.
    pub report: Option<Report>,
}

/// `report.json`.
#[derive(Serialize)]
struct WholeReport<'a> {
    #[serde(flatten)]
    verification: &'a Report,
    precisions: &'a [PrecisionReport],
    /// Where it was asked for.
    #[serde(skip_serializing_if = "<[bench::Measured]>::is_empty")]
    timed: &'a [bench::Measured],
}

/// Exports a checkpoint. The folder is there in the end, or it is not; a verification that fails
/// leaves it, with `passed: false` in its report.
///
/// # Errors
/// See [`Error`]; nothing is then left behind.
pub fn export(request: &Export, progress: &dyn Progress) -> Result<Exported, Error> {
    let path = &request.checkpoint;
    let folder = Folder::create(&request.out, request.force)?;
    let engines = if request.verify || request.measures() { request.engines.open()? } else { vec![] };
    for file in request.reference.iter().chain(&request.calibrate) {
        // Read again when it is needed; a wrong one should not cost an export.
        verify::Reference::read(file)?;
    }
    let loaded = load(path, &request.choice, request.image_size, folder.path(), progress)?;
    let request = &request.laid_out(&loaded.selected.config)?;
    takes_dynamic_text(request, &loaded.selected.config)?;
    let beside = beside(request, &loaded.selected.config, &folder, progress)?;
    let mut digest = request.hash.then(|| Digest::start(&loaded.checkpoint));
    let Built { image, text, logits } = loaded.build(&request.build)?;
    let Loaded { checkpoint, params, selected } = loaded;
    let config = &selected.config;
    let mut metadata = metadata(request, config, &checkpoint, &logits);
    let (mut files, mut precisions, mut baselines) = (Vec::new(), Vec::new(), Vec::new());
    let mut measured = Measured::default();
    for (graph, own) in [(image, image_metadata(config, request.build.ports.pixels)), (text, text_metadata(config))] {
        metadata.iter().chain(&own).for_each(|(key, value)| graph.set_metadata(key, value));
        let mut narrowing = Narrowing::new(request, graph.into_parts(), &engines, folder.path())?;
        for &precision in &request.precisions {
            let (parts, narrowed) = narrowing.parts(precision, progress)?;
            let name = format!("{}{}.onnx", parts.name, precision.suffix());
            progress.start(&format!("writing {name}"), Some(weight_bytes(&parts)));
            let options = Options { external: request.external(), hash: request.hash };
            let seal = |metadata: &mut _| sealed(metadata, digest.as_mut());
            let written = write(&parts, &folder.path().join(&name), options, seal, &|n| progress.advance(n));
            let written = written.map_err(|error| match error {
                Error::Write(source) => not_written(request, &name, source),
                other => other,
            })?;
            told(&narrowed, &name, request, progress);
            precisions.push(PrecisionReport::new(precision, &narrowed, &written));
            files.extend(written);
        }
        measured = narrowing.measured();
        if request.verify && !request.precisions.contains(&Precision::Fp32) && request.reference.is_none() {
            baselines.push(narrowing.baseline(folder.path())?);
        }
    }
    if request.verify && request.build.ports.pixels != Pixels::Float {
        baselines.insert(0, fed_floats(request, config, &params, folder.path())?);
    }
    sealed(&mut metadata, digest.as_mut())?;
    folder.write(MANIFEST, &manifest(request, config, &metadata, (&files, &beside), &measured))?;
    let stand_ins = if engines.iter().any(Engine::is_tract) {
        stand_ins(request, config, &params, (&engines, folder.path()), progress)?
    } else {
        vec![]
    };
    // What was read is not needed to prove what was written: let go of the mapped file.
    drop((params, checkpoint));

    let (mut report, bench) = (None, request.bench);
    if request.verify {
        let models = files.iter().map(|f| f.path.clone()).filter(|p| p.extension().is_some_and(|e| e == "onnx"));
        let request = verify::Request {
            models: models.collect(),
            engines,
            stand_ins: stand_ins.iter().map(|s| (folder.path().join(file_name(&s.path)), s.path.clone())).collect(),
            baselines: baselines.iter().map(|baseline| baseline.path.clone()).collect(),
            max_drop: request.max_drop,
            notes: stand_ins.iter().take(1).map(|_| STAND_IN.to_owned()).collect(),
            reference: request.reference.clone(),
            batches: request.batches.clone(),
            shown_in: Some(request.out.clone()),
        };
        let outcome = verify::verify(&request, &|what| progress.start(what, None))?;
        let timed = if bench { timed(&request, progress) } else { vec![] };
        let whole = WholeReport { verification: &outcome, precisions: &precisions, timed: &timed };
        folder.write(REPORT, &pretty(&whole))?;
        folder.write(PAGE, &page(&config.model, &outcome, &precisions, &timed))?;
        report = Some(outcome);
    }
    drop((stand_ins, baselines));
    for file in &mut files {
        let name = file_name(&file.path);
        let place = request.layout.place(&name);
        folder.place(&name, &place)?;
        file.path = request.out.join(place);
    }
    folder.commit()?;
    Ok(Exported { selected, normalized: request.build.normalize, files, precisions, report })
}

/// Writes what stands beside the towers; gives it with its size and, where sums are asked for, its sum.
fn beside(
    request: &Export,
    config: &ModelConfig,
    folder: &Folder,
    progress: &dyn Progress,
) -> Result<Vec<Written>, Error> {
    let mut files: Vec<(PathBuf, String)> =
        request.layout.files(config).into_iter().map(|(path, json)| (path, pretty(&json))).collect();
    if let Some(place) = request.layout.tokenizer_folder() {
        let carried = request.tokenizer.is_some() || (request.layout != Layout::Plain && tokenize::built_in(config));
        if carried {
            let tokenizer = Tokenizer::new(config, request.tokenizer.as_deref())?;
            let place = Path::new(place);
            files.push((place.join("tokenizer.json"), tokenize::json(request.tokenizer.as_deref())?));
            let [own, special] = hf::tokenizer(config, |id| tokenizer.token(id));
            files.push((place.join("tokenizer_config.json"), pretty(&own)));
            files.push((place.join("special_tokens_map.json"), pretty(&special)));
        } else if request.layout != Layout::Plain {
            progress.warn(&format!(
                "{} has a vocabulary that is not built in: the folder lacks its tokenizer; add one with --tokenizer tokenizer.json",
                config.model
            ));
        }
    }
    let mut out = Vec::new();
    for (path, text) in files {
        folder.write(&path, &text)?;
        let sha256 = request.hash.then(|| hex(&<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())));
        out.push(Written { path, size: text.len() as u64, sha256 });
    }
    Ok(out)
}

/// What the user should know of a file.
fn told(narrowed: &Narrowed, name: &str, request: &Export, progress: &dyn Progress) {
    for (weight, count) in narrowed.clamped() {
        progress.warn(&format!("{name}: {count} numbers of `{weight}` are beyond float16 and became its largest"));
    }
    for pattern in &request.narrowing.keep {
        let kept = narrowed.layers.iter().any(|layer| layer.name.contains(pattern.as_str()));
        if !narrowed.layers.is_empty() && !kept {
            progress.warn(&format!("{name}: no layer's name holds `{pattern}` of --keep; report.json lists them"));
        }
    }
}

/// One item at a time on one thread, every file with every engine that runs it.
fn timed(request: &verify::Request, progress: &dyn Progress) -> Vec<bench::Measured> {
    let mut out = Vec::new();
    for (model, engine) in request.models.iter().flat_map(|model| request.engines.iter().map(move |e| (model, e))) {
        progress.start(&format!("timing {} with {}", file_name(model), engine.name()), None);
        let request = bench::Request {
            model: model.clone(),
            engine: engine.clone(),
            threads: 1,
            batches: vec![1],
            rounds: 10,
            tokens: None,
        };
        // What an engine cannot run is in the verification.
        out.extend(bench::measure(&request).ok().map(|measured| bench::Measured {
            file: file_name(model),
            // That of this process, which has done other things.
            peak_memory: None,
            ..measured
        }));
    }
    out
}

/// The image tower as it is fed floats, for one that is fed bytes to be compared with.
fn fed_floats(request: &Export, config: &ModelConfig, params: &Params, folder: &Path) -> Result<Scratch, Error> {
    let ports = Ports { pixels: Pixels::Float, ..request.build.ports };
    let build = Build { ports, target: Target::default(), ..request.build };
    let graph = towers::image(config, params, &build).map_err(|source| Error::params(&request.checkpoint, source))?;
    image_metadata(config, Pixels::Float).iter().for_each(|(key, value)| graph.set_metadata(key, value));
    graph.set_metadata("normalized", request.build.normalize.to_string());
    Scratch::write(request, &graph.into_parts(), "vision_model.onnx", folder)
}

/// Puts the checkpoint's digest, which takes as long as a file does, in its place.
fn sealed(metadata: &mut BTreeMap<String, String>, digest: Option<&mut Digest>) -> Result<(), Error> {
    if let Some(digest) = digest {
        metadata.insert(SOURCE_SHA256.to_owned(), digest.get()?.to_owned());
    }
    Ok(())
}

/// What kept a file of the folder from being written, by the names the user knows.
pub(super) fn not_written(request: &Export, name: &str, source: WriteError) -> Error {
    match source {
        WriteError::Tensor(source) => Error::Tensor { path: request.checkpoint.display().to_string(), source },
        WriteError::Io { source, .. } => Error::Write(WriteError::io(&request.out.join(name), 0, source)),
        WriteError::NoSpace { size, .. } => {
            Error::Write(WriteError::NoSpace { path: request.out.join(name).display().to_string(), size })
        }
    }
}

/// Text of any length makes sense where what stands behind the pooled place is not looked at.
fn takes_dynamic_text(request: &Export, config: &ModelConfig) -> Result<(), Error> {
    if !request.build.dynamic_text || config.text_cfg.ends_where_pooled() {
        return Ok(());
    }
    Err(Error::Unsupported {
        path: request.checkpoint.display().to_string(),
        what: format!(
            "{} attends to padding or pools it, so its texts have to be {} long",
            config.model, config.text_cfg.context_length
        ),
        way_out: "leave out --dynamic-text".to_owned(),
    })
}

const STAND_IN: &str = "text cut at the batch's last end token, and int4 products beside Attention, are nothing tract can run: it ran the same towers without the cut, in the portable spelling, in their place; the files themselves are for ONNX Runtime to run";

/// Towers as tract can run them: without the cut of texts at the batch's last end token, whose length
/// depends on data; and int4 products beside decomposed attention, since tract gives wrong numbers for
/// those with float32 scales beside `Attention`, from the second row on.
fn stand_ins(
    request: &Export,
    config: &ModelConfig,
    params: &Params,
    (engines, folder): (&[Engine], &Path),
    progress: &dyn Progress,
) -> Result<Vec<Scratch>, Error> {
    let (cut, target) = (request.build.cuts_text(&config.text_cfg), request.build.target);
    let wrong = |source| Error::params(&request.checkpoint, source);
    let mut out = Vec::new();
    for &precision in &request.precisions {
        let respelled = precision == Precision::Int4 && target.has_attention();
        let target = if respelled { Target::default() } else { target };
        let build = Build { text_cut: false, target, ..request.build };
        let text = (cut || respelled).then(|| towers::text(config, params, &build)).transpose().map_err(wrong)?;
        let image = respelled.then(|| towers::image(config, params, &build)).transpose().map_err(wrong)?;
        for (graph, own) in [(image, image_metadata(config, request.build.ports.pixels)), (text, text_metadata(config))]
        {
            let Some(graph) = graph else { continue };
            own.iter().for_each(|(key, value)| graph.set_metadata(key, value));
            graph.set_metadata("normalized", request.build.normalize.to_string());
            let mut narrowing = Narrowing::new(request, graph.into_parts(), engines, folder)?;
            let (parts, _) = narrowing.parts(precision, progress)?;
            out.push(Scratch::write(request, &parts, &format!("{}{}.onnx", parts.name, precision.suffix()), folder)?);
        }
    }
    Ok(out)
}
