//! Mapped files, and whether they are still what they were when they were mapped.

use std::fs::File;
use std::io::Result;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// Files that are or were mapped, with their lengths.
static MAPPED: Mutex<Vec<(PathBuf, u64)>> = Mutex::new(Vec::new());

/// Modification times differ only when they are further apart than this: the resolution of file systems.
const TICK: Duration = Duration::from_millis(20);

/// Maps a file for reading.
///
/// # Errors
/// When it is a directory or cannot be opened.
pub fn map(path: &Path) -> Result<Bytes> {
    super::ordinary(path)?;
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut mapped_files = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    match mapped_files.iter_mut().find(|(known, _)| known == path) {
        Some((_, known)) => *known = length,
        None => mapped_files.push((path.to_owned(), length)),
    }
    drop(mapped_files);
    mapped(&file)
}

/// Maps an open file.
///
/// # Errors
/// What the operating system reports.
#[allow(unsafe_code)]
pub fn mapped(file: &File) -> Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is read-only and private to this process. Someone truncating the file
    // while it is read raises SIGBUS, which the program turns into an error; changing it gives
    // wrong bytes, never a wrong address.
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapping))
}

/// Where the handler of SIGBUS writes to.
#[cfg(unix)]
static FAULTS: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Calls `explain`, which ends the program, when a mapped file turns out to be shorter than it was; with its path, where
/// that is known. For a program as a whole: it takes SIGBUS for itself.
#[cfg(unix)]
#[allow(unsafe_code)]
pub fn when_shorter(explain: impl FnOnce(Option<PathBuf>) + Send + 'static) {
    use std::io::Read;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    extern "C" fn handle(_: libc::c_int) {
        let faults = FAULTS.load(Ordering::Relaxed);
        // SAFETY: both may be called in a handler of signals. The thread stays here, since the access cannot succeed;
        // another one explains, and ends the process.
        unsafe {
            libc::write(faults, [0u8].as_ptr().cast(), 1);
            loop {
                libc::pause();
            }
        }
    }

    let Ok((sender, mut receiver)) = UnixStream::pair() else { return };
    let watch = move || {
        if receiver.read_exact(&mut [0]).is_ok() {
            explain(became_shorter());
        }
    };
    if std::thread::Builder::new().spawn(watch).is_err() {
        return;
    }
    FAULTS.store(sender.into_raw_fd(), Ordering::Relaxed);
    // SAFETY: `handle` keeps to what a handler of signals may do. It replaces the one of the standard library, which would
    // end the process without a word; stack overflows raise SIGSEGV on the systems this runs on.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as libc::sighandler_t;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

/// A file that was mapped and is shorter by now.
#[cfg(any(unix, test))]
fn became_shorter() -> Option<PathBuf> {
    let mapped_files = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_shorter = |path: &Path, length: u64| std::fs::metadata(path).is_ok_and(|found| found.len() < length);
    mapped_files.iter().find(|(path, length)| is_shorter(path, *length)).map(|(path, _)| path.clone())
}

/// A file as it was when it was opened.
#[derive(Clone, Debug)]
pub struct Watched {
    path: PathBuf,
    stamp: Stamp,
}

/// What changes with the bytes of a file.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Which file it is, and when it or its name was last changed.
    #[cfg(unix)]
    identity: [i64; 4],
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp> {
        let found = std::fs::metadata(path)?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            [found.dev() as i64, found.ino() as i64, found.ctime(), found.ctime_nsec()]
        };
        Ok(Stamp {
            length: found.len(),
            modified: found.modified().ok(),
            #[cfg(unix)]
            identity,
        })
    }
}

/// Maps a file, to be asked later whether it changed.
///
/// # Errors
/// As [`map`].
pub fn watched(path: &Path) -> Result<(Bytes, Watched)> {
    super::ordinary(path)?;
    let mut stamp = Stamp::of(path)?;
    // A change within the same tick of the file system's clock would not be seen.
    if stamp.modified.is_some_and(|at| at.elapsed().is_ok_and(|age| age < TICK)) {
        std::thread::sleep(TICK);
        stamp = Stamp::of(path)?;
    }
    Ok((map(path)?, Watched { path: path.to_owned(), stamp }))
}

impl Watched {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What happened to the file since; None when nothing did.
    pub fn change(&self) -> Option<&'static str> {
        match Stamp::of(&self.path) {
            Ok(stamp) if stamp == self.stamp => None,
            #[cfg(unix)]
            Ok(stamp) if stamp.identity[..2] != self.stamp.identity[..2] => Some("was replaced"),
            Ok(_) => Some("was changed"),
            Err(_) => Some("was removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let (bytes, watched) = watched(&path).unwrap();
        assert_eq!((&bytes[..], watched.change()), (&b"one"[..], None));
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"two"))
            .unwrap();
        assert_eq!(watched.change(), Some("was changed"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watched.change(), Some("was removed"));
    }

    #[test]
    fn what_became_shorter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "some bytes").unwrap();
        map(&path).unwrap();
        let is_it = || became_shorter().is_some_and(|found| found == path);
        assert!(!is_it());
        std::fs::write(&path, "").unwrap();
        assert!(is_it());
    }
}
