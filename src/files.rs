//! Files somebody else names: what is no ordinary one is refused before it is opened.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

mod flusher;
mod mapping;

pub use flusher::Flusher;
#[cfg(unix)]
pub use mapping::when_shorter;
pub use mapping::{Watched, map, mapped, watched};

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

/// Bytes of a text, such as a configuration, at most. Parsed JSON takes up to sixteen times as much memory.
pub const TEXT: u64 = 16 << 20;

/// The text of an ordinary file, of at most [`TEXT`] bytes.
///
/// # Errors
/// As [`ordinary`], or when it is longer or not in UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    read_text_of(path, TEXT)
}

/// The text of an ordinary file, of at most `most` bytes.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_of(path: &Path, most: u64) -> Result<String> {
    ordinary(path)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let reason = format!("has more than {most} bytes, which no file of its kind has");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::new(ErrorKind::InvalidData, format!("line {line} is not in UTF-8; save it as UTF-8"))
    })
}

/// Whether a path that somebody else names stays inside the folder it is relative to.
pub fn is_inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Lower-case hex of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// The last part of a path; empty where there is none.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
