//! The layers of a graph: nodes that read a large constant, and what it is to them.

use std::collections::HashMap;
use std::sync::Arc;

use super::apart::Apart;
use crate::onnx::Value;
use crate::onnx::graph::{self, Data, Initializer, Node, Parts};
use crate::tensor::{Error, Tensor};

/// Weights below this many numbers stay as they are: they are no part worth speaking of.
pub const SMALL: usize = 1024;

/// What a weight is to the node that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// MatMul's second factor `[in, out]`.
    Factor,
    /// MatMul's second factor for each head apart, `[heads, in, out]`.
    Stack,
    /// A convolution's kernel `[out, in / groups, height, width]`.
    Kernel,
    /// A table whose rows are picked, `[rows, width]`.
    Table,
}

impl Role {
    /// What its initializer is to the graph.
    pub fn of_graph(self) -> graph::Role {
        match self {
            Role::Factor | Role::Stack => graph::Role::Weight,
            Role::Kernel => graph::Role::Kernel,
            Role::Table => graph::Role::Table,
        }
    }

    /// Which input of the node it is.
    pub fn input(self) -> usize {
        if self == Role::Table { 0 } else { 1 }
    }
}

/// A node with a large weight.
#[derive(Clone)]
pub struct Layer {
    /// The weight's name without `.weight`.
    pub name: String,
    pub role: Role,
    /// What the weight is multiplied with; of tables, the ids.
    pub input: Value,
    pub weight: Weight,
    /// What is multiplied apart, and is nought in the weight.
    pub apart: Option<Apart>,
}

impl Layer {
    /// With nothing apart.
    pub fn whole(&self) -> Layer {
        let weight = self.apart.as_ref().map_or(&self.weight, |apart| &apart.whole).clone();
        Layer { weight, apart: None, ..self.clone() }
    }

    /// Whether each row's product has a bias to itself: of convolutions only those of one place.
    pub fn can_be_corrected(&self) -> bool {
        let shape = self.weight.tensor.shape();
        self.role == Role::Factor || (self.role == Role::Kernel && shape[2..] == [1, 1] && shape[1] > 1)
    }
}

/// A weight as rows of output channels, each a number for every input.
#[derive(Clone)]
pub struct Weight {
    /// As the node takes it.
    pub tensor: Tensor,
    /// Along the second axis of the rows: what each column is multiplied with.
    pub gains: Option<Arc<[f32]>>,
    /// Rows that are nought here, as they are kept elsewhere.
    pub silent: Option<Arc<[bool]>>,
    role: Role,
}

impl Weight {
    pub fn new(tensor: Tensor, role: Role) -> Weight {
        Weight { tensor, gains: None, silent: None, role }
    }

    pub fn with_gains(&self, gains: Arc<[f32]>) -> Weight {
        Weight { gains: Some(gains), ..self.clone() }
    }

    pub fn without_rows(&self, rows: &[usize]) -> Weight {
        let silent = (0..self.rows()[0]).map(|row| rows.contains(&row)).collect();
        Weight { silent: Some(silent), ..self.clone() }
    }

    /// What column `k` is multiplied with.
    pub fn gain(&self, k: usize) -> f32 {
        self.gains.as_ref().map_or(1.0, |gains| gains[k])
    }

    /// What the input of column `k` is multiplied with in turn; nought for a column that is.
    pub fn inverse_gain(&self, k: usize) -> f32 {
        let gain = self.gain(k);
        if gain == 0.0 { 0.0 } else { 1.0 / gain }
    }

    /// Whether row `at` is nought.
    pub fn is_silent(&self, at: usize) -> bool {
        self.silent.as_ref().is_some_and(|silent| silent[at])
    }

    /// Whether it is stored inputs first.
    pub fn is_turned(&self) -> bool {
        matches!(self.role, Role::Factor | Role::Stack)
    }

    /// The shape in which one number for every row broadcasts to it.
    pub fn row_shape(&self) -> Vec<usize> {
        let shape = self.tensor.shape();
        match self.role {
            Role::Factor => vec![1, shape[1]],
            Role::Stack => vec![shape[0], 1, shape[2]],
            Role::Kernel => std::iter::once(shape[0]).chain(shape[1..].iter().map(|_| 1)).collect(),
            Role::Table => shape[..shape.len() - 1].iter().copied().chain([1]).collect(),
        }
    }

    /// Output channels (or entries of a table), and numbers of each.
    pub fn rows(&self) -> [usize; 2] {
        let shape = self.tensor.shape();
        match self.role {
            Role::Factor => [shape[1], shape[0]],
            Role::Stack => [shape[0] * shape[2], shape[1]],
            Role::Kernel => [shape[0], shape[1..].iter().product()],
            // Rows, or their pieces.
            Role::Table => [shape[..shape.len() - 1].iter().product(), shape[shape.len() - 1]],
        }
    }

    /// Calls `each` with runs of whole rows.
    ///
    /// # Errors
    /// What reading the tensor reports, or `each`.
    pub fn for_each_rows<E: From<Error>>(&self, mut each: impl FnMut(&mut [f32]) -> Result<(), E>) -> Result<(), E> {
        let turned = match self.role {
            Role::Factor => self.tensor.permute(&[1, 0]),
            Role::Stack => self.tensor.permute(&[0, 2, 1]),
            Role::Kernel | Role::Table => self.tensor.clone(),
        };
        let [_, columns] = self.rows();
        // A row may be longer than what is read at once, and that may hold many.
        let mut rest: Vec<f32> = Vec::new();
        let mut at = 0;
        turned.for_each_block(&mut Vec::new(), |block| {
            rest.extend_from_slice(block);
            let whole = rest.len() / columns * columns;
            let rows = &mut rest[..whole];
            if let Some(gains) = &self.gains {
                rows.chunks_exact_mut(columns)
                    .for_each(|row| row.iter_mut().zip(&gains[..]).for_each(|(v, g)| *v *= g));
            }
            for row in rows.chunks_exact_mut(columns) {
                if self.is_silent(at) {
                    row.fill(0.0);
                }
                at += 1;
            }
            if whole > 0 {
                each(rows)?;
            }
            rest.drain(..whole);
            Ok(())
        })
    }
}

/// The layer a node is, where it is one.
fn layer(constants: &HashMap<Value, Constant>, node: &Node) -> Option<Layer> {
    let at = match node.op_type {
        "MatMul" | "Conv" => 1,
        "Gather" => 0,
        _ => return None,
    };
    let Constant { name, role, tensor } = constants.get(node.inputs.get(at)?)?;
    let role = match (role, node.op_type, tensor.shape().len()) {
        _ if tensor.len() < SMALL => return None,
        (graph::Role::Weight, "MatMul", 2) => Role::Factor,
        (graph::Role::Weight, "MatMul", 3) => Role::Stack,
        (graph::Role::Kernel, "Conv", 4) => Role::Kernel,
        (graph::Role::Table, "Gather", 2) => Role::Table,
        _ => return None,
    };
    let input = *node.inputs.get(1 - role.input())?;
    let name = name.strip_suffix(".weight").unwrap_or(name).to_owned();
    Some(Layer { name, role, input, weight: Weight::new(tensor.clone(), role), apart: None })
}

/// All layers, in the order of their nodes; with the place of each node.
pub fn layers(parts: &Parts) -> Vec<(usize, Layer)> {
    let constants = constants(parts);
    let found = parts.nodes.iter().enumerate();
    found.filter_map(|(at, node)| Some((at, layer(&constants, node)?))).collect()
}

/// A float32 initializer.
#[derive(Clone)]
pub struct Constant {
    pub name: String,
    pub role: graph::Role,
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
