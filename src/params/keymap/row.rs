//! Lines of a table, and what they say about single tensors.
//!
//! Tables are constants. One line may stand for several tensors, those of a LayerNorm or of a whole block, and a
//! [`KeyMap`](super::KeyMap) expands it when it is made.

use super::pattern::{self, Part, Pattern};
use super::stored::Stored::{self, Plain};

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    source: &'static str,
    canonical: &'static str,
    content: Content,
}

/// What the two names of a row stand for.
#[derive(Clone, Copy, Debug)]
enum Content {
    Tensor(Stored, Contribution),
    /// A table, whose names follow both prefixes.
    Table(&'static [Row]),
    /// As `Table`, where one tensor of the source has all blocks on a leading axis.
    Stack(&'static [Row]),
}

/// What a row gives of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contribution {
    Whole,
    /// What is added to it.
    Summand,
    /// Its rows from this one on, in place of those that another row gives.
    RowsFrom(usize),
}

/// `source`, stored as `stored` says, is `canonical`.
pub const fn row(source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, content: Content::Tensor(stored, Contribution::Whole) }
}

/// `source` is added to `canonical` when both are there.
pub const fn added(source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, content: Content::Tensor(stored, Contribution::Summand) }
}

/// `source` has the rows of `canonical` from `first` on, in place of those of the tensor that is named so.
pub const fn rows_from(first: usize, source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, content: Content::Tensor(stored, Contribution::RowsFrom(first)) }
}

/// A tensor that has its canonical name and form already.
pub const fn same(name: &'static str) -> Row {
    row(name, name, Plain)
}

/// A table whose names follow the two prefixes.
pub const fn within(source: &'static str, canonical: &'static str, table: &'static [Row]) -> Row {
    Row { source, canonical, content: Content::Table(table) }
}

/// As [`within`], under the canonical prefix already.
pub const fn same_within(prefix: &'static str, table: &'static [Row]) -> Row {
    within(prefix, prefix, table)
}

/// As [`within`], where the source has every block in one tensor (Flax `nn.scan`): entry `i` of the leading axis is
/// block `{i}` of the canonical names.
pub const fn stacked(source: &'static str, canonical: &'static str, table: &'static [Row]) -> Row {
    Row { source, canonical, content: Content::Stack(table) }
}

/// `weight` and `bias` of a LayerNorm, linear or convolution, as PyTorch names and stores them.
pub const fn affine(source: &'static str, canonical: &'static str) -> Row {
    const TENSORS: &[Row] = &[same(".weight"), same(".bias")];
    within(source, canonical, TENSORS)
}

/// As [`affine`], under the canonical name already.
pub const fn same_affine(name: &'static str) -> Row {
    affine(name, name)
}

/// A BatchNorm, as PyTorch names and stores it.
pub const fn batch_norm(source: &'static str, canonical: &'static str) -> Row {
    const TENSORS: &[Row] = &[same(".weight"), same(".bias"), same(".running_mean"), same(".running_var")];
    within(source, canonical, TENSORS)
}

/// As [`batch_norm`], under the canonical name already.
pub const fn same_batch_norm(name: &'static str) -> Row {
    batch_norm(name, name)
}

/// A layer scale that is a bare tensor in the source; the canonical one is timm's module with a `gamma`.
pub const fn layer_scale(source: &'static str, canonical: &'static str) -> Row {
    const TENSOR: &[Row] = &[row("", ".gamma", Plain)];
    within(source, canonical, TENSOR)
}

/// A convolution and the BatchNorm after it, as timm names them.
pub const CONV_BN: &[Row] = &[same_affine("conv"), same_batch_norm("bn")];

/// What a table says about one tensor, or about those of the same name in all blocks.
#[derive(Clone, Debug)]
pub struct Rename {
    /// The tensors of the source, more than one where they are joined along the first axis.
    pub parts: Vec<Part>,
    /// The same as the table spells it.
    pub source: String,
    pub canonical: Pattern,
    pub stored: Stored,
    pub contribution: Contribution,
    /// All blocks in one tensor, on a leading axis.
    pub stacked: bool,
}

/// Expands a table under two prefixes into `out`, in the order of its rows.
pub fn expand(source: &str, canonical: &str, table: &[Row], stacked: bool, out: &mut Vec<Rename>) {
    for row in table {
        let (source, canonical) = (format!("{source}{}", row.source), format!("{canonical}{}", row.canonical));
        match row.content {
            Content::Tensor(stored, contribution) => {
                out.push(Rename::new(source, &canonical, stored, contribution, stacked));
            }
            Content::Table(table) => expand(&source, &canonical, table, stacked, out),
            Content::Stack(table) => expand(&source, &canonical, table, true, out),
        }
    }
}

impl Rename {
    fn new(source: String, canonical: &str, stored: Stored, contribution: Contribution, stacked: bool) -> Rename {
        let (parts, canonical) = (pattern::parts(&source), Pattern::parse(canonical));
        Rename { parts, source, canonical, stored, contribution, stacked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::keymap::Stored::Dense;

    /// Source and canonical names that a table comes to, in order.
    fn names(table: &[Row]) -> Vec<(String, String)> {
        let mut out = vec![];
        expand("s.", "c.", table, false, &mut out);
        out.iter().map(|rename| (rename.source.clone(), rename.canonical.fill(Default::default()))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    #[test]
    fn a_module_is_all_of_its_tensors() {
        let table = &[affine("ln_1", "norm1"), same_affine("fc"), same("k"), layer_scale("gamma_1", "ls1")];
        let expected = [
            ("s.ln_1.weight", "c.norm1.weight"),
            ("s.ln_1.bias", "c.norm1.bias"),
            ("s.fc.weight", "c.fc.weight"),
            ("s.fc.bias", "c.fc.bias"),
            ("s.k", "c.k"),
            ("s.gamma_1", "c.ls1.gamma"),
        ];
        assert_eq!(names(table), pairs(&expected));
        let expected = [
            ("s.rbr_skip.weight", "c.identity.weight"),
            ("s.rbr_skip.bias", "c.identity.bias"),
            ("s.rbr_skip.running_mean", "c.identity.running_mean"),
            ("s.rbr_skip.running_var", "c.identity.running_var"),
        ];
        assert_eq!(names(&[batch_norm("rbr_skip", "identity")]), pairs(&expected));
    }

    #[test]
    fn tables_stand_in_tables() {
        const BLOCK: &[Row] = &[row("kernel", "weight", Dense)];
        const STAGE: &[Row] = &[within("b_{i}/", "blocks.{i}.", BLOCK), stacked("b/", "blocks.{i}.", BLOCK)];
        let mut out = vec![];
        expand("", "", &[same_within("stages.{s}.", STAGE)], false, &mut out);
        let found: Vec<_> = out.iter().map(|r| (r.source.as_str(), r.stored, r.stacked)).collect();
        assert_eq!(found, [("stages.{s}.b_{i}/kernel", Dense, false), ("stages.{s}.b/kernel", Dense, true)]);
        assert!(out.iter().all(|r| r.canonical == Pattern::parse("stages.{s}.blocks.{i}.weight")));
    }
}
