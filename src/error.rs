//! The library's errors, and how they read in one line.
//!
//! An error's `Display` says what is wrong; its cause is either part of that or its `source()`, never both. Settings are named in backticks by their
//! fields ([`Setting`](crate::Setting)). Where something would help, `remedy()` says what.

pub use crate::checkpoint::Error as CheckpointError;
pub use crate::config::Error as ConfigError;
#[cfg(feature = "embed")]
pub use crate::embed::Error as EmbedError;
pub use crate::engine::Error as EngineError;
pub use crate::onnx::read::Error as OnnxReadError;
pub use crate::onnx::write::Error as OnnxWriteError;
pub use crate::output::Error as OutputError;
pub use crate::pipeline::Error as PipelineError;
pub use crate::verify::Error as VerifyError;

pub use crate::pipeline::chain;

/// A command's error, its causes and what would help, in one line.
#[must_use]
pub fn sentence(error: &PipelineError) -> String {
    error.sentence()
}
