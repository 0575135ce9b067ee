//! Labels that are put into a graph: their embeddings, from the text tower of the same checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::export::Export;
use super::narrow::Scratch;
use super::{Error, Loaded, Progress};
use crate::embed::Runs;
use crate::onnx::Target;
use crate::ports::Ports;
use crate::tensor::Tensor;
use crate::tokenize::Tokenizer;
use crate::towers::{self, Build};
use crate::verify::tower::{Array, Tower};
use crate::verify::{self, Engine};

/// Sentences that are run at once.
const BATCH: usize = 16;

/// What an image may show, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    pub labels: Vec<String>,
    /// Sentences around each label, with `{}` in its place. Of several the mean of their embeddings is
    /// taken (Radford et al. 2021, §3.1.4).
    pub templates: Vec<String>,
}

/// Labels and their normalised embeddings, `[labels, embed_dim]`.
pub struct Embedded {
    classes: Classes,
    width: usize,
    values: Vec<f32>,
}

impl Classes {
    /// Runs the text tower, in float32, on every sentence.
    ///
    /// # Errors
    /// When there is no tokenizer, no engine runs the tower, or an embedding is no number.
    pub(super) fn embed(
        &self,
        request: &Export,
        loaded: &Loaded,
        (engines, folder): (&[Engine], &Path),
        progress: &dyn Progress,
    ) -> Result<Embedded, Error> {
        let config = &loaded.selected.config;
        let tokenizer = Tokenizer::new(config, request.tokenizer.as_deref())?;
        let (mut rows, mut cut) = (Vec::new(), Vec::new());
        for (label, template) in self.labels.iter().flat_map(|label| self.templates.iter().map(move |t| (label, t))) {
            let (row, is_cut) = tokenizer.row_and_cut(&template.replace("{}", label))?;
            rows.push(row);
            cut.extend(is_cut.then_some(label));
        }
        if let Some(first) = cut.first() {
            let (count, context) = (cut.len(), tokenizer.context_length());
            let first: String = first.chars().take(40).collect();
            progress.warn(&format!("longer than the {context} tokens there are, and cut: {count} of {} sentences, the first of the label `{first}`", rows.len()));
        }

        let wrong = |source| loaded.selected.params_error(loaded.checkpoint.path(), source);
        let plain = Build {
            target: Target::default(),
            ports: Ports::PLAIN,
            batch: None,
            normalize: true,
            text_cut: false,
            ..request.build
        };
        let graph = towers::text(config, &loaded.params, &plain).map_err(wrong)?;
        graph.set_metadata("normalized", "true");
        let scratch = Scratch::write(request, &graph.into_parts(), "text_model.onnx", folder)?;
        // ONNX Runtime where its library is at hand: it is the faster one.
        let engine = engines.last().ok_or(verify::Error::NoLibrary)?;
        let tower = Tower::open(&scratch.path, &PathBuf::from("text_model.onnx"), engine, None)?;
        let mut runs = Runs::new(&tower, engine);
        let mut found: Vec<Vec<f32>> = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(BATCH) {
            progress.start(&format!("embedding labels, {} of {}", found.len(), rows.len()), None);
            let arrays =
                chunk.iter().map(|ids| vec![Array { shape: vec![1, ids.len()], values: vec![], ids: ids.clone() }]);
            let arrays: Vec<Vec<Array>> = arrays.collect();
            found.extend(runs.run(&arrays.iter().collect::<Vec<_>>(), BATCH)?);
        }
        let values: Vec<f32> = found.chunks(self.templates.len().max(1)).flat_map(mean).collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let label = &self.labels[at / config.embed_dim.max(1) % self.labels.len()];
            return Err(Error::Unsupported {
                path: request.checkpoint.display().to_string(),
                what: format!("the label `{label}` has an embedding that is no number"),
                way_out: "see with `clip-onnx verify` whether the checkpoint is whole".to_owned(),
            });
        }
        Ok(Embedded { classes: self.clone(), width: config.embed_dim, values })
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

impl Embedded {
    fn shape(&self) -> Vec<usize> {
        vec![self.classes.labels.len(), self.width]
    }

    pub fn tensor(&self) -> Tensor {
        Tensor::from_f32("labels", &self.shape(), &self.values)
    }

    /// For verification.
    pub fn array(self) -> verify::Labels {
        verify::Labels(Array { shape: self.shape(), values: self.values, ids: vec![] })
    }

    /// What the file says of them.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let Classes { labels, templates } = &self.classes;
        BTreeMap::from([
            ("labels".to_owned(), json!(labels).to_string()),
            ("templates".to_owned(), json!(templates).to_string()),
        ])
    }
}
