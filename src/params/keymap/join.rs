//! From the tensors of a file to a canonical one: which a row finds, and how they are put together.

use std::collections::{BTreeMap, BTreeSet};

use super::pattern::{Indices, Part};
use super::row::{Contribution, Rename};
use super::{Error, Mapped};
use crate::tensor::Tensor;

/// The parts of a join, in order; None for those that are zeros.
pub type Parts<'a> = Vec<Option<(&'a str, &'a Tensor)>>;

/// The source tensors of a row, for all indices present.
pub fn present<'a>(
    rename: &Rename,
    stored: &BTreeMap<&'a str, &'a Tensor>,
) -> Result<BTreeMap<Indices, Parts<'a>>, Error> {
    let mut found: BTreeSet<Indices> = BTreeSet::new();
    for part in &rename.parts {
        let Part::Tensor(pattern) = part else { continue };
        match pattern.without_indices() {
            Some(name) => found.extend(stored.contains_key(name).then(Indices::default)),
            None => found.extend(stored.keys().filter_map(|name| pattern.indices_in(name))),
        }
    }
    let mut out = BTreeMap::new();
    for indices in found {
        let mut parts: Parts = Vec::with_capacity(rename.parts.len());
        let mut absent = None;
        for part in &rename.parts {
            let Part::Tensor(pattern) = part else {
                parts.push(None);
                continue;
            };
            let name = pattern.fill(indices);
            match stored.get_key_value(name.as_str()) {
                Some((name, tensor)) => parts.push(Some((name, tensor))),
                None => absent = absent.or(Some(name)),
            }
        }
        if let Some(absent) = absent {
            let present = parts.iter().flatten().next().map_or_else(String::new, |(name, _)| (*name).to_owned());
            return Err(Error::Join { absent, present, canonical: rename.canonical.fill(indices) });
        }
        out.insert(indices, parts);
    }
    Ok(out)
}

/// Number of blocks that are stacked in these tensors.
pub fn depth(parts: &Parts) -> Result<usize, Error> {
    let depth_of = |tensor: &Tensor| tensor.shape().first().copied().unwrap_or(0);
    let mut depths = parts.iter().flatten().map(|&(name, tensor)| (name, depth_of(tensor)));
    let expected = depths.next().map_or(0, |(_, depth)| depth);
    match depths.find(|&(_, depth)| depth != expected) {
        Some((name, found)) => Err(Error::Depth { source_name: name.to_owned(), found, expected }),
        None => Ok(expected),
    }
}

pub fn join(rename: &Rename, parts: &Parts, layer: Option<usize>) -> Result<Mapped, Error> {
    let mut tensors = Vec::with_capacity(parts.len());
    let mut heads = None;
    for (_, part) in parts.iter().flatten() {
        let part = layer.map_or_else(|| (*part).clone(), |layer| part.index(layer));
        let (tensor, part_heads) = rename.stored.read(&part)?;
        tensors.push(tensor);
        if let (Some(expected), Some(found)) = (heads, part_heads)
            && expected != found
        {
            let source_name = part.source_names().join("`, `");
            return Err(Error::JoinedHeads { source_name, found, expected });
        }
        heads = heads.or(part_heads);
    }
    if let [tensor] = &tensors[..]
        && parts.len() == 1
    {
        return Ok(Mapped { tensor: tensor.clone(), heads });
    }
    Ok(Mapped { tensor: Tensor::concat(&with_zeros(parts, tensors)?)?, heads })
}

/// Tensors with zeros between them, where parts are absent. Zeros are as many as the tensors have values, which must
/// be of one shape.
fn with_zeros(parts: &Parts, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
    if parts.iter().all(Option::is_some) {
        return Ok(tensors);
    }
    let Some(zeros) = tensors.first().map(Tensor::zeros_like) else { return Ok(tensors) };
    let shape = zeros.shape();
    if let Some(other) = tensors.iter().find(|tensor| tensor.shape() != shape) {
        let source_name = other.source_names().join("`, `");
        return Err(Error::StoredShape {
            source_name,
            found: other.shape(),
            expected: "the shape of the tensors it is joined with",
        });
    }
    let mut tensors = tensors.into_iter();
    Ok(parts.iter().filter_map(|part| if part.is_some() { tensors.next() } else { Some(zeros.clone()) }).collect())
}

/// Part `at` of `parts` equal ones along the first axis; None where it does not divide so.
pub fn equal_part(tensor: &Tensor, at: usize, parts: usize) -> Result<Option<Tensor>, Error> {
    if parts == 1 {
        return Ok(Some(tensor.clone()));
    }
    match tensor.shape().first() {
        Some(&rows) if rows > 0 && rows % parts == 0 => {
            let rows = rows / parts;
            Ok(Some(tensor.rows(at * rows..(at + 1) * rows)?))
        }
        _ => Ok(None),
    }
}

pub fn insert(
    out: &mut BTreeMap<String, Mapped>,
    name: String,
    mapped: Mapped,
    contribution: Contribution,
) -> Result<(), Error> {
    match (out.get_mut(&name), contribution) {
        (Some(first), Contribution::Summand) => first.tensor = first.tensor.sum(&mapped.tensor)?,
        (Some(first), Contribution::RowsFrom(from)) => {
            let (shape, found) = (first.tensor.shape(), mapped.tensor.shape());
            let rows = shape.first().copied().unwrap_or(0);
            if found != shape || rows < from {
                let source_name = mapped.tensor.source_names().join("`, `");
                return Err(Error::StoredShape { source_name, found, expected: "the shape of the table it continues" });
            }
            first.tensor = Tensor::concat(&[first.tensor.rows(0..from)?, mapped.tensor.rows(from..rows)?])?;
        }
        (None, Contribution::RowsFrom(_)) => {
            let present = mapped.tensor.source_names().join("`, `");
            return Err(Error::Join { absent: "the table that it continues".to_owned(), present, canonical: name });
        }
        (Some(first), Contribution::Whole) => {
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
