//! timm's `pretrained_cfg`, which the `config.json` of its repositories holds.
//!
//! Source: timm `data/config.py` (`resolve_data_config`), `data/transforms_factory.py` (`transforms_imagenet_eval`).

use serde_json::Value;

mod model;

pub use model::model;

use super::check::Problem;
use super::{Dialect, Error, Interpolation, ModelConfig, PreprocessCfg, ResizeMode};

/// timm's defaults: ImageNet's mean and standard deviation, and the share of an image's side that a crop keeps.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];
const CROP: f64 = 0.875;

/// The preprocessing of timm's configuration, for the towers of `config`; None where `json` is not timm's.
///
/// # Errors
/// [`Error::Pixels`] for a value that cannot be followed, naming `origin`.
pub fn pretrained_cfg(origin: &str, json: &Value, config: &ModelConfig) -> Result<Option<PreprocessCfg>, Error> {
    let Some(fields) = json.get("pretrained_cfg").and_then(Value::as_object) else { return Ok(None) };
    let wrong = |field: &str, found: String, expected: &str| {
        let problem = Problem { field: format!("pretrained_cfg.{field}"), found, expected: expected.to_owned() };
        Error::Pixels { path: origin.to_owned(), problem }
    };
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let text = |name: &str, default: &str| match get(name) {
        None => Ok(default.to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(wrong(name, other.to_string(), "a text")),
    };
    let three = |name: &str, default: [f64; 3], least: f64| match get(name) {
        None => Ok(default),
        Some(found) => {
            let values: Option<Vec<f64>> = found.as_array().and_then(|v| v.iter().map(Value::as_f64).collect());
            let values = values.and_then(|values| <[f64; 3]>::try_from(values).ok());
            let values = values.filter(|values| values.iter().all(|value| value.is_finite() && *value > least));
            values.ok_or_else(|| wrong(name, found.to_string(), "three numbers"))
        }
    };
    let (mean, std) = (three("mean", MEAN, f64::NEG_INFINITY)?, three("std", STD, 0.0)?);
    let interpolation = match text("interpolation", "bicubic")?.as_str() {
        "nearest" => Interpolation::Nearest,
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        "lanczos" => Interpolation::Lanczos,
        "box" => Interpolation::Box,
        "hamming" => Interpolation::Hamming,
        other => {
            let expected = "nearest, bilinear, bicubic, lanczos, box or hamming";
            return Err(wrong("interpolation", other.to_owned(), expected));
        }
    };
    let tower = config.image_size().unwrap_or([224, 224]);
    if let Some(found) = get("input_size") {
        let expected = serde_json::json!([3, tower[0], tower[1]]);
        if *found != expected {
            return Err(wrong("input_size", found.to_string(), &format!("{expected}, which the tower takes")));
        }
    }
    let share = match get("crop_pct") {
        None => CROP,
        Some(found) => {
            let share = found.as_f64().filter(|share| (0.05..=4.0).contains(share));
            share.ok_or_else(|| wrong("crop_pct", found.to_string(), "a number from 0.05 to 4"))?
        }
    };
    let resize_mode = match text("crop_mode", "center")?.as_str() {
        "center" => ResizeMode::Shortest,
        "squash" => ResizeMode::Squash,
        "border" => ResizeMode::Longest,
        other => return Err(wrong("crop_mode", other.to_owned(), "center, squash or border")),
    };
    // Python rounds halves to even.
    let fill = mean.map(|mean| (255.0 * mean).round_ties_even().clamp(0.0, 255.0) as u8);
    let cfg = PreprocessCfg {
        mean,
        std,
        interpolation,
        resize_mode,
        resize_to: Some(tower.map(|side| (side as f64 / share).floor() as usize)).filter(|to| *to != tower),
        fill_color: (resize_mode == ResizeMode::Longest).then_some(fill),
        // timm crops as torchvision does, and decodes to RGB first, as big_vision does.
        code: (config.dialect != Dialect::Original).then_some(Dialect::Original),
        ..PreprocessCfg::clip()
    };
    let cfg = cfg.with_value_range();
    cfg.check().map_err(|problem| Error::Pixels { path: origin.to_owned(), problem })?;
    Ok(Some(cfg))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known;

    #[test]
    fn fields_are_followed_or_refused() {
        let config = known().find(|known| known.model == "ViT-B-16").unwrap();
        let described = |fields: Value| {
            let json = json!({"architecture": "x", "pretrained_cfg": fields});
            let cfg = pretrained_cfg("config.json", &json, config).map_err(|e| e.to_string())?.unwrap();
            Ok::<_, String>(cfg.describe(Some([224, 224])))
        };
        assert_eq!(
            described(json!({})).unwrap(),
            "224, bicubic, shortest to 256 and crop, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
        );
        let siglip = json!({"input_size": [3, 224, 224], "crop_pct": 0.9, "crop_mode": "squash", "mean": [0.5, 0.5, 0.5],
                            "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "num_classes": 0, "tag": "webli"});
        assert_eq!(described(siglip).unwrap(), "224, bilinear, squash to 248 and crop, mean 0.5, std 0.5");
        let border =
            described(json!({"crop_mode": "border", "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}));
        assert_eq!(border.unwrap(), "224, bicubic, longest and fill, filled with 128 128 128, mean 0.5, std 1");
        for (fields, said) in [
            (json!({"interpolation": "random"}), "pretrained_cfg.interpolation is random"),
            (json!({"crop_mode": "top"}), "pretrained_cfg.crop_mode is top"),
            (json!({"crop_pct": 0}), "pretrained_cfg.crop_pct is 0"),
            (json!({"input_size": [3, 256, 256]}), "pretrained_cfg.input_size is [3,256,256]"),
            (json!({"mean": [1]}), "pretrained_cfg.mean is [1]"),
        ] {
            let error = described(fields).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(pretrained_cfg("config.json", &json!({"model_type": "clip"}), config).unwrap(), None);
    }
}
