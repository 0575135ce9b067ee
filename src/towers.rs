//! Configuration + parameters → graphs. The only module that uses both.
//!
//! No tower asks which checkpoint its parameters came from: choices are fields of the configuration, and parameters are
//! read strictly, by name and shape. Nor does a tower know its target, which [`crate::onnx::legalize`] handles, or how its
//! outputs are declared, which is decided here.

use std::collections::BTreeMap;

use crate::config::{Dialect, ModelConfig, TextCfg, VisionCfg};
use crate::modality::Modality;
use crate::onnx::graph::{Dim, ElementType, Role};
use crate::onnx::{CompositeOps, Graph, Ops, Target, Value};
use crate::params::{Error, Params, Wanted};
use crate::ports::{LOGITS_PER_IMAGE, PROBABILITIES, Ports};
use crate::tensor::Tensor;

mod convs;
mod layers;
mod pool;
mod rep_mixer;
mod scope;
#[cfg(test)]
mod testing;
mod text;
mod vision;

use scope::{Options, Scope};
pub use vision::cannot_resize;

/// Number of ids in a text, if it is not fixed.
const SEQUENCE: Dim = Dim::Named("sequence_length");
/// Number of patches of an image, if it is not fixed.
const PATCHES: Dim = Dim::Named("num_patches");

/// How graphs are built. What they compute is given by the configuration; none of these options changes it by more than
/// rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The runtimes the graph is for.
    pub target: Target,
    /// Names and types of inputs and outputs.
    pub ports: Ports,
    /// Rows of every input and output, where that is fixed.
    pub batch: Option<usize>,
    /// L2-normalise the embeddings.
    pub normalize: bool,
    /// Training-time branches, BatchNorms, layer scales and the attention scale become part of the weights next to
    /// them.
    pub fold: bool,
    /// The last block is computed for the pooled position alone.
    pub last_block: bool,
    /// The MAP head's query, a constant, is folded into its keys.
    pub map_query: bool,
    /// Causal text is cut in the graph behind the batch's last pooled position, where the target allows
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

    fn options(&self, config: &ModelConfig) -> Options {
        Options {
            batch: self.rows(),
            fold: self.fold,
            last_block: self.last_block,
            map_query: self.map_query,
            dynamic_text: self.dynamic_text,
            cut_text: config.text_cfg.as_ref().is_some_and(|text| self.cuts_text(text)),
            plain_depthwise: self.plain_depthwise,
        }
    }
}

/// Which outputs of a tower are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The embedding only: the last block need not be computed for all positions.
    Pooled,
    /// All positions as well.
    Tokens,
}

impl Want {
    fn tokens_if(shown: bool) -> Want {
        if shown { Want::Tokens } else { Want::Pooled }
    }
}

/// The outputs of a tower.
struct Encoded {
    /// Always there with [`Want::Tokens`].
    tokens: Option<Tokens>,
    /// The embedding, `[B, embed_dim]`.
    pooled: Value,
}

/// All positions after the last block.
struct Tokens {
    /// `[B, N, D]`
    normed: Value,
    /// The same before the final LayerNorm.
    unnormed: Value,
    /// Whether the first position is the class token.
    class_token: bool,
    /// N, if it is known at export.
    positions: Option<usize>,
    width: usize,
}

impl Encoded {
    fn pooled(pooled: Value) -> Encoded {
        Encoded { tokens: None, pooled }
    }

    fn with_tokens(pooled: Value, normed: Value, positions: Option<usize>, width: usize) -> Encoded {
        let tokens = Tokens { normed, unnormed: normed, class_token: false, positions, width };
        Encoded { tokens: Some(tokens), pooled }
    }
}

/// What builds one tower.
pub type Tower = fn(&ModelConfig, &Params, &Build) -> Result<Graph, Error>;

fn vision_cfg(config: &ModelConfig) -> Result<&VisionCfg, Error> {
    config.vision_cfg.as_ref().ok_or(Error::NoTower { tower: Modality::Image })
}

fn text_cfg(config: &ModelConfig) -> Result<&TextCfg, Error> {
    config.text_cfg.as_ref().ok_or(Error::NoTower { tower: Modality::Text })
}

/// The image tower: `pixel_values [batch_size, 3, H, W]` (or NaFlex's four inputs) →
/// `image_embeds [batch_size, embed_dim]`, L2-normalised if asked for.
///
/// # Errors
/// A parameter that is missing or has another shape.
pub fn image(config: &ModelConfig, params: &Params, build: &Build) -> Result<Graph, Error> {
    let (graph, options) = (Graph::new("vision_model", build.target), build.options(config));
    let s = Scope::root(&graph, params, &options, "visual");
    let want = Want::tokens_if(build.ports.hidden || build.ports.patches);
    let encoded = vision::tower(&s, config, vision_cfg(config)?, &build.ports, want)?;
    if let Some(tokens) = &encoded.tokens {
        image_tokens(&s, tokens, &build.ports);
    }
    finish(&s, encoded.pooled, build.ports.image_embeds, config, build);
    Ok(graph)
}

/// The text tower: `input_ids` int64 `[batch_size, context_length]` →
/// `text_embeds [batch_size, embed_dim]`.
///
/// # Errors
/// As [`image()`].
pub fn text(config: &ModelConfig, params: &Params, build: &Build) -> Result<Graph, Error> {
    let (graph, options) = (Graph::new("text_model", build.target), build.options(config));
    let s = Scope::root(&graph, params, &options, "text");
    let want = Want::tokens_if(build.ports.hidden);
    let encoded = text::tower(&s, text_cfg(config)?, config.embed_dim, &build.ports, want)?;
    if let Some(tokens) = &encoded.tokens {
        hidden(&s, tokens.normed, tokens, SEQUENCE);
    }
    finish(&s, encoded.pooled, build.ports.text_embeds, config, build);
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
    let (graph, options) = (Graph::new("model", build.target), build.options(config));
    let root = |name: &str| Scope::root(&graph, params, &options, name);
    let visual = root("visual").with_batch("image_batch_size");
    let image = vision::tower(&visual, config, vision_cfg(config)?, &build.ports, Want::Pooled)?.pooled;
    let image = l2_normalize(&visual, image, config);
    let textual = root("text").with_batch("text_batch_size");
    let text = text::tower(&textual, text_cfg(config)?, config.embed_dim, &build.ports, Want::Pooled)?.pooled;
    let text = l2_normalize(&textual, text, config);

    let s = root("logits");
    let per_image = s.matmul(image, s.transpose(text, &[1, 0]));
    let Logits { logit_scale_exp, logit_bias, .. } = logits(config, params)?.ok_or(Error::NoScale)?;
    let per_image = s.mul(per_image, s.scalar(logit_scale_exp));
    let per_image = logit_bias.map_or(per_image, |bias| s.add(per_image, s.scalar(bias)));
    let per_text = s.transpose(per_image, &[1, 0]);
    graph.output(per_image, LOGITS_PER_IMAGE, ElementType::Float, vec![visual.batch(), textual.batch()]);
    graph.output(per_text, "logits_per_text", ElementType::Float, vec![textual.batch(), visual.batch()]);
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
    let (graph, options) = (Graph::new("classifier", build.target), build.options(config));
    let visual = Scope::root(&graph, params, &options, "visual");
    let image = vision::tower(&visual, config, vision_cfg(config)?, &build.ports, Want::Pooled)?.pooled;
    let image = l2_normalize(&visual, image, config);

    let s = Scope::root(&graph, params, &options, "labels");
    let Logits { logit_scale_exp, logit_bias, .. } = logits(config, params)?.ok_or(Error::NoScale)?;
    let count = labels.shape()[0];
    let weight = labels.scaled(f64::from(logit_scale_exp)).permute(&[1, 0]);
    let scores = s.matmul(image, s.initializer("embeds", Role::Labels, weight)); // [B, labels]
    let probabilities = match logit_bias {
        Some(bias) => s.sigmoid(s.add(scores, s.scalar(bias))),
        None => s.softmax(scores, -1),
    };
    graph.output(probabilities, PROBABILITIES, ElementType::Float, vec![visual.batch(), Dim::Fixed(count)]);
    embeds(&visual, image, build.ports.image_embeds, config);
    Ok(graph)
}

/// What both towers of a configuration read, and the logits' numbers: names, shapes, heads.
///
/// # Errors
/// None today: a recorder has every parameter.
pub fn wanted(config: &ModelConfig) -> Result<BTreeMap<String, Wanted>, Error> {
    let params = Params::recorder();
    for (tower, build) in [(Modality::Image, image as Tower), (Modality::Text, text)] {
        if config.has(tower) {
            build(config, &params, &Build::default())?;
        }
    }
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

/// Reads the logits' scale and bias; None where there is no scale, which towers do not need.
///
/// # Errors
/// A bias that is missing or that the configuration does not know of.
pub fn logits(config: &ModelConfig, params: &Params) -> Result<Option<Logits>, Error> {
    let number = |name: &str| -> Result<f32, Error> { Ok(params.get(name, &[])?.to_f32()?[0]) };
    if !params.holds("logit_scale") && !params.holds("logit_bias") {
        return Ok(None);
    }
    let logit_scale = number("logit_scale")?;
    let logit_bias = if config.logit_bias { Some(number("logit_bias")?) } else { None };
    let scale = logit_scale.exp();
    if !scale.is_finite() {
        return Err(Error::LogitScale { found: logit_scale });
    }
    let logit_scale_exp = config.logit_scale_max.map_or(scale, |max| scale.min(max));
    Ok(Some(Logits { logit_scale, logit_scale_exp, logit_bias }))
}

/// Declares the outputs over positions that `ports` ask for. `last_hidden_state` is what transformers returns: for towers
/// with a class token, all positions before the final LayerNorm. `patch_tokens` are after it, without the class token.
fn image_tokens(s: &Scope, tokens: &Tokens, ports: &Ports) {
    s.graph().after(tokens.normed, || {
        let all = if tokens.class_token { tokens.unnormed } else { tokens.normed };
        if ports.hidden {
            hidden(s, all, tokens, PATCHES);
        }
        if !ports.patches {
            return;
        }
        let (patches, count) = match (tokens.class_token, tokens.positions) {
            (true, Some(positions)) => {
                let p = s.at("patches");
                let rest = p.slice(tokens.normed, p.ints(&[1]), p.ints(&[positions as i64]), 1);
                (rest, Some(positions - 1))
            }
            // A value can have one name only.
            (_, positions) if ports.hidden => (s.identity(tokens.normed), positions),
            (_, positions) => (tokens.normed, positions),
        };
        positions_output(s, patches, "patch_tokens", count.map_or(PATCHES, Dim::Fixed), tokens.width);
    });
}

/// Declares `last_hidden_state`.
fn hidden(s: &Scope, x: Value, tokens: &Tokens, unknown: Dim) {
    let positions = tokens.positions.map_or(unknown, Dim::Fixed);
    positions_output(s, x, "last_hidden_state", positions, tokens.width);
}

/// Declares `x [B, N, D]` an output.
fn positions_output(s: &Scope, x: Value, name: &str, positions: Dim, width: usize) {
    s.graph().output(x, name, ElementType::Float, vec![s.batch(), positions, Dim::Fixed(width)]);
}

/// Declares embeddings as an output.
fn embeds(s: &Scope, embedding: Value, name: &str, config: &ModelConfig) {
    s.graph().output(embedding, name, ElementType::Float, vec![s.batch(), Dim::Fixed(config.embed_dim)]);
}

/// Declares the embedding an output, L2-normalised if asked for.
fn finish(s: &Scope, embedding: Value, name: &str, config: &ModelConfig, build: &Build) {
    let embedding = if build.normalize { l2_normalize(s, embedding, config) } else { embedding };
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
