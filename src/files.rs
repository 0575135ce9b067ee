//! Files somebody else names: what is no ordinary one is refused before it is opened.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use bytes::Bytes;

/// Checks that `path` is an ordinary file: a pipe would be waited for, and a device may never end.
///
/// # Errors
/// When there is nothing at `path`, or something else.
pub fn ordinary(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        return Ok(());
    }
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    const SPECIAL: &str = "is no ordinary file (a pipe or a device); copy its contents to one";
    Err(Error::new(ErrorKind::InvalidInput, SPECIAL))
}

/// The text of an ordinary file.
///
/// # Errors
/// As [`ordinary`], or when it is not in UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    ordinary(path)?;
    String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::new(ErrorKind::InvalidData, format!("line {line} is not in UTF-8; save it as UTF-8"))
    })
}

/// Maps a file for reading.
///
/// # Errors
/// When it is a directory or cannot be opened.
pub fn map(path: &Path) -> Result<Bytes> {
    ordinary(path)?;
    mapped(&File::open(path)?)
}

/// Maps an open file.
///
/// # Errors
/// What the operating system reports.
pub fn mapped(file: &File) -> Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is read-only and private to this process. Someone truncating the file
    // while it is read ends the process with SIGBUS, as with every tool that maps its input;
    // changing it gives wrong bytes, never a wrong address.
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(mapping))
}

/// Lower-case hex of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// The last part of a path; empty where there is none.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
