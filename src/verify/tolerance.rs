//! Bounds on the figures of a report, each with its reason.

/// A bound on a figure of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Name of the figure in the report.
    pub name: &'static str,
    /// Largest accepted value.
    pub bound: f64,
}

/// Largest absolute difference over the RMS of the reference. Rounding of float32 stays under
/// 7e-6 between independent implementations; a wrong LayerNorm eps or GELU does not.
pub const EMBEDDING: Tolerance = Tolerance { name: "embedding relative error", bound: 2e-5 };
/// Largest absolute difference of logits over `exp(logit_scale)`: both embeddings may be off.
pub const LOGITS: Tolerance = Tolerance { name: "logits over logit_scale_exp", bound: 4e-5 };
/// `exp(logit_scale)` and the bias against the reference's, over the reference's scale.
pub const SCALE: Tolerance = Tolerance { name: "logit scale and bias over logit_scale_exp", bound: 1e-5 };
/// How far from 1 the length of a normalised embedding may be.
pub const UNIT_NORM: Tolerance = Tolerance { name: "unit norm", bound: 1e-5 };
/// How far the cosine of an embedding in another precision is below 1; the bound is the precision's.
pub const DROP: Tolerance = Tolerance { name: "cosine distance", bound: 1e-2 };
/// Relative error between a row run by itself and the same row in a batch.
pub const BATCH: Tolerance = Tolerance { name: "batch consistency", bound: 1e-5 };
/// How far probabilities may be from those computed from the embeddings; or their sum from 1, where the labels'
/// embeddings are not at hand.
pub const PROBABILITY: Tolerance = Tolerance { name: "probabilities", bound: 2e-5 };

impl Tolerance {
    /// The same figure held to another bound.
    pub fn at(self, bound: f64) -> Tolerance {
        Tolerance { bound, ..self }
    }

    /// A line of the report about `what`, where `value` is beyond the bound or not a number; None where it is within.
    pub(super) fn exceeded(self, value: f64, what: &str) -> Option<String> {
        if value <= self.bound {
            return None;
        }
        // 1 - 0.999 is not quite 0.001.
        let bound = (self.bound * 1e12).round() / 1e12;
        Some(format!("{what}: {} {value:.2e}, allowed {bound:e}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_beyond_every_bound() {
        assert_eq!(DROP.at(1.0 - 0.999).exceeded(1e-3, "a"), None);
        assert_eq!(BATCH.exceeded(f64::NAN, "a").as_deref(), Some("a: batch consistency NaN, allowed 1e-5"));
        assert_eq!(
            DROP.at(1.0 - 0.999).exceeded(0.5, "a").as_deref(),
            Some("a: cosine distance 5.00e-1, allowed 1e-3")
        );
    }
}
