//! Canonical parameters: one spelling for every checkpoint, PyTorch layouts, timm block names.
//!
//! A [`KeyMap`] renames the tensors of a file once; towers then read by canonical
//! name and expected shape, strictly. What was read is remembered, so that a parameter nobody
//! asked for is as much an error as one that is missing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::config::Naming;
use crate::modality::Modality;
use crate::tensor::{self, Tensor};

pub mod big_vision;
pub mod keymap;
pub mod lora;
pub mod mobileclip;
pub mod open_clip;
pub mod positions;
pub mod reparam;
pub mod transformers;
mod weights;

use keymap::KeyMap;
use weights::Weights;

/// What can be wrong between a file's names and the parameters a model needs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no key map knows these {tensors} tensors (the first is `{first}`); expected names such as {expected}")]
    Unrecognised { tensors: usize, first: String, expected: String },
    #[error(
        "the {map} key map has no row for {count} of {total} tensors, which are parts of a tower: {names}. The tower is of another architecture"
    )]
    Unmapped { map: &'static str, count: usize, total: usize, names: String, tower: Option<Modality> },
    #[error("tensor `{absent}` is missing, while `{present}` is there; both are parts of `{canonical}`")]
    Join { absent: String, present: String, canonical: String },
    #[error("tensors `{first}` and `{second}` both give `{canonical}`; expected one of them")]
    Twice { first: String, second: String, canonical: String },
    #[error("tensor `{source_name}` has shape {found:?}, expected {expected}")]
    StoredShape { source_name: String, found: Vec<usize>, expected: &'static str },
    #[error("missing parameter `{name}`, expected shape {expected:?}{source_name}{near}")]
    Missing { name: String, expected: Vec<usize>, source_name: String, near: String },
    #[error("`{name}` has shape {found:?}, expected {expected:?}{source_name}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize>, source_name: String },
    #[error("`{name}` is stored with {found} heads, expected {expected} from the configuration")]
    Heads { name: String, found: usize, expected: usize },
    #[error("tensor `{source_name}` has {found} heads, the tensors it is joined with {expected}")]
    JoinedHeads { source_name: String, found: usize, expected: usize },
    #[error("tensor `{source_name}` stacks {found} layers, the tensors it is joined with {expected}")]
    Depth { source_name: String, found: usize, expected: usize },
    #[error("`logit_scale` is {found}, whose exponential is not finite; expected a logarithm such as 4.6")]
    LogitScale { found: f32 },
    #[error("holds the weights of {count} models, under {prefixes}")]
    Copies { count: usize, prefixes: String, first: String },
    #[error("has no tower under `{prefix}`; those it has are under {found}")]
    Prefix { prefix: String, found: String },
    #[error(transparent)]
    Lora(#[from] lora::Error),
    #[error("there is no {tower} tower")]
    NoTower { tower: Modality },
    #[error("there is no `logit_scale`, without which there are no logits and no probabilities")]
    NoScale,
    #[error("{count} parameters are not used by this configuration: {names}")]
    Unused { count: usize, names: String },
    #[error("`{canonical}` has no {map} name")]
    NoName { map: &'static str, canonical: String },
    #[error("`{canonical}` has values other than zero in a part that {map} files do not store")]
    NotZero { map: &'static str, canonical: String },
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
}

/// A canonical parameter.
struct Entry {
    tensor: Tensor,
    /// Attention heads, where the source's layout shows them.
    heads: Option<usize>,
}

/// Canonical name → tensor.
pub struct Params {
    map: &'static KeyMap,
    entries: BTreeMap<String, Entry>,
    read: RefCell<BTreeSet<String>>,
    notes: Vec<String>,
    left_out: Vec<String>,
    /// What was asked for, in a [`Params::recorder`].
    recorded: Option<RefCell<BTreeMap<String, Wanted>>>,
}

/// How a checkpoint is read.
#[derive(Default)]
pub struct Reading {
    /// Start of the names of the model that is meant, where there are several.
    pub prefix: Option<String>,
    /// The tower that is wanted of two.
    pub only: Option<Modality>,
    /// Adapters in files of their own, in the order in which they are merged.
    pub adapters: Vec<lora::Adapter>,
    /// Settings of the adapters that are in the checkpoint itself, by their names there.
    pub inside: Vec<(String, lora::Settings)>,
}

/// What a tower asks of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub shape: Vec<usize>,
    pub heads: Option<usize>,
}

impl Params {
    /// Renames the tensors of `checkpoint` that are a model's, by the key map that recognises them, with adapters merged.
    ///
    /// # Errors
    /// [`Error::Copies`], [`Error::Prefix`], [`Error::Lora`], [`Error::Unrecognised`], [`Error::Unmapped`],
    /// [`Error::Join`], [`Error::Twice`] or [`Error::StoredShape`].
    pub fn from_checkpoint(checkpoint: &Checkpoint, reading: &Reading) -> Result<Params, Error> {
        let Reading { prefix, only, adapters, inside } = reading;
        let mut all = checkpoint.tensors().to_vec();
        let ids: Vec<String> = (1..=adapters.len()).map(|n| format!("#{n}")).collect();
        adapters.iter().zip(&ids).for_each(|(adapter, id)| all.extend(adapter.renamed(id)));
        let has_parts = !adapters.is_empty() || lora::present(&all);
        if has_parts {
            all = lora::without_layers(&all);
        }
        let found = weights::find(&all, prefix.as_deref())?;
        let found = found.unwrap_or_else(|| Weights { tensors: all, notes: vec![], left_out: vec![] });
        let Weights { mut tensors, mut notes, mut left_out } = found;
        if has_parts {
            let own = inside.iter().map(|(id, settings)| (id.clone(), format!("`{id}`"), settings));
            let named =
                adapters.iter().zip(&ids).map(|(adapter, id)| (id.clone(), adapter.name.clone(), &adapter.settings));
            let (merged, more) = lora::merge(tensors, &own.chain(named).collect::<Vec<_>>())?;
            tensors = merged;
            notes.extend(more);
        }
        let Some(map) = maps().iter().find(|map| map.recognises(&tensors)) else {
            let expected: Vec<String> = maps().iter().map(KeyMap::describe).collect();
            return Err(Error::Unrecognised {
                tensors: tensors.len(),
                first: tensors.first().map_or_else(String::new, |(name, _)| name.clone()),
                expected: expected.join(" or "),
            });
        };
        let (entries, outside) = map.apply(&tensors, *only)?;
        left_out.extend(outside);
        let entries = entries
            .into_iter()
            .map(|(name, mapped)| (name, Entry { tensor: mapped.tensor, heads: mapped.heads }))
            .collect();
        let mut params = Params { map, entries, notes, left_out, ..Params::empty() };
        params.keep(|tower| only.is_none_or(|only| only == tower));
        Ok(params)
    }

    fn empty() -> Params {
        Params {
            map: &maps()[0],
            entries: BTreeMap::new(),
            read: RefCell::default(),
            notes: vec![],
            left_out: vec![],
            recorded: None,
        }
    }

    /// Parameters that answer every request with zeros and record it: building a tower over them lists what its
    /// configuration needs, without a checkpoint. Nothing is computed from the zeros, as what is folded is computed when
    /// it is written.
    pub fn recorder() -> Params {
        Params { recorded: Some(RefCell::default()), ..Params::empty() }
    }

    /// These parameters, by their canonical names.
    #[cfg(test)]
    pub(crate) fn given(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Params {
        let entries = tensors.into_iter().map(|(name, tensor)| (name, Entry { tensor, heads: None })).collect();
        Params { entries, ..Params::empty() }
    }

    /// What was asked of a [`Params::recorder`].
    pub fn into_wanted(self) -> BTreeMap<String, Wanted> {
        self.recorded.map(RefCell::into_inner).unwrap_or_default()
    }

    /// What the user should know of how the weights were found.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if !self.left_out.is_empty() {
            notes.push(format!(
                "{} tensors that are outside both towers are left out: {}",
                self.left_out.len(),
                keymap::some_of(&self.left_out)
            ));
        }
        notes
    }

    /// Names of tensors that are no part of the model.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether there are parameters of this tower.
    pub fn has(&self, tower: Modality) -> bool {
        self.entries.keys().any(|name| name.starts_with(prefix(tower)))
    }

    /// How the file names its tensors.
    pub fn naming(&self) -> Naming {
        self.map.naming
    }

    /// Names and shapes of everything mapped.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry.tensor.shape()))
    }

    /// Names and tensors, in canonical order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.tensor))
    }

    /// The parameter `name`, which must have `shape`.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`], naming the tensor of the file as well.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        if let Some(recorded) = &self.recorded {
            let wanted = Wanted { shape: shape.to_vec(), heads: None };
            recorded.borrow_mut().insert(name.to_owned(), wanted);
            return Ok(Tensor::zeros(shape));
        }
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::Missing {
                name: name.to_owned(),
                expected: shape.to_vec(),
                source_name: self.source_note(name),
                near: self.near(name),
            });
        };
        let found = entry.tensor.shape();
        if found != shape {
            return Err(Error::Shape {
                name: name.to_owned(),
                found,
                expected: shape.to_vec(),
                source_name: format!(
                    " in PyTorch's layout (stored as tensor `{}`)",
                    entry.tensor.source_names().join("`, `")
                ),
            });
        }
        self.read.borrow_mut().insert(name.to_owned());
        Ok(entry.tensor.clone())
    }

    /// Adds or replaces a parameter that was computed.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.entries.insert(name.to_owned(), Entry { tensor, heads: None });
    }

    /// Leaves out the parameters of towers that are not `wanted`.
    pub fn keep(&mut self, wanted: impl Fn(Modality) -> bool) {
        for tower in Modality::ALL.into_iter().filter(|tower| !wanted(*tower)) {
            self.remove(|name| name.starts_with(prefix(tower)));
        }
    }

    /// Removes the parameters whose names are `unwanted`.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| !unwanted(name));
    }

    /// Checks the head count of an attention weight where its source stores heads on an axis of their own.
    ///
    /// # Errors
    /// [`Error::Heads`] when it differs.
    pub fn expect_heads(&self, name: &str, expected: usize) -> Result<(), Error> {
        if let Some(recorded) = &self.recorded {
            if let Some(wanted) = recorded.borrow_mut().get_mut(name) {
                wanted.heads = Some(expected);
            }
            return Ok(());
        }
        match self.heads(name) {
            Some(found) if found != expected => Err(Error::Heads { name: name.to_owned(), found, expected }),
            _ => Ok(()),
        }
    }

    /// Whether there is such a parameter; a recorder has all.
    pub fn holds(&self, name: &str) -> bool {
        self.recorded.is_some() || self.entries.contains_key(name)
    }

    /// Heads of an attention weight, where its source stores them on an axis of their own.
    pub fn heads(&self, name: &str) -> Option<usize> {
        self.entries.get(name).and_then(|entry| entry.heads)
    }

    /// Checks that every parameter was read.
    ///
    /// # Errors
    /// [`Error::Unused`] with the names that were not.
    pub fn expect_all_read(&self) -> Result<(), Error> {
        let read = self.read.borrow();
        let unused: Vec<String> = self
            .entries
            .iter()
            .filter(|(name, _)| !read.contains(*name))
            .map(|(name, entry)| format!("{name} (tensor `{}`)", entry.tensor.source_names().join("`, `")))
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        Err(Error::Unused { count: unused.len(), names: keymap::some_of(&unused) })
    }

    fn source_note(&self, name: &str) -> String {
        self.map.source_of(name).map_or_else(String::new, |source| format!(" (tensor `{source}`)"))
    }

    /// The name with the longest common start, when it is longer than the tower's own.
    fn near(&self, name: &str) -> String {
        let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let best = self.entries.keys().map(|other| (common(other), other)).max_by_key(|&(n, _)| n);
        match best {
            Some((n, other)) if n * 2 > name.len() => format!("; the nearest present is `{other}`"),
            _ => String::new(),
        }
    }
}

/// How the canonical names of a tower's parameters begin.
pub fn prefix(tower: Modality) -> &'static str {
    match tower {
        Modality::Image => "visual.",
        Modality::Text => "text.",
    }
}

/// The key maps, most specific first.
pub fn maps() -> &'static [KeyMap] {
    static MAPS: std::sync::OnceLock<Vec<KeyMap>> = std::sync::OnceLock::new();
    MAPS.get_or_init(|| {
        vec![
            big_vision::siglip(),
            open_clip::timm_vit(),
            open_clip::timm_fastvit(),
            open_clip::native(),
            mobileclip::apple(),
            transformers::naflex(),
            transformers::fixed(),
        ]
    })
}
