//! The folder an export leaves: written whole or not at all, with a manifest of what is in it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::setting::Setting;

/// What can be wrong with the place of an output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} exists")]
    Exists { path: String },
    #[error(
        "{path} exists and is no folder of clip-onnx (it has no manifest.json of ours); it is not replaced, whatever is asked"
    )]
    NotOurs { path: String },
    #[error("{path} holds {found}, which no export wrote; it is not replaced, whatever is asked")]
    Foreign { path: String, found: String },
    #[error("{path} is {what}, not {expected}")]
    Kind { path: String, what: &'static str, expected: &'static str },
    #[error("{path} cannot be written")]
    Io { path: String, source: std::io::Error },
    #[error("no space left while writing {path}")]
    NoSpace { path: String },
}

impl Error {
    /// What would help.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Error::Exists { .. } => format!("replace it with {}, or name another place", Setting::Replace),
            Error::NotOurs { .. } => "name another place, or remove it".to_owned(),
            Error::Foreign { .. } => "move that file away, or name another place".to_owned(),
            Error::NoSpace { .. } => "free some, or name another place".to_owned(),
            Error::Kind { .. } | Error::Io { .. } => return None,
        })
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    let path = path.display().to_string();
    |source| match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::NoSpace { path },
        _ => Error::Io { path, source },
    }
}

/// The name of the file every export has.
pub const MANIFEST: &str = "manifest.json";
/// The name of the verification's outcome.
pub const REPORT: &str = "report.json";
/// The same, drawn.
pub const PAGE: &str = "report.html";

/// JSON with indents and a line break at its end.
pub fn pretty(value: &impl serde::Serialize) -> String {
    // Structs of the crate, with string keys: this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// A folder in the making, beside its final place; dropped, it disappears.
///
/// An empty folder that is there already may be a mount point, which cannot be renamed: then the
/// making is inside it, and its files are moved up in the end, the manifest last.
pub struct Folder {
    making: TempDir,
    target: PathBuf,
    inside: bool,
}

impl Folder {
    /// Begins a folder that will be `target`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotOurs`] or [`Error::Foreign`] when `target` may not be
    /// replaced, [`Error::Kind`] or [`Error::Io`] when its surroundings cannot be written.
    pub fn create(target: &Path, force: bool) -> Result<Folder, Error> {
        may_replace(target, force)?;
        let inside = is_empty_dir(target);
        let beside = if inside { target.to_owned() } else { existing_ancestor(target)? };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".clip-onnx-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As `mkdir` would; the umask applies.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let making = builder.tempdir_in(&beside).map_err(io_error(&beside))?;
        crate::interrupt::remove_on_interrupt(making.path());
        Ok(Folder { making, target: target.to_owned(), inside })
    }

    /// Where files go meanwhile.
    pub fn path(&self) -> &Path {
        self.making.path()
    }

    /// Writes a small file into the folder, at a path in it.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`].
    pub fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), Error> {
        let path = self.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io_error(&path))?;
        fs::write(&path, contents).map_err(io_error(&path))
    }

    /// Moves a file to another path in the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn place(&self, name: &str, path: &Path) -> Result<(), Error> {
        let to = self.path().join(path);
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(io_error(&to))?;
        fs::rename(self.path().join(name), &to).map_err(io_error(&to))
    }

    /// Moves the folder to its place, over what is there if that was allowed.
    ///
    /// # Errors
    /// [`Error::Io`]; what was there before is then still there.
    pub fn commit(self) -> Result<(), Error> {
        let target = &self.target;
        if self.inside {
            let entries = fs::read_dir(self.path()).map_err(io_error(target))?;
            let names = entries.map(|e| Ok(e?.file_name())).collect::<std::io::Result<Vec<_>>>();
            let mut names = names.map_err(io_error(target))?;
            names.sort_by_key(|name| (name == MANIFEST, name.clone()));
            for name in names {
                fs::rename(self.path().join(&name), target.join(&name)).map_err(io_error(target))?;
            }
            return Ok(());
        }
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        let old = if fs::symlink_metadata(target).is_ok() {
            let aside = tempfile::Builder::new().prefix(".clip-onnx-old-").tempdir_in(existing_ancestor(target)?);
            let aside = aside.map_err(io_error(target))?;
            let moved = aside.path().join("replaced");
            fs::rename(target, &moved).map_err(io_error(target))?;
            Some((aside, moved))
        } else {
            None
        };
        if let Err(error) = fs::rename(self.making.path(), target) {
            if let Some((_, moved)) = &old {
                // Best effort: the error below is the one to report.
                let _ = fs::rename(moved, target);
            }
            return Err(io_error(target)(error));
        }
        // Renamed away: there is nothing left to remove.
        let _ = self.making.keep();
        Ok(())
    }
}

/// A single file in the making, beside its final place; dropped, it disappears.
pub struct OutputFile {
    making: NamedTempFile,
    target: PathBuf,
}

impl OutputFile {
    /// Begins a file that will be `target`.
    ///
    /// # Errors
    /// As [`Folder::create`]; with `force` an ordinary file is replaced, and nothing else is.
    pub fn create(target: &Path, force: bool) -> Result<OutputFile, Error> {
        let path = target.display().to_string();
        match fs::symlink_metadata(target) {
            Ok(found) if !found.is_file() => {
                let what = if found.is_dir() { "a folder" } else { "no ordinary file" };
                return Err(Error::Kind { path, what, expected: "a file to write" });
            }
            Ok(_) if !force => return Err(Error::Exists { path }),
            _ => {}
        }
        let beside = existing_ancestor(target)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".clip-onnx-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let making = builder.tempfile_in(&beside).map_err(io_error(&beside))?;
        crate::interrupt::remove_on_interrupt(making.path());
        Ok(OutputFile { making, target: target.to_owned() })
    }

    /// The folder it is made in.
    pub fn folder(&self) -> &Path {
        self.making.path().parent().unwrap_or(Path::new("."))
    }

    /// The open file.
    pub fn file(&mut self) -> &mut fs::File {
        self.making.as_file_mut()
    }

    /// Moves the file to its place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn commit(self) -> Result<(), Error> {
        if let Some(parent) = self.target.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        self.making.persist(&self.target).map_err(|e| io_error(&self.target)(e.error))?;
        Ok(())
    }
}

/// Whether a folder may take the place of what is at `target`: of nothing, of an empty folder, or
/// with `force` of an earlier export that nobody put anything else into.
fn may_replace(target: &Path, force: bool) -> Result<(), Error> {
    let path = target.display().to_string();
    let Ok(found) = fs::symlink_metadata(target) else { return Ok(()) };
    if found.is_symlink() {
        return Err(Error::Kind { path, what: "a symbolic link", expected: "the folder itself" });
    }
    if is_empty_dir(target) {
        return Ok(());
    }
    let manifest = fs::read_to_string(target.join(MANIFEST)).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    if !found.is_dir() || manifest["tool"] != env!("CARGO_PKG_NAME") {
        return Err(Error::NotOurs { path });
    }
    let listed = manifest["files"].as_array().into_iter().flatten().filter_map(|file| file["path"].as_str());
    let ours: HashSet<PathBuf> = listed.chain([MANIFEST, REPORT, PAGE]).map(PathBuf::from).collect();
    // What --force would not help against is reported first.
    match foreign(target, Path::new(""), &ours)? {
        Some(found) => Err(Error::Foreign { path, found: found.display().to_string() }),
        None if !force => Err(Error::Exists { path }),
        None => Ok(()),
    }
}

/// A file in `folder`, which is at `at` in an export's, that is not one of `ours`.
fn foreign(folder: &Path, at: &Path, ours: &HashSet<PathBuf>) -> Result<Option<PathBuf>, Error> {
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let path = at.join(entry.file_name());
        let inner = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let found = if inner && ours.iter().any(|our| our.starts_with(&path)) {
            foreign(&entry.path(), &path, ours)?
        } else {
            (!ours.contains(&path)).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn is_empty_dir(path: &Path) -> bool {
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    !is_link && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// The nearest folder above `target` that exists, where temporary files can go and be renamed from.
fn existing_ancestor(target: &Path) -> Result<PathBuf, Error> {
    let above = target.ancestors().skip(1).find(|a| !a.as_os_str().is_empty() && fs::symlink_metadata(a).is_ok());
    let above = above.map_or_else(|| PathBuf::from("."), Path::to_owned);
    if above.is_dir() {
        return Ok(above);
    }
    Err(Error::Kind { path: above.display().to_string(), what: "no folder", expected: "a place in one" })
}
