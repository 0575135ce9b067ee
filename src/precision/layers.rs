//! The layers of a graph: nodes that read a large weight. Data that the passes share.

use std::collections::HashMap;
use std::sync::Arc;

use super::operators::weight_input;
use crate::onnx::Value;
use crate::onnx::graph::{Data, Initializer, Node, Parts, Role};
use crate::tensor::{Error, Tensor};

/// Weights of fewer numbers stay float32: they are a negligible part of a file.
pub const SMALL: usize = 1024;

/// How a node uses its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightKind {
    /// `MatMul`'s second factor, `[in, out]`.
    Matrix,
    /// `MatMul`'s second factor, a matrix for each head, `[heads, in, out]`.
    HeadMatrices,
    /// A convolution's kernel, `[out, in / groups, height, width]`.
    Kernel,
    /// A table that `Gather` picks rows from, `[rows, width]`.
    Table,
}

impl WeightKind {
    fn of(role: Role, op_type: &str, rank: usize) -> Option<WeightKind> {
        match (role, op_type, rank) {
            (Role::Weight, "MatMul", 2) => Some(WeightKind::Matrix),
            (Role::Weight, "MatMul", 3) => Some(WeightKind::HeadMatrices),
            (Role::Kernel, "Conv", 4) => Some(WeightKind::Kernel),
            (Role::Table, "Gather", 2) => Some(WeightKind::Table),
            _ => None,
        }
    }

    /// Which input of the node the weight is.
    pub fn input(self) -> usize {
        if self == WeightKind::Table { 0 } else { 1 }
    }

    /// The role of its initializer.
    pub fn role(self) -> Role {
        match self {
            WeightKind::Matrix | WeightKind::HeadMatrices => Role::Weight,
            WeightKind::Kernel => Role::Kernel,
            WeightKind::Table => Role::Table,
        }
    }
}

/// A node with a large weight.
#[derive(Clone)]
pub struct Layer {
    /// The name of its initializer, without `.weight`.
    pub name: String,
    pub kind: WeightKind,
    /// What the weight is multiplied with; of tables, the ids.
    pub input: Value,
    /// What is quantized of the weight.
    pub weight: Weight,
    /// The weight with its outlier channels.
    pub full: Weight,
    /// Channels that are zero in `weight`, for a float32 product of their own.
    pub outliers: Option<Outliers>,
}

impl Layer {
    pub fn new(name: &str, kind: WeightKind, input: Value, tensor: Tensor) -> Layer {
        let weight = Weight::new(tensor, kind);
        Layer { name: name.to_owned(), kind, input, full: weight.clone(), weight, outliers: None }
    }

    /// With input channels multiplied by smoothing factors.
    pub fn smoothed(self, smoothing: &Arc<[f32]>) -> Layer {
        let weight = self.full.with_factors(smoothing.clone());
        Layer { full: weight.clone(), weight, outliers: None, ..self }
    }

    /// Without a product of its own for outlier channels.
    pub fn undivided(&self) -> Layer {
        Layer { weight: self.full.clone(), outliers: None, ..self.clone() }
    }

    /// Whether a bias behind the product can make up for each output channel's mean error: of convolutions, only behind
    /// those of 1 × 1 that are not depthwise.
    pub fn can_be_corrected(&self) -> bool {
        let shape = self.weight.tensor.shape();
        self.kind == WeightKind::Matrix || (self.kind == WeightKind::Kernel && shape[2..] == [1, 1] && shape[1] > 1)
    }
}

/// Channels of a product that are much larger than the rest.
#[derive(Clone)]
pub struct Outliers {
    /// Input channels, and their weights `[channels, out]`.
    pub inputs: Option<OutlierWeights>,
    /// Output channels, and their weights `[in, channels]`, zero for the input channels above.
    pub outputs: Option<OutlierWeights>,
}

/// Outlier channels, in ascending order, and what they are multiplied with.
#[derive(Clone)]
pub struct OutlierWeights {
    pub channels: Vec<usize>,
    pub weights: Tensor,
}

impl Outliers {
    fn both(&self) -> impl Iterator<Item = &OutlierWeights> {
        [&self.inputs, &self.outputs].into_iter().flatten()
    }

    /// How many channels.
    pub fn count(&self) -> usize {
        self.both().map(|outliers| outliers.channels.len()).sum()
    }

    /// Bytes of their weights in float32.
    pub fn bytes(&self) -> u64 {
        self.both().map(|outliers| outliers.weights.len() as u64 * 4).sum()
    }
}

/// A weight seen as rows, one for each output channel, of a number for each input (a column).
#[derive(Clone)]
pub struct Weight {
    /// As the node takes it.
    pub tensor: Tensor,
    /// What each column is multiplied with: its smoothing factor, or zero where it is an outlier channel.
    pub factors: Option<Arc<[f32]>>,
    /// Which rows are zero, since they are outlier channels.
    pub zeroed: Option<Arc<[bool]>>,
    kind: WeightKind,
}

impl Weight {
    pub fn new(tensor: Tensor, kind: WeightKind) -> Weight {
        Weight { tensor, factors: None, zeroed: None, kind }
    }

    pub fn with_factors(&self, factors: Arc<[f32]>) -> Weight {
        Weight { factors: Some(factors), ..self.clone() }
    }

    pub fn without_rows(&self, rows: &[usize]) -> Weight {
        let zeroed = (0..self.rows()[0]).map(|row| rows.contains(&row)).collect();
        Weight { zeroed: Some(zeroed), ..self.clone() }
    }

    /// What column `k` is multiplied with.
    pub fn factor(&self, k: usize) -> f32 {
        self.factors.as_ref().map_or(1.0, |factors| factors[k])
    }

    /// What the input of column `k` is multiplied with in turn; zero for an outlier channel, which is left out.
    pub fn inverse_factor(&self, k: usize) -> f32 {
        let factor = self.factor(k);
        if factor == 0.0 { 0.0 } else { 1.0 / factor }
    }

    /// Whether row `at` is zero.
    pub fn is_zeroed(&self, at: usize) -> bool {
        self.zeroed.as_ref().is_some_and(|zeroed| zeroed[at])
    }

    /// Whether it is stored by input channels, as matrices are.
    pub fn is_input_major(&self) -> bool {
        matches!(self.kind, WeightKind::Matrix | WeightKind::HeadMatrices)
    }

    /// The shape in which one number for every row broadcasts to it.
    pub fn row_shape(&self) -> Vec<usize> {
        let shape = self.tensor.shape();
        match self.kind {
            WeightKind::Matrix => vec![1, shape[1]],
            WeightKind::HeadMatrices => vec![shape[0], 1, shape[2]],
            WeightKind::Kernel => std::iter::once(shape[0]).chain(shape[1..].iter().map(|_| 1)).collect(),
            WeightKind::Table => shape[..shape.len() - 1].iter().copied().chain([1]).collect(),
        }
    }

    /// How many rows, and numbers of each.
    pub fn rows(&self) -> [usize; 2] {
        let shape = self.tensor.shape();
        match self.kind {
            WeightKind::Matrix => [shape[1], shape[0]],
            WeightKind::HeadMatrices => [shape[0] * shape[2], shape[1]],
            WeightKind::Kernel => [shape[0], shape[1..].iter().product()],
            // Entries, or groups of an entry's numbers.
            WeightKind::Table => [shape[..shape.len() - 1].iter().product(), shape[shape.len() - 1]],
        }
    }

    /// Calls `each` with every row.
    ///
    /// # Errors
    /// What reading the tensor reports.
    pub fn for_each_row(&self, mut each: impl FnMut(&[f32])) -> Result<(), Error> {
        let [_, columns] = self.rows();
        self.for_each_rows(|block| {
            block.chunks_exact(columns).for_each(&mut each);
            Ok(())
        })
    }

    /// Calls `each` with blocks of whole rows.
    ///
    /// # Errors
    /// What reading the tensor reports, or `each`.
    pub fn for_each_rows<E: From<Error>>(&self, mut each: impl FnMut(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        let by_rows = match self.kind {
            WeightKind::Matrix => self.tensor.permute(&[1, 0]),
            WeightKind::HeadMatrices => self.tensor.permute(&[0, 2, 1]),
            WeightKind::Kernel | WeightKind::Table => self.tensor.clone(),
        };
        let [_, columns] = self.rows();
        // Blocks of the tensor end anywhere: in the midst of a row, or after many.
        let mut pending: Vec<f32> = Vec::new();
        let mut at = 0;
        by_rows.for_each_block(&mut Vec::new(), |block| {
            pending.extend_from_slice(block);
            let complete = pending.len() / columns * columns;
            let rows = &mut pending[..complete];
            if let Some(factors) = &self.factors {
                rows.chunks_exact_mut(columns)
                    .for_each(|row| row.iter_mut().zip(&factors[..]).for_each(|(v, factor)| *v *= factor));
            }
            for row in rows.chunks_exact_mut(columns) {
                if self.is_zeroed(at) {
                    row.fill(0.0);
                }
                at += 1;
            }
            if complete > 0 {
                each(rows)?;
            }
            pending.drain(..complete);
            Ok(())
        })
    }
}

/// A float32 initializer.
#[derive(Clone)]
pub struct Constant {
    pub name: String,
    pub role: Role,
    pub tensor: Tensor,
}

/// The graph's float32 initializers, by value.
pub fn constants(parts: &Parts) -> HashMap<Value, Constant> {
    let values: HashMap<&str, Value> = parts.values().map(|value| (parts.value_name(value), value)).collect();
    let float = |initializer: &Initializer| {
        let Data::Float(tensor) = &initializer.data else { return None };
        let constant = Constant { name: initializer.name.clone(), role: initializer.role, tensor: tensor.clone() };
        Some((*values.get(initializer.name.as_str())?, constant))
    };
    parts.initializers.iter().filter_map(float).collect()
}

/// All layers with the index of their node, in the order of nodes.
pub fn layers(parts: &Parts) -> Vec<(usize, Layer)> {
    let constants = constants(parts);
    let found = parts.nodes.iter().enumerate();
    found.filter_map(|(at, node)| Some((at, layer(&constants, node)?))).collect()
}

/// The layer a node is, where it is one.
fn layer(constants: &HashMap<Value, Constant>, node: &Node) -> Option<Layer> {
    let Constant { name, role, tensor } = constants.get(node.inputs.get(weight_input(node.op_type)?)?)?;
    if tensor.len() < SMALL {
        return None;
    }
    let kind = WeightKind::of(*role, node.op_type, tensor.shape().len())?;
    let input = *node.inputs.get(1 - kind.input())?;
    Some(Layer::new(name.strip_suffix(".weight").unwrap_or(name), kind, input, tensor.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::graph::{Dim, ElementType};
    use crate::onnx::{Graph, Target};

    fn tensor(shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|at| at as f32).collect();
        Tensor::from_f32("weight", shape, &values)
    }

    fn rows_of(weight: &Weight) -> Vec<f32> {
        let mut out = Vec::new();
        weight.for_each_row(|row| out.extend_from_slice(row)).unwrap();
        out
    }

    #[test]
    fn rows_are_output_channels_however_the_weight_is_stored() {
        let matrix = Weight::new(tensor(&[2, 3]), WeightKind::Matrix);
        assert_eq!((matrix.rows(), rows_of(&matrix)), ([3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
        let heads = Weight::new(tensor(&[2, 2, 1]), WeightKind::HeadMatrices);
        assert_eq!((heads.rows(), rows_of(&heads)), ([2, 2], vec![0.0, 1.0, 2.0, 3.0]));
        let kernel = Weight::new(tensor(&[2, 1, 1, 2]), WeightKind::Kernel);
        assert_eq!((kernel.rows(), kernel.row_shape()), ([2, 2], vec![2, 1, 1, 1]));
        let table = Weight::new(tensor(&[4, 2, 3]), WeightKind::Table);
        assert_eq!((table.rows(), table.row_shape()), ([8, 3], vec![4, 2, 1]));
    }

    #[test]
    fn columns_are_multiplied_and_rows_left_out() {
        let weight = Weight::new(tensor(&[2, 3]), WeightKind::Matrix);
        let weight = weight.with_factors([2.0, 0.0].into()).without_rows(&[1]);
        assert_eq!(rows_of(&weight), [0.0, 0.0, 0.0, 0.0, 4.0, 0.0]);
        assert_eq!([0, 1].map(|k| weight.inverse_factor(k)), [0.5, 0.0]);
    }

    /// Roles and operators decide; names do not.
    #[test]
    fn layers_are_found_by_role() {
        let graph = Graph::new("tower", Target::default());
        let x = graph.input("x", ElementType::Float, vec![Dim::Fixed(1), Dim::Fixed(32)]);
        let roles = [("a", Role::Weight), ("b.weight", Role::Labels), ("c.weight", Role::Norm), ("d", Role::Constant)];
        for (name, role) in roles {
            let weight = graph.initializer(name, role, tensor(&[32, 32]));
            let product = graph.node(name, "MatMul", &[x, weight], vec![]);
            graph.output(product, &format!("{name}_product"), ElementType::Float, vec![]);
        }
        let small = graph.initializer("small", Role::Weight, tensor(&[32, 31]));
        graph.output(graph.node("small", "MatMul", &[x, small], vec![]), "y", ElementType::Float, vec![]);
        let found = layers(&graph.into_parts());
        assert_eq!(found.iter().map(|(at, layer)| (*at, layer.name.as_str())).collect::<Vec<_>>(), [(0, "a")]);
    }
}
