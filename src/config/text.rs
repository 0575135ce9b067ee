//! Text towers: what all have in common, and one family a file with its own fields and the answers to every question
//! other code asks of it.

use serde::{Deserialize, Serialize};

use super::check::{MOST_EMBEDDINGS, Problem, dims, ensure, matrix};
use super::parts::{Act, Head, Proj, Transformer};
use super::tokens::Clean;
use super::{Dialect, Family};

mod clip;
mod mct;

pub use clip::ClipText;
pub use mct::{MctText, RepMixer};

/// The section's name in error messages.
const AT: &str = "text_cfg.";

/// The text tower.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "TextFields")]
pub struct TextCfg {
    /// Number of ids in a row.
    pub context_length: usize,
    /// Rows of the token embedding; ids are smaller than this.
    pub vocab_size: usize,
    /// Blocks between the token embeddings and pooling.
    pub tower: TextTower,
    /// Which position is pooled.
    pub pool_type: TextPool,
    /// Projection to the embedding; None where the pooled vector is the embedding.
    pub head: Option<Head>,
    /// Id of the padding token.
    pub pad_id: i64,
    /// Id of the start token; None where rows have none.
    pub sot_id: Option<i64>,
    /// Id of the end token.
    pub eot_id: i64,
    /// How sentences are cleaned, where that is not as the model's lineage and dialect do it.
    pub clean: Option<Clean>,
}

/// What is between the token embeddings and pooling.
#[derive(Clone, Debug, PartialEq)]
pub enum TextTower {
    /// Transformer blocks alone, as in CLIP and SigLIP.
    Transformer(ClipText),
    /// MobileCLIP-S0's: a RepMixer block before the layers and one after them.
    Mct(MctText),
}

impl TextTower {
    /// What the tower answers of itself.
    pub fn family(&self) -> &dyn TextFamily {
        match self {
            TextTower::Transformer(family) => family,
            TextTower::Mct(family) => family,
        }
    }

    fn family_mut(&mut self) -> &mut dyn TextFamily {
        match self {
            TextTower::Transformer(family) => family,
            TextTower::Mct(family) => family,
        }
    }
}

/// What other code asks of a text tower. No method has a default: a new family answers every one.
pub trait TextFamily {
    /// Whether a graph can be built from these numbers.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another one.
    fn check(&self) -> Result<(), Problem>;

    /// Width and attention layers.
    fn blocks(&self) -> &Transformer;

    /// Whether the attention layers have a causal mask.
    fn is_causal(&self) -> bool;

    /// Whether each position depends on itself and those before it alone, in the whole tower.
    fn sees_earlier_alone(&self) -> bool;

    /// How sentences are cleaned for a model of this lineage in this dialect.
    fn clean(&self, lineage: Family, dialect: Dialect) -> Clean;

    /// Whether training-time branches are stored folded into one convolution each; None where there are none.
    fn reparameterized_mut(&mut self) -> Option<&mut bool>;

    /// What of the tower open_clip has no module for; None where it has all.
    fn open_clip_lacks(&self) -> Option<&'static str>;

    /// Puts the family's own fields into those of JSON, with its `model_type`.
    fn write(&self, fields: &mut TextFields);
}

/// Position whose hidden state becomes the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextPool {
    /// Last position.
    Last,
    /// Position of the largest id.
    Argmax,
    /// Position 0.
    First,
    /// First position of `eot_id`.
    Eos,
}

impl TextCfg {
    /// Widths and number of the attention layers.
    pub fn blocks(&self) -> &Transformer {
        self.tower.family().blocks()
    }

    /// Activation of the layers.
    pub fn act(&self) -> Act {
        self.blocks().act
    }

    pub(super) fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        self.tower.family_mut().reparameterized_mut()
    }

    /// Rows of ids in words, such as `77 ids, start 49406, end 49407, padding 0`.
    pub fn describe(&self) -> String {
        let start = self.sot_id.map_or_else(String::new, |id| format!("start {id}, "));
        let clean = self.clean.map_or_else(String::new, |clean| format!(", cleaned: {clean}"));
        format!("{} ids, {start}end {}, padding {}{clean}", self.context_length, self.eot_id, self.pad_id)
    }

    /// Whether nothing behind the pooled position reaches the embedding: each position depends on those before it
    /// alone, and each row is pooled where it ends.
    pub fn ends_where_pooled(&self) -> bool {
        let at_end = matches!(self.pool_type, TextPool::Argmax | TextPool::Eos);
        at_end && self.tower.family().sees_earlier_alone()
    }

    pub(super) fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        dims(AT, &[("context_length", self.context_length), ("vocab_size", self.vocab_size)])?;
        ensure(self.context_length <= 4096, "text_cfg.context_length", self.context_length, "at most 4096")?;
        self.tower.family().check()?;
        matrix("text_cfg: its token embeddings", self.vocab_size, self.blocks().width, MOST_EMBEDDINGS)?;
        let ids = [("pad_id", Some(self.pad_id)), ("sot_id", self.sot_id), ("eot_id", Some(self.eot_id))];
        for (field, id) in ids.into_iter().filter_map(|(field, id)| Some((field, id?))) {
            let known = usize::try_from(id).is_ok_and(|id| id < self.vocab_size);
            let expected = format!("an id below vocab_size {}", self.vocab_size);
            ensure(known, &format!("{AT}{field}"), id, expected)?;
        }
        Head::check(self.head, AT, self.blocks().width, embed_dim)
    }
}

/// `model_type` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TextModel {
    Transformer,
    Mct,
}

/// [`TextCfg`] as JSON has it: the fields of all families, of which each takes its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFields {
    model_type: TextModel,
    context_length: usize,
    vocab_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
    mlp_dim: usize,
    act: Act,
    norm_eps: f32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    layer_scale: bool,
    no_causal_mask: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repmixer_kernel: Option<[usize; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repmixer_mlp_dim: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bn_eps: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reparameterized: Option<bool>,
    pool_type: TextPool,
    proj: Proj,
    proj_bias: bool,
    pad_id: i64,
    sot_id: Option<i64>,
    eot_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clean: Option<Clean>,
}

impl TextFields {
    fn transformer(&self) -> Transformer {
        Transformer {
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            mlp_dim: self.mlp_dim,
            act: self.act,
            norm_eps: self.norm_eps,
            layer_scale: self.layer_scale,
        }
    }
}

impl TryFrom<TextFields> for TextCfg {
    type Error = Problem;

    fn try_from(f: TextFields) -> Result<TextCfg, Problem> {
        let tower = match f.model_type {
            TextModel::Transformer => TextTower::Transformer(ClipText::read(&f)?),
            TextModel::Mct => TextTower::Mct(MctText::read(&f)?),
        };
        Ok(TextCfg {
            context_length: f.context_length,
            vocab_size: f.vocab_size,
            tower,
            pool_type: f.pool_type,
            head: Head::read(AT, f.proj, f.proj_bias)?,
            pad_id: f.pad_id,
            sot_id: f.sot_id,
            eot_id: f.eot_id,
            clean: f.clean,
        })
    }
}

impl From<TextCfg> for TextFields {
    fn from(text: TextCfg) -> TextFields {
        let Transformer { width, layers, heads, mlp_dim, act, norm_eps, layer_scale } = *text.blocks();
        let (proj, proj_bias) = Head::write(text.head);
        let mut fields = TextFields {
            model_type: TextModel::Transformer,
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            width,
            layers,
            heads,
            mlp_dim,
            act,
            norm_eps,
            layer_scale,
            no_causal_mask: !text.tower.family().is_causal(),
            repmixer_kernel: None,
            repmixer_mlp_dim: None,
            bn_eps: None,
            reparameterized: None,
            pool_type: text.pool_type,
            proj,
            proj_bias,
            pad_id: text.pad_id,
            sot_id: text.sot_id,
            eot_id: text.eot_id,
            clean: text.clean,
        };
        text.tower.family().write(&mut fields);
        fields
    }
}
