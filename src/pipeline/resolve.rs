//! The rule book: what of a request does not go together, and what is done once the model is known.
//!
//! [`Export::check`] needs the request alone and runs first; [`Export::resolve`] adds the rules that depend on the
//! model and gives a [`Recipe`], in which nothing contradicts. No later step looks at the request.

use std::borrow::Cow;

use super::request::{Artifacts, Export, TokenType};
use super::{Error, request};
use crate::config::ModelConfig;
use crate::layout::Layout;
use crate::onnx::Target;
use crate::onnx::write::ExternalData;
use crate::ports::{PixelFormat, Ports};
use crate::precision::{self, Precision};
use crate::setting::Setting;
use crate::towers::Build;
use crate::verify;

mod conflicts;

pub use conflicts::Instead;
use conflicts::{CONFLICTS, Conflict, OF_MODELS, When};

/// What is done, once the model is known.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub artifacts: Artifacts,
    /// How graphs are written.
    pub build: Build,
    pub layout: Layout,
    pub demo: bool,
    pub precisions: Vec<Precision>,
    /// How weights are quantised.
    pub quantize: precision::Options,
    /// How far below 1 cosines may be, where that was said.
    pub max_drop: Option<f64>,
    pub external: ExternalData,
    /// SHA-256 sums of the checkpoint and of every file.
    pub hash: bool,
}

/// A request and, once it is known, the model.
struct Asked<'a> {
    request: &'a Export,
    config: Option<&'a ModelConfig>,
}

impl Asked<'_> {
    fn layout(&self) -> Layout {
        self.request.layout.layout
    }

    fn is_naflex(&self) -> bool {
        self.config.is_some_and(ModelConfig::takes_patches)
    }

    /// Whether images are asked for in another form than the layout's runtime feeds.
    fn feeds_other_pixels(&self) -> bool {
        // Families differ in the names of outputs alone.
        let own = self.layout().ports(crate::config::Family::Clip).pixels;
        self.request.graph.pixels.is_some_and(|pixels| pixels != own)
    }

    /// Whether the layout's runtime feeds int32, and int64 was asked for.
    fn feeds_other_tokens(&self) -> bool {
        let own = self.layout().ports(crate::config::Family::Clip).int32;
        own && self.request.graph.tokens == Some(TokenType::Int64)
    }

    /// Whether the condition holds for no precision that is asked for.
    fn none_is(&self, condition: fn(Precision) -> bool) -> bool {
        !self.request.precision.precisions.iter().any(|precision| condition(*precision))
    }

    /// Whether a setting has another value than the one it has where nothing is said.
    fn is_given(&self, setting: Setting) -> bool {
        let Export { source, output, graph, precision, layout, proof } = self.request;
        match setting {
            Setting::Checkpoint | Setting::Folder => true,
            Setting::Model => self.config.is_some(),
            Setting::Config => source.config_file().is_some(),
            Setting::Dialect => source.dialect.is_some(),
            Setting::WeightsPrefix => source.weights_prefix.is_some(),
            Setting::Only => source.only.is_some(),
            Setting::Adapter => !source.adapters.is_empty(),
            Setting::ImageSize => source.image_size.is_some(),
            Setting::Tokenizer => source.tokenizer.is_some(),
            Setting::Replace => output.replace,
            Setting::Hash => !output.hash,
            Setting::ExternalData => output.external_data,
            Setting::Target => graph.target.profile.static_batch && graph.batch.is_none(),
            Setting::Opset => true,
            Setting::Combined => graph.artifacts == Artifacts::Combined,
            Setting::ZeroShot => matches!(graph.artifacts, Artifacts::ZeroShot(_)),
            Setting::Batch => graph.batch.is_some(),
            Setting::DynamicText => graph.dynamic_text,
            Setting::Normalize => graph.normalize == Some(false),
            Setting::Pixels => {
                graph.pixels.is_some_and(|pixels| pixels != PixelFormat::Float) || self.feeds_other_pixels()
            }
            Setting::Resize => graph.pixels.is_some_and(PixelFormat::resizes),
            Setting::Tokens => graph.tokens.is_some(),
            Setting::Outputs => graph.outputs != request::ExtraOutputs::default(),
            Setting::Precisions => true,
            Setting::Exclude => !precision.exclude.is_empty(),
            Setting::AutoExclude => !precision.auto_exclude,
            Setting::ReduceRange => precision.reduce_range,
            Setting::ZeroPoints => precision.zero_points,
            Setting::Calibrate => precision.calibrate.is_some(),
            Setting::MaxDrop => precision.max_drop.is_some(),
            Setting::Layout => layout.layout != Layout::Plain,
            Setting::Demo => layout.demo,
            Setting::Verify => !proof.verify,
            Setting::Bench => proof.bench,
            Setting::Engines => !proof.engines.kinds.is_empty(),
            Setting::Library => proof.engines.library.is_some(),
            Setting::Reference => proof.reference.is_some(),
            Setting::Batches => proof.batches.is_some(),
        }
    }

    /// The value of a setting, where errors should name it.
    fn value(&self, setting: Setting) -> Option<String> {
        match setting {
            Setting::Target => Some(self.request.graph.target.profile.name.to_owned()),
            Setting::Layout => Some(self.layout().name().to_owned()),
            Setting::Opset => Some(self.request.graph.target.opset.to_string()),
            Setting::Precisions => {
                Some(self.request.precision.precisions.iter().map(|p| p.name()).collect::<Vec<_>>().join(","))
            }
            Setting::Batch => self.request.graph.batch.map(|rows| rows.to_string()),
            Setting::Model => self.config.map(|config| config.model.clone()),
            _ => None,
        }
    }

    fn error(&self, [a, b]: [Setting; 2], reason: Cow<'static, str>, instead: Option<Instead>) -> Error {
        let given = |setting| Given { setting, value: self.value(setting) };
        Error::Conflict { a: given(a), b: given(b), reason, instead }
    }

    /// The first thing that does not go together.
    fn check(&self) -> Result<(), Error> {
        for Conflict { a, b, when, reason, instead } in CONFLICTS {
            let holds = match when {
                When::Always => true,
                When::If(condition) => condition(self),
            };
            if self.is_given(*a) && self.is_given(*b) && holds {
                return Err(self.error([*a, *b], Cow::Borrowed(reason), *instead));
            }
        }
        let Some(config) = self.config else { return Ok(()) };
        for (a, b, reason) in OF_MODELS {
            if self.is_given(*a)
                && let Some(reason) = reason(self, config)
            {
                return Err(self.error([*a, *b], Cow::Owned(reason), None));
            }
        }
        Ok(())
    }
}

/// A setting as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The setting.
    pub setting: Setting,
    /// Where the value matters, such as a target's name.
    pub value: Option<String>,
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            // It may have been detected.
            Some(model) if self.setting == Setting::Model => write!(f, "the model {model}"),
            Some(value) => write!(f, "{} {value}", self.setting),
            None => write!(f, "{}", self.setting),
        }
    }
}

impl Export {
    /// Refuses what does not go together whatever the model is, and proof of nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`], or [`Error::Empty`] for a list that has to hold something.
    pub(super) fn check(&self) -> Result<(), Error> {
        let batches = self.proof.batch_sizes();
        if self.graph.batch.is_some_and(|rows| !verify::are_batches(&[rows])) {
            return Err(Error::Empty { setting: Setting::Batch, expected: "1 to 4096 rows" });
        }
        if !verify::are_batches(batches) {
            return Err(Error::Empty { setting: Setting::Batches, expected: verify::USABLE_BATCHES });
        }
        if self.precision.max_drop.is_some_and(|drop| !verify::is_drop(drop)) {
            return Err(Error::Empty { setting: Setting::MaxDrop, expected: verify::USABLE_DROPS });
        }
        let target = self.graph.target;
        if Target::with_opset(target.profile, target.opset).is_none() {
            return Err(Error::Empty { setting: Setting::Opset, expected: "an operator set of the target" });
        }
        let precisions = &self.precision.precisions;
        if precisions.iter().enumerate().any(|(at, precision)| precisions[..at].contains(precision)) {
            return Err(Error::Empty { setting: Setting::Precisions, expected: "each precision once" });
        }
        if precisions.is_empty() {
            return Err(Error::Empty { setting: Setting::Precisions, expected: "one precision at least" });
        }
        if self.precision.exclude.iter().any(String::is_empty) {
            return Err(Error::Empty { setting: Setting::Exclude, expected: "a part of layers' names" });
        }
        Asked { request: self, config: None }.check()
    }

    /// Whether files are run: for proof, to calibrate, or for the embeddings of labels.
    pub(super) fn runs(&self) -> bool {
        let zero_shot = matches!(self.graph.artifacts, Artifacts::ZeroShot(_));
        self.proof.verify || zero_shot || self.calibrates()
    }

    /// Whether files are run before they are written.
    pub(super) fn calibrates(&self) -> bool {
        self.precision.calibrate.is_some() || self.precision.max_drop.is_some()
    }

    /// What is done for this model.
    ///
    /// # Errors
    /// [`Error::Conflict`].
    pub(super) fn resolve(&self, config: &ModelConfig) -> Result<Recipe, Error> {
        Asked { request: self, config: Some(config) }.check()?;
        let Export { graph, precision, layout, output, .. } = self;
        let options = &precision;
        Ok(Recipe {
            artifacts: graph.artifacts.clone(),
            build: self.build(config),
            layout: layout.layout,
            demo: layout.demo,
            precisions: options.precisions.clone(),
            quantize: precision::Options {
                exclude: options.exclude.clone(),
                auto_exclude: options.auto_exclude,
                measured: vec![],
                reduce_range: options.reduce_range,
                zero_points: options.zero_points,
            },
            max_drop: options.max_drop,
            external: if output.external_data || graph.target.profile.external_data {
                ExternalData::Always
            } else {
                ExternalData::Auto
            },
            hash: output.hash,
        })
    }

    /// How graphs are written: names and types as the layout has them for a model of this family, and what was asked
    /// for besides.
    fn build(&self, config: &ModelConfig) -> Build {
        let (graph, layout) = (&self.graph, self.layout.layout);
        let batch = graph.batch.or(graph.target.profile.static_batch.then_some(1));
        let one_file = graph.artifacts != Artifacts::Towers;
        let own = layout.ports(config.family);
        let names = if one_file { Ports::PLAIN } else { own };
        // Other runtimes feed their own type of ids, whatever the target.
        let by_target = matches!(layout, Layout::Plain | Layout::OpenClip) && graph.target.profile.int32_tokens;
        let pixels = match (graph.pixels.unwrap_or(own.pixels), batch) {
            // Every axis is fixed then, and so is the number of channels.
            (PixelFormat::Bytes { last, resize, .. }, Some(_)) => PixelFormat::Bytes { last, alpha: false, resize },
            (pixels, _) => pixels,
        };
        Build {
            target: graph.target,
            ports: Ports {
                image_embeds: names.image_embeds,
                text_embeds: names.text_embeds,
                pixels,
                int32: graph.tokens.map_or(own.int32 || by_target, |tokens| tokens == TokenType::Int32),
                hidden: !one_file && (own.hidden || graph.outputs.hidden),
                patches: graph.outputs.patches,
                ..own
            },
            batch,
            normalize: one_file || layout.normalizes().or(graph.normalize).unwrap_or(true),
            fold: graph.savings.fold,
            last_block: graph.savings.last_block,
            map_query: graph.savings.map_query,
            text_cut: graph.savings.text_cut,
            // The runtimes of this layout pad CLIP's texts to the longest of a batch.
            dynamic_text: graph.dynamic_text || (layout == Layout::Hf && batch.is_none()),
            plain_depthwise: graph.savings.plain_depthwise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::labels::{Template, ZeroShot};
    use super::*;
    use crate::onnx::Target;
    use crate::onnx::target::{MOBILE, PORTABLE};

    /// A request that gives a setting.
    fn give(request: &mut Export, setting: Setting) {
        let bytes = |resize| Some(PixelFormat::Bytes { last: true, alpha: true, resize });
        match setting {
            Setting::Batch => request.graph.batch = Some(2),
            Setting::Target => request.graph.target = Target::new(&MOBILE),
            Setting::Opset => request.graph.target = Target::new(&PORTABLE),
            Setting::DynamicText => request.graph.dynamic_text = true,
            Setting::Normalize => request.graph.normalize = Some(false),
            Setting::Pixels => request.graph.pixels = bytes(false),
            Setting::Resize => {
                request.graph.pixels = bytes(true);
                if request.graph.target == Target::default() {
                    request.graph.target = Target::with_opset(&PORTABLE, 18).unwrap();
                }
            }
            Setting::Tokens => request.graph.tokens = Some(TokenType::Int64),
            Setting::Outputs => request.graph.outputs.patches = true,
            Setting::Combined => request.graph.artifacts = Artifacts::Combined,
            Setting::ZeroShot => {
                let template = Template::new(Template::DEFAULT).unwrap();
                request.graph.artifacts = Artifacts::ZeroShot(ZeroShot::new(["cat"], [template]).unwrap());
            }
            Setting::Precisions => request.precision.precisions = vec![Precision::Fp32],
            Setting::Exclude => request.precision.exclude = vec!["attn".to_owned()],
            Setting::AutoExclude => request.precision.auto_exclude = false,
            Setting::ReduceRange => request.precision.reduce_range = true,
            Setting::ZeroPoints => request.precision.zero_points = true,
            Setting::Calibrate => request.precision.calibrate = Some("inputs.npz".into()),
            Setting::MaxDrop => request.precision.max_drop = Some(0.01),
            Setting::Layout => request.layout.layout = Layout::Immich,
            Setting::Demo => request.layout.demo = true,
            Setting::Verify => request.proof.verify = false,
            Setting::Bench => request.proof.bench = true,
            Setting::Engines => request.proof.engines.kinds = vec![crate::engine::EngineKind::Tract],
            Setting::Library => request.proof.engines.library = Some("libonnxruntime.so".into()),
            Setting::Reference => request.proof.reference = Some("reference.npz".into()),
            Setting::Batches => request.proof.batches = Some(vec![3]),
            Setting::Model => {}
            other => panic!("no rule speaks of {other}"),
        }
    }

    fn request() -> Export {
        // Of float32 alone many settings are refused.
        Export::new("model.npz", "out").precisions([Precision::Int8, Precision::Int4])
    }

    #[test]
    fn every_conflict_is_refused_by_its_two_settings() {
        let naflex = ModelConfig::named("ViT-B-16-SigLIP2-NaFlex").unwrap();
        for Conflict { a, b, .. } in CONFLICTS {
            let mut asked = request();
            give(&mut asked, *a);
            give(&mut asked, *b);
            let error = if *b == Setting::Model { asked.resolve(naflex).map(|_| ()) } else { asked.check() };
            let Err(Error::Conflict { a: first, b: second, reason, .. }) = error else {
                panic!("{a} and {b} are not refused")
            };
            // What also gives another setting of the table may be refused by an earlier row of it.
            let found = [first.setting, second.setting];
            assert!(found.contains(a) || found.contains(b), "{a} and {b}: {found:?}, {reason}");
        }
    }

    #[test]
    fn no_setting_alone_is_refused() {
        let config = ModelConfig::named("ViT-B-32").unwrap();
        for setting in CONFLICTS.iter().flat_map(|conflict| [conflict.a, conflict.b]) {
            let mut asked = request();
            give(&mut asked, setting);
            assert!(asked.resolve(config).is_ok(), "{setting}: {:?}", asked.resolve(config).err());
        }
    }

    #[test]
    fn what_no_precision_uses_is_refused() {
        let rows: [(Setting, &[Precision], &[Precision]); 6] = [
            (Setting::Exclude, &[Precision::Fp32, Precision::Fp16], &[Precision::Fp16Weights]),
            (Setting::AutoExclude, &[Precision::Fp16, Precision::Fp16Weights], &[Precision::Int8Weights]),
            (Setting::ReduceRange, &[Precision::Int8Weights, Precision::Int4], &[Precision::Int8]),
            (Setting::ZeroPoints, &[Precision::Fp16, Precision::Int8], &[Precision::Int4Fp16]),
            (Setting::Calibrate, &[Precision::Fp32, Precision::Fp16Weights], &[Precision::Int4]),
            (Setting::MaxDrop, &[Precision::Fp32], &[Precision::Fp16]),
        ];
        for (setting, without, with) in rows {
            let mut asked = request().precisions(without.iter().copied());
            give(&mut asked, setting);
            assert!(matches!(asked.check(), Err(Error::Conflict { b, .. }) if b.setting == setting), "{setting}");
            asked = asked.precisions(with.iter().copied());
            assert!(asked.check().is_ok(), "{setting}");
        }
        let mut fixed = request();
        fixed.graph.batch = Some(2);
        fixed.proof.batches = Some(vec![2]);
        assert!(fixed.check().is_ok());
    }

    #[test]
    fn proof_of_nothing_is_an_error() {
        let mut asked = request();
        asked.proof.batches = Some(vec![]);
        assert!(matches!(asked.check(), Err(Error::Empty { setting: Setting::Batches, .. })));
        asked.proof.batches = Some(vec![0]);
        assert!(matches!(asked.check(), Err(Error::Empty { setting: Setting::Batches, .. })));
        asked.proof.batches = Some(vec![usize::MAX]);
        assert!(matches!(asked.check(), Err(Error::Empty { setting: Setting::Batches, .. })));
        for drop in [0.0, -1.0, 5.0, f64::NAN, f64::INFINITY] {
            let mut asked = request().precisions([Precision::Int8]);
            asked.precision.max_drop = Some(drop);
            assert!(matches!(asked.check(), Err(Error::Empty { setting: Setting::MaxDrop, .. })), "{drop}");
        }
        let mut asked = request();
        asked.graph.target.opset = 99;
        assert!(matches!(asked.check(), Err(Error::Empty { setting: Setting::Opset, .. })));
        let twice = request().precisions([Precision::Int8, Precision::Int8]);
        assert!(matches!(twice.check(), Err(Error::Empty { setting: Setting::Precisions, .. })));
        assert!(matches!(request().precisions([]).check(), Err(Error::Empty { setting: Setting::Precisions, .. })));
    }

    #[test]
    fn one_file_with_both_towers_is_normalised_and_named_plainly() {
        let config = ModelConfig::named("ViT-B-16-SigLIP").unwrap();
        let mut asked = request().layout(Layout::Hf);
        asked.graph.artifacts = Artifacts::Combined;
        let build = asked.resolve(config).unwrap().build;
        assert!(build.normalize && !build.ports.hidden);
        assert_eq!(build.ports.image_embeds, Ports::PLAIN.image_embeds);
        let towers = request().layout(Layout::Hf).resolve(config).unwrap().build;
        assert!(!towers.normalize && towers.ports.hidden && towers.dynamic_text);
    }
}
