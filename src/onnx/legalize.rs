//! Passes that rewrite a graph into operators its target supports.
//!
//! Towers are built once, for all targets: in standard ONNX operators and a few composite ones
//! ([`super::composite`]). Everything targets differ in is decided here, when the graph is finished:
//!
//! 1. `lower` replaces composite operators, and those the operator set lacks, by standard ones: one file each;
//! 2. `unit_axis` removes axes of length 1 that only a fixed batch needs;
//! 3. `equal_ranks` flattens sequences to matrices, for runtimes that multiply matrices only;
//! 4. `operands` turns constant operands from attributes into inputs, as the operator set requires.
//!
//! A pass adds nodes under the path of the call they replace, so they get the names they would have if the tower had
//! added them. [`layer_norm`] runs later, on the quantized graph, because quantization looks for LayerNormalization.

mod attention;
mod causal_mask;
mod equal_ranks;
mod gelu;
mod heads;
pub mod layer_norm;
mod operands;
mod pooled_position;
mod prepend_token;
mod reduce;
mod shapes;
mod unit_axis;

use std::collections::HashMap;

use super::Target;
use super::builder::Graph;
use super::composite::Composite;
use super::graph::{Attribute, Dim, Parts, Role, Value};
use super::ops::Ops;
use super::program::{Call, Program, Step};
use crate::tensor::Tensor;
use pooled_position::Positions;

impl Graph {
    /// The finished graph, in operators its target supports.
    pub fn into_parts(self) -> Parts {
        let (name, target, program, metadata) = self.into_recorded();
        legalize(program, target).finish(name, target, metadata)
    }
}

/// Runs all passes, in order.
pub(super) fn legalize(program: Program, target: Target) -> Program {
    let rows = rows(&program);
    let program = lower(program, target, rows);
    let equal_ranks = target.profile.equal_ranks;
    let program = if rows.is_none() || equal_ranks { unit_axis::remove(program) } else { program };
    let program = if equal_ranks { equal_ranks::flatten(program, target, rows) } else { program };
    Replay::run(program, target, rows, &mut operands::lower)
}

/// The batch size, if all inputs have the same fixed one.
fn rows(program: &Program) -> Option<usize> {
    let mut ports = program.steps.iter().filter_map(|step| match step {
        Step::Input { port, .. } => Some(port),
        _ => None,
    });
    let rows = ports.next().and_then(|port| port.dims.first().cloned());
    let Some(Dim::Fixed(rows)) = rows else { return None };
    ports.all(|port| port.dims.first() == Some(&Dim::Fixed(rows))).then_some(rows)
}

/// Replaces composite operators, and those the operator set lacks, by standard operators.
fn lower(program: Program, target: Target, rows: Option<usize>) -> Program {
    let mut positions = Positions::default();
    Replay::run(program, target, rows, &mut |s, call| {
        let (inputs, optional) = (&call.inputs, |at: usize| call.inputs.get(at).copied());
        let output = match &call.composite {
            None if call.op_type == "Gelu" && !target.has_gelu() => match call.attributes.is_empty() {
                true => gelu::exact(s, inputs[0]),
                false => gelu::tanh(s, inputs[0]),
            },
            None => return None,
            Some(Composite::Attention(heads)) => attention::lower(s, inputs, heads),
            Some(Composite::CausalMask { positions }) => causal_mask::lower(s, *positions),
            Some(Composite::PrependToken { token, positions }) => prepend_token::lower(s, inputs[0], token, positions),
            Some(Composite::PooledPosition(texts)) => positions.find(s, inputs[0], optional(1), texts),
            Some(Composite::RowIndex { positions: n }) => positions.index(s, inputs[0], *n),
            Some(Composite::MaskRow) => positions.mask_row(s, inputs[0], inputs[1], optional(2)),
            Some(Composite::TakePosition { width }) => positions.take(s, inputs[0], inputs[1], *width),
            Some(Composite::LinearToHeads(matrix)) => heads::lower_to(s, inputs[0], matrix),
            Some(Composite::LinearFromHeads(matrix)) => heads::lower_from(s, inputs[0], matrix),
            Some(Composite::AtLeast { least, rank }) => reduce::at_least(s, inputs[0], *least, *rank),
            Some(Composite::L2Norm { width }) => reduce::l2_norm(s, inputs[0], *width),
            Some(Composite::RowMax) => reduce::row_max(s, inputs[0]),
        };
        Some(vec![output])
    })
}

/// Where the nodes that replace a call are added: under its path.
pub struct At<'a> {
    graph: &'a Graph,
    path: String,
    target: Target,
    rows: Option<usize>,
}

impl Ops for At<'_> {
    fn graph(&self) -> &Graph {
        self.graph
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl At<'_> {
    fn target(&self) -> Target {
        self.target
    }

    /// The batch size, if it is fixed.
    fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// One level below this path.
    fn at(&self, name: &str) -> At<'_> {
        At { path: format!("{}/{name}", self.path), ..*self }
    }

    /// A constant, named like the parameters of this path.
    fn initializer(&self, name: &str, role: Role, tensor: Tensor) -> Value {
        self.graph.initializer(&format!("{}.{name}", self.path.replace('/', ".")), role, tensor)
    }
}

/// A copy of a program under construction.
struct Replay {
    graph: Graph,
    target: Target,
    rows: Option<usize>,
    /// New value of each old one.
    values: HashMap<Value, Value>,
}

impl Replay {
    fn new(target: Target, rows: Option<usize>) -> Replay {
        Replay { graph: Graph::new("", target), target, rows, values: HashMap::new() }
    }

    /// Copies `program`, step by step. `lower` may add other nodes instead of a call and return the values that replace
    /// its outputs; if it returns None, the call is copied.
    fn run(
        program: Program,
        target: Target,
        rows: Option<usize>,
        lower: &mut dyn FnMut(&At, &Call) -> Option<Vec<Value>>,
    ) -> Program {
        let mut replay = Replay::new(target, rows);
        for step in program.steps {
            match step {
                Step::Call(mut call) => {
                    call.inputs.iter_mut().for_each(|value| *value = replay.values[value]);
                    let at = replay.at(&call.path);
                    let outputs = lower(&at, &call);
                    let old = call.outputs.clone();
                    let new = outputs.unwrap_or_else(|| replay.graph.call(call));
                    replay.values.extend(old.into_iter().zip(new));
                }
                step => replay.step(step),
            }
        }
        replay.graph.into_program()
    }

    fn at(&self, path: &str) -> At<'_> {
        At { graph: &self.graph, path: path.to_owned(), target: self.target, rows: self.rows }
    }

    /// Copies one step.
    fn step(&mut self, mut step: Step) {
        let (graph, values) = (&self.graph, &mut self.values);
        match &mut step {
            Step::Input { value, .. }
            | Step::Initializer { value, .. }
            | Step::Shared { value, .. }
            | Step::Absent { value } => {
                let new = graph.value();
                values.insert(*value, new);
                *value = new;
            }
            Step::Name { value, .. } | Step::Output { value, .. } => *value = values[value],
            Step::Call(call) => {
                call.inputs.iter_mut().for_each(|value| *value = values[value]);
                let new = graph.call(call.clone());
                values.extend(call.outputs.iter().copied().zip(new));
                return;
            }
        }
        graph.push(step);
    }
}

/// A call's attribute that is a list of integers.
fn ints<'a>(call: &'a Call, name: &str) -> Option<&'a [i64]> {
    call.attributes.iter().find_map(|(key, value)| match value {
        Attribute::Ints(ints) if *key == name => Some(&ints[..]),
        _ => None,
    })
}

/// A call's attribute that is one integer.
fn int(call: &Call, name: &str) -> Option<i64> {
    call.attributes.iter().find_map(|(key, value)| match value {
        Attribute::Int(int) if *key == name => Some(*int),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::CompositeOps;
    use super::super::composite::{HeadRows, Heads, Mask, Pooled, Texts};
    use super::super::graph::ElementType;
    use super::super::testing::{Root, operators, targets, tensor};
    use super::*;

    /// Every composite operator, and every other that a target may avoid.
    fn build(s: &Root, batch: usize) {
        let ids = s.ids("ids", &[batch, 4], ElementType::Int32);
        let x = s.input("x", &[batch, 3, 6]);
        let x = s.prepend_token(x, vec![0.5; 6], vec![0.25; 18]);
        let texts = Texts { pooled: Pooled::LargestId, context_length: 4, vocab_size: 9, int32: true };
        let position = s.pooled_position(ids, None, texts);
        let (mask, index) = (s.causal_mask(4), s.row_index(position, 4));
        let heads = Heads {
            width: 6,
            heads: 2,
            positions: Some(4),
            one_query: false,
            mask: Some(Mask::Causal(mask)),
            scaled: true,
        };
        let y = s.gelu(s.attention([x; 3], heads));
        let seen = s.matmul(s.mask_row(mask, position, None), y); // [B, 1, D]
        let y = s.gelu_tanh(s.add(y, seen));
        let matrix = HeadRows::new(tensor(&[6, 6], 1), 2).unwrap();
        let y = s.linear_from_heads(s.linear_to_heads(s.take_position(y, index, 6), matrix.clone()), matrix);
        let y = s.at_least(s.div(y, s.l2_norm(y, 6)), 0.1, 2);
        s.output("y", s.sub(y, s.row_max(y)));
    }

    #[test]
    fn nothing_is_left_that_a_target_does_not_take() {
        for (target, batch) in targets().into_iter().flat_map(|target| [(target, 0), (target, 2)]) {
            if target.profile.static_batch && batch == 0 {
                continue;
            }
            let s = Root::new(target);
            build(&s, batch);
            let program = legalize(s.0.into_program(), target);
            let composite = |step: &Step| matches!(step, Step::Call(call) if call.composite.is_some());
            assert!(!program.steps.iter().any(composite));
            let parts = program.finish("test".to_owned(), target, [].into());
            let parts = layer_norm::decompose(parts);
            let left: Vec<_> = operators(&parts).into_iter().filter(|op| target.avoids(op)).collect();
            assert!(left.is_empty(), "{} {}: {left:?}", target.profile.name, target.opset);
        }
    }
}
