//! `clip-onnx convert`: the same weights under open_clip's names, as safetensors.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::select::{Choice, RECORDED_CONFIG, RECORDED_DIALECT, Selected, select};
use super::{Error, Progress, at_image_size, open};
use crate::checkpoint::write::{self, safetensors};
use crate::config::{Dialect, ModelConfig, VisionCfg};
use crate::onnx::write::Error as WriteError;
use crate::package::OutputFile;
use crate::params::{self, Params};
use crate::towers;

/// What to convert, and where to.
#[derive(Clone, Debug)]
pub struct Convert {
    pub checkpoint: PathBuf,
    /// The `.safetensors` file to write.
    pub out: PathBuf,
    pub force: bool,
    pub choice: Choice,
    /// Freezes NaFlex, which open_clip 3.3 cannot load, and resamples positions.
    pub image_size: Option<[usize; 2]>,
}

/// What came of it.
#[derive(Debug)]
pub struct Converted {
    pub selected: Selected,
    pub tensors: usize,
}

/// Converts a checkpoint. The file is there in the end, whole, or it is not.
///
/// # Errors
/// See [`Error`].
pub fn convert(request: &Convert, progress: &dyn Progress) -> Result<Converted, Error> {
    let path = &request.checkpoint;
    let mut out = OutputFile::create(&request.out, request.force)?;
    let checkpoint = open(path)?;
    let mut params = Params::from_checkpoint(&checkpoint).map_err(|source| Error::params(path, source))?;
    let mut selected = select(&request.choice, &checkpoint, &params, progress)?;
    at_image_size(&mut selected, &mut params, request.image_size, path)?;
    let config = &selected.config;
    if matches!(config.vision_cfg, VisionCfg::NaflexVit(_)) {
        return Err(Error::Unsupported {
            path: path.display().to_string(),
            what: format!("{} takes images of any size, which open_clip 3.3 has no model for", config.model),
            way_out: "freeze it with --image-size HxW".to_owned(),
        });
    }

    // Building the towers checks every name and shape, so that nothing half-right is written.
    let wrong = |source| selected.params_error(path, source);
    towers::image(config, &params, true).map_err(wrong)?;
    towers::text(config, &params, true).map_err(wrong)?;
    towers::logits(config, &params).map_err(wrong)?;
    params.expect_all_read().map_err(wrong)?;

    let naming = params::open_clip::timm_vit();
    let mut tensors = params
        .tensors()
        .map(|(name, tensor)| naming.backwards(name, tensor))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));

    progress.start("hashing the checkpoint", Some(checkpoint.size()));
    let sha256 = checkpoint.sha256(&|n| progress.advance(n));
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("clip_onnx.tool".to_owned(), concat!("clip-onnx ", env!("CARGO_PKG_VERSION")).to_owned()),
        ("clip_onnx.source_file".to_owned(), checkpoint.file_name()),
        ("clip_onnx.source_sha256".to_owned(), sha256),
        ("clip_onnx.license".to_owned(), config.license.clone().unwrap_or_else(|| "unknown".to_owned())),
        (RECORDED_DIALECT.to_owned(), config.dialect.to_string()),
        (RECORDED_CONFIG.to_owned(), config.to_json().to_string()),
    ]);
    progress.start("writing open_clip names", Some(tensors.iter().map(|(_, t)| t.len() as u64 * 4).sum()));
    let target = request.out.display().to_string();
    let failed = |source| match source {
        write::Error::Tensor(source) => Error::Tensor { path: path.display().to_string(), source },
        write::Error::Io(source) => {
            Error::Write { path: path.display().to_string(), source: WriteError::Io { path: target.clone(), source } }
        }
    };
    let mut buffered = BufWriter::with_capacity(1 << 20, out.file());
    safetensors(&mut buffered, &metadata, &tensors, &|n| progress.advance(n)).map_err(failed)?;
    buffered.flush().map_err(|e| failed(e.into()))?;
    drop(buffered);
    out.commit()?;
    warn_of_other_numbers(config, progress);
    Ok(Converted { tensors: tensors.len(), selected })
}

/// open_clip runs some of these weights with another GELU than their authors.
fn warn_of_other_numbers(config: &ModelConfig, progress: &dyn Progress) {
    if config.dialect == Dialect::OpenClip {
        return;
    }
    let Ok(other) = config.in_dialect(Dialect::OpenClip) else {
        progress.warn(&format!(
            "{} has no open_clip dialect to compare with; where open_clip's model runs exact GELU, its numbers will differ from the authors' by 1e-4 to 1e-3 (`export` follows the recorded dialect `{}`)",
            config.model, config.dialect
        ));
        return;
    };
    let differing: Vec<&str> = [
        (config.vision_cfg.act() != other.vision_cfg.act(), "image"),
        (config.text_cfg.act != other.text_cfg.act, "text"),
    ]
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
