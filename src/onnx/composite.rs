//! Composite operators: what towers need and ONNX does not have, or what runtimes do not all support in the same form.
//!
//! Only a graph under construction contains them; [`super::legalize`] replaces each by standard operators for the target.
//! They carry their weights themselves, because how those are stored depends on the replacement.

use super::graph::Value;
use crate::tensor::{Error, Tensor};

/// Which positions attend to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Position i attends to j ≤ i. The value is the same as numbers to add, `[N, N]`, for targets without a causal
    /// attention operator.
    Causal(Value),
    /// Numbers to add to the scores, broadcast to `[B, H, Nq, N]`.
    Added(Value),
}

impl Mask {
    /// The numbers to add.
    pub fn value(self) -> Value {
        match self {
            Mask::Causal(value) | Mask::Added(value) => value,
        }
    }
}

/// Parameters of attention besides q, k and v.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// D, the channels of all heads together.
    pub width: usize,
    /// H, the number of heads; a divisor of the width.
    pub heads: usize,
    /// Number of positions, where it is known at export.
    pub positions: Option<usize>,
    /// Whether there is one query, the same for the whole batch: `[1, 1, D]`.
    pub one_query: bool,
    /// What is added to the scores before softmax.
    pub mask: Option<Mask>,
    /// Whether 1/√head_dim is in the query's weights already.
    pub scaled: bool,
}

/// Which position of a text is pooled, found from its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    /// The first one with the largest id, as CLIP pools its end token.
    LargestId,
    /// The first one with this id; position 0 if there is none.
    FirstOf(i64),
}

/// Parameters for finding the pooled position of each text.
#[derive(Clone, Copy, Debug)]
pub struct Texts {
    /// Rule that selects the position.
    pub pooled: Pooled,
    /// Maximal number of ids in a text.
    pub context_length: usize,
    /// All ids are smaller than this.
    pub vocab_size: usize,
    /// Whether ids are int32, not int64.
    pub int32: bool,
}

/// A matrix whose rows belong to heads, one head after another, such as the key matrix of attention.
#[derive(Clone, Debug)]
pub struct HeadRows {
    /// H, the number of heads; a divisor of D.
    pub heads: usize,
    /// `[D, I]`
    pub matrix: Tensor,
    /// The same as `[H, D/H, I]`
    pub by_head: Tensor,
}

impl HeadRows {
    /// Splits the rows of `matrix [D, I]` into heads.
    ///
    /// # Errors
    /// If the number of rows is not divisible by that of heads.
    pub fn new(matrix: Tensor, heads: usize) -> Result<HeadRows, Error> {
        let (rows, columns) = (matrix.shape()[0], matrix.shape()[1]);
        let by_head = matrix.reshape(&[heads, rows / heads, columns])?;
        Ok(HeadRows { heads, matrix, by_head })
    }
}

/// A composite operator. [`CompositeOps`](super::CompositeOps) defines what each computes.
#[derive(Clone, Debug)]
pub enum Composite {
    /// `CompositeOps::attention`.
    Attention(Heads),
    /// `CompositeOps::causal_mask`.
    CausalMask {
        /// N, the number of positions.
        positions: usize,
    },
    /// `CompositeOps::prepend_token`.
    PrependToken {
        /// The token, `[D]`.
        token: Vec<f32>,
        /// Positions to add, `[N, D]` in row-major order.
        positions: Vec<f32>,
    },
    /// `CompositeOps::pooled_position`.
    PooledPosition(Texts),
    /// `CompositeOps::row_index`.
    RowIndex {
        /// N, the number of positions of each row.
        positions: usize,
    },
    /// `CompositeOps::mask_row`.
    MaskRow,
    /// `CompositeOps::take_position`.
    TakePosition {
        /// D, the channels of each position.
        width: usize,
    },
    /// `CompositeOps::linear_to_heads`.
    LinearToHeads(HeadRows),
    /// `CompositeOps::linear_from_heads`.
    LinearFromHeads(HeadRows),
    /// `CompositeOps::at_least`.
    AtLeast {
        /// Lower bound.
        least: f32,
        /// Smallest possible number of axes of the operand.
        rank: usize,
    },
    /// `CompositeOps::l2_norm`.
    L2Norm {
        /// Length of the last axis.
        width: usize,
    },
    /// `CompositeOps::row_max`.
    RowMax,
}

impl Composite {
    /// Name of the operator.
    pub fn name(&self) -> &'static str {
        match self {
            Composite::Attention(_) => "Attention",
            Composite::CausalMask { .. } => "CausalMask",
            Composite::PrependToken { .. } => "PrependToken",
            Composite::PooledPosition(_) => "PooledPosition",
            Composite::RowIndex { .. } => "RowIndex",
            Composite::MaskRow => "MaskRow",
            Composite::TakePosition { .. } => "TakePosition",
            Composite::LinearToHeads(_) => "LinearToHeads",
            Composite::LinearFromHeads(_) => "LinearFromHeads",
            Composite::AtLeast { .. } => "AtLeast",
            Composite::L2Norm { .. } => "L2Norm",
            Composite::RowMax => "RowMax",
        }
    }
}
