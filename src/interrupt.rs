//! How a program ends early: unfinished output is removed, and what the operating system stopped is explained.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes `path`, a temporary file or folder, should the process be interrupted.
pub fn remove_on_interrupt(path: &Path) {
    static INSTALLED: Once = Once::new();
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    INSTALLED.call_once(|| {
        let handler = || {
            remove_unfinished();
            std::process::exit(130);
        };
        // A program that embeds the library may have its own handler; then it keeps it.
        let _ = ctrlc::try_set_handler(handler);
    });
}

fn remove_unfinished() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // One of the two applies, and a path already renamed away is gone: both may fail.
        let _ = std::fs::remove_dir_all(&path);
        let _ = std::fs::remove_file(&path);
    }
}

/// Turns signals of the operating system into one sentence and exit code 2, for a program as a whole: a mapped file that
/// became shorter (SIGBUS), memory that cannot be had (SIGABRT, after Rust's own message), a file beyond the limit of file
/// sizes (SIGXFSZ, which becomes an error of the write).
#[cfg(unix)]
pub fn explain_signals() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGABRT, SIGXFSZ};
    use signal_hook::flag;

    // Each is a help where it can be had, and the operating system's own answer is left where not.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let _ = flag::register_conditional_shutdown(SIGABRT, 2, Arc::new(AtomicBool::new(true)));
    crate::files::when_shorter(|path| {
        remove_unfinished();
        let what = path.map_or_else(|| "a mapped file".to_owned(), |path| path.display().to_string());
        eprintln!(
            "clip-onnx: {what} became shorter while it was read; nothing is written. Begin again when nothing writes to it"
        );
        std::process::exit(2);
    });
}

/// There are no such signals here.
#[cfg(not(unix))]
pub fn explain_signals() {}
