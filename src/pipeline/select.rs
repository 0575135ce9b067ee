//! Which model a checkpoint holds: named, spelled out in a file, recorded by `convert`, or found
//! from names and shapes.

use std::path::{Path, PathBuf};

use super::{Error, Progress};
use crate::checkpoint::Checkpoint;
use crate::config::{Dialect, ModelConfig, known};
use crate::params::{self, Params};
use crate::towers;

/// Metadata keys a converted safetensors file carries.
pub const RECORDED_CONFIG: &str = "clip_onnx.config";
/// The dialect alone, for people to read.
pub const RECORDED_DIALECT: &str = "clip_onnx.dialect";

/// How the user wants the model chosen.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// `--model`
    pub model: Option<String>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--dialect`
    pub dialect: Option<Dialect>,
}

/// What the choice rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Named,
    File,
    Recorded,
    Shapes,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Found::Named => "named by --model",
            Found::File => "from --config",
            Found::Recorded => "recorded in the checkpoint",
            Found::Shapes => "found from names and shapes",
        })
    }
}

/// The model to build.
#[derive(Clone, Debug)]
pub struct Selected {
    pub config: ModelConfig,
    pub found: Found,
}

impl Selected {
    /// A parameter problem, with what the user may have chosen wrongly.
    pub fn params_error(&self, path: &Path, source: params::Error) -> Error {
        let hint = match (&source, self.found) {
            (params::Error::Tensor(_), _) | (_, Found::Shapes) => String::new(),
            (_, Found::Recorded) => format!(" (model {} is recorded in the file)", self.config.model),
            (_, Found::Named | Found::File) => format!(
                " (model {} was chosen; `clip-onnx inspect {}` says which models fit)",
                self.config.model,
                path.display()
            ),
        };
        Error::Params { path: path.display().to_string(), source: Box::new(source), hint }
    }
}

/// Chooses the model for `checkpoint`.
///
/// # Errors
/// [`Error::Config`], [`Error::NoFit`] or [`Error::Ambiguous`].
pub fn select(
    choice: &Choice,
    checkpoint: &Checkpoint,
    params: &Params,
    progress: &dyn Progress,
) -> Result<Selected, Error> {
    let in_dialect = |config: ModelConfig| match choice.dialect {
        Some(dialect) => config.in_dialect(dialect),
        None => Ok(config),
    };
    if let Some(path) = &choice.config {
        return Ok(Selected { config: in_dialect(ModelConfig::read(path)?)?, found: Found::File });
    }
    let recorded = recorded(checkpoint)?;
    let dialect =
        choice.dialect.or(recorded.as_ref().map(|config| config.dialect)).unwrap_or(params.naming().dialect());
    if let Some(name) = &choice.model {
        return Ok(Selected { config: ModelConfig::named(name)?.in_dialect(dialect)?, found: Found::Named });
    }
    if let Some(config) = recorded {
        if choice.dialect.is_none() && config.dialect != params.naming().dialect() {
            progress.warn(&format!(
                "the weights were published in another form; the graph follows the recorded dialect `{}`, not {}'s",
                config.dialect,
                params.naming()
            ));
        }
        return Ok(Selected { config: in_dialect(config)?, found: Found::Recorded });
    }
    let path = checkpoint.path().display().to_string();
    let mut fits = ranked(params, dialect);
    let exact = fits.iter().take_while(|(_, differences)| differences.is_empty()).count();
    match exact {
        1 => Ok(Selected { config: fits.swap_remove(0).0, found: Found::Shapes }),
        0 => {
            let closest = fits.first().map_or_else(
                || format!("none is known in dialect {dialect}"),
                |(config, differences)| {
                    let shown: Vec<String> = differences.iter().map(Difference::to_string).collect();
                    format!("the closest is {}, where {}", config.model, params::keymap::some_of(&shown))
                },
            );
            Err(Error::NoFit { path, closest })
        }
        count => {
            let names: Vec<&str> = fits[..count].iter().map(|(config, _)| config.model.as_str()).collect();
            Err(Error::Ambiguous { path, count, names: names.join(", ") })
        }
    }
}

/// The configuration `convert` left in a safetensors file.
fn recorded(checkpoint: &Checkpoint) -> Result<Option<ModelConfig>, Error> {
    let Some(text) = checkpoint.metadata().get(RECORDED_CONFIG) else { return Ok(None) };
    let origin = format!("{} ({RECORDED_CONFIG})", checkpoint.path().display());
    Ok(Some(ModelConfig::parse(&origin, text)?))
}

/// One thing in which a checkpoint is not a model.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    Missing { name: String, expected: Vec<usize> },
    Unexpected { name: String, found: Vec<usize> },
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    Heads { name: String, found: usize, expected: usize },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Missing { name, expected } => write!(f, "`{name}` {expected:?} is missing"),
            Difference::Unexpected { name, found } => write!(f, "`{name}` {found:?} is unexpected"),
            Difference::Shape { name, found, expected } => {
                write!(f, "`{name}` is {found:?}, expected {expected:?}")
            }
            Difference::Heads { name, found, expected } => {
                write!(f, "`{name}` has {found} heads, expected {expected}")
            }
        }
    }
}

/// In what the parameters are not what `config` needs.
pub fn differences(config: &ModelConfig, params: &Params) -> Vec<Difference> {
    let Ok(mut wanted) = towers::wanted(config) else { return vec![] };
    let mut out = Vec::new();
    for (name, found) in params.shapes() {
        let name = name.to_owned();
        match (wanted.remove(&name), params.heads(&name)) {
            (None, _) => out.push(Difference::Unexpected { name, found }),
            (Some(w), _) if w.shape != found => out.push(Difference::Shape { name, found, expected: w.shape }),
            (Some(params::Wanted { heads: Some(expected), .. }), Some(found)) if found != expected => {
                out.push(Difference::Heads { name, found, expected });
            }
            _ => {}
        }
    }
    out.extend(wanted.into_iter().map(|(name, w)| Difference::Missing { name, expected: w.shape }));
    out
}

/// Every known model in `dialect`, those that differ least first.
pub fn ranked(params: &Params, dialect: Dialect) -> Vec<(ModelConfig, Vec<Difference>)> {
    let in_dialect = known().filter_map(|config| config.in_dialect(dialect).ok());
    let mut out: Vec<_> = in_dialect
        .map(|config| {
            let differences = differences(&config, params);
            (config, differences)
        })
        .collect();
    out.sort_by_key(|(_, differences)| differences.len());
    out
}
