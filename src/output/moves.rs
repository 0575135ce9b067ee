//! Renames that say what becomes of what is at the new name, and writing through to the disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Renames to a name that nothing has.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something has it; what the operating system reports.
pub fn to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(error) if is_unsupported(error) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Exchanges two folders, at once. False where the file system cannot.
///
/// # Errors
/// What the operating system reports.
pub fn exchange(a: &Path, b: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Err(error) if is_unsupported(error) => {}
            outcome => return outcome.map(|()| true).map_err(io::Error::from),
        }
    }
    let _ = (a, b);
    Ok(false)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn is_unsupported(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&error)
}

/// Writes a folder, and all that is in it, through to the disk.
///
/// # Errors
/// What the operating system reports.
pub fn settle(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        if entry?.is_dir() { settle(&path)? } else { fs::OpenOptions::new().write(true).open(&path)?.sync_all()? }
    }
    settle_names(folder)
}

/// Writes the names in a folder through to the disk, where the operating system knows how.
///
/// # Errors
/// What the operating system reports.
pub fn settle_names(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        // Some file systems sync files alone.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_and_folders_change_places() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join(name), name).unwrap();
        }
        assert_eq!(to_new(&at("a"), &at("b")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        if exchange(&at("a"), &at("b")).unwrap() {
            assert!(at("a").join("b").exists() && at("b").join("a").exists());
        }
        to_new(&at("a"), &at("c")).unwrap();
        assert!(!at("a").exists() && at("c").exists());
        settle(folder.path()).unwrap();
    }
}
