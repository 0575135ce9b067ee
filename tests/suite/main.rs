//! The integration tests, in one binary. Run those of one subject with
//! `cargo test --release --test suite cases::`.

// Helpers: fixtures, exports in a temporary folder, `.npz` files.
mod common;

// Small checkpoints with configuration files and links next to them, made after public reports.
mod cases;
// Hostile files given to the program: bounded time and memory, one sentence.
mod bounded;
// The command line: output, files written, exit codes, error messages.
mod cli;
// `convert`: every fixture to open_clip's names and back gives the same graphs.
mod convert;
// `embed`, `classify` and the folder layouts of other programs.
mod embed;
// `bench`, the choice of an engine, and what the command line says about precisions.
mod engines;
// `export`: every fixture agrees with its authors' embeddings.
mod export;
// The table of module dependencies in `docs/architecture.md` against the imports in `src`.
mod floors;
// Towers alone, models inside of others, LoRA adapters, folders of other libraries.
mod fine_tunes;
// The forms a big_vision checkpoint is stored in: stacked blocks, dtypes, order, archives.
mod forms;
// The corpus of the fuzz targets: seeds, hostile files, and what fuzzing found.
mod fuzz;
// Damaged and hostile `.npz` and `.safetensors` files: one error each, in bounded memory.
mod hostile;
// Other inputs and outputs: bytes, pictures of any size, combined files, labels, hidden states.
mod inputs_outputs;
// The names and shapes of every published checkpoint: all are mapped, none is missing.
mod keymaps;
// Every configuration field, changed one at a time: the change is noticed.
mod mutations;
// Preprocessing of pictures against Pillow, torchvision and TensorFlow.
mod pixels;
// Every precision of every kind of tower against the authors' embeddings.
mod precisions;
// The generated ONNX messages against their schema.
mod proto;
// Every configuration of open_clip's registry as the folder that its repository is.
mod registry;
// Every target and every graph optimization against the authors' embeddings.
mod targets;
// Token ids against the authors' tokenizers.
mod tokenize;
// PyTorch files: every container, and pickles that are refused.
mod torch;
// Folders written by transformers' `save_pretrained`.
mod transformers;
