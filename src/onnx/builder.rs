//! A graph under construction.
//!
//! [`Value`] is a copyable index and the steps are in a `RefCell`, so builders pass values around without lifetimes. A
//! graph only records steps; its target matters when it is finished ([`super::legalize`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::Target;
use super::composite::Composite;
use super::graph::{Attribute, Data, Dim, ElementType, Initializer, Ones, Port, Role, Value};
use super::program::{Attributes, Call, Program, Step};
use crate::tensor::Tensor;

/// A model under construction.
pub struct Graph {
    /// Name of the graph in the file.
    pub name: String,
    target: Target,
    program: RefCell<Program>,
    /// Where the next step is inserted, if not at the end.
    cursor: Cell<Option<usize>>,
    metadata: RefCell<BTreeMap<String, String>>,
}

impl Graph {
    /// An empty graph; operators are written as `target` has them.
    pub fn new(name: &str, target: Target) -> Graph {
        Graph {
            name: name.to_owned(),
            target,
            program: RefCell::default(),
            cursor: Cell::default(),
            metadata: RefCell::default(),
        }
    }

    /// Declares an input.
    pub fn input(&self, name: &str, element_type: ElementType, dims: Vec<Dim>) -> Value {
        self.declare(Port { name: name.to_owned(), element_type, dims }, None)
    }

    /// Declares an input that may be left out and that nothing reads, for runtimes that feed it: int32, with ones where
    /// it is left out.
    pub fn ignored_input(&self, name: &str, dims: Vec<Dim>) {
        let lengths = dims.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 1 }).collect();
        let port = Port { name: name.to_owned(), element_type: ElementType::Int32, dims };
        self.declare(port, Some(Data::Packed(std::sync::Arc::new(Ones(lengths)))));
    }

    fn declare(&self, port: Port, default: Option<Data>) -> Value {
        let value = self.value();
        self.push(Step::Input { value, port, default });
        value
    }

    /// Declares `value` an output, under its public name.
    pub fn output(&self, value: Value, name: &str, element_type: ElementType, dims: Vec<Dim>) {
        self.push(Step::Output { value, port: Port { name: name.to_owned(), element_type, dims } });
    }

    /// Gives a value a name to read in a viewer.
    pub fn rename(&self, value: Value, name: &str) {
        self.push(Step::Name { value, name: name.to_owned() });
    }

    /// Adds an operator call with one output; the node is named after `path` and its operator.
    pub fn node(&self, path: &str, op_type: &'static str, inputs: &[Value], attributes: Attributes) -> Value {
        let [value] = self.node_with(path, op_type, inputs, attributes);
        value
    }

    /// As [`Graph::node`], with `N` outputs.
    pub fn node_with<const N: usize>(
        &self,
        path: &str,
        op_type: &'static str,
        inputs: &[Value],
        attributes: Vec<(&'static str, Attribute)>,
    ) -> [Value; N] {
        let outputs = std::array::from_fn(|_| self.value());
        let (inputs, path) = (inputs.to_vec(), path.to_owned());
        let composite = None;
        self.push(Step::Call(Call { path, op_type, composite, attributes, inputs, outputs: outputs.to_vec() }));
        outputs
    }

    /// Adds a call of an operator that ONNX does not have.
    pub fn composite(&self, path: &str, composite: Composite, inputs: &[Value]) -> Value {
        let (value, path) = (self.value(), path.to_owned());
        let (op_type, attributes) = (composite.name(), vec![]);
        let (inputs, outputs) = (inputs.to_vec(), vec![value]);
        self.push(Step::Call(Call { path, op_type, composite: Some(composite), attributes, inputs, outputs }));
        value
    }

    /// Adds a call, with new values for its outputs.
    pub(super) fn call(&self, call: Call) -> Vec<Value> {
        let outputs: Vec<Value> = call.outputs.iter().map(|_| self.value()).collect();
        self.push(Step::Call(Call { outputs: outputs.clone(), ..call }));
        outputs
    }

    /// A named constant that the writer reads from `tensor`.
    pub fn initializer(&self, name: &str, role: Role, tensor: Tensor) -> Value {
        let value = self.value();
        let initializer = Initializer { name: name.to_owned(), role, data: Data::Float(tensor) };
        self.push(Step::Initializer { value, initializer });
        value
    }

    /// A small integer constant; equal ones are shared.
    pub fn int64(&self, dims: &[usize], values: &[i64]) -> Value {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        let kind = if dims.is_empty() { "index" } else { "ints" };
        let data = Data::Int64 { dims: dims.to_vec(), values: values.to_vec() };
        self.shared(format!("constants/{kind}_{}", list.join("_")), data)
    }

    /// A number; equal ones are shared.
    pub fn scalar(&self, value: f32) -> Value {
        self.number(value, 0)
    }

    /// A number with `rank` axes of length 1.
    pub fn number(&self, value: f32, rank: usize) -> Value {
        let kind = if rank == 0 { "float".to_owned() } else { format!("float{rank}d") };
        let data = Data::Float(Tensor::from_f32("constant", &vec![1; rank], &[value]));
        self.shared(format!("constants/{kind}_{value:e}"), data)
    }

    /// An optional input that is left out.
    pub fn absent(&self) -> Value {
        let value = self.value();
        self.push(Step::Absent { value });
        value
    }

    fn shared(&self, name: String, data: Data) -> Value {
        let value = self.value();
        self.push(Step::Shared { value, initializer: Initializer { name, role: Role::Constant, data } });
        value
    }

    /// Runs `build` with the insertion point right after the step that defines `value` (and those that rename it), instead
    /// of at the end.
    pub fn after<T>(&self, value: Value, build: impl FnOnce() -> T) -> T {
        let at = self.program.borrow().steps.iter().rposition(|step| step.defines(value)).map(|at| at + 1);
        let before = self.cursor.replace(at);
        let built = build();
        self.cursor.set(before);
        built
    }

    /// Adds a `metadata_props` entry.
    pub fn set_metadata(&self, key: &str, value: impl Into<String>) {
        self.metadata.borrow_mut().insert(key.to_owned(), value.into());
    }

    /// What was recorded, to be finished: name, target, steps and metadata.
    pub(super) fn into_recorded(self) -> (String, Target, Program, BTreeMap<String, String>) {
        (self.name, self.target, self.program.into_inner(), self.metadata.into_inner())
    }

    /// The recorded steps.
    pub(super) fn into_program(self) -> Program {
        self.program.into_inner()
    }

    pub(super) fn value(&self) -> Value {
        self.program.borrow_mut().value()
    }

    pub(super) fn push(&self, step: Step) {
        let steps = &mut self.program.borrow_mut().steps;
        match self.cursor.get() {
            Some(at) => {
                steps.insert(at, step);
                self.cursor.set(Some(at + 1));
            }
            None => steps.push(step),
        }
    }
}
