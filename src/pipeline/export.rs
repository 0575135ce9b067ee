//! `clip-onnx export`: checkpoint → folder of ONNX files, verified.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::beside::beside;
use super::classes::Classes;
use super::describe::{Measured, SOURCE_SHA256, file_name, manifest, metadata, pretty};
use super::digest::Digest;
use super::narrow::{Narrowing, PrecisionReport};
use super::page::{Page, page};
use super::pieces::{Piece, STAND_IN, fed_floats, pieces, stand_ins};
use super::run::Run;
use super::select::{Choice, Selected};
use super::{Error, Loaded, Progress, load};
use crate::bench;
use crate::checkpoint::{Checkpoint, Skipped};
use crate::layout::Layout;
use crate::layout::manifest::Rule;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, weight_bytes, write};
use crate::output::{Folder, MANIFEST, PAGE, REPORT};
use crate::ports::PixelFormat;
use crate::precision::{self, Narrowed, Precision};
use crate::providers::{self, Coverage, Provider};
use crate::tokenize::Tokenizer;
use crate::towers::{self, Build};
use crate::verify::{self, Engine, Engines, Report};

/// What files there are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `vision_model.onnx` and `text_model.onnx`.
    Towers,
    /// `model.onnx`, which has both, and their logits.
    Combined,
    /// `classifier.onnx`: the image tower, and how likely each of these is.
    Classifier(Classes),
}

impl Form {
    /// What manifests call it.
    pub fn name(&self) -> &'static str {
        match self {
            Form::Towers => "towers",
            Form::Combined => "combined",
            Form::Classifier(_) => "classifier",
        }
    }

    /// What asks for it.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Form::Towers => "the default",
            Form::Combined => "--combined",
            Form::Classifier(_) => "--labels",
        }
    }
}

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
    /// What files there are to be.
    pub form: Form,
    /// Whose folder it is; names of inputs and outputs are [`Build::ports`].
    pub layout: Layout,
    /// A page that classifies photographs in a browser, to go with the towers, and what it needs.
    pub demo: bool,
    /// The model's `tokenizer.json`, to go with the towers.
    pub tokenizer: Option<PathBuf>,
    /// Token ids as int32, or as int64; as the layout has them where nothing is said.
    pub int32_tokens: Option<bool>,
    /// Outputs besides embeddings.
    pub extra: Extra,
    /// How images come; as the layout has them where nothing is said.
    pub pixels: Option<PixelFormat>,
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
    /// Both towers of a checkpoint in float32, verified, and nothing out of the ordinary.
    pub fn new(checkpoint: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Export {
        Export {
            checkpoint: checkpoint.into(),
            out: out.into(),
            force: false,
            choice: Choice::default(),
            image_size: None,
            form: Form::Towers,
            layout: Layout::Plain,
            extra: Extra::default(),
            demo: false,
            tokenizer: None,
            int32_tokens: None,
            pixels: None,
            build: Build::default(),
            precisions: vec![Precision::Fp32],
            narrowing: precision::Options::default(),
            calibrate: None,
            max_drop: None,
            external_data: ExternalData::Auto,
            hash: true,
            verify: true,
            bench: false,
            engines: Engines::default(),
            reference: None,
            batches: verify::BATCHES.to_vec(),
        }
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

/// Outputs besides embeddings. They cost what is saved by computing the last block for one place alone, and,
/// of texts, by cutting them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// `last_hidden_state`: of both towers every place of the last block.
    pub hidden: bool,
    /// `patch_tokens`: of an image every patch, normed.
    pub patches: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Exported {
    pub selected: Selected,
    /// Whether embeddings are normalised inside.
    pub normalized: bool,
    pub files: Vec<Written>,
    /// What the providers that the target is for would take of each file.
    pub taken: Vec<(PathBuf, Coverage)>,
    /// Of precisions other than float32.
    pub precisions: Vec<PrecisionReport>,
    /// None when no verification was asked for.
    pub report: Option<Report>,
}

/// `report.json`.
#[derive(Serialize)]
struct WholeReport<'a> {
    run: &'a Run,
    /// How inputs are made, and where that is from.
    inputs: BTreeMap<&'static str, &'a Rule>,
    #[serde(flatten)]
    verification: &'a Report,
    precisions: &'a [PrecisionReport],
    /// What execution providers would take, by file, where the target is for some.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    providers: BTreeMap<String, Vec<&'a Coverage>>,
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
    let runs = request.verify || request.measures() || matches!(request.form, Form::Classifier(_));
    let engines = if runs { request.engines.open()? } else { vec![] };
    for file in request.reference.iter().chain(&request.calibrate) {
        // Read again when it is needed; a wrong one should not cost an export.
        verify::Reference::read(file)?;
    }
    let loaded = load(path, &request.choice, request.image_size, folder.path(), progress)?;
    let request = &request.laid_out(&loaded.selected.config)?;
    let request = &request.with_tokenizer(&loaded.selected, progress);
    warn_of_skipped(&loaded.checkpoint, progress);
    if request.build.ports.pixels.resizes() && loaded.selected.config.preprocess_cfg.antialias {
        progress.warn(
            "--resize averages pixels inside the graph (Resize with antialias): ONNX Runtime alone does it right; OpenVINO, MNN and OpenCV ignore it without a word",
        );
    }
    let beside = beside(request, &loaded.selected.config, &folder, progress)?;
    let mut digest = request.hash.then(|| Digest::start(&loaded.checkpoint));
    let labels = match &request.form {
        Form::Classifier(classes) => Some(classes.embed(request, &loaded, (&engines, folder.path()), progress)?),
        Form::Towers | Form::Combined => None,
    };
    let pieces = pieces(request, &loaded, labels.as_ref())?;
    let Loaded { checkpoint, params, selected } = loaded;
    let config = &selected.config;
    let logits = towers::logits(config, &params).map_err(|source| Error::params(path, source))?;
    let mut metadata = metadata(request, config, &checkpoint, &logits);
    let (mut files, mut precisions, mut baselines) = (Vec::new(), Vec::new(), Vec::new());
    let mut measured = Measured::default();
    for Piece { graph, own } in pieces {
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
    if request.verify && request.build.ports.pixels != PixelFormat::Float {
        baselines.insert(0, fed_floats(request, config, &params, folder.path())?);
    }
    sealed(&mut metadata, digest.as_mut())?;
    folder.write(MANIFEST, manifest(request, &selected, &metadata, (&files, &beside), &measured))?;
    let stand_ins = if engines.iter().any(Engine::is_tract) {
        stand_ins(request, (config, &params), labels.as_ref(), (&engines, folder.path()), progress)?
    } else {
        vec![]
    };
    let mut taken = Vec::new();
    for file in files.iter().filter(|file| file.path.extension().is_some_and(|e| e == "onnx")) {
        let found = providers::check(&file.path, Provider::of_target(request.build.target.profile))
            .map_err(verify::Error::from)?;
        taken.extend(found.into_iter().map(|found| (PathBuf::from(file_name(&file.path)), found)));
    }
    let checkpoint_name = checkpoint.file_name();
    // What was read is not needed to prove what was written: let go of the mapped file.
    drop((params, checkpoint));

    let (mut report, bench) = (None, request.bench);
    if request.verify {
        let models = files.iter().map(|f| f.path.clone()).filter(|p| p.extension().is_some_and(|e| e == "onnx"));
        let request = verify::Request {
            models: models.collect(),
            engines,
            stand_ins: stand_ins.iter().map(|s| (folder.path().join(file_name(&s.path)), s.path.clone())).collect(),
            labels: labels.map(|labels| labels.array()),
            baselines: baselines.iter().map(|baseline| baseline.path.clone()).collect(),
            max_drop: request.max_drop,
            notes: stand_ins.iter().take(1).map(|_| STAND_IN.to_owned()).collect(),
            reference: request.reference.clone(),
            batches: request.batches.clone(),
            shown_in: Some(request.out.clone()),
        };
        let outcome = verify::verify(&request, &|what| progress.start(what, None))?;
        let timed = if bench { timed(&request, progress) } else { vec![] };
        let mut providers: BTreeMap<String, Vec<&Coverage>> = BTreeMap::new();
        taken.iter().for_each(|(file, found)| providers.entry(file_name(file)).or_default().push(found));
        let run = Run::new(checkpoint_name, metadata.get(SOURCE_SHA256).cloned());
        let inputs = selected.inputs();
        let whole = WholeReport {
            run: &run,
            inputs: inputs.iter().map(|(name, rule)| (*name, rule)).collect(),
            verification: &outcome,
            precisions: &precisions,
            providers,
            timed: &timed,
        };
        folder.write(REPORT, pretty(&whole))?;
        let model = &config.model;
        let shown =
            Page { model, inputs: &inputs, run: &run, report: &outcome, precisions: &precisions, timed: &timed };
        folder.write(PAGE, page(&shown))?;
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
    for (file, _) in &mut taken {
        *file = request.layout.place(&file_name(file));
    }
    Ok(Exported { selected, normalized: request.build.normalize, files, taken, precisions, report })
}

impl Export {
    /// With the tokenizer beside the checkpoint, where none is named and that one fits the model.
    fn with_tokenizer(&self, selected: &Selected, progress: &dyn Progress) -> Export {
        let mut request = self.clone();
        if let (None, Some(path)) = (&self.tokenizer, &selected.tokenizer) {
            match Tokenizer::new(&selected.config, Some(path)) {
                Ok(_) => request.tokenizer = Some(path.clone()),
                Err(error) => progress.warn(&format!("the tokenizer beside the checkpoint is not taken: {error}")),
            }
        }
        request
    }
}

/// Tells what of a PyTorch file is no tensor and was not made, as code would have to run.
fn warn_of_skipped(checkpoint: &Checkpoint, progress: &dyn Progress) {
    const SHOWN: usize = 4;
    let opaque: Vec<&Skipped> = checkpoint.skipped().iter().filter(|skipped| skipped.opaque).collect();
    if opaque.is_empty() {
        return;
    }
    let shown: Vec<String> =
        opaque.iter().take(SHOWN).map(|skipped| format!("`{}` ({})", skipped.place, skipped.what)).collect();
    let more = if opaque.len() > SHOWN { format!(" and {} more", opaque.len() - SHOWN) } else { String::new() };
    progress.warn(&format!(
        "{} holds more than tensors, and nothing of that was run: {}{more}",
        checkpoint.file_name(),
        shown.join(", ")
    ));
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
