//! `.npz`: a zip archive of `.npy` arrays, as `numpy.savez` and big_vision write it.
//!
//! Stored members are views of the mapped file. Deflated ones are inflated once, when first read.

use std::io::{Cursor, Read};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::{Error, npy};
use crate::tensor::{Deferred, Storage, Tensor};

/// Deflate cannot shrink further than this; a member that claims more is a zip bomb.
const MAX_DEFLATE_RATIO: u64 = 1032;

pub fn read(file: &Bytes) -> Result<Vec<(String, Tensor)>, Error> {
    let zip_error = |e: zip::result::ZipError| Error::Zip { reason: e.to_string() };
    let mut archive = ZipArchive::new(Cursor::new(file.clone())).map_err(zip_error)?;
    if archive.file_names().any(|name| name.ends_with("/data.pkl") || name == "data.pkl") {
        return Err(Error::PyTorch);
    }
    // The crate keeps the last of two members of one name; the end record counts both.
    if let Some(count) = member_count(file).filter(|&count| count != archive.len()) {
        return Err(Error::Zip { reason: format!("it lists {count} members under {} names", archive.len()) });
    }
    // Clones share the directory and the mapped bytes; a deflated member needs one to read itself.
    let shared = archive.clone();
    let mut tensors = Vec::with_capacity(archive.len());
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).map_err(zip_error)?;
        let Some(name) = member.name().strip_suffix(".npy").map(str::to_owned) else {
            return Err(Error::Member {
                name: member.name().to_owned(),
                reason: "is not a .npy array; expected an archive that `numpy.savez` wrote".to_owned(),
            });
        };
        let wrong = |reason: String| Error::Member { name: name.clone(), reason };
        let (start, stored, size) = (member.data_start(), member.compressed_size(), member.size());
        let start = usize::try_from(start).map_err(|_| wrong("starts beyond the file".to_owned()))?;
        let bytes = usize::try_from(stored)
            .ok()
            .and_then(|stored| start.checked_add(stored))
            .filter(|&end| end <= file.len())
            .map(|end| file.slice(start..end))
            .ok_or_else(|| wrong(format!("has {stored} bytes at {start}, beyond the end of the file")))?;
        let tensor = match member.compression() {
            CompressionMethod::Stored => {
                let header = npy::parse(&bytes).map_err(wrong)?;
                let data = bytes.slice(header.length..);
                let available = data.len();
                tensor(&name, &header, Storage::Ready(data), available)?
            }
            CompressionMethod::Deflated => {
                if size > stored.saturating_mul(MAX_DEFLATE_RATIO) + 64 {
                    return Err(wrong(format!(
                        "claims {size} bytes from {stored} deflated ones; deflate cannot, so the file is damaged or hostile"
                    )));
                }
                let mut prefix = Vec::new();
                let limit = npy::MAX_PREFIX as u64;
                (&mut member).take(limit).read_to_end(&mut prefix).map_err(|e| wrong(e.to_string()))?;
                let header = npy::parse(&prefix).map_err(wrong)?;
                let size = usize::try_from(size).map_err(|_| wrong(format!("claims {size} bytes")))?;
                let available = size.saturating_sub(header.length);
                let deflated =
                    Deflated { archive: shared.clone(), at, size, skip: header.length, inflated: OnceLock::new() };
                tensor(&name, &header, Storage::Deferred(Arc::new(deflated)), available)?
            }
            other => return Err(wrong(format!("is compressed with {other}; expected stored or deflated"))),
        };
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// Members according to the end-of-central-directory record; None where that is a zip64 one.
fn member_count(file: &[u8]) -> Option<usize> {
    // The record is 22 bytes and a comment of at most 64 KiB.
    let tail = &file[file.len().saturating_sub(22 + 0xffff)..];
    let at = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let count = u16::from_le_bytes([*tail.get(at + 10)?, *tail.get(at + 11)?]);
    (count != 0xffff).then_some(usize::from(count))
}

fn tensor(name: &str, header: &npy::Header, storage: Storage, available: usize) -> Result<Tensor, Error> {
    Ok(Tensor::contiguous(name, header.dtype, &header.shape, header.fortran_order, storage, available)?)
}

/// A deflated member, inflated when first asked for and kept.
struct Deflated {
    archive: ZipArchive<Cursor<Bytes>>,
    at: usize,
    size: usize,
    skip: usize,
    inflated: OnceLock<Result<Bytes, String>>,
}

impl Deferred for Deflated {
    fn bytes(&self) -> Result<Bytes, String> {
        let inflate = || {
            let mut archive = self.archive.clone();
            let member = archive.by_index(self.at).map_err(|e| e.to_string())?;
            let mut out = Vec::with_capacity(self.size);
            // Reading to the end also checks the member's CRC.
            member.take(self.size as u64 + 1).read_to_end(&mut out).map_err(|e| format!("does not inflate: {e}"))?;
            if out.len() != self.size {
                return Err(format!("inflates to {} bytes, expected {}", out.len(), self.size));
            }
            Ok(Bytes::from(out).slice(self.skip..))
        };
        self.inflated.get_or_init(inflate).clone()
    }
}
