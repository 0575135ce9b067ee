//! Progress on a terminal, silence elsewhere.

use std::sync::Mutex;

use super::plain;
use super::spell::spelled;
use clip_onnx::pipeline::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One bar at a time: of bytes or of things where their number is known, a spinner where it is not.
pub struct Bars {
    bar: Mutex<ProgressBar>,
    shown: bool,
}

impl Bars {
    pub fn new(shown: bool) -> Bars {
        Bars { bar: Mutex::new(ProgressBar::hidden()), shown }
    }

    /// A step of unknown length begins.
    pub fn say(&self, what: &str) {
        self.start(what, None);
    }

    /// A step of so many things begins.
    pub fn count(&self, what: &str, many: usize) {
        self.show(what, Some((many as u64, "{msg:32} {bar:30} {pos}/{len} {per_sec} {eta}")));
    }

    fn show(&self, what: &str, length: Option<(u64, &str)>) {
        self.finish();
        if !self.shown {
            return;
        }
        let (bar, template) = match length {
            Some((length, template)) => (ProgressBar::new(length), template),
            None => (ProgressBar::new_spinner(), "{msg:32} {spinner} {elapsed}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        // The templates are ours and parse; the default style serves otherwise.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(plain::one_line(what));
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = bar;
    }

    /// Removes what is shown.
    pub fn finish(&self) {
        self.current().finish_and_clear();
    }

    fn current(&self) -> ProgressBar {
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Progress for Bars {
    fn start(&self, what: &str, bytes: Option<u64>) {
        self.show(what, bytes.map(|bytes| (bytes, "{msg:32} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}")));
    }

    fn advance(&self, bytes: u64) {
        if self.shown {
            self.current().inc(bytes);
        }
    }

    fn warn(&self, message: &str) {
        let message = plain::message(&spelled(message));
        self.current().suspend(|| eprintln!("clip-onnx: note: {message}"));
    }
}
