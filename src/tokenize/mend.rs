//! Repairs text as Python's ftfy does: wrong encodings, HTML entities, quotes, ligatures, widths and controls.
//!
//! Captions of data sets were cleaned with ftfy before models were trained on them.
//! Sentences need the same, so that they become the same tokens.
//!
//! The rules are those of ftfy 6.3.1 with its default settings, by Robyn Speer, under the Apache License 2.0:
//! <https://github.com/rspeer/python-ftfy>.
//!
//! Results differ from ftfy's in three cases:
//!
//! - Text that is built to be repaired dozens of times, each repair after another, is left before it is done.
//! - Escape sequences of terminals have digits of ASCII only, as terminals read them.
//! - Characters newer than Python's Unicode are normalized, too.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

use effort::Effort;

mod badness;
mod bytes;
mod characters;
mod charmaps;
mod effort;
mod encoding;
mod entities;

/// Lines with more characters are repaired in parts.
const LONGEST: usize = 1_000_000;

/// Text repaired as `ftfy.fix_text` does.
pub fn fix_text(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // A text with `<` is HTML from there on, and keeps its entities.
    let mut entities = true;
    for part in text.split_inclusive('\n').flat_map(parts) {
        entities &= !part.contains('<');
        out.push_str(&fix_part(part, entities));
    }
    Cow::Owned(out)
}

/// Whether there is nothing to repair: ASCII without entities and controls.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | 0x0c) && byte != b'&')
}

/// A line in parts of bounded length.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(LONGEST).map_or(rest.len(), |(at, _)| at);
        let (part, after) = rest.split_at(end);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// A part repaired until nothing changes.
fn fix_part(part: &str, entities: bool) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(part);
    let mut effort = Effort::of(part);
    while !is_plain(&text) && effort.spend(&text) {
        let decoded = if entities { entities::unescape(&text) } else { Cow::Borrowed(&*text) };
        let mut fixed = characters::fix_characters(&encoding::fix_encoding(&decoded, &mut effort));
        if !is_nfc(&fixed) {
            fixed = fixed.nfc().collect();
        }
        if fixed == text {
            break;
        }
        text = Cow::Owned(fixed);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_repaired_as_by_ftfy() {
        for (text, expected) in [
            ("", ""),
            ("plain <b> text\n", "plain <b> text\n"),
            ("&macr;\\_(ã\u{83}\u{84})_/&macr;", "¯\\_(ツ)_/¯"),
            ("&amp;amp;lt; cafe\u{301}", "< café"),
            ("&ATILDE;&SUP3; &Atilde;&copy;", "ó é"),
            ("&lt;\n<i>&lt;</i>\n&lt;", "<\n<i>&lt;</i>\n&lt;"),
            ("It was ‘right’ there, “ﬁne”\r\n", "It was 'right' there, \"fine\"\n"),
            ("Ãƒâ€šÃ‚Â© 2010", "© 2010"),
            ("âœ” No problems", "✔ No problems"),
            ("Broken text&hellip; it&#x2019;s ﬂubberiﬁc!", "Broken text… it's flubberific!"),
        ] {
            assert_eq!(fix_text(text), expected);
        }
        assert!(matches!(fix_text("plain, (text)!"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_built_to_be_repaired_without_end_is_left() {
        // Each repair takes one character, or one `amp;`.
        let built = |depth: usize| format!("中Ã{} &{}", "ƒ".repeat(depth), "amp;".repeat(depth));
        assert_eq!(fix_text(&built(20)), "中Ã &");
        assert!(fix_text(&built(2000)).len() > 2000);
    }
}
