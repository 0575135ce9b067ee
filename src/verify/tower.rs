//! One ONNX file as an engine runs it: ours, or any third-party tower.

use std::path::Path;
use std::rc::Rc;

use super::Error;
use super::engine::{Engine, Model, Plan};
use super::inputs;
use crate::onnx::read::{Port, Summary, summary};
use crate::precision::Precision;

/// Rows of numbers or of ids; the first axis is the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    /// Float contents; empty for ids.
    pub values: Vec<f32>,
    /// Integer contents; empty for floats.
    pub ids: Vec<i64>,
}

impl Array {
    fn row_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// A row of floats.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.row_len()..][..self.row_len()]
    }

    /// The rows at these places, in this order.
    pub fn rows(&self, places: &[usize]) -> Array {
        let n = self.row_len();
        let shape = [&[places.len()], &self.shape[1..]].concat();
        let values = if self.values.is_empty() {
            vec![]
        } else {
            places.iter().flat_map(|&p| self.values[p * n..][..n].iter().copied()).collect()
        };
        let ids = if self.ids.is_empty() {
            vec![]
        } else {
            places.iter().flat_map(|&p| self.ids[p * n..][..n].iter().copied()).collect()
        };
        Array { shape, values, ids }
    }

    /// `[N, C, H, W]` as `[N, H, W, C]`.
    fn channels_last(&self) -> Array {
        let [n, channels, height, width] = [0, 1, 2, 3].map(|axis| self.shape[axis]);
        let plane = height * width;
        let picture = |row: &[f32]| -> Vec<f32> {
            (0..plane * channels).map(|at| row[at % channels * plane + at / channels]).collect()
        };
        let values = self.values.chunks(plane * channels).flat_map(picture).collect();
        Array { shape: vec![n, height, width, channels], values, ids: vec![] }
    }

    /// These rows, then those.
    pub fn followed_by(mut self, other: &Array) -> Array {
        self.shape[0] += other.shape[0];
        self.values.extend_from_slice(&other.values);
        self.ids.extend_from_slice(&other.ids);
        self
    }
}

/// Where the channels of images of bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// `[N, H, W, 3]`
    Last,
    /// `[N, 3, H, W]`
    Second,
}

/// Pictures `[N, 3, H, W]`.
pub enum Pictures {
    /// 0 to 255, in whole numbers.
    Bytes(Array),
    /// As preprocessing leaves them.
    Floats(Array),
}

/// What a tower takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pixels, one input of four axes: floats, or bytes.
    Image,
    /// NaFlex's patches, mask and coordinates.
    Naflex,
    /// One integer input of two axes.
    Text,
}

/// A loaded tower.
pub struct Tower {
    pub name: String,
    path: String,
    pub kind: Kind,
    summary: Rc<Summary>,
    /// Which of the file's inputs are its own.
    inputs: Vec<usize>,
    /// What the file's other inputs are fed meanwhile, where it holds both towers.
    others: Vec<(usize, Array)>,
    /// Which output is the embedding.
    output: usize,
    pub output_name: String,
    /// Batch size the file is frozen to.
    pub fixed_batch: Option<usize>,
    /// Whether the file says its embeddings are normalised; None when it says nothing.
    pub normalized: Option<bool>,
    /// What the file says its precision is; float32 when it says nothing.
    pub precision: Precision,
    model: Rc<Model>,
}

/// A tower bound to one batch size.
pub struct Runnable<'a> {
    tower: &'a Tower,
    plan: Plan<'a>,
}

impl Tower {
    /// Reads the file's own description, then loads it with an engine, `threads` of it, all where that is
    /// none; gives the towers in it, one as a rule. Messages call it `shown`.
    ///
    /// # Errors
    /// [`Error::Onnx`], [`Error::Tower`] or [`Error::Engine`].
    pub fn all(path: &Path, shown: &Path, engine: &Engine, threads: Option<usize>) -> Result<Vec<Tower>, Error> {
        let summary = Rc::new(summary(path)?);
        let path_text = shown.display().to_string();
        let unfit = |reason: String| Error::Tower { path: path_text.clone(), reason };
        let kinds = kinds(&summary.inputs).map_err(unfit)?;
        let both = kinds.len() > 1;
        let outputs = kinds.iter().map(|(kind, _)| embedding_output(&summary.outputs, both.then_some(*kind)));
        let outputs = outputs.collect::<Result<Vec<usize>, String>>().map_err(unfit)?;
        let model = Rc::new(engine.load(path, &path_text, threads)?);
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let tower = |((kind, inputs), output): ((Kind, Vec<usize>), usize)| Tower {
            name: name.clone(),
            path: path_text.clone(),
            kind,
            output,
            output_name: summary.outputs[output].name.clone(),
            fixed_batch: summary.inputs[inputs[0]].fixed(0),
            precision: precision(&summary),
            normalized: summary.metadata.get("normalized").map(|v| v == "true"),
            summary: summary.clone(),
            inputs,
            others: vec![],
            model: model.clone(),
        };
        let mut towers: Vec<Tower> = kinds.into_iter().zip(outputs).map(tower).collect();
        if let [first, second] = &mut towers[..] {
            let rows = |tower: &Tower| tower.fixed_batch.unwrap_or(1);
            let (of_first, of_second) = (inputs::fixed(first, rows(first)), inputs::fixed(second, rows(second)));
            first.beside(second, of_second);
            second.beside(first, of_first);
        }
        Ok(towers)
    }

    /// The one tower of a file, or its first.
    ///
    /// # Errors
    /// As [`Tower::all`].
    pub fn open(path: &Path, shown: &Path, engine: &Engine, threads: Option<usize>) -> Result<Tower, Error> {
        // There is one at least.
        Ok(Tower::all(path, shown, engine, threads)?.swap_remove(0))
    }

    /// Has the other tower of the file fed `inputs` whenever this one is run.
    pub fn beside(&mut self, other: &Tower, inputs: Vec<Array>) {
        self.others = other.inputs.iter().copied().zip(inputs).collect();
    }

    /// All inputs of the file, in its order.
    fn fed<'a>(&'a self, inputs: &'a [Array]) -> Vec<&'a Array> {
        let own = self.inputs.iter().copied().zip(inputs);
        let mut all: Vec<(usize, &Array)> = own.chain(self.others.iter().map(|(at, array)| (*at, array))).collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, array)| array).collect()
    }

    /// One of its inputs, in its own order.
    pub(super) fn input(&self, at: usize) -> &Port {
        &self.summary.inputs[self.inputs[at]]
    }

    /// The tower optimised for one batch size; other free axes take their lengths from `inputs`.
    ///
    /// # Errors
    /// [`Error::Tower`] when an input does not fit, [`Error::Engine`] when the engine fails.
    pub fn at_batch(&self, batch: usize, inputs: &[Array]) -> Result<Runnable<'_>, Error> {
        let misfit = |input: &Port, found: &[usize]| {
            self.unfit(format!("input `{}` is [{}], not {found:?}", input.name, input.shape.join(", ")))
        };
        // What the file itself fixes is the same for all engines.
        for (at, array) in inputs.iter().enumerate() {
            let (input, lengths) = (self.input(at), [&[batch], &array.shape[1..]].concat());
            let fixed = |axis: usize| input.fixed(axis).is_none_or(|n| n == lengths[axis]);
            if input.shape.len() != lengths.len() || !(0..lengths.len()).all(fixed) {
                return Err(misfit(input, &array.shape));
            }
        }
        let mut lengths: Vec<Vec<usize>> = self.fed(inputs).iter().map(|array| array.shape.clone()).collect();
        self.inputs.iter().for_each(|&at| lengths[at][0] = batch);
        match self.model.at(&lengths, &self.summary.inputs)? {
            Ok(plan) => Ok(Runnable { tower: self, plan }),
            Err(at) => Err(misfit(&self.summary.inputs[at], &lengths[at])),
        }
    }

    /// That something cannot be fed to it.
    pub fn unfit(&self, reason: String) -> Error {
        Error::Tower { path: self.path.clone(), reason }
    }

    /// Whether its texts may be of any length up to the context.
    pub fn takes_any_length(&self) -> bool {
        self.input(0).fixed(1).is_none()
    }

    fn metadata<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.summary.metadata.get(key).and_then(|v| v.parse().ok())
    }

    /// The number of an output.
    pub fn output_at(&self, name: &str) -> Option<usize> {
        self.summary.outputs.iter().position(|output| output.name == name)
    }

    /// How many outputs there are.
    pub fn outputs(&self) -> usize {
        self.summary.outputs.len()
    }

    /// The number of the output that is the embedding.
    pub fn embedding_at(&self) -> usize {
        self.output
    }

    /// Whether the file has no other tower.
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// What it knows, where labels are inside.
    pub fn labels(&self) -> Option<Vec<String>> {
        serde_json::from_str(self.summary.metadata.get("labels")?).ok()
    }

    /// `exp(logit_scale)` and the bias, where the file carries them.
    pub fn logits(&self) -> Option<(f64, f64)> {
        Some((self.metadata("logit_scale_exp")?, self.metadata("logit_bias").unwrap_or(0.0)))
    }

    /// The bias of logits, where the model has one.
    pub fn logit_bias(&self) -> Option<f64> {
        self.metadata("logit_bias")
    }

    /// Height and width; where the file leaves them free what it says it was made for, else 224.
    pub fn image_size(&self) -> [usize; 2] {
        let input = self.input(0);
        let first = if self.bytes() == Some(Bytes::Last) { 1 } else { 2 };
        let said: Option<String> = self.metadata("image_size");
        let said = said.as_deref().and_then(|text| text.split_once('x'));
        let said = said.map_or([None, None], |(height, width)| [height.parse().ok(), width.parse().ok()]);
        [0, 1].map(|axis| input.fixed(first + axis).or(said[axis]).unwrap_or(224))
    }

    /// Where the channels of its images are, if it takes bytes.
    pub fn bytes(&self) -> Option<Bytes> {
        let input = self.input(0);
        if input.element_type != "uint8" {
            return None;
        }
        let channels =
            |axis: usize| input.fixed(axis) == Some(3) || input.shape.get(axis).is_some_and(|n| n == "channels");
        Some(if channels(1) && !channels(3) { Bytes::Second } else { Bytes::Last })
    }

    /// Pictures `[N, 3, H, W]`, as bytes or as what preprocessing makes of those, as this tower takes them; none
    /// where it takes bytes and they are no bytes.
    pub fn image(&self, pictures: &Pictures) -> Option<Array> {
        let rule = self.preprocess();
        let (mean, std) = rule.as_ref().map_or(([0.0; 3], [1.0; 3]), |cfg| (cfg.mean, cfg.std));
        let factor = rule.as_ref().map_or(1.0 / 255.0, crate::config::PreprocessCfg::factor);
        let (array, is_bytes) = match pictures {
            Pictures::Bytes(array) => (array, true),
            Pictures::Floats(array) => (array, false),
        };
        let plane: usize = array.shape[2..].iter().product();
        let channel = |at: usize| (at / plane.max(1)) % 3;
        let each = |number: &dyn Fn(f64, usize) -> f64| -> Vec<f32> {
            array.values.iter().enumerate().map(|(at, &v)| number(f64::from(v), channel(at)) as f32).collect()
        };
        let Some(bytes) = self.bytes() else {
            let values =
                if is_bytes { each(&|byte, c| (byte * factor - mean[c]) / std[c]) } else { array.values.clone() };
            return Some(Array { values, ..array.clone() });
        };
        let values = if is_bytes {
            array.values.clone()
        } else {
            let values = each(&|v, c| (v * std[c] + mean[c]) / factor);
            if values.iter().any(|v| (v - v.round()).abs() > 1e-2 || !(-0.5..255.5).contains(v)) {
                return None;
            }
            values.iter().map(|v| v.round()).collect()
        };
        let array = Array { values, ..array.clone() };
        Some(if bytes == Bytes::Last { array.channels_last() } else { array })
    }

    /// Whether pictures of the tower's own size would be resized inside all the same, to be cropped: then a tower of
    /// floats is given other pixels.
    pub fn resizes_always(&self) -> bool {
        let first = if self.bytes() == Some(Bytes::Last) { 1 } else { 2 };
        let is_free = self.kind == Kind::Image && self.input(0).fixed(first).is_none();
        is_free && self.preprocess().is_some_and(|cfg| cfg.resize_to.is_some())
    }

    fn preprocess(&self) -> Option<crate::config::PreprocessCfg> {
        serde_json::from_str(self.summary.metadata.get("preprocess")?).ok()
    }

    /// Numbers per patch.
    pub fn patch_values(&self) -> usize {
        self.input(0).fixed(2).unwrap_or(768)
    }

    /// Interval the tower's pixels lie in, 0..1 where the file says nothing.
    pub fn value_range(&self) -> [f32; 2] {
        let range = self.preprocess().and_then(|cfg| cfg.value_range);
        range.map_or([0.0, 1.0], |range| range.map(|v| v as f32))
    }

    /// Places in a row of ids.
    pub fn context_length(&self) -> usize {
        let length = self.input(0).fixed(1).or_else(|| self.metadata("context_length"));
        length.unwrap_or(64).clamp(1, 1 << 14)
    }

    /// Size of the vocabulary; a safe small one where the file says nothing.
    pub fn vocab_size(&self) -> usize {
        self.stated_vocab_size().unwrap_or(100)
    }

    /// Size of the vocabulary, where the file says it.
    pub fn stated_vocab_size(&self) -> Option<usize> {
        self.metadata("vocab_size").filter(|&size| size > 0)
    }

    /// Ids of start, end and padding.
    pub fn special_ids(&self) -> [Option<i64>; 3] {
        [self.metadata("sot_id"), self.metadata("eot_id"), self.metadata("pad_id")]
    }
}

impl Runnable<'_> {
    /// Runs one batch; gives the embeddings.
    ///
    /// # Errors
    /// [`Error::Engine`], or [`Error::Tower`] when the output is no matrix of floats.
    pub fn run(&self, inputs: &[Array]) -> Result<Array, Error> {
        let mut arrays = self.plan.run(&self.tower.fed(inputs), &[self.tower.output])?;
        let shape = match arrays.pop() {
            Some(array) if array.shape.len() == 2 && array.shape[0] == inputs[0].shape[0] => return Ok(array),
            other => other.map(|array| array.shape).unwrap_or_default(),
        };
        let name = &self.tower.output_name;
        Err(self.tower.unfit(format!("output `{name}` has shape {shape:?}, expected [batch, width]")))
    }

    /// Runs one batch; gives the outputs of these numbers, which are the file's.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn run_for(&self, inputs: &[Array], outputs: &[usize]) -> Result<Vec<Array>, Error> {
        self.plan.run(&self.tower.fed(inputs), outputs)
    }
}

/// What a file says its precision is; float32 when it says nothing.
pub fn precision(summary: &Summary) -> Precision {
    summary.metadata.get("precision").and_then(|name| Precision::parse(name)).unwrap_or(Precision::Fp32)
}

/// The towers of a file, with the inputs of each: one, or an image's and a text's.
pub(crate) fn kinds(inputs: &[Port]) -> Result<Vec<(Kind, Vec<usize>)>, String> {
    let is_id = |port: &Port| matches!(port.element_type.as_str(), "int64" | "int32");
    let is_number = |port: &Port| matches!(port.element_type.as_str(), "float" | "uint8");
    let shapes: Vec<(bool, usize)> = inputs.iter().map(|port| (is_id(port), port.shape.len())).collect();
    let known = inputs.iter().all(|port| is_id(port) || is_number(port));
    const IMAGE: (bool, usize) = (false, 4);
    const TEXT: (bool, usize) = (true, 2);
    const NAFLEX: [(bool, usize); 4] = [(false, 3), TEXT, TEXT, TEXT];
    match &shapes[..] {
        [IMAGE] if known => Ok(vec![(Kind::Image, vec![0])]),
        [TEXT] => Ok(vec![(Kind::Text, vec![0])]),
        [IMAGE, TEXT] if known => Ok(vec![(Kind::Image, vec![0]), (Kind::Text, vec![1])]),
        [TEXT, IMAGE] if known => Ok(vec![(Kind::Image, vec![1]), (Kind::Text, vec![0])]),
        [patches @ .., TEXT] if known && patches == NAFLEX => {
            Ok(vec![(Kind::Naflex, vec![0, 1, 2, 3]), (Kind::Text, vec![4])])
        }
        shapes if known && *shapes == NAFLEX => Ok(vec![(Kind::Naflex, vec![0, 1, 2, 3])]),
        _ => {
            let found: Vec<String> = inputs
                .iter()
                .map(|port| format!("{} {} [{}]", port.name, port.element_type, port.shape.join(", ")))
                .collect();
            Err(format!(
                "it takes {}; expected one image of four axes, of floats or bytes, one row of integer ids, or both",
                found.join(", ")
            ))
        }
    }
}

/// The embedding among a file's outputs: by name, which of a file with both towers is that of the kind asked
/// for; else the only one with two axes.
fn embedding_output(outputs: &[Port], kind: Option<Kind>) -> Result<usize, String> {
    let named = |name: &str| {
        let name = name.to_lowercase();
        let fits = kind.is_none_or(|kind| name.contains(if kind == Kind::Text { "text" } else { "image" }));
        fits && ["embed", "pooler_output", "features"].iter().any(|part| name.contains(part))
    };
    let flat: Vec<usize> = (0..outputs.len()).filter(|&at| matches!(outputs[at].shape.len(), 0 | 2)).collect();
    let by_name = flat.iter().copied().find(|&at| named(&outputs[at].name));
    let only = if let ([only], None) = (&flat[..], kind) { Some(*only) } else { None };
    by_name.or(only).ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
        format!("none of its outputs ({}) is an embedding [batch, width]", names.join(", "))
    })
}
