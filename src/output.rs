//! The folder an export leaves: written whole or not at all, with a manifest of what is in it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::interrupt;
use crate::setting::Setting;

mod making;
mod moves;

pub use making::{Leftover, remove_leftovers};

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
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace { path },
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
    /// Held as long as the run lives; let go first, so that there is a file handle to remove what is unfinished with.
    _lock: Option<fs::File>,
    making: TempDir,
    target: PathBuf,
    inside: bool,
    force: bool,
    leftovers: Vec<Leftover>,
}

impl Folder {
    /// Begins a folder that will be `target`. What interrupted runs left at this place is removed.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotOurs`] or [`Error::Foreign`] when `target` may not be
    /// replaced, [`Error::Kind`] or [`Error::Io`] when its surroundings cannot be written.
    pub fn create(target: &Path, force: bool) -> Result<Folder, Error> {
        let is_folder = fs::symlink_metadata(target).is_ok_and(|found| found.is_dir());
        let mut leftovers = if is_folder { remove_leftovers(target) } else { vec![] };
        may_replace(target, target, force)?;
        let inside = is_empty_dir(target);
        let beside = if inside { target.to_owned() } else { existing_ancestor(target)? };
        leftovers.extend(remove_leftovers(&beside));
        let mut builder = tempfile::Builder::new();
        builder.prefix(interrupt::PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As `mkdir` would; the umask applies.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let make = || builder.tempdir_in(&beside);
        let mut undisturbed = interrupt::undisturbed();
        let (making, lock) = making::locked(make, TempDir::path).map_err(io_error(&beside))?;
        undisturbed.remove_on_interrupt(making.path());
        Ok(Folder { making, _lock: lock, target: target.to_owned(), inside, force, leftovers })
    }

    /// What interrupted runs had left at this place.
    pub fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }

    /// Where files go meanwhile.
    pub fn path(&self) -> &Path {
        self.making.path()
    }

    /// Writes a small file into the folder, at a path in it.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`], by the file's final path.
    pub fn write(&self, name: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), Error> {
        let (path, shown) = (self.path().join(&name), self.target.join(&name));
        self.make_folders_of(name.as_ref()).map_err(io_error(&shown))?;
        fs::write(&path, contents).map_err(io_error(&shown))
    }

    /// Moves a file to another path in the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn place(&self, name: &str, path: &Path) -> Result<(), Error> {
        let (to, shown) = (self.path().join(path), self.target.join(path));
        self.make_folders_of(path).map_err(io_error(&shown))?;
        fs::rename(self.path().join(name), &to).map_err(io_error(&shown))
    }

    /// Makes the folders that the path of a file in this one names. The folder itself is not made again: an interruption
    /// may have removed it.
    fn make_folders_of(&self, path: &Path) -> std::io::Result<()> {
        let folders: Vec<_> = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
        for folder in folders.into_iter().rev() {
            match fs::create_dir(self.path().join(folder)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves the folder to its place, over what is there if that was allowed. What came there meanwhile is held against
    /// the same rules as what was there at the start.
    ///
    /// # Errors
    /// As [`Folder::create`]; what was there before is then still there.
    pub fn commit(self) -> Result<(), Error> {
        let target = self.target.clone();
        moves::settle(self.path()).map_err(io_error(&target))?;
        let undisturbed = interrupt::undisturbed();
        if self.inside {
            self.move_up()?;
            return moves::settle_names(&target).map_err(io_error(&target));
        }
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        loop {
            match moves::to_new(self.path(), &target) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if self.replace()? {
                        break;
                    }
                }
                Err(error) => return Err(io_error(&target)(error)),
            }
        }
        let parent = parent.unwrap_or(Path::new("."));
        // What is in its place of the temporary name is what was replaced, if anything: it is removed.
        drop(self);
        drop(undisturbed);
        moves::settle_names(parent).map_err(io_error(parent))
    }

    /// Takes the place of what is at the target; false when that is gone.
    fn replace(&self) -> Result<bool, Error> {
        let (made, target) = (self.path(), &self.target);
        may_replace(target, target, self.force)?;
        if is_empty_dir(target) {
            // At once, and not when something came into it.
            return match fs::rename(made, target) {
                Ok(()) => Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(false),
                Err(error) => Err(io_error(target)(error)),
            };
        }
        match moves::exchange(made, target) {
            Ok(true) => {}
            Ok(false) => return self.replace_in_two_steps(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io_error(target)(error)),
        }
        // Somebody may have put a file into it between the look and the exchange.
        if let Err(error) = may_replace(made, target, true) {
            moves::exchange(made, target).map_err(io_error(target))?;
            return Err(error);
        }
        Ok(true)
    }

    /// As [`Folder::replace`], where two folders cannot be exchanged at once.
    fn replace_in_two_steps(&self) -> Result<bool, Error> {
        let target = &self.target;
        let aside = tempfile::Builder::new().prefix(making::ASIDE).tempdir_in(existing_ancestor(target)?);
        // Kept by name, so that what was there is not lost when the run ends between the two.
        let aside = aside.map_err(io_error(target))?.keep();
        let moved = aside.join("replaced");
        fs::rename(target, &moved).map_err(io_error(target))?;
        if let Err(error) = moves::to_new(self.path(), target) {
            // Best effort: the error below is the one to report.
            let _ = moves::to_new(&moved, target).and_then(|()| fs::remove_dir(&aside));
            return Err(io_error(target)(error));
        }
        // The new folder is in its place; the next run names what cannot be removed.
        let _ = fs::remove_dir_all(&aside);
        Ok(true)
    }

    /// Moves all files into the empty folder that the making is in, the manifest last.
    fn move_up(&self) -> Result<(), Error> {
        let target = &self.target;
        let names = |folder: &Path| -> Result<Vec<OsString>, Error> {
            let entries = fs::read_dir(folder).map_err(io_error(target))?;
            entries.map(|e| Ok(e?.file_name())).collect::<std::io::Result<_>>().map_err(io_error(target))
        };
        if let Some(found) = names(target)?.into_iter().find(|name| Some(&**name) != self.path().file_name()) {
            let path = target.display().to_string();
            return Err(Error::Foreign { path, found: found.to_string_lossy().into_owned() });
        }
        let mut names = names(self.path())?;
        names.sort_by_key(|name| (name == MANIFEST, name.clone()));
        for (at, name) in names.iter().enumerate() {
            if let Err(error) = moves::to_new(&self.path().join(name), &target.join(name)) {
                for name in &names[..at] {
                    // Best effort: the error below is the one to report.
                    let _ = moves::to_new(&target.join(name), &self.path().join(name));
                }
                return Err(io_error(target)(error));
            }
        }
        Ok(())
    }
}

/// A single file in the making, beside its final place; dropped, it disappears.
pub struct OutputFile {
    /// Held as long as the run lives.
    _lock: Option<fs::File>,
    making: NamedTempFile,
    target: PathBuf,
    force: bool,
    leftovers: Vec<Leftover>,
}

impl OutputFile {
    /// Begins a file that will be `target`. What interrupted runs left at this place is removed.
    ///
    /// # Errors
    /// As [`Folder::create`]; with `force` an ordinary file is replaced, and nothing else is.
    pub fn create(target: &Path, force: bool) -> Result<OutputFile, Error> {
        may_be_file(target, force)?;
        let beside = existing_ancestor(target)?;
        let leftovers = remove_leftovers(&beside);
        let mut builder = tempfile::Builder::new();
        builder.prefix(interrupt::PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let make = || builder.tempfile_in(&beside);
        let mut undisturbed = interrupt::undisturbed();
        let (making, lock) = making::locked(make, NamedTempFile::path).map_err(io_error(&beside))?;
        undisturbed.remove_on_interrupt(making.path());
        Ok(OutputFile { making, _lock: lock, target: target.to_owned(), force, leftovers })
    }

    /// What interrupted runs had left at this place.
    pub fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }

    /// The folder it is made in.
    pub fn folder(&self) -> &Path {
        self.making.path().parent().unwrap_or(Path::new("."))
    }

    /// The open file.
    pub fn file(&mut self) -> &mut fs::File {
        self.making.as_file_mut()
    }

    /// Moves the file to its place. A file that came there meanwhile is replaced where that was allowed.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Kind`] or [`Error::Io`].
    pub fn commit(self) -> Result<(), Error> {
        let target = &self.target;
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.making.as_file().sync_all().map_err(io_error(target))?;
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        let moved = if self.force {
            may_be_file(target, true)?;
            self.making.persist(target)
        } else {
            self.making.persist_noclobber(target)
        };
        moved.map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => Error::Exists { path: target.display().to_string() },
            _ => io_error(target)(error.error),
        })?;
        moves::settle_names(parent).map_err(io_error(parent))
    }
}

/// Whether a file may be written at `target`: where nothing is, or with `force` over an ordinary file.
fn may_be_file(target: &Path, force: bool) -> Result<(), Error> {
    let path = target.display().to_string();
    match fs::symlink_metadata(target) {
        Ok(found) if !found.is_file() => {
            let what = if found.is_dir() { "a folder" } else { "no ordinary file" };
            Err(Error::Kind { path, what, expected: "a file to write" })
        }
        Ok(_) if !force => Err(Error::Exists { path }),
        _ => Ok(()),
    }
}

/// Whether a folder may take the place of what is at `target`: of nothing, of an empty folder, or
/// with `force` of an earlier export that nobody put anything else into. Errors call it `shown`.
fn may_replace(target: &Path, shown: &Path, force: bool) -> Result<(), Error> {
    let path = shown.display().to_string();
    let Ok(found) = fs::symlink_metadata(target) else { return Ok(()) };
    if found.is_symlink() {
        return Err(Error::Kind { path, what: "a symbolic link", expected: "the folder itself" });
    }
    if is_empty_dir(target) {
        return Ok(());
    }
    let manifest = crate::files::read_json(&target.join(MANIFEST)).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in the making that holds what an export does.
    fn made(target: &Path, force: bool) -> Folder {
        let folder = Folder::create(target, force).unwrap();
        folder.write("a.onnx", "new").unwrap();
        let manifest = serde_json::json!({"tool": env!("CARGO_PKG_NAME"), "files": [{"path": "a.onnx", "size": 3}]});
        folder.write(MANIFEST, manifest.to_string()).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_appears_meanwhile_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("out");
        for force in [false, true] {
            let folder = made(&target, force);
            fs::create_dir(&target).unwrap();
            fs::write(target.join("thesis.txt"), "mine").unwrap();
            assert!(matches!(folder.commit(), Err(Error::NotOurs { .. })), "force {force}");
            assert_eq!(names(&target), ["thesis.txt"]);
            fs::remove_dir_all(&target).unwrap();
        }
        // Another export that was faster, and an empty folder.
        let folder = made(&target, false);
        made(&target, false).commit().unwrap();
        assert!(matches!(folder.commit(), Err(Error::Exists { .. })));
        fs::remove_dir_all(&target).unwrap();
        let folder = made(&target, false);
        fs::create_dir(&target).unwrap();
        folder.commit().unwrap();
        assert_eq!(names(&target), ["a.onnx", MANIFEST]);
        assert_eq!(names(place.path()), ["out"]);
    }

    #[test]
    fn an_earlier_export_is_replaced_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("out");
        made(&target, false).commit().unwrap();
        let folder = made(&target, true);
        folder.write("b.onnx", "newer").unwrap();
        folder.commit().unwrap();
        assert_eq!(names(&target), ["a.onnx", "b.onnx", MANIFEST]);
        assert_eq!(names(place.path()), ["out"]);
    }

    #[test]
    fn an_empty_folder_is_filled_unless_something_comes_into_it() {
        let target = tempfile::tempdir().unwrap();
        let folder = made(target.path(), false);
        fs::write(target.path().join("thesis.txt"), "mine").unwrap();
        assert!(matches!(folder.commit(), Err(Error::Foreign { .. })));
        assert_eq!(names(target.path()), ["thesis.txt"]);
        fs::remove_file(target.path().join("thesis.txt")).unwrap();
        made(target.path(), false).commit().unwrap();
        assert_eq!(names(target.path()), ["a.onnx", MANIFEST]);
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("out.safetensors");
        let file = OutputFile::create(&target, false).unwrap();
        fs::write(&target, "mine").unwrap();
        assert!(matches!(file.commit(), Err(Error::Exists { .. })));
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        OutputFile::create(&target, true).unwrap().commit().unwrap();
        assert_eq!((names(place.path()), fs::read(&target).unwrap()), (vec!["out.safetensors".to_owned()], vec![]));
    }
}
