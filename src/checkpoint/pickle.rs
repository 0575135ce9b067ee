//! A pickle machine that rebuilds tensors and nothing else.
//!
//! Python's pickle is a program for a stack machine that may call anything. This one runs the
//! opcodes PyTorch writes, knows the handful of callables that make tensors, and refuses every
//! other by name. Nothing is looked up, imported or run.
//!
//! Values live in one arena and refer to each other by index, so a hostile file can neither
//! exhaust the stack with nesting nor leak memory with cycles; every opcode is bounded by the
//! bytes that are there.
//! Opcodes: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

use std::collections::HashMap;

use crate::tensor::DType;

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
    Text(String),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    /// Dictionaries, and the attributes of TorchScript modules.
    Dict(Vec<(Value, Value)>),
    /// A callable by name, not yet called.
    Global(String),
    Storage(StorageRef),
    Tensor(TensorRef),
}

/// Bytes some other part of the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageRef {
    pub key: String,
    pub dtype: DType,
    pub elements: u64,
}

/// A tensor as `torch._utils._rebuild_tensor_v2` describes it.
#[derive(Clone, Debug)]
pub struct TensorRef {
    pub storage: StorageRef,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A finished program: the value it left, and everything that may be reached from it.
#[derive(Debug)]
pub struct Pickle {
    pub nodes: Vec<Node>,
    pub value: Value,
    /// Bytes of the program.
    pub length: usize,
}

/// Axes of a tensor, at most.
const MAX_RANK: usize = 64;

/// Runs the pickle at the start of `bytes`.
///
/// # Errors
/// A sentence: what the file wants that is not allowed, or where it is damaged.
pub fn run(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine = Machine { bytes, at: 0, stack: vec![], marks: vec![], memo: HashMap::new(), nodes: vec![] };
    let value = machine.run().map_err(|reason| format!("{reason} (pickle byte {})", machine.at))?;
    Ok(Pickle { nodes: machine.nodes, value, length: machine.at })
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

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Value> {
        loop {
            match self.u8()? {
                // Framing.
                0x80 => match self.u8()? {
                    2..=5 => {}
                    other => return Err(format!("pickle protocol {other}; expected 2 to 5")),
                },
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                // Constants.
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Int(1)),
                0x89 => self.stack.push(Value::Int(0)),
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = self.u8()?;
                    self.stack.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Other);
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length as usize)?;
                }
                0x8c => {
                    let length = self.u8()?;
                    self.text(length.into())?;
                }
                // Python 2 strings and byte strings: of no use to weights.
                b'U' | b'C' => {
                    let length = self.u8()?;
                    self.skip(length.into())?;
                }
                b'T' | b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.skip(length as usize)?;
                }
                // Containers.
                b'(' => self.marks.push(self.stack.len()),
                b'}' => self.make(Node::Dict(vec![])),
                b']' => self.make(Node::List(vec![])),
                b')' => self.make(Node::Tuple(vec![])),
                b't' => {
                    let items = self.above_mark()?;
                    self.make(Node::Tuple(items));
                }
                code @ 0x85..=0x87 => {
                    let items = self.top(usize::from(code - 0x84))?;
                    self.make(Node::Tuple(items));
                }
                b'a' => {
                    let items = self.top(1)?;
                    self.extend_list(items)?;
                }
                b'e' => {
                    let items = self.above_mark()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let items = self.top(2)?;
                    self.extend_dict(&items)?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.extend_dict(&items)?;
                }
                b'0' => drop(self.pop()?),
                // Memory.
                b'q' => {
                    let key = self.u8()?;
                    self.memoize(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.memoize(key)?;
                }
                0x94 => self.memoize(self.memo.len() as u32)?,
                b'h' => {
                    let key = self.u8()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                // Names and calls.
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(module, name)?;
                }
                0x93 => {
                    let names = self.top(2)?;
                    match names.iter().map(|&name| self.as_text(name)).collect::<Option<Vec<_>>>() {
                        Some(names) => self.global(&names[0].clone(), &names[1].clone())?,
                        None => return Err("a global without a name".to_owned()),
                    }
                }
                b'R' => {
                    let call = self.top(2)?;
                    self.call(call[0], call[1])?;
                }
                // A TorchScript object: its class was let through by name, its state comes later.
                0x81 => {
                    let call = self.top(2)?;
                    self.new_object(call[0])?;
                }
                b'b' => {
                    let state = self.pop()?;
                    self.build(state)?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.persistent(id)?;
                }
                other => return Err(format!("pickle opcode 0x{other:02x}, which no checkpoint needs")),
            }
        }
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("it ends in the middle of its pickle")?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it ends in the middle of its pickle".to_owned())
    }

    fn u8(&mut self) -> Step<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn line(&mut self) -> Step<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1000).position(|&b| b == b'\n').ok_or("a name does not end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name is not text".to_owned())
    }

    fn text(&mut self, length: usize) -> Step<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a string is not text")?.to_owned();
        self.make(Node::Text(text));
        Ok(())
    }

    fn skip(&mut self, length: usize) -> Step<()> {
        self.take(length)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn long(&mut self) -> Step<()> {
        let length = self.u8()?;
        let bytes = self.take(length.into())?;
        let mut value = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
        self.stack.push(if bytes.len() <= 8 {
            value[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(value))
        } else {
            // Wider than any size: the magic number of old files, which their reader looks at.
            Value::Other
        });
        Ok(())
    }

    fn make(&mut self, node: Node) {
        self.nodes.push(node);
        self.stack.push(Value::Ref(self.nodes.len() - 1));
    }

    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("its pickle takes from an empty stack".to_owned());
        }
        self.stack.pop().ok_or_else(|| "its pickle takes from an empty stack".to_owned())
    }

    fn top(&mut self, count: usize) -> Step<Vec<Value>> {
        let mut out = (0..count).map(|_| self.pop()).collect::<Step<Vec<_>>>()?;
        out.reverse();
        Ok(out)
    }

    fn above_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or("its pickle closes what it did not open")?;
        Ok(self.stack.split_off(mark))
    }

    fn memoize(&mut self, key: u32) -> Step<()> {
        let value = *self.stack.last().ok_or("its pickle remembers an empty stack")?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        let value = self.memo.get(&key).ok_or("its pickle recalls what it did not remember")?;
        self.stack.push(*value);
        Ok(())
    }

    fn last_node(&mut self) -> Step<&mut Node> {
        match self.stack.last() {
            Some(&Value::Ref(at)) => self.nodes.get_mut(at).ok_or_else(|| "a dangling value".to_owned()),
            _ => Err("its pickle fills what is no container".to_owned()),
        }
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Step<()> {
        match self.last_node()? {
            Node::List(list) => list.extend(items),
            _ => return Err("its pickle appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Value]) -> Step<()> {
        if !items.len().is_multiple_of(2) {
            return Err("a dictionary key without a value".to_owned());
        }
        match self.last_node()? {
            Node::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("its pickle sets items of what is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Ref(at) => self.nodes.get(at),
            _ => None,
        }
    }

    fn as_text(&self, value: Value) -> Option<&String> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn tuple(&self, value: Value) -> Step<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Ok(items),
            _ => Err("a call without arguments".to_owned()),
        }
    }

    /// Lets a name through, or refuses the file for it.
    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let full = format!("{module}.{name}");
        let known = ALLOWED.contains(&full.as_str())
            || storage_dtype(&full).is_some()
            || module == "__torch__"
            || module.starts_with("__torch__.")
            || (module == "torch" && DTYPES.contains(&name));
        if !known {
            return Err(format!(
                "this file wants to run `{full}`; only tensors are read. If you trust where it comes from, save its weights alone: torch.save(model.state_dict(), ...)"
            ));
        }
        self.make(Node::Global(full));
        Ok(())
    }

    fn call(&mut self, function: Value, arguments: Value) -> Step<()> {
        let Some(Node::Global(name)) = self.node(function) else {
            return Err("its pickle calls what is no function".to_owned());
        };
        let name = name.clone();
        let arguments = self.tuple(arguments)?.to_vec();
        match name.as_str() {
            "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => self.make(Node::Dict(vec![])),
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => self.rebuild(&arguments)?,
            // (data, requires_grad, hooks): the data.
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter" => {
                self.stack.push(*arguments.first().ok_or("a parameter without data")?);
            }
            // Typed lists of TorchScript: the list.
            name if name.starts_with("torch.jit._pickle.build_") => {
                self.stack.push(arguments.first().copied().unwrap_or(Value::None));
            }
            "torch.Size" | "torch.device" | "builtins.set" | "__builtin__.set" => self.stack.push(Value::Other),
            _ => return Err(format!("this file wants to call `{name}`; only tensors are read")),
        }
        Ok(())
    }

    fn new_object(&mut self, class: Value) -> Step<()> {
        match self.node(class) {
            Some(Node::Global(name)) if name.starts_with("__torch__.") => {
                self.make(Node::Dict(vec![]));
                Ok(())
            }
            Some(Node::Global(name)) => Err(format!("this file wants to make a `{name}`; only tensors are read")),
            _ => Err("its pickle makes an object of no class".to_owned()),
        }
    }

    /// State for the object on the stack: attributes of a TorchScript module; of an OrderedDict
    /// PyTorch's `_metadata`, which says nothing about weights.
    fn build(&mut self, state: Value) -> Step<()> {
        let attributes = match self.node(state) {
            Some(Node::Dict(attributes)) => attributes.clone(),
            _ => vec![],
        };
        if let Node::Dict(dict) = self.last_node()?
            && dict.is_empty()
        {
            *dict = attributes;
        }
        Ok(())
    }

    fn persistent(&mut self, id: Value) -> Step<()> {
        let parts = self.tuple(id)?.to_vec();
        let [kind, class, key, _location, elements, ..] = parts[..] else {
            return Err("a storage of unknown form".to_owned());
        };
        let (kind, key) = (self.as_text(kind), self.as_text(key));
        let dtype = match self.node(class) {
            Some(Node::Global(name)) => storage_dtype(name),
            _ => None,
        };
        let (Some("storage"), Some(dtype), Some(key), Value::Int(elements)) =
            (kind.map(String::as_str), dtype, key, elements)
        else {
            return Err("a storage of unknown form".to_owned());
        };
        if parts.get(5).is_some_and(|view| *view != Value::None) {
            return Err("a storage that is a view of another, a form of before 2017; save the file anew".to_owned());
        }
        let elements = u64::try_from(elements).map_err(|_| "a storage of negative size")?;
        let storage = StorageRef { key: key.clone(), dtype, elements };
        self.make(Node::Storage(storage));
        Ok(())
    }

    /// (storage, offset, size, stride, …)
    fn rebuild(&mut self, arguments: &[Value]) -> Step<()> {
        let [storage, Value::Int(offset), size, stride, ..] = *arguments else {
            return Err("a tensor of unknown form".to_owned());
        };
        let Some(Node::Storage(storage)) = self.node(storage) else {
            return Err("a tensor without a storage".to_owned());
        };
        let storage = storage.clone();
        let lengths = |value: Value| -> Step<Vec<usize>> {
            let items = self.tuple(value)?;
            if items.len() > MAX_RANK {
                return Err(format!("a tensor of {} axes; expected at most {MAX_RANK}", items.len()));
            }
            let length = |item: &Value| match item {
                Value::Int(n) => usize::try_from(*n).map_err(|_| "a negative size or stride".to_owned()),
                _ => Err("a size or stride that is no number".to_owned()),
            };
            items.iter().map(length).collect()
        };
        let (shape, strides) = (lengths(size)?, lengths(stride)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor of {} sizes and {} strides", shape.len(), strides.len()));
        }
        let offset = u64::try_from(offset).map_err(|_| "a negative storage offset")?;
        self.make(Node::Tensor(TensorRef { storage, offset, shape, strides }));
        Ok(())
    }
}

/// The callables that make tensors and what lies between them.
const ALLOWED: &[&str] = &[
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist",
    "builtins.set",
    "builtins.dict",
    "__builtin__.set",
    "__builtin__.dict",
];

const DTYPES: &[&str] =
    &["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"];

fn storage_dtype(name: &str) -> Option<DType> {
    Some(match name.strip_prefix("torch.")?.strip_suffix("Storage")? {
        "Double" => DType::F64,
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::BF16,
        "Long" => DType::I64,
        "Int" => DType::I32,
        "Short" => DType::I16,
        "Char" => DType::I8,
        "Byte" => DType::U8,
        "Bool" => DType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_are_refused_by_name_and_nothing_is_called() {
        for (pickle, said) in [
            (&b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."[..], "this file wants to run `os.system`"),
            (b"\x80\x02c__builtin__\neval\n.", "`__builtin__.eval`"),
            (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "`posix.system`"),
            (b"\x80\x02ctorch\nload\n.", "`torch.load`"),
            (b"\x80\x02ctorch\nFloatStorage\n)R.", "wants to call `torch.FloatStorage`"),
            (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "wants to make a `collections.OrderedDict`"),
            (b"\x80\x02i", "opcode 0x69"),
            (b"\x80\x01.", "protocol 1"),
        ] {
            let error = run(pickle).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
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
            assert!(run(pickle).is_err(), "{pickle:?}");
        }
    }

    #[test]
    fn deep_nesting_and_cycles_cost_no_stack_and_no_leak() {
        let mut deep = b"\x80\x02N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 2_000_000)); // a tuple in a tuple in a tuple …
        deep.push(b'.');
        assert_eq!(run(&deep).unwrap().nodes.len(), 2_000_000);
        // A list that holds itself.
        let cycle = run(b"\x80\x02]q\x00h\x00a.").unwrap();
        assert!(matches!(cycle.node(cycle.value), Some(Node::List(items)) if items[0] == cycle.value));
    }
}
