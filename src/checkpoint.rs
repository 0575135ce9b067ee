//! A checkpoint file: names, shapes and tensors on demand, in whatever container it comes.
//!
//! The container is told from the first bytes, never from the file name. Files are mapped, and
//! tensors are views into the mapping, so opening costs the directory alone. This floor knows
//! nothing of models: it would open a ResNet as happily.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::tensor::{self, Tensor};

mod archive;
mod npy;
mod npz;
mod pickle;
mod safetensors;
mod torch;
pub mod write;

/// Containers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Npz,
    Safetensors,
    /// PyTorch's zip container, or a TorchScript archive.
    Torch,
    /// PyTorch's form of before 1.6.
    TorchLegacy,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Npz => "npz",
            Format::Safetensors => "safetensors",
            Format::Torch => "torch",
            Format::TorchLegacy => "torch (before 1.6)",
        })
    }
}

/// What can be wrong with the file itself. The caller adds the path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is empty")]
    Empty,
    #[error("is a directory; name the checkpoint file in it")]
    Directory,
    #[error("is a Git LFS pointer, not the checkpoint; run `git lfs pull`, or download the file itself")]
    LfsPointer,
    #[error("is an HTML page, not a checkpoint; the download did not give the file itself")]
    Html,
    #[error("is a PyTorch file that cannot be read: {reason}")]
    Pickle { reason: String },
    #[error(
        "is neither .npz nor .pt (zip) nor .safetensors: it starts with {found}; expected a zip archive, a safetensors header or a PyTorch pickle"
    )]
    Unknown { found: String },
    #[error(
        "is not a whole zip archive ({reason}); expected an .npz or a PyTorch file. It may be truncated: compare its size with the published one"
    )]
    Zip { reason: String },
    #[error("is not a whole safetensors file ({reason}). It may be truncated: compare its size with the published one")]
    Safetensors { reason: String },
    #[error("tensor `{name}`: {reason}")]
    Member { name: String, reason: String },
    #[error("tensor `{name}` is stored twice; expected each name once")]
    Duplicate { name: String },
    #[error("lists {listed} members under {names} names; expected each name once")]
    DuplicateMember { listed: usize, names: usize },
    #[error("tensor `{name}` does not match its checksum; the file is damaged, get it again")]
    Checksum { name: String },
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
}

/// An open checkpoint.
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    file: Bytes,
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
    checksums: Vec<Checksum>,
}

/// What the bytes of a stored archive member should sum to.
struct Checksum {
    name: String,
    bytes: Bytes,
    crc32: u32,
}

impl Checkpoint {
    /// Maps `path` and reads its directory.
    ///
    /// # Errors
    /// See [`Error`]: unreadable, truncated, of another kind, or a member that is not an array.
    pub fn open(path: &Path) -> Result<Checkpoint, Error> {
        let file = map(path)?;
        let mut checksums = Vec::new();
        let (format, metadata, tensors) = match &file[..] {
            [] => return Err(Error::Empty),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => {
                let members = archive::members(&file)?;
                let is_torch = torch::is_torch(&members);
                let format = if is_torch { Format::Torch } else { Format::Npz };
                // PyTorch can be told to leave checksums out, and then writes what they are not.
                if !is_torch {
                    checksums = members.iter().filter_map(archive::Member::checksum).collect();
                }
                (format, BTreeMap::new(), if is_torch { torch::read_zip(&members)? } else { npz::read(&members)? })
            }
            bytes if bytes.starts_with(&torch::LEGACY_MAGIC) => {
                (Format::TorchLegacy, BTreeMap::new(), torch::read_legacy(&file)?)
            }
            bytes if bytes.starts_with(b"version https://git-lfs") => return Err(Error::LfsPointer),
            // Before HTML: a header's length may begin with any byte.
            bytes if bytes.len() > 8 && bytes[8] == b'{' => {
                let (metadata, tensors) = safetensors::read(&file)?;
                (Format::Safetensors, metadata, tensors)
            }
            bytes if bytes.trim_ascii_start().starts_with(b"<") => return Err(Error::Html),
            [0x80, 2..=5, ..] => {
                let reason = "it is a bare pickle, not what torch.save writes".to_owned();
                return Err(Error::Pickle { reason });
            }
            bytes => {
                return Err(Error::Unknown { found: format!("{:02x?}", &bytes[..bytes.len().min(8)]) });
            }
        };
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = tensors.iter().find(|(name, _)| !seen.insert(name.clone())) {
            return Err(Error::Duplicate { name: name.clone() });
        }
        Ok(Checkpoint { path: path.to_owned(), format, file, metadata, tensors, checksums })
    }

    /// A checkpoint of names and shapes alone, to test tables and models without weights.
    pub fn from_tensors(path: &Path, tensors: Vec<(String, Tensor)>) -> Checkpoint {
        Checkpoint {
            path: path.to_owned(),
            format: Format::Npz,
            file: Bytes::new(),
            metadata: BTreeMap::new(),
            tensors,
            checksums: vec![],
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own name, without folders: what metadata and reports carry.
    pub fn file_name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.file.len() as u64
    }

    /// Free-form string pairs the file carries (safetensors `__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names and tensors, in stored order.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// SHA-256 of the whole file, in hex. `progress` is told how many bytes were taken in.
    ///
    /// # Errors
    /// [`Error::Checksum`] when a stored member is not what its archive says it is.
    pub fn sha256(&self, progress: &dyn Fn(u64)) -> Result<String, Error> {
        let mut hasher = Sha256::new();
        for chunk in self.file.chunks(1 << 22) {
            hasher.update(chunk);
            progress(chunk.len() as u64);
        }
        match self.checksums.iter().find(|sum| crc32fast::hash(&sum.bytes) != sum.crc32) {
            Some(sum) => Err(Error::Checksum { name: sum.name.clone() }),
            None => Ok(hex(&hasher.finalize())),
        }
    }
}

/// Lower-case hex of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Maps a file for reading.
///
/// # Errors
/// When it is a directory or cannot be opened.
pub fn map(path: &Path) -> Result<Bytes, Error> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Error::Directory);
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is read-only and private to this process. Someone truncating the file
    // while it is read ends the process with SIGBUS, as with every tool that maps its input;
    // changing it gives wrong bytes, never a wrong address.
    let mapping = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapping))
}
