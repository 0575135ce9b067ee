//! The language that tables of providers are written in.

use super::view::{Call, Fact};
use crate::onnx::proto::tensor_proto::DataType;

/// Why a node is not taken, as a short clause.
pub type Why = String;

/// Not every export takes `--static`; those that do have no such axis.
const FREE: &str = "an axis is free (an export with a fixed batch has none)";

/// What a provider asks of a node of some operator. What is not known of a file, such as the number of axes
/// behind an operator that is not followed, is taken to be as asked for; but shapes that are worked out of free axes
/// are free.
pub enum Rule {
    /// Element types of the first input, in place of the table's.
    Types(&'static [DataType]),
    /// Inputs that have to be in the file, where there are such inputs.
    Constant(&'static [usize]),
    /// Numbers of axes the first input may have.
    Rank(&'static [usize]),
    /// Integers an attribute may have where it is given.
    Int(&'static str, &'static [i64]),
    /// The same of words.
    Text(&'static str, &'static [&'static str]),
    /// How many inputs there may be.
    AtMost(usize),
    /// The first input's axes have lengths.
    Fixed,
    /// Whatever else.
    Check(fn(&Call) -> Result<(), Why>),
}

/// An operator that is taken, and on which conditions.
pub type Row = (&'static str, &'static [Rule]);

/// Which axes have to have lengths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    Free,
    Inputs,
    All,
}

/// What a provider takes.
pub struct Table {
    /// Element types of the first input, where a row says nothing else; none where they are not judged.
    pub types: &'static [DataType],
    pub fixed: Fixed,
    /// The most axes that inputs and outputs may have.
    pub rank: usize,
    pub rows: &'static [&'static [Row]],
}

impl Table {
    pub fn row(&self, operator: &str) -> Option<&'static Row> {
        self.rows.iter().flat_map(|rows| rows.iter()).find(|(name, _)| *name == operator)
    }

    /// Whether a node is taken.
    ///
    /// # Errors
    /// Why it is not.
    pub fn takes(&self, call: &Call) -> Result<(), Why> {
        let (_, rules) = self.row(call.operator()).ok_or("there is no such operator")?;
        let axes = |fact: &Fact| fact.is_fixed() == Some(false);
        let free = match self.fixed {
            Fixed::Free => false,
            Fixed::Inputs => call.inputs().any(axes),
            Fixed::All => call.inputs().chain(call.outputs()).any(axes),
        };
        if free {
            return Err(FREE.to_owned());
        }
        let most = call.inputs().chain(call.outputs()).filter_map(Fact::rank).max();
        if let Some(rank) = most.filter(|&rank| rank > self.rank) {
            return Err(format!("{rank} axes, {} at most", self.rank));
        }
        if !self.types.is_empty() && !rules.iter().any(|rule| matches!(rule, Rule::Types(_))) {
            of_types(call, 0, self.types)?;
        }
        rules.iter().try_for_each(|rule| rule.holds(call))
    }
}

impl Rule {
    fn holds(&self, call: &Call) -> Result<(), Why> {
        match *self {
            Rule::Types(types) => of_types(call, 0, types),
            Rule::Constant(inputs) => {
                let computed = inputs.iter().find(|&&at| call.input(at).is_some_and(|fact| !fact.constant));
                computed.map_or(Ok(()), |at| Err(format!("input {at} is computed")))
            }
            Rule::Rank(ranks) => match call.input(0).and_then(Fact::rank) {
                Some(rank) if !ranks.contains(&rank) => Err(format!("{rank} axes")),
                _ => Ok(()),
            },
            Rule::Int(name, values) => match call.int(name) {
                Some(value) if !values.contains(&value) => Err(format!("{name} {value}")),
                _ => Ok(()),
            },
            Rule::Text(name, values) => match call.text(name) {
                Some(value) if !values.contains(&value) => Err(format!("{name} {value}")),
                _ => Ok(()),
            },
            Rule::AtMost(count) => {
                let given = call.node.input.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
                if given > count { Err(format!("{given} inputs")) } else { Ok(()) }
            }
            Rule::Fixed => match call.input(0).and_then(Fact::is_fixed) {
                Some(false) => Err(FREE.to_owned()),
                _ => Ok(()),
            },
            Rule::Check(check) => check(call),
        }
    }
}

/// Whether an input is of one of these element types.
///
/// # Errors
/// The type that it is.
pub fn of_types(call: &Call, at: usize, types: &[DataType]) -> Result<(), Why> {
    match call.input(at).and_then(|fact| fact.element) {
        Some(element) if !types.contains(&element) => Err(element.as_str_name().to_lowercase()),
        _ => Ok(()),
    }
}

/// What several providers ask of `MatMul`: no vector times more than a vector.
///
/// # Errors
/// When it is one.
pub fn no_vector(call: &Call) -> Result<(), Why> {
    match (call.input(0).and_then(Fact::rank), call.input(1).and_then(Fact::rank)) {
        (Some(1), Some(1)) => Ok(()),
        (Some(1), _) | (_, Some(1)) => Err("a vector times a matrix".to_owned()),
        _ => Ok(()),
    }
}

/// Whether a node casts to one of these element types.
///
/// # Errors
/// The type that it casts to.
pub fn casts_to(call: &Call, types: &[DataType]) -> Result<(), Why> {
    match call.outputs().next().and_then(|fact| fact.element) {
        Some(to) if !types.contains(&to) => Err(format!("to {}", to.as_str_name().to_lowercase())),
        _ => Ok(()),
    }
}
