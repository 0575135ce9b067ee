//! The checkpoint's SHA-256, worked out on a thread of its own while other things are done.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use super::Error;
use crate::checkpoint::{self, Checkpoint};

/// The key of the checkpoint's digest in metadata.
pub const SOURCE_SHA256: &str = "source_sha256";

type Outcome = Result<Option<String>, checkpoint::Error>;

/// A digest in the making; dropped, it stops.
pub struct Digest {
    path: PathBuf,
    thread: Option<JoinHandle<Outcome>>,
    stop: Arc<AtomicBool>,
    hex: String,
}

impl Digest {
    /// As long as any digest, to stand in for it where lengths are counted before it is there.
    pub const PENDING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// Begins.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the operating system gives no thread.
    pub fn start(checkpoint: &Checkpoint) -> Result<Digest, Error> {
        let (whole, stop) = (checkpoint.whole(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = Builder::new().spawn(move || whole.sha256(|| !stopped.load(Ordering::Relaxed)));
        let path = checkpoint.path().to_owned();
        match thread {
            Ok(thread) => Ok(Digest { path, thread: Some(thread), stop, hex: String::new() }),
            Err(error) => {
                let error = std::io::Error::new(error.kind(), format!("no thread to hash it on: {error}"));
                Err(Error::checkpoint(&path, error.into()))
            }
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a member of the archive is not what its checksum says.
    pub fn get(&mut self) -> Result<&str, Error> {
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let hex = outcome.map_err(|source| Error::checkpoint(&self.path, source))?;
            // None only after a stop, which only dropping asks for.
            self.hex = hex.unwrap_or_default();
        }
        Ok(&self.hex)
    }
}

impl Drop for Digest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whatever it found, nobody asked.
            let _ = thread.join();
        }
    }
}
