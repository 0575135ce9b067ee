//! A checkpoint file: names, shapes and tensors on demand, in whatever container it comes.
//!
//! The container is detected from the first bytes, never from the file name. Files are mapped, and
//! tensors are views into the mapping, so opening costs the directory alone. This floor knows
//! nothing of models: it would open a ResNet as happily.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use inflate::Scratch;

use crate::files::{Watched, hex, mapped, read_json, watched};
use crate::tensor::{self, Tensor};

mod archive;
mod folder;
mod inflate;
mod npy;
mod npz;
mod pickle;
mod safetensors;
mod sharded;
mod torch;
pub mod write;

/// Containers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NumPy archive, as big_vision publishes its weights.
    Npz,
    /// One safetensors file, or the shards that an index lists.
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
    /// The operating system could not open or read the file.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// A file of no bytes.
    #[error("is empty")]
    Empty,
    /// A directory without a checkpoint under a known file name.
    #[error("is a directory with none of {expected} in it; name the checkpoint file in it")]
    Directory {
        /// File names that are looked for.
        expected: String,
    },
    /// A directory with several checkpoints under names that are not usual.
    #[error("is a directory with {count} checkpoints ({names}); name one of them")]
    Several {
        /// Number of them.
        count: usize,
        /// The first of their file names.
        names: String,
    },
    /// A folder of diffusers, whose towers are in folders of it.
    #[error("is a pipeline of diffusers; name one of its towers' folders: {towers}")]
    Pipeline {
        /// Names of these folders.
        towers: String,
    },
    /// A folder of sentence-transformers whose modules cannot be followed.
    #[error("is a folder of sentence-transformers whose modules.json cannot be followed: {reason}")]
    Modules {
        /// What is wrong, in words.
        reason: String,
    },
    /// JSON that is not the index of a sharded checkpoint.
    #[error("is JSON, but no index of a sharded checkpoint: {reason}")]
    Index {
        /// What is wrong, in words.
        reason: String,
    },
    /// The index assigns a tensor to a shard that does not store it.
    #[error("names shard `{shard}` for tensor `{tensor}`, which is not in it; get index and shards again, together")]
    Misplaced {
        /// File name of the shard.
        shard: String,
        /// Name of the tensor in the index.
        tensor: String,
    },
    /// A shard of a sharded checkpoint could not be read.
    #[error("names shard `{shard}`, which {error}")]
    Shard {
        /// File name of the shard.
        shard: String,
        /// The error of reading the shard.
        error: Box<Error>,
    },
    /// The text that Git LFS leaves in place of a file that was not downloaded.
    #[error("is a Git LFS pointer, not the checkpoint; run `git lfs pull`, or download the file itself")]
    LfsPointer,
    /// A web page saved under the checkpoint's name.
    #[error("is an HTML page, not a checkpoint; the download did not give the file itself")]
    Html,
    /// A pickle that is damaged, or uses what is not supported.
    #[error("is a PyTorch file that cannot be read: {reason}")]
    Pickle {
        /// What is wrong, in words.
        reason: String,
    },
    /// None of the supported containers.
    #[error(
        "is neither .npz nor .pt (zip) nor .safetensors: it starts with {found}; expected a zip archive, a safetensors header, a PyTorch pickle or the index of a sharded checkpoint"
    )]
    Unknown {
        /// First bytes of the file.
        found: String,
    },
    /// A zip container that is truncated or damaged.
    #[error(
        "is not a whole zip archive ({reason}); expected an .npz or a PyTorch file. It may be truncated: compare its size with the published one"
    )]
    Zip {
        /// What is wrong, in words.
        reason: String,
    },
    /// A safetensors container that is truncated or damaged.
    #[error("is not a whole safetensors file ({reason}). It may be truncated: compare its size with the published one")]
    Safetensors {
        /// What is wrong, in words.
        reason: String,
    },
    /// A tensor of the container that cannot be read.
    #[error("tensor `{name}`: {reason}")]
    Member {
        /// Name of the tensor.
        name: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// Two tensors of the same name.
    #[error("tensor `{name}` is stored twice; expected each name once")]
    Duplicate {
        /// Name of the tensor.
        name: String,
    },
    /// A zip directory with repeated names.
    #[error("lists {listed} members under {names} names; expected each name once")]
    DuplicateMember {
        /// Number of entries in the zip directory.
        listed: u64,
        /// Number of distinct names.
        names: usize,
    },
    /// The CRC-32 of a zip member differs from the one stored.
    #[error("member `{name}` does not match its checksum; the file is damaged, get it again")]
    Checksum {
        /// Name of the member in the zip archive.
        name: String,
    },
    /// The values of a tensor could not be read or converted.
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    /// A file of the checkpoint is no longer what it was when reading it began.
    #[error("{path} {change} while it was read; begin again when nothing writes to it")]
    Changed {
        /// Path of the file.
        path: String,
        /// What happened to it, in words.
        change: &'static str,
    },
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

/// An open checkpoint.
pub struct Checkpoint {
    path: PathBuf,
    /// What it is read from: the file, or the index and the shards.
    sources: Vec<Watched>,
    /// The file, or the shards in the order of their names.
    files: Vec<Bytes>,
    contents: Contents,
    /// Where large deflated members are inflated.
    scratch: Scratch,
}

/// Something in a PyTorch file that is no weight, and that is not read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// The keys that lead to it, with dots between them.
    pub place: String,
    /// What it is, in words.
    pub what: String,
    /// Whether code would have to run to make it.
    pub opaque: bool,
}

/// What a file turned out to hold.
struct Contents {
    format: Format,
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
    checksums: Vec<Checksum>,
    skipped: Vec<Skipped>,
}

impl Contents {
    fn new(format: Format, tensors: Vec<(String, Tensor)>) -> Contents {
        Contents { format, metadata: BTreeMap::new(), tensors, checksums: vec![], skipped: vec![] }
    }

    /// Reads one file, whichever container it is. Pickles of all files together may make values of `memory` bytes.
    fn read(file: &Bytes, scratch: &Scratch, memory: &mut usize) -> Result<Contents, Error> {
        Ok(match &file[..] {
            [] => return Err(Error::Empty),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => {
                let members = archive::members(file, scratch)?;
                let mut checksums: Vec<Checksum> = members.iter().filter_map(archive::Member::checksum).collect();
                checksums.sort_by_key(|sum| sum.range.start);
                let contents = if torch::is_torch(&members) {
                    // PyTorch can be told to leave checksums out, and then writes zeros.
                    checksums.retain(|sum| sum.crc32 != 0);
                    let described = checksums.iter().find(|sum| sum.name.ends_with("data.pkl"));
                    described.map_or(Ok(()), |sum| sum.check(file))?;
                    let (tensors, skipped) = torch::read_zip(&members, memory)?;
                    Contents { skipped, ..Contents::new(Format::Torch, tensors) }
                } else {
                    Contents::new(Format::Npz, npz::read(&members)?)
                };
                Contents { checksums, ..contents }
            }
            bytes if torch::is_legacy(bytes) => {
                let (tensors, skipped) = torch::read_legacy(file, memory)?;
                Contents { skipped, ..Contents::new(Format::TorchLegacy, tensors) }
            }
            bytes if bytes.starts_with(b"version https://git-lfs") => return Err(Error::LfsPointer),
            // Before HTML: a header's length may begin with any byte.
            bytes if bytes.len() > 8 && bytes[8] == b'{' => {
                let (metadata, tensors) = safetensors::read(file)?;
                Contents { metadata, ..Contents::new(Format::Safetensors, tensors) }
            }
            bytes if bytes.trim_ascii_start().starts_with(b"<") => return Err(Error::Html),
            [0x80, 2..=5, ..] => {
                let reason = "it is a bare pickle, not what torch.save writes".to_owned();
                return Err(Error::Pickle { reason });
            }
            bytes => {
                return Err(Error::Unknown { found: format!("{:02x?}", &bytes[..bytes.len().min(8)]) });
            }
        })
    }
}

/// What the bytes of a stored archive member should sum to.
#[derive(Clone)]
struct Checksum {
    name: String,
    /// Which of the files it is in, and where.
    file: usize,
    range: Range<usize>,
    crc32: u32,
}

impl Checksum {
    /// Sums the member now.
    fn check(&self, file: &[u8]) -> Result<(), Error> {
        let sum = crc32fast::hash(&file[self.range.clone()]);
        if sum == self.crc32 { Ok(()) } else { Err(Error::Checksum { name: self.name.clone() }) }
    }
}

impl Checkpoint {
    /// Maps `path` and reads its directory. A folder stands for the checkpoint in it that bears one
    /// of the usual names, and an index for the shards it lists.
    ///
    /// # Errors
    /// See [`Error`]: unreadable, truncated, of another kind, or a member that is not an array.
    pub fn open(path: &Path) -> Result<Checkpoint, Error> {
        let path = locate(path)?;
        let (file, source) = watched(&path)?;
        let scratch = Scratch::default();
        let mut sources = vec![source];
        let (files, contents) = if sharded::is_index(&file) {
            let (shards, files, contents) = sharded::read(&file, &path, &scratch)?;
            sources.extend(shards);
            (files, contents)
        } else {
            let mut memory = pickle::MEMORY;
            let contents = Contents::read(&file, &scratch, &mut memory)?;
            (vec![file], contents)
        };
        let mut seen = std::collections::HashSet::new();
        if let Some((name, _)) = contents.tensors.iter().find(|(name, _)| !seen.insert(name.clone())) {
            return Err(Error::Duplicate { name: name.clone() });
        }
        Ok(Checkpoint { path, sources, files, contents, scratch })
    }

    /// Names the folder for what does not fit in memory, such as that of the output: members that a zip
    /// archive holds deflated and that are beyond 64 MiB. Once; without it the system's is taken.
    pub fn spill_into(&self, folder: &Path) {
        // The first folder named is the one in use.
        let _ = self.scratch.set(folder.to_owned());
    }

    /// A checkpoint of names and shapes alone, to test tables and models without weights.
    pub fn from_tensors(path: &Path, tensors: Vec<(String, Tensor)>) -> Checkpoint {
        Checkpoint {
            path: path.to_owned(),
            sources: vec![],
            files: vec![],
            contents: Contents::new(Format::Npz, tensors),
            scratch: Scratch::default(),
        }
    }

    /// Path that the checkpoint was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own name, without folders: what metadata and reports carry.
    pub fn file_name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }

    /// Container format, detected from the first bytes.
    pub fn format(&self) -> Format {
        self.contents.format
    }

    /// Bytes of the file, or of all shards.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// A file in the same folder, such as a configuration; None when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn beside(&self, name: &str) -> Result<Option<(PathBuf, String)>, (PathBuf, std::io::Error)> {
        let path = self.path.with_file_name(name);
        match read_json(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err((path, error)),
        }
    }

    /// Whether `path` is one of the files this checkpoint is read from.
    pub fn is_read_from(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.sources.iter().any(|source| source.path().canonicalize().is_ok_and(|source| source == path))
    }

    /// Checks that no file changed since the checkpoint was opened: what was read before a change and what was read after
    /// it do not belong together.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn unchanged(&self) -> Result<(), Error> {
        let change = |source: &Watched| Some((source.path().display().to_string(), source.change()?));
        match self.sources.iter().find_map(change) {
            Some((path, change)) => Err(Error::Changed { path, change }),
            None => Ok(()),
        }
    }

    /// Free-form string pairs the file carries (safetensors `__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.metadata
    }

    /// Names and tensors, in stored order.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.contents.tensors
    }

    /// What a PyTorch file holds besides weights: nothing of it was run or read.
    pub fn skipped(&self) -> &[Skipped] {
        &self.contents.skipped
    }

    /// What its digest is made of; may go to another thread.
    pub fn whole(&self) -> Whole {
        Whole { files: self.files.clone(), checksums: self.contents.checksums.clone() }
    }
}

/// Hashed at a time: small enough to be in the CPU's cache still when it is summed too.
const CHUNK: usize = 1 << 18;

/// All bytes of a checkpoint, and what its archive says of them.
pub struct Whole {
    files: Vec<Bytes>,
    /// Of archives' members, in the order in which they lie in them.
    checksums: Vec<Checksum>,
}

impl Whole {
    /// SHA-256 of the whole file, in hex; of shards, as if they were one file. None when `go_on`, asked
    /// now and then, says no.
    ///
    /// # Errors
    /// [`Error::Checksum`] when a stored member is not what its archive says it is.
    pub fn sha256(&self, go_on: impl Fn() -> bool) -> Result<Option<String>, Error> {
        let mut hasher = Sha256::new();
        for (at, file) in self.files.iter().enumerate() {
            let mut position = 0;
            for sum in self.checksums.iter().filter(|sum| sum.file == at) {
                file[position..sum.range.start].chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
                position = sum.range.end;
                let mut crc32 = crc32fast::Hasher::new();
                for chunk in file[sum.range.clone()].chunks(CHUNK) {
                    if !go_on() {
                        return Ok(None);
                    }
                    hasher.update(chunk);
                    crc32.update(chunk);
                }
                if crc32.finalize() != sum.crc32 {
                    return Err(Error::Checksum { name: sum.name.clone() });
                }
            }
            for chunk in file[position..].chunks(CHUNK) {
                if !go_on() {
                    return Ok(None);
                }
                hasher.update(chunk);
            }
        }
        Ok(Some(hex(&hasher.finalize())))
    }
}

/// The checkpoint a path stands for: itself, or in a folder the file of one of the usual names.
///
/// # Errors
/// [`Error::Directory`] when a folder has none.
pub fn locate(path: &Path) -> Result<PathBuf, Error> {
    if path.is_dir() { folder::in_folder(path) } else { Ok(path.to_owned()) }
}
