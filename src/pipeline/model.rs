//! A checkpoint with its parameters, and the model they are.

use std::path::{Path, PathBuf};

use super::adapters::{self, Adapters};
use super::select::{Selected, keep_those_of, select};
use super::{Error, Progress, Setting, Source, refusal};
use crate::checkpoint::{self, Checkpoint, Skipped};
use crate::config::ModelConfig;
use crate::modality::Modality;
use crate::onnx::Graph;
use crate::params::{self, Params};
use crate::tokenize::Tokenizer;
use crate::towers::{self, Build};

/// What was loaded.
pub struct Model {
    pub checkpoint: Checkpoint,
    /// LoRA adapters that are merged into its weights.
    pub adapters: Adapters,
    pub params: Params,
    pub selected: Selected,
    /// The model's `tokenizer.json`: the one that was named, or the one in the checkpoint's folder.
    pub tokenizer: Option<PathBuf>,
}

/// Opens a checkpoint, a file or a folder that holds one.
///
/// # Errors
/// What is no checkpoint, by name where it is something else that is known.
pub fn open(path: &Path) -> Result<Checkpoint, Error> {
    if let Some(error) = refusal::another_kind(path) {
        return Err(error);
    }
    let path = checkpoint::locate(path).map_err(|source| Error::checkpoint(path, source))?;
    Checkpoint::open(&path).map_err(|source| Error::checkpoint(&path, source))
}

impl Model {
    /// Opens a checkpoint, names its parameters, chooses its model, and brings both to the image size that was asked
    /// for. What does not fit in memory goes to `scratch`.
    ///
    /// # Errors
    /// What keeps the checkpoint from being read, names without a row in a key map, or a model that is not found.
    pub fn load(source: &Source, scratch: &Path, progress: &dyn Progress) -> Result<Model, Error> {
        let checkpoint = open(&source.checkpoint)?;
        checkpoint.spill_into(scratch);
        let (reading, adapters) = adapters::reading(source, &checkpoint)?;
        let params = Params::from_checkpoint(&checkpoint, &reading);
        let mut params = params.map_err(|source| Error::names(&checkpoint, source))?;
        refusal::another_tower(&checkpoint, &params, source)?;
        adapters::beside(source, &checkpoint).iter().chain(&params.notes()).for_each(|note| progress.warn(note));
        if let Some(only) = source.only.filter(|only| !params.has(*only)) {
            return Err(Error::Unsupported {
                path: checkpoint.path().display().to_string(),
                what: format!("it has no {only} tower"),
                way_out: format!("leave out {}", Setting::Only),
            });
        }
        let mut selected = select(source, &checkpoint, &params, progress)?;
        keep_those_of(&selected.config, &mut params);
        if let Some(size) = source.image_size {
            resize(&mut selected, &mut params, size, checkpoint.path())?;
            warn_of_unseen(&selected.config, size, progress);
        }
        let tokenizer = source.tokenizer.clone().or_else(|| carried_tokenizer(&selected, progress));
        Ok(Model { checkpoint, adapters, params, selected, tokenizer })
    }

    /// An error of parameters, with the checkpoint's name and what may have been chosen wrongly.
    pub fn wrong(&self, source: params::Error) -> Error {
        self.selected.params_error(self.checkpoint.path(), source)
    }

    /// The image tower, where there is one; every parameter of the towers must be read, in its shape.
    ///
    /// # Errors
    /// A parameter that is missing, has another shape, or is read by no tower.
    pub fn image(&self, build: &Build) -> Result<Option<Graph>, Error> {
        let (config, params) = (&self.selected.config, &self.params);
        let wrong = |source| self.wrong(source);
        let build_one = |has: bool, tower: towers::Tower| has.then(|| tower(config, params, build)).transpose();
        let image = build_one(config.has(Modality::Image), towers::image).map_err(wrong)?;
        build_one(config.has(Modality::Text), towers::text).map_err(wrong)?;
        towers::logits(config, params).map_err(wrong)?;
        params.expect_all_read().map_err(wrong)?;
        Ok(image)
    }

    /// That all of the checkpoint is of one time: nothing wrote to it since it was opened.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a file was changed, replaced or removed.
    pub fn unchanged(checkpoint: &Checkpoint, adapters: &Adapters) -> Result<(), Error> {
        for file in std::iter::once(checkpoint).chain(&adapters.checkpoints) {
            file.unchanged().map_err(|source| Error::checkpoint(file.path(), source))?;
        }
        Ok(())
    }

    /// Lets go of the checkpoint, of which nothing is read any more; gives its name and the model.
    ///
    /// # Errors
    /// As [`Model::unchanged`].
    pub fn into_selected(self) -> Result<(String, Selected), Error> {
        Model::unchanged(&self.checkpoint, &self.adapters)?;
        Ok((self.checkpoint.file_name(), self.selected))
    }

    /// Warns of what a PyTorch file holds besides tensors: it was not made, as code would have to run.
    pub fn warn_of_skipped(&self, progress: &dyn Progress) {
        const SHOWN: usize = 4;
        let opaque: Vec<&Skipped> = self.checkpoint.skipped().iter().filter(|skipped| skipped.opaque).collect();
        if opaque.is_empty() {
            return;
        }
        let shown: Vec<String> =
            opaque.iter().take(SHOWN).map(|skipped| format!("`{}` ({})", skipped.place, skipped.what)).collect();
        let more = if opaque.len() > SHOWN { format!(" and {} more", opaque.len() - SHOWN) } else { String::new() };
        progress.warn(&format!(
            "{} holds more than tensors, and nothing of that was run: {}{more}",
            self.checkpoint.file_name(),
            shown.join(", ")
        ));
    }
}

/// Resamples positions to `size` pixels, height and width.
fn resize(selected: &mut Selected, params: &mut Params, size: [usize; 2], path: &Path) -> Result<(), Error> {
    let config = &selected.config;
    let resized =
        config.at_image_size(size).map_err(|problem| Error::ImageSize { model: config.model.clone(), problem })?;
    params.resize_positions(config, &resized).map_err(|source| selected.params_error(path, source))?;
    let [before, after] = [config, &resized].map(|config| config.preprocess_cfg.resize_to);
    if before != after {
        selected.pixels.source += ", scaled to the image size asked for";
    }
    selected.config = resized;
    Ok(())
}

/// Warns of pixels at the right and below that are in no patch.
fn warn_of_unseen(config: &ModelConfig, [height, width]: [usize; 2], progress: &dyn Progress) {
    let patch = config.vision_cfg.as_ref().and_then(|vision| vision.family().dims().patch_size);
    let Some(patch) = patch else { return };
    let unseen = [height % patch, width % patch];
    if unseen != [0, 0] {
        let [rows, columns] = unseen;
        progress.warn(&format!(
            "images of {height}x{width} are no multiple of the patch size {patch}: the last {rows} rows and {columns} columns of pixels are not seen"
        ));
    }
}

/// The tokenizer in the checkpoint's folder, where it fits the model.
fn carried_tokenizer(selected: &Selected, progress: &dyn Progress) -> Option<PathBuf> {
    let path = selected.tokenizer.clone().filter(|_| selected.config.has(Modality::Text))?;
    match Tokenizer::new(&selected.config, Some(&path)) {
        Ok(_) => Some(path),
        Err(error) => {
            progress.warn(&format!("the tokenizer beside the checkpoint is not used: {error}"));
            None
        }
    }
}
