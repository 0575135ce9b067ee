//! How a program ends early: unfinished output is removed, and what the operating system stopped is explained.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// How names of unfinished folders and files begin; six characters follow.
pub const PREFIX: &str = ".clip-onnx-";

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// While it lives, an interruption waits: for steps that are to be done as a whole.
pub struct Undisturbed(MutexGuard<'static, Vec<PathBuf>>);

/// Lets interruptions wait, from before an output is begun until it is registered, and while it is moved to its place.
pub fn undisturbed() -> Undisturbed {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let handler = || {
            let _until_the_end = remove_unfinished();
            std::process::exit(130);
        };
        // A program that embeds the library may have its own handler; then it keeps it.
        if ctrlc::try_set_handler(handler).is_err() {
            handle_others(handler);
        }
    });
    Undisturbed(lock())
}

/// Handles the signals that are not ignored, where some are: `nohup` and shells ignore some for what runs in the
/// background, and these stay so.
#[cfg(target_os = "linux")]
fn handle_others(handler: impl Fn() + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let Some(ignored) = ignored else { return };
    let (off, on): (Vec<i32>, Vec<i32>) =
        [SIGHUP, SIGINT, SIGTERM].into_iter().partition(|signal| ignored & (1 << (signal - 1)) != 0);
    if off.is_empty() {
        return;
    }
    if let Ok(mut signals) = signal_hook::iterator::Signals::new(on) {
        std::thread::spawn(move || signals.forever().for_each(|_| handler()));
    }
}

#[cfg(not(target_os = "linux"))]
fn handle_others(_: impl Fn() + Send + 'static) {}

impl Undisturbed {
    /// Removes `path`, a temporary file or folder, should the process be interrupted.
    pub fn remove_on_interrupt(&mut self, path: &Path) {
        self.0.push(path.to_owned());
    }
}

/// Returns when no interruption is under way: a program must not end while its unfinished output is being removed.
pub fn wait() {
    drop(lock());
}

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is registered. The lock is returned, to be held until the process ends: [`wait`] waits for it.
fn remove_unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    let mut paths = lock();
    for (at, path) in paths.drain(..).enumerate() {
        // Other threads still write into it. Under another name, which the next run would recognise, they cannot find it.
        let other = path.with_file_name(format!("{PREFIX}{:06}", (std::process::id() as usize + at) % 1_000_000));
        let path = if std::fs::rename(&path, &other).is_ok() { other } else { path };
        // One of the two applies, and a path already moved to its place is gone: both may fail. What a thread was about to
        // create when the folder was renamed may appear during the first attempt.
        for _ in 0..100 {
            if std::fs::remove_dir_all(&path).is_ok() || std::fs::remove_file(&path).is_ok() || !path.exists() {
                break;
            }
        }
    }
    paths
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
        let _until_the_end = remove_unfinished();
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
