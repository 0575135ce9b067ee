//! Repairs text that is UTF-8, and was decoded as a single-byte encoding.
//!
//! Such text is encoded as it was decoded, and decoded as UTF-8, as long as it looks wrong.
//! If no encoding fits the text as a whole, its pieces that look like UTF-8 are repaired one by one.

use super::badness::is_bad;
use super::bytes::{decode, has_spaces, replace_lost, restore_spaces};
use super::charmaps::{Bytes, CHARMAPS, Origin, without_c1};
use super::effort::Effort;

/// Text with its encoding repaired as often as it needs.
pub fn fix_encoding(text: &str, effort: &mut Effort) -> String {
    let mut text = text.to_owned();
    while !text.is_ascii() && effort.spend(&text) && is_bad(&text) {
        match fix_once(&text, effort) {
            Some(fixed) if fixed != text => text = fixed,
            _ => break,
        }
    }
    text
}

/// The first repair that applies.
fn fix_once(text: &str, effort: &mut Effort) -> Option<String> {
    let characters: Vec<Bytes> = text.chars().map(|c| Origin::of(c).bytes).collect();
    let whole = CHARMAPS.iter().enumerate().find_map(|(n, charmap)| {
        let mut bytes = characters.iter().map(|bytes| bytes[n]).collect::<Option<Vec<u8>>>()?;
        if charmap.spaces && has_spaces(&bytes) {
            bytes = restore_spaces(&bytes);
        }
        if charmap.sloppy {
            bytes = replace_lost(&bytes);
        }
        decode(&bytes)
    });
    whole
        .or_else(|| fix_pieces(text, effort))
        .or_else(|| text.contains(|c| without_c1(c) != c).then(|| text.chars().map(without_c1).collect()))
}

/// Text with its pieces that look like UTF-8 repaired, if it changes.
///
/// A repair leaves at most three quarters of a piece, so that pieces within pieces end soon.
fn fix_pieces(text: &str, effort: &mut Effort) -> Option<String> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    // A piece that begins within a larger garble is left, since to repair it would make matters worse.
    let mut within = false;
    while let Some(c) = text[at..].chars().next() {
        let len = if within { 0 } else { piece(&text[at..]) };
        let found = &text[at..at + len];
        let mut last = c;
        if let Some(end) = found.chars().next_back() {
            last = end;
            // The whole text has been tried before.
            if len < text.len() && is_bad(found) {
                let fixed = fix_encoding(found, effort);
                if fixed != found {
                    out.push_str(&text[copied..at]);
                    out.push_str(&fixed);
                    copied = at + len;
                }
            }
        }
        at += len.max(c.len_utf8());
        within = Origin::of(last).strict;
    }
    out.push_str(&text[copied..]);
    (copied > 0).then_some(out)
}

/// Length of what looks like UTF-8 at the start.
fn piece(text: &str) -> usize {
    let mut chars = text.chars();
    let mut len = 0;
    while let Some(first) = chars.next() {
        let count = Origin::of(first).begins;
        if count == 0 || chars.by_ref().take(count - 1).filter(|&c| Origin::of(c).continues).count() + 1 < count {
            break;
        }
        len = text.len() - chars.as_str().len();
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrongly_decoded_text_is_repaired() {
        for (text, expected) in [
            ("sÃ³ âœ” No problems", "só ✔ No problems"),
            ("voilÃ le travail", "voilà le travail"),
            ("â€œ like this â€\u{fffd}", "“ like this \u{fffd}"),
            ("l’humanitÃ© 中", "l’humanité 中"),
            ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚, РїСЂРёРІРµС‚", "привет, привет"),
            ("Ã\u{192}Â©t\u{c3}\u{192}Â©", "été"),
            ("\u{93}quoted\u{94} €", "“quoted” €"),
            ("Å is a word, ¡Él!", "Å is a word, ¡Él!"),
        ] {
            assert_eq!(fix_encoding(text, &mut Effort::of(text)), expected);
        }
    }
}
