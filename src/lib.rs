//! CLIP-family checkpoints, as published, into verified ONNX.
//!
//! ```no_run
//! use clip_onnx::{Export, Precision};
//!
//! let exported = Export::new("webli_en_b16_224_63724782.npz", "siglip")
//!     .precisions([Precision::Fp32, Precision::Int8])
//!     .write()?;
//! println!("{}", exported.selected.config.model);
//! # Ok::<(), clip_onnx::error::PipelineError>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | write a checkpoint's towers as ONNX | [`Export`] |
//! | say which model it is, instead of having it found | [`ModelChoice`], [`ModelConfig`] |
//! | compare ONNX files with reference embeddings | [`Verify`] |
//! | embed images and texts with an exported folder | [`Embedder`] |
//! | write a checkpoint under open_clip's names | [`Convert`] |
//! | say what a file is | [`inspect`] |
//! | read tensors of a checkpoint | [`Checkpoint`] |
//!
//! How the crate is built, and what may use what, is in `docs/architecture.md`.
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `cli` (default) | the program `clip-onnx`, with all below |
//! | `tract` | the engine that is compiled in |
//! | `onnxruntime` | ONNX Runtime as an engine, its library loaded at run time |
//! | `embed` | tokenizers and image decoders: [`Embedder`], labels inside a graph, tokenizer files |
//!
//! Without features the crate exports, and cannot run what it wrote: an [`Export`] is then to be
//! [`unverified`](Export::unverified).

#![deny(missing_docs, unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("weights are little-endian in every format read and written, and are moved without swapping");

#[doc(hidden)]
pub mod bench;
pub mod checkpoint;
pub mod config;
#[cfg(feature = "embed")]
pub mod embed;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod guard;
#[doc(hidden)]
pub mod interrupt;
pub mod layout;
#[doc(hidden)]
pub mod modality;
pub mod onnx;
#[doc(hidden)]
pub mod output;
mod parallel;
#[doc(hidden)]
pub mod params;
pub mod pipeline;
#[cfg(feature = "embed")]
#[doc(hidden)]
pub mod pixels;
#[doc(hidden)]
pub mod ports;
pub mod precision;
#[doc(hidden)]
pub mod providers;
mod setting;
#[doc(hidden)]
pub mod tensor;
#[doc(hidden)]
pub mod tokenize;
#[doc(hidden)]
pub mod towers;
pub mod verify;

pub use checkpoint::Checkpoint;
pub use config::ModelConfig;
#[cfg(feature = "embed")]
pub use embed::Embedder;
pub use layout::Layout;
pub use modality::Modality;
pub use onnx::Target;
pub use pipeline::{
    Artifacts, Convert, Converted, Export, Exported, Inspected, ModelChoice, Progress, Silent, Source, Template,
    ZeroShot, convert, export, inspect,
};
pub use ports::PixelFormat;
pub use precision::Precision;
pub use setting::Setting;
pub use verify::{Report, Verify};
