//! What stands beside the towers: configurations, the tokenizer, labels, the page.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::describe::pretty;
use super::export::{Export, Form};
use super::{Convert, Error, Progress, convert};
use crate::config::ModelConfig;
use crate::files::hex;
use crate::layout::Layout;
use crate::layout::{clip_as_service, demo, hf};
use crate::onnx::write::{Error as WriteError, Written};
use crate::output::Folder;
use crate::tokenize::{self, Tokenizer};

/// Paths and contents.
type Files = Vec<(PathBuf, Cow<'static, [u8]>)>;

fn text(path: impl Into<PathBuf>, text: String) -> (PathBuf, Cow<'static, [u8]>) {
    (path.into(), Cow::Owned(text.into_bytes()))
}

/// Writes it; gives every file with its size and, where sums are asked for, its sum.
///
/// # Errors
/// What writing reports, a tokenizer that is missing or another model's, or a page that was not built.
pub fn beside(
    request: &Export,
    config: &ModelConfig,
    folder: &Folder,
    progress: &dyn Progress,
) -> Result<Vec<Written>, Error> {
    let layout = request.layout;
    if layout == Layout::ClipAsService
        && let Some(misfed) = clip_as_service::misfed(config)
    {
        progress.warn(&misfed);
    }
    let mut files: Files = layout.files(config).into_iter().map(|(path, json)| text(path, pretty(&json))).collect();
    if let Form::Classifier(classes) = &request.form {
        files.push(text("labels.txt", classes.labels.join("\n") + "\n"));
    } else {
        files.extend(tokenizer(request, config, progress)?);
    }
    if request.demo {
        let page = demo::files().map_err(|missing| Error::Unsupported {
            path: request.checkpoint.display().to_string(),
            what: missing.to_owned(),
            way_out: demo::WAY_OUT.to_owned(),
        })?;
        files.extend(page.iter().map(|(path, bytes)| (PathBuf::from(path), Cow::Borrowed(*bytes))));
    }
    let mut out = Vec::new();
    if layout == Layout::OpenClip {
        out.push(weights(request, folder, progress)?);
    }
    for (path, bytes) in files {
        folder.write(&path, &bytes)?;
        let sha256 = request.hash.then(|| hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
        out.push(Written { path, size: bytes.len() as u64, sha256 });
    }
    Ok(out)
}

/// The weights under open_clip's names.
fn weights(request: &Export, folder: &Folder, progress: &dyn Progress) -> Result<Written, Error> {
    const NAME: &str = "open_clip_model.safetensors";
    let path = folder.path().join(NAME);
    let to = Convert {
        checkpoint: request.checkpoint.clone(),
        out: path.clone(),
        force: false,
        choice: request.choice.clone(),
        image_size: request.image_size,
        reparameterize: false,
    };
    convert(&to, progress)?;
    let failed = |source| Error::Write(WriteError::io(&request.out.join(NAME), 0, source));
    let size = std::fs::metadata(&path).map_err(failed)?.len();
    let sum = || -> std::io::Result<String> {
        let mut sha256 = <sha2::Sha256 as sha2::Digest>::new();
        std::io::copy(&mut std::fs::File::open(&path)?, &mut sha256)?;
        Ok(hex(&sha2::Digest::finalize(sha256)))
    };
    Ok(Written { path: PathBuf::from(NAME), size, sha256: request.hash.then(sum).transpose().map_err(failed)? })
}

/// The tokenizer's files, where the layout or the page has a use for them.
fn tokenizer(request: &Export, config: &ModelConfig, progress: &dyn Progress) -> Result<Files, Error> {
    let named = request.tokenizer.as_deref();
    let Some(place) = request.layout.tokenizer_folder().or(request.demo.then_some("")) else { return Ok(vec![]) };
    let wanted = request.layout != Layout::Plain || request.demo;
    if named.is_none() && !(wanted && tokenize::built_in(config)) {
        if request.demo {
            // Says which to name.
            Tokenizer::new(config, None)?;
        }
        if wanted {
            progress.warn(&format!(
                "{} has a vocabulary that is not built in: the folder lacks its tokenizer; add one with --tokenizer tokenizer.json",
                config.model
            ));
        }
        return Ok(vec![]);
    }
    let (tokenizer, place) = (Tokenizer::new(config, named)?, Path::new(place));
    let [own, special] = hf::tokenizer(config, |id| tokenizer.token(id));
    Ok(vec![
        text(place.join("tokenizer.json"), tokenize::json(named)?),
        text(place.join("tokenizer_config.json"), pretty(&own)),
        text(place.join("special_tokens_map.json"), pretty(&special)),
    ])
}
