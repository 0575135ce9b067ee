//! What goes with the models: files of the layout, tokenizer, labels, page, and the weights under open_clip's names.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::model::Model;
use super::request::{Artifacts, Export};
use super::resolve::Recipe;
use super::workspace::Workspace;
use super::{Convert, Error, Progress, convert};
use crate::files::hex;
use crate::layout::manifest::Role;
use crate::layout::{Layout, clip_as_service, demo, hf};
use crate::onnx::write::{Error as WriteError, Written};
use crate::output::pretty;
use crate::setting::Setting;
use crate::tokenize::{self, Tokenizer};

/// A file that goes with the models.
pub struct Companion {
    pub written: Written,
    pub role: Role,
}

/// A file's path, contents and purpose.
struct File {
    path: PathBuf,
    contents: Cow<'static, [u8]>,
    role: Role,
}

impl File {
    fn text(path: impl Into<PathBuf>, text: String, role: Role) -> File {
        File { path: path.into(), contents: Cow::Owned(text.into_bytes()), role }
    }
}

/// Writes all of it; gives every file with its size and, where sums are asked for, its sum.
///
/// # Errors
/// What writing reports, a tokenizer that is missing or another model's, or a page that was not built.
pub fn write(
    request: &Export,
    recipe: &Recipe,
    model: &Model,
    work: &Workspace,
    progress: &dyn Progress,
) -> Result<Vec<Companion>, Error> {
    let (layout, config) = (recipe.layout, &model.selected.config);
    if layout == Layout::ClipAsService
        && let Some(misfed) = clip_as_service::misfed(config)
    {
        progress.warn(&misfed);
    }
    let mut files: Vec<File> = layout
        .files(config)
        .into_iter()
        .map(|(path, json)| {
            let is_preprocessor = path.file_name().is_some_and(|name| name.to_string_lossy().contains("preprocess"));
            File::text(path, pretty(&json), if is_preprocessor { Role::Preprocessor } else { Role::Config })
        })
        .collect();
    match &recipe.artifacts {
        Artifacts::ZeroShot(zero_shot) => {
            files.push(File::text("labels.txt", zero_shot.labels().join("\n") + "\n", Role::Labels));
        }
        Artifacts::Towers | Artifacts::Combined => files.extend(tokenizer(recipe, model, progress)?),
    }
    if recipe.demo {
        let page = demo::files().map_err(|missing| Error::Unsupported {
            path: work.checkpoint().display().to_string(),
            what: missing.to_owned(),
            way_out: demo::remedy(),
        })?;
        files.extend(page.into_iter().map(|(path, bytes)| File {
            path: PathBuf::from(path),
            contents: Cow::Owned(bytes),
            role: Role::Page,
        }));
    }
    let mut out = Vec::new();
    if layout == Layout::OpenClip {
        out.push(Companion { written: weights(request, work, progress)?, role: Role::Checkpoint });
    }
    for File { path, contents, role } in files {
        out.push(Companion { written: work.write(path, &contents)?, role });
    }
    Ok(out)
}

/// The weights under open_clip's names.
fn weights(request: &Export, work: &Workspace, progress: &dyn Progress) -> Result<Written, Error> {
    const NAME: &str = "open_clip_model.safetensors";
    let path = work.path().join(NAME);
    convert(&Convert { source: request.source.clone(), ..Convert::new(work.checkpoint(), &path) }, progress)?;
    let failed = |source| Error::Write(WriteError::io(&work.target().join(NAME), 0, source));
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    let sum = || -> std::io::Result<String> {
        let file = crate::files::map(&path)?;
        Ok(hex(&<sha2::Sha256 as sha2::Digest>::digest(&file)))
    };
    Ok(Written { path: PathBuf::from(NAME), size, sha256: work.hashes().then(sum).transpose().map_err(failed)? })
}

/// The tokenizer's files, where the layout or the page has a use for them.
fn tokenizer(recipe: &Recipe, model: &Model, progress: &dyn Progress) -> Result<Vec<File>, Error> {
    let (config, named) = (&model.selected.config, model.tokenizer.as_deref());
    if config.text_cfg.is_none() {
        return Ok(vec![]);
    }
    let Some(place) = recipe.layout.tokenizer_folder().or(recipe.demo.then_some("")) else { return Ok(vec![]) };
    let wanted = recipe.layout != Layout::Plain || recipe.demo;
    if named.is_none() && !(wanted && tokenize::built_in(config)) {
        if recipe.demo {
            // Its error says which to name.
            Tokenizer::new(config, None)?;
        }
        if wanted {
            progress.warn(&format!(
                "{} has a vocabulary that is not built in: the folder lacks its tokenizer; name its tokenizer.json ({})",
                config.model,
                Setting::Tokenizer
            ));
        }
        return Ok(vec![]);
    }
    let Some(text) = &config.text_cfg else { return Ok(vec![]) };
    let (tokenizer, place) = (Tokenizer::new(config, named)?, Path::new(place));
    let [own, special] = hf::tokenizer(config, text, |id| tokenizer.token(id));
    let file = |name: &str, text: String| File::text(place.join(name), text, Role::Tokenizer);
    Ok(vec![
        file("tokenizer.json", tokenize::json(named)?),
        file("tokenizer_config.json", pretty(&own)),
        file("special_tokens_map.json", pretty(&special)),
    ])
}
