//! `clip-onnx convert`: the same weights under open_clip's names, as safetensors.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::model::Model;
use super::select::{RECORDED_CONFIG, RECORDED_DIALECT, Selected};
use super::{Error, Progress, Setting, Source};
use crate::checkpoint::write::{self, safetensors};
use crate::config::{Dialect, Family, ModelConfig, Naming, Stem, TextCfg, VisionCfg, Vit};
use crate::onnx::Graph;
use crate::onnx::graph::Data;
use crate::onnx::write::Error as WriteError;
use crate::output::OutputFile;
use crate::params::Params;
use crate::params::open_clip::Form;
use crate::tensor::Tensor;
use crate::towers::Build;

/// What to convert, and where to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Convert {
    /// Another image size resamples positions, and freezes NaFlex, which open_clip 3.3 cannot load.
    pub source: Source,
    /// The `.safetensors` file to write.
    pub out: PathBuf,
    /// Replace the file where it is there.
    pub replace: bool,
    /// Folds training-time branches, under timm's names for the folded form.
    pub reparameterize: bool,
}

impl Convert {
    /// A checkpoint, of the model that is found, to a new file.
    pub fn new(checkpoint: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Convert {
        Convert { source: Source::new(checkpoint), out: out.into(), replace: false, reparameterize: false }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Converted {
    /// The model, and what it was detected from.
    pub selected: Selected,
    /// Number of tensors written.
    pub tensors: usize,
}

/// Converts a checkpoint. The file is there in the end, whole, or it is not.
///
/// # Errors
/// See [`Error`].
pub fn convert(request: &Convert, progress: &dyn Progress) -> Result<Converted, Error> {
    let path = &request.source.checkpoint;
    let mut out = OutputFile::create(&request.out, request.replace)?;
    out.leftovers().iter().for_each(|leftover| progress.warn(&leftover.to_string()));
    let model = Model::load(&request.source, out.folder(), progress)?;
    if model.checkpoint.is_read_from(&request.out) {
        return Err(Error::Unsupported {
            path: request.out.display().to_string(),
            what: "is what would be converted".to_owned(),
            way_out: "name another file to write".to_owned(),
        });
    }
    let mut digest = Digest::start(&model.checkpoint)?;
    fits_open_clip(&model.selected.config, path)?;
    // Building the towers checks every name and shape, so that nothing half-right is written.
    // Folded weights are taken from the graph, so their channels must stand in their own order.
    let image = model.image(&Build { plain_depthwise: false, ..Build::default() })?;
    let Model { checkpoint, adapters, mut params, mut selected, .. } = model;

    let published = selected.config.clone();
    if request.reparameterize {
        reparameterize(&mut selected.config, &mut params, image);
    }
    add_head_bias(&mut selected.config, &mut params);
    selected.config.set_naming(Naming::OpenClip);
    let config = &selected.config;
    let wrong = |source| selected.params_error(path, source);
    let naming = form(config).map(config.text_cfg.as_ref().and_then(|text| text.head).is_some_and(|head| head.bias));
    let mut tensors = params
        .tensors()
        .map(|(name, tensor)| naming.backwards(name, tensor))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?
        .concat();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));

    progress.start("hashing the checkpoint", None);
    let mut metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("clip_onnx.tool".to_owned(), concat!("clip-onnx ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("clip_onnx.source_file".to_owned(), checkpoint.file_name()),
        ("clip_onnx.source_sha256".to_owned(), digest.get()?.to_owned()),
        ("clip_onnx.license".to_owned(), config.license.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("clip_onnx.adapters".to_owned(), adapters.names.join(", ")),
        (RECORDED_DIALECT.to_owned(), config.dialect.to_string()),
        (RECORDED_CONFIG.to_owned(), config.to_json().to_string()),
    ]);
    if adapters.names.is_empty() {
        metadata.remove("clip_onnx.adapters");
    }
    progress.start("writing open_clip names", Some(tensors.iter().map(|(_, t)| t.len() as u64 * 4).sum()));
    let failed = |source| match source {
        write::Error::Tensor(source) => Error::Tensor { path: path.display().to_string(), source },
        write::Error::Io(source) => {
            let size = tensors.iter().map(|(_, t)| t.len() as u64 * 4).sum();
            Error::Write(WriteError::io(&request.out, size, source))
        }
    };
    let mut buffered = BufWriter::with_capacity(1 << 20, out.file());
    safetensors(&mut buffered, &metadata, &tensors, &|n| progress.advance(n)).map_err(failed)?;
    buffered.flush().map_err(|e| failed(e.into()))?;
    drop(buffered);
    Model::unchanged(&checkpoint, &adapters)?;
    out.commit()?;
    warn_of_other_numbers(&published, progress);
    Ok(Converted { tensors: tensors.len(), selected })
}

/// Whether open_clip has a model to put these weights in.
fn fits_open_clip(config: &ModelConfig, path: &Path) -> Result<(), Error> {
    let (what, way_out) = if config.takes_patches() {
        let what = "takes images of any size, which open_clip 3.3 has no model for".to_owned();
        (what, format!("freeze it with {}", Setting::ImageSize))
    } else if let Some(what) = config.text_cfg.as_ref().and_then(|text| text.tower.family().open_clip_lacks()) {
        let what = format!("has {what}, and open_clip has no such module to load it into");
        (what, "`export` writes it as ONNX all the same".to_owned())
    } else {
        return Ok(());
    };
    let what = format!("{} {what}", config.model);
    Err(Error::Unsupported { path: path.display().to_string(), what, way_out })
}

/// Which of open_clip's forms holds a model.
fn form(config: &ModelConfig) -> Form {
    // A text tower alone is at the root.
    config.vision_cfg.as_ref().map_or(Form::Native, |vision| vision.family().open_clip_form())
}

/// timm's classifier has a bias, Apple's projection has none: zero, then, as open_clip's own
/// converter has it.
fn add_head_bias(config: &mut ModelConfig, params: &mut Params) {
    if matches!(form(config), Form::FastVit | Form::TimmVit) && config.add_image_head_bias() {
        let zeros = vec![0.0; config.embed_dim];
        params.insert("visual.head.bias", Tensor::from_f32("head bias", &[config.embed_dim], &zeros));
    }
}

/// Puts the image tower's folded convolutions in the place of the branches they were made of.
/// The tower folds them while it is built, under timm's own names.
fn reparameterize(config: &mut ModelConfig, params: &mut Params, image: Option<Graph>) {
    let Some(image) = image.filter(|_| config.fold_image_branches()) else { return };
    const BRANCHES: &[&str] = &[
        "conv_kxk.",
        "conv_scale.",
        "identity.",
        "large_conv.",
        "small_conv.",
        "pos_enc.",
        "norm.identity.",
        "mixer.",
        "layer_scale.",
    ];
    for initializer in image.into_parts().initializers {
        let Some((block, _)) = initializer.name.split_once("reparam_conv.") else { continue };
        params.remove(|name| {
            name.strip_prefix(block).is_some_and(|rest| BRANCHES.iter().any(|branch| rest.starts_with(branch)))
        });
        if let Data::Float(tensor) = initializer.data {
            params.insert(&initializer.name, tensor);
        }
    }
}

/// open_clip runs some of these weights with another GELU than their authors.
fn warn_of_other_numbers(config: &ModelConfig, progress: &dyn Progress) {
    if config.dialect == Dialect::OpenClip {
        return;
    }
    // Whoever runs it, a CLIP of open_clip's own architecture gives the same numbers.
    if config.dialect == Dialect::Transformers && config.family == Family::Clip {
        return;
    }
    if let Some(VisionCfg::Vit(Vit { stem: Stem::Convs(stem), encoder, .. })) = &config.vision_cfg {
        let paddings: Vec<usize> = stem.convs.iter().map(|conv| conv.padding).collect();
        if paddings.iter().any(|&padding| padding != 0) {
            progress.warn(&format!(
                "open_clip runs the convolution stem of {} without padding and its LayerNorm with eps 1e-6, its authors with padding {:?} and eps {:?}: open_clip will compute other numbers (image cosine near 0.99) from this file. `export` follows the recorded dialect `{}`",
                config.model,
                paddings,
                encoder.blocks.norm_eps,
                config.dialect
            ));
        }
        return;
    }
    if matches!(config.vision_cfg, Some(VisionCfg::FastVit(_))) {
        return;
    }
    let Ok(other) = config.in_dialect(Dialect::OpenClip) else {
        progress.warn(&format!(
            "{} has no open_clip dialect to compare with; where open_clip's model runs exact GELU, its numbers will differ from the authors' by 1e-4 to 1e-3 (`export` follows the recorded dialect `{}`)",
            config.model, config.dialect
        ));
        return;
    };
    let acts = |config: &ModelConfig| {
        (config.vision_cfg.as_ref().map(VisionCfg::act), config.text_cfg.as_ref().map(TextCfg::act))
    };
    let ([own, others], tower) = ([config, &other].map(acts), ["image", "text"]);
    let differing: Vec<&str> = [(own.0 != others.0, tower[0]), (own.1 != others.1, tower[1])]
        .iter()
        .filter_map(|&(differs, tower)| differs.then_some(tower))
        .collect();
    if !differing.is_empty() {
        progress.warn(&format!(
            "open_clip runs the {} tower of {} with exact GELU, its authors with the tanh approximation: open_clip will compute other numbers (2.5e-4 to 1e-3) from this file. `export` follows the recorded dialect `{}`",
            differing.join(" and "),
            config.model,
            config.dialect
        ));
    }
}
