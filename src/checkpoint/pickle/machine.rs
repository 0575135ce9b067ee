//! The stack machine: opcodes, stack, memory and containers.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Node, Value};

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    pub(super) nodes: Vec<Node>,
    /// Of each node, whether a tensor or a storage was in it when it was made or filled.
    holds_tensors: Vec<bool>,
    memory: usize,
    /// Bytes of it that values may still come to.
    pub(super) left: usize,
}

pub(super) type Step<T> = Result<T, String>;

/// Bytes of a module's or a class's name, at most.
const LINE: usize = 1000;

/// Bytes of an entry of the memory, about.
const REMEMBERED: usize = 48;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &[u8], memory: usize) -> Machine<'_> {
        Machine {
            bytes,
            memory,
            left: memory,
            at: 0,
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            nodes: vec![],
            holds_tensors: vec![],
        }
    }

    pub(super) fn run(&mut self) -> Step<Value> {
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
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Int(1))?,
                0x89 => self.push(Value::Int(0))?,
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                b'K' => {
                    let value = self.u8()?;
                    self.push(Value::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a => {
                    let length = self.u8()?;
                    self.long(length.into())?;
                }
                0x8b => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.long(length as usize)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Other)?;
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length as usize)?;
                }
                0x8c => {
                    let length = self.u8()?;
                    self.text(length.into())?;
                }
                0x8d => {
                    let length = self.length()?;
                    self.text(length)?;
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
                0x8e | 0x96 => {
                    let length = self.length()?;
                    self.skip(length)?;
                }
                // Containers.
                b'(' => {
                    self.charge(size_of::<usize>())?;
                    self.marks.push(self.stack.len());
                }
                b'}' => self.make(Node::Dict(vec![]))?,
                b']' => self.make(Node::List(vec![]))?,
                b')' => self.make(Node::Tuple(vec![]))?,
                b't' => {
                    let items = self.above_mark()?;
                    self.make(Node::Tuple(items))?;
                }
                code @ 0x85..=0x87 => {
                    let items = self.top(usize::from(code - 0x84))?;
                    self.make(Node::Tuple(items))?;
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
                // Sets: of what is in them weights need nothing.
                0x8f => self.make(Node::List(vec![]))?,
                0x90 => {
                    let items = self.above_mark()?;
                    self.extend_list(items)?;
                }
                0x91 => {
                    let items = self.above_mark()?;
                    self.make(Node::List(items))?;
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.above_mark()?),
                b'2' => {
                    let value = *self.stack.last().ok_or("its pickle repeats an empty stack")?;
                    self.push(value)?;
                }
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
                    self.make(Node::Global(Arc::from(format!("{module}.{name}"))))?;
                }
                0x93 => {
                    let names = self.top(2)?;
                    let name = match names.iter().map(|&name| self.as_text(name)).collect::<Option<Vec<_>>>() {
                        Some(names) if names[0].len().max(names[1].len()) <= LINE => {
                            format!("{}.{}", names[0], names[1])
                        }
                        Some(_) => return Err(format!("a global with a name of more than {LINE} bytes")),
                        None => return Err("a global without a name".to_owned()),
                    };
                    self.make(Node::Global(Arc::from(name)))?;
                }
                b'R' => {
                    let call = self.top(2)?;
                    self.call(call[0], call[1])?;
                }
                // An object by its class; its state comes later.
                0x81 => {
                    let call = self.top(2)?;
                    self.new_object(call[0], &call[1..])?;
                }
                0x92 => {
                    let call = self.top(3)?;
                    self.new_object(call[0], &call[1..])?;
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
        let end = rest.iter().take(LINE).position(|&b| b == b'\n').ok_or("a name does not end")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a name is not text".to_owned())
    }

    fn text(&mut self, length: usize) -> Step<()> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a string is not text")?;
        self.make(Node::Text(Arc::from(text)))
    }

    fn skip(&mut self, length: usize) -> Step<()> {
        self.take(length)?;
        self.push(Value::Other)
    }

    fn length(&mut self) -> Step<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| "it ends in the middle of its pickle".to_owned())
    }

    fn long(&mut self, length: usize) -> Step<()> {
        let bytes = self.take(length)?;
        let mut value = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
        self.push(if bytes.len() <= 8 {
            value[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(value))
        } else {
            // Wider than any size: the magic number of old files, which their reader looks at.
            Value::Other
        })
    }

    /// Counts bytes that a value is about to take.
    pub(super) fn charge(&mut self, bytes: usize) -> Step<()> {
        let mib = self.memory >> 20;
        let left = self.left.checked_sub(bytes);
        self.left =
            left.ok_or_else(|| format!("its pickle makes values of more than {mib} MiB, as no checkpoint does"))?;
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value) -> Step<()> {
        self.charge(size_of::<Value>())?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn make(&mut self, node: Node) -> Step<()> {
        let beside = match &node {
            Node::Text(text) => text.len() + 2 * size_of::<usize>(),
            Node::Global(name) => name.len() + 2 * size_of::<usize>(),
            Node::Tuple(items) | Node::List(items) => items.len() * size_of::<Value>(),
            Node::Dict(items) => items.len() * size_of::<(Value, Value)>(),
            Node::Tensor(tensor) => 2 * tensor.shape.len() * size_of::<usize>(),
            Node::Opaque(_) | Node::Storage(_) => 0,
        };
        self.charge(size_of::<Node>() + size_of::<bool>() + beside)?;
        let holds = match &node {
            Node::Storage(_) | Node::Tensor(_) => true,
            Node::Opaque(opaque) => opaque.holds_tensors,
            Node::Tuple(items) | Node::List(items) => self.hold_tensors(items),
            Node::Dict(items) => items.iter().any(|(_, item)| self.hold_tensors(&[*item])),
            Node::Text(_) | Node::Global(_) => false,
        };
        self.nodes.push(node);
        self.holds_tensors.push(holds);
        self.push(Value::Ref(self.nodes.len() - 1))
    }

    /// Whether a tensor or a storage is in any of these.
    pub(super) fn hold_tensors(&self, values: &[Value]) -> bool {
        let holds = |value: &Value| match value {
            Value::Ref(at) => self.holds_tensors.get(*at).copied().unwrap_or(false),
            _ => false,
        };
        values.iter().any(holds)
    }

    pub(super) fn pop(&mut self) -> Step<Value> {
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
        self.charge(REMEMBERED)?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        let value = *self.memo.get(&key).ok_or("its pickle recalls what it did not remember")?;
        self.push(value)
    }

    /// The node on top of the stack, which these values are put into.
    pub(super) fn filled(&mut self, items: &[Value]) -> Step<&mut Node> {
        let holds = self.hold_tensors(items);
        let Some(&Value::Ref(at)) = self.stack.last() else {
            return Err("its pickle fills what is no container".to_owned());
        };
        let (Some(node), Some(flag)) = (self.nodes.get_mut(at), self.holds_tensors.get_mut(at)) else {
            return Err("a dangling value".to_owned());
        };
        *flag |= holds;
        if let Node::Opaque(opaque) = node {
            opaque.holds_tensors |= holds;
        }
        Ok(node)
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Step<()> {
        self.charge(size_of_val(&items[..]))?;
        match self.filled(&items)? {
            Node::List(list) => list.extend(items),
            Node::Opaque(_) => {}
            _ => return Err("its pickle appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Value]) -> Step<()> {
        if !items.len().is_multiple_of(2) {
            return Err("a dictionary key without a value".to_owned());
        }
        self.charge(size_of_val(items))?;
        match self.filled(items)? {
            Node::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Node::Opaque(_) => {}
            _ => return Err("its pickle sets items of what is no dictionary".to_owned()),
        }
        Ok(())
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Ref(at) => self.nodes.get(at),
            _ => None,
        }
    }

    pub(super) fn as_text(&self, value: Value) -> Option<&Arc<str>> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, value: Value) -> Step<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Ok(items),
            _ => Err("a call without arguments".to_owned()),
        }
    }
}
