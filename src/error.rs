//! The library's errors, and how they read in one line.
//!
//! An error's `Display` says what is wrong and leaves its cause to `source()`. Settings are named in backticks by their
//! fields ([`Setting`](crate::Setting)). Where something would help, `remedy()` says what.

use std::error::Error;

pub use crate::checkpoint::Error as CheckpointError;
pub use crate::config::Error as ConfigError;
pub use crate::onnx::read::Error as OnnxReadError;
pub use crate::onnx::write::Error as OnnxWriteError;
pub use crate::output::Error as OutputError;
pub use crate::pipeline::Error as PipelineError;
pub use crate::verify::Error as VerifyError;

/// An error and its causes, `: ` between them.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// The same, and what would help.
#[must_use]
pub fn sentence(error: &PipelineError) -> String {
    match error.remedy() {
        Some(remedy) => format!("{}; {remedy}", chain(error)),
        None => chain(error),
    }
}
