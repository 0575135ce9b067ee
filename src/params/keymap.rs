//! The small language the renaming tables are written in.
//!
//! A table row (`row`) names a source tensor, the canonical parameter it becomes, and the layout the *source* stores
//! it in ([`Stored`]). Shorthands stand for several rows: [`affine`] for a weight and a bias, [`within`] for a whole
//! table under two prefixes, so that one table of a transformer block serves both towers. In names
//!
//! ```text
//! {i}          is the index of a block, {s} that of its stage
//! {a,b,c}      are tensors joined along the first axis, in that order
//! {a,0,c}      likewise, with zeros of the same shape where the source stores nothing
//! ```
//!
//! Indices range over those *present in the file*: counting up until a name is absent would hide holes and blame the
//! wrong tensor.
//!
//! A [`KeyMap`] is composed of [`Section`]s: one for each tower, and one for what is outside both, so that any image
//! tower goes with any text tower. Maps run backwards too ([`KeyMap::backwards`]), to write a file under another naming.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use crate::config::Naming;
use crate::modality::Modality;
use crate::tensor::Tensor;

mod join;
mod pattern;
mod row;
mod stored;

use join::{depth, equal_part, insert, join, present};
use pattern::{Indices, Part, Pattern};
pub use row::{
    CONV_BN, Row, added, affine, batch_norm, layer_scale, row, rows_from, same, same_affine, same_batch_norm,
    same_within, stacked, within,
};
use row::{Contribution, Rename, expand};
pub use stored::Stored;

/// What a map says about one tower, or about what is outside both: rows, names that only this naming has, and
/// names of tensors that are not parameters.
#[derive(Debug, Default)]
pub struct Section {
    marks: Vec<Mark>,
    renames: Vec<Rename>,
    ignored: Vec<String>,
}

/// A name that only this naming has, and the number of axes where it matters.
#[derive(Clone, Copy, Debug)]
struct Mark {
    name: &'static str,
    rank: Option<usize>,
}

impl Section {
    /// Rows whose names are whole.
    pub fn of(table: &[Row]) -> Section {
        Section::default().under("", "", table)
    }

    /// Rows whose names follow the two prefixes.
    pub fn under(mut self, source: &str, canonical: &str, table: &[Row]) -> Section {
        expand(source, canonical, table, false, &mut self.renames);
        self
    }

    /// A name that, under some root, only this naming has.
    pub fn recognised_by(mut self, name: &'static str) -> Section {
        self.marks.push(Mark { name, rank: None });
        self
    }

    /// As [`Section::recognised_by`], where the tensor has so many axes.
    pub fn recognised_by_rank(mut self, name: &'static str, rank: usize) -> Section {
        self.marks.push(Mark { name, rank: Some(rank) });
        self
    }

    /// Names of tensors that are not parameters; `*` at the start or the end matches anything.
    pub fn ignore(mut self, pattern: impl Into<String>) -> Section {
        self.ignored.push(pattern.into());
        self
    }
}

/// A tensor under its canonical name.
pub struct Mapped {
    pub tensor: Tensor,
    pub heads: Option<usize>,
}

/// A naming: its sections, and the prefixes that all of its names may share.
pub struct KeyMap {
    pub name: &'static str,
    pub naming: Naming,
    roots: Vec<&'static str>,
    sections: Vec<Section>,
}

impl KeyMap {
    /// A map of these sections. Where two rows of one canonical name are possible, the first is the one that is written.
    pub fn new(name: &'static str, naming: Naming, sections: impl IntoIterator<Item = Section>) -> KeyMap {
        KeyMap { name, naming, roots: vec![], sections: sections.into_iter().collect() }
    }

    /// A prefix all parameters may share; the first one present is taken.
    pub fn optional_root(mut self, root: &'static str) -> KeyMap {
        self.roots.push(root);
        self
    }

    /// What a file of this naming has, for error messages.
    pub fn describe(&self) -> String {
        format!("`{}` ({})", self.marks().next().map_or("", |mark| mark.name), self.name)
    }

    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.sections.iter().flat_map(|section| &section.marks)
    }

    /// The names that tell a tower of this naming, and which tower it is.
    pub fn towers(&self) -> impl Iterator<Item = (&'static str, Modality)> {
        let of = |section: &Section| {
            let image = super::prefix(Modality::Image);
            let is_image = section.renames.iter().any(|rename| rename.canonical.begins_with(image));
            if is_image { Modality::Image } else { Modality::Text }
        };
        self.sections.iter().flat_map(move |section| section.marks.iter().map(move |mark| (mark.name, of(section))))
    }

    fn renames(&self) -> impl Iterator<Item = &Rename> {
        self.sections.iter().flat_map(|section| &section.renames)
    }

    fn root(&self, tensors: &[(String, Tensor)]) -> &'static str {
        let has = |root: &&'static str| tensors.iter().any(|(name, _)| name.starts_with(*root));
        self.roots.iter().copied().find(has).unwrap_or("")
    }

    /// Whether the names are of this naming.
    pub fn recognises(&self, tensors: &[(String, Tensor)]) -> bool {
        let root = self.root(tensors);
        tensors.iter().any(|(name, tensor)| {
            let name = name.strip_prefix(root);
            let of_rank = |rank: Option<usize>| rank.is_none_or(|rank| tensor.shape().len() == rank);
            self.marks().any(|mark| name == Some(mark.name) && of_rank(mark.rank))
        })
    }

    /// Renames everything; gives the names outside towers too that have no row. Where one tower is wanted `only`, the other
    /// is outside.
    ///
    /// # Errors
    /// As [`super::Params::from_checkpoint`].
    pub fn apply(
        &self,
        tensors: &[(String, Tensor)],
        only: Option<Modality>,
    ) -> Result<(BTreeMap<String, Mapped>, Vec<String>), Error> {
        let root = self.root(tensors);
        let stored: BTreeMap<&str, &Tensor> =
            tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(root)?, t))).collect();
        let mut used: BTreeSet<&str> = BTreeSet::new();
        let mut out: BTreeMap<String, Mapped> = BTreeMap::new();
        for rename in self.renames() {
            for (indices, parts) in present(rename, &stored)? {
                used.extend(parts.iter().flatten().map(|(name, _)| *name));
                if !rename.stacked {
                    let mapped = join(rename, &parts, None)?;
                    insert(&mut out, rename.canonical.fill(indices), mapped, rename.contribution)?;
                    continue;
                }
                for layer in 0..depth(&parts)? {
                    let mapped = join(rename, &parts, Some(layer))?;
                    let indices = Indices { block: Some(layer), ..indices };
                    insert(&mut out, rename.canonical.fill(indices), mapped, rename.contribution)?;
                }
            }
        }
        let outside = self.unused(root, tensors, &used, only)?;
        Ok((out, outside))
    }

    /// The tensors outside both towers that have no row and are not ignored. Within towers there are none.
    fn unused(
        &self,
        root: &str,
        tensors: &[(String, Tensor)],
        used: &BTreeSet<&str>,
        only: Option<Modality>,
    ) -> Result<Vec<String>, Error> {
        // Names under the root are compared without it, others as they are.
        let ignored = |name: &str| self.sections.iter().flat_map(|s| &s.ignored).any(|pattern| matches(pattern, name));
        let accounted = |name: &str| match name.strip_prefix(root) {
            Some(below) => used.contains(below) || ignored(below),
            None => ignored(name),
        };
        let unmapped: Vec<String> =
            tensors.iter().filter(|(name, _)| !accounted(name)).map(|(name, _)| name.clone()).collect();
        let of_towers: Vec<String> = unmapped.iter().filter(|name| self.is_of_a_tower(name, only)).cloned().collect();
        let (total, map) = (tensors.len(), self.name);
        if of_towers.is_empty() {
            return Ok(unmapped);
        }
        // Where all are of one tower, the other may be exported alone.
        let of_one = |tower: &Modality| of_towers.iter().all(|name| self.is_of_a_tower(name, Some(*tower)));
        let mut towers = Modality::ALL.into_iter().filter(of_one);
        let tower = towers.next().filter(|_| towers.next().is_none());
        Err(Error::Unmapped { map, count: of_towers.len(), total, names: some_of(&of_towers), tower })
    }

    /// Whether a name begins as those of a wanted tower do: a tensor there is part of what the tower computes, whatever it
    /// is.
    fn is_of_a_tower(&self, name: &str, only: Option<Modality>) -> bool {
        let name = self.roots.iter().find_map(|root| name.strip_prefix(root)).unwrap_or(name);
        let wanted = Modality::ALL.into_iter().filter(|tower| only.is_none_or(|only| only == *tower));
        let wanted: Vec<&str> = wanted.map(super::prefix).collect();
        let of_tower = |rename: &&Rename| wanted.iter().any(|tower| rename.canonical.begins_with(tower));
        self.renames().filter(of_tower).any(|rename| {
            let first = rename.source.split(['.', '/', '{']).next().unwrap_or_default();
            !first.is_empty() && name.starts_with(first)
        })
    }

    /// The source name of a canonical parameter, as an unstacked file without a root has it. A join is spelled as in its
    /// row.
    pub fn source_of(&self, canonical: &str) -> Option<String> {
        self.rename_of(canonical).map(|(rename, indices)| Pattern::parse(&rename.source).fill(indices))
    }

    /// A canonical tensor under this naming: the table backwards. What is joined is written as the equal parts it
    /// consists of, without those that the naming does not store.
    ///
    /// # Errors
    /// [`Error::NoName`] when the naming has no name for it, [`Error::NotZero`] when it has none for a part of it.
    pub fn backwards(&self, canonical: &str, tensor: &Tensor) -> Result<Vec<(String, Tensor)>, Error> {
        let no_name = || Error::NoName { map: self.name, canonical: canonical.to_owned() };
        let (rename, indices) = self.rename_of(canonical).ok_or_else(no_name)?;
        let mut out = vec![];
        for (at, part) in rename.parts.iter().enumerate() {
            let values = equal_part(tensor, at, rename.parts.len())?.ok_or_else(no_name)?;
            match part {
                Part::Tensor(name) => {
                    out.push((name.fill(indices), rename.stored.write(&values)?.ok_or_else(no_name)?));
                }
                Part::Zeros if values.to_f32()?.iter().any(|&value| value != 0.0) => {
                    return Err(Error::NotZero { map: self.name, canonical: canonical.to_owned() });
                }
                Part::Zeros => {}
            }
        }
        Ok(out)
    }

    fn rename_of(&self, canonical: &str) -> Option<(&Rename, Indices)> {
        let whole = |rename: &&Rename| !rename.stacked && rename.contribution == Contribution::Whole;
        self.renames().filter(whole).find_map(|rename| Some((rename, rename.canonical.indices_in(canonical)?)))
    }
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
    use super::Stored::{Dense, HeadsBias, Plain};
    use super::*;

    const ROWS: &[Row] = &[row("w_{a,b}", "w", Plain), row("k", "k", Dense)];
    const BLOCKS: &[Row] = &[within("block_{i}/", "blocks.{i}.", ROWS), stacked("block/", "blocks.{i}.", ROWS)];
    const ROOT: &[Row] = &[row("n", "norm", Plain), added("n2", "norm", Plain)];

    fn map() -> KeyMap {
        let blocks = Section::of(BLOCKS).recognised_by("n").ignore("opt/*");
        KeyMap::new("test", Naming::BigVision, [blocks, Section::of(ROOT)]).optional_root("params/")
    }

    fn map_of(table: &[Row]) -> KeyMap {
        KeyMap::new("test", Naming::OpenClip, [Section::of(table)])
    }

    fn tensors(names: &[(&str, &[usize])]) -> Vec<(String, Tensor)> {
        let values = |shape: &[usize]| (0..shape.iter().product()).map(|i| i as f32).collect::<Vec<_>>();
        names.iter().map(|&(n, s)| (n.to_owned(), Tensor::from_f32(n, s, &values(s)))).collect()
    }

    fn error(map: &KeyMap, names: &[(&str, &[usize])]) -> String {
        map.apply(&tensors(names), None).err().unwrap().to_string()
    }

    #[test]
    fn blocks_joins_and_stacks_meet_in_one_spelling() {
        let separate = tensors(&[
            ("params/block_0/w_a", &[2]),
            ("params/block_0/w_b", &[2]),
            ("params/block_0/k", &[2, 3]),
            ("params/n", &[1]),
            ("opt/n", &[9]),
        ]);
        let mapped = map().apply(&separate, None).unwrap().0;
        assert_eq!(mapped.keys().collect::<Vec<_>>(), ["blocks.0.k", "blocks.0.w", "norm"]);
        assert_eq!(mapped["blocks.0.w"].tensor.to_f32().unwrap(), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(mapped["blocks.0.k"].tensor.to_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);

        let stacked = tensors(&[("block/w_a", &[2, 2]), ("block/w_b", &[2, 2]), ("block/k", &[2, 2, 3]), ("n", &[1])]);
        let mapped = map().apply(&stacked, None).unwrap().0;
        assert_eq!(mapped["blocks.1.w"].tensor.to_f32().unwrap(), [2.0, 3.0, 2.0, 3.0]);
        assert_eq!(mapped["blocks.1.k"].tensor.to_f32().unwrap(), [6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    }

    #[test]
    fn a_hole_is_left_for_the_reader_and_an_incomplete_join_is_named() {
        let hole = tensors(&[("block_0/k", &[1, 1]), ("block_2/k", &[1, 1]), ("n", &[1])]);
        let mapped = map().apply(&hole, None).unwrap().0;
        assert!(mapped.contains_key("blocks.2.k") && !mapped.contains_key("blocks.1.k"));
        assert_eq!(
            error(&map(), &[("block_3/w_a", &[1]), ("n", &[1])]),
            "tensor `block_3/w_b` is missing, while `block_3/w_a` is there; both are parts of `blocks.3.w`"
        );
    }

    #[test]
    fn stacked_tensors_that_are_joined_have_the_same_number_of_layers() {
        assert_eq!(
            error(&map(), &[("block/w_a", &[3, 2]), ("block/w_b", &[2, 2]), ("n", &[1])]),
            "tensor `block/w_b` stacks 2 layers, the tensors it is joined with 3"
        );
        // Without an axis there are no layers.
        let none = map().apply(&tensors(&[("block/k", &[]), ("n", &[1])]), None).unwrap().0;
        assert_eq!(none.keys().collect::<Vec<_>>(), ["norm"]);
    }

    #[test]
    fn tensors_that_are_joined_have_the_same_number_of_heads() {
        let map = map_of(&[row("{q,k}", "qk", HeadsBias)]);
        let mapped = map.apply(&tensors(&[("q", &[2, 3]), ("k", &[2, 3])]), None).unwrap().0;
        assert_eq!((mapped["qk"].heads, mapped["qk"].tensor.shape()), (Some(2), vec![12]));
        let expected = "tensor `k` has 3 heads, the tensors it is joined with 2";
        assert_eq!(error(&map, &[("q", &[2, 3]), ("k", &[3, 2])]), expected);
    }

    const STAGES: &[Row] = &[within("s{s}.{i}.", "stages.{s}.blocks.{i}.", &[affine("ln", "norm"), same("k")])];

    #[test]
    fn stages_and_blocks_are_those_present_in_the_file() {
        let map = map_of(STAGES);
        let names = ["s0.0.ln.weight", "s0.2.ln.weight", "s0.2.ln.bias", "s3.0.k", "s3.11.k"];
        let mapped = map.apply(&tensors(&names.map(|name| (name, &[1][..]))), None).unwrap().0;
        let expected = [
            "stages.0.blocks.0.norm.weight",
            "stages.0.blocks.2.norm.bias",
            "stages.0.blocks.2.norm.weight",
            "stages.3.blocks.0.k",
            "stages.3.blocks.11.k",
        ];
        assert_eq!(mapped.keys().collect::<Vec<_>>(), expected);
        // Backwards they are the same files.
        let back = mapped.iter().flat_map(|(name, mapped)| map.backwards(name, &mapped.tensor).unwrap());
        let mut back: Vec<String> = back.map(|(name, _)| name).collect();
        back.sort();
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(back, names);
        assert_eq!(map.source_of("stages.7.blocks.1.norm.bias").unwrap(), "s7.1.ln.bias");
        assert_eq!(map.apply(&tensors(&[("s0.k", &[1])]), None).unwrap().1, ["s0.k"]);
    }

    const ZERO_KEY: &[Row] = &[within("b.{i}.", "blocks.{i}.attn.", &[row("{q,0,v}_bias", "qkv.bias", Plain)])];

    #[test]
    fn a_part_that_is_not_stored_is_zeros() {
        let map = map_of(ZERO_KEY);
        let file = tensors(&[("b.1.q_bias", &[3]), ("b.1.v_bias", &[3])]);
        let mapped = map.apply(&file, None).unwrap().0;
        let joined = &mapped["blocks.1.attn.qkv.bias"].tensor;
        assert_eq!(joined.to_f32().unwrap(), [0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
        assert_eq!(joined.source_names(), ["b.1.q_bias", "b.1.v_bias"]);

        // Backwards the zeros are not written.
        let written = map.backwards("blocks.1.attn.qkv.bias", joined).unwrap();
        let values = |tensors: &[(String, Tensor)]| -> Vec<(String, Vec<f32>)> {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_f32().unwrap())).collect()
        };
        assert_eq!(values(&written), values(&file));
        let key = Tensor::from_f32("t", &[6], &[0.0, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(
            map.backwards("blocks.1.attn.qkv.bias", &key).unwrap_err().to_string(),
            "`blocks.1.attn.qkv.bias` has values other than zero in a part that test files do not store"
        );
        // Three equal parts are needed.
        let four = Tensor::zeros(&[4]);
        assert!(matches!(map.backwards("blocks.1.attn.qkv.bias", &four), Err(Error::NoName { .. })));
    }

    #[test]
    fn zeros_need_tensors_of_one_shape_and_take_their_type() {
        let map = map_of(ZERO_KEY);
        assert_eq!(
            error(&map, &[("b.0.q_bias", &[3]), ("b.0.v_bias", &[2])]),
            "tensor `b.0.v_bias` has shape [2], expected the shape of the tensors it is joined with"
        );
        let stored = tensors(&[("b.0.q_bias", &[3]), ("b.0.v_bias", &[3]), ("b.0.k_bias", &[3])]);
        assert_eq!(map.apply(&stored, None).unwrap().1, ["b.0.k_bias"]);
        assert!(error(&map, &[("b.0.q_bias", &[3])]).contains("`b.0.v_bias` is missing"));
        let halves = |name: &str| {
            let storage = crate::tensor::Storage::Ready(bytes::Bytes::from_static(&[0; 6]));
            let tensor = Tensor::contiguous(name, crate::tensor::DType::F16, &[3], false, storage, 6).unwrap();
            (name.to_owned(), tensor)
        };
        let mapped = map.apply(&[halves("b.0.q_bias"), halves("b.0.v_bias")], None).unwrap().0;
        let joined = &mapped["blocks.0.attn.qkv.bias"].tensor;
        assert_eq!((joined.dtype(), joined.shape()), (crate::tensor::DType::F16, vec![9]));
    }

    #[test]
    fn any_image_tower_goes_with_any_text_tower() {
        const IMAGE_A: &[Row] = &[row("img.n", "visual.norm", Plain)];
        const IMAGE_B: &[Row] = &[row("trunk.n", "visual.norm", Plain)];
        const TEXT: &[Row] = &[same("text.norm")];
        let images: [fn() -> Section; 2] = [
            || Section::of(IMAGE_A).recognised_by("img.n").ignore("img.step"),
            || Section::of(IMAGE_B).recognised_by_rank("trunk.n", 1),
        ];
        for (image, names) in images.iter().zip([["img.n", "text.norm"], ["trunk.n", "text.norm"]]) {
            let map = KeyMap::new("test", Naming::OpenClip, [image(), Section::of(TEXT)]);
            let file = tensors(&names.map(|name| (name, &[1][..])));
            assert!(map.recognises(&file));
            assert_eq!(map.describe(), format!("`{}` (test)", names[0]));
            assert_eq!(map.apply(&file, None).unwrap().0.keys().collect::<Vec<_>>(), ["text.norm", "visual.norm"]);
            assert!(!map.recognises(&tensors(&[("text.norm", &[1])])));
        }
        let b = KeyMap::new("test", Naming::OpenClip, [images[1](), Section::of(TEXT)]);
        assert!(!b.recognises(&tensors(&[("trunk.n", &[1, 1])])));
        let of_a = tensors(&[("trunk.n", &[1]), ("img.step", &[1])]);
        assert_eq!(b.apply(&of_a, None).unwrap().1, ["img.step"]);
    }

    #[test]
    fn what_has_no_row_or_two_is_an_error() {
        let (_, outside) = map().apply(&tensors(&[("n", &[1]), ("head/foo", &[1])]), None).unwrap();
        assert_eq!(outside, ["head/foo"]);
        // What begins as a tower's own names do is part of what the tower computes.
        let of_tower = KeyMap::new("t", Naming::OpenClip, [Section::default().under("", "text.", ROWS_OF_TEXT)]);
        let longer = error(&of_tower, &[("n", &[1]), ("n_res", &[1]), ("loss", &[1])]);
        assert!(longer.contains("1 of 3 tensors, which are parts of a tower: n_res"), "{longer}");
        assert!(!longer.contains("emove"), "{longer}");
        let twice = tensors(&[("block_0/k", &[1, 1]), ("block/k", &[1, 1, 1]), ("n", &[1])]);
        assert!(matches!(map().apply(&twice, None), Err(Error::Twice { .. })));
        let outside_root = tensors(&[("params/n", &[1]), ("n", &[1])]);
        assert_eq!(map().apply(&outside_root, None).unwrap().1.len(), 1);
    }

    const ROWS_OF_TEXT: &[Row] = &[row("n", "norm", Plain), rows_from(1, "n2", "norm", Plain)];

    #[test]
    fn a_second_table_goes_on_where_the_first_ends() {
        let map = KeyMap::new("t", Naming::OpenClip, [Section::default().under("", "text.", ROWS_OF_TEXT)]);
        let both = tensors(&[("n", &[3]), ("n2", &[3])]);
        let found = map.apply(&both, None).unwrap().0;
        assert_eq!(found["text.norm"].tensor.to_f32().unwrap(), [0.0, 1.0, 2.0]);
        assert_eq!(found["text.norm"].tensor.source_names(), ["n", "n2"]);
        assert!(matches!(map.apply(&tensors(&[("n", &[3]), ("n2", &[4])]), None), Err(Error::StoredShape { .. })));
        assert!(matches!(map.apply(&tensors(&[("n2", &[4])]), None), Err(Error::Join { .. })));
    }

    #[test]
    fn an_added_row_adds() {
        let both = tensors(&[("n", &[2]), ("n2", &[2])]);
        assert_eq!(map().apply(&both, None).unwrap().0["norm"].tensor.to_f32().unwrap(), [0.0, 2.0]);
    }

    /// Indices of a canonical name come from the source, and are found in names without a guess.
    #[test]
    fn rows_of_all_maps_are_well_formed() {
        for map in crate::params::maps() {
            for rename in map.renames() {
                let canonical = rename.canonical.fill(Indices::default());
                let both = |index| (canonical.contains(index), rename.source.contains(index));
                let (stage, block) = (both("{s}"), both("{i}"));
                assert!(stage.0 == stage.1 && block.0 == (block.1 || rename.stacked), "{}", rename.source);
                let digit_follows = |index| rename.source.split(index).skip(1).any(|t| t.starts_with(char::is_numeric));
                assert!(!digit_follows("{s}") && !digit_follows("{i}"), "{}", rename.source);
            }
        }
    }
}
