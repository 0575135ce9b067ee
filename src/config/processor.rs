//! transformers' image processors: `preprocessor_config.json`, and `image_processor` of `processor_config.json`.
//!
//! Fields and their defaults: transformers `image_processing_backends.py` and
//! `models/*/image_processing_*.py`.

use serde_json::Value;

use super::check::Problem;
use super::{Dialect, Error, ImageInput, Interpolation, ModelConfig, NAFLEX_PATCHES, PreprocessCfg, ResizeMode};

/// Fields that do not change the pixels of one photograph.
const IDLE: &[&str] = &[
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_processor_class",
    "auto_map",
    "_valid_processor_keys",
    "_valid_kwargs_names",
    "input_data_format",
    "device",
    "return_tensors",
    "disable_grouping",
    "image_seq_length",
    "model_input_names",
    "transformers_version",
];

/// A class of image processors, with its defaults.
struct Class {
    name: &'static str,
    size: Size,
    /// None where the class crops only if `do_center_crop` is given.
    crop_size: Option<[usize; 2]>,
    cfg: fn() -> PreprocessCfg,
}

fn bilinear() -> PreprocessCfg {
    PreprocessCfg { interpolation: Interpolation::Bilinear, ..PreprocessCfg::siglip() }
}

/// The shorter side, then a crop: CLIP's class and those that copy it.
const fn like_clip(name: &'static str) -> Class {
    Class { name, size: Size::Shortest(224, None), crop_size: Some([224, 224]), cfg: PreprocessCfg::clip }
}

/// Both sides, without a crop: SigLIP's class and those like it.
const fn like_siglip(name: &'static str, cfg: fn() -> PreprocessCfg) -> Class {
    Class { name, size: Size::Both([224, 224]), crop_size: None, cfg }
}

const CLASSES: &[Class] = &[
    like_clip("CLIP"),
    like_clip("Bit"),
    like_clip("ChineseCLIP"),
    like_siglip("Siglip", PreprocessCfg::siglip),
    like_siglip("ViT", bilinear),
    like_siglip("Siglip2", PreprocessCfg::naflex),
];

/// What an image is resized to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    Both([usize; 2]),
    /// The shorter side, and the limit of the longer one.
    Shortest(usize, Option<usize>),
}

/// The file, with its path for error messages.
struct File<'a> {
    origin: &'a str,
    json: &'a Value,
}

impl File<'_> {
    fn wrong(&self, field: &str, found: impl ToString, expected: impl Into<String>) -> Error {
        let problem = Problem { field: field.to_owned(), found: found.to_string(), expected: expected.into() };
        Error::Pixels { path: self.origin.to_owned(), problem }
    }

    /// A field that is given, and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|value| !value.is_null())
    }

    /// `null` is false, as in transformers; a field that is left out has the class's default.
    fn flag(&self, name: &str, default: bool) -> Result<bool, Error> {
        match self.json.get(name) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, value, "true or false")),
        }
    }

    /// Refuses null for a field that is needed: transformers has no value for it either.
    fn given(&self, name: &str) -> Result<(), Error> {
        let is_null = self.json.get(name).is_some_and(Value::is_null);
        if is_null { Err(self.wrong(name, "null", "a value, as the step that needs it is done")) } else { Ok(()) }
    }

    /// Three numbers, or one for all three channels.
    fn three(&self, name: &str, good: fn(f64) -> bool, expected: &str) -> Result<Option<[f64; 3]>, Error> {
        let Some(found) = self.get(name) else { return Ok(None) };
        let values: Option<Vec<f64>> = match found {
            Value::Array(values) => values.iter().map(Value::as_f64).collect(),
            one => one.as_f64().map(|value| vec![value; 3]),
        };
        let values: Option<[f64; 3]> = values.and_then(|values| values.try_into().ok());
        let values = values.filter(|values| values.iter().all(|&value| good(value)));
        values.map(Some).ok_or_else(|| self.wrong(name, found, expected))
    }

    /// A side in pixels.
    fn side(&self, name: &str, value: &Value) -> Result<usize, Error> {
        let side = value.as_u64().and_then(|side| usize::try_from(side).ok());
        let side = side.or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as usize));
        let good = side.filter(|side| (1..=1 << 14).contains(side));
        good.ok_or_else(|| self.wrong(name, value, "an integer of pixels from 1 to 16384"))
    }

    /// `size`, `crop_size` or `pad_size` in any of the forms they come in.
    fn size(&self, name: &str, square: bool) -> Result<Option<Size>, Error> {
        let expected = "a number, two numbers, {height, width}, {shortest_edge} or {shortest_edge, longest_edge}";
        let Some(found) = self.get(name) else { return Ok(None) };
        let side = |key: &str, value: &Value| self.side(&format!("{name}.{key}"), value);
        Ok(Some(match found {
            Value::Number(_) if square => Size::Both([self.side(name, found)?; 2]),
            Value::Number(_) => Size::Shortest(self.side(name, found)?, None),
            Value::Array(sides) => match &sides[..] {
                [height, width] => Size::Both([side("0", height)?, side("1", width)?]),
                _ => return Err(self.wrong(name, found, expected)),
            },
            Value::Object(fields) => {
                let mut keys: Vec<&str> =
                    fields.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str()).collect();
                keys.sort_unstable();
                let of = |key: &str| side(key, &fields[key]);
                match keys[..] {
                    ["height", "width"] => Size::Both([of("height")?, of("width")?]),
                    ["shortest_edge"] => Size::Shortest(of("shortest_edge")?, None),
                    ["longest_edge", "shortest_edge"] => {
                        Size::Shortest(of("shortest_edge")?, Some(of("longest_edge")?))
                    }
                    ["longest_edge"] => {
                        let expected = "shortest_edge beside it: transformers resizes by longest_edge alone nowhere";
                        return Err(self.wrong(name, found, expected));
                    }
                    _ => return Err(self.wrong(name, found, expected)),
                }
            }
            _ => return Err(self.wrong(name, found, expected)),
        }))
    }
}

/// The preprocessing of an image processor's file, for the towers of `config`; and warnings for the user.
/// `json` is `preprocessor_config.json`, or `processor_config.json` with `image_processor` in it; None where it has no
/// image processor.
///
/// # Errors
/// [`Error::Pixels`] for a field or a value that cannot be followed, naming `origin`.
pub fn processor(
    origin: &str,
    json: &Value,
    config: &ModelConfig,
) -> Result<Option<(PreprocessCfg, Vec<String>)>, Error> {
    let nested = json.get("image_processor").filter(|value| value.is_object());
    let json = match nested {
        Some(nested) => nested,
        // `processor_config.json` as transformers 4 leaves it, which has no image processor in it.
        None if origin.ends_with("processor_config.json") && !origin.ends_with("preprocessor_config.json") => {
            return Ok(None);
        }
        None if json.is_object() => json,
        None => {
            let file = File { origin, json };
            return Err(file.wrong("the file", "no object", "the fields of an image processor"));
        }
    };
    let file = File { origin, json };
    let named = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| file.get(key));
    let class = class(&file, named, config)?;
    let naflex = class.name == "Siglip2";
    let Some(vision) = &config.vision_cfg else { return Ok(None) };
    if naflex != vision.input().is_patches() {
        let expected = if naflex { "a processor of images of one size" } else { "Siglip2ImageProcessor" };
        return Err(file.wrong("image_processor_type", class.name, expected));
    }
    let mut notes = Vec::new();
    let mut cfg = PreprocessCfg { max_patches: None, ..(class.cfg)() };
    cfg.code = (config.dialect != Dialect::Transformers).then_some(Dialect::Transformers);
    unknown(&file, naflex)?;

    if !file.flag("do_convert_rgb", true)? {
        notes.push("do_convert_rgb is false: photographs that are not RGB are converted all the same".to_owned());
    }
    numbers(&file, &mut cfg)?;
    if let Some(found) = file.get("resample") {
        let filter = found.as_u64().and_then(|n| Interpolation::ALL.get(usize::try_from(n).ok()?).copied());
        cfg.interpolation =
            filter.ok_or_else(|| file.wrong("resample", found, "Pillow's number of a filter, 0 to 5"))?;
    }
    match vision.input() {
        ImageInput::Patches { size } => patches(&file, &mut cfg, size)?,
        ImageInput::Pixels(size) => sizes(&file, &mut cfg, class, size)?,
    }
    cfg = cfg.with_value_range();
    cfg.check().map_err(|problem| Error::Pixels { path: origin.to_owned(), problem })?;
    Ok(Some((cfg, notes)))
}

fn class(file: &File, named: Option<&Value>, config: &ModelConfig) -> Result<&'static Class, Error> {
    let by_name = |name: &str| CLASSES.iter().find(|class| class.name == name);
    let Some(found) = named else {
        let name = match (config.takes_patches(), config.family.is_siglip()) {
            (true, _) => "Siglip2",
            (false, true) => "Siglip",
            (false, false) => "CLIP",
        };
        return Ok(by_name(name).unwrap_or(&CLASSES[0]));
    };
    let text = found.as_str().unwrap_or_default();
    let stem = ["ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor"]
        .iter()
        .find_map(|end| text.strip_suffix(end));
    stem.and_then(by_name).ok_or_else(|| {
        let names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
        file.wrong("image_processor_type", found, format!("an ImageProcessor of {}", names.join(", ")))
    })
}

/// Refuses unknown fields: none is ignored.
fn unknown(file: &File, naflex: bool) -> Result<(), Error> {
    const FOLLOWED: &[&str] = &[
        "do_convert_rgb",
        "do_resize",
        "size",
        "default_to_square",
        "use_square_size",
        "resample",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "do_pad",
        "pad_size",
        "data_format",
    ];
    const OF_NAFLEX: &[&str] = &["patch_size", "max_num_patches"];
    let known = |name: &str| FOLLOWED.contains(&name) || IDLE.contains(&name) || (naflex && OF_NAFLEX.contains(&name));
    for (name, value) in file.json.as_object().into_iter().flatten() {
        let idle = value.is_null() || *value == Value::Bool(false);
        if !known(name) && !idle {
            return Err(file.wrong(name, value, "no such field: it is not followed"));
        }
    }
    match file.get("data_format").and_then(Value::as_str) {
        None | Some("channels_first") => Ok(()),
        Some(other) => Err(file.wrong("data_format", other, "channels_first")),
    }
}

/// `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean` and `image_std`.
fn numbers(file: &File, cfg: &mut PreprocessCfg) -> Result<(), Error> {
    let mean = file.three("image_mean", f64::is_finite, "three numbers, or one")?;
    let std = file.three("image_std", |v| v.is_finite() && v > 0.0, "three numbers above 0, or one")?;
    (cfg.mean, cfg.std) = (mean.unwrap_or(cfg.mean), std.unwrap_or(cfg.std));
    if file.flag("do_normalize", true)? {
        file.given("image_mean").and_then(|()| file.given("image_std"))?;
    } else {
        (cfg.mean, cfg.std) = ([0.0; 3], [1.0; 3]);
    }
    let factor = file.get("rescale_factor").map(|found| {
        let factor = found.as_f64().filter(|factor| factor.is_finite() && *factor > 0.0);
        factor.ok_or_else(|| file.wrong("rescale_factor", found, "a number above 0"))
    });
    let factor = factor.transpose()?.unwrap_or(1.0 / 255.0);
    let rescales = file.flag("do_rescale", true)?;
    if rescales {
        file.given("rescale_factor")?;
    }
    let factor = if rescales { factor } else { 1.0 };
    // 1/255, in whatever number of digits the file has.
    cfg.rescale_factor = ((factor * 255.0 - 1.0).abs() > 1e-9).then_some(factor);
    Ok(())
}

/// `do_resize`, `size`, `do_center_crop`, `crop_size`, `do_pad` and `pad_size`, which together give the tower's size.
fn sizes(file: &File, cfg: &mut PreprocessCfg, class: &Class, tower: [usize; 2]) -> Result<(), Error> {
    let named = |[height, width]: [usize; 2]| format!("{height}x{width}");
    let found = |name: &str, sides: [usize; 2]| {
        let by_default = if file.get(name).is_none() { ", by the processor's default" } else { "" };
        format!("{}{by_default}", named(sides))
    };
    let square = file.flag("default_to_square", false)? || file.flag("use_square_size", false)?;
    let size = file.size("size", square)?.unwrap_or(class.size);
    let crop = match file.size("crop_size", true)? {
        Some(Size::Both(sides)) => Some(sides),
        Some(Size::Shortest(..)) => {
            return Err(file.wrong("crop_size", &file.json["crop_size"], "a number, or {height, width}"));
        }
        None => class.crop_size,
    };
    let crops = file.flag("do_center_crop", class.crop_size.is_some())?;
    if crops {
        file.given("crop_size")?;
    }
    let crop = match crop {
        Some(sides) if crops => Some(sides),
        None if crops => return Err(file.wrong("crop_size", "absent", "given with do_center_crop")),
        _ => None,
    };
    if let Some(sides) = crop.filter(|sides| *sides != tower) {
        return Err(file.wrong(
            "crop_size",
            found("crop_size", sides),
            format!("the {} that the tower takes", named(tower)),
        ));
    }
    if file.flag("do_pad", false)? {
        match file.size("pad_size", true)? {
            // After the crop there is nothing to pad.
            None => {}
            Some(Size::Both(sides)) if sides == tower => {}
            _ => {
                let expected = format!("the {} that the tower takes, or none", named(tower));
                return Err(file.wrong("pad_size", &file.json["pad_size"], expected));
            }
        }
    }
    let resizes = file.flag("do_resize", true)?;
    if resizes {
        file.given("size").and_then(|()| file.given("resample"))?;
    }
    (cfg.resize_mode, cfg.resize_to, cfg.longest_edge, cfg.crop) = match (resizes, size, crop) {
        (false, _, crop) => (ResizeMode::None, None, None, crop.is_some()),
        (true, Size::Both(sides), None) if sides != tower => {
            let expected = format!("the {} that the tower takes, or a do_center_crop", named(tower));
            return Err(file.wrong("size", found("size", sides), expected));
        }
        (true, Size::Both(sides), _) => (ResizeMode::Squash, Some(sides).filter(|s| *s != tower), None, true),
        (true, Size::Shortest(..), None) => {
            let expected = "true: without a crop images of other shapes than the tower's come out".to_owned();
            return Err(file.wrong("do_center_crop", "false beside size.shortest_edge", expected));
        }
        (true, Size::Shortest(side, longest), Some(_)) => {
            // The shorter side only, as in the file, where the tower is not square.
            let to = Some([side; 2]).filter(|to| *to != tower);
            (ResizeMode::Shortest, to, longest, true)
        }
    };
    Ok(())
}

/// NaFlex's `patch_size` and `max_num_patches`.
fn patches(file: &File, cfg: &mut PreprocessCfg, tower: usize) -> Result<(), Error> {
    if !file.flag("do_resize", true)? {
        return Err(file.wrong("do_resize", false, "true: patches are made of resized images"));
    }
    for flag in ["do_center_crop", "do_pad"] {
        if file.flag(flag, false)? {
            return Err(file.wrong(flag, true, "false: patches are made of whole images"));
        }
    }
    let patch = file.get("patch_size").map_or(Ok(16), |found| file.side("patch_size", found))?;
    if patch != tower {
        return Err(file.wrong("patch_size", patch, format!("the {tower} that the tower takes")));
    }
    if let Some(found) = file.get("max_num_patches") {
        cfg.max_patches = Some(file.side("max_num_patches", found)?).filter(|most| *most != NAFLEX_PATCHES);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known;

    fn model(name: &str) -> ModelConfig {
        known().find(|known| known.model == name).unwrap().in_dialect(Dialect::Transformers).unwrap()
    }

    fn described(name: &str, json: &Value) -> Result<String, String> {
        let config = model(name);
        let found = processor("preprocessor_config.json", json, &config).map_err(|e| e.to_string())?;
        Ok(found.unwrap().0.describe(config.vision_cfg.as_ref().unwrap().image_size()))
    }

    #[test]
    fn every_form_of_a_size_is_followed() {
        let clip = |fields: Value| described("ViT-B-32", &fields).unwrap();
        let plain = "224, bicubic, shortest and crop, OpenAI's mean and std";
        for size in [json!(224), json!({"shortest_edge": 224}), json!({"shortest_edge": 224, "height": null})] {
            assert_eq!(clip(json!({"size": size})), plain);
        }
        assert_eq!(clip(json!({})), plain);
        assert_eq!(clip(json!({"size": 256})), "224, bicubic, shortest to 256 and crop, OpenAI's mean and std");
        let most = json!({"size": {"shortest_edge": 224, "longest_edge": 300}});
        assert_eq!(clip(most), "224, bicubic, shortest (longest at most 300) and crop, OpenAI's mean and std");
        let squash = json!({"size": {"height": 224, "width": 224}, "do_center_crop": false, "resample": 2});
        assert_eq!(clip(squash), "224, bilinear, squash, OpenAI's mean and std");
        let both = json!({"size": [256, 240], "do_normalize": false, "resample": 0});
        assert_eq!(clip(both), "224, nearest, squash to 256x240 and crop, not normalised");
        let nulls =
            json!({"do_normalize": null, "image_mean": null, "do_rescale": null, "do_resize": null, "size": null});
        assert_eq!(clip(nulls), "224, not resized, middle cropped, not rescaled, not normalised");
        let none = json!({"do_resize": false, "do_rescale": false, "image_mean": 0.5, "image_std": [1, 2, 3]});
        assert_eq!(clip(none), "224, not resized, middle cropped, not rescaled, mean 0.5, std 1 2 3");
        let siglip = |fields: Value| described("ViT-B-16-SigLIP-256", &fields).unwrap();
        let fields = json!({"image_processor_type": "SiglipImageProcessorFast", "size": {"height": 256, "width": 256}});
        assert_eq!(siglip(fields), "256, bicubic, squash, mean 0.5, std 0.5");
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (fields, said) in [
            (
                json!({"size": {"longest_edge": 224}}),
                "size is {\"longest_edge\":224}, expected shortest_edge beside it",
            ),
            (json!({"size": {"max_height": 224, "max_width": 224}}), "size is"),
            (
                json!({"size": {"height": 256, "width": 256}, "do_center_crop": false}),
                "size is 256x256, expected the 224x224",
            ),
            (json!({"crop_size": 256}), "crop_size is 256x256, expected the 224x224"),
            (json!({"do_center_crop": false}), "do_center_crop is false beside size.shortest_edge"),
            (json!({"resample": 6}), "resample is 6"),
            (json!({"resample": "bicubic"}), "resample is \"bicubic\""),
            (json!({"rescale_factor": 0}), "rescale_factor is 0"),
            (json!({"image_std": [1, 0, 1]}), "image_std is [1,0,1]"),
            (json!({"image_mean": [1, 0]}), "image_mean is [1,0]"),
            (json!({"do_normalize": "no"}), "do_normalize is \"no\", expected true or false"),
            (json!({"image_mean": null}), "image_mean is null, expected a value"),
            (json!({"resample": null}), "resample is null"),
            (json!({"size": null}), "size is null"),
            (json!({"rescale_factor": null}), "rescale_factor is null"),
            (json!({"do_center_crop": null}), "do_center_crop is false beside size.shortest_edge"),
            (json!({"do_flip_channel_order": true}), "do_flip_channel_order is true, expected no such field"),
            (json!({"crop_pct": 0.9}), "crop_pct is 0.9"),
            (json!({"image_processor_type": "BlipImageProcessor"}), "image_processor_type is \"BlipImageProcessor\""),
            (json!({"image_processor_type": "Siglip2ImageProcessor"}), "image_processor_type is Siglip2"),
            (json!({"do_pad": true, "pad_size": {"height": 300, "width": 300}}), "pad_size is"),
            (json!({"data_format": "channels_last"}), "data_format is channels_last"),
            (json!([1]), "the file is no object"),
        ] {
            let error = described("ViT-B-32", &fields).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
