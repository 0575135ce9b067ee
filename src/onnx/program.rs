//! A graph as a list of the steps that built it, before names are assigned.
//!
//! [`Program::finish`] assigns names in the order of the steps: a node is named after its path and operator, with a
//! number appended if that name is in use. So nodes that a pass inserts get the names they would have if they had been
//! built there in the first place.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Target;
use super::composite::Composite;
use super::graph::{Attribute, Data, Initializer, Node, Parts, Port, Role, Value};

/// An operator's attributes, in the order in which they are written.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// The steps that build a graph, in order.
#[derive(Clone, Default)]
pub struct Program {
    /// Number of values.
    pub values: usize,
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone)]
pub enum Step {
    /// A graph input; `default` makes it optional.
    Input {
        value: Value,
        port: Port,
        default: Option<Data>,
    },
    /// A constant.
    Initializer {
        value: Value,
        initializer: Initializer,
    },
    /// A constant that is shared by all steps with the same name.
    Shared {
        value: Value,
        initializer: Initializer,
    },
    /// An omitted optional input.
    Absent {
        value: Value,
    },
    Call(Call),
    /// Renames a value.
    Name {
        value: Value,
        name: String,
    },
    /// Declares a value a graph output, which renames it.
    Output {
        value: Value,
        port: Port,
    },
}

/// A call of an operator.
#[derive(Clone)]
pub struct Call {
    /// Its place in the model, such as `visual/blocks/0`: the prefix of its name.
    pub path: String,
    pub op_type: &'static str,
    /// Set for operators that ONNX does not have. [`super::legalize`] replaces them all.
    pub composite: Option<Composite>,
    pub attributes: Attributes,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
}

impl Step {
    /// Whether it defines a value, or renames it.
    pub fn defines(&self, defined: Value) -> bool {
        match self {
            Step::Input { value, .. }
            | Step::Initializer { value, .. }
            | Step::Shared { value, .. }
            | Step::Absent { value }
            | Step::Name { value, .. } => *value == defined,
            Step::Call(call) => call.outputs.contains(&defined),
            Step::Output { .. } => false,
        }
    }
}

impl Program {
    /// A new value, for a step that defines it.
    pub fn value(&mut self) -> Value {
        self.values += 1;
        Value(self.values - 1)
    }

    /// Assigns names. Nodes and constants that no output depends on are dropped: builders may prepare a value that the
    /// target then has no use for.
    pub fn finish(self, name: String, target: Target, metadata: BTreeMap<String, String>) -> Parts {
        let mut names = Names::default();
        // Values are numbered again in the order of the steps; a shared constant is one value.
        let mut named: HashMap<Value, Value> = HashMap::new();
        let mut shared: HashMap<String, Value> = HashMap::new();
        let mut outputs: HashSet<Value> = HashSet::new();
        let (inputs, nodes, initializers) = (vec![], vec![], vec![]);
        let mut parts =
            Parts { name, target, value_names: vec![], inputs, outputs: vec![], nodes, initializers, metadata };
        for step in self.steps {
            match step {
                Step::Input { value, port, default } => {
                    named.insert(value, names.value(&port.name));
                    let name = port.name.clone();
                    parts.initializers.extend(default.map(|data| Initializer { name, role: Role::Constant, data }));
                    parts.inputs.push(port);
                }
                Step::Initializer { value, mut initializer } => {
                    let new = names.value(&initializer.name);
                    initializer.name.clone_from(&names.values[new.0]);
                    named.insert(value, new);
                    parts.initializers.push(initializer);
                }
                Step::Shared { value, initializer } => {
                    let new = *shared.entry(initializer.name.clone()).or_insert_with(|| {
                        let new = names.value(&initializer.name);
                        parts.initializers.push(initializer);
                        new
                    });
                    named.insert(value, new);
                }
                Step::Absent { value } => {
                    let new = *shared.entry(String::new()).or_insert_with(|| names.add(String::new()));
                    named.insert(value, new);
                }
                Step::Call(call) => {
                    let inputs = call.inputs.iter().map(|value| named[value]).collect();
                    let name = names.unique(&match call.path.is_empty() {
                        true => call.op_type.to_owned(),
                        false => format!("{}/{}", call.path, call.op_type),
                    });
                    let one = call.outputs.len() == 1;
                    let mut outputs = Vec::with_capacity(call.outputs.len());
                    for (i, &value) in call.outputs.iter().enumerate() {
                        let of = if one { format!("{name}_output") } else { format!("{name}_output_{i}") };
                        let new = names.value(&of);
                        named.insert(value, new);
                        outputs.push(new);
                    }
                    let Call { op_type, attributes, .. } = call;
                    parts.nodes.push(Node { name, domain: "", op_type, inputs, outputs, attributes });
                }
                Step::Name { value, name } => {
                    let name = names.unique(&name);
                    names.values[named[&value].0] = name;
                }
                Step::Output { value, port } => {
                    let new = named[&value];
                    outputs.insert(new);
                    names.values[new.0].clone_from(&port.name);
                    parts.outputs.push(port);
                }
            }
        }
        parts.value_names = names.values;
        drop_unused(&mut parts.nodes, outputs);
        parts.drop_unread();
        parts
    }
}

/// Drops nodes that none of the `used` values depends on.
fn drop_unused(nodes: &mut Vec<Node>, mut used: HashSet<Value>) {
    for node in nodes.iter().rev() {
        if node.outputs.iter().any(|output| used.contains(output)) {
            used.extend(&node.inputs);
        }
    }
    nodes.retain(|node| node.outputs.iter().any(|output| used.contains(output)));
}

/// Assigns names.
#[derive(Default)]
struct Names {
    /// Names in use, and the last number appended to each.
    taken: HashMap<String, usize>,
    values: Vec<String>,
}

impl Names {
    fn add(&mut self, name: String) -> Value {
        self.values.push(name);
        Value(self.values.len() - 1)
    }

    /// A new value with this name, or with a number appended to it.
    fn value(&mut self, name: &str) -> Value {
        let name = self.unique(name);
        self.add(name)
    }

    /// `name`, or the first of `name_1`, `name_2`, … that is free.
    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        while self.taken.contains_key(&unique) {
            let count = self.taken.entry(name.to_owned()).or_insert(0);
            *count += 1;
            unique = format!("{name}_{count}");
        }
        self.taken.insert(unique.clone(), 0);
        unique
    }
}

#[cfg(test)]
mod tests {
    use crate::onnx::testing::{Root, operators};
    use crate::onnx::{Ops, Target};

    fn root() -> Root {
        Root::new(Target::default())
    }

    #[test]
    fn names_are_unique_in_the_order_of_what_was_built() {
        let s = root();
        let x = s.input("x", &[2]);
        let y = s.named("sum", s.add(s.add(x, x), s.weight("x", &[2])));
        s.output("y", s.named("sum", s.relu(y)));
        let parts = s.0.into_parts();
        let names: Vec<&str> = parts.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["root/Add", "root/Add_1", "root/Relu"]);
        let outputs: Vec<&str> = parts.nodes.iter().map(|node| parts.value_name(node.outputs[0])).collect();
        assert_eq!(outputs, ["root/Add_output", "root/sum", "y"]);
        assert_eq!(parts.initializers[0].name, "x_1");
    }

    #[test]
    fn equal_constants_are_one_and_unread_values_are_left_out() {
        let s = root();
        let x = s.input("x", &[2]);
        let [a, b] = [2.0, 2.0].map(|n| s.mul(x, s.scalar(n)));
        s.sqrt(s.add(x, s.weight("unread", &[2])));
        s.output("y", s.sub(a, b));
        let parts = s.0.into_parts();
        assert_eq!(operators(&parts), ["Mul", "Mul", "Sub"]);
        let constants: Vec<&str> = parts.initializers.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(constants, ["constants/float_2e0"]);
    }

    /// As if it had been built there: in the order of nodes, of names and of constants.
    #[test]
    fn what_is_built_after_a_value_comes_right_behind_it() {
        let build = |early: bool| {
            let s = root();
            let x = s.named("first", s.relu(s.input("x", &[2])));
            let extra = || s.output("extra", s.mul(s.add(x, s.scalar(1.0)), s.scalar(3.0)));
            if early {
                extra();
            }
            let y = s.mul(s.add(x, s.scalar(2.0)), s.scalar(3.0));
            if !early {
                s.0.after(x, extra);
            }
            s.output("y", y);
            let parts = s.0.into_parts();
            let nodes: Vec<String> = parts.nodes.iter().map(|node| node.name.clone()).collect();
            let constants: Vec<String> = parts.initializers.into_iter().map(|i| i.name).collect();
            (nodes, constants)
        };
        assert_eq!(build(true), build(false));
        assert_eq!(build(false).1, ["constants/float_1e0", "constants/float_3e0", "constants/float_2e0"]);
    }
}
