//! Files somebody else names: what is no ordinary one is refused before it is opened.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

mod flusher;
mod mapping;

pub use flusher::Flusher;
#[cfg(unix)]
pub use mapping::when_shorter;
pub use mapping::{Watched, map, mapped, watched};

/// Checks that `path` is an ordinary file: a pipe would be waited for, and a device may never end.
///
/// # Errors
/// When there is nothing at `path`, or something else.
pub fn ordinary(path: &Path) -> Result<()> {
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        return Ok(());
    }
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    const SPECIAL: &str = "is no ordinary file (a pipe or a device); copy its contents to one";
    Err(Error::new(ErrorKind::InvalidInput, SPECIAL))
}

/// What a text may have at most: bytes, and values where it is JSON, each of which takes up to 200 bytes of memory.
struct Bounds {
    bytes: u64,
    values: usize,
}

impl Bounds {
    /// Of a file of this name. XLM-V's tokenizer has 60 MB, and 2.7 million values.
    fn of(path: &Path) -> Bounds {
        if path.file_name().is_some_and(|name| name == "tokenizer.json") {
            Bounds { bytes: 128 << 20, values: 1 << 22 }
        } else {
            Bounds { bytes: 16 << 20, values: 1 << 20 }
        }
    }
}

/// The text of an ordinary file, of at most 16 MiB, or 128 MiB where it is a `tokenizer.json`.
///
/// # Errors
/// As [`ordinary`], or when it is longer or not in UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    ordinary(path)?;
    let most = Bounds::of(path).bytes;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_large(format!("has more than {most} bytes, which no file of its kind has")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::new(ErrorKind::InvalidData, format!("line {line} is not in UTF-8; save it as UTF-8"))
    })
}

/// The text of a JSON file, which does not take much memory when it is parsed.
///
/// # Errors
/// As [`read_text`], or when it has more values than any file of its kind.
pub fn read_json(path: &Path) -> Result<String> {
    let (text, most) = (read_text(path)?, Bounds::of(path).values);
    let found = values(text.as_bytes());
    if found > most {
        return Err(too_large(format!("has {found} values, of which at most {most} are read")));
    }
    Ok(text)
}

fn too_large(reason: String) -> Error {
    Error::new(ErrorKind::FileTooLarge, reason)
}

/// How many values JSON has, about: what is between commas, colons and brackets.
fn values(json: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Whether a path that somebody else names stays inside the folder it is relative to.
pub fn is_inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Lower-case hex of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// The last part of a path; empty where there is none.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values(br#"{"a": [1, 2], "b,:[{": "\\", "c": {}}"#), 1 + 3 + 1 + 1 + 2 + 1);
        assert_eq!(values(br#""a\"b,c""#), 0);
    }

    #[test]
    fn paths_inside_have_plain_parts_alone() {
        assert!(is_inside(Path::new("onnx/a.onnx")) && is_inside(Path::new("a")));
        for path in ["../a", "/a", "", "a/../../b", "."] {
            assert!(!is_inside(Path::new(path)), "{path}");
        }
    }
}
