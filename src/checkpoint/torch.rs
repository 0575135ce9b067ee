//! PyTorch files: the zip container, TorchScript archives, and the form of before 1.6.
//!
//! What `torch.save` wrote is a pickle beside raw storages. The pickle machine gives tensors as
//! places in storages; here they become views of the mapped file, and the state dict is found in
//! what was saved around it.

use std::collections::HashMap;

use bytes::Bytes;

use super::archive::Member;
use super::pickle::{self, Node, Opaque, Pickle, StorageRef, TensorRef, Value};
use super::{Error, Skipped};
use crate::tensor::{Storage, Tensor};

/// Keys under which training scripts put the weights, in the order tried.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model"];

/// Bytes of an archive's pickle, at most; the largest published ones have under 10 MB.
const PROGRAM: usize = 64 << 20;

/// Bytes that the names and shapes of all tensors may come to.
const NAMES: usize = 64 << 20;

/// What a tensor takes besides, with the parts that are allocated for it.
const TENSOR: usize = 256 + size_of::<Tensor>();

/// Nested modules of a TorchScript archive, at most.
const MAX_DEPTH: usize = 64;

/// The first pickle of a pre-1.6 file holds this number, as a ten-byte integer.
const LEGACY_MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether a file begins as those of before 1.6 do: with a protocol, from 4 on with a frame, then the number.
pub fn is_legacy(bytes: &[u8]) -> bool {
    let rest = match bytes {
        [0x80, 2..=3, rest @ ..] => rest,
        [0x80, 4..=5, 0x95, rest @ ..] => rest.get(8..).unwrap_or_default(),
        _ => return false,
    };
    rest.starts_with(&LEGACY_MAGIC)
}

/// What was saved: tensors by name, and what was found beside them.
type Saved = (Vec<(String, Tensor)>, Vec<Skipped>);

/// Where the bytes of each storage are.
type Storages = HashMap<String, (Storage, usize)>;

/// Whether an archive is one of PyTorch's.
pub fn is_torch(members: &[Member]) -> bool {
    members.iter().any(|m| m.name == "data.pkl" || m.name.ends_with("/data.pkl"))
}

/// Reads a zip container or a TorchScript archive. Its pickle may make values of `memory` bytes, of which those that it
/// makes are taken.
///
/// # Errors
/// [`Error::Pickle`], [`Error::Member`], or what a tensor's extent reports.
pub fn read_zip(members: &[Member], memory: &mut usize) -> Result<Saved, Error> {
    let program = members.iter().find(|m| m.name == "data.pkl" || m.name.ends_with("/data.pkl"));
    let program = program.ok_or_else(|| Error::Pickle { reason: "it has no data.pkl".to_owned() })?;
    let root = program.name.strip_suffix("data.pkl").unwrap_or_default();
    let mut storages = Storages::new();
    for member in members {
        let Some(rest) = member.name.strip_prefix(root) else { continue };
        if rest == "byteorder" && &member.prefix(16)?[..] != b"little" {
            return Err(Error::Pickle {
                reason: "its storages are big-endian; save it on a little-endian machine".to_owned(),
            });
        }
        if let Some(key) = rest.strip_prefix("data/") {
            storages.insert(key.to_owned(), (member.storage(0), member.size));
        }
    }
    if program.size > PROGRAM {
        let reason = format!("its data.pkl has {} bytes; expected at most {PROGRAM}", program.size);
        return Err(Error::Pickle { reason });
    }
    let program = program.prefix(usize::MAX)?;
    let pickle = pickle::run(&program, *memory).map_err(|reason| Error::Pickle { reason })?;
    *memory -= pickle.made;
    tensors(&pickle, &storages)
}

/// Reads a file of before 1.6: five pickles, then the storages one after another.
///
/// # Errors
/// As [`read_zip`].
pub fn read_legacy(file: &Bytes, memory: &mut usize) -> Result<Saved, Error> {
    let wrong = |reason: String| Error::Pickle { reason };
    let mut at = 0;
    let mut programs = Vec::new();
    for part in ["magic number", "protocol", "system", "object", "storage keys"] {
        let pickle = pickle::run(&file[at..], *memory).map_err(|reason| wrong(format!("{part}: {reason}")))?;
        (at, *memory) = (at + pickle.length, *memory - pickle.made);
        programs.push(pickle);
    }
    let (Some(keys), Some(object)) = (programs.pop(), programs.pop()) else {
        return Err(wrong("it has no object".to_owned()));
    };
    let mut dtypes: HashMap<&str, &StorageRef> = HashMap::new();
    for node in &object.nodes {
        if let Node::Storage(storage) = node {
            dtypes.insert(&storage.key, storage);
        }
    }
    let Some(Node::List(listed)) = keys.node(keys.value) else {
        return Err(wrong("it has no list of storages".to_owned()));
    };
    let mut storages = Storages::new();
    for &key in listed {
        let key = keys.text(key).ok_or_else(|| wrong("a storage key is no string".to_owned()))?;
        let Some(storage) = dtypes.get(key) else {
            return Err(wrong(format!(
                "storage `{key}` is of no type that is read, so that its length is not known; save the weights alone: torch.save(model.state_dict(), ...)"
            )));
        };
        let cut = || wrong(format!("it ends at byte {} inside storage `{key}`; it may be truncated", file.len()));
        let count = file.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(cut)?;
        at += 8;
        let size = usize::try_from(count).ok().and_then(|n| n.checked_mul(storage.dtype.size())).ok_or_else(cut)?;
        let end = at.checked_add(size).filter(|&end| end <= file.len()).ok_or_else(cut)?;
        storages.insert(key.to_owned(), (Storage::Ready(file.slice(at..end)), size));
        at = end;
    }
    tensors(&object, &storages)
}

/// The state dict in what was saved, as names and views.
fn tensors(pickle: &Pickle, storages: &Storages) -> Result<Saved, Error> {
    if let Some(Node::Opaque(Opaque { maker, .. }) | Node::Global(maker)) = pickle.node(pickle.value) {
        return Err(Error::Pickle { reason: only_tensors(format!("this file wants to run `{maker}`")) });
    }
    let mut walk = Walk { pickle, visits: 0, bytes: 0, found: Vec::new(), skipped: Vec::new() };
    let state = walk.state_dict()?;
    walk.collect(state, "", 0)?;
    let Walk { found, skipped, .. } = walk;
    if found.is_empty() {
        let reason = format!("no tensors in it; expected a state dict, or one under {}", WRAPPERS.join(", "));
        let runs = skipped.iter().find(|skipped| skipped.opaque);
        let reason = match runs {
            Some(runs) => only_tensors(format!("{reason}; `{}` is {}", runs.place, runs.what)),
            None => reason,
        };
        return Err(Error::Pickle { reason });
    }
    let named = |(name, tensor): (String, &TensorRef)| {
        let tensor = view(&name, tensor, storages)?;
        Ok((name, tensor))
    };
    Ok((found.into_iter().map(named).collect::<Result<_, Error>>()?, skipped))
}

/// With the way out.
fn only_tensors(what: String) -> String {
    format!(
        "{what}; only tensors are read. If you trust where it comes from, save its weights alone: torch.save(model.state_dict(), ...)"
    )
}

/// A walk over dictionaries that may share parts of themselves, or contain themselves.
struct Walk<'a> {
    pickle: &'a Pickle,
    visits: usize,
    /// What the names and shapes of all tensors come to.
    bytes: usize,
    found: Vec<(String, &'a TensorRef)>,
    skipped: Vec<Skipped>,
}

impl Walk<'_> {
    /// The dictionary that holds the weights: the one saved, or the one under a wrapper's key. Other weights beside it are
    /// collected under their keys, and the rest is skipped.
    fn state_dict(&mut self) -> Result<Value, Error> {
        let pickle = self.pickle;
        let Some(Node::Dict(items)) = pickle.node(pickle.value) else { return Ok(pickle.value) };
        let is_dict = |value: Value| matches!(pickle.node(value), Some(Node::Dict(_)));
        let under =
            |wrapper: &&str| items.iter().position(|&(key, value)| pickle.text(key) == Some(wrapper) && is_dict(value));
        let Some(taken) = WRAPPERS.iter().find_map(under) else { return Ok(pickle.value) };
        for (at, &(key, value)) in items.iter().enumerate() {
            let Some(key) = pickle.text(key).filter(|_| at != taken) else { continue };
            let is_tensor = |value: Value| matches!(pickle.node(value), Some(Node::Tensor(_)));
            match pickle.node(value) {
                Some(Node::Dict(items)) if items.iter().any(|&(_, value)| is_tensor(value)) => {
                    self.collect(value, &format!("{key}."), 0)?;
                }
                _ => self.skip(key.to_owned(), value)?,
            }
        }
        Ok(items[taken].1)
    }

    /// Counts the bytes of a name, and of a shape.
    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        // Each name is held twice.
        self.bytes += 2 * bytes + TENSOR;
        if self.bytes <= NAMES {
            return Ok(());
        }
        let reason = format!("the names and shapes of its tensors come to more than {} MiB", NAMES >> 20);
        Err(Error::Pickle { reason })
    }

    fn skip(&mut self, place: String, value: Value) -> Result<(), Error> {
        let (what, opaque) = match self.pickle.node(value) {
            Some(Node::Opaque(found)) => (format!("an object of `{}`", found.maker), true),
            Some(Node::Global(name)) => (format!("`{name}` itself"), true),
            Some(Node::Text(_)) => ("a text".to_owned(), false),
            Some(Node::Tuple(items) | Node::List(items)) => (format!("a list of {}", items.len()), false),
            Some(Node::Dict(items)) => (format!("a dictionary of {}", items.len()), false),
            Some(Node::Tensor(_)) => ("a tensor".to_owned(), false),
            Some(Node::Storage(_)) => ("a storage".to_owned(), false),
            None if value == Value::None => ("None".to_owned(), false),
            None => ("a plain value".to_owned(), false),
        };
        self.charge(place.len() + what.len())?;
        self.skipped.push(Skipped { place, what, opaque });
        Ok(())
    }

    /// Tensors below a dictionary, named by their path. What is no tensor is no weight, but where tensors went into
    /// something that is not rebuilt.
    fn collect(&mut self, value: Value, prefix: &str, depth: usize) -> Result<(), Error> {
        let Some(Node::Dict(items)) = self.pickle.node(value) else { return Ok(()) };
        // A tree has no more places than nodes; with shared parts there could be 2^depth.
        self.visits += 1 + items.len();
        if depth > MAX_DEPTH || self.visits > 2 * self.pickle.nodes.len() + 1000 {
            let reason = format!("its dictionaries nest or repeat without end under `{prefix}`");
            return Err(Error::Pickle { reason });
        }
        for &(key, item) in items {
            let Some(key) = self.pickle.text(key) else { continue };
            let node = self.pickle.node(item);
            let axes = if let Some(Node::Tensor(tensor)) = node { tensor.shape.len() } else { 0 };
            self.charge(prefix.len() + key.len() + 2 * axes * size_of::<usize>())?;
            let name = format!("{prefix}{key}");
            match node {
                Some(Node::Tensor(tensor)) => self.found.push((name, tensor)),
                Some(Node::Dict(_)) => self.collect(item, &format!("{name}."), depth + 1)?,
                Some(Node::Opaque(Opaque { maker, holds_tensors: true })) => {
                    let reason = only_tensors(format!("`{name}` is an object of `{maker}`"));
                    return Err(Error::Pickle { reason });
                }
                Some(Node::Opaque(_)) => self.skip(name, item)?,
                _ if depth == 0 => self.skip(name, item)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn view(name: &str, tensor: &TensorRef, storages: &Storages) -> Result<Tensor, Error> {
    let wrong = |reason: String| Error::Member { name: name.to_owned(), reason };
    let (storage, size) = storages
        .get(&*tensor.storage.key)
        .ok_or_else(|| wrong(format!("is in storage `{}`, which the file does not have", tensor.storage.key)))?;
    let offset = usize::try_from(tensor.offset).map_err(|_| wrong(format!("starts at element {}", tensor.offset)))?;
    let layout = (&tensor.shape[..], &tensor.strides[..]);
    Ok(Tensor::strided(name, tensor.storage.dtype, layout, offset, storage.clone(), *size)?)
}
