//! What a precision does to what embeddings are for: which text an image is closest to.

use serde::Serialize;

use super::Engine;
use super::tower::Array;
use crate::precision::Precision;

/// Images and texts whose similarities are listed, at most.
const LISTED: usize = 16;

/// Similarities of images and texts, and how often the closest text is the one it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Ranking {
    pub precision: &'static str,
    pub engine: String,
    pub images: usize,
    pub texts: usize,
    /// Of all images.
    pub top1_agreement: f64,
    /// Cosines of the reference, image by image; the first few.
    pub expected: Vec<Vec<f32>>,
    /// The same of the files.
    pub found: Vec<Vec<f32>>,
}

impl Ranking {
    /// From embeddings and what they were compared with, of images and texts; none where they were not.
    pub fn new(precision: Precision, engine: &Engine, [image, text]: [(&Array, Option<&Array>); 2]) -> Option<Ranking> {
        let (found, expected) = (similarities(image.0, text.0), similarities(image.1?, text.1?));
        let agreed =
            found.iter().zip(&expected).filter(|(a, b)| closest(a).is_some_and(|at| closest(b) == Some(at))).count();
        let listed = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            rows.into_iter().take(LISTED).map(|row| row.into_iter().take(LISTED).collect()).collect()
        };
        Some(Ranking {
            precision: precision.name(),
            engine: engine.name().to_owned(),
            images: found.len(),
            texts: text.0.shape[0],
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
    let texts: Vec<Vec<f32>> = (0..texts.shape[0]).map(|row| unit(texts.row(row))).collect();
    let of = |row: usize| {
        let image = unit(images.row(row));
        texts.iter().map(|text| image.iter().zip(text).map(|(a, b)| a * b).sum()).collect()
    };
    (0..images.shape[0]).map(of).collect()
}

/// None where there is something that is no number.
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
        let array = |rows: usize, values: &[f32]| Array { shape: vec![rows, 2], values: values.to_vec(), ids: vec![] };
        let texts = array(2, &[1.0, 0.0, 0.0, 1.0]);
        let expected = array(2, &[2.0, 1.0, 1.0, 2.0]);
        let found = array(2, &[2.0, 1.0, 2.0, 1.0]);
        let pair = [(&found, Some(&expected)), (&texts, Some(&texts))];
        let ranking = Ranking::new(Precision::Int8, &Engine::Tract, pair).unwrap();
        assert_eq!((ranking.images, ranking.texts, ranking.top1_agreement), (2, 2, 0.5));
        assert_eq!(ranking.found[0].len(), 2);
        let broken = array(2, &[f32::NAN; 4]);
        let pair = [(&broken, Some(&expected)), (&texts, Some(&texts))];
        assert_eq!(Ranking::new(Precision::Int8, &Engine::Tract, pair).unwrap().top1_agreement, 0.0);
        assert!(Ranking::new(Precision::Int8, &Engine::Tract, [(&found, None), (&texts, Some(&texts))]).is_none());
    }
}
