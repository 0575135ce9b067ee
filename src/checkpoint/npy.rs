//! The `.npy` header: magic, version, and a Python dict literal of three entries.
//!
//! Read here rather than by `ndarray-npy` because big_vision stores bfloat16 as the raw two-byte
//! type `V2`, which that crate refuses, and because the data must stay where it is.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use crate::tensor::DType;

/// What a header says of the bytes behind it.
#[derive(Debug, PartialEq)]
pub struct Header {
    pub dtype: DType,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Where the data starts.
    pub length: usize,
}

/// Longest header taken: NumPy's own limit for untrusted files.
const MAX_HEADER: usize = 10_000;

/// Bytes to have at hand before calling [`parse`].
pub const MAX_PREFIX: usize = MAX_HEADER + 12;

/// Reads the header at the start of `bytes`.
///
/// # Errors
/// A sentence saying what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Header, String> {
    let [0x93, b'N', b'U', b'M', b'P', b'Y', major, _minor, rest @ ..] = bytes else {
        return Err("is not a .npy array: its magic bytes are missing".to_owned());
    };
    let (length_bytes, length) = match (major, rest) {
        (1, [a, b, ..]) => (2, usize::from(u16::from_le_bytes([*a, *b]))),
        (2 | 3, [a, b, c, d, ..]) => (4, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        (1..=3, _) => return Err("ends inside its .npy header".to_owned()),
        _ => return Err(format!("has .npy version {major}; expected 1, 2 or 3")),
    };
    if length > MAX_HEADER {
        return Err(format!("has a .npy header of {length} bytes; expected at most {MAX_HEADER}"));
    }
    let start = 8 + length_bytes;
    let text = bytes.get(start..start + length).ok_or("ends inside its .npy header")?;
    let text = std::str::from_utf8(text).map_err(|_| "has a .npy header that is not text")?;
    let mut header = Literal { rest: text.trim() }.header()?;
    header.length = start + length;
    Ok(header)
}

/// A reader of just the Python literals NumPy writes.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn header(mut self) -> Result<Header, String> {
        let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => dtype = Some(self.descr()?),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                other => return Err(format!("has an unknown .npy header entry `{other}`")),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (dtype, fortran_order, shape) {
            (Some(dtype), Some(fortran_order), Some(shape)) => Ok(Header { dtype, fortran_order, shape, length: 0 }),
            _ => Err("has a .npy header without descr, fortran_order or shape".to_owned()),
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(format!("has a malformed .npy header: expected `{c}`")) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take('\'') {
            '\''
        } else {
            self.expect('"')?;
            '"'
        };
        let end = self.rest.find(quote).ok_or("has a malformed .npy header: a string does not end")?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("has a malformed .npy header: expected True or False".to_owned())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut out = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            out.push(digits.parse().map_err(|_| format!("has a malformed shape near `{}`", self.near()))?);
            // Python 2's NumPy wrote long integers as `10L`.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if out.len() > 32 {
                return Err("has more than 32 axes".to_owned());
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(out)
    }

    fn descr(&mut self) -> Result<DType, String> {
        if self.rest.trim_start().starts_with('[') {
            return Err("is a structured array; expected a plain float array".to_owned());
        }
        let text = self.string()?;
        let kind = text.strip_prefix(['<', '|', '=']).unwrap_or(text);
        let order = if text.starts_with('>') { ">" } else { "" };
        Ok(match (order, kind) {
            (">", _) => {
                return Err(format!(
                    "is stored big-endian (dtype `{text}`); save it little-endian with `a.astype(a.dtype.newbyteorder('<'))`"
                ));
            }
            (_, "f8") => DType::F64,
            (_, "f4") => DType::F32,
            (_, "f2") => DType::F16,
            // ml_dtypes.bfloat16, which NumPy itself does not know.
            (_, "V2") => DType::BF16,
            (_, "i8" | "u8") => DType::I64,
            (_, "i4" | "u4") => DType::I32,
            (_, "i2" | "u2") => DType::I16,
            (_, "i1") => DType::I8,
            (_, "u1") => DType::U8,
            (_, "b1") => DType::Bool,
            _ => {
                return Err(format!("has dtype `{text}`; expected `<f4`, `<f2` or `<V2` (bfloat16)"));
            }
        })
    }

    fn near(&self) -> &str {
        let end = self.rest.char_indices().nth(12).map_or(self.rest.len(), |(i, _)| i);
        &self.rest[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: u8, dict: &str) -> Vec<u8> {
        let mut out = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
        match version {
            1 => out.extend((dict.len() as u16).to_le_bytes()),
            _ => out.extend((dict.len() as u32).to_le_bytes()),
        }
        out.extend(dict.as_bytes());
        out
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let header = parse(&npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 4, 16), }   \n"));
        let header = header.unwrap();
        assert_eq!((header.dtype, header.fortran_order), (DType::F32, false));
        assert_eq!(header.shape, [64, 4, 16]);
        for (descr, dtype) in [("<f2", DType::F16), ("<V2", DType::BF16), ("|V2", DType::BF16), ("|b1", DType::Bool)] {
            let dict = format!("{{'descr': '{descr}', 'fortran_order': True, 'shape': (3,)}}\n");
            let header = parse(&npy(2, &dict)).unwrap();
            assert_eq!((header.dtype, header.fortran_order, header.shape), (dtype, true, vec![3]));
        }
        assert!(parse(&npy(3, "{'descr': '<f8', 'fortran_order': False, 'shape': ()}")).unwrap().shape.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (dict, said) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", "big-endian"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "dtype `|O`"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "structured"),
            ("{'descr': '<f4', 'shape': (1,)}", "without"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "malformed shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}", "malformed shape"),
            ("{'descr': 'éf4', 'fortran_order': False, 'shape': (1,)}", "dtype `éf4`"),
            ("{'descr': '', 'fortran_order': False, 'shape': (1,)}", "dtype ``"),
            ("{'descr: <f4", "does not end"),
        ] {
            let error = parse(&npy(1, dict)).unwrap_err();
            assert!(error.contains(said), "{dict}: {error}");
        }
        assert!(parse(b"PK").unwrap_err().contains("magic"));
        assert!(parse(&npy(1, "{'descr'")[..12]).unwrap_err().contains("ends inside"));
        assert!(parse(&npy(9, "{}")).unwrap_err().contains("version 9"));
    }

    #[test]
    fn no_prefix_of_a_header_panics() {
        let whole = npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (64, 4, 16), }\n");
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err());
        }
    }
}
