//! The precisions files are written in, a row of a table each.

use serde::{Deserialize, Serialize, Serializer};

/// What numbers of a weight are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 half precision.
    Float16,
    /// int8, one scale for each output channel.
    Int8,
    /// int4, one scale for each block of 32 numbers of an output channel.
    Int4,
}

impl Format {
    /// What reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Float32 => "fp32",
            Format::Float16 => "fp16",
            Format::Int8 => "int8",
            Format::Int4 => "int4",
        }
    }
}

/// What products of activations with weights are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// float32 products.
    Float32,
    /// float16 products.
    Float16,
    /// Integer products: activations are quantized to uint8 as they come (`DynamicQuantizeLinear`).
    Integer,
}

/// A precision that files are written in; [`Scheme`] says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Precision {
    /// float32 throughout.
    Fp32,
    /// float16 weights and arithmetic.
    Fp16,
    /// float16 weights, float32 arithmetic.
    Fp16Weights,
    /// int8 weights, integer products.
    Int8,
    /// int8 weights, float32 arithmetic.
    Int8Weights,
    /// int4 weights, float32 arithmetic.
    Int4,
    /// int4 weights, float16 arithmetic.
    Int4Fp16,
}

/// What a precision is, and what is expected of it.
#[derive(Debug)]
pub struct Scheme {
    /// The precision that the row describes.
    pub precision: Precision,
    /// What flags, metadata and reports call it.
    pub name: &'static str,
    /// What it is in a few words.
    pub summary: &'static str,
    /// What a file's name ends with before `.onnx`: transformers.js' where it has the precision.
    pub suffix: &'static str,
    /// transformers.js' `dtype`, where it has the precision.
    pub dtype: Option<&'static str>,
    /// What weights of products are stored as.
    pub weights: Format,
    /// Arithmetic of products of activations with weights.
    pub arithmetic: Arithmetic,
    /// Where losses are measured and no other bound is asked for: layers are promoted to higher precision until the
    /// least cosine with float32 is no more than this below 1.
    pub usual_drop: f64,
    /// The least cosine with float32 embeddings that files are held to where no other bound is asked for: below it
    /// something is broken, not merely rounded.
    pub least_cosine: f64,
    /// Most by which a row alone and the same row in a batch may differ, over the RMS; none where all rows of a batch
    /// share the scale of a quantized activation.
    pub batch_bound: Option<f64>,
    /// Colour in the report page, on a light and on a dark background.
    pub colour: [&'static str; 2],
}

/// In the order of [`Precision`]'s variants.
const SCHEMES: &[Scheme; 7] = &[
    Scheme {
        precision: Precision::Fp32,
        name: "fp32",
        summary: "float32",
        suffix: "",
        dtype: Some("fp32"),
        weights: Format::Float32,
        arithmetic: Arithmetic::Float32,
        usual_drop: 0.001,
        least_cosine: 1.0 - 1e-7,
        batch_bound: Some(1e-5),
        colour: ["#444c56", "#b8c0cc"],
    },
    Scheme {
        precision: Precision::Fp16,
        name: "fp16",
        summary: "float16 weights and arithmetic",
        suffix: "_fp16",
        dtype: Some("fp16"),
        weights: Format::Float16,
        arithmetic: Arithmetic::Float16,
        usual_drop: 0.001,
        least_cosine: 0.9999,
        batch_bound: Some(5e-2),
        colour: ["#2f6fde", "#6096fa"],
    },
    Scheme {
        precision: Precision::Fp16Weights,
        name: "fp16-weights",
        summary: "float16 weights, float32 arithmetic: half the size",
        suffix: "_fp16w",
        dtype: None,
        weights: Format::Float16,
        arithmetic: Arithmetic::Float32,
        usual_drop: 0.001,
        least_cosine: 0.9999,
        batch_bound: Some(1e-4),
        colour: ["#7aa7f0", "#9dbdf7"],
    },
    Scheme {
        precision: Precision::Int8,
        name: "int8",
        summary: "int8 weights, integer products: fastest on CPUs",
        suffix: "_int8",
        dtype: Some("int8"),
        weights: Format::Int8,
        arithmetic: Arithmetic::Integer,
        usual_drop: 0.002,
        least_cosine: 0.99,
        batch_bound: None,
        colour: ["#d9480f", "#ff8f5a"],
    },
    Scheme {
        precision: Precision::Int8Weights,
        name: "int8-weights",
        summary: "int8 weights, float32 arithmetic: a quarter of the size",
        suffix: "_int8w",
        dtype: None,
        weights: Format::Int8,
        arithmetic: Arithmetic::Float32,
        usual_drop: 0.001,
        least_cosine: 0.999,
        batch_bound: Some(1e-4),
        colour: ["#c97b3f", "#f2b48c"],
    },
    Scheme {
        precision: Precision::Int4,
        name: "int4",
        summary: "int4 weights, float32 arithmetic: smallest",
        suffix: "_q4",
        dtype: Some("q4"),
        weights: Format::Int4,
        arithmetic: Arithmetic::Float32,
        usual_drop: 0.01,
        least_cosine: 0.9,
        batch_bound: Some(1e-4),
        colour: ["#1b7f4b", "#5dd39e"],
    },
    Scheme {
        precision: Precision::Int4Fp16,
        name: "int4-fp16",
        summary: "int4 weights, float16 arithmetic",
        suffix: "_q4f16",
        dtype: Some("q4f16"),
        weights: Format::Int4,
        arithmetic: Arithmetic::Float16,
        usual_drop: 0.01,
        least_cosine: 0.9,
        batch_bound: Some(5e-2),
        colour: ["#57a580", "#9be0bf"],
    },
];

impl Precision {
    /// All of them, in the order of the table.
    pub const ALL: [Precision; SCHEMES.len()] = {
        let mut all = [Precision::Fp32; SCHEMES.len()];
        let mut at = 0;
        while at < SCHEMES.len() {
            all[at] = SCHEMES[at].precision;
            at += 1;
        }
        all
    };

    /// Its row of the table.
    pub fn scheme(self) -> &'static Scheme {
        &SCHEMES[self as usize]
    }

    /// The precision of this name.
    pub fn parse(name: &str) -> Option<Precision> {
        Precision::ALL.into_iter().find(|precision| precision.name() == name)
    }

    /// [`Scheme::name`].
    pub fn name(self) -> &'static str {
        self.scheme().name
    }

    /// [`Scheme::suffix`].
    pub fn suffix(self) -> &'static str {
        self.scheme().suffix
    }

    /// [`Scheme::dtype`].
    pub fn dtype(self) -> Option<&'static str> {
        self.scheme().dtype
    }

    /// [`Scheme::usual_drop`].
    pub fn usual_drop(self) -> f64 {
        self.scheme().usual_drop
    }

    /// [`Scheme::least_cosine`].
    pub fn least_cosine(self) -> f64 {
        self.scheme().least_cosine
    }

    /// [`Scheme::batch_bound`].
    pub fn batch_bound(self) -> Option<f64> {
        self.scheme().batch_bound
    }

    /// [`Scheme::colour`].
    pub fn colour(self) -> [&'static str; 2] {
        self.scheme().colour
    }

    /// Whether weights are integers with scales, which are chosen by statistics of activations.
    pub fn is_quantized(self) -> bool {
        matches!(self.scheme().weights, Format::Int8 | Format::Int4)
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl TryFrom<String> for Precision {
    type Error = String;

    fn try_from(name: String) -> Result<Precision, String> {
        let expected = || Precision::ALL.map(Precision::name).join(", ");
        Precision::parse(&name).ok_or_else(|| format!("`{name}` is no precision; expected one of {}", expected()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_variants_and_names_are_unique() {
        for (at, precision) in Precision::ALL.into_iter().enumerate() {
            assert_eq!((precision as usize, precision.scheme().precision), (at, precision));
            assert_eq!(Precision::parse(precision.name()), Some(precision));
            let alike = |of: fn(Precision) -> &'static str| {
                Precision::ALL.into_iter().filter(|other| of(*other) == of(precision)).count()
            };
            assert_eq!((alike(Precision::name), alike(Precision::suffix)), (1, 1), "{precision}");
        }
        assert_eq!(Precision::parse("int3"), None);
    }

    #[test]
    fn suffixes_are_those_of_transformers_js_where_it_has_the_precision() {
        for precision in Precision::ALL {
            match precision.dtype() {
                Some("fp32") => assert_eq!(precision.suffix(), ""),
                Some(dtype) => assert_eq!(precision.suffix(), format!("_{dtype}")),
                None => assert!(precision.suffix().ends_with('w')),
            }
        }
    }

    #[test]
    fn names_are_written_and_read() {
        let written = serde_json::to_string(&Precision::ALL).unwrap();
        assert!(written.starts_with(r#"["fp32","fp16","fp16-weights""#), "{written}");
        assert_eq!(serde_json::from_str::<Vec<Precision>>(&written).unwrap(), Precision::ALL);
        let error = serde_json::from_str::<Precision>(r#""int3""#).unwrap_err().to_string();
        assert!(error.contains("`int3` is no precision; expected one of fp32, fp16,"), "{error}");
    }
}
