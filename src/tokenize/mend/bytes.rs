//! UTF-8 that was damaged while it was wrongly decoded.
//!
//! Bytes here are what a text has in the encoding that it may have been decoded with.
//! Byte 1A stands for a byte that was lost.

/// What replaces bytes that were lost: U+FFFD in UTF-8.
const LOST: [u8; 3] = [0xef, 0xbf, 0xbd];
/// Portuguese words and ends of words that follow `à` without a space. Two spaces need no third.
const AFTER_A_GRAVE: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];

/// Bytes A0 again, where a space took their place within what would be UTF-8.
pub fn restore_spaces(bytes: &[u8]) -> Vec<u8> {
    // Without these, `à` as a word would join the next word: its own space was taken for byte A0.
    let is_word = |rest: &[u8]| !AFTER_A_GRAVE.iter().any(|word| rest.starts_with(word));
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let len = spaced(rest);
        match rest {
            [0xc3, b' ', after @ ..] if is_word(after) => out.extend([0xc3, 0xa0, b' ']),
            _ if len == 0 => out.push(first),
            _ => out.extend(rest.iter().take(len).map(|&byte| if byte == b' ' { 0xa0 } else { byte })),
        }
        rest = rest.get(len.max(1)..).unwrap_or_default();
    }
    out
}

/// Whether a space took the place of byte A0 anywhere.
pub fn has_spaces(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| spaced(&bytes[at..]) > 0)
}

/// How many bytes at the start would be UTF-8 if their space were byte A0.
///
/// Only characters that texts often have count.
fn spaced(bytes: &[u8]) -> usize {
    let inner = |byte: u8| is_continuation(byte) && byte != 0x85 && byte != 0xa0;
    match *bytes {
        [0xc2 | 0xc3 | 0xc5 | 0xce | 0xd0 | 0xd9, b' ', ..] => 2,
        [0xe2 | 0xe3, b' ', a, ..] | [0xe0..=0xe3, a, b' ', ..] if inner(a) => 3,
        [0xf0, b' ', a, b, ..] | [0xf0, a, b' ', b, ..] | [0xf0, a, b, b' ', ..]
            if is_continuation(a) && is_continuation(b) =>
        {
            4
        }
        _ => 0,
    }
}

/// U+FFFD in UTF-8, where bytes of a character were lost.
pub fn replace_lost(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let len = lossy(rest);
        if len == 0 {
            out.push(first);
        } else {
            out.extend(LOST);
        }
        rest = rest.get(len.max(1)..).unwrap_or_default();
    }
    out
}

/// How many bytes at the start are a character that lost some of its bytes.
///
/// One of the lost bytes may be a question mark.
fn lossy(bytes: &[u8]) -> usize {
    let lost = |byte: u8| byte == 0x1a || byte == b'?';
    let known = |byte: u8| byte == 0x1a || is_continuation(byte);
    let either = |byte: u8| lost(byte) || known(byte);
    match *bytes {
        [0xc2..=0xdf, 0x1a, ..] | [0xc2 | 0xc3, b'?', ..] => 2,
        [0xed, 0xa0..=0xaf, a, 0xed, 0xb0..=0xbf, b, ..] if lost(a) && either(b) || either(a) && lost(b) => 6,
        [0xe0..=0xef, a, b, ..] if lost(a) && known(b) || known(a) && lost(b) => 3,
        [0xf0..=0xf4, a, b, c, ..]
            if lost(a) && known(b) && known(c) || known(a) && (lost(b) && known(c) || known(b) && lost(c)) =>
        {
            4
        }
        [0x1a, ..] => 1,
        _ => 0,
    }
}

/// Text of UTF-8, also of two variants.
///
/// Java writes U+0000 as two bytes, and CESU-8 writes the two halves of a surrogate pair.
pub fn decode(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                return Some(out);
            }
            Err(error) => error,
        };
        let (valid, other) = rest.split_at(error.valid_up_to());
        let (c, len) = variant(other)?;
        out.push_str(std::str::from_utf8(valid).ok()?);
        out.push(c);
        rest = other.get(len..)?;
    }
}

/// A character at the start that is in a variant of UTF-8, and its length.
fn variant(bytes: &[u8]) -> Option<(char, usize)> {
    match *bytes {
        // ftfy's decoder takes a last line break for the last byte of a variant.
        [0xc0, 0x80, ..] | [0xc0, b'\n'] => Some(('\0', 2)),
        [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d, ref rest @ ..]
            if is_continuation(d) || d == b'\n' && rest.is_empty() =>
        {
            let [a, b, c, d] = [a & 0x0f, b & 0x3f, c & 0x0f, d & 0x3f].map(u32::from);
            Some((char::from_u32((a << 16 | b << 10 | c << 6 | d) + 0x10000)?, 6))
        }
        _ => None,
    }
}

fn is_continuation(byte: u8) -> bool {
    matches!(byte, 0x80..=0xbf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_become_bytes_within_characters() {
        for (bytes, expected) in [
            (&b"voil\xc3 le \xc3 "[..], &b"voil\xc3\xa0 le \xc3\xa0 "[..]),
            (b"\xc3 s vezes \xc3 quela \xc3  a", b"\xc3\xa0s vezes \xc3\xa0quela \xc3\xa0 a"),
            (b"\xe2 \x80 \xe2\x80 \xe0 \x80 \xf0\x9f \x80", b"\xe2\xa0\x80 \xe2\x80\xa0\xe0 \x80 \xf0\x9f\xa0\x80"),
        ] {
            assert!(has_spaces(bytes));
            assert_eq!(restore_spaces(bytes), expected);
        }
        assert!(!has_spaces(b"\xe1 \x80 \xe2 \x85\xc4 "));
    }

    #[test]
    fn lost_bytes_become_one_character() {
        for (bytes, expected) in [
            (&b"\xe2\x80\x1a \xe2\x80? \xe2\x1a? \xe2?? \x1a"[..], &b"* * * \xe2?? *"[..]),
            (b"\xc3? \xc4? \xc4\x1a \xf0\x9f?\x1a \xf0?\x9f?", b"* \xc4? * * \xf0?\x9f?"),
            (b"\xed\xa0?\xed\xb0? \xed\xa0\x80\xed\xb0\x80", b"* \xed\xa0\x80\xed\xb0\x80"),
        ] {
            let expected: Vec<u8> =
                expected.iter().flat_map(|&b| if b == b'*' { LOST.to_vec() } else { vec![b] }).collect();
            assert_eq!(replace_lost(bytes), expected);
        }
    }

    #[test]
    fn variants_of_utf8_are_decoded() {
        assert_eq!(decode(b"a\xc0\x80b \xed\xa0\xbd\xed\xb8\x8d \xed\x95\x9c").as_deref(), Some("a\0b 😍 한"));
        assert_eq!(decode(b"\xc0\n").as_deref(), Some("\0"));
        assert_eq!(decode(b"\xed\xa0\x80\xed\xb0\n").as_deref(), Some("\u{1000a}"));
        for bytes in [&b"\xc0\n "[..], b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0\x80", b"\xed\xa0\x80\xed\xb0\n "] {
            assert_eq!(decode(bytes), None);
        }
    }
}
