//! What a precision does to what embeddings are for: which text an image is closest to.

use serde::Serialize;

use crate::engine::Array;
use crate::precision::Precision;

/// Images and texts whose similarities are listed, at most.
const LISTED: usize = 16;

/// Embeddings of a tower, and those they were compared with.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// What the tower gave, `[rows, embed_dim]`.
    pub found: Array,
    /// What it should give.
    pub expected: Option<Array>,
}

/// Similarities of images and texts, and how often the closest text is the one it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking {
    /// Name of the precision.
    pub precision: &'static str,
    /// Name of the engine.
    pub engine: String,
    /// Number of images.
    pub images: usize,
    /// Number of texts.
    pub texts: usize,
    /// Of all images.
    pub top1_agreement: f64,
    /// Cosines of the reference, image by image; the first few.
    pub expected: Vec<Vec<f32>>,
    /// The same of the files.
    pub found: Vec<Vec<f32>>,
}

impl Ranking {
    /// From the embeddings of images and texts; None where they were not compared with others. `engine` is its name.
    pub(super) fn new(precision: Precision, engine: &str, images: &Embedded, texts: &Embedded) -> Option<Ranking> {
        let found = similarities(&images.found, &texts.found);
        let expected = similarities(images.expected.as_ref()?, texts.expected.as_ref()?);
        let agreed =
            found.iter().zip(&expected).filter(|(a, b)| closest(a).is_some_and(|at| closest(b) == Some(at))).count();
        let listed = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            rows.into_iter().take(LISTED).map(|row| row.into_iter().take(LISTED).collect()).collect()
        };
        Some(Ranking {
            precision: precision.name(),
            engine: engine.to_owned(),
            images: found.len(),
            texts: texts.found.batch(),
            top1_agreement: agreed as f64 / found.len().max(1) as f64,
            expected: listed(expected),
            found: listed(found),
        })
    }
}

fn similarities(images: &Array, texts: &Array) -> Vec<Vec<f32>> {
    let unit = |row: &[f32]| -> Vec<f32> {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter().map(|v| v / norm).collect()
    };
    let texts: Vec<Vec<f32>> = (0..texts.batch()).map(|row| unit(texts.row(row))).collect();
    let of = |row: usize| {
        let image = unit(images.row(row));
        texts.iter().map(|text| image.iter().zip(text).map(|(a, b)| a * b).sum()).collect()
    };
    (0..images.batch()).map(of).collect()
}

/// The position of the largest; None where one is not a number.
fn closest(similarities: &[f32]) -> Option<usize> {
    if similarities.iter().any(|v| !v.is_finite()) {
        return None;
    }
    (0..similarities.len()).max_by(|&a, &b| similarities[a].total_cmp(&similarities[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_text_is_counted() {
        let array = |values: [f32; 4]| Array::new([2, 2], values.to_vec());
        let embedded =
            |found: &Array, expected: Option<&Array>| Embedded { found: found.clone(), expected: expected.cloned() };
        let texts = array([1.0, 0.0, 0.0, 1.0]);
        let expected = array([2.0, 1.0, 1.0, 2.0]);
        let found = array([2.0, 1.0, 2.0, 1.0]);
        let texts = embedded(&texts, Some(&texts));
        let ranking = |found: &Array, expected: Option<&Array>| {
            Ranking::new(Precision::Int8, "tract", &embedded(found, expected), &texts)
        };
        let good = ranking(&found, Some(&expected)).unwrap();
        assert_eq!((good.images, good.texts, good.top1_agreement), (2, 2, 0.5));
        assert_eq!(good.found[0].len(), 2);
        assert_eq!(ranking(&array([f32::NAN; 4]), Some(&expected)).unwrap().top1_agreement, 0.0);
        assert!(ranking(&found, None).is_none());
    }
}
