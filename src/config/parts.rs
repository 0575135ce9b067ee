//! What towers of several families are made of: activations, transformer blocks, the projection behind pooling.

use serde::{Deserialize, Serialize};

use super::check::{Problem, divides, ensure, eps, layers, widths};

/// Activation of the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// x Φ(x).
    Gelu,
    /// Its tanh approximation, Flax's default.
    GeluTanh,
    /// x σ(1.702 x), OpenAI's.
    QuickGelu,
}

/// Pre-norm transformer blocks; queries, keys, values and all linear layers with bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transformer {
    /// Channels of every position between blocks (the hidden size).
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; a divisor of the width.
    pub heads: usize,
    /// Hidden width of each MLP.
    pub mlp_dim: usize,
    /// Activation of each MLP.
    pub act: Act,
    /// Epsilon of every LayerNorm in the tower.
    pub norm_eps: f32,
    /// Whether what attention and MLP add is multiplied by a learned number for each channel. Touvron et al. 2021 (CaiT).
    pub layer_scale: bool,
}

impl Transformer {
    /// Whether these are blocks; `at` is the section of the configuration, such as `vision_cfg.`.
    pub(super) fn check(&self, at: &str) -> Result<(), Problem> {
        layers(at, "layers", self.layers)?;
        widths(at, &[("width", self.width), ("heads", self.heads), ("mlp_dim", self.mlp_dim)])?;
        divides(at, "heads", self.heads, self.width)?;
        eps(at, "norm_eps", self.norm_eps)
    }
}

/// The matrix after pooling, from the tower's width to the embedding's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether a bias is added after the matrix product.
    pub bias: bool,
}

/// [`Head`] as JSON has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Proj {
    None,
    Linear,
}

impl Head {
    /// From `proj` and `proj_bias` of the section `at`.
    pub(super) fn read(at: &str, proj: Proj, bias: bool) -> Result<Option<Head>, Problem> {
        match proj {
            Proj::Linear => Ok(Some(Head { bias })),
            Proj::None => {
                ensure(!bias, &format!("{at}proj_bias"), bias, "false with proj `none`")?;
                Ok(None)
            }
        }
    }

    /// As `proj` and `proj_bias`.
    pub(super) fn write(head: Option<Head>) -> (Proj, bool) {
        head.map_or((Proj::None, false), |head| (Proj::Linear, head.bias))
    }

    /// Whether a tower of this width gives embeddings of `embed_dim`.
    pub(super) fn check(head: Option<Head>, at: &str, width: usize, embed_dim: usize) -> Result<(), Problem> {
        let expected = format!("`linear`, as width {width} is not embed_dim {embed_dim}");
        ensure(head.is_some() || width == embed_dim, &format!("{at}proj"), "`none`", expected)
    }
}
