//! What calls, classes and references to storages come to: tensors, dictionaries, or opaque values.

use std::sync::Arc;

use super::machine::{Machine, Step};
use super::{MAX_RANK, Node, Opaque, StorageRef, TensorRef, Value};
use crate::tensor::DType;

/// Bytes of a storage's key, at most: PyTorch numbers them.
const KEY: usize = 256;

/// Arguments that any callable known here looks at.
const ARGUMENTS: usize = 6;

impl Machine<'_> {
    pub(super) fn call(&mut self, function: Value, arguments: Value) -> Step<()> {
        let name = match self.node(function) {
            Some(Node::Global(name)) => name.clone(),
            // What an opaque value gives when it is called is as opaque.
            Some(Node::Opaque(opaque)) => opaque.maker.clone(),
            _ => return Err("its pickle calls what is no function".to_owned()),
        };
        let given = self.first(arguments)?;
        match &*name {
            // A dictionary with a default for what is not in it: items are set later, as of the others.
            "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" | "__builtin__.dict" => {
                self.make(Node::Dict(vec![]))?;
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => self.rebuild(&given)?,
            // (data, requires_grad, hooks): the data.
            "torch._utils._rebuild_parameter"
            | "torch._utils._rebuild_parameter_with_state"
            | "torch.nn.parameter.Parameter" => {
                self.push(*given.first().ok_or("a parameter without data")?)?;
            }
            // Typed lists of TorchScript: the list.
            name if name.starts_with("torch.jit._pickle.build_") => {
                self.push(given.first().copied().unwrap_or(Value::None))?;
            }
            "torch.Size" | "torch.device" | "builtins.set" | "__builtin__.set" => self.push(Value::Other)?,
            // (class, base, state): an object of the class.
            "copyreg._reconstructor" | "copy_reg._reconstructor" => {
                let class = given.first().and_then(|&class| self.maker(class)).unwrap_or(name);
                self.opaque(class, &[arguments])?;
            }
            _ => self.opaque(name, &[arguments])?,
        }
        Ok(())
    }

    /// The name of a class or function.
    fn maker(&self, value: Value) -> Option<Arc<str>> {
        match self.node(value) {
            Some(Node::Global(name)) => Some(name.clone()),
            Some(Node::Opaque(opaque)) => Some(opaque.maker.clone()),
            _ => None,
        }
    }

    fn opaque(&mut self, maker: Arc<str>, of: &[Value]) -> Step<()> {
        let holds_tensors = self.hold_tensors(of);
        self.make(Node::Opaque(Opaque { maker, holds_tensors }))
    }

    /// The arguments of a tuple that any callable known here looks at.
    fn first(&self, tuple: Value) -> Step<Vec<Value>> {
        Ok(self.tuple(tuple)?.iter().take(ARGUMENTS).copied().collect())
    }

    pub(super) fn new_object(&mut self, class: Value, arguments: &[Value]) -> Step<()> {
        let name = self.maker(class).ok_or("its pickle makes an object of no class")?;
        match &*name {
            name if name.starts_with("__torch__.") => self.make(Node::Dict(vec![]))?,
            "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" | "__builtin__.dict" => {
                self.make(Node::Dict(vec![]))?;
            }
            _ => self.opaque(name, arguments)?,
        }
        Ok(())
    }

    /// State for the object on the stack: attributes of a TorchScript module; of an OrderedDict
    /// PyTorch's `_metadata`, which says nothing about weights.
    pub(super) fn build(&mut self, state: Value) -> Step<()> {
        let count = match self.node(state) {
            Some(Node::Dict(attributes)) => attributes.len(),
            _ => 0,
        };
        self.charge(count * size_of::<(Value, Value)>())?;
        let attributes = match self.node(state) {
            Some(Node::Dict(attributes)) => attributes.clone(),
            _ => vec![],
        };
        if self.stack.last().is_some_and(|value| !matches!(value, Value::Ref(_))) {
            return Ok(());
        }
        if let Node::Dict(dict) = self.filled(&[state])?
            && dict.is_empty()
        {
            *dict = attributes;
        }
        Ok(())
    }

    pub(super) fn persistent(&mut self, id: Value) -> Step<()> {
        let parts = self.first(id)?;
        // The form of before 1.6 has classes of modules here, with their source: the class.
        if let [kind, class, ..] = parts[..]
            && self.as_text(kind).is_some_and(|kind| **kind == *"module")
        {
            return self.push(class);
        }
        let [kind, class, key, _location, elements, ..] = parts[..] else {
            return Err("a storage of unknown form".to_owned());
        };
        let (kind, key) = (self.as_text(kind), self.as_text(key));
        let maker = self.maker(class);
        let dtype = maker.as_deref().and_then(storage_dtype);
        if let (Some("storage"), None, Some(maker)) = (kind.map(|kind| &**kind), dtype, maker) {
            // Of complex numbers, or quantised: named where a tensor of the weights is made of it.
            self.make(Node::Opaque(Opaque { maker, holds_tensors: true }))?;
            return Ok(());
        }
        let (Some("storage"), Some(dtype), Some(key), Value::Int(elements)) =
            (kind.map(|kind| &**kind), dtype, key, elements)
        else {
            return Err("a storage of unknown form".to_owned());
        };
        if parts.get(5).is_some_and(|view| *view != Value::None) {
            return Err("a storage that is a view of another, a form of before 2017; save the file anew".to_owned());
        }
        if key.len() > KEY {
            return Err(format!("a storage's key has {} bytes; expected at most {KEY}", key.len()));
        }
        let elements = u64::try_from(elements).map_err(|_| "a storage of negative size")?;
        let storage = StorageRef { key: key.clone(), dtype, elements };
        self.make(Node::Storage(storage))?;
        Ok(())
    }

    /// (storage, offset, size, stride, …)
    fn rebuild(&mut self, arguments: &[Value]) -> Step<()> {
        let [storage, Value::Int(offset), size, stride, ..] = *arguments else {
            return Err("a tensor of unknown form".to_owned());
        };
        let storage = match self.node(storage) {
            Some(Node::Storage(storage)) => storage.clone(),
            Some(Node::Opaque(opaque)) => {
                let opaque = opaque.clone();
                self.make(Node::Opaque(opaque))?;
                return Ok(());
            }
            _ => return Err("a tensor without a storage".to_owned()),
        };
        let lengths = |value: Value| -> Step<Box<[usize]>> {
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
        self.make(Node::Tensor(TensorRef { storage, offset, shape, strides }))?;
        Ok(())
    }
}

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
