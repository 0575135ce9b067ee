//! The small language the renaming tables are written in.
//!
//! A table row names a source tensor, the canonical parameter it becomes, and the layout the
//! *source* stores it in ([`Stored`]). In names, `{i}` is the block index and `{a,b,c}` are tensors joined
//! along the first axis, in that order. A map groups rows under a pair of prefixes, so one table
//! of a transformer block serves both towers. Tables run backwards too, to write a file under
//! another naming.
//!
//! `{i}` ranges over the indices *present in the file*: counting up until a name is absent would
//! hide holes and blame the wrong tensor.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::config::Naming;
use crate::tensor::Tensor;

mod stored;

use Stored::Plain;
pub use stored::Stored;

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    source: &'static str,
    canonical: &'static str,
    stored: Stored,
    part: Part,
}

/// What a row gives of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// What is added to it.
    Summand,
    /// Its rows from this one on, in place of those that another row gives.
    RowsFrom(usize),
}

/// `source`, stored as `stored` says, is `canonical`.
pub const fn row(source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, stored, part: Part::Whole }
}

/// `source` is added to `canonical` when both are there.
pub const fn added(source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, stored, part: Part::Summand }
}

/// `source` has the rows of `canonical` from `first` on, in place of those of the tensor that is named so.
pub const fn rows_from(first: usize, source: &'static str, canonical: &'static str, stored: Stored) -> Row {
    Row { source, canonical, stored, part: Part::RowsFrom(first) }
}

/// A BatchNorm, and a convolution or linear, as PyTorch names them under whatever prefix.
pub const BATCH_NORM: &[Row] = &[
    row("weight", "weight", Plain),
    row("bias", "bias", Plain),
    row("running_mean", "running_mean", Plain),
    row("running_var", "running_var", Plain),
];
pub const CONV: &[Row] = &[row("weight", "weight", Plain), row("bias", "bias", Plain)];

struct Section {
    source: String,
    canonical: String,
    /// All blocks in one tensor, stacked on a leading axis.
    stacked: bool,
    rows: &'static [Row],
}

/// A tensor under its canonical name.
pub struct Mapped {
    pub tensor: Tensor,
    pub heads: Option<usize>,
}

/// A naming: tables, what tells it from others, and what it leaves aside.
pub struct KeyMap {
    pub name: &'static str,
    pub naming: Naming,
    /// Names, and the number of axes where it matters.
    marks: Vec<(&'static str, Option<usize>)>,
    roots: Vec<&'static str>,
    sections: Vec<Section>,
    ignored: Vec<&'static str>,
}

impl KeyMap {
    pub fn new(name: &'static str, naming: Naming) -> KeyMap {
        KeyMap { name, naming, marks: vec![], roots: vec![], sections: vec![], ignored: vec![] }
    }

    /// A name that, under some root, tells this naming.
    pub fn recognised_by(mut self, mark: &'static str) -> KeyMap {
        self.marks.push((mark, None));
        self
    }

    /// As [`KeyMap::recognised_by`], where the tensor has so many axes.
    pub fn recognised_by_rank(mut self, mark: &'static str, rank: usize) -> KeyMap {
        self.marks.push((mark, Some(rank)));
        self
    }

    /// A prefix all parameters may share; the first one present is taken.
    pub fn optional_root(mut self, root: &'static str) -> KeyMap {
        self.roots.push(root);
        self
    }

    /// Rows whose names follow the two prefixes.
    pub fn under(mut self, source: impl Into<String>, canonical: impl Into<String>, rows: &'static [Row]) -> KeyMap {
        self.sections.push(Section { source: source.into(), canonical: canonical.into(), stacked: false, rows });
        self
    }

    /// As [`KeyMap::under`], where the source has every block in one tensor (Flax `nn.scan`).
    pub fn stacked(mut self, source: &str, canonical: &str, rows: &'static [Row]) -> KeyMap {
        self.sections.push(Section { source: source.into(), canonical: canonical.into(), stacked: true, rows });
        self
    }

    /// Tensors that are no parameters; `*` at the end or the start stands for anything.
    pub fn ignore(mut self, pattern: &'static str) -> KeyMap {
        self.ignored.push(pattern);
        self
    }

    /// What a file of this naming has, for error messages.
    pub fn describe(&self) -> String {
        format!("`{}` ({})", self.marks.first().map_or("", |(mark, _)| mark), self.name)
    }

    fn root(&self, tensors: &[(String, Tensor)]) -> &'static str {
        let has = |root: &&'static str| tensors.iter().any(|(name, _)| name.starts_with(*root));
        self.roots.iter().copied().find(has).unwrap_or("")
    }

    /// Whether the names are of this naming.
    pub fn recognises(&self, tensors: &[(String, Tensor)]) -> bool {
        let root = self.root(tensors);
        let of_rank = |tensor: &Tensor, rank: Option<usize>| rank.is_none_or(|rank| tensor.shape().len() == rank);
        tensors.iter().any(|(name, tensor)| {
            let name = name.strip_prefix(root);
            self.marks.iter().any(|&(mark, rank)| name == Some(mark) && of_rank(tensor, rank))
        })
    }

    /// Renames everything.
    ///
    /// # Errors
    /// As [`super::Params::from_checkpoint`].
    pub fn apply(&self, tensors: &[(String, Tensor)]) -> Result<BTreeMap<String, Mapped>, Error> {
        let root = self.root(tensors);
        let stored: BTreeMap<&str, &Tensor> =
            tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(root)?, t))).collect();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let mut out: BTreeMap<String, Mapped> = BTreeMap::new();
        for section in &self.sections {
            for row in section.rows {
                for (index, parts) in present(section, row, &stored)? {
                    used.extend(parts.iter().map(|(name, _)| *name));
                    let canonical = format!("{}{}", section.canonical, row.canonical);
                    if !section.stacked {
                        let mapped = join(row, &parts, None)?;
                        insert(&mut out, fill(&canonical, index), mapped, row.part)?;
                        continue;
                    }
                    let depth_of = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
                    let depth = parts.first().map_or(0, |(_, tensor)| depth_of(tensor));
                    if let Some((name, tensor)) = parts.iter().find(|(_, tensor)| depth_of(tensor) != depth) {
                        return Err(Error::Depth {
                            source_name: (*name).to_owned(),
                            found: depth_of(tensor),
                            expected: depth,
                        });
                    }
                    for layer in 0..depth {
                        let mapped = join(row, &parts, Some(layer))?;
                        insert(&mut out, fill(&canonical, Some(layer)), mapped, row.part)?;
                    }
                }
            }
        }
        // Below the root only what is ignored there; beside it, whole names.
        let ignored = |name: &str| self.ignored.iter().any(|pattern| matches(pattern, name));
        let accounted = |name: &str| match name.strip_prefix(root) {
            Some(below) => used.contains(below) || ignored(below),
            None => ignored(name),
        };
        let unmapped: Vec<String> =
            tensors.iter().filter(|(name, _)| !accounted(name)).map(|(name, _)| name.clone()).collect();
        if unmapped.is_empty() {
            return Ok(out);
        }
        let of_towers: Vec<String> = unmapped.iter().filter(|name| self.is_of_a_tower(name)).cloned().collect();
        let (total, map) = (tensors.len(), self.name);
        if of_towers.is_empty() {
            return Err(Error::Beside { map, count: unmapped.len(), total, names: some_of(&unmapped) });
        }
        Err(Error::Unmapped { map, count: of_towers.len(), total, names: some_of(&of_towers) })
    }

    /// Whether a name begins as those of a tower do: a tensor there is part of what the tower computes, whatever it is.
    fn is_of_a_tower(&self, name: &str) -> bool {
        let name = self.roots.iter().find_map(|root| name.strip_prefix(root)).unwrap_or(name);
        let towers = self.sections.iter().flat_map(|section| {
            let of_tower = |row: &&Row| {
                let canonical = format!("{}{}", section.canonical, row.canonical);
                canonical.starts_with("visual.") || canonical.starts_with("text.")
            };
            section.rows.iter().filter(of_tower).map(move |row| format!("{}{}", section.source, row.source))
        });
        towers.into_iter().any(|source| {
            let first = source.split(['.', '/', '{']).next().unwrap_or_default();
            !first.is_empty() && name.starts_with(first)
        })
    }

    /// The source name of a canonical parameter, as an unstacked file without a root has it.
    pub fn source_of(&self, canonical: &str) -> Option<String> {
        self.row_of(canonical).map(|(section, row, index)| fill(&format!("{}{}", section.source, row.source), index))
    }

    /// A canonical tensor under this naming: the table backwards.
    ///
    /// # Errors
    /// [`Error::NoName`] when the naming has no place for it.
    pub fn backwards(&self, canonical: &str, tensor: &Tensor) -> Result<(String, Tensor), Error> {
        let no_name = || Error::NoName { map: self.name, canonical: canonical.to_owned() };
        let (section, row, index) = self.row_of(canonical).ok_or_else(no_name)?;
        let source = fill(&format!("{}{}", section.source, row.source), index);
        if source.contains('{') {
            return Err(no_name());
        }
        Ok((source, row.stored.write(tensor)?.ok_or_else(no_name)?))
    }

    fn row_of(&self, canonical: &str) -> Option<(&Section, &Row, Option<usize>)> {
        let rows = self.sections.iter().filter(|s| !s.stacked).flat_map(|s| s.rows.iter().map(move |r| (s, r)));
        rows.filter(|(_, row)| row.part == Part::Whole).find_map(|(section, row)| {
            let index = index_in(&format!("{}{}", section.canonical, row.canonical), canonical)?;
            Some((section, row, index))
        })
    }
}

/// The source tensors of a row, for each block index present: all alternatives, in order.
type Present<'a> = BTreeMap<Option<usize>, Vec<(&'a str, &'a Tensor)>>;

fn present<'a>(section: &Section, row: &Row, stored: &BTreeMap<&'a str, &'a Tensor>) -> Result<Present<'a>, Error> {
    let patterns = alternatives(&format!("{}{}", section.source, row.source));
    let mut indices: BTreeSet<Option<usize>> = BTreeSet::new();
    for pattern in &patterns {
        if pattern.contains("{i}") {
            indices.extend(stored.keys().filter_map(|name| index_in(pattern, name)));
        } else if stored.contains_key(pattern.as_str()) {
            indices.insert(None);
        }
    }
    let mut out = BTreeMap::new();
    for index in indices {
        let names: Vec<String> = patterns.iter().map(|pattern| fill(pattern, index)).collect();
        let found: Vec<_> =
            names.iter().filter_map(|name| stored.get_key_value(name.as_str())).map(|(n, t)| (*n, *t)).collect();
        if found.len() < names.len() {
            let absent = names.iter().find(|name| !stored.contains_key(name.as_str()));
            return Err(Error::Join {
                absent: absent.cloned().unwrap_or_default(),
                present: found.first().map_or_else(String::new, |(name, _)| (*name).to_owned()),
                canonical: fill(&format!("{}{}", section.canonical, row.canonical), index),
            });
        }
        out.insert(index, found);
    }
    Ok(out)
}

fn join(row: &Row, parts: &[(&str, &Tensor)], layer: Option<usize>) -> Result<Mapped, Error> {
    let mut tensors = Vec::with_capacity(parts.len());
    let mut heads = None;
    for (_, part) in parts {
        let part = layer.map_or_else(|| (*part).clone(), |layer| part.index(layer));
        let (tensor, part_heads) = row.stored.read(&part)?;
        tensors.push(tensor);
        if let (Some(expected), Some(found)) = (heads, part_heads)
            && expected != found
        {
            let source_name = part.source_names().join("`, `");
            return Err(Error::HeadsApart { source_name, found, expected });
        }
        heads = heads.or(part_heads);
    }
    let tensor = if let [tensor] = &tensors[..] { tensor.clone() } else { Tensor::concat(&tensors)? };
    Ok(Mapped { tensor, heads })
}

fn insert(out: &mut BTreeMap<String, Mapped>, name: String, mapped: Mapped, part: Part) -> Result<(), Error> {
    match (out.get_mut(&name), part) {
        (Some(first), Part::Summand) => first.tensor = first.tensor.sum(&mapped.tensor)?,
        (Some(first), Part::RowsFrom(from)) => {
            let (shape, found) = (first.tensor.shape(), mapped.tensor.shape());
            let rows = shape.first().copied().unwrap_or(0);
            if found != shape || rows < from {
                let source_name = mapped.tensor.source_names().join("`, `");
                return Err(Error::StoredShape { source_name, found, expected: "the shape of the table it continues" });
            }
            first.tensor = Tensor::concat(&[first.tensor.rows(0..from)?, mapped.tensor.rows(from..rows)?])?;
        }
        (None, Part::RowsFrom(_)) => {
            let present = mapped.tensor.source_names().join("`, `");
            return Err(Error::Join { absent: "the table that it continues".to_owned(), present, canonical: name });
        }
        (Some(first), Part::Whole) => {
            return Err(Error::Twice {
                first: first.tensor.source_names().join("`, `"),
                second: mapped.tensor.source_names().join("`, `"),
                canonical: name,
            });
        }
        (None, _) => {
            out.insert(name, mapped);
        }
    }
    Ok(())
}

/// `a{b,c}d` as `abd`, `acd`; `{i}` is left alone.
fn alternatives(pattern: &str) -> Vec<String> {
    let braces = pattern.match_indices('{').find_map(|(start, _)| {
        let end = start + pattern[start..].find('}')?;
        pattern[start..end].contains(',').then_some((start, end))
    });
    let Some((start, end)) = braces else { return vec![pattern.to_owned()] };
    let (before, after) = (&pattern[..start], &pattern[end + 1..]);
    pattern[start + 1..end].split(',').map(|word| format!("{before}{word}{after}")).collect()
}

/// The block index where `name` is `pattern`: None if it is not, `Some(None)` if there is no index.
fn index_in(pattern: &str, name: &str) -> Option<Option<usize>> {
    let Some((before, after)) = pattern.split_once("{i}") else {
        return (pattern == name).then_some(None);
    };
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let canonical = digits.len() == 1 || !digits.starts_with('0');
    (canonical && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok().map(Some))?
}

fn fill(pattern: &str, index: Option<usize>) -> String {
    index.map_or_else(|| pattern.to_owned(), |index| pattern.replace("{i}", &index.to_string()))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => pattern == name,
    }
}

/// The first few of a list of names.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut out = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        out += &format!(" and {} more", names.len() - SHOWN);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Stored::{Dense, Patch};
    use super::*;

    const ROWS: &[Row] = &[row("w_{a,b}", "w", Plain), row("k", "k", Dense)];

    fn map() -> KeyMap {
        KeyMap::new("test", Naming::BigVision)
            .recognised_by("n")
            .optional_root("params/")
            .under("block_{i}/", "blocks.{i}.", ROWS)
            .stacked("block/", "blocks.{i}.", ROWS)
            .under("", "", const { &[row("n", "norm", Plain), added("n2", "norm", Plain)] })
            .ignore("opt/*")
    }

    fn tensors(names: &[(&str, &[usize])]) -> Vec<(String, Tensor)> {
        let values = |shape: &[usize]| (0..shape.iter().product()).map(|i| i as f32).collect::<Vec<_>>();
        names.iter().map(|&(n, s)| (n.to_owned(), Tensor::from_f32(n, s, &values(s)))).collect()
    }

    #[test]
    fn blocks_joins_and_stacks_meet_in_one_spelling() {
        let apart = tensors(&[
            ("params/block_0/w_a", &[2]),
            ("params/block_0/w_b", &[2]),
            ("params/block_0/k", &[2, 3]),
            ("params/n", &[1]),
            ("opt/n", &[9]),
        ]);
        let mapped = map().apply(&apart).unwrap();
        assert_eq!(mapped.keys().collect::<Vec<_>>(), ["blocks.0.k", "blocks.0.w", "norm"]);
        assert_eq!(mapped["blocks.0.w"].tensor.to_f32().unwrap(), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(mapped["blocks.0.k"].tensor.to_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);

        let stacked = tensors(&[("block/w_a", &[2, 2]), ("block/w_b", &[2, 2]), ("block/k", &[2, 2, 3]), ("n", &[1])]);
        let mapped = map().apply(&stacked).unwrap();
        assert_eq!(mapped["blocks.1.w"].tensor.to_f32().unwrap(), [2.0, 3.0, 2.0, 3.0]);
        assert_eq!(mapped["blocks.1.k"].tensor.to_f32().unwrap(), [6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    }

    #[test]
    fn a_hole_is_left_for_the_reader_and_a_torn_join_is_named() {
        let hole = tensors(&[("block_0/k", &[1, 1]), ("block_2/k", &[1, 1]), ("n", &[1])]);
        let mapped = map().apply(&hole).unwrap();
        assert!(mapped.contains_key("blocks.2.k") && !mapped.contains_key("blocks.1.k"));
        let torn = tensors(&[("block_3/w_a", &[1]), ("n", &[1])]);
        let error = map().apply(&torn).err().unwrap().to_string();
        assert_eq!(error, "tensor `block_3/w_b` is missing beside `block_3/w_a`; both are parts of `blocks.3.w`");
    }

    #[test]
    fn what_has_no_row_or_two_is_an_error() {
        let extra = tensors(&[("n", &[1]), ("head/foo", &[1])]);
        let error = map().apply(&extra).err().unwrap().to_string();
        assert!(error.contains("1 of 2 tensors, which are outside both towers: head/foo"), "{error}");
        // What begins as a tower's own names do is part of what the tower computes.
        let of_tower = KeyMap::new("t", Naming::OpenClip).under("", "text.", ROWS_OF_TEXT);
        let longer = tensors(&[("n", &[1]), ("n_res", &[1]), ("loss", &[1])]);
        let error = of_tower.apply(&longer).err().unwrap().to_string();
        assert!(error.contains("1 of 3 tensors, which are parts of a tower: n_res"), "{error}");
        assert!(!error.contains("emove"), "{error}");
        let twice = tensors(&[("block_0/k", &[1, 1]), ("block/k", &[1, 1, 1]), ("n", &[1])]);
        assert!(matches!(map().apply(&twice), Err(Error::Twice { .. })));
        let beside_root = tensors(&[("params/n", &[1]), ("n", &[1])]);
        assert!(matches!(map().apply(&beside_root), Err(Error::Beside { .. })));
    }

    const ROWS_OF_TEXT: &[Row] = &[row("n", "norm", Plain), rows_from(1, "n2", "norm", Plain)];

    #[test]
    fn a_second_table_goes_on_where_the_first_ends() {
        let map = KeyMap::new("t", Naming::OpenClip).under("", "text.", ROWS_OF_TEXT);
        let both = tensors(&[("n", &[3]), ("n2", &[3])]);
        let found = map.apply(&both).unwrap();
        assert_eq!(found["text.norm"].tensor.to_f32().unwrap(), [0.0, 1.0, 2.0]);
        assert_eq!(found["text.norm"].tensor.source_names(), ["n", "n2"]);
        assert!(matches!(map.apply(&tensors(&[("n", &[3]), ("n2", &[4])])), Err(Error::StoredShape { .. })));
        assert!(matches!(map.apply(&tensors(&[("n2", &[4])])), Err(Error::Join { .. })));
    }

    #[test]
    fn an_added_row_adds() {
        let both = tensors(&[("n", &[2]), ("n2", &[2])]);
        assert_eq!(map().apply(&both).unwrap()["norm"].tensor.to_f32().unwrap(), [0.0, 2.0]);
    }

    #[test]
    fn patch_kernels_agree_in_both_forms() {
        let hwio = Tensor::from_f32("k", &[2, 2, 3, 5], &(0..60).map(|i| i as f32).collect::<Vec<_>>());
        let flat = hwio.reshape(&[12, 5]).unwrap();
        let (a, b) = (Patch.read(&hwio).unwrap().0, Patch.read(&flat).unwrap().0);
        assert_eq!(a.shape(), [5, 3, 2, 2]);
        assert_eq!(a.to_f32().unwrap(), b.to_f32().unwrap());
        assert!(Patch.read(&Tensor::from_f32("k", &[11, 1], &[0.0; 11])).is_err());
    }
}
