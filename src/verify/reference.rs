//! Reference embeddings: inputs and outputs of the authors' own code, in one `.npz`.
//!
//! Keys: `image` `[N, 3, H, W]` as the tower takes it, `tokens` `[M, L]`, `image_embedding`,
//! `text_embedding`, the same with `_normalized`, `logits_per_image` `[N, M]`,
//! `logit_scale_exp`, `logit_bias`; for NaFlex `naflex_patches`, `naflex_type`, `naflex_y`,
//! `naflex_x`. What a tower does not need may be absent. `scripts/make_reference.py` writes one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ndarray::ArrayD;
use ndarray_npy::{NpzReader, ReadNpzError};

use super::Error;
use super::tower::{Array, Kind, Pictures, Tower};
use crate::checkpoint::Checkpoint;
use crate::files::hex;
use crate::files::ordinary;

/// A reference file, read whole.
pub struct Reference {
    pub path: String,
    pub file_name: String,
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
        ordinary(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let sha256 = hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes));
        let file = File::open(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let mut npz = NpzReader::new(file)
            .map_err(|e| wrong(format!("is not a whole .npz ({e}); expected what scripts/make_reference.py writes")))?;
        // Every array's size is held against the file's before anything is allocated for it.
        Checkpoint::open(path).map_err(|e| wrong(e.to_string()))?;
        let (mut arrays, mut others) = (BTreeMap::new(), vec![]);
        for key in npz.names().map_err(|e| wrong(e.to_string()))? {
            // An array of another type may be none of ours; asked for, it is named.
            match read(&mut npz, &key) {
                Ok(array) => drop(arrays.insert(key, array)),
                Err(_) => others.push(key),
            }
        }
        let file_name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Reference { path: name, file_name, sha256, arrays, others })
    }

    /// Whether a tower can be fed from it: one that takes bytes, from pictures of bytes alone.
    pub fn feeds(&self, tower: &Tower) -> bool {
        let picture = self.arrays.get("image").filter(|image| tower.kind == Kind::Image && image.shape.len() == 4);
        !tower.resizes_always() && picture.is_none_or(|image| tower.image(&Pictures::Floats(image.clone())).is_some())
    }

    /// The inputs of a tower, in its own order.
    ///
    /// # Errors
    /// [`Error::Reference`] when an array is missing or not of the form the tower takes.
    pub fn inputs(&self, tower: &Tower) -> Result<Vec<Array>, Error> {
        let keys: &[(&str, usize)] = match tower.kind {
            Kind::Image => &[("image", 4)],
            Kind::Text => &[("tokens", 2)],
            Kind::Naflex => &[("naflex_patches", 3), ("naflex_type", 2), ("naflex_y", 2), ("naflex_x", 2)],
        };
        let mut out: Vec<Array> = Vec::new();
        for (at, &(key, rank)) in keys.iter().enumerate() {
            let array = self.array(key)?;
            let floats = at == 0 && tower.kind != Kind::Text;
            let typed = if floats { !array.values.is_empty() } else { !array.ids.is_empty() };
            let rows_agree = out.first().is_none_or(|first| first.shape[0] == array.shape[0]);
            if array.shape.len() != rank || !typed || !rows_agree {
                return Err(self.wrong(format!(
                    "`{key}` has shape {:?}; expected {rank} axes of {}, as many rows as its companions, at least one",
                    array.shape,
                    if floats { "floats" } else { "integers" },
                )));
            }
            if let (Kind::Text, Some(size)) = (tower.kind, tower.stated_vocab_size())
                && let Some(id) = array.ids.iter().find(|&&id| id < 0 || id >= size as i64)
            {
                return Err(self.wrong(format!("`{key}` holds the id {id}; the model's vocabulary has {size}")));
            }
            let array = match tower.kind {
                Kind::Image => tower.image(&Pictures::Floats(array.clone())).ok_or_else(|| {
                    self.wrong(format!("`{key}` holds numbers that no bytes become, and {} takes bytes", tower.name))
                })?,
                Kind::Naflex | Kind::Text => array.clone(),
            };
            let input = tower.input(at);
            let differs = |axis: usize| input.fixed(axis).is_some_and(|n| array.shape.get(axis) != Some(&n));
            if (1..input.shape.len()).any(differs) {
                let (found, takes) = (&array.shape, input.shape.join(", "));
                return Err(self.wrong(format!(
                    "`{key}` is {found:?}, and `{}` of {} takes [{takes}]; make a reference of that size",
                    input.name, tower.name
                )));
            }
            out.push(array);
        }
        Ok(out)
    }

    /// What a tower should give.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is missing or has another number of rows than the inputs.
    pub fn embedding(&self, tower: &Tower, normalized: bool) -> Result<&Array, Error> {
        let (key, inputs) = match tower.kind {
            Kind::Image | Kind::Naflex => {
                ("image_embedding", if tower.kind == Kind::Image { "image" } else { "naflex_patches" })
            }
            Kind::Text => ("text_embedding", "tokens"),
        };
        let key = if normalized { format!("{key}_normalized") } else { key.to_owned() };
        let array = self.array(&key)?;
        let rows = self.array(inputs)?.shape[0];
        if array.shape.len() != 2 || array.shape[0] != rows || array.values.is_empty() {
            return Err(self.wrong(format!("`{key}` has shape {:?}; expected [{rows}, width] of floats", array.shape)));
        }
        Ok(array)
    }

    /// `logits_per_image`, where it is there.
    ///
    /// # Errors
    /// [`Error::Reference`] when it is not of `shape`, images by texts.
    pub fn logits(&self, shape: [usize; 2]) -> Result<Option<&Array>, Error> {
        let Some(array) = self.arrays.get("logits_per_image") else { return Ok(None) };
        if array.shape != shape || array.values.is_empty() {
            let found = &array.shape;
            return Err(self.wrong(format!("`logits_per_image` has shape {found:?}; expected {shape:?} of floats")));
        }
        Ok(Some(array))
    }

    /// A single number, where it is there.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.arrays.get(key).and_then(|a| a.values.first()).map(|&v| f64::from(v))
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

/// Tries the types in turn; the last error is reported.
fn read(npz: &mut NpzReader<File>, key: &str) -> Result<Array, ReadNpzError> {
    fn floats(a: ArrayD<f32>) -> Array {
        Array { shape: a.shape().to_vec(), values: a.iter().copied().collect(), ids: vec![] }
    }
    fn integers(a: ArrayD<i64>) -> Array {
        Array { shape: a.shape().to_vec(), values: vec![], ids: a.iter().copied().collect() }
    }
    if let Ok(array) = npz.by_name::<ndarray::OwnedRepr<f32>, ndarray::IxDyn>(key) {
        return Ok(floats(array));
    }
    if let Ok(array) = npz.by_name::<ndarray::OwnedRepr<f64>, ndarray::IxDyn>(key) {
        return Ok(floats(array.mapv(|v| v as f32)));
    }
    if let Ok(array) = npz.by_name::<ndarray::OwnedRepr<i32>, ndarray::IxDyn>(key) {
        return Ok(integers(array.mapv(i64::from)));
    }
    npz.by_name::<ndarray::OwnedRepr<i64>, ndarray::IxDyn>(key).map(integers)
}
