//! What the types of a configuration cannot exclude: numbers out of range, and numbers that do not fit together.

use super::{Model, VisionCfg};

/// One field, its value, and which values it could have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct Problem {
    /// Path of the field, such as `vision_cfg.width`.
    pub field: String,
    /// Its value, as text.
    pub found: String,
    /// Which values are possible, in words.
    pub expected: String,
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Problem {
        Problem { field: field.into(), found: found.to_string(), expected: expected.into() }
    }
}

/// Larger than any dimension of any model, small enough that products of three stay in 64 bits.
const LARGEST: usize = 1 << 20;

/// Channels of a layer, and hidden units of an MLP, at most: ten times the largest published ones.
const WIDEST: usize = 1 << 16;

/// Blocks of a tower, or of a stage, at most: graphs are built from configurations before any weight is read.
const DEEPEST: usize = 1 << 10;

/// Numbers of the token embeddings, at most: of a million tokens 2048 each.
pub(super) const MOST_EMBEDDINGS: usize = 1 << 31;

/// Numbers of a tower's positions, at most: they are computed where a graph is built, some from nothing else.
const MOST_POSITIONS: usize = 1 << 26;

/// Pixels of an image's side, at most; published models have 1024.
pub(super) const LARGEST_SIDE: usize = 1 << 11;

pub(super) fn ensure(
    good: bool,
    field: &str,
    found: impl ToString,
    expected: impl Into<String>,
) -> Result<(), Problem> {
    if good { Ok(()) } else { Err(Problem::new(field, found, expected)) }
}

/// Whether these fields of the section `at` are dimensions.
pub(super) fn dims(at: &str, fields: &[(&str, usize)]) -> Result<(), Problem> {
    for &(field, value) in fields {
        ensure((1..=LARGEST).contains(&value), &format!("{at}{field}"), value, format!("1 to {LARGEST}"))?;
    }
    Ok(())
}

/// Whether these fields of the section `at` are numbers of channels.
pub(super) fn widths(at: &str, fields: &[(&str, usize)]) -> Result<(), Problem> {
    for &(field, value) in fields {
        ensure((1..=WIDEST).contains(&value), &format!("{at}{field}"), value, format!("1 to {WIDEST}"))?;
    }
    Ok(())
}

/// Whether this field of the section `at` is a number of blocks.
pub(super) fn layers(at: &str, field: &str, layers: usize) -> Result<(), Problem> {
    ensure((1..=DEEPEST).contains(&layers), &format!("{at}{field}"), layers, format!("1 to {DEEPEST}"))
}

/// Whether a matrix of `rows` by `width` has at most so many numbers.
pub(super) fn matrix(field: &str, rows: usize, width: usize, most: usize) -> Result<(), Problem> {
    let good = rows.checked_mul(width).is_some_and(|numbers| numbers <= most);
    ensure(good, field, format!("{rows} x {width} numbers"), format!("at most {most} numbers"))
}

pub(super) fn divides(at: &str, field: &str, heads: usize, width: usize) -> Result<(), Problem> {
    ensure(width.is_multiple_of(heads), &format!("{at}{field}"), heads, format!("a divisor of width {width}"))
}

/// Whether a field is what a norm adds to a variance.
pub(super) fn eps(at: &str, field: &str, eps: f32) -> Result<(), Problem> {
    ensure(eps > 0.0 && eps <= 0.1, &format!("{at}{field}"), eps, "above 0 and at most 0.1")
}

/// Whether images of `size` pixels hold at least one patch. The field is that of the flag `--image-size` too.
pub(super) fn image_size(size: [usize; 2], patch: usize) -> Result<(), Problem> {
    let fits = size.iter().all(|side| (patch..=LARGEST_SIDE).contains(side));
    let expected = format!("sides of at least one patch ({patch} pixels) and at most {LARGEST_SIDE}");
    ensure(fits, "image size", format!("{}x{}", size[0], size[1]), expected)
}

impl Model {
    /// Whether graphs can be built from these fields; the first problem found.
    pub(super) fn check(&self) -> Result<(), Problem> {
        widths("", &[("embed_dim", self.embed_dim)])?;
        for (field, patches) in [
            ("dialects", self.dialects.values().collect::<Vec<_>>()),
            ("namings", self.namings.values().collect::<Vec<_>>()),
        ] {
            for patch in patches {
                ensure(patch.is_object(), field, patch, "an object of the fields that differ, for each")?;
            }
        }
        if let Some(max) = self.logit_scale_max {
            ensure(max.is_finite() && max > 0.0, "logit_scale_max", max, "a positive number or null")?;
        }
        if let Some(vision) = self.vision_cfg.as_ref().map(VisionCfg::family) {
            vision.check(self.embed_dim)?;
            if let Some(positions) = vision.positions() {
                let [rows, columns] = positions.grid;
                matrix("vision_cfg: its positions", rows.saturating_mul(columns), positions.width, MOST_POSITIONS)?;
            }
        }
        self.preprocess_cfg.check()?;
        match (&self.vision_cfg, &self.text_cfg) {
            (None, None) => Err(Problem::new("vision_cfg", "absent", "given, as there is no text_cfg either")),
            (_, text) => text.as_ref().map_or(Ok(()), |text| text.check(self.embed_dim)),
        }
    }
}
