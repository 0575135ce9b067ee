//! A graph as it was built, step by step, before anything has its final name.
//!
//! Names are given out by [`Program::finish`], in the order of the steps: a node is named after its path and its
//! operator, with a number where that is taken. So a pass that puts other operators in a call's place gives the names
//! that they would have if they had been written there in the first place.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Target;
use super::graph::{Attribute, Data, Initializer, Node, Parts, Port, Value};

/// An operator's attributes, in the order in which they are written.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// What was built, in order.
#[derive(Clone, Default)]
pub struct Program {
    /// Number of values.
    pub values: usize,
    pub steps: Vec<Step>,
}

/// One thing that was built.
#[derive(Clone)]
pub enum Step {
    /// A graph input, with what stands in where it is left out.
    Input {
        value: Value,
        port: Port,
        default: Option<Data>,
    },
    /// A constant of its own.
    Initializer {
        value: Value,
        initializer: Initializer,
    },
    /// A constant that is the same as all others of its name.
    Shared {
        value: Value,
        initializer: Initializer,
    },
    /// An optional input that is left out.
    Absent {
        value: Value,
    },
    Call(Call),
    /// Another name for a value.
    Name {
        value: Value,
        name: String,
    },
    /// A graph output, which gives the value its name.
    Output {
        value: Value,
        port: Port,
    },
}

/// An operator and what it is called on.
#[derive(Clone)]
pub struct Call {
    /// Where in the model it is: what its name begins with.
    pub path: String,
    pub op_type: &'static str,
    pub attributes: Attributes,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
}

impl Program {
    /// A value that no step makes yet.
    pub fn value(&mut self) -> Value {
        self.values += 1;
        Value(self.values - 1)
    }

    /// Names everything. What no output depends on is left out: builders may prepare a value that the target's spelling
    /// then has no use for.
    pub fn finish(self, name: String, target: Target, metadata: BTreeMap<String, String>) -> Parts {
        let mut names = Names::default();
        // Values in the order in which they are named; shared constants are one value.
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
                    parts.initializers.extend(default.map(|data| Initializer { name, data }));
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

/// Leaves out nodes that none of the `used` values depends on.
fn drop_unused(nodes: &mut Vec<Node>, mut used: HashSet<Value>) {
    for node in nodes.iter().rev() {
        if node.outputs.iter().any(|output| used.contains(output)) {
            used.extend(&node.inputs);
        }
    }
    nodes.retain(|node| node.outputs.iter().any(|output| used.contains(output)));
}

/// Names as they are given out.
#[derive(Default)]
struct Names {
    /// Those in use, and the last number each was given.
    taken: HashMap<String, usize>,
    values: Vec<String>,
}

impl Names {
    fn add(&mut self, name: String) -> Value {
        self.values.push(name);
        Value(self.values.len() - 1)
    }

    /// A value of this name, or one like it.
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
