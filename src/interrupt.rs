//! Ctrl-C leaves nothing behind: unfinished output is removed before the process ends.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes `path`, a temporary file or folder, should the process be interrupted.
pub fn remove_on_interrupt(path: &Path) {
    static INSTALLED: Once = Once::new();
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    INSTALLED.call_once(|| {
        let handler = || {
            for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                // One of the two applies, and a path already renamed away is gone: both may fail.
                let _ = std::fs::remove_dir_all(&path);
                let _ = std::fs::remove_file(&path);
            }
            std::process::exit(130);
        };
        // A program that embeds the library may have its own handler; then it keeps it.
        let _ = ctrlc::try_set_handler(handler);
    });
}
