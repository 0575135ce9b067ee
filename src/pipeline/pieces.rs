//! The graphs an export writes, and those that are run beside them to prove them.

use std::collections::BTreeMap;
use std::path::Path;

use super::classes::Embedded;
use super::describe::{image_metadata, text_metadata};
use super::export::{Export, Form};
use super::narrow::{Narrowing, Scratch};
use super::{Error, Loaded, Progress};
use crate::config::ModelConfig;
use crate::onnx::{Graph, Target};
use crate::params::{self, Params};
use crate::ports::{PixelFormat, Ports};
use crate::precision::Precision;
use crate::towers::{self, Build};
use crate::verify::Engine;

/// One file's graph.
pub struct Piece {
    pub graph: Graph,
    /// What it says of itself besides what all files do.
    pub own: BTreeMap<String, String>,
}

impl Piece {
    fn image(config: &ModelConfig, params: &Params, build: &Build) -> Result<Piece, params::Error> {
        let own = image_metadata(config, build.ports.pixels);
        Ok(Piece { graph: towers::image(config, params, build)?, own })
    }

    fn text(config: &ModelConfig, params: &Params, build: &Build) -> Result<Piece, params::Error> {
        Ok(Piece { graph: towers::text(config, params, build)?, own: text_metadata(config) })
    }

    fn combined(config: &ModelConfig, params: &Params, build: &Build) -> Result<Piece, params::Error> {
        let mut own = image_metadata(config, build.ports.pixels);
        own.extend(text_metadata(config));
        Ok(Piece { graph: towers::combined(config, params, build)?, own })
    }

    fn classifier(
        config: &ModelConfig,
        params: &Params,
        build: &Build,
        labels: &Embedded,
    ) -> Result<Piece, params::Error> {
        let mut own = image_metadata(config, build.ports.pixels);
        own.extend(labels.metadata());
        Ok(Piece { graph: towers::classifier(config, params, build, &labels.tensor())?, own })
    }
}

/// All graphs of the form asked for; every parameter must be read, in its shape.
pub fn pieces(request: &Export, loaded: &Loaded, labels: Option<&Embedded>) -> Result<Vec<Piece>, Error> {
    let (config, params, build) = (&loaded.selected.config, &loaded.params, &request.build);
    let wrong = |source| loaded.selected.params_error(loaded.checkpoint.path(), source);
    let pieces = match (&request.form, labels) {
        (Form::Combined, _) => Piece::combined(config, params, build).map(|piece| vec![piece]),
        // Their embeddings have read the text tower.
        (_, Some(labels)) => Piece::classifier(config, params, build, labels).map(|piece| vec![piece]),
        _ => Piece::image(config, params, build).and_then(|image| Ok(vec![image, Piece::text(config, params, build)?])),
    };
    let pieces = pieces.map_err(wrong)?;
    towers::logits(config, params).map_err(wrong)?;
    params.expect_all_read().map_err(wrong)?;
    Ok(pieces)
}

/// The image tower as it is fed floats, for one that is fed bytes to be compared with.
pub fn fed_floats(request: &Export, config: &ModelConfig, params: &Params, folder: &Path) -> Result<Scratch, Error> {
    let ports = Ports { pixels: PixelFormat::Float, ..request.build.ports };
    let build = Build { ports, target: Target::default(), ..request.build };
    let piece = Piece::image(config, params, &build).map_err(|source| Error::params(&request.checkpoint, source))?;
    piece.own.iter().for_each(|(key, value)| piece.graph.set_metadata(key, value));
    piece.graph.set_metadata("normalized", request.build.normalize.to_string());
    Scratch::write(request, &piece.graph.into_parts(), "vision_model.onnx", folder)
}

/// What a report says of stand-ins.
pub const STAND_IN: &str = "text cut at the batch's last end token, and int4 products beside Attention, are nothing tract can run: it ran the same towers without the cut, in the portable spelling, in their place; the files themselves are for ONNX Runtime to run";

/// Files as tract can run them: without the cut of texts at the batch's last end token, whose length
/// depends on data; and int4 products beside decomposed attention, since tract gives wrong numbers for
/// those with float32 scales beside `Attention`, from the second row on.
pub fn stand_ins(
    request: &Export,
    (config, params): (&ModelConfig, &Params),
    labels: Option<&Embedded>,
    (engines, folder): (&[Engine], &Path),
    progress: &dyn Progress,
) -> Result<Vec<Scratch>, Error> {
    let (cut, target) = (request.build.cuts_text(&config.text_cfg), request.build.target);
    let wrong = |source| Error::params(&request.checkpoint, source);
    let logits = towers::logits(config, params).map_err(wrong)?;
    let mut out = Vec::new();
    for &precision in &request.precisions {
        let respelled = precision == Precision::Int4 && target.has_attention();
        let target = if respelled { Target::default() } else { target };
        let build = &Build { text_cut: false, target, ..request.build };
        let mut pieces = Vec::new();
        match (&request.form, labels) {
            (Form::Combined, _) if cut || respelled => {
                pieces.push(Piece::combined(config, params, build).map_err(wrong)?);
            }
            (Form::Classifier(_), Some(labels)) if respelled => {
                pieces.push(Piece::classifier(config, params, build, labels).map_err(wrong)?);
            }
            (Form::Towers, _) => {
                if respelled {
                    pieces.push(Piece::image(config, params, build).map_err(wrong)?);
                }
                if cut || respelled {
                    pieces.push(Piece::text(config, params, build).map_err(wrong)?);
                }
            }
            (Form::Combined | Form::Classifier(_), _) => {}
        }
        for Piece { graph, own } in pieces {
            own.iter().chain(&logits.metadata()).for_each(|(key, value)| graph.set_metadata(key, value));
            graph.set_metadata("normalized", request.build.normalize.to_string());
            let mut narrowing = Narrowing::new(request, graph.into_parts(), engines, folder)?;
            let (parts, _) = narrowing.parts(precision, progress)?;
            out.push(Scratch::write(request, &parts, &format!("{}{}.onnx", parts.name, precision.suffix()), folder)?);
        }
    }
    Ok(out)
}
