//! Zip archives: what both `.npz` and PyTorch files are.
//!
//! Stored members are slices of the mapped file. Deflated ones are inflated when they are read.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::inflate::{Deflated, Inflater, Scratch};
use super::{Checksum, Error};
use crate::tensor::Storage;

/// Deflate cannot shrink further than this; a member that claims more is a zip bomb.
const MAX_DEFLATE_RATIO: u64 = 1032;

pub type Zip = ZipArchive<Cursor<Bytes>>;

/// One file of the archive.
pub struct Member {
    pub name: String,
    /// Bytes once inflated.
    pub size: usize,
    contents: Contents,
}

enum Contents {
    Stored { bytes: Bytes, start: usize, crc32: u32 },
    Deflated { inflater: Arc<Inflater>, at: usize },
}

/// All members, in the directory's order; large deflated ones will be inflated in `scratch`.
///
/// # Errors
/// [`Error::Zip`] for a damaged archive, [`Error::Member`] for one member.
pub fn members(file: &Bytes, scratch: &Scratch) -> Result<Vec<Member>, Error> {
    let zip_error = |e: zip::result::ZipError| Error::Zip { reason: e.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(file.clone())).map_err(zip_error)?;
    // The crate keeps the last of two members of one name; the end record counts both.
    if let Some(count) = member_count(file).filter(|&count| count != archive.len()) {
        return Err(Error::DuplicateMember { listed: count, names: archive.len() });
    }
    // Clones share the directory and the mapped bytes.
    let inflater = Arc::new(Inflater::new(archive.clone(), scratch));
    let mut out = Vec::with_capacity(archive.len());
    for at in 0..archive.len() {
        let member = archive.by_index(at).map_err(zip_error)?;
        let name = member.name().to_owned();
        let wrong = |reason: String| Error::Member { name: name.clone(), reason };
        let (start, stored, size) = (member.data_start(), member.compressed_size(), member.size());
        let end = start.checked_add(stored).filter(|&end| end <= file.len() as u64);
        let Some(end) = end else {
            return Err(wrong(format!("has {stored} bytes at {start}, beyond the end of the file")));
        };
        let bytes = file.slice(start as usize..end as usize);
        let contents = match member.compression() {
            CompressionMethod::Stored => Contents::Stored { bytes, start: start as usize, crc32: member.crc32() },
            CompressionMethod::Deflated if size > stored.saturating_mul(MAX_DEFLATE_RATIO) + 64 => {
                return Err(wrong(format!(
                    "claims {size} bytes from {stored} deflated ones; deflate cannot, so the file is damaged or hostile"
                )));
            }
            CompressionMethod::Deflated => Contents::Deflated { inflater: inflater.clone(), at },
            other => return Err(wrong(format!("is compressed with {other}; expected stored or deflated"))),
        };
        let size = match &contents {
            Contents::Stored { bytes, .. } => bytes.len(),
            Contents::Deflated { .. } => usize::try_from(size).map_err(|_| wrong(format!("claims {size} bytes")))?,
        };
        out.push(Member { name, size, contents });
    }
    Ok(out)
}

impl Member {
    /// The first `most` bytes, or all there are.
    ///
    /// # Errors
    /// [`Error::Member`] when they do not inflate.
    pub fn prefix(&self, most: usize) -> Result<Bytes, Error> {
        let most = most.min(self.size);
        match &self.contents {
            Contents::Stored { bytes, .. } => Ok(bytes.slice(..most)),
            Contents::Deflated { inflater, at } => inflater.prefix(*at, most).map_err(|reason| Error::Member {
                name: self.name.clone(),
                reason: format!("does not inflate: {reason}"),
            }),
        }
    }

    /// What its bytes should sum to; deflated members are checked when they are inflated.
    pub fn checksum(&self) -> Option<Checksum> {
        match &self.contents {
            Contents::Stored { bytes, start, crc32 } => {
                let name = self.name.strip_suffix(".npy").unwrap_or(&self.name).to_owned();
                Some(Checksum { name, file: 0, range: *start..*start + bytes.len(), crc32: *crc32 })
            }
            Contents::Deflated { .. } => None,
        }
    }

    /// The member's bytes after the first `skip`.
    pub fn storage(&self, skip: usize) -> Storage {
        match &self.contents {
            Contents::Stored { bytes, .. } => Storage::Ready(bytes.slice(skip.min(bytes.len())..)),
            Contents::Deflated { inflater, at } => Storage::Deferred(Arc::new(Deflated {
                inflater: inflater.clone(),
                at: *at,
                size: self.size,
                skip,
                spilled: OnceLock::new(),
            })),
        }
    }
}

/// Members according to the end-of-central-directory record; None where that is a zip64 one.
fn member_count(file: &[u8]) -> Option<usize> {
    // The record is 22 bytes and a comment of at most 64 KiB.
    let tail = &file[file.len().saturating_sub(22 + 0xffff)..];
    let at = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let count = u16::from_le_bytes([*tail.get(at + 10)?, *tail.get(at + 11)?]);
    (count != 0xffff).then_some(usize::from(count))
}
