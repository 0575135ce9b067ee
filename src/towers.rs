//! Configuration + parameters → graphs. The one place where both meet.
//!
//! No tower asks which checkpoint its parameters came from: choices are fields of the
//! configuration, and parameters are read strictly, by name and shape.

use std::collections::BTreeMap;

use crate::config::{Dialect, ModelConfig, TextCfg, VisionCfg};
use crate::onnx::graph::{Dim, ElementType};
use crate::onnx::{Graph, Ops, Target, Value};
use crate::params::{Error, Params, Wanted};
use crate::ports::Ports;
use crate::tensor::Tensor;

mod convs;
mod fastvit;
mod image;
mod layers;
mod naflex;
mod pool;
mod scope;
mod text;
mod vit;

pub use image::cannot_resize;
use scope::Scope;

/// The output of a graph with both towers.
pub const LOGITS_PER_IMAGE: &str = "logits_per_image";
/// The output of a graph with labels inside.
pub const PROBABILITIES: &str = "probabilities";

const SEQUENCE: Dim = Dim::Named("sequence_length");

/// How towers are written down. What they compute is the configuration's; none of these changes it
/// by more than rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// What operators are spelled for.
    pub target: Target,
    /// Names and types of inputs and outputs.
    pub ports: Ports,
    /// Rows of every input and output, where that is fixed.
    pub batch: Option<usize>,
    /// L2-normalise the embeddings.
    pub normalize: bool,
    /// Training-time branches, BatchNorms, layer scales and the attention scale become part of the
    /// weights beside them.
    pub fold: bool,
    /// The last block is computed for the pooled place alone.
    pub last_block: bool,
    /// The MAP head's query, a constant, is folded into its keys.
    pub map_query: bool,
    /// Causal text is cut in the graph behind the batch's last pooled place, where the target allows
    /// lengths that depend on data.
    pub text_cut: bool,
    /// Text of any length up to the context is taken: `input_ids [batch_size, sequence_length]`. Where padding
    /// is looked at, it is filled up inside.
    pub dynamic_text: bool,
    /// Depthwise convolutions of several outputs a channel become plain ones over repeated channels.
    pub plain_depthwise: bool,
}

impl Default for Build {
    fn default() -> Build {
        Build {
            target: Target::default(),
            ports: Ports::PLAIN,
            batch: None,
            normalize: true,
            fold: true,
            last_block: true,
            map_query: true,
            text_cut: true,
            dynamic_text: false,
            plain_depthwise: true,
        }
    }
}

impl Build {
    /// Rows of every input and output: as said, or one where the target fixes every axis.
    pub fn rows(&self) -> Option<usize> {
        self.batch.or(self.target.profile.static_batch.then_some(1))
    }

    /// Whether the text tower's length depends on the ids.
    pub fn cuts_text(&self, text: &TextCfg) -> bool {
        self.text_cut
            && !self.ports.hidden
            && self.rows().is_none()
            && self.target.profile.data_dependent_shapes
            && text.ends_where_pooled()
    }
}

/// The image tower: `pixel_values [batch_size, 3, H, W]` (or NaFlex's four inputs) →
/// `image_embeds [batch_size, embed_dim]`, L2-normalised if asked for.
///
/// # Errors
/// A parameter that is missing or has another shape.
pub fn image(config: &ModelConfig, params: &Params, build: &Build) -> Result<Graph, Error> {
    let graph = Graph::new("vision_model", build.target);
    let s = Scope::root(&graph, params, build, "visual");
    finish(&s, image_embedding(&s, config)?, build.ports.image_embeds, config);
    Ok(graph)
}

/// The image tower up to its embedding, `[B, embed_dim]`.
fn image_embedding(s: &Scope, config: &ModelConfig) -> Result<Value, Error> {
    match &config.vision_cfg {
        VisionCfg::Vit(vit) => vit::tower(s, config, vit),
        VisionCfg::NaflexVit(vit) => naflex::tower(s, vit, config),
        VisionCfg::FastVit(fastvit) => fastvit::tower(s, config, fastvit),
    }
}

/// The text tower: `input_ids` int64 `[batch_size, context_length]` →
/// `text_embeds [batch_size, embed_dim]`.
///
/// # Errors
/// As [`image()`].
pub fn text(config: &ModelConfig, params: &Params, build: &Build) -> Result<Graph, Error> {
    let graph = Graph::new("text_model", build.target);
    let s = Scope::root(&graph, params, build, "text");
    let embedding = text::tower(&s, &config.text_cfg, config.embed_dim)?;
    finish(&s, embedding, build.ports.text_embeds, config);
    Ok(graph)
}

/// Both towers in one graph, and what they make of one another: `pixel_values [image_batch_size, 3, H, W]` (or
/// NaFlex's four inputs) and `input_ids [text_batch_size, L]` → `logits_per_image [image_batch_size,
/// text_batch_size]`, `logits_per_text`, which is that transposed, `text_embeds` and `image_embeds`, normalised;
/// named as transformers names them. Scale and bias are inside.
///
/// # Errors
/// As [`image()`] and [`logits()`].
pub fn combined(config: &ModelConfig, params: &Params, build: &Build) -> Result<Graph, Error> {
    let graph = Graph::new("model", build.target);
    let root = |name: &str| Scope::root(&graph, params, build, name);
    let visual = root("visual").with_rows("image_batch_size");
    let image = l2_normalize(&visual, image_embedding(&visual, config)?, config);
    let textual = root("text").with_rows("text_batch_size");
    let text = text::tower(&textual, &config.text_cfg, config.embed_dim)?;
    let text = l2_normalize(&textual, text, config);

    let s = root("logits");
    let per_image = s.matmul(image, s.transpose(text, &[1, 0]));
    let Logits { logit_scale_exp, logit_bias, .. } = logits(config, params)?;
    let per_image = s.mul(per_image, s.scalar(logit_scale_exp));
    let per_image = logit_bias.map_or(per_image, |bias| s.add(per_image, s.scalar(bias)));
    let per_text = s.transpose(per_image, &[1, 0]);
    graph.output(per_image, LOGITS_PER_IMAGE, ElementType::Float, vec![visual.rows(), textual.rows()]);
    graph.output(per_text, "logits_per_text", ElementType::Float, vec![textual.rows(), visual.rows()]);
    embeds(&textual, text, build.ports.text_embeds, config);
    embeds(&visual, image, build.ports.image_embeds, config);
    Ok(graph)
}

/// The image tower and what it is likely to show: `pixel_values` → `probabilities [batch_size, labels]`, and
/// `image_embeds`, normalised. `labels [labels, embed_dim]` are the labels' normalised embeddings. Of CLIP one of
/// them is shown, so that they sum to one; of SigLIP, which has a bias, each is by itself.
///
/// # Errors
/// As [`image()`] and [`logits()`].
pub fn classifier(config: &ModelConfig, params: &Params, build: &Build, labels: &Tensor) -> Result<Graph, Error> {
    let graph = Graph::new("classifier", build.target);
    let visual = Scope::root(&graph, params, build, "visual");
    let image = l2_normalize(&visual, image_embedding(&visual, config)?, config);

    let s = Scope::root(&graph, params, build, "labels");
    let Logits { logit_scale_exp, logit_bias, .. } = logits(config, params)?;
    let count = labels.shape()[0];
    let weight = labels.scaled(f64::from(logit_scale_exp)).permute(&[1, 0]);
    // No `weight`: it stays float32 in every precision, as what it is multiplied with does.
    let scores = s.matmul(image, s.initializer("embeds", weight)); // [B, labels]
    let probabilities = match logit_bias {
        Some(bias) => s.sigmoid(s.add(scores, s.scalar(bias))),
        None => s.softmax(scores, -1),
    };
    graph.output(probabilities, PROBABILITIES, ElementType::Float, vec![visual.rows(), Dim::Fixed(count)]);
    embeds(&visual, image, build.ports.image_embeds, config);
    Ok(graph)
}

/// What both towers of a configuration read, and the numbers beside them: names, shapes, heads.
///
/// # Errors
/// None today: a recorder has every parameter.
pub fn wanted(config: &ModelConfig) -> Result<BTreeMap<String, Wanted>, Error> {
    let params = Params::recorder();
    image(config, &params, &Build::default())?;
    text(config, &params, &Build::default())?;
    logits(config, &params)?;
    Ok(params.into_wanted())
}

/// What turns two embeddings into logits: `scale.exp() * image @ textᵀ + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logits {
    /// The stored parameter, a logarithm.
    pub logit_scale: f32,
    /// Its exponential, clamped where the model clamps it.
    pub logit_scale_exp: f32,
    pub logit_bias: Option<f32>,
}

impl Logits {
    /// What files say of them.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::from([
            ("logit_scale".to_owned(), self.logit_scale.to_string()),
            ("logit_scale_exp".to_owned(), self.logit_scale_exp.to_string()),
        ]);
        out.extend(self.logit_bias.map(|bias| ("logit_bias".to_owned(), bias.to_string())));
        out
    }
}

/// Reads the logits' scale and bias.
///
/// # Errors
/// A parameter that is missing, or a bias the configuration does not know of.
pub fn logits(config: &ModelConfig, params: &Params) -> Result<Logits, Error> {
    let number = |name: &str| -> Result<f32, Error> { Ok(params.get(name, &[])?.to_f32()?[0]) };
    let logit_scale = number("logit_scale")?;
    let logit_bias = if config.logit_bias { Some(number("logit_bias")?) } else { None };
    let scale = logit_scale.exp();
    if !scale.is_finite() {
        return Err(Error::LogitScale { found: logit_scale });
    }
    let logit_scale_exp = config.logit_scale_max.map_or(scale, |max| scale.min(max));
    Ok(Logits { logit_scale, logit_scale_exp, logit_bias })
}

/// Every place of the last block as an output, where that is asked for: `[B, N, D]`.
fn hidden(s: &Scope, x: Value, places: Dim, width: usize) -> Value {
    if s.build().ports.hidden {
        let x = apart(s, x, &places, width);
        s.graph().output(x, "last_hidden_state", ElementType::Float, vec![s.rows(), places, Dim::Fixed(width)]);
        return x;
    }
    x
}

/// All places, normed, which are those of patches too, as outputs where they are asked for: `[B, N, D]`.
fn places(s: &Scope, x: Value, dim: Dim, width: usize) -> Value {
    let x = hidden(s, x, dim.clone(), width);
    // One value has one name.
    let both = s.build().ports.hidden && s.build().ports.patches;
    patches(s, if both { s.identity(x) } else { x }, dim, width);
    x
}

/// Rows of all places as places again, where they were put together.
fn apart(s: &Scope, x: Value, places: &Dim, width: usize) -> Value {
    let places = if let Dim::Fixed(places) = places { Some(*places) } else { None };
    layers::places(s, x, places, width)
}

/// The places of patches, normed, as an output where that is asked for: `[B, N, D]`.
fn patches(s: &Scope, x: Value, places: Dim, width: usize) {
    if s.build().ports.patches {
        let x = apart(s, x, &places, width);
        s.graph().output(x, "patch_tokens", ElementType::Float, vec![s.rows(), places, Dim::Fixed(width)]);
    }
}

/// Declares embeddings as an output.
fn embeds(s: &Scope, embedding: Value, name: &str, config: &ModelConfig) {
    s.graph().output(embedding, name, ElementType::Float, vec![s.rows(), Dim::Fixed(config.embed_dim)]);
}

fn finish(s: &Scope, embedding: Value, name: &str, config: &ModelConfig) {
    let embedding = if s.build().normalize { l2_normalize(s, embedding, config) } else { embedding };
    embeds(s, embedding, name, config);
}

/// z / (‖z‖ + 1e-8) as big_vision has it, z / max(‖z‖, 1e-12) as torch's `normalize` does, z / ‖z‖ in
/// transformers.
fn l2_normalize(s: &Scope, z: Value, config: &ModelConfig) -> Value {
    let norm = s.l2_norm(z, config.embed_dim);
    let norm = match config.dialect {
        Dialect::Original => s.add(norm, s.number(1e-8, 2)),
        Dialect::OpenClip => s.at_least(norm, 1e-12, 2),
        Dialect::Transformers => norm,
    };
    s.div(z, norm)
}
