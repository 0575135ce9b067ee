//! Flattens sequences `[B, N, D]` to matrices `[B·N, D]`, for runtimes whose products require factors of equal rank with
//! the same leading axes.
//!
//! Inputs of products with a constant matrix are flattened, and so are all values that lead there along the last axis,
//! such as norms and residual sums: one Reshape before the first block, none between blocks. Other operators get a
//! Reshape back to `[B, N, D]`.

use std::collections::{HashMap, HashSet};

use super::shapes::{Shapes, along_last_axis};
use super::{Replay, int, ints};
use crate::onnx::Target;
use crate::onnx::graph::{Attribute, Data, Value};
use crate::onnx::ops::Ops;
use crate::onnx::program::{Call, Program, Step};
use crate::tensor::Tensor;

/// Runs the pass.
pub fn flatten(program: Program, target: Target, rows: Option<usize>) -> Program {
    let plan = Plan::of(&program);
    let mut flattened =
        Flattened { plan: &plan, replay: Replay::new(target, rows), flat: HashMap::new(), full: HashMap::new() };
    for step in program.steps {
        match step {
            Step::Call(call) => flattened.call(&call),
            Step::Initializer { value, mut initializer } => {
                if let (Some(&times), Data::Float(tensor)) = (plan.repeated.get(&value), &initializer.data)
                    && let Ok(repeated) = Tensor::concat(&vec![tensor.clone(); times])
                {
                    initializer.data = Data::Float(repeated);
                }
                flattened.replay.step(Step::Initializer { value, initializer });
            }
            Step::Name { value, name } if !flattened.replay.values.contains_key(&value) => {
                flattened.replay.graph.rename(flattened.flat[&value], &name);
            }
            Step::Output { value, port } => {
                let path = plan.paths.get(&value).cloned().unwrap_or_default();
                let value = flattened.full(value, &path);
                flattened.replay.graph.push(Step::Output { value, port });
            }
            step => flattened.replay.step(step),
        }
    }
    flattened.replay.graph.into_program()
}

/// What the pass does with the values of the old program.
struct Plan {
    shapes: Shapes,
    constants: HashSet<Value>,
    /// Sequences to be flattened where they are computed.
    wanted: HashSet<Value>,
    /// Constant factors `[1, …]` that are broadcast over a batch, and its size: they are repeated instead.
    repeated: HashMap<Value, usize>,
    /// Path of the call that computes each value.
    paths: HashMap<Value, String>,
}

impl Plan {
    fn of(program: &Program) -> Plan {
        let (shapes, mut paths) = (Shapes::of(program), HashMap::new());
        let mut constants = HashSet::new();
        for step in &program.steps {
            match step {
                Step::Initializer { value, .. } | Step::Shared { value, .. } => _ = constants.insert(*value),
                Step::Call(call) => call.outputs.iter().for_each(|&value| _ = paths.insert(value, call.path.clone())),
                _ => {}
            }
        }
        let (wanted, repeated) = (HashSet::new(), HashMap::new());
        let mut plan = Plan { shapes, constants, wanted, repeated, paths };
        for step in program.steps.iter().rev() {
            let Step::Call(call) = step else { continue };
            if plan.is_along_sequences(call) {
                if call.op_type == "MatMul" || call.outputs.iter().any(|output| plan.wanted.contains(output)) {
                    plan.wanted.extend(call.inputs.iter().filter(|input| !plan.constants.contains(input)));
                }
            } else if let ("MatMul", &[a, b]) = (call.op_type, &call.inputs[..])
                && let (Some([Some(1), ..]), Some(&[Some(rows), _, _])) = (plan.shape(a), plan.shape(b))
                && plan.constants.contains(&a)
                && plan.shapes.rank(a) == Some(3)
                && rows > 1
            {
                plan.repeated.insert(a, rows);
            }
        }
        plan
    }

    fn shape(&self, value: Value) -> Option<&[Option<usize>]> {
        self.shapes.get(value).map(Vec::as_slice)
    }

    /// Number of positions and width of a sequence.
    fn sequence(&self, value: Value) -> Option<[usize; 2]> {
        match *self.shape(value)? {
            [_, Some(positions), Some(width)] => Some([positions, width]),
            _ => None,
        }
    }

    /// Whether a call computes sequences from sequences, each position by itself.
    fn is_along_sequences(&self, call: &Call) -> bool {
        along_last_axis(call, &self.shapes, &|value| self.constants.contains(&value))
            && call.inputs.iter().all(|&input| self.constants.contains(&input) || self.sequence(input).is_some())
    }
}

/// The new program.
struct Flattened<'a> {
    plan: &'a Plan,
    /// Its values have the shapes of the old ones.
    replay: Replay,
    /// Old value → the same, flattened.
    flat: HashMap<Value, Value>,
    /// Old value and path → the same, reshaped back for the calls under that path.
    full: HashMap<(Value, String), Value>,
}

impl Flattened<'_> {
    fn call(&mut self, call: &Call) {
        let flat = |value: &Value| self.flat.contains_key(value);
        let only_flat = |value: &Value| flat(value) && !self.replay.values.contains_key(value);
        if self.plan.is_along_sequences(call) && (call.op_type == "MatMul" || call.inputs.iter().any(flat)) {
            let inputs = call.inputs.iter().map(|&input| match self.plan.constants.contains(&input) {
                true => self.replay.values[&input],
                false => self.flat(input, &call.path),
            });
            let inputs = inputs.collect();
            let outputs = self.replay.graph.call(Call { inputs, ..call.clone() });
            self.flat.extend(call.outputs.iter().copied().zip(outputs));
            return;
        }
        match (call.op_type, &call.inputs[..], &call.outputs[..]) {
            ("Reshape", &[x], &[y]) if only_flat(&x) || self.plan.wanted.contains(&y) => self.reshape(call, x, y),
            ("Gather", &[x], &[y]) if flat(&x) && int(call, "axis") == Some(1) => self.gather(call, x, y),
            _ => self.whole(call),
        }
    }

    /// Copies a call, with inputs of their own shapes.
    fn whole(&mut self, call: &Call) {
        let inputs = call.inputs.iter().map(|&input| self.full(input, &call.path)).collect();
        let outputs = self.replay.graph.call(Call { inputs, ..call.clone() });
        self.replay.values.extend(call.outputs.iter().copied().zip(outputs));
        for &output in call.outputs.iter().filter(|output| self.plan.wanted.contains(output)) {
            self.flat(output, &call.path);
        }
    }

    /// A Reshape reads and gives flattened values as well, since the order of elements is the same.
    fn reshape(&mut self, call: &Call, x: Value, y: Value) {
        let Some(&[-1, ref rest @ ..]) = ints(call, "shape").filter(|shape| !shape.contains(&0)) else {
            return self.whole(call);
        };
        let from = self.flat.get(&x).copied().unwrap_or_else(|| self.replay.values[&x]);
        let flat = self.plan.wanted.contains(&y);
        let to = if flat { vec![-1, rest[rest.len() - 1]] } else { [&[-1], rest].concat() };
        let new = self.replay.at(&call.path).reshape(from, &to);
        if flat {
            self.flat.insert(y, new)
        } else {
            self.replay.values.insert(y, new)
        };
    }

    /// One position of each sequence: rows of the matrix.
    fn gather(&mut self, call: &Call, x: Value, y: Value) {
        let (Some(index), Some(&[Some(rows), Some(positions), _])) = (int(call, "index"), self.plan.shape(x)) else {
            return self.whole(call);
        };
        let x = self.flat[&x];
        let at: Vec<i64> = (0..rows).map(|row| (row * positions) as i64 + index).collect();
        let s = self.replay.at(&call.path);
        let axis = vec![("axis", Attribute::Int(0))];
        let new = if positions == 1 { x } else { s.op("Gather", &[x, s.ints(&at)], axis) };
        self.replay.values.insert(y, new);
    }

    /// The value, flattened.
    fn flat(&mut self, value: Value, path: &str) -> Value {
        if let Some(&flat) = self.flat.get(&value) {
            return flat;
        }
        let width = self.plan.sequence(value).map_or(-1, |[_, width]| width as i64);
        let flat = self.replay.at(path).reshape(self.replay.values[&value], &[-1, width]);
        self.flat.insert(value, flat);
        flat
    }

    /// The value in its own shape.
    fn full(&mut self, value: Value, path: &str) -> Value {
        let key = (value, path.to_owned());
        if let Some(&full) = self.replay.values.get(&value).or_else(|| self.full.get(&key)) {
            return full;
        }
        // Only sequences are flattened.
        let [positions, width] = self.plan.sequence(value).unwrap_or_default();
        let full = self.replay.at(path).reshape(self.flat[&value], &[-1, positions as i64, width as i64]);
        self.full.insert(key, full);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::CompositeOps;
    use crate::onnx::composite::Heads;
    use crate::onnx::legalize::rows;
    use crate::onnx::target::MOBILE;
    use crate::onnx::testing::{Root, assert_close, floats, run};

    /// A block over `[B, 5, 6]`, and each kind of value that towers compute from its output: one position, the mean,
    /// attention of a constant query, and the output itself.
    fn build(s: &Root, batch: usize) {
        let x = s.input("x", &[batch, 5, 6]);
        let x = s.add(x, s.weight("positions", &[1, 5, 6]));
        let y = s.layer_normalization(x, s.weight("gain", &[6]), s.weight("bias", &[6]), 1e-5);
        let y = s.add(s.matmul(y, s.weight("qkv", &[6, 18])), s.weight("b", &[18]));
        let heads = Heads { width: 6, heads: 2, positions: Some(5), one_query: false, mask: None, scaled: false };
        let y = s.matmul(s.attention(s.split(y, 6), heads), s.weight("proj", &[6, 6]));
        let x = s.add(x, s.gelu(y));
        s.output("last", s.index(x, 4, 1));
        s.output("mean", s.reduce_mean(x, &[1], false));
        let scores = s.matmul(s.weight("query", &[1, 2, 6]), s.transpose(x, &[0, 2, 1]));
        s.output("pooled", s.matmul(s.softmax(scores, -1), x));
        s.output("all", x);
    }

    /// Number of products whose factors differ in rank or in leading axes.
    fn unequal(program: &Program) -> usize {
        let shapes = Shapes::of(program);
        let is_equal = |call: &Call| {
            let [a, b] = [0, 1].map(|at| shapes.get(call.inputs[at]).cloned().unwrap());
            a.len() == b.len() && a[..a.len() - 2] == b[..b.len() - 2]
        };
        let calls = program.steps.iter().filter_map(|step| if let Step::Call(call) = step { Some(call) } else { None });
        calls.filter(|call| call.op_type == "MatMul" && !is_equal(call)).count()
    }

    #[test]
    fn products_are_of_equal_ranks_and_numbers_are_the_same() {
        let target = Target::new(&MOBILE);
        for batch in [1, 3] {
            let s = Root::new(target);
            build(&s, batch);
            let program = s.0.into_program();
            let rows = rows(&program);
            let before = crate::onnx::legalize::lower(program, target, rows);
            let after = flatten(before.clone(), target, rows);
            assert_eq!((unequal(&before) > 0, unequal(&after)), (true, 0));
            let finished = |program| {
                let program = Replay::run(program, target, rows, &mut crate::onnx::legalize::operands::lower);
                program.finish("test".to_owned(), target, [].into())
            };
            let inputs = [floats(&[batch, 5, 6], 1)];
            let (before, after) = (run(&finished(before), &inputs), run(&finished(after), &inputs));
            for (name, (before, after)) in ["last", "mean", "pooled", "all"].iter().zip(before.iter().zip(&after)) {
                assert_close(after, before, 1e-6, name);
            }
        }
    }

    /// There is one Reshape before the block and one after it; attention gives a matrix itself.
    #[test]
    fn what_leads_to_products_stays_a_matrix() {
        let s = Root::new(Target::new(&MOBILE));
        build(&s, 2);
        let parts = s.0.into_parts();
        let to: Vec<String> = parts
            .nodes
            .iter()
            .filter(|node| node.op_type == "Reshape")
            .map(|node| parts.value_name(node.inputs[1]).replace("constants/ints_", ""))
            .collect();
        let split = "-1_5_2_3".to_owned();
        let sequence = "-1_5_6".to_owned();
        assert_eq!(to, ["-1_6".to_owned(), split.clone(), split.clone(), split, "-1_6".to_owned(), sequence]);
    }
}
