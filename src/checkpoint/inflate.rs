//! Deflated members on demand, in bounded memory.
//!
//! Small members are inflated when they are read and kept while there is room; a large one is
//! inflated once, into a file without a name beside the output, and mapped from there.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::archive::Zip;
use super::mapped;
use crate::tensor::Deferred;

/// Members beyond this go to a file.
const IN_MEMORY: usize = 64 << 20;

/// What is kept inflated, in all.
const KEPT: usize = 64 << 20;

/// The folder large members are inflated in; the system's for temporary files until one is set.
pub type Scratch = Arc<OnceLock<PathBuf>>;

/// An archive whose deflated members are read; shared by all of them.
pub struct Inflater {
    archive: Zip,
    scratch: Scratch,
    /// Members by index, the one least recently read first.
    kept: Mutex<VecDeque<(usize, Bytes)>>,
}

impl Inflater {
    pub fn new(archive: Zip, scratch: &Scratch) -> Inflater {
        Inflater { archive, scratch: scratch.clone(), kept: Mutex::default() }
    }

    /// The first `most` bytes of member `at`.
    pub fn prefix(&self, at: usize, most: usize) -> Result<Bytes, String> {
        let mut out = Vec::new();
        let mut archive = self.archive.clone();
        let member = archive.by_index(at).map_err(|e| e.to_string())?;
        member.take(most as u64).read_to_end(&mut out).map_err(|e| e.to_string())?;
        Ok(Bytes::from(out))
    }

    /// Member `at`, of `size` bytes, from memory when it was read lately.
    fn small(&self, at: usize, size: usize) -> Result<Bytes, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(member, _)| *member == at).and_then(|place| kept.remove(place));
        let bytes = match found {
            Some((_, bytes)) => bytes,
            None => {
                // Room is made first, so that what is kept and what is made never add up.
                while kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + size > KEPT {
                    kept.pop_front();
                }
                let mut out = Vec::new();
                out.try_reserve_exact(size).map_err(|_| format!("does not fit in memory ({size} bytes)"))?;
                self.inflate(at, size, &mut out)?;
                Bytes::from(out)
            }
        };
        kept.push_back((at, bytes.clone()));
        Ok(bytes)
    }

    /// Member `at`, of `size` bytes, in a file that disappears with the last view of it.
    fn large(&self, at: usize, size: usize) -> Result<Bytes, String> {
        let folder = self.scratch.get().cloned().unwrap_or_else(std::env::temp_dir);
        let wrong = |e: io::Error| format!("cannot be inflated in {} ({size} bytes): {e}", folder.display());
        let file = tempfile::tempfile_in(&folder).map_err(wrong)?;
        let mut out = BufWriter::with_capacity(1 << 18, &file);
        self.inflate(at, size, &mut out)?;
        out.flush().map_err(wrong)?;
        drop(out);
        mapped(&file).map_err(wrong)
    }

    fn inflate(&self, at: usize, size: usize, out: &mut impl Write) -> Result<(), String> {
        let mut archive = self.archive.clone();
        let member = archive.by_index(at).map_err(|e| e.to_string())?;
        // Reading to the end also checks the member's CRC.
        let read = io::copy(&mut member.take(size as u64 + 1), out).map_err(|e| format!("does not inflate: {e}"))?;
        if read != size as u64 {
            return Err(format!("inflates to {read} bytes, expected {size}"));
        }
        Ok(())
    }
}

/// A deflated member's bytes after the first `skip`.
pub struct Deflated {
    pub inflater: Arc<Inflater>,
    pub at: usize,
    pub size: usize,
    pub skip: usize,
    /// Once it has been inflated into a file.
    pub spilled: OnceLock<Result<Bytes, String>>,
}

impl Deferred for Deflated {
    fn bytes(&self) -> Result<Bytes, String> {
        let whole = if self.size <= IN_MEMORY {
            self.inflater.small(self.at, self.size)?
        } else {
            self.spilled.get_or_init(|| self.inflater.large(self.at, self.size)).clone()?
        };
        Ok(whole.slice(self.skip.min(self.size)..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use zip::write::{SimpleFileOptions, ZipWriter};

    fn archive(sizes: &[usize]) -> Inflater {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (at, &size) in sizes.iter().enumerate() {
            zip.start_file(format!("{at}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&vec![at as u8; size]).unwrap();
        }
        let bytes = Bytes::from(zip.finish().unwrap().into_inner());
        Inflater::new(Zip::new(Cursor::new(bytes)).unwrap(), &Scratch::default())
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_latest() {
        let third = KEPT / 3;
        let inflater = archive(&[third, third, third, third]);
        for at in [0, 1, 2, 0, 3] {
            assert!(inflater.small(at, third).unwrap().iter().all(|&b| b == at as u8));
        }
        let kept: Vec<usize> = inflater.kept.lock().unwrap().iter().map(|(at, _)| *at).collect();
        assert_eq!(kept, [2, 0, 3]);
    }

    #[test]
    fn a_large_member_goes_to_a_file_that_nobody_sees() {
        let size = IN_MEMORY + 1;
        let folder = tempfile::tempdir().unwrap();
        let inflater = Arc::new(archive(&[size]));
        inflater.scratch.set(folder.path().to_owned()).unwrap();
        let member = Deflated { inflater: inflater.clone(), at: 0, size, skip: 5, spilled: OnceLock::new() };
        let (first, again) = (member.bytes().unwrap(), member.bytes().unwrap());
        assert_eq!((first.len(), first.as_ptr()), (size - 5, again.as_ptr()), "inflated once");
        assert!(inflater.kept.lock().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let wrong = Deflated { inflater, at: 0, size: size + 1, skip: 0, spilled: OnceLock::new() };
        assert!(wrong.bytes().unwrap_err().contains("expected"));
    }
}
