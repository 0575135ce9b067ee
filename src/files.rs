//! Files somebody else names: what is no ordinary one is refused before it is opened.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

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
