//! LoRA adapters: those that are named, and the settings of those that a checkpoint holds itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Error, Setting, Source};
use crate::checkpoint::Checkpoint;
use crate::files::{self, file_name, hex};
use crate::params::Reading;
use crate::params::lora::{self, Adapter, Settings};

/// An adapter's settings.
pub const SETTINGS: &str = "adapter_config.json";

/// An adapter's weights.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// The files of adapters that are merged.
pub struct Adapters {
    pub checkpoints: Vec<Checkpoint>,
    /// Names and SHA-256 sums, for metadata.
    pub names: Vec<String>,
}

/// How a checkpoint is read, and the adapters that are merged into it.
///
/// # Errors
/// An adapter that cannot be read, or settings that are not followed.
pub fn reading(source: &Source, checkpoint: &Checkpoint) -> Result<(Reading, Adapters), Error> {
    let mut reading = Reading { prefix: source.weights_prefix.clone(), only: source.only, ..Reading::default() };
    let mut adapters = Adapters { checkpoints: vec![], names: vec![] };
    for folder in &source.adapters {
        let file = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let file = file.ok_or_else(|| Error::Unsupported {
            path: folder.display().to_string(),
            what: format!("it is no folder of a LoRA adapter: {} and {} are not in it", WEIGHTS[0], WEIGHTS[1]),
            way_out: "name the folder that PEFT's save_pretrained wrote".to_owned(),
        })?;
        let settings = settings(&folder.join(SETTINGS))?;
        let opened = Checkpoint::open(&file).map_err(|source| Error::checkpoint(&file, source))?;
        let name = file_name(folder);
        let data = files::map(&file).map_err(|source| Error::checkpoint(&file, source.into()))?;
        adapters.names.push(format!("{name} (sha256 {})", hex(&Sha256::digest(&data))));
        reading.adapters.push(Adapter { tensors: opened.tensors().to_vec(), settings, name });
        adapters.checkpoints.push(opened);
    }
    let ids = inside(checkpoint);
    let alone = ids.len() == 1;
    for id in ids {
        let beside = Some(checkpoint.path().with_file_name(&id).join(SETTINGS));
        // Of several, those beside the checkpoint itself are of the first one.
        let own = (alone || id == "default").then(|| checkpoint.path().with_file_name(SETTINGS));
        if let Some(path) = [beside, own].into_iter().flatten().find(|path: &PathBuf| path.is_file()) {
            reading.inside.push((id, settings(&path)?));
        }
    }
    Ok((reading, adapters))
}

/// An adapter beside a checkpoint, which is not merged unless it is named.
pub fn beside(source: &Source, checkpoint: &Checkpoint) -> Option<String> {
    let has = |name: &str| checkpoint.path().with_file_name(name).is_file();
    let left = source.adapters.is_empty() && has(SETTINGS) && WEIGHTS.iter().any(|name| has(name));
    left.then(|| {
        format!("a LoRA adapter is beside the checkpoint, and is not merged: name its folder with {}", Setting::Adapter)
    })
}

/// The names of the adapters that a checkpoint holds.
fn inside(checkpoint: &Checkpoint) -> BTreeSet<String> {
    let id = |name: &str| {
        let (_, rest) = name.split_once(".lora_").or_else(|| name.split_once(".modules_to_save."))?;
        let of_lora = name.contains(".lora_");
        rest.split('.').nth(usize::from(of_lora)).map(str::to_owned)
    };
    // Such a name becomes a part of a path.
    let plain = |id: &String| !id.is_empty() && files::is_inside(Path::new(id));
    checkpoint.tensors().iter().filter_map(|(name, _)| id(name)).filter(plain).collect()
}

fn settings(path: &Path) -> Result<Settings, Error> {
    let text = files::read_json(path).map_err(|source| Error::checkpoint(path, source.into()))?;
    Settings::parse(&text).map_err(|source: lora::Error| Error::Params {
        path: path.display().to_string(),
        source: Box::new(source.into()),
        hint: String::new(),
    })
}
