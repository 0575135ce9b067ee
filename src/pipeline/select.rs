//! Which model a checkpoint holds: named, spelled out in a file, recorded by `convert`, or found
//! from names and shapes.

use std::path::{Path, PathBuf};

use super::stretched::stretched;
use super::surroundings::{Origin, Surroundings};
use super::{Error, ModelChoice, Progress, Setting, Source};
use crate::checkpoint::Checkpoint;
use crate::config::{
    self, Act, Dialect, Family, ModelConfig, Naming, OpenClipJson, Problem, TextCfg, VisionCfg, known,
};
use crate::files::file_name;
use crate::layout::manifest::Rule;
use crate::modality::Modality;
use crate::params::{self, Params};
use crate::towers;

/// Metadata keys a converted safetensors file carries.
pub const RECORDED_CONFIG: &str = "clip_onnx.config";
/// The dialect alone, for people to read.
pub const RECORDED_DIALECT: &str = "clip_onnx.dialect";

/// What the choice rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By name, in the request.
    Named,
    /// From a configuration file that the request names.
    File,
    /// In memory, by a program.
    Given,
    /// From the configuration in the checkpoint's own metadata.
    Recorded,
    /// From the `config.json` in the checkpoint's folder.
    Beside,
    /// From the `open_clip_config.json` in the checkpoint's folder.
    OpenClip,
    /// From names and shapes of the tensors, which one known model has.
    Shapes,
    /// From names and shapes of the tensors, which several known models have.
    Guessed,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Found::Named => return write!(f, "named by {}", Setting::Model),
            Found::File => return write!(f, "from {}", Setting::Config),
            Found::Given => "given",
            Found::Recorded => "recorded in the checkpoint",
            Found::Beside => "from the config.json beside it",
            Found::OpenClip => "from the open_clip_config.json beside it",
            Found::Shapes => "found from names and shapes",
            Found::Guessed => "guessed among those with these names and shapes",
        })
    }
}

/// The model to build.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Configuration that graphs are built from.
    pub config: ModelConfig,
    /// What the choice of the model rests on.
    pub found: Found,
    /// Where the pixels' rule comes from.
    pub pixels: Origin,
    /// Where padding, start and end come from.
    pub tokens: Origin,
    /// The `tokenizer.json` in the checkpoint's folder, where the model's vocabulary is not built in.
    pub tokenizer: Option<PathBuf>,
}

impl Selected {
    /// How pixels are made, and how rows of ids are, each with where that is from.
    pub fn inputs(&self) -> Vec<(&'static str, Rule)> {
        let rule = |rule: String, from: &Origin| Rule { rule, source: from.source.clone(), assumed: from.assumed };
        let pixels = || rule(self.config.preprocess_cfg.describe(self.config.image_size()), &self.pixels);
        let tokens = self.config.text_cfg.as_ref().map(|text| ("tokens", rule(text.describe(), &self.tokens)));
        let pixels = self.config.has(Modality::Image).then(|| ("pixels", pixels()));
        pixels.into_iter().chain(tokens).collect()
    }

    /// A parameter problem, with what the user may have chosen wrongly.
    pub fn params_error(&self, path: &Path, source: params::Error) -> Error {
        let hint = match (&source, self.found) {
            (params::Error::Tensor(_), _) | (_, Found::Shapes | Found::Guessed) => String::new(),
            (_, Found::Recorded) => format!("model {} is recorded in the file", self.config.model),
            (_, Found::Beside) => "the config.json beside it describes the model so".to_owned(),
            (_, Found::OpenClip) => "the open_clip_config.json beside it describes the model so".to_owned(),
            (_, Found::Named | Found::File | Found::Given) => {
                format!("model {} was chosen; `inspect {}` says which models fit", self.config.model, path.display())
            }
        };
        Error::Params { path: path.display().to_string(), source: Box::new(source), hint }
    }
}

/// Chooses the model for `checkpoint`, and reads what the files in its folder say of pixels and tokens.
///
/// # Errors
/// [`Error::Config`], [`Error::NoFit`] or [`Error::Ambiguous`].
pub fn select(
    source: &Source,
    checkpoint: &Checkpoint,
    params: &Params,
    progress: &dyn Progress,
) -> Result<Selected, Error> {
    let named = source.config_file();
    let around = Surroundings::new(checkpoint, named, progress);
    let (mut config, found) = choose(source, checkpoint, params, &around, progress)?;
    fit_towers(&mut config, params, source, progress);
    let whole = match (found, named) {
        (Found::File, Some(path)) => is_whole(path).then(|| Origin::file(file_name(path))),
        (Found::Given, _) => Some(Origin::file("the configuration given")),
        (Found::Recorded, _) => Some(Origin::file("recorded in the checkpoint")),
        _ => None,
    };
    let (pixels, tokens, tokenizer) = match whole {
        Some(from) => {
            // The vocabulary itself is in no configuration.
            let (_, tokenizer) = around.tokens(&mut config.clone())?;
            (from.clone(), from, tokenizer)
        }
        None => {
            let pixels = around.pixels(&mut config)?;
            let (tokens, tokenizer) = around.tokens(&mut config)?;
            (pixels, tokens, tokenizer)
        }
    };
    Ok(Selected { config, found, pixels, tokens, tokenizer })
}

/// Leaves out of a configuration the towers that the file does not have, or that are not wanted, and says so.
fn fit_towers(config: &mut ModelConfig, params: &Params, source: &Source, progress: &dyn Progress) {
    for tower in Modality::ALL {
        let (stored, described) = (params.has(tower), config.has(tower));
        if stored && !described {
            progress.warn(&format!("{} has no {tower} tower: that of the checkpoint is left out", config.model));
        }
        if described && !stored {
            config.remove(tower);
            if source.only.is_none_or(|only| only == tower) {
                progress.warn(&format!("the checkpoint has no {tower} tower: the other one is exported alone"));
            }
        }
    }
    let alone = Modality::ALL.into_iter().filter(|tower| config.has(*tower)).count() == 1;
    if alone && config.family == Family::Clip && params.naming() == Naming::Transformers {
        let stored = HEADS.iter().any(|head| params.holds(head));
        match (config.has_projection(), stored) {
            (true, false) => {
                config.remove_projection();
                progress.warn("the embedding is the pooled features: the file has no projection");
            }
            (false, true) => progress.warn(
                "the embedding is the pooled features, as the class in config.json has them: the projection in the file is left out",
            ),
            _ => {}
        }
    }
}

/// Weights of projections.
const HEADS: [&str; 2] = ["visual.head.weight", "text.head.weight"];

/// Leaves out of the parameters what the model does not have: a tower, or a projection of one alone.
pub fn keep_those_of(config: &ModelConfig, params: &mut Params) {
    params.keep(|tower| config.has(tower));
    if config.family == Family::Clip && params.naming() == Naming::Transformers && !config.has_projection() {
        params.remove(|name| HEADS.contains(&name));
    }
}

/// Whether a configuration is of the form of `models/`, which leaves nothing open.
fn is_whole(path: &Path) -> bool {
    let text = crate::files::read_json(path).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json.get("naming").is_some()
}

/// The model alone.
fn choose(
    source: &Source,
    checkpoint: &Checkpoint,
    params: &Params,
    around: &Surroundings,
    progress: &dyn Progress,
) -> Result<(ModelConfig, Found), Error> {
    let naming = params.naming();
    let in_dialect = |config: ModelConfig| match source.dialect {
        Some(dialect) => config.in_dialect(dialect),
        None => Ok(config),
    };
    match &source.model {
        ModelChoice::File(path) => {
            let config = in_dialect(ModelConfig::read(path)?)?;
            // One in the form of `models/` says how branches are stored.
            return Ok((if is_whole(path) { config } else { as_stored(config, params) }, Found::File));
        }
        ModelChoice::Given(config) => return Ok((in_dialect((**config).clone())?, Found::Given)),
        ModelChoice::Named(_) | ModelChoice::Detect => {}
    }
    let recorded = recorded(checkpoint)?;
    let dialect = source.dialect.or(recorded.as_ref().map(|config| config.dialect)).unwrap_or(naming.dialect());
    if let ModelChoice::Named(name) = &source.model {
        let mut config = as_stored(ModelConfig::named(name)?.for_file(naming, dialect)?, params);
        if let Some(found) = stretched(std::iter::once(config.clone()), params).pop() {
            progress.warn(&format!("the checkpoint is {} with {}", config.model, found.changes));
            config = found.config;
        }
        return Ok((config, Found::Named));
    }
    if let Some(config) = recorded {
        if source.dialect.is_none() && config.dialect != naming.dialect() {
            progress.warn(&format!(
                "the weights were published in another form; the graph follows the recorded dialect `{}`, not {naming}'s",
                config.dialect,
            ));
        }
        return Ok((in_dialect(config)?, Found::Recorded));
    }
    let beside = match naming {
        Naming::Transformers => beside(around)?.map(|config| (config, Found::Beside)),
        Naming::OpenClip => match open_clip(around, progress)? {
            Some(config) => Some((as_stored(config, params), Found::OpenClip)),
            None => timm(around, params)?.map(|config| (as_stored(config, params), Found::Beside)),
        },
        Naming::BigVision | Naming::Apple => None,
    };
    if let Some((config, found)) = beside {
        let config = match source.dialect {
            // Only a known model says what other code does with it.
            Some(dialect) => match ModelConfig::named(&config.model) {
                Ok(known) if dialect != config.dialect => as_stored(known.for_file(naming, dialect)?, params),
                _ => config.in_dialect(dialect)?,
            },
            None => config,
        };
        return Ok((config, found));
    }
    let path = checkpoint.path().display().to_string();
    let fits = fitting(params, dialect);
    let mut fits = distinct(fits);
    let mut changes = Vec::new();
    if fits.is_empty() {
        (fits, changes) =
            stretched(candidates(params, dialect), params).into_iter().map(|s| (s.config, s.changes)).unzip();
    }
    let told = |config: &ModelConfig| {
        let changed = fits.iter().zip(&changes).find(|(fit, _)| *fit == config);
        if let Some((_, changes)) = changed {
            progress.warn(&format!("the checkpoint is {} with {changes}", config.model));
        }
    };
    if fits.is_empty() {
        let closest = ranked(params, dialect).first().map_or_else(
            || format!("none is known in dialect {dialect}"),
            |(config, differences)| {
                let shown: Vec<String> = differences.iter().map(Difference::to_string).collect();
                format!("the closest is {}, where {}", config.model, params::keymap::some_of(&shown))
            },
        );
        return Err(Error::NoFit { path, closest });
    }
    if let [config] = &fits[..] {
        told(config);
        return Ok((config.clone(), Found::Shapes));
    }
    let names: Vec<String> = fits.iter().map(with_gelu).collect();
    let Some((config, reason)) = guess(&fits, checkpoint) else {
        return Err(Error::Ambiguous { path, count: names.len(), names: names.join(" and ") });
    };
    progress.warn(&format!(
        "{} have these names and shapes; took {} for {reason}. Name another with {}",
        names.join(" and "),
        config.model,
        Setting::Model
    ));
    told(config);
    Ok((config.clone(), Found::Guessed))
}

/// The activation of a model: of its image tower where it has one.
fn act(config: &ModelConfig) -> Option<Act> {
    config.vision_cfg.as_ref().map(VisionCfg::act).or(config.text_cfg.as_ref().map(TextCfg::act))
}

/// A model's name, and which GELU it has, which weights do not show.
fn with_gelu(config: &ModelConfig) -> String {
    let gelu = match act(config) {
        Some(Act::Gelu) | None => "exact GELU",
        Some(Act::GeluTanh) => "GELU by tanh",
        Some(Act::QuickGelu) => "QuickGELU",
    };
    format!("{} ({gelu})", config.model)
}

/// What shapes do not tell, a file may tell otherwise: OpenAI's archives carry three numbers
/// in the folder of the weights, and their models run QuickGELU; and the file's name may be the model's.
fn guess<'a>(fits: &'a [ModelConfig], checkpoint: &Checkpoint) -> Option<(&'a ModelConfig, &'static str)> {
    let one = |wanted: &dyn Fn(&ModelConfig) -> bool| -> Option<&'a ModelConfig> {
        let mut found = fits.iter().filter(|config| wanted(config));
        found.next().filter(|_| found.next().is_none())
    };
    let openai = checkpoint.tensors().iter().any(|(name, _)| name == "input_resolution");
    if openai {
        return one(&|config| act(config) == Some(Act::QuickGelu))
            .map(|config| (config, "the `input_resolution` that only OpenAI's archives hold"));
    }
    let plain = |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let file = plain(&checkpoint.file_name());
    // The longest name in the file's name: `ViT-B-32-quickgelu` holds `ViT-B-32` too.
    let named = fits.iter().filter(|config| file.contains(&plain(&config.model)));
    let longest = named.max_by_key(|config| config.model.len())?;
    // A name that does not say which GELU leaves that open.
    let acts_agree = fits.iter().all(|config| act(config) == act(longest));
    (acts_agree || longest.model.ends_with("quickgelu")).then_some((longest, "the file's name"))
}

/// The configuration open_clip keeps in the folder of its weights.
fn open_clip(around: &Surroundings, progress: &dyn Progress) -> Result<Option<ModelConfig>, Error> {
    let Some((path, text)) = around.text("open_clip_config.json")? else { return Ok(None) };
    let Some(file) = OpenClipJson::parse(&path, &text)? else { return Ok(None) };
    let (config, notes) = file.model()?;
    notes.iter().for_each(|note| progress.warn(&format!("open_clip_config.json: {note}")));
    Ok(Some(config))
}

/// The configuration timm keeps in the folder of an image tower alone.
fn timm(around: &Surroundings, params: &Params) -> Result<Option<ModelConfig>, Error> {
    if params.has(Modality::Text) {
        return Ok(None);
    }
    let Some((path, text)) = around.text("config.json")? else { return Ok(None) };
    Ok(config::timm_model(&path, &text)?)
}

/// The configuration transformers keeps in the folder of its weights.
fn beside(around: &Surroundings) -> Result<Option<ModelConfig>, Error> {
    let Some((path, text)) = around.text("config.json")? else { return Ok(None) };
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        Error::from(config::Error::Parse { path: path.clone(), field: "the file".to_owned(), error })
    })?;
    if json.get("vision_cfg").is_some() {
        return Ok(None);
    }
    let config = ModelConfig::from_transformers(&path, &text)?;
    config.map(Some).ok_or_else(|| {
        let problem = Problem {
            field: "model_type".to_owned(),
            found: "absent".to_owned(),
            expected:
                "clip, siglip or siglip2; restore the published file, or choose the model by name or with a configuration file"
                    .to_owned(),
        };
        config::Error::Transformers { path, problem }.into()
    })
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
    /// The model has a tensor that the checkpoint does not store.
    Missing {
        /// Canonical name of the tensor, such as `visual.head.weight`.
        name: String,
        /// Its shape by the model.
        expected: Vec<usize>,
    },
    /// The checkpoint stores a tensor that the model does not have.
    Unexpected {
        /// Canonical name of the tensor.
        name: String,
        /// Its shape in the checkpoint.
        found: Vec<usize>,
    },
    /// A tensor has another shape.
    Shape {
        /// Canonical name of the tensor.
        name: String,
        /// Its shape in the checkpoint.
        found: Vec<usize>,
        /// Its shape by the model.
        expected: Vec<usize>,
    },
    /// An attention layer has another number of heads, where the checkpoint's shapes reveal it.
    Heads {
        /// Canonical name of the tensor.
        name: String,
        /// Heads in the checkpoint.
        found: usize,
        /// Heads by the model.
        expected: usize,
    },
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
    // Towers need no numbers for logits.
    let numbers = ["logit_scale", "logit_bias"];
    let has_numbers = numbers.iter().any(|name| params.holds(name));
    let wanted = wanted.into_iter().filter(|(name, _)| has_numbers || !numbers.contains(&name.as_str()));
    out.extend(wanted.map(|(name, w)| Difference::Missing { name, expected: w.shape }));
    out
}

/// A known model whose branches the authors' or timm's tool has folded already, if the file has the
/// folded names. Which it is, is a matter of how the model is stored, as its naming is.
fn as_stored(mut config: ModelConfig, params: &Params) -> ModelConfig {
    let has = |name: &str| params.tensors().any(|(stored, _)| stored == name);
    if has("visual.stem.0.reparam_conv.weight") {
        config.fold_image_branches();
    }
    if has("text.blocks.0.token_mixer.reparam_conv.weight") {
        config.fold_text_branches();
    }
    config
}

/// Known models in `dialect`, as this naming stores them.
fn candidates(params: &Params, dialect: Dialect) -> impl Iterator<Item = ModelConfig> {
    let in_dialect = known().filter_map(move |config| config.for_file(params.naming(), dialect).ok());
    let of_towers = in_dialect.map(|mut config| {
        Modality::ALL.into_iter().filter(|tower| !params.has(*tower)).for_each(|tower| config.remove(tower));
        config
    });
    of_towers.map(|config| as_stored(config, params))
}

/// Those that have exactly these parameters.
fn fitting(params: &Params, dialect: Dialect) -> Vec<ModelConfig> {
    let shape = |name: &str| params.shapes().find(|(stored, _)| *stored == name).map(|(_, shape)| shape);
    // One shape rules most out, before any tower is built to compare the rest.
    let tokens = shape("text.token_embedding.weight");
    let likely = |config: &ModelConfig| {
        let (Some(tokens), Some(text)) = (&tokens, &config.text_cfg) else { return true };
        *tokens == [text.vocab_size, text.blocks().width]
    };
    candidates(params, dialect).filter(|config| likely(config) && differences(config, params).is_empty()).collect()
}

/// Without those that differ from an earlier one in nothing that a tower alone has.
fn distinct(fits: Vec<ModelConfig>) -> Vec<ModelConfig> {
    let mut out: Vec<ModelConfig> = vec![];
    for config in fits {
        let same = |other: &ModelConfig| {
            let alone = !config.has(Modality::Image) || !config.has(Modality::Text);
            alone && (&other.vision_cfg, &other.text_cfg) == (&config.vision_cfg, &config.text_cfg)
        };
        if !out.iter().any(same) {
            out.push(config);
        }
    }
    out
}

/// Every known model, those that differ least first.
pub fn ranked(params: &Params, dialect: Dialect) -> Vec<(ModelConfig, Vec<Difference>)> {
    let compared = |config: ModelConfig| {
        let differences = differences(&config, params);
        (config, differences)
    };
    let mut out: Vec<_> = candidates(params, dialect).map(compared).collect();
    out.sort_by_key(|(_, differences)| differences.len());
    out
}
