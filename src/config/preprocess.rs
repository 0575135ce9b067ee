//! Preprocessing of photographs: what image processors and transforms of several libraries have in common.

use serde::{Deserialize, Serialize};

use super::Dialect;
use super::check::Problem;

/// OpenAI's, of CLIP.
pub(crate) const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
pub(crate) const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// NaFlex's largest number of patches of a photograph, where a configuration names no other.
pub const NAFLEX_PATCHES: usize = 256;

/// How a photograph becomes a tower's input: resized, cropped or padded, then (byte · `rescale_factor` − `mean`) / `std`.
/// The graph depends on it only where its input is bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessCfg {
    /// Means of red, green and blue, after rescaling.
    pub mean: [f64; 3],
    /// Standard deviations of red, green and blue, after rescaling.
    pub std: [f64; 3],
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Whether downscaling widens the filter.
    pub antialias: bool,
    /// Which sides are resized to the target size.
    pub resize_mode: ResizeMode,
    /// Interval of the tower's input after mean and std; null where that is not a round one.
    pub value_range: Option<[f64; 2]>,
    /// Target height and width of `resize_mode`, where they are not the tower's: the rest is cropped, or padded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize_to: Option<[usize; 2]>,
    /// With `shortest`: limit of the longer side, even if the shorter one becomes shorter than asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_edge: Option<usize>,
    /// Without resizing: whether the center is cropped; otherwise photographs must have the tower's size.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub crop: bool,
    /// Red, green and blue of the padding around a photograph smaller than the crop; black by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill_color: Option<[u8; 3]>,
    /// What each byte is multiplied by; 1/255 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescale_factor: Option<f64>,
    /// Of `naflex`: largest number of patches of a photograph; [`NAFLEX_PATCHES`] by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_patches: Option<usize>,
    /// Whose code is followed, where it is not that of the model's dialect: they differ in rounding of crops and in
    /// transparency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Dialect>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// Pillow's filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Nearest neighbour.
    Nearest,
    /// Sinc with a Lanczos window, three lobes.
    Lanczos,
    /// Triangle filter.
    Bilinear,
    /// Cubic convolution, a = -1/2.
    Bicubic,
    /// Box filter: the mean of the covered pixels.
    Box,
    /// Sinc with a Hamming window, one lobe; sharper than bilinear.
    Hamming,
}

impl Interpolation {
    /// In the order of Pillow's numbers, which transformers' files hold.
    pub const ALL: [Interpolation; 6] = [
        Interpolation::Nearest,
        Interpolation::Lanczos,
        Interpolation::Bilinear,
        Interpolation::Bicubic,
        Interpolation::Box,
        Interpolation::Hamming,
    ];

    /// Pillow's number of it.
    pub fn number(self) -> usize {
        Interpolation::ALL.iter().position(|other| *other == self).unwrap_or_default()
    }
}

/// How a photograph is resized, before its center is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// Both sides, whatever the aspect ratio.
    Squash,
    /// The shorter side; then the center is cropped.
    Shortest,
    /// The longer side; then the rest is padded.
    Longest,
    /// To the largest number of patches that fits, sides rounded to patches.
    Naflex,
    /// None: photographs are not resized.
    None,
}

impl PreprocessCfg {
    fn new(mean: [f64; 3], std: [f64; 3], interpolation: Interpolation, resize_mode: ResizeMode) -> PreprocessCfg {
        PreprocessCfg {
            mean,
            std,
            interpolation,
            antialias: true,
            resize_mode,
            value_range: None,
            resize_to: None,
            longest_edge: None,
            crop: true,
            fill_color: None,
            rescale_factor: None,
            max_patches: None,
            code: None,
        }
        .with_value_range()
    }

    /// OpenAI's, and open_clip's default.
    pub fn clip() -> PreprocessCfg {
        PreprocessCfg::new(CLIP_MEAN, CLIP_STD, Interpolation::Bicubic, ResizeMode::Shortest)
    }

    /// SigLIP's, as transformers has it.
    pub fn siglip() -> PreprocessCfg {
        PreprocessCfg::new([0.5; 3], [0.5; 3], Interpolation::Bicubic, ResizeMode::Squash)
    }

    /// SigLIP 2's for a variable number of patches.
    pub fn naflex() -> PreprocessCfg {
        PreprocessCfg::new([0.5; 3], [0.5; 3], Interpolation::Bilinear, ResizeMode::Naflex)
    }

    /// With the interval that follows from the other fields.
    pub(super) fn with_value_range(mut self) -> PreprocessCfg {
        self.value_range = match (self.mean, self.std, self.rescale_factor) {
            (mean, std, None) if (mean, std) == ([0.5; 3], [0.5; 3]) => Some([-1.0, 1.0]),
            (mean, std, None) if (mean, std) == ([0.0; 3], [1.0; 3]) => Some([0.0, 1.0]),
            _ => None,
        };
        self
    }

    /// The same for a tower of `to` instead of `from`: the crop stays in proportion.
    pub(super) fn at_size(&self, from: Option<[usize; 2]>, to: [usize; 2]) -> PreprocessCfg {
        let Some(from) = from else { return self.clone() };
        let scaled = |side: usize, axis: usize| {
            let side = side as f64 * to[axis] as f64 / from[axis] as f64;
            (side.round() as usize).max(1)
        };
        let resize_to = self.resize_to.map(|sides| match self.resize_mode {
            // One number for the shorter side, whichever that is.
            ResizeMode::Shortest if sides[0] == sides[1] => {
                let shorter = if to[0] <= to[1] { 0 } else { 1 };
                [scaled(sides[0], shorter); 2]
            }
            _ => [scaled(sides[0], 0), scaled(sides[1], 1)],
        });
        PreprocessCfg { resize_to, longest_edge: self.longest_edge.map(|side| scaled(side, 0)), ..self.clone() }
    }

    /// What each byte is multiplied by.
    pub fn factor(&self) -> f64 {
        self.rescale_factor.unwrap_or(1.0 / 255.0)
    }

    /// Mean and standard deviation of bytes / 255, for libraries that have no other factor.
    pub fn of_unit_range(&self) -> [[f64; 3]; 2] {
        let scale = self.rescale_factor.map_or(1.0, |factor| 255.0 * factor);
        [self.mean, self.std].map(|values| values.map(|value| value / scale))
    }

    /// Whether these fields are in range and fit together.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let problem = |field: &str, found: String, expected: &str| {
            Err(Problem { field: format!("preprocess_cfg.{field}"), found, expected: expected.to_owned() })
        };
        if !self.mean.iter().all(|v| v.is_finite()) {
            return problem("mean", format!("{:?}", self.mean), "three numbers");
        }
        if !self.std.iter().all(|v| v.is_finite() && *v > 0.0) {
            return problem("std", format!("{:?}", self.std), "three numbers above 0");
        }
        if !(self.factor().is_finite() && self.factor() > 0.0) {
            return problem("rescale_factor", self.factor().to_string(), "a number above 0");
        }
        let plain = matches!(self.resize_mode, ResizeMode::Squash | ResizeMode::Naflex);
        let can_do_without = plain && self.interpolation == Interpolation::Bilinear;
        if !self.antialias && !can_do_without {
            return problem("antialias", "false".to_owned(), "true but with bilinear and squash");
        }
        let sides = self.resize_to.into_iter().flatten().chain(self.longest_edge).chain(self.max_patches);
        if let Some(side) = sides.into_iter().find(|side| !(1..=1 << 14).contains(side)) {
            return problem("resize_to, longest_edge, max_patches", side.to_string(), "1 to 16384");
        }
        if self.longest_edge.is_some() && self.resize_mode != ResizeMode::Shortest {
            return problem("longest_edge", "given".to_owned(), "no such field without resize_mode `shortest`");
        }
        if !self.crop && self.resize_mode != ResizeMode::None {
            return problem("crop", "false".to_owned(), "true but with resize_mode `none`");
        }
        Ok(())
    }

    /// The whole rule in words, for a tower of `size`; such as `224x224, bicubic, squash, mean 0.5, std 0.5`.
    pub fn describe(&self, size: Option<[usize; 2]>) -> String {
        let sides = |[height, width]: [usize; 2]| {
            if height == width { height.to_string() } else { format!("{height}x{width}") }
        };
        let numbers = |values: [f64; 3]| {
            if values == [values[0]; 3] { values[0].to_string() } else { values.map(|v| v.to_string()).join(" ") }
        };
        let mut parts: Vec<String> = size.map(sides).into_iter().collect();
        match self.resize_mode {
            ResizeMode::None if self.crop => parts.push("not resized, middle cropped".to_owned()),
            ResizeMode::None => parts.push("not resized".to_owned()),
            mode => {
                let antialias = if self.antialias { "" } else { " without antialias" };
                parts.push(format!("{}{antialias}", self.interpolation));
                let to = self
                    .resize_to
                    .filter(|to| Some(*to) != size)
                    .map_or(String::new(), |to| format!(" to {}", sides(to)));
                let most = self.longest_edge.map_or(String::new(), |most| format!(" (longest at most {most})"));
                let cropped = match mode {
                    ResizeMode::Shortest => " and crop",
                    ResizeMode::Longest => " and fill",
                    _ if to.is_empty() => "",
                    _ => " and crop",
                };
                parts.push(format!("{mode}{to}{most}{cropped}"));
            }
        }
        parts.extend(
            self.fill_color.filter(|color| *color != [0; 3]).map(|[r, g, b]| format!("filled with {r} {g} {b}")),
        );
        match self.rescale_factor {
            None => {}
            Some(1.0) => parts.push("not rescaled".to_owned()),
            Some(factor) => parts.push(format!("times {factor}")),
        }
        if (self.mean, self.std) == (CLIP_MEAN, CLIP_STD) {
            parts.push("OpenAI's mean and std".to_owned());
        } else if (self.mean, self.std) == ([0.0; 3], [1.0; 3]) {
            parts.push("not normalised".to_owned());
        } else {
            parts.push(format!("mean {}", numbers(self.mean)));
            parts.push(format!("std {}", numbers(self.std)));
        }
        parts.extend(self.max_patches.map(|most| format!("at most {most} patches")));
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_described_whole() {
        assert_eq!(
            PreprocessCfg::clip().describe(Some([224, 224])),
            "224, bicubic, shortest and crop, OpenAI's mean and std"
        );
        assert_eq!(PreprocessCfg::siglip().describe(Some([384, 384])), "384, bicubic, squash, mean 0.5, std 0.5");
        let cfg = PreprocessCfg {
            resize_to: Some([256, 256]),
            rescale_factor: Some(1.0),
            mean: [1.0, 2.0, 3.0],
            ..PreprocessCfg::siglip()
        };
        assert_eq!(
            cfg.describe(Some([224, 200])),
            "224x200, bicubic, squash to 256 and crop, not rescaled, mean 1 2 3, std 0.5"
        );
    }

    #[test]
    fn fields_that_contradict_each_other_are_found() {
        let clip = PreprocessCfg::clip();
        assert!(clip.check().is_ok());
        for wrong in [
            PreprocessCfg { std: [0.0; 3], ..clip.clone() },
            PreprocessCfg { rescale_factor: Some(0.0), ..clip.clone() },
            PreprocessCfg { antialias: false, ..clip.clone() },
            PreprocessCfg { crop: false, ..clip.clone() },
            PreprocessCfg { longest_edge: Some(300), ..PreprocessCfg::siglip() },
            PreprocessCfg { resize_to: Some([0, 4]), ..clip.clone() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn another_factor_goes_into_mean_and_deviation() {
        let cfg = PreprocessCfg { rescale_factor: Some(2.0 / 255.0), mean: [1.0; 3], ..PreprocessCfg::siglip() };
        let [mean, std] = cfg.of_unit_range();
        let byte = 77.0;
        let (own, other) = ((byte * cfg.factor() - cfg.mean[0]) / cfg.std[0], (byte / 255.0 - mean[0]) / std[0]);
        assert!((own - other).abs() < 1e-12);
    }
}
