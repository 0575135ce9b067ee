//! CLIP-family checkpoints, as published, into verified ONNX.
//!
//! ```text
//! checkpoint file
//!    │  checkpoint::Checkpoint::open     source names, stored layouts, nothing converted
//!    ▼
//! params::keymap (tables)                one pass: rename, relayout; fails on a name with no row
//!    ▼
//! params::Params (canonical)             PyTorch layouts, timm block names, `visual.` / `text.` roots
//!    │  Params::resize_positions         another image size, NaFlex frozen
//!    ▼
//! towers::image, towers::text            read each parameter once, by scope, with its expected shape;
//!    │                                   towers::convs folds branches while they are written down
//!    ▼
//! onnx::Graph ──► precision::apply ──► onnx::write ──► package::Folder ──► verify ──► Report
//! ```
//!
//! Everything is lazy until written: a canonical parameter is a view of the mapped file plus the
//! layout steps its row asked for ([`tensor`]), and the writer streams one tensor at a time. Only
//! what folding touches, convolutions, is computed early.
//!
//! Folding happens where a tower reads a block rather than as a pass over all parameters: the
//! tower knows from its configuration which branches there must be, so none is inferred from the
//! tensors that happen to be present, and a shape that does not fit is an error, not an absent
//! branch.
//!
//! # Floors
//!
//! Uses point down the table only.
//!
//! | floor | uses | never hears of |
//! |---|---|---|
//! | `main`, `cli` | pipeline | how anything is done |
//! | [`pipeline`] | everything below | tensors' contents, operators |
//! | [`mod@embed`] | package (the manifest), verify (engines), pixels, tokenize | how towers are built |
//! | [`package`] | config, towers' names of inputs and outputs, pixels, JSON | weights |
//! | [`pixels`], [`tokenize`] | config | ONNX |
//! | [`mod@bench`] | verify | the graph in memory |
//! | [`verify`] | tract, ort, ndarray-npy, [`onnx::read`] | the graph in memory |
//! | [`precision`] | onnx, tensor | models, files |
//! | [`towers`] | config, params, onnx, tensor | files, source names |
//! | [`params`] | checkpoint, tensor, config | ONNX |
//! | [`onnx`], [`checkpoint`] | tensor | models |
//! | [`config`], [`tensor`], `files` | nothing of ours | everything else |
//!
//! # Adding things
//!
//! | to add | touch |
//! |---|---|
//! | a model of a known architecture | `models/<name>.json` |
//! | a spelling of names | `params/<naming>.rs`, one line in `params::maps` |
//! | a file format | `checkpoint/<format>.rs`, one arm in `Checkpoint::open` |
//! | an architecture | `towers/<name>.rs`, its fields in `config.rs`, one arm in `towers::image` |
//! | a precision | one arm in `precision::Precision::apply` |
//! | an operator | one method in `onnx::ops` |
//! | somebody's folder | one arm in each method of `package::layout::Layout` |
//!
//! Which parameters a model needs is not written down a second time: [`towers::wanted`] builds
//! its towers over a recorder, and finding a model from names and shapes compares with that.
//!
//! # Example
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
