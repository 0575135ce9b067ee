//! Composite operators: what towers need and ONNX does not have, or what runtimes do not all support in the same form.
//!
//! Only a graph under construction contains them; [`super::legalize`] replaces each by standard operators for the target.
//! They carry their weights themselves, because how those are stored depends on the replacement.

use super::graph::Value;
use super::ops::Ops;
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
    pub width: usize,
    pub heads: usize,
    /// Number of positions, where it is known at export.
    pub positions: Option<usize>,
    /// Whether there is one query, the same for the whole batch: `[1, 1, D]`.
    pub one_query: bool,
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

/// A composite operator. [`CompositeOps`] defines what each computes.
#[derive(Clone, Debug)]
pub enum Composite {
    Attention(Heads),
    CausalMask { positions: usize },
    PrependToken { token: Vec<f32>, positions: Vec<f32> },
    PooledPosition(Texts),
    RowIndex { positions: usize },
    MaskRow,
    TakePosition { width: usize },
    LinearToHeads(HeadRows),
    LinearFromHeads(HeadRows),
    AtLeast { least: f32, rank: usize },
    L2Norm { width: usize },
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

/// One method per composite operator.
pub trait CompositeOps: Ops {
    fn composite(&self, composite: Composite, inputs: &[Value]) -> Value {
        self.graph().composite(self.path(), composite, inputs)
    }

    /// softmax(q kᵀ / √head_dim + mask) v for q, k, v `[B, N, D]`, heads side by side in D. Vaswani et al. 2017, eq. 1.
    fn attention(&self, [q, k, v]: [Value; 3], heads: Heads) -> Value {
        let inputs: Vec<Value> = [q, k, v].into_iter().chain(heads.mask.map(Mask::value)).collect();
        self.composite(Composite::Attention(heads), &inputs)
    }

    /// `[N, N]`: 0 where position i attends to j ≤ i, and elsewhere a number far below all scores.
    fn causal_mask(&self, positions: usize) -> Value {
        self.composite(Composite::CausalMask { positions }, &[])
    }

    /// `[B, N + 1, D]`: `token [D]`, then x `[B, N, D]` + `positions [N, D]`.
    fn prepend_token(&self, x: Value, token: Vec<f32>, positions: Vec<f32>) -> Value {
        self.composite(Composite::PrependToken { token, positions }, &[x])
    }

    /// The pooled position of each text, `[B, 1]`, of ids `[B, L]`; `length` is L, `[1]`, where it depends on the
    /// input.
    fn pooled_position(&self, ids: Value, length: Option<Value>, texts: Texts) -> Value {
        let inputs: Vec<Value> = [ids].into_iter().chain(length).collect();
        self.composite(Composite::PooledPosition(texts), &inputs)
    }

    /// Pairs of row and position, (0, position₀), (1, position₁), …, that index `[B, N, D]` in
    /// [`CompositeOps::take_position`]; N is `positions`. PyTorch: `x[torch.arange(B), position]`.
    fn row_index(&self, position: Value, positions: usize) -> Value {
        self.composite(Composite::RowIndex { positions }, &[position])
    }

    /// `[B, 1, N]`: the row of `mask [L, N]` at each text's pooled position; `length` as in
    /// [`CompositeOps::pooled_position`].
    fn mask_row(&self, mask: Value, position: Value, length: Option<Value>) -> Value {
        let inputs: Vec<Value> = [mask, position].into_iter().chain(length).collect();
        self.composite(Composite::MaskRow, &inputs)
    }

    /// `[B, D]`: of each row of x `[B, N, D]` the position that `index` selects, an output of
    /// [`CompositeOps::row_index`].
    fn take_position(&self, x: Value, index: Value, width: usize) -> Value {
        self.composite(Composite::TakePosition { width }, &[x, index])
    }

    /// `[B, D]` → `[B, H, I]`: each head's D/H channels times its rows of the matrix `[D, I]`.
    fn linear_to_heads(&self, x: Value, matrix: HeadRows) -> Value {
        self.composite(Composite::LinearToHeads(matrix), &[x])
    }

    /// `[B, H, I]` → `[B, D]`: each head's vector times the transpose of its rows of the matrix `[D, I]`; the results are
    /// the head's channels.
    fn linear_from_heads(&self, x: Value, matrix: HeadRows) -> Value {
        self.composite(Composite::LinearFromHeads(matrix), &[x])
    }

    /// max(x, least), element by element; `x` has at least `rank` axes.
    fn at_least(&self, x: Value, least: f32, rank: usize) -> Value {
        self.composite(Composite::AtLeast { least, rank }, &[x])
    }

    /// √Σx² over the last axis, whose length is `width`; the axis is kept with length 1.
    fn l2_norm(&self, x: Value, width: usize) -> Value {
        self.composite(Composite::L2Norm { width }, &[x])
    }

    /// The largest number of each row: `[B, N]` → `[B, 1]`.
    fn row_max(&self, x: Value) -> Value {
        self.composite(Composite::RowMax, &[x])
    }
}

impl<T: Ops> CompositeOps for T {}
