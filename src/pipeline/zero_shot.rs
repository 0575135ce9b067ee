//! Zero-shot labels inside a graph: their embeddings, from the text tower of the same checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::labels::{Template, ZeroShot};
use super::model::Model;
use super::request::Artifacts;
use super::resolve::Recipe;
use super::workspace::Workspace;
use super::{Error, Progress};
use crate::engine::{self, Array, Engine, Tower};
use crate::onnx::Target;
use crate::ports::Ports;
use crate::tensor::Tensor;
use crate::tokenize::Tokenizer;
use crate::towers::{self, Build};
use crate::verify;

/// Sentences in a batch.
const BATCH: usize = 16;

/// Labels and their normalised embeddings, `[labels, embed_dim]`.
pub struct ZeroShotHead {
    zero_shot: ZeroShot,
    width: usize,
    values: Vec<f32>,
}

impl ZeroShotHead {
    /// The embeddings of a recipe's labels, where it has some.
    ///
    /// # Errors
    /// As [`embed`].
    pub fn of(
        recipe: &Recipe,
        model: &Model,
        work: &Workspace,
        engines: &[Arc<dyn Engine>],
        progress: &dyn Progress,
    ) -> Result<Option<ZeroShotHead>, Error> {
        match &recipe.artifacts {
            Artifacts::ZeroShot(zero_shot) => {
                Ok(Some(embed(zero_shot, model, &recipe.build, work, engines, progress)?))
            }
            Artifacts::Towers | Artifacts::Combined => Ok(None),
        }
    }

    fn shape(&self) -> Vec<usize> {
        vec![self.zero_shot.labels().len(), self.width]
    }

    /// The embeddings, for the graph.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_f32("labels", &self.shape(), &self.values)
    }

    /// The embeddings, for verification.
    pub fn array(&self) -> verify::Labels {
        verify::Labels(Array::new(self.shape(), self.values.clone()))
    }

    /// What the file says of them.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let labels = self.zero_shot.labels();
        let templates: Vec<&str> = self.zero_shot.templates().iter().map(Template::text).collect();
        BTreeMap::from([
            ("labels".to_owned(), json!(labels).to_string()),
            ("templates".to_owned(), json!(templates).to_string()),
        ])
    }
}

/// The mean of normalised embeddings, normalised.
fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    let width = rows.first().map_or(0, Vec::len);
    let sum = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>();
    let sums: Vec<f64> = (0..width).map(sum).collect();
    let norm = sums.iter().map(|v| v * v).sum::<f64>().sqrt();
    sums.iter().map(|v| (v / norm) as f32).collect()
}

/// Runs the text tower, in float32, on every sentence.
///
/// # Errors
/// When there is no tokenizer, no engine runs the tower, or an embedding is not finite.
fn embed(
    zero_shot: &ZeroShot,
    model: &Model,
    build: &Build,
    work: &Workspace,
    engines: &[Arc<dyn Engine>],
    progress: &dyn Progress,
) -> Result<ZeroShotHead, Error> {
    let (config, params) = (&model.selected.config, &model.params);
    let rows = tokens(zero_shot, model, progress)?;
    let build = Build {
        target: Target::default(),
        ports: Ports::PLAIN,
        batch: None,
        normalize: true,
        text_cut: false,
        ..*build
    };
    let graph = towers::text(config, params, &build).map_err(|source| model.wrong(source))?;
    graph.set_metadata("normalized", "true");
    let scratch = work.scratch(&graph.into_parts(), "text_model.onnx")?;
    // ONNX Runtime where its library is at hand: it is faster.
    let engine = engines.last().ok_or(engine::Error::NoEngines)?;
    let tower = Tower::open(&scratch.path, Path::new("text_model.onnx"), &**engine, None)?;
    let mut found: Vec<Vec<f32>> = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(BATCH) {
        progress.start(&format!("embedding labels, {} of {}", found.len(), rows.len()), None);
        let items: Vec<Vec<Array>> = chunk.iter().map(|ids| vec![Array::new([1, ids.len()], ids.clone())]).collect();
        found.extend(tower.embed(&items.iter().collect::<Vec<_>>(), BATCH)?);
    }
    let values: Vec<f32> = found.chunks(zero_shot.templates().len()).flat_map(mean).collect();
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let label = &zero_shot.labels()[at / config.embed_dim.max(1) % zero_shot.labels().len()];
        return Err(Error::Unsupported {
            path: work.checkpoint().display().to_string(),
            what: format!("the embedding of the label `{label}` is not finite"),
            way_out: "check that the checkpoint is whole".to_owned(),
        });
    }
    Ok(ZeroShotHead { zero_shot: zero_shot.clone(), width: config.embed_dim, values })
}

/// Token ids of every sentence, label after label.
fn tokens(zero_shot: &ZeroShot, model: &Model, progress: &dyn Progress) -> Result<Vec<Vec<i64>>, Error> {
    let tokenizer = Tokenizer::new(&model.selected.config, model.tokenizer.as_deref())?;
    let (mut rows, mut cut) = (Vec::new(), Vec::new());
    for (label, template) in
        zero_shot.labels().iter().flat_map(|label| zero_shot.templates().iter().map(move |t| (label, t)))
    {
        let (row, is_cut) = tokenizer.row_and_cut(&template.filled(label))?;
        rows.push(row);
        cut.extend(is_cut.then_some(label));
    }
    if let Some(first) = cut.first() {
        let (count, context) = (cut.len(), tokenizer.context_length());
        let first: String = first.chars().take(40).collect();
        progress.warn(&format!(
            "{count} of {} sentences are longer than {context} tokens and were cut, the first that of the label `{first}`",
            rows.len()
        ));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_normalised() {
        assert_eq!(mean(&[vec![1.0, 0.0], vec![0.0, 1.0]]), [0.5f64.sqrt() as f32; 2]);
    }
}
