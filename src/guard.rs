//! Panics of other crates' code, caught where that code is called: bytes from outside are not to end a program.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs code whose panics are caught and reported as errors. A program can ask in its panic hook,
/// to report them once.
pub fn panics_are_caught() -> bool {
    GUARDED.get()
}

/// Reports panics by the hook that is in place, but for those that are caught: their errors report them. For a program as
/// a whole.
pub fn report_uncaught_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics_are_caught() {
            hook(panic);
        }
    }));
}

/// Runs code of another crate that may panic on bytes that it does not expect.
///
/// # Errors
/// The panic's message.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(outer);
    outcome.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("it panicked ({})", said.unwrap_or("without a message"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_message() {
        assert_eq!(guarded(|| 1), Ok(1));
        let found = guarded(|| -> u8 { panic!("no {}", 1 + std::hint::black_box(1)) });
        assert_eq!(found, Err("it panicked (no 2)".to_owned()));
        assert!(!panics_are_caught());
    }
}
