//! Reference embeddings: inputs and outputs of the authors' own code, in one `.npz`.
//!
//! Keys: `image` `[N, 3, H, W]` as the tower takes it, `tokens` `[M, L]`, `image_embedding`,
//! `text_embedding`, the same with `_normalized`, `logits_per_image` `[N, M]`,
//! `logit_scale_exp`, `logit_bias`; for NaFlex `naflex_patches`, `naflex_type`, `naflex_y`,
//! `naflex_x`. What a tower does not need may be absent. `scripts/make_reference.py` writes one.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use bytes::Bytes;
use ndarray::ArrayD;
use ndarray_npy::{ReadNpyExt, ReadableElement};
use zip::ZipArchive;

use super::Error;
use crate::checkpoint::{Checkpoint, Format};
use crate::engine::signature::Input;
use crate::engine::{Array, Data, Tower};
use crate::files::{hex, map};
use crate::modality::Modality;

/// Bytes that all arrays may have beyond those of the file, when they are deflated.
const INFLATED: u64 = 64 << 20;

/// A reference file, read whole.
pub struct Reference {
    /// Path that was read.
    pub path: String,
    /// Last component of the path.
    pub file_name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    arrays: BTreeMap<String, Array>,
    /// Keys of arrays of other types.
    others: Vec<String>,
}

impl Reference {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is no `.npz` of float32 and integer arrays.
    pub fn read(path: &Path) -> Result<Reference, Error> {
        let name = path.display().to_string();
        let wrong = |reason: String| Error::Reference { path: name.clone(), reason };
        let bytes = map(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let sha256 = hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes));
        let mut npz = ZipArchive::new(Cursor::new(&bytes))
            .map_err(|e| wrong(format!("is not a whole .npz ({e}); expected what scripts/make_reference.py writes")))?;
        // Every array's size is held against the file's before anything is allocated for it.
        let format = Checkpoint::open(path).map_err(|e| wrong(e.to_string()))?.format();
        if format != Format::Npz {
            return Err(wrong(format!(
                "is of the format {format}; expected npz, as scripts/make_reference.py writes it"
            )));
        }
        let most = INFLATED + bytes.len() as u64;
        let (mut arrays, mut others, mut left) = (BTreeMap::new(), vec![], most);
        for at in 0..npz.len() {
            let member = npz.by_index(at).map_err(|e| wrong(e.to_string()))?;
            let key = member.name().map_err(|e| wrong(e.to_string()))?.into_owned();
            let key = key.strip_suffix(".npy").unwrap_or(&key).to_owned();
            let size = member.size();
            left = left.checked_sub(size).ok_or_else(|| wrong(format!("its arrays have more than {most} bytes")))?;
            drop(member);
            // An array of another type may be none of ours; asked for, it is named.
            match read(&mut npz, at, size) {
                Some(array) => drop(arrays.insert(key, array)),
                None => others.push(key),
            }
        }
        let file_name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Reference { path: name, file_name, sha256, arrays, others })
    }

    /// Whether a tower can be fed from it. One that takes bytes can, if its images are those of bytes.
    pub fn feeds(&self, tower: &Tower) -> bool {
        let Input::Image(input) = &tower.signature().input else { return true };
        let images = self.arrays.get("image").filter(|image| image.shape().len() == 4 && image.floats().is_some());
        let fits = |images: &Array| input.from_images(images).is_some();
        !tower.signature().always_resizes() && images.is_none_or(fits)
    }

    /// The inputs of a tower, in its own order.
    ///
    /// # Errors
    /// [`Error::Reference`] when an array is missing or not of the form the tower takes.
    pub fn inputs(&self, tower: &Tower) -> Result<Vec<Array>, Error> {
        let signature = tower.signature();
        let mut out: Vec<Array> = Vec::new();
        for (&(key, rank, floats), (_, port)) in keys(&signature.input).iter().zip(&signature.inputs) {
            let array = self.input(key, rank, floats, out.first().map(Array::batch))?;
            let array = match &signature.input {
                Input::Image(input) => input.from_images(array).ok_or_else(|| {
                    self.wrong(format!("`{key}` holds numbers that no bytes become, and {} takes bytes", tower.name()))
                })?,
                Input::Text(input) => {
                    self.check_ids(key, array, input.vocab_size)?;
                    array.clone()
                }
                Input::Naflex(_) => array.clone(),
            };
            let differs = |axis: usize| port.fixed(axis).is_some_and(|n| array.shape().get(axis) != Some(&n));
            if (1..port.shape.len()).any(differs) {
                let (found, takes) = (array.shape(), port.shape.join(", "));
                return Err(self.wrong(format!(
                    "`{key}` is {found:?}, and `{}` of {} takes [{takes}]; make a reference of that size, or export for the size of the reference",
                    port.name,
                    tower.name()
                )));
            }
            out.push(array);
        }
        Ok(out)
    }

    /// An array of so many axes, not empty, of floats or of integers, with as many rows as its companions have.
    fn input(&self, key: &str, rank: usize, floats: bool, rows: Option<usize>) -> Result<&Array, Error> {
        let array = self.array(key)?;
        let is_typed = if floats { array.floats().is_some() } else { array.ids().is_some() };
        let has_rows = !array.data().is_empty() && rows.is_none_or(|rows| rows == array.batch());
        if array.shape().len() == rank && is_typed && has_rows {
            return Ok(array);
        }
        Err(self.wrong(format!(
            "`{key}` has shape {:?}; expected {rank} axes of {}, as many rows as its companions, at least one",
            array.shape(),
            if floats { "floats" } else { "integers" },
        )))
    }

    /// Holds token ids against a vocabulary of `size` words.
    fn check_ids(&self, key: &str, array: &Array, size: Option<usize>) -> Result<(), Error> {
        let Some(size) = size else { return Ok(()) };
        let mut ids = array.ids().unwrap_or_default().iter();
        match ids.find(|&&id| id < 0 || id >= size as i64) {
            Some(id) => Err(self.wrong(format!("`{key}` holds the id {id}; the model's vocabulary has {size}"))),
            None => Ok(()),
        }
    }

    /// What a tower should give.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is missing or has another number of rows than the inputs.
    pub fn embedding(&self, tower: &Tower, normalized: bool) -> Result<&Array, Error> {
        let signature = tower.signature();
        let key = match signature.modality() {
            Modality::Image => "image_embedding",
            Modality::Text => "text_embedding",
        };
        let key = if normalized { format!("{key}_normalized") } else { key.to_owned() };
        let array = self.array(&key)?;
        let (input, _, _) = keys(&signature.input)[0];
        let rows = self.array(input)?.batch();
        let is_matrix = array.shape().len() == 2 && array.batch() == rows;
        if !is_matrix || array.floats().is_none_or(<[f32]>::is_empty) {
            let found = array.shape();
            return Err(self.wrong(format!("`{key}` has shape {found:?}; expected [{rows}, width] of floats")));
        }
        Ok(array)
    }

    /// `logits_per_image`, where it is there.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is not of `shape`, images by texts.
    pub fn logits(&self, shape: [usize; 2]) -> Result<Option<&Array>, Error> {
        let Some(array) = self.arrays.get("logits_per_image") else { return Ok(None) };
        if array.shape() != shape || array.floats().is_none_or(<[f32]>::is_empty) {
            let found = array.shape();
            return Err(self.wrong(format!("`logits_per_image` has shape {found:?}; expected {shape:?} of floats")));
        }
        Ok(Some(array))
    }

    /// A single number, where it is there.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.arrays.get(key)?.floats()?.first().map(|&v| f64::from(v))
    }

    fn array(&self, key: &str) -> Result<&Array, Error> {
        self.arrays.get(key).ok_or_else(|| {
            if self.others.iter().any(|other| other == key) {
                return self.wrong(format!("`{key}` is of another type; expected float32 or float64, int32 or int64"));
            }
            let keys: Vec<&str> = self.arrays.keys().map(String::as_str).collect();
            self.wrong(format!("has no float or integer array `{key}`; it has {}", keys.join(", ")))
        })
    }

    fn wrong(&self, reason: String) -> Error {
        Error::Reference { path: self.path.clone(), reason }
    }
}

/// Of each input of a tower its key, how many axes it has, and whether it holds floats.
fn keys(input: &Input) -> &'static [(&'static str, usize, bool)] {
    match input {
        Input::Image(_) => &[("image", 4, true)],
        Input::Text(_) => &[("tokens", 2, false)],
        Input::Naflex(_) => {
            &[("naflex_patches", 3, true), ("naflex_type", 2, false), ("naflex_y", 2, false), ("naflex_x", 2, false)]
        }
    }
}

/// The array at a position, of at most `size` bytes, of floats or of integers; None of another type.
fn read(npz: &mut ZipArchive<Cursor<&Bytes>>, at: usize, size: u64) -> Option<Array> {
    fn array<T: ReadableElement>(npz: &mut ZipArchive<Cursor<&Bytes>>, at: usize, size: u64) -> Option<ArrayD<T>> {
        ArrayD::<T>::read_npy(npz.by_index(at).ok()?.take(size)).ok()
    }
    fn made<T: Clone>(array: ArrayD<T>) -> Array
    where
        Data: From<Vec<T>>,
    {
        let shape = array.shape().to_vec();
        // Fortran's order is turned into C's; C's is taken over without a copy.
        let array = if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() };
        Array::new(shape, array.into_raw_vec_and_offset().0)
    }
    let floats = array::<f32>(npz, at, size).or_else(|| Some(array::<f64>(npz, at, size)?.mapv(|v| v as f32)));
    let mut integers =
        || array::<i32>(npz, at, size).map(|array| array.mapv(i64::from)).or_else(|| array(npz, at, size));
    match floats {
        Some(floats) => Some(made(floats)),
        None => integers().map(made),
    }
}
