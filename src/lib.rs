//! CLIP-family checkpoints, as published, into verified ONNX.
//!
//! Export a checkpoint as two ONNX files, one for each tower, and run them to verify them:
//!
//! ```no_run
//! use clip_onnx::pipeline::{Export, Silent, export};
//! use clip_onnx::precision::Precision;
//!
//! let request = Export::new("webli_en_b16_224_63724782.npz", "siglip");
//! let precisions = vec![Precision::Fp32, Precision::Int8];
//! let exported = export(&Export { precisions, ..request }, &Silent)?;
//! println!("{}", exported.selected.config.model);
//! # Ok::<(), clip_onnx::pipeline::Error>(())
//! ```
//!
//! | module | use it to |
//! |---|---|
//! | [`pipeline`] | export a checkpoint, convert it, or inspect it |
//! | [`mod@embed`] | embed pictures and texts with an exported folder |
//! | [`verify`] | run exported files and compare them with a reference |
//! | [`mod@bench`] | time exported files |
//! | [`checkpoint`], [`params`] | read a checkpoint's tensors, under its own names or canonical ones |
//! | [`towers`], [`onnx`] | build a tower as a graph and write it |
//!
//! `docs/architecture.md` in the repository says how the modules work together, which may import which, and where new
//! things go.

#[cfg(target_endian = "big")]
compile_error!("weights are little-endian in every format read and written, and are moved without swapping");

pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod embed;
pub mod files;
mod interrupt;
pub mod layout;
pub mod modality;
pub mod onnx;
pub mod output;
mod parallel;
pub mod params;
pub mod pipeline;
pub mod pixels;
pub mod ports;
pub mod precision;
pub mod providers;
pub mod setting;
pub mod tensor;
pub mod tokenize;
pub mod towers;
pub mod verify;
