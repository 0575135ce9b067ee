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

/// Members of an archive, at most: ten times what published checkpoints have.
const MAX_MEMBERS: u64 = 1 << 14;

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
    let count = member_count(file);
    if let Some(count) = count.filter(|&count| count > MAX_MEMBERS) {
        return Err(Error::Zip {
            reason: format!("it lists {count} members, of which at most {MAX_MEMBERS} are read"),
        });
    }
    let mut archive = ZipArchive::new(Cursor::new(file.clone())).map_err(zip_error)?;
    // The crate keeps the last of two members of one name; the end record counts both.
    let names = archive.len();
    if let Some(listed) = count.filter(|&count| count != names as u64) {
        return Err(Error::DuplicateMember { listed, names });
    }
    // Clones share the directory and the mapped bytes.
    let inflater = Arc::new(Inflater::new(archive.clone(), scratch));
    let mut out = Vec::with_capacity(archive.len());
    let mut ranges = Vec::with_capacity(archive.len());
    for at in 0..archive.len() {
        let member = archive.by_index(at).map_err(zip_error)?;
        let name = member.name().map_err(zip_error)?.into_owned();
        let wrong = |reason: String| Error::Member { name: name.clone(), reason };
        let start = member.data_start().ok_or_else(|| wrong("has no place in the file".to_owned()))?;
        let (stored, size) = (member.compressed_size(), member.size());
        let end = start.checked_add(stored).filter(|&end| end <= file.len() as u64);
        let Some(end) = end else {
            return Err(wrong(format!("has {stored} bytes at {start}, beyond the end of the file")));
        };
        let bytes = file.slice(start as usize..end as usize);
        ranges.push(start..end);
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
    // Members that share bytes would be summed and inflated again for each of them.
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    if let Some(pair) = ranges.windows(2).find(|pair| pair[1].start < pair[0].end) {
        return Err(Error::Zip { reason: format!("two members overlap at byte {}", pair[1].start) });
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

/// Members according to the end record, or to the zip64 end record where there is one; None where neither is found.
fn member_count(file: &[u8]) -> Option<u64> {
    // The record is 22 bytes and a comment of at most 64 KiB.
    let first = file.len().saturating_sub(22 + 0xffff);
    let at = first + file[first..].windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let field = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(file.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    // The locator stands before the record, and says where the zip64 record is.
    let locator = at.checked_sub(20).filter(|&locator| file[locator..].starts_with(b"PK\x06\x07"));
    if let Some(locator) = locator {
        let start = usize::try_from(field(locator + 8, 8)?).ok()?;
        if file.get(start..)?.starts_with(b"PK\x06\x06") {
            return field(start.checked_add(32)?, 8);
        }
    }
    field(at + 10, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_in_the_zip64_record_too() {
        let mut record = b"PK\x06\x06".to_vec();
        record.extend([0; 28]);
        record.extend(70_000u64.to_le_bytes());
        record.extend([0; 16]);
        record.extend(b"PK\x06\x07\0\0\0\0");
        record.extend([0; 12]);
        let plain = [&b"PK\x05\x06"[..], &[0; 6], &[7, 0], &[0; 10]].concat();
        assert_eq!(member_count(&plain), Some(7));
        record.extend(&plain);
        assert_eq!(member_count(&record), Some(70_000));
        assert_eq!(member_count(b"PK"), None);
    }
}
