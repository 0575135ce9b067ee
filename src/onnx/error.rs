//! What can go wrong while a graph is written.

use std::io;
use std::path::Path;

use crate::tensor;

/// What can go wrong while writing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A weight could not be read or converted.
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    /// The operating system could not write the file.
    #[error("writing {path}")]
    Io {
        /// Path of the file.
        path: String,
        /// What the operating system reported.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left while writing {path} ({size} bytes); free some, or write to another place")]
    NoSpace {
        /// Path of the file.
        path: String,
        /// Bytes that the file needs.
        size: u64,
    },
}

impl Error {
    /// What writing `path`, of `size` bytes in all, met.
    pub fn io(path: &Path, size: u64, source: io::Error) -> Error {
        let path = path.display().to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path, size },
            _ => Error::Io { path, source },
        }
    }
}
