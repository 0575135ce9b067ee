//! HTML entities, where they are unambiguous.
//!
//! Unlike in HTML, an entity needs its semicolon.
//! Names may be in upper case, as long as HTML does not know them in upper case.

use std::borrow::Cow;

/// The longest name or number of an entity.
const LONGEST: usize = 24;

/// Text with its HTML entities decoded once.
pub fn unescape(text: &str) -> Cow<'_, str> {
    let mut parts = text.split('&');
    let mut out = String::new();
    let mut copied = 0;
    let mut at = parts.next().map_or(0, str::len);
    for part in parts {
        if let Some(name) = name(part)
            && let Some(decoded) = decoded(name)
        {
            out.push_str(&text[copied..at]);
            out.push_str(&decoded);
            copied = at + 1 + name.len() + 1;
        }
        at += 1 + part.len();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The name of an entity, from what follows `&`.
fn name(part: &str) -> Option<&str> {
    let hash = usize::from(part.starts_with('#'));
    let len = part.bytes().skip(hash).take(LONGEST + 1).take_while(u8::is_ascii_alphanumeric).count();
    let name = part.get(..hash + len)?;
    ((1..=LONGEST).contains(&len) && part[name.len()..].starts_with(';')).then_some(name)
}

/// What an entity stands for.
fn decoded(name: &str) -> Option<Cow<'static, str>> {
    if let Some(number) = name.strip_prefix('#') {
        return numbered(number);
    }
    if let Some(decoded) = named(name) {
        return Some(Cow::Borrowed(decoded));
    }
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let decoded = named(&name.to_ascii_lowercase())?;
    // HTML decodes the beginning of some, as `&GT` of `&GTDOT;`, which makes them ambiguous.
    let entity = format!("&{name};");
    (htmlize::unescape(&entity) == entity).then(|| Cow::Owned(decoded.to_uppercase()))
}

/// What HTML's table has for a name.
fn named(name: &str) -> Option<&'static str> {
    let decoded = htmlize::ENTITIES.get(format!("&{name};").as_bytes())?;
    std::str::from_utf8(decoded).ok()
}

/// What the number of a character stands for: nothing, if it is a control character or no character.
fn numbered(number: &str) -> Option<Cow<'static, str>> {
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u128::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    let c = match u32::try_from(code) {
        Ok(0) | Err(_) => '\u{fffd}',
        // ftfy leaves the semicolon's own number.
        Ok(0x3b) => return None,
        // A C1 control has the byte of another character.
        Ok(code @ 0x80..=0x9f) => super::charmaps::without_c1(char::from_u32(code)?),
        Ok(0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef) => return Some(Cow::Borrowed("")),
        Ok(code @ ..=0x10ffff) if code & 0xfffe == 0xfffe => return Some(Cow::Borrowed("")),
        Ok(code) => char::from_u32(code).unwrap_or('\u{fffd}'),
    };
    Some(Cow::Owned(c.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_decoded_once_where_unambiguous() {
        for (text, expected) in [
            ("&lt;tag&gt; &amp;amp; &semi;", "<tag> &amp; ;"),
            ("P&EACUTE;REZ &SZLIG; &nTILDE; &FJLIG;", "PÉREZ SS &nTILDE; FJ"),
            ("&amp &not &GTDOT; &unknown; &; &&lt;", "&amp &not &GTDOT; &unknown; &; &<"),
            ("&#65;&#x41;&#X41; &#59; &#x; &#xg; &#12ab;", "AAA &#59; &#x; &#xg; &#12ab;"),
            (
                "[&#1;&#xfffe;&#127;] &#0;&#xd800;&#x110000;&#99999999999999999999;",
                "[] \u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("&#128;&#x81;&#13;", "€\u{81}\r"),
            ("&#000000000000000000000065; &#0000000000000000000000065;", "A &#0000000000000000000000065;"),
        ] {
            assert_eq!(unescape(text), expected);
        }
    }
}
