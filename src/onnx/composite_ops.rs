//! Composite operators as methods: what each computes.

use super::composite::{Composite, HeadRows, Heads, Mask, Texts};
use super::graph::Value;
use super::ops::Ops;

/// One method per composite operator.
pub trait CompositeOps: Ops {
    /// Adds a composite operator at the current path; gives its output.
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
