//! Characters that have a plainer form.

use unicode_normalization::UnicodeNormalization;

use super::charmaps::without_c1;

/// Text with C1 controls, ligatures, widths, quotes and line breaks made plain, and without controls.
pub fn fix_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().map(without_c1).peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            'ʼ' | '‘'..='‛' => out.push('\''),
            '“'..='‟' => out.push('"'),
            '\u{3000}' => out.push(' '),
            // Fullwidth ASCII and halfwidth Katakana and Hangul.
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc()),
            _ => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(c),
            },
        }
    }
    if out.contains('\u{1b}') {
        out = without_escapes(&out);
    }
    out.retain(|c| !is_control(c));
    out
}

/// The letters of a Latin ligature that text seldom needs.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        // Its first character is a quote.
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Text without the escape sequences of terminal colors: ESC, `[`, digits and semicolons, a letter.
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match rest.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(rest) => out.push_str(rest),
            None => {
                out.push_str("\u{1b}[");
                out.push_str(part);
            }
        }
    }
    out
}

/// Controls that text does not need, byte order marks and stand-ins for objects.
fn is_control(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_made_plain() {
        for (text, expected) in [
            ("“ﬂuﬃeﬆ” ‘ŉ’ „Ǆ‚", "\"fluffiest\" ''n' \"DŽ'"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ Ｕﾀｰﾝ ￣", "LOUD NOISES Uターン  \u{304}"),
            ("a\r\nb\rc\r\r\nd\u{2028}e\u{2029}f\u{85}g\u{92}\u{81}", "a\nb\nc\n\nd\ne\nf…g'\u{81}"),
            ("\u{1b}[36;44mblue\u{1b}[0m \u{1b}[\u{1b}［ｍ\u{1b}[;", "blue [[;"),
            ("\u{feff}\0\t\u{b}\u{c}\u{7f}\u{fffc}\u{fffd}\u{206a}\u{200e}", "\t\u{c}\u{fffd}\u{200e}"),
        ] {
            assert_eq!(fix_characters(text), expected);
        }
    }
}
