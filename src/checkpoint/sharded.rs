//! Checkpoints cut into shards: an index in JSON says which file
//! holds which tensor (`weight_map`), as transformers' `save_pretrained` writes it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;

use super::inflate::Scratch;
use super::{Contents, Error, Watched, pickle, watched};

/// More than any released set has.
const MAX_SHARDS: usize = 1024;

/// Bytes that names and shapes of all shards may come to.
const MAX_NAMES: usize = 128 << 20;

/// Bytes of an index, at most; the largest published ones have under 1 MB.
const MAX_INDEX: usize = 16 << 20;

/// Whether the file is JSON text. A safetensors header's length may begin with the same byte; its
/// eighth is zero then.
pub fn is_index(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"{") && file.get(7) != Some(&0)
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens every shard an index names, and checks that each holds what the index says it does.
pub fn read(index: &[u8], path: &Path, scratch: &Scratch) -> Result<(Vec<Watched>, Vec<Bytes>, Contents), Error> {
    if index.len() > MAX_INDEX {
        return Err(Error::Index { reason: format!("it has {} bytes; expected at most {MAX_INDEX}", index.len()) });
    }
    let Index { weight_map } = serde_json::from_slice(index).map_err(|e| Error::Index { reason: e.to_string() })?;
    let shards: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    if shards.is_empty() || shards.len() > MAX_SHARDS {
        let reason = format!("its weight_map names {} files, expected 1 to {MAX_SHARDS}", shards.len());
        return Err(Error::Index { reason });
    }
    let (mut sources, mut files) = (Vec::new(), Vec::new());
    let (mut left, mut memory) = (MAX_NAMES, pickle::MEMORY);
    let mut all: Option<Contents> = None;
    for shard in shards {
        if Path::new(shard).file_name() != Some(shard.as_ref()) {
            let reason = format!("`{shard}` is not the name of a file beside it");
            return Err(Error::Index { reason });
        }
        let wrong = |error: Error| Error::Shard { shard: shard.to_owned(), error: Box::new(error) };
        let (file, source) = watched(&path.with_file_name(shard)).map_err(|e| wrong(e.into()))?;
        let mut contents = Contents::read(&file, scratch, &mut memory).map_err(wrong)?;
        let cost = |(name, tensor): &(String, crate::tensor::Tensor)| 512 + 2 * name.len() + 32 * tensor.shape().len();
        let bytes: usize = contents.tensors.iter().map(cost).sum();
        left = left.checked_sub(bytes).ok_or_else(|| Error::Index {
            reason: format!("names and shapes of its shards come to more than {} MiB", MAX_NAMES >> 20),
        })?;
        let held: HashSet<&str> = contents.tensors.iter().map(|(name, _)| name.as_str()).collect();
        let mut listed = weight_map.iter().filter(|(_, in_shard)| *in_shard == shard);
        if let Some((name, _)) = listed.find(|(name, _)| !held.contains(name.as_str())) {
            return Err(Error::Misplaced { shard: shard.to_owned(), tensor: name.clone() });
        }
        contents.checksums.iter_mut().for_each(|sum| sum.file = files.len());
        sources.push(source);
        files.push(file);
        match &mut all {
            None => all = Some(contents),
            Some(all) => {
                all.tensors.extend(contents.tensors);
                all.checksums.extend(contents.checksums);
                all.metadata.extend(contents.metadata);
                all.skipped.extend(contents.skipped);
            }
        }
    }
    let all = all.ok_or_else(|| Error::Index { reason: "its weight_map is empty".to_owned() })?;
    Ok((sources, files, all))
}
