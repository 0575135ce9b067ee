//! Folders and files in the making: locked while their run lives, so that a later run can tell which were left over.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::MANIFEST;
use crate::interrupt::PREFIX;

/// How names of folders begin that hold what was about to be replaced, where two folders cannot be exchanged.
pub const ASIDE: &str = ".clip-onnx-old-";

/// What an interrupted run left, and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Unfinished output, which is removed.
    Removed(PathBuf),
    /// An earlier output that was about to be replaced, which is kept.
    Kept(PathBuf),
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Leftover::Removed(path) => {
                write!(f, "{} was left by a run that was interrupted, and is removed", path.display())
            }
            Leftover::Kept(path) => write!(
                f,
                "{} holds an earlier output that an interrupted run was about to replace; move it back, or remove it",
                path.display()
            ),
        }
    }
}

/// Makes a folder or a file, and locks it. No lock comes with it where the file system has none.
///
/// # Errors
/// As `make`.
pub fn locked<T>(make: impl Fn() -> io::Result<T>, path: impl Fn(&T) -> &Path) -> io::Result<(T, Option<File>)> {
    loop {
        let made = make()?;
        match lock(path(&made)) {
            // Another run may have removed it before it was locked.
            Ok(lock) if path(&made).exists() => return Ok((made, Some(lock))),
            Ok(_) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return Ok((made, None)),
        }
    }
}

fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = File::open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes what interrupted runs left in a folder, and nobody holds any more.
pub fn remove_leftovers(folder: &Path) -> Vec<Leftover> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let kind = entry.file_type();
        let (is_folder, is_file) = kind.map_or((false, false), |kind| (kind.is_dir(), kind.is_file()));
        let aside = is_folder && name.to_str().is_some_and(|name| name.starts_with(ASIDE));
        let ours = rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_alphanumeric()) && (is_folder || is_file);
        if !aside && !ours {
            continue;
        }
        let Ok(_lock) = lock(&path) else { continue };
        if aside {
            found.push(Leftover::Kept(path));
            continue;
        }
        if is_folder {
            take_back(&path, folder);
        }
        let gone = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if gone.is_ok() {
            found.push(Leftover::Removed(path));
        }
    }
    found
}

/// Removes files that a run had moved up into an empty folder when it was killed: those that its manifest lists, of the
/// size listed there.
fn take_back(making: &Path, folder: &Path) {
    let manifest = crate::files::read_json(&making.join(MANIFEST)).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    for file in manifest["files"].as_array().into_iter().flatten() {
        let Some(path) = file["path"].as_str().map(Path::new).filter(|path| crate::files::is_inside(path)) else {
            continue;
        };
        let moved = folder.join(path);
        let is_it = fs::symlink_metadata(&moved).is_ok_and(|f| f.is_file() && Some(f.len()) == file["size"].as_u64());
        if is_it && !making.join(path).exists() {
            // What is left is named by the check of the folder that follows.
            let _ = fs::remove_file(&moved);
            for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                let _ = fs::remove_dir(folder.join(above));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folder: &Path) -> tempfile::TempDir {
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (held, lock) = locked(|| Ok(make(folder.path())), tempfile::TempDir::path).unwrap();
        let left = make(folder.path()).keep();
        fs::write(left.join("vision_model.onnx"), "half").unwrap();
        let file = folder.path().join(".clip-onnx-abc123");
        fs::write(&file, "half").unwrap();
        let aside = folder.path().join(".clip-onnx-old-abc123");
        fs::create_dir(&aside).unwrap();
        for other in [".clip-onnx-mine", ".clip-onnx-abc1234", "clip-onnx-abc123"] {
            fs::write(folder.path().join(other), "mine").unwrap();
        }
        let mut found = remove_leftovers(folder.path());
        found.sort_by_key(ToString::to_string);
        let mut expected = vec![Leftover::Removed(left), Leftover::Removed(file), Leftover::Kept(aside)];
        expected.sort_by_key(ToString::to_string);
        assert_eq!(found, expected);
        assert!(held.path().exists());
        drop(lock);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[cfg(unix)]
    #[test]
    fn half_of_a_move_into_an_empty_folder_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let making = make(folder.path()).keep();
        let files = r#"{"files": [{"path": "onnx/a.onnx", "size": 4}, {"path": "b.onnx", "size": 4},
            {"path": "../c.onnx", "size": 4}]}"#;
        fs::write(making.join(MANIFEST), files).unwrap();
        fs::write(making.join("b.onnx"), "made").unwrap();
        fs::create_dir(folder.path().join("onnx")).unwrap();
        fs::write(folder.path().join("onnx/a.onnx"), "made").unwrap();
        assert_eq!(remove_leftovers(folder.path()), [Leftover::Removed(making)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
