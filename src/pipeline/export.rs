//! `clip-onnx export`: checkpoint → folder of ONNX files, verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::digest::Digest;
use super::select::{Choice, Selected};
use super::{Built, Error, Loaded, Progress, load};
use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, weight_bytes, write};
use crate::package::{Folder, MANIFEST, Manifest, ManifestFile, REPORT};
use crate::params::Params;
use crate::towers::{self, Build, Logits};
use crate::verify::{self, Engine, Engines, Report};

const SOURCE_SHA256: &str = "source_sha256";

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
    /// How the towers are written down.
    pub build: Build,
    pub external_data: ExternalData,
    /// Work out the SHA-256 of the checkpoint and of every file, and check the checkpoint's own sums.
    pub hash: bool,
    /// Load and run what was written.
    pub verify: bool,
    /// What to run it with.
    pub engines: Engines,
    pub reference: Option<PathBuf>,
    pub batches: Vec<usize>,
}

/// What came of it.
#[derive(Debug)]
pub struct Exported {
    pub selected: Selected,
    pub files: Vec<Written>,
    /// None when no verification was asked for.
    pub report: Option<Report>,
}

/// Exports a checkpoint. The folder is there in the end, or it is not; a verification that fails
/// leaves it, with `passed: false` in its report.
///
/// # Errors
/// See [`Error`]; nothing is then left behind.
pub fn export(request: &Export, progress: &dyn Progress) -> Result<Exported, Error> {
    let path = &request.checkpoint;
    let folder = Folder::create(&request.out, request.force)?;
    let engines = if request.verify { request.engines.open()? } else { vec![] };
    if let Some(reference) = &request.reference {
        // Read again when it is needed; a wrong one should not cost an export.
        verify::Reference::read(reference)?;
    }
    let loaded = load(path, &request.choice, request.image_size, folder.path(), progress)?;
    takes_dynamic_text(request, &loaded.selected.config)?;
    let mut digest = request.hash.then(|| Digest::start(&loaded.checkpoint));
    let Built { image, text, logits } = loaded.build(&request.build)?;
    let Loaded { checkpoint, params, selected } = loaded;
    let config = &selected.config;
    let mut metadata = metadata(request, config, &checkpoint, &logits);
    let mut files = Vec::new();
    for (graph, own) in [(image, image_metadata(config)), (text, text_metadata(config))] {
        metadata.iter().chain(&own).for_each(|(key, value)| graph.set_metadata(key, value));
        let name = format!("{}.onnx", graph.name);
        let parts = graph.into_parts();
        progress.start(&format!("writing {name}"), Some(weight_bytes(&parts)));
        let options = Options { external: external(request), hash: request.hash };
        let seal = |metadata: &mut _| sealed(metadata, digest.as_mut());
        let written = write(&parts, &folder.path().join(&name), options, seal, &|n| progress.advance(n));
        files.extend(written.map_err(|error| match error {
            Error::Write(source) => not_written(request, &name, source),
            other => other,
        })?);
    }
    sealed(&mut metadata, digest.as_mut())?;
    folder.write(MANIFEST, &manifest(request, config, &metadata, &files))?;
    let stand_in =
        if engines.iter().any(Engine::is_tract) { StandIn::write(request, config, &params, &folder)? } else { None };
    // What was read is not needed to prove what was written: let go of the mapped file.
    drop((params, checkpoint));

    let mut report = None;
    if request.verify {
        let models = files.iter().map(|f| f.path.clone()).filter(|p| p.extension().is_some_and(|e| e == "onnx"));
        let request = verify::Request {
            models: models.collect(),
            engines,
            stand_ins: stand_in.iter().map(|s| (folder.path().join(s.name()), s.path.clone())).collect(),
            notes: stand_in.iter().map(|_| StandIn::NOTE.to_owned()).collect(),
            reference: request.reference.clone(),
            batches: request.batches.clone(),
            shown_in: Some(request.out.clone()),
        };
        let outcome = verify::verify(&request, &|what| progress.start(what, None))?;
        folder.write(REPORT, &pretty(&outcome))?;
        report = Some(outcome);
    }
    drop(stand_in);
    folder.commit()?;
    for file in &mut files {
        file.path = request.out.join(file_name(&file.path));
    }
    Ok(Exported { selected, files, report })
}

/// Puts the checkpoint's digest, which takes as long as a file does, in its place.
fn sealed(metadata: &mut BTreeMap<String, String>, digest: Option<&mut Digest>) -> Result<(), Error> {
    if let Some(digest) = digest {
        metadata.insert(SOURCE_SHA256.to_owned(), digest.get()?.to_owned());
    }
    Ok(())
}

/// What kept a file of the folder from being written, by the names the user knows.
fn not_written(request: &Export, name: &str, source: WriteError) -> Error {
    match source {
        WriteError::Tensor(source) => Error::Tensor { path: request.checkpoint.display().to_string(), source },
        WriteError::Io { source, .. } => Error::Write(WriteError::io(&request.out.join(name), 0, source)),
        WriteError::NoSpace { size, .. } => {
            Error::Write(WriteError::NoSpace { path: request.out.join(name).display().to_string(), size })
        }
    }
}

/// Where weights go: a target may want them beside the model always.
fn external(request: &Export) -> ExternalData {
    if request.build.target.profile.external_data { ExternalData::Always } else { request.external_data }
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

/// The text tower without the cut at the batch's last end token, which tract cannot run: all other
/// nodes are those of the file.
struct StandIn {
    path: PathBuf,
    /// Holds the file; it disappears with it.
    _folder: tempfile::TempDir,
}

impl StandIn {
    const NOTE: &str = "text_model.onnx cuts texts at the batch's last end token, which tract cannot run: it ran the same tower without the cut in its place; the file itself is for ONNX Runtime to run";

    fn name(&self) -> String {
        file_name(&self.path)
    }

    fn write(
        request: &Export,
        config: &ModelConfig,
        params: &Params,
        folder: &Folder,
    ) -> Result<Option<StandIn>, Error> {
        if !request.build.cuts_text(&config.text_cfg) {
            return Ok(None);
        }
        let build = Build { text_cut: false, ..request.build };
        let wrong = |source| Error::params(&request.checkpoint, source);
        let graph = towers::text(config, params, &build).map_err(wrong)?;
        for (key, value) in text_metadata(config) {
            graph.set_metadata(&key, value);
        }
        graph.set_metadata("normalized", request.build.normalize.to_string());
        let name = format!("{}.onnx", graph.name);
        let failed = |source| not_written(request, &name, source);
        let scratch = tempfile::Builder::new().prefix("stand-in-").tempdir_in(folder.path());
        let scratch = scratch.map_err(|source| failed(WriteError::io(&request.out, 0, source)))?;
        let path = scratch.path().join(&name);
        let options = Options { external: ExternalData::Auto, hash: false };
        write(&graph.into_parts(), &path, options, |_| Ok(()), &|_| ()).map_err(failed)?;
        Ok(Some(StandIn { path, _folder: scratch }))
    }
}

/// What both files say of themselves.
fn metadata(
    request: &Export,
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    logits: &Logits,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut set = |key: &str, value: String| out.insert(key.to_owned(), value);
    set("tool", env!("CARGO_PKG_NAME").to_owned());
    set("tool_version", env!("CARGO_PKG_VERSION").to_owned());
    set("source_file", checkpoint.file_name());
    if request.hash {
        set(SOURCE_SHA256, Digest::PENDING.to_owned());
    }
    set("model", config.model.clone());
    set("family", config.family.to_string());
    set("dialect", config.dialect.to_string());
    set("target", request.build.target.profile.name.to_owned());
    set("precision", "fp32".to_owned());
    set("embed_dim", config.embed_dim.to_string());
    set("normalized", request.build.normalize.to_string());
    set("license", config.license.clone().unwrap_or_else(|| "unknown".to_owned()));
    set("logit_scale", logits.logit_scale.to_string());
    set("logit_scale_exp", logits.logit_scale_exp.to_string());
    if let Some(bias) = logits.logit_bias {
        set("logit_bias", bias.to_string());
    }
    out
}

fn image_metadata(config: &ModelConfig) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("preprocess".to_owned(), json!(config.preprocess_cfg).to_string())]);
    if let Some(vit) = config.vision_cfg.vit() {
        out.insert("patch_size".to_owned(), vit.patch_size.to_string());
    }
    if let Some([height, width]) = config.vision_cfg.image_size() {
        out.insert("image_size".to_owned(), format!("{height}x{width}"));
    }
    out
}

fn text_metadata(config: &ModelConfig) -> BTreeMap<String, String> {
    let text = &config.text_cfg;
    let mut out = BTreeMap::from([
        ("context_length".to_owned(), text.context_length.to_string()),
        ("vocab_size".to_owned(), text.vocab_size.to_string()),
        ("pad_id".to_owned(), text.pad_id.to_string()),
        ("eot_id".to_owned(), text.eot_id.to_string()),
    ]);
    if let Some(id) = text.sot_id {
        out.insert("sot_id".to_owned(), id.to_string());
    }
    out
}

fn manifest(request: &Export, config: &ModelConfig, metadata: &BTreeMap<String, String>, files: &[Written]) -> String {
    let all = [metadata.clone(), image_metadata(config), text_metadata(config)];
    let size = request.image_size.map(|[height, width]| format!("{height}x{width}"));
    let manifest = Manifest {
        tool: env!("CARGO_PKG_NAME"),
        tool_version: env!("CARGO_PKG_VERSION"),
        metadata: all.into_iter().flatten().collect(),
        config: config.to_json(),
        options: BTreeMap::from([
            ("normalize", json!(request.build.normalize)),
            ("target", json!(request.build.target.profile.name)),
            ("fold", json!(request.build.fold)),
            ("last_block", json!(request.build.last_block)),
            ("map_query", json!(request.build.map_query)),
            ("text_cut", json!(request.build.text_cut)),
            ("dynamic_text", json!(request.build.dynamic_text)),
            ("plain_depthwise", json!(request.build.plain_depthwise)),
            ("image_size", json!(size)),
            ("dialect", json!(request.choice.dialect)),
            ("hash", json!(request.hash)),
            ("external_data", json!(external(request) == ExternalData::Always)),
            ("opset", json!(request.build.target.opset)),
            ("ir_version", json!(request.build.target.ir_version())),
        ]),
        files: files
            .iter()
            .map(|f| ManifestFile { path: file_name(&f.path), size: f.size, sha256: f.sha256.clone() })
            .collect(),
    };
    pretty(&manifest)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn pretty(value: &impl serde::Serialize) -> String {
    // Our own structs, with string keys: this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
