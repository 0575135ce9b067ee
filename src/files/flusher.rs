//! Large files written through to the disk while they grow, so that little is left to wait for in the end.

use std::fs::File;
use std::io::Result;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;

/// Bytes after which what was written is passed on.
const STEP: u64 = 32 << 20;

/// A thread that syncs a file now and then; it ends when this is dropped.
pub struct Flusher {
    sender: Option<SyncSender<()>>,
    since: u64,
}

impl Flusher {
    /// Of a file that will have `size` bytes; does nothing where that is small, or no thread can be had.
    ///
    /// # Errors
    /// When the operating system gives no second handle.
    pub fn new(file: &File, size: u64) -> Result<Flusher> {
        if size < 2 * STEP {
            return Ok(Flusher { sender: None, since: 0 });
        }
        let file = file.try_clone()?;
        let (sender, receiver) = sync_channel(1);
        let sync = move || {
            while receiver.recv().is_ok() {
                // An error comes again, and is reported, when the whole file is synced.
                let _ = file.sync_data();
            }
        };
        Ok(Flusher { sender: Builder::new().spawn(sync).ok().map(|_| sender), since: 0 })
    }

    /// So many bytes more were written.
    pub fn wrote(&mut self, bytes: usize) {
        self.since += bytes as u64;
        if let Some(sender) = self.sender.as_ref().filter(|_| self.since >= STEP) {
            self.since = 0;
            // While it is still busy there is nothing to tell it.
            let _ = sender.try_send(());
        }
    }
}
