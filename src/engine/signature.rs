//! What the inputs and outputs of a file mean: from our own metadata, or inferred for a file that somebody else made.
//!
//! A tower is recognised by the types and axes of its inputs, whatever they are called: an image has four axes, of floats
//! or bytes; a text is a row of integer ids; NaFlex has patches, a mask and two coordinates. Its embedding is recognised by
//! the name of an output, or by being the only one of two axes. Metadata, which our files have, adds sizes, vocabulary and
//! precision; without it there are defaults that suit most models.

use std::str::FromStr;

use super::array::{Array, ElementType};
use crate::config::PreprocessCfg;
use crate::modality::Modality;
use crate::onnx::read::{Port, Summary};
use crate::precision::Precision;

mod image;

pub use image::ImageInput;

/// Token ids in a row, where a file leaves that free and does not say it; SigLIP's context.
const CONTEXT_LENGTH: usize = 64;
/// The longest row of ids that is made up for a file, whatever it says.
const LONGEST_CONTEXT: usize = 1 << 14;
/// Patches of the largest image that is made up.
const MADE_UP_PATCHES: usize = 256;
/// Numbers of a NaFlex patch where a file leaves that free: 16 × 16 pixels of three channels.
const PATCH_VALUES: usize = 16 * 16 * 3;

/// Numbers of one row of a tower's inputs, at most: an image of 2048 x 2048 pixels.
const LARGEST_ROW: usize = 3 << 22;
/// Numbers of a batch that a file is frozen to, at most. Inputs are held a few times.
const LARGEST_BATCH: usize = 1 << 25;

/// One tower of a file: what it takes and gives.
#[derive(Clone, Debug)]
pub struct Signature {
    /// How the tower is fed.
    pub input: Input,
    /// Its inputs, as the file declares them, and their positions among the file's.
    pub inputs: Vec<(usize, Port)>,
    /// Position of the embedding among the file's outputs.
    pub embedding: usize,
    /// Name of the embedding's output.
    pub embedding_name: String,
    /// Batch size the file is frozen to; None when it is free.
    pub fixed_batch: Option<usize>,
    /// Whether the file says its embeddings are normalised; None when it says nothing.
    pub normalized: Option<bool>,
    /// What the file says its precision is; float32 when it says nothing.
    pub precision: Precision,
    /// `exp(logit_scale)`, where the file carries it.
    pub logit_scale: Option<f64>,
    /// The bias of logits, where the model has one.
    pub logit_bias: Option<f64>,
    /// The labels of a classifier.
    pub labels: Option<Vec<String>>,
}

/// How a tower is fed.
#[derive(Clone, Debug)]
pub enum Input {
    /// Images of one size.
    Image(ImageInput),
    /// Patches of images of any size.
    Naflex(NaflexInput),
    /// Rows of token ids.
    Text(TextInput),
}

/// Patches `[N, P, D]` with a mask and the row and column of each, `[N, P]`.
#[derive(Clone, Debug)]
pub struct NaflexInput {
    /// D: numbers of a patch.
    pub patch_values: usize,
    /// The interval that pixels lie in, after preprocessing.
    pub value_range: [f32; 2],
}

/// Rows of token ids `[N, L]`.
#[derive(Clone, Debug)]
pub struct TextInput {
    /// The longest L.
    pub context_length: usize,
    /// Whether L is free, up to the context.
    pub any_length: bool,
    /// None when the file does not say it.
    pub vocab_size: Option<usize>,
    /// Id of the start token, where rows have one and the file names it.
    pub sot_id: Option<i64>,
    /// Id of the end token, where the file names it.
    pub eot_id: Option<i64>,
    /// Id of the padding, where the file names it.
    pub pad_id: Option<i64>,
}

impl Signature {
    /// The towers of a file: one, or an image's and a text's.
    ///
    /// # Errors
    /// Why it is no tower that can be fed.
    pub fn of(summary: &Summary) -> Result<Vec<Signature>, String> {
        let towers = towers(&summary.inputs)?;
        let both = towers.len() > 1;
        let said = Metadata(summary);
        let tower = |(kind, positions): (Kind, Vec<usize>)| -> Result<Signature, String> {
            let inputs: Vec<(usize, Port)> = positions.into_iter().map(|at| (at, summary.inputs[at].clone())).collect();
            let first = &inputs[0].1;
            let input = match kind {
                Kind::Image => Input::Image(ImageInput::of(first, &said)),
                Kind::Naflex => Input::Naflex(NaflexInput::of(first, &said)),
                Kind::Text => Input::Text(TextInput::of(first, &said)),
            };
            let fixed_batch = first.fixed(0);
            let (row, rows) = (input.row(), fixed_batch.unwrap_or(1));
            if row > LARGEST_ROW || row.checked_mul(rows).is_none_or(|numbers| numbers > LARGEST_BATCH) {
                let (name, shape) = (&first.name, first.shape.join(", "));
                return Err(format!(
                    "input `{name}` [{shape}] takes {row} numbers a row in batches of {rows}; at most {LARGEST_ROW} are fed in a row, and {LARGEST_BATCH} at once"
                ));
            }
            let embedding = embedding(&summary.outputs, both.then_some(input.modality()))?;
            Ok(Signature {
                input,
                fixed_batch,
                inputs,
                embedding,
                embedding_name: summary.outputs[embedding].name.clone(),
                normalized: summary.metadata.get("normalized").map(|v| v == "true"),
                precision: precision(summary),
                logit_scale: said.parsed("logit_scale_exp"),
                logit_bias: said.parsed("logit_bias"),
                labels: said.json("labels"),
            })
        };
        towers.into_iter().map(tower).collect()
    }

    /// Whether the tower embeds images or texts.
    pub fn modality(&self) -> Modality {
        self.input.modality()
    }

    /// `exp(logit_scale)` and the bias, 0 where there is none; None where the file has no scale.
    pub fn logits(&self) -> Option<(f64, f64)> {
        Some((self.logit_scale?, self.logit_bias.unwrap_or(0.0)))
    }

    /// Whether an image of the tower's own size would be resized inside, to be cropped: then it sees other pixels than a
    /// tower of floats that is fed the same image.
    pub fn always_resizes(&self) -> bool {
        let Input::Image(image) = &self.input else { return false };
        image.format.resizes() && image.preprocess.as_ref().is_some_and(|cfg| cfg.resize_to.is_some())
    }

    /// Holds arrays, one for each input of the tower, against what the file declares.
    ///
    /// # Errors
    /// Which input does not fit.
    pub fn check(&self, arrays: &[Array]) -> Result<(), String> {
        if arrays.len() != self.inputs.len() {
            return Err(format!("it has {} inputs, not {}", self.inputs.len(), arrays.len()));
        }
        for ((_, port), array) in self.inputs.iter().zip(arrays) {
            let shape = array.shape();
            let fits = |axis: usize| port.fixed(axis).is_none_or(|n| n == shape[axis]);
            if port.shape.len() != shape.len() || !(0..shape.len()).all(fits) {
                return Err(format!("input `{}` is [{}], not {shape:?}", port.name, port.shape.join(", ")));
            }
        }
        Ok(())
    }
}

impl Input {
    /// Numbers of one row of the largest input.
    pub fn row(&self) -> usize {
        match self {
            Input::Image(image) => image.size.iter().fold(3, |product, &side| product.saturating_mul(side)),
            Input::Naflex(input) => input.patch_values.saturating_mul(MADE_UP_PATCHES),
            Input::Text(text) => text.context_length,
        }
    }

    /// Whether images or texts are fed.
    pub fn modality(&self) -> Modality {
        match self {
            Input::Image(_) | Input::Naflex(_) => Modality::Image,
            Input::Text(_) => Modality::Text,
        }
    }
}

impl NaflexInput {
    fn of(patches: &Port, said: &Metadata) -> NaflexInput {
        let range = said.preprocess().and_then(|cfg| cfg.value_range);
        NaflexInput {
            patch_values: patches.fixed(2).unwrap_or(PATCH_VALUES),
            value_range: range.map_or([0.0, 1.0], |range| range.map(|v| v as f32)),
        }
    }
}

impl TextInput {
    fn of(ids: &Port, said: &Metadata) -> TextInput {
        let length = ids.fixed(1).or_else(|| said.parsed("context_length")).unwrap_or(CONTEXT_LENGTH);
        TextInput {
            context_length: length.clamp(1, LONGEST_CONTEXT),
            any_length: ids.fixed(1).is_none(),
            vocab_size: said.parsed("vocab_size").filter(|&size| size > 0),
            sot_id: said.parsed("sot_id"),
            eot_id: said.parsed("eot_id"),
            pad_id: said.parsed("pad_id"),
        }
    }
}

/// What a file's metadata says.
struct Metadata<'a>(&'a Summary);

impl Metadata<'_> {
    fn parsed<T: FromStr>(&self, key: &str) -> Option<T> {
        self.0.metadata.get(key)?.parse().ok()
    }

    fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.0.metadata.get(key)?).ok()
    }

    fn preprocess(&self) -> Option<PreprocessCfg> {
        self.json("preprocess")
    }

    /// Height and width, as in `224x224`.
    fn image_size(&self) -> [Option<usize>; 2] {
        let size = self.0.metadata.get("image_size").and_then(|text| text.split_once('x'));
        size.map_or([None, None], |(height, width)| [height.parse().ok(), width.parse().ok()])
    }
}

/// What a file says its precision is; float32 when it says nothing.
pub fn precision(summary: &Summary) -> Precision {
    summary.metadata.get("precision").and_then(|name| Precision::parse(name)).unwrap_or(Precision::Fp32)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Naflex,
    Text,
}

/// The towers of a file, with the positions of the inputs of each.
fn towers(inputs: &[Port]) -> Result<Vec<(Kind, Vec<usize>)>, String> {
    // Whether it holds integers, and how many axes it has.
    const IMAGE: (bool, usize) = (false, 4);
    const TEXT: (bool, usize) = (true, 2);
    const NAFLEX: [(bool, usize); 4] = [(false, 3), TEXT, TEXT, TEXT];
    let form = |port: &Port| {
        ElementType::of_onnx(&port.element_type).map(|element_type| (element_type.is_integer(), port.shape.len()))
    };
    let forms: Option<Vec<(bool, usize)>> = inputs.iter().map(form).collect();
    match forms.as_deref() {
        Some([IMAGE]) => Ok(vec![(Kind::Image, vec![0])]),
        Some([TEXT]) => Ok(vec![(Kind::Text, vec![0])]),
        Some([IMAGE, TEXT]) => Ok(vec![(Kind::Image, vec![0]), (Kind::Text, vec![1])]),
        Some([TEXT, IMAGE]) => Ok(vec![(Kind::Image, vec![1]), (Kind::Text, vec![0])]),
        Some(forms) if *forms == NAFLEX => Ok(vec![(Kind::Naflex, vec![0, 1, 2, 3])]),
        Some([patches @ .., TEXT]) if *patches == NAFLEX => {
            Ok(vec![(Kind::Naflex, vec![0, 1, 2, 3]), (Kind::Text, vec![4])])
        }
        _ => {
            let described = |port: &Port| format!("{} {} [{}]", port.name, port.element_type, port.shape.join(", "));
            Err(format!(
                "it takes {}; expected one image of four axes, of floats or bytes, one row of integer ids, or both",
                inputs.iter().map(described).collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// The position of the embedding among a file's outputs: by name, which has to tell the modality where the file has
/// both towers; else the only output of two axes.
fn embedding(outputs: &[Port], modality: Option<Modality>) -> Result<usize, String> {
    let named = |name: &str| {
        let name = name.to_lowercase();
        modality.is_none_or(|modality| name.contains(modality.name()))
            && ["embed", "pooler_output", "features"].iter().any(|part| name.contains(part))
    };
    // No axes: the file does not say how many there are.
    let flat: Vec<usize> = (0..outputs.len()).filter(|&at| matches!(outputs[at].shape.len(), 0 | 2)).collect();
    let by_name = flat.iter().copied().find(|&at| named(&outputs[at].name));
    let only = if let ([only], None) = (&flat[..], modality) { Some(*only) } else { None };
    by_name.or(only).ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
        format!("none of its outputs ({}) is an embedding [batch, width]", names.join(", "))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ports::PixelFormat;

    /// `name type [axes]`, as in `ids int64 [N, 77]`.
    fn port(text: &str) -> Port {
        let (name, rest) = text.split_once(' ').unwrap();
        let (element_type, axes) = rest.split_once(' ').unwrap();
        let axes = axes.trim_matches(['[', ']']).split(", ").filter(|axis| !axis.is_empty());
        Port { name: name.into(), element_type: element_type.into(), shape: axes.map(str::to_owned).collect() }
    }

    /// A file with these inputs, outputs and metadata.
    pub(crate) fn file(inputs: &[&str], outputs: &[&str], metadata: &[(&str, &str)]) -> Summary {
        Summary {
            producer: String::new(),
            ir_version: 8,
            opsets: BTreeMap::new(),
            graph: String::new(),
            inputs: inputs.iter().map(|text| port(text)).collect(),
            outputs: outputs.iter().map(|text| port(text)).collect(),
            operators: BTreeMap::new(),
            nodes: 0,
            initializers: 0,
            parameters: 0,
            size: 0,
            external_data: BTreeMap::new(),
            metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            antialiases: false,
            has_int4: false,
        }
    }

    /// `image 224x224 Float -> 0`: the input's kind and its size, and the position of the embedding.
    fn described(signature: &Signature) -> String {
        let input = match &signature.input {
            Input::Image(image) => format!("image {:?} {}", image.size, image.format.name()),
            Input::Naflex(naflex) => format!("naflex {}", naflex.patch_values),
            Input::Text(text) => format!("text {}{}", text.context_length, if text.any_length { ", any" } else { "" }),
        };
        let positions: Vec<usize> = signature.inputs.iter().map(|(at, _)| *at).collect();
        format!("{input} {positions:?} -> {}", signature.embedding)
    }

    #[test]
    fn strangers_files_are_understood() {
        const IMAGE: &str = "pixel_values float [N, 3, 224, 224]";
        const TEXT: &str = "input_ids int64 [N, 77]";
        const NAFLEX: [&str; 4] =
            ["patches float [N, P, 588]", "mask int64 [N, P]", "y int64 [N, P]", "x int64 [N, P]"];
        for (inputs, outputs, expected) in [
            (vec![IMAGE], vec!["out float [N, 512]"], vec!["image [224, 224] float [0] -> 0"]),
            (vec!["x float [N, C, H, W]"], vec!["out float []"], vec!["image [224, 224] float [0] -> 0"]),
            (vec!["x uint8 [N, H, W, 3]"], vec!["out float [N, 4]"], vec!["image [224, 224] uint8 [0] -> 0"]),
            (vec!["x uint8 [N, 3, 8, 9]"], vec!["out float [N, 4]"], vec!["image [8, 9] uint8-nchw [0] -> 0"]),
            (vec![TEXT], vec!["hidden float [N, 77, 512]", "out float [N, 512]"], vec!["text 77 [0] -> 1"]),
            (vec!["ids int32 [N, L]"], vec!["out float [N, 4]"], vec!["text 64, any [0] -> 0"]),
            (vec![TEXT], vec!["logits float [N, 5]", "text_features float [N, 4]"], vec!["text 77 [0] -> 1"]),
            (NAFLEX.to_vec(), vec!["pooler_output float [N, 4]"], vec!["naflex 588 [0, 1, 2, 3] -> 0"]),
            (
                vec![TEXT, IMAGE],
                vec!["logits float [N, N]", "text_embeds float [N, 4]", "image_embeds float [N, 4]"],
                vec!["image [224, 224] float [1] -> 2", "text 77 [0] -> 1"],
            ),
            (
                [&NAFLEX[..], &[TEXT]].concat(),
                vec!["image_embeds float [N, 4]", "text_embeds float [N, 4]"],
                vec!["naflex 588 [0, 1, 2, 3] -> 0", "text 77 [4] -> 1"],
            ),
        ] {
            let found = Signature::of(&file(&inputs, &outputs, &[]));
            let found: Vec<String> =
                found.unwrap_or_else(|e| panic!("{inputs:?}: {e}")).iter().map(described).collect();
            assert_eq!(found, expected, "{inputs:?}");
        }
    }

    #[test]
    fn what_is_no_tower_is_refused() {
        for (inputs, outputs, reason) in [
            (vec!["x float [N, 10]"], vec!["out float [N, 4]"], "it takes x float [N, 10]; expected one image"),
            (vec!["x float16 [N, 3, 8, 8]"], vec!["out float [N, 4]"], "it takes x float16"),
            (vec!["ids int64 [N, 9]", "mask int64 [N, 9]"], vec!["out float [N, 4]"], "mask int64 [N, 9]"),
            (vec![], vec!["out float [N, 4]"], "it takes ;"),
            (vec!["ids int64 [N, 9]"], vec!["hidden float [N, 9, 4]"], "none of its outputs (hidden)"),
            (vec!["ids int64 [N, 9]"], vec!["a float [N, 4]", "b float [N, 4]"], "none of its outputs (a, b)"),
            // Of both towers each needs an output that tells which it is.
            (
                vec!["i float [N, 3, 8, 8]", "t int64 [N, 9]"],
                vec!["embeds float [N, 4]"],
                "none of its outputs (embeds)",
            ),
        ] {
            let error = Signature::of(&file(&inputs, &outputs, &[])).unwrap_err();
            assert!(error.contains(reason), "{inputs:?}: {error}");
        }
    }

    #[test]
    fn metadata_says_the_rest() {
        let metadata = [
            ("image_size", "32x48"),
            ("context_length", "16"),
            ("vocab_size", "100"),
            ("eot_id", "99"),
            ("normalized", "true"),
            ("precision", "int8"),
            ("logit_scale_exp", "100"),
            ("labels", "[\"cat\", \"dog\"]"),
        ];
        let image = file(&["x uint8 [1, H, W, channels]"], &["image_embeds float [1, 4]"], &metadata);
        let image = Signature::of(&image).unwrap().remove(0);
        let Input::Image(input) = &image.input else { panic!("{image:?}") };
        assert_eq!(input.format, PixelFormat::Bytes { last: true, alpha: true, resize: true });
        assert_eq!((input.size, image.fixed_batch, image.normalized), ([32, 48], Some(1), Some(true)));
        assert_eq!((image.precision, image.logits()), (Precision::Int8, Some((100.0, 0.0))));
        assert_eq!(image.labels, Some(vec!["cat".to_owned(), "dog".to_owned()]));
        let text = Signature::of(&file(&["ids int64 [N, L]"], &["out float [N, 4]"], &metadata)).unwrap().remove(0);
        let Input::Text(input) = &text.input else { panic!("{text:?}") };
        assert_eq!((input.context_length, input.vocab_size), (16, Some(100)));
        assert_eq!((input.sot_id, input.eot_id, input.pad_id), (None, Some(99), None));
    }

    #[test]
    fn arrays_are_held_against_the_file() {
        let text = Signature::of(&file(&["ids int64 [N, 9]"], &["out float [N, 4]"], &[])).unwrap().remove(0);
        assert_eq!(text.check(&[Array::new([5, 9], vec![0i64; 45])]), Ok(()));
        let error = text.check(&[Array::new([5, 8], vec![0i64; 40])]).unwrap_err();
        assert_eq!(error, "input `ids` is [N, 9], not [5, 8]");
        assert!(text.check(&[]).is_err());
    }

    #[test]
    fn images_become_what_a_tower_takes() {
        let of = |input: &str| {
            let signature = Signature::of(&file(&[input], &["out float [N, 4]"], &[])).unwrap().remove(0);
            let Input::Image(image) = signature.input else { panic!("{input}") };
            image
        };
        let bytes = Array::new([1, 3, 1, 2], vec![0u8, 51, 102, 153, 204, 255]);
        let floats = Array::new([1, 3, 1, 2], vec![0f32, 0.2, 0.4, 0.6, 0.8, 1.0]);
        let last = Array::new([1, 1, 2, 3], vec![0u8, 102, 204, 51, 153, 255]);
        assert_eq!(of("x float [N, 3, 1, 2]").from_images(&bytes), Some(floats.clone()));
        assert_eq!(of("x uint8 [N, 3, 1, 2]").from_images(&floats), Some(bytes.clone()));
        assert_eq!(of("x uint8 [N, 1, 2, 3]").from_images(&bytes), Some(last));
        let between = Array::new([1, 3, 1, 2], vec![0.001f32; 6]);
        assert_eq!(of("x uint8 [N, 3, 1, 2]").from_images(&between), None);
    }
}
