//! The graphs an export writes, and those that are run to prove them.

use std::collections::BTreeMap;

use super::Error;
use super::metadata::{self, image_metadata, text_metadata};
use super::model::Model;
use super::request::Artifacts;
use super::resolve::Recipe;
use super::zero_shot::ZeroShotHead;
use crate::modality::Modality;
use crate::onnx::{Graph, Target};
use crate::params;
use crate::ports::{PixelFormat, Ports};
use crate::precision::Precision;
use crate::towers::{self, Build, Logits};

/// A graph, and what its file says of itself besides what all files of an export do.
pub struct NamedGraph {
    pub graph: Graph,
    pub metadata: BTreeMap<String, String>,
}

/// Which graph of a model.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Image,
    Text,
    Combined,
    Classifier(&'a ZeroShotHead),
}

fn kinds<'a>(model: &Model, recipe: &Recipe, head: Option<&'a ZeroShotHead>) -> Vec<Kind<'a>> {
    match head {
        Some(head) => vec![Kind::Classifier(head)],
        None if recipe.artifacts == Artifacts::Combined => vec![Kind::Combined],
        None => {
            let towers = [(Modality::Image, Kind::Image), (Modality::Text, Kind::Text)];
            towers.into_iter().filter(|(tower, _)| model.selected.config.has(*tower)).map(|(_, kind)| kind).collect()
        }
    }
}

impl NamedGraph {
    fn new(kind: Kind, model: &Model, build: &Build) -> Result<NamedGraph, params::Error> {
        let (config, params) = (&model.selected.config, &model.params);
        let image = || image_metadata(config, build.ports.pixels);
        let (graph, metadata) = match kind {
            Kind::Image => (towers::image(config, params, build)?, image()),
            Kind::Text => (towers::text(config, params, build)?, text_metadata(config)),
            Kind::Combined => {
                let metadata = [image(), text_metadata(config)].into_iter().flatten().collect();
                (towers::combined(config, params, build)?, metadata)
            }
            Kind::Classifier(head) => {
                let metadata = [image(), head.metadata()].into_iter().flatten().collect();
                (towers::classifier(config, params, build, &head.tensor())?, metadata)
            }
        };
        Ok(NamedGraph { graph, metadata })
    }
}

/// All graphs of the artifacts; every parameter must be read, in its shape.
///
/// # Errors
/// A parameter that is missing, has another shape, or is read by no graph.
pub fn build(model: &Model, recipe: &Recipe, head: Option<&ZeroShotHead>) -> Result<Vec<NamedGraph>, Error> {
    let graphs = kinds(model, recipe, head).into_iter().map(|kind| NamedGraph::new(kind, model, &recipe.build));
    let graphs = graphs.collect::<Result<Vec<_>, _>>();
    let graphs = graphs.map_err(|source| model.wrong(source))?;
    let logits = towers::logits(&model.selected.config, &model.params).map_err(|source| model.wrong(source))?;
    // The embeddings of a classifier's labels have read the text tower.
    model.params.expect_all_read().map_err(|source| model.wrong(source))?;
    let shared = metadata::metadata(recipe, model, logits);
    let shared = |NamedGraph { graph, metadata }: NamedGraph| NamedGraph {
        graph,
        metadata: shared.iter().map(|(k, v)| (k.clone(), v.clone())).chain(metadata).collect(),
    };
    Ok(graphs.into_iter().map(shared).collect())
}

/// The image tower as it is fed floats: what one that is fed bytes is compared with.
///
/// # Errors
/// As [`build`].
pub fn fed_floats(model: &Model, recipe: &Recipe) -> Result<NamedGraph, Error> {
    let ports = Ports { pixels: PixelFormat::Float, ..recipe.build.ports };
    let build = Build { ports, target: Target::default(), ..recipe.build };
    let graph = NamedGraph::new(Kind::Image, model, &build).map_err(|source| model.wrong(source))?;
    Ok(graph.normalized(&build))
}

/// A graph as tract can run it, in one precision.
pub struct TractVariant {
    pub graph: NamedGraph,
    pub precision: Precision,
}

/// Graphs that tract runs in the place of those it cannot: without the cut of texts at the batch's last end token, whose
/// length depends on data; and int4 products beside decomposed attention, since tract computes wrong numbers for those with
/// float32 scales beside `Attention`, from the second row on.
///
/// # Errors
/// As [`build`].
pub fn tract_variants(model: &Model, recipe: &Recipe, head: Option<&ZeroShotHead>) -> Result<Vec<TractVariant>, Error> {
    let cut = model.selected.config.text_cfg.as_ref().is_some_and(|text| recipe.build.cuts_text(text));
    let target = recipe.build.target;
    let logits = towers::logits(&model.selected.config, &model.params).map_err(|source| model.wrong(source))?;
    let mut out = Vec::new();
    for &precision in &recipe.precisions {
        let decomposed = precision == Precision::Int4 && target.has_attention();
        let target = if decomposed { Target::default() } else { target };
        let build = Build { text_cut: false, target, ..recipe.build };
        for kind in kinds(model, recipe, head) {
            let has_text = matches!(kind, Kind::Text | Kind::Combined);
            if !(decomposed || (cut && has_text)) {
                continue;
            }
            let graph = NamedGraph::new(kind, model, &build).map_err(|source| model.wrong(source))?;
            let mut graph = graph.normalized(&build);
            graph.metadata.extend(logits.iter().flat_map(Logits::metadata));
            out.push(TractVariant { graph, precision });
        }
    }
    Ok(out)
}

impl NamedGraph {
    fn normalized(mut self, build: &Build) -> NamedGraph {
        self.metadata.insert("normalized".to_owned(), build.normalize.to_string());
        self
    }
}
