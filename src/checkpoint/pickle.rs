//! A pickle machine that rebuilds tensors and nothing else.
//!
//! Python's pickle is a program for a stack machine that may call anything. This one runs the
//! opcodes PyTorch writes and knows the handful of callables that make tensors. What any other
//! callable would make is an opaque value: its name, and whether tensors went into it. Nothing is
//! looked up, imported or run.
//!
//! Values live in one arena and refer to each other by index, so a hostile file can neither
//! exhaust the stack with nesting nor leak memory with cycles. Everything a program makes is
//! counted, copies included, and a program that makes more than [`MEMORY`] is refused.
//! Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

use std::sync::Arc;

use machine::Machine;

use crate::tensor::DType;

mod machine;
mod objects;

/// A value on the stack: small, or a place in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    None,
    Int(i64),
    /// Floats, byte strings and other things that weights do not need.
    Other,
    Ref(usize),
}

/// What the arena holds.
#[derive(Clone, Debug)]
pub enum Node {
    Text(Arc<str>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// Dictionaries, and the attributes of TorchScript modules.
    Dict(Vec<(Value, Value)>),
    /// A callable by name, not yet called.
    Global(Arc<str>),
    /// What a callable that is not known here would make.
    Opaque(Opaque),
    Storage(StorageRef),
    Tensor(TensorRef),
}

/// A value that is not rebuilt.
#[derive(Clone, Debug)]
pub struct Opaque {
    /// The class or function that would make it, with its module.
    pub maker: Arc<str>,
    /// Whether a tensor or a storage is among what it would be made of.
    pub holds_tensors: bool,
}

/// Bytes some other part of the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageRef {
    pub key: Arc<str>,
    pub dtype: DType,
    pub elements: u64,
}

/// A tensor as `torch._utils._rebuild_tensor_v2` describes it.
#[derive(Clone, Debug)]
pub struct TensorRef {
    pub storage: StorageRef,
    pub offset: u64,
    pub shape: Box<[usize]>,
    pub strides: Box<[usize]>,
}

/// A finished program: the value it left, and everything that may be reached from it.
#[derive(Debug)]
pub struct Pickle {
    pub nodes: Vec<Node>,
    pub value: Value,
    /// Bytes of the program.
    pub length: usize,
    /// Bytes that its values came to.
    pub made: usize,
}

/// Axes of a tensor, at most.
const MAX_RANK: usize = 64;

/// Bytes that the values of all pickles of a file may come to. The largest published checkpoints need a tenth of it.
pub const MEMORY: usize = 160 << 20;

/// Runs the pickle at the start of `bytes`; its values may come to `memory` bytes.
///
/// # Errors
/// A sentence: what the file wants that is not allowed, or where it is damaged.
pub fn run(bytes: &[u8], memory: usize) -> Result<Pickle, String> {
    let mut machine = Machine::new(bytes, memory);
    let value = machine.run().map_err(|reason| format!("{reason} (pickle byte {})", machine.at))?;
    Ok(Pickle { nodes: machine.nodes, value, length: machine.at, made: memory - machine.left })
}

impl Pickle {
    /// The node behind a value.
    pub fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Ref(at) => self.nodes.get(at),
            _ => None,
        }
    }

    /// The text behind a value.
    pub fn text(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program leaves, if that is opaque.
    fn opaque(pickle: &[u8]) -> Opaque {
        let pickle = run(pickle, MEMORY).unwrap();
        match pickle.node(pickle.value) {
            Some(Node::Opaque(opaque)) => opaque.clone(),
            Some(Node::Global(name)) => Opaque { maker: name.clone(), holds_tensors: false },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_known_is_named_and_never_called() {
        for (pickle, maker) in [
            (&b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..], "os.system"),
            (b"\x80\x02c__builtin__\neval\n.", "__builtin__.eval"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
            (b"\x80\x02ctorch\nload\n.", "torch.load"),
            (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
            (b"\x80\x02cargparse\nNamespace\n)\x81}b.", "argparse.Namespace"),
            (b"\x80\x04cpathlib\nPath\n)}\x92.", "pathlib.Path"),
            (b"\x80\x02ccopy_reg\n_reconstructor\n(cx\nY\nc__builtin__\nobject\nNtR}b.", "x.Y"),
            (b"\x80\x02cx\nf\n)R)R.", "x.f"),
        ] {
            let found = opaque(pickle);
            assert_eq!((&*found.maker, found.holds_tensors), (maker, false));
        }
        for (pickle, said) in [(&b"\x80\x02i"[..], "opcode 0x69"), (b"\x80\x01.", "protocol 1")] {
            let error = run(pickle, MEMORY).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn tensors_inside_opaque_values_are_noticed() {
        let storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ";
        let with = |before: &[u8], after: &[u8]| [&b"\x80\x02"[..], before, storage, after].concat();
        assert!(opaque(&with(b"cx\nY\n", b"\x85R.")).holds_tensors, "among the arguments");
        assert!(opaque(&with(b"cx\nY\n)\x81", b"\x85b.")).holds_tensors, "in the state");
        assert!(opaque(&with(b"cx\nY\n)R]", b"ab.")).holds_tensors, "in a list");
        assert!(opaque(&with(b"cx\nY\n)RN", b"s.")).holds_tensors, "as an item");
        let complex = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nComplexFloatStorage\nX\x01\x00\x00\x000NK\x01tQ.";
        assert!(opaque(complex).holds_tensors);
    }

    #[test]
    fn damaged_programs_are_errors() {
        for pickle in [
            &b""[..],
            b"\x80",
            b".",
            b"\x80\x02(.",
            b"\x80\x02(N(.",
            b"\x80\x02t.",
            b"\x80\x02NNs.",
            b"\x80\x02]Na(NNu.",
            b"\x80\x02h\x00.",
            b"\x80\x02X\xff\xff\xff\xffab",
            b"\x80\x02\x8a\xff",
            b"\x80\x02NQ.",
            b"\x80\x02cnever\nends",
            b"\x80\x02NNR.",
            b"\x80\x02Nb.",
        ] {
            assert!(run(pickle, MEMORY).is_err(), "{pickle:?}");
        }
    }

    #[test]
    fn deep_nesting_and_cycles_cost_no_stack_and_no_leak() {
        let mut deep = b"\x80\x02N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 2_000_000)); // a tuple in a tuple in a tuple …
        deep.push(b'.');
        assert_eq!(run(&deep, usize::MAX).unwrap().nodes.len(), 2_000_000);
        // A list that holds itself.
        let cycle = run(b"\x80\x02]q\x00h\x00a.", MEMORY).unwrap();
        assert!(matches!(cycle.node(cycle.value), Some(Node::List(items)) if items[0] == cycle.value));
    }

    #[test]
    fn what_a_program_makes_is_bounded() {
        let text = |length: usize| {
            let mut out = b"X".to_vec();
            out.extend((length as u32).to_le_bytes());
            out.extend(vec![b'a'; length]);
            out
        };
        let repeated = |start: &[u8], again: &[u8]| {
            let mut out = [&b"\x80\x02"[..], start].concat();
            (0..200_000).for_each(|_| out.extend(again));
            out.push(b'.');
            out
        };
        let long = text(1000);
        // A state of 1000 attributes for every new dictionary.
        let state = [&b"}("[..], &b"K\x01K\x02".repeat(1000), b"uq\x00"].concat();
        // Sizes of 64 axes for every tensor.
        let tensor = [
            &b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQq\x01"[..],
            b"(",
            &b"K\x01".repeat(64),
            b"tq\x02",
            b"(h\x01K\x00h\x02h\x02tq\x03",
        ]
        .concat();
        for (what, program) in [
            ("states", repeated(&state, b"c__torch__\nM\n)\x81h\x00b")),
            ("names", repeated(&[&long[..], b"q\x00"].concat(), b"h\x00h\x00\x93")),
            ("tensors", repeated(&tensor, b"ctorch._utils\n_rebuild_tensor_v2\nh\x03R")),
        ] {
            let error = run(&program, 8 << 20).unwrap_err();
            assert!(error.contains("8 MiB"), "{what}: {error}");
        }
        // Keys are hashed and compared for every tensor.
        let key =
            [&b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"[..], &long, b"X\x03\x00\x00\x00cpuK\x01tQ."].concat();
        assert!(run(&[&b"\x80\x02"[..], &key].concat(), MEMORY).unwrap_err().contains("key has 1000 bytes"));
        // Arguments are looked at where they are: this takes seconds when they are copied.
        let call = [&b"("[..], &b"N".repeat(20_000), b"tq\x00"].concat();
        assert!(run(&repeated(&call, b"cx\nf\nh\x00R0"), 64 << 20).is_ok());
    }
}
