//! Where an export is made: a folder that appears whole or not at all, scratch files that are run and not handed over,
//! and digests of what is read and written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::digest::{Digest, SOURCE_SHA256};
use super::request::Output;
use super::{Error, Progress};
use crate::checkpoint::Checkpoint;
use crate::files::hex;
use crate::onnx::graph::Parts;
use crate::onnx::write::{Error as WriteError, ExternalData, Options, Written, weight_bytes, write};
use crate::output::{Folder, Leftover};

/// A folder in the making; dropped, it disappears with all that is in it.
pub struct Workspace {
    folder: Folder,
    /// Where it will be.
    target: PathBuf,
    /// What is exported, to name in errors.
    checkpoint: PathBuf,
    hash: bool,
    /// The checkpoint's, worked out meanwhile where sums are asked for.
    digest: RefCell<Option<Digest>>,
}

impl Workspace {
    /// Begins the folder that `output` names.
    ///
    /// # Errors
    /// As [`Folder::create`].
    pub fn create(output: &Output, checkpoint: &Path) -> Result<Workspace, Error> {
        Ok(Workspace {
            folder: Folder::create(&output.folder, output.replace)?,
            target: output.folder.clone(),
            checkpoint: checkpoint.to_owned(),
            hash: output.hash,
            digest: RefCell::new(None),
        })
    }

    /// What interrupted runs had left at this place.
    pub fn leftovers(&self) -> &[Leftover] {
        self.folder.leftovers()
    }

    /// The folder in the making.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the folder will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What is exported.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// Whether SHA-256 sums are asked for.
    pub fn hashes(&self) -> bool {
        self.hash
    }

    /// Begins to work out the checkpoint's digest, on a thread of its own.
    ///
    /// # Errors
    /// As [`Digest::start`].
    pub fn start_digest(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if self.hash {
            *self.digest.borrow_mut() = Some(Digest::start(checkpoint)?);
        }
        Ok(())
    }

    /// Puts the checkpoint's digest, which takes as long as writing a file does, in its place.
    ///
    /// # Errors
    /// As [`Digest::get`].
    pub fn with_digest(&self, metadata: &mut BTreeMap<String, String>) -> Result<(), Error> {
        if let Some(digest) = self.digest.borrow_mut().as_mut() {
            metadata.insert(SOURCE_SHA256.to_owned(), digest.get()?.to_owned());
        }
        Ok(())
    }

    /// Writes a model as `name`, and its weights beside it where that is asked for or needed.
    ///
    /// # Errors
    /// What reading a weight or writing the file reports.
    pub fn write_model(
        &self,
        parts: &Parts,
        name: &str,
        external: ExternalData,
        progress: &dyn Progress,
    ) -> Result<Vec<Written>, Error> {
        progress.start(&format!("writing {name}"), Some(weight_bytes(parts)));
        let options = Options { external, hash: self.hash };
        let last = |metadata: &mut _| self.with_digest(metadata);
        let written = write(parts, &self.path().join(name), options, last, &|n| progress.advance(n));
        written.map_err(|error| match error {
            Error::Write(source) => self.not_written(name, source),
            other => other,
        })
    }

    /// Writes a file with this contents.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn write(&self, path: PathBuf, contents: &[u8]) -> Result<Written, Error> {
        self.folder.write(&path, contents)?;
        let sha256 = self.hash.then(|| hex(&<sha2::Sha256 as sha2::Digest>::digest(contents)));
        Ok(Written { path, size: contents.len() as u64, sha256 })
    }

    /// Writes a model that is run and not handed over, as `name` into a folder of its own.
    ///
    /// # Errors
    /// What reading a weight or writing the file reports.
    pub fn scratch(&self, parts: &Parts, name: &str) -> Result<Scratch, Error> {
        let scratch = tempfile::Builder::new().prefix("scratch-").tempdir_in(self.path());
        let scratch = scratch.map_err(|source| self.not_written(name, WriteError::io(&self.target, 0, source)))?;
        let path = scratch.path().join(name);
        let options = Options { external: ExternalData::Auto, hash: false };
        write(parts, &path, options, |_| Ok(()), &|_| ()).map_err(|source| self.not_written(name, source))?;
        Ok(Scratch { path, _folder: scratch })
    }

    /// What kept a file of the folder from being written, by the names the user knows.
    pub fn not_written(&self, name: &str, source: WriteError) -> Error {
        let path = self.target.join(name);
        match source {
            WriteError::Tensor(source) => self.unreadable(source),
            WriteError::Io { source, .. } => Error::Write(WriteError::io(&path, 0, source)),
            WriteError::NoSpace { size, .. } => {
                Error::Write(WriteError::NoSpace { path: path.display().to_string(), size })
            }
        }
    }

    /// What kept a tensor of the checkpoint from being read.
    pub fn unreadable(&self, source: crate::tensor::Error) -> Error {
        Error::Tensor { path: self.checkpoint.display().to_string(), source }
    }

    /// Moves files to where the layout has them, then the folder to its place.
    ///
    /// # Errors
    /// As [`Folder::commit`].
    pub fn commit<'a>(self, moves: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<(), Error> {
        for (name, path) in moves {
            self.folder.place(name, path)?;
        }
        Ok(self.folder.commit()?)
    }
}

/// A file that is run and not handed over; it disappears when this is dropped.
pub struct Scratch {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}
