//! Configuration + parameters → graphs. The one place where both meet.
//!
//! No tower asks which checkpoint its parameters came from: choices are fields of the
//! configuration, and parameters are read strictly, by name and shape.

use std::collections::BTreeMap;

use crate::config::{Dialect, ModelConfig, TextCfg, VisionCfg};
use crate::onnx::graph::{Dim, ElementType, Graph};
use crate::onnx::{Ops, Target, Value};
use crate::params::{Error, Params, Wanted};

mod convs;
mod fastvit;
mod image;
mod layers;
mod naflex;
mod pool;
mod scope;
mod text;
mod vit;

use scope::Scope;

const SEQUENCE: Dim = Dim::Named("sequence_length");

/// How an image tower is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// float32 `[B, 3, H, W]`, as preprocessing leaves them.
    Float,
    /// Bytes as decoders leave them: scale, mean and deviation are in the graph.
    Bytes {
        /// Channels are the last axis, not the second.
        last: bool,
        /// A fourth channel may come, and is dropped.
        alpha: bool,
        /// Of any height and width: resizing and cropping are in the graph.
        resize: bool,
    },
}

impl Pixels {
    /// What flags and manifests call them.
    pub fn name(self) -> &'static str {
        match self {
            Pixels::Float => "float",
            Pixels::Bytes { last: true, .. } => "uint8",
            Pixels::Bytes { last: false, .. } => "uint8-nchw",
        }
    }

    /// Whether pictures of any size are taken.
    pub fn resizes(self) -> bool {
        matches!(self, Pixels::Bytes { resize: true, .. })
    }
}

/// What a tower's inputs and outputs are called, and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub image: &'static str,
    pub pixels: Pixels,
    pub image_embeds: &'static str,
    pub tokens: &'static str,
    pub text_embeds: &'static str,
    /// Token ids as int32.
    pub int32: bool,
    /// Every place of the last block, normed, as `last_hidden_state`.
    pub hidden: bool,
}

impl Ports {
    pub const PLAIN: Ports = Ports {
        image: "pixel_values",
        pixels: Pixels::Float,
        image_embeds: "image_embeds",
        tokens: "input_ids",
        text_embeds: "text_embeds",
        int32: false,
        hidden: false,
    };
}

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
    /// Causal text of any length up to the context is taken: `input_ids [batch_size, sequence_length]`.
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
    let embedding = match &config.vision_cfg {
        VisionCfg::Vit(vit) => vit::tower(&s, config, vit)?,
        VisionCfg::NaflexVit(vit) => naflex::tower(&s, vit, config.embed_dim)?,
        VisionCfg::FastVit(fastvit) => fastvit::tower(&s, config, fastvit)?,
    };
    finish(&s, embedding, build.ports.image_embeds, config);
    Ok(graph)
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

/// The first axis of everything.
fn batch(s: &Scope) -> Dim {
    s.build().rows().map_or(Dim::Named("batch_size"), Dim::Fixed)
}

/// Every place of the last block, normed, as an output where that is asked for: `[B, N, D]`.
fn hidden(s: &Scope, x: Value, width: usize, places: Option<usize>) -> Value {
    if s.build().ports.hidden {
        let x = layers::places(s, x, places, width);
        let places = places.map_or(SEQUENCE, Dim::Fixed);
        s.graph().output(x, "last_hidden_state", ElementType::Float, vec![batch(s), places, Dim::Fixed(width)]);
    }
    x
}

fn finish(s: &Scope, embedding: Value, name: &str, config: &ModelConfig) {
    let embedding = if s.build().normalize { l2_normalize(s, embedding, config) } else { embedding };
    s.graph().output(embedding, name, ElementType::Float, vec![batch(s), Dim::Fixed(config.embed_dim)]);
}

/// z / (‖z‖ + 1e-8) as big_vision has it, z / max(‖z‖, 1e-12) as torch's `normalize` does, z / ‖z‖ in
/// transformers.
fn l2_normalize(s: &Scope, z: Value, config: &ModelConfig) -> Value {
    let norm = s.l2_norm(z, config.embed_dim);
    let norm = match config.dialect {
        Dialect::Original => s.add(norm, s.scalar(1e-8)),
        Dialect::OpenClip => s.at_least(norm, 1e-12),
        Dialect::Transformers => norm,
    };
    s.div(z, norm)
}
