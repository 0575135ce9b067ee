//! What the files in a checkpoint's folder say of pixels and of token ids.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Error, Progress};
use crate::checkpoint::Checkpoint;
use crate::config::{self, Clean, Dialect, ModelConfig, Naming, OpenClipJson, PreprocessCfg};
use crate::tokenize;

/// Where a part of the configuration comes from, for people: a file's name, or an assumption.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// Names of files, or what is assumed.
    pub source: String,
    /// Whether no file says so.
    pub assumed: bool,
}

impl Origin {
    /// A rule that a file states; `name` is the file's.
    pub fn file(name: impl Into<String>) -> Origin {
        Origin { source: name.into(), assumed: false }
    }

    /// A rule that no file states; `what` says where the assumption comes from.
    pub fn assumed(what: impl Into<String>) -> Origin {
        Origin { source: what.into(), assumed: true }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.assumed { "assumed: " } else { "" }, self.source)
    }
}

/// A folder's files, read as they are asked for.
pub struct Surroundings<'a> {
    checkpoint: &'a Checkpoint,
    /// The folder of a configuration that was named, which is looked in first.
    named: Option<&'a Path>,
    progress: &'a dyn Progress,
}

/// A rule found in a file of this name.
struct Found {
    name: &'static str,
    cfg: PreprocessCfg,
    notes: Vec<String>,
}

const PROCESSOR: &str = "processor_config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const OPEN_CLIP: &str = "open_clip_config.json";
const CONFIG: &str = "config.json";

impl<'a> Surroundings<'a> {
    pub fn new(checkpoint: &'a Checkpoint, config: Option<&'a Path>, progress: &'a dyn Progress) -> Surroundings<'a> {
        Surroundings { checkpoint, named: config.and_then(Path::parent), progress }
    }

    /// A file's path and text.
    pub fn text(&self, name: &str) -> Result<Option<(String, String)>, Error> {
        if let Some(folder) = self.named {
            let path = folder.join(name);
            match crate::files::read_json(&path) {
                Ok(text) => return Ok(Some((path.display().to_string(), text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::checkpoint(&path, error.into())),
            }
        }
        let unreadable = |(path, source): (PathBuf, std::io::Error)| Error::checkpoint(&path, source.into());
        let found = self.checkpoint.beside(name).map_err(unreadable)?;
        Ok(found.map(|(path, text)| (path.display().to_string(), text)))
    }

    fn json(&self, name: &str) -> Result<Option<(String, Value)>, Error> {
        let Some((path, text)) = self.text(name)? else { return Ok(None) };
        let json = serde_json::from_str(&text).map_err(|error| {
            Error::from(config::Error::Parse { path: path.clone(), field: "the file".to_owned(), error })
        })?;
        Ok(Some((path, json)))
    }

    /// What one file says of pixels.
    fn rule(&self, name: &'static str, config: &ModelConfig) -> Result<Option<Found>, Error> {
        let found = match name {
            OPEN_CLIP => match self.text(name)? {
                Some((path, text)) => match OpenClipJson::parse(&path, &text)? {
                    Some(file) => file.pixels(config)?,
                    None => None,
                },
                None => None,
            },
            CONFIG => match self.json(name)? {
                Some((path, json)) => config::pretrained_cfg(&path, &json, config)?.map(|cfg| (cfg, vec![])),
                None => None,
            },
            _ => match self.json(name)? {
                Some((path, json)) => config::processor(&path, &json, config)?,
                None => None,
            },
        };
        Ok(found.map(|(cfg, notes)| Found { name, cfg, notes }))
    }

    /// Puts what the files say of pixels over what was assumed, and says where it is from.
    ///
    /// # Errors
    /// A file that cannot be read, or a rule that cannot be followed.
    pub fn pixels(&self, config: &mut ModelConfig) -> Result<Origin, Error> {
        let own = config.naming.dialect() == config.dialect;
        let order = match config.naming {
            // As transformers itself has it: the nested one goes first.
            Naming::Transformers => [PROCESSOR, PREPROCESSOR, OPEN_CLIP, CONFIG],
            Naming::OpenClip => [OPEN_CLIP, CONFIG, PROCESSOR, PREPROCESSOR],
            // Their authors' own files come without.
            Naming::BigVision | Naming::Apple => {
                self.not_followed(config)?;
                return Ok(Origin::assumed(format!("as the authors of {} do", config.model)));
            }
        };
        if !own {
            self.not_followed(config)?;
            return Ok(Origin::assumed(format!("dialect {} of {}", config.dialect, config.model)));
        }
        let mut taken: Option<Found> = None;
        for name in order {
            // Of NaFlex, transformers' own files alone speak.
            let naflex = config.takes_patches();
            if naflex && matches!(name, OPEN_CLIP | CONFIG) {
                continue;
            }
            match (&taken, self.rule(name, config)) {
                (None, found) => taken = found?,
                (Some(first), Ok(Some(other))) => {
                    let [one, two] = [&first.cfg, &other.cfg].map(|cfg| cfg.describe(config.image_size()));
                    if one != two {
                        let (first, name) = (first.name, other.name);
                        self.progress.warn(&format!("pixels are made as {first} says ({one}); {name} says {two}"));
                    }
                }
                // What is not taken need not be followed.
                (Some(_), _) => {}
            }
        }
        let Some(Found { name, cfg, notes }) = taken else {
            let source = match config.published_otherwise() {
                Some(other) => format!("as most weights of {} are published; {other}", config.model),
                None => format!("as {} is published", config.model),
            };
            return Ok(Origin::assumed(format!("{source}; no {} beside the checkpoint", order[..2].join(" or "))));
        };
        notes.iter().for_each(|note| self.progress.warn(&format!("{name}: {note}")));
        let path = name.to_owned();
        config.set_preprocess(cfg).map_err(|problem| config::Error::Pixels { path, problem })?;
        Ok(Origin::file(name))
    }

    /// Says that files are there which do not count.
    fn not_followed(&self, config: &ModelConfig) -> Result<(), Error> {
        for name in [PROCESSOR, PREPROCESSOR, OPEN_CLIP] {
            if self.text(name)?.is_some() {
                self.progress.warn(&format!(
                    "{name} beside the checkpoint is not followed: pixels are those of dialect {}",
                    config.dialect
                ));
            }
        }
        Ok(())
    }

    /// Puts what a tokenizer's files say of ids over what was assumed; says where it is from, and gives
    /// the path of the `tokenizer.json`, where the model's vocabulary is not built in or the file has another.
    ///
    /// # Errors
    /// A file that cannot be read, or rows that are not made so.
    pub fn tokens(&self, config: &mut ModelConfig) -> Result<(Origin, Option<PathBuf>), Error> {
        // Of tokens, transformers takes the map's before the configuration's.
        const CONFIGS: [&str; 3] = ["special_tokens_map.json", "tokenizer_config.json", "tokenizer.json"];
        let mut files = Vec::new();
        for name in CONFIGS {
            if let Some((path, json)) = self.json(name)? {
                files.push((name, path, json));
            }
        }
        let assumed = || match config.dialect {
            Dialect::Transformers => {
                Origin::assumed(format!("{CONFIG} and {}; no tokenizer beside the checkpoint", config.model))
            }
            _ => Origin::assumed(format!("as {} is published; no tokenizer beside the checkpoint", config.model)),
        };
        if files.is_empty() {
            return Ok((assumed(), None));
        }
        let carried = files.iter().find(|(name, ..)| *name == CONFIGS[2]);
        let vocabulary = carried.filter(|(_, _, json)| !(tokenize::built_in(config) && tokenize::is_built_in(json)));
        let path = vocabulary.map(|(_, path, _)| PathBuf::from(path));
        if config.naming.dialect() != config.dialect || matches!(config.naming, Naming::BigVision | Naming::Apple) {
            // Ids are the vocabulary's, whoever runs the model; what is written beside is for other code.
            return Ok((Origin::assumed(format!("as the authors of {} do", config.model)), path));
        }
        let named: Vec<(&str, &Value)> = files.iter().map(|(_, path, json)| (path.as_str(), json)).collect();
        let ids = config::special_ids(&named)?;
        let notes = ids.apply(config);
        notes.iter().for_each(|note| self.progress.warn(note));
        let said = [("padding", ids.pad), ("end", ids.end)].map(|(name, id)| id.is_none().then_some(name));
        let open: Vec<&str> = said.into_iter().flatten().collect();
        if config.dialect == Dialect::Transformers {
            let class = named.iter().find_map(|(_, json)| json.get("tokenizer_class")?.as_str());
            config.set_clean(class.map(Clean::of_class));
            self.starts(config, class, vocabulary.map(|(_, path, json)| (path.as_str(), json)));
        }
        let names: Vec<&str> = files.iter().map(|(name, ..)| *name).collect();
        let from = match open[..] {
            [] => Origin::file(names.join(", ")),
            [one] => Origin::file(format!("{}; {one} assumed", names.join(", "))),
            _ => Origin::assumed(format!(
                "as {} is published; {} beside the checkpoint says none",
                config.model,
                names.join(" and ")
            )),
        };
        Ok((from, path))
    }

    /// Rows begin with the start token where the tokenizer puts it there; an end that is not put there is reported, as rows
    /// have one. CLIP's and SigLIP's own classes, which transformers takes where none is named, put theirs whatever the
    /// file says.
    fn starts(&self, config: &mut ModelConfig, class: Option<&str>, file: Option<(&str, &Value)>) {
        let own = |class: &str| {
            ["CLIPTokenizer", "SiglipTokenizer", "Siglip2Tokenizer"].contains(&class.trim_end_matches("Fast"))
        };
        let Some((path, json)) = file.filter(|_| class.is_some_and(|class| !own(class))) else { return };
        let Some(text) = config.text_cfg.clone() else { return };
        let Some((start, end)) = tokenize::adds(json, &text) else { return };
        if !start {
            config.remove_start();
        }
        if !end {
            self.progress.warn(&format!(
                "{path} puts no end token behind texts; rows end with id {} all the same, where the model looks for it",
                text.eot_id
            ));
        }
    }
}
