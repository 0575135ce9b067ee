//! How many messages an ONNX file holds: an empty one takes two bytes of a file and hundreds in memory.

/// Messages and texts of a file, at most. The largest towers have under 100 000.
const MOST: usize = 1 << 19;

/// Graphs inside graphs, at most.
const DEEPEST: usize = 64;

/// Kinds of messages that hold other messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    Function,
    /// A text, bytes, packed numbers, or a message that holds nothing but those.
    Leaf,
}

impl Kind {
    /// Whether a field of this kind of message holds lengths or other numbers of a byte each: `dims`, and `ints`.
    fn packs(self, number: u64) -> bool {
        matches!((self, number), (Kind::Tensor, 1) | (Kind::Attribute, 8))
    }

    /// What a length-delimited field of this kind of message is, by `onnx.proto`.
    fn field(self, number: u64) -> Kind {
        use Kind::{Attribute, Function, Graph, Leaf, Model, Node, SparseTensor, Tensor, Type, ValueInfo};
        match (self, number) {
            (Model, 7) | (Attribute, 6 | 11) => Graph,
            (Model, 25) => Function,
            // Training graphs are not read; their parts are counted as those of a graph.
            (Model, 20) => Graph,
            (Graph, 1) | (Function, 7) => Node,
            (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
            (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
            (Graph, 11..=13) | (Function, 12) => ValueInfo,
            (Node, 5) | (Function, 11) => Attribute,
            (Attribute, 14 | 15) | (ValueInfo, 2) => Type,
            // Shapes, and types of elements inside sequences, optionals and maps.
            (Type, 1..=9) => Type,
            _ => Leaf,
        }
    }
}

/// Checks that a file holds no more messages than a model does. What is no protocol buffer is left to the decoder.
///
/// # Errors
/// How many there may be.
pub fn check(file: &[u8]) -> Result<(), String> {
    let mut count = 0;
    let mut open = vec![(Kind::Model, file)];
    while let Some((kind, mut rest)) = open.pop() {
        while let Some((number, field)) = next(&mut rest) {
            let Some(field) = field else { continue };
            // Packed numbers take a byte of the file, and eight in memory.
            count += 1 + if kind.packs(number) { field.len() / 16 } else { 0 };
            if count > MOST {
                return Err(format!(
                    "it holds more than {MOST} nodes, tensors, names and other parts, as no tower does"
                ));
            }
            match kind.field(number) {
                Kind::Leaf => {}
                inner => {
                    // A message is left where the one inside it begins.
                    open.push((kind, rest));
                    if open.len() > 4 * DEEPEST {
                        return Err(format!("its graphs are nested more than {DEEPEST} deep"));
                    }
                    open.push((inner, field));
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The next field's number, and its bytes where it is length-delimited; None at the end, or where no field begins.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = varint(rest)?;
    let field = match key & 7 {
        0 => varint(rest).map(|_| None)?,
        1 => rest.split_off(..8).map(|_| None)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Some(rest.split_off(..length)?)
        }
        5 => rest.split_off(..4).map(|_| None)?,
        // Groups, which decoders skip: what is inside is counted as if it were beside them.
        3 | 4 => None,
        _ => return None,
    };
    Some((key >> 3, field))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = contents.len();
        while length > 0x7f {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(contents);
        out
    }

    #[test]
    fn messages_are_counted_at_every_depth() {
        let few = field(7, &field(1, &field(5, &field(5, b""))));
        assert!(check(&few).is_ok() && check(b"").is_ok() && check(b"not one").is_ok());
        let empty = field(5, b"").repeat(MOST);
        // Attributes of a node, and the same bytes as one text.
        assert!(check(&field(7, &field(1, &empty))).is_err());
        assert!(check(&field(7, &field(10, &empty))).is_ok());
        // Behind a group, which is skipped.
        let group = [&[15 << 3 | 3, 15 << 3 | 4][..], &empty].concat();
        assert!(check(&field(7, &field(1, &group))).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let mut graph = vec![];
        for _ in 0..200 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        assert!(check(&field(7, &graph)).unwrap_err().contains("nested"));
    }
}
