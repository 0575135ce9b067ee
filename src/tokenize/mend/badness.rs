//! Whether text looks as if it was decoded wrongly.
//!
//! Characters that wrongly decoded UTF-8 consists of are put into classes.
//! Text looks wrong if characters meet that seldom do in any language.

use unicode_normalization::char::is_combining_mark;

const CAPITAL: u16 = 1;
const SMALL: u16 = 1 << 1;
/// Characters of many contexts.
const COMMON: u16 = 1 << 2;
/// Controls that no text needs.
const C1: u16 = 1 << 3;
/// Characters that seldom occur elsewhere.
const BAD: u16 = 1 << 4;
const LAW: u16 = 1 << 5;
const CURRENCY: u16 = 1 << 6;
/// Punctuation before a word.
const START: u16 = 1 << 7;
/// Punctuation after a word.
const END: u16 = 1 << 8;
const NUMERIC: u16 = 1 << 9;
/// Letters and signs that faces are drawn with.
const KAOMOJI: u16 = 1 << 10;
const UPPER_ACCENTED: u16 = 1 << 11;
const LOWER_ACCENTED: u16 = 1 << 12;
/// Capitals that words may end with.
const UPPER_COMMON: u16 = 1 << 13;
const LOWER_COMMON: u16 = 1 << 14;
/// Parts of drawn boxes.
const BOX: u16 = 1 << 15;

const ACCENTED: u16 = UPPER_ACCENTED | LOWER_ACCENTED;
const MARKS: u16 = BOX | START | END | CURRENCY | NUMERIC | LAW;

/// Classes of two characters that seldom meet.
const PAIRS: [(u16, u16); 10] = [
    (BAD | ACCENTED | MARKS, BAD),
    (BAD, ACCENTED | MARKS),
    (LOWER_ACCENTED | LOWER_COMMON | BOX | END | CURRENCY | NUMERIC, UPPER_ACCENTED),
    (BOX | END | CURRENCY | NUMERIC, LOWER_ACCENTED),
    (LOWER_ACCENTED | BOX | END, CURRENCY),
    (UPPER_ACCENTED | BOX, NUMERIC | LAW),
    (CURRENCY | NUMERIC | BOX, START),
    (BOX, KAOMOJI),
    (ACCENTED | CURRENCY | NUMERIC | START | END | LAW, BOX),
    (BOX, END),
];

/// Classes of three characters that seldom meet.
const TRIPLES: [(u16, u16, u16); 4] = [
    (CAPITAL | SMALL, LOWER_COMMON | UPPER_COMMON, BAD),
    (ACCENTED | BOX | CURRENCY | END, START, NUMERIC),
    (ACCENTED | CURRENCY | NUMERIC | BOX | LAW, END, START),
    (SMALL, UPPER_ACCENTED, START | CURRENCY),
];

/// Whether text looks as if it was decoded wrongly.
pub fn is_bad(text: &str) -> bool {
    // Every rule has a character that is not ASCII.
    text.char_indices().any(|(at, c)| !c.is_ascii() && (meets_badly(text, at, c) || starts_badly(text, at, c)))
}

/// Whether a character meets its neighbors badly, by their classes.
fn meets_badly(text: &str, at: usize, c: char) -> bool {
    let (class, last, next) = (class_of(c), text[..at].chars().next_back(), text[at..].chars().nth(1));
    let (last_class, next_class) = (last.map_or(0, class_of), next.map_or(0, class_of));
    let all = |a: u16, b: u16, c: u16| last_class & a != 0 && class & b != 0 && next_class & c != 0;
    class & C1 != 0
        || PAIRS.iter().any(|&(a, b)| class & a != 0 && next_class & b != 0)
        || TRIPLES.iter().any(|&(a, b, c)| all(a, b, c))
        || class & UPPER_ACCENTED != 0
            && (next == Some('°') || next_class & CURRENCY != 0 && last.is_some_and(is_space))
        || class & (START | END) != 0 && last_class & ACCENTED != 0 && next.is_some_and(is_word)
}

/// Whether a character starts what only wrongly decoded text has.
fn starts_badly(text: &str, at: usize, c: char) -> bool {
    let is = |c: Option<char>, classes: u16, others: &str| {
        c.is_some_and(|c| class_of(c) & classes != 0 || others.contains(c))
    };
    let mut before = text[..at].chars().rev();
    let mut after = text[at..].chars().skip(1);
    let [second, third, fourth] = [after.next(), after.next(), after.next()];
    match c {
        // A ligature that no letter follows.
        'Œ' | 'œ' => second.is_some_and(|c| !c.is_ascii_alphabetic()),
        // Windows-1252.
        '×' => is(second, 0, "²³"),
        'à' => is(second, 0, "²µ¹¼½¾"),
        'Â' | 'Ã' | 'Î' | 'Ð' => {
            let (last, earlier) = (before.next(), before.next());
            let word_ends = is(last, SMALL, "") || last.is_some_and(is_space) && is(earlier, SMALL, "");
            is(second, START | END, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´")
                || c == 'Ã' && is(second, 0, "\u{a0}¡")
                || c == 'Â' && is(last, SMALL | END, ".,?!") && is(second, START | END, " ")
                || matches!(c, 'Â' | 'Ã') && second == Some(' ') && (last.is_none() || word_ends)
        }
        // Arabic in Windows-1252. Twice, since the second characters are common.
        'Ø' | 'Ù' => {
            let common = |c| is(c, COMMON | CURRENCY | BAD | NUMERIC | START, "ŸŠ®°µ»");
            common(second) && is(third, 0, "ØÙ") && common(fourth)
        }
        // Mac Roman.
        '√' => is(second, 0, "±∂†≠®™´≤≥¥µø"),
        '≈' => is(second, 0, "°¢"),
        '‚' => second == Some('Ä') && is(third, 0, "ìîïòôúùû†°¢π") || is(second, 0, "âó") && is(third, 0, "àä°ê"),
        // Windows-1251.
        'в' => second == Some('Ђ'),
        'В' | 'Г' | 'Р' | 'С' => {
            // Latin-1 of Windows-1252, wrongly decoded once more, near a Latin letter.
            let twice = text[at..].strip_prefix("ГўВЂВ").is_some_and(|rest| {
                let mut rest = rest.chars();
                rest.next().is_some_and(|c| c != '\n')
                    && rest.next().is_some_and(|c| c.is_ascii_alphabetic() || c == ' ')
            });
            twice || is(second, C1 | BAD | START | END | CURRENCY, "°µ") && is(third, 0, "ВГРС")
        }
        // Windows-1253.
        'β' => second == Some('€') && is(third, 0, "™\u{a0}Ά\u{ad}®°"),
        'Β' | 'Γ' | 'Ξ' | 'Ο' => is(second, C1 | BAD | START | END | CURRENCY, "°") && is(third, 0, "ΒΓΞΟ"),
        // Windows-1257.
        'ā' => second == Some('€'),
        _ => false,
    }
}

/// White space of Python's regular expressions, which includes the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Word characters of Python's regular expressions: letters, numbers and `_`.
fn is_word(c: char) -> bool {
    let circled = matches!(c, 'Ⓐ'..='ⓩ' | '🄰'..='🅉' | '🅐'..='🅩' | '🅰'..='🆉');
    c == '_' || c.is_alphanumeric() && !is_combining_mark(c) && !circled
}

/// The classes of a character.
fn class_of(c: char) -> u16 {
    match c {
        'A'..='Z' => CAPITAL,
        'a'..='z' => SMALL,
        '\u{80}'..='\u{9f}' => C1,
        '\u{a0}' | '\u{ad}' | '´' | '·' | '–' | '—' | '―' | '’' | '…' => COMMON,
        '¤' | '¦' | '¨' | 'ª' | '¬' | '¯' | '¸' | 'º' | 'ƒ' | 'ˆ' | 'ˇ' | '˘' | '˛' | '˜' | '†' | '‡' | '‰' | '⌐'
        | '◊' | '\u{fffd}' => BAD,
        '§' | '¶' => LAW,
        '¢' | '£' | '¥' | '₧' | '€' => CURRENCY,
        '¡' | '©' | '«' | '¿' | '΄' | '΅' | '‘' | '‚' | '“' | '„' | '•' | '‹' | '\u{f8ff}' => START,
        '®' | '»' | '˝' | '”' | '›' | '™' => END,
        '±' | '²' | '³' | 'µ' | '¹' | '¼' | '½' | '¾' | '×' | '÷' | '⁄' | '№' | '∂' | '∆' | '∏' | '∑' | '√' | '∞'
        | '∩' | '∫' | '≈' | '≠' | '≡' | '≤' | '≥' => NUMERIC,
        'Ü' => KAOMOJI | UPPER_ACCENTED,
        'ü' => KAOMOJI | LOWER_ACCENTED,
        '°' | 'Ò'..='Ö' | 'Ù'..='Û' | 'ò'..='ö' | 'ø'..='û' | 'Ō' | 'Ő' | 'Ū' | 'Ų' => KAOMOJI,
        'À'..='Ñ'
        | 'Ø'
        | 'Ý'
        | 'Ā'
        | 'Ă'
        | 'Ą'
        | 'Ć'
        | 'Č'
        | 'Ď'
        | 'Đ'
        | 'Ē'
        | 'Ė'
        | 'Ę'
        | 'Ě'
        | 'Ğ'
        | 'Ģ'
        | 'Ī'
        | 'İ'
        | 'Ķ'
        | 'Ĺ'
        | 'Ļ'
        | 'Ľ'
        | 'Ł'
        | 'Ń'
        | 'Ņ'
        | 'Ň'
        | 'Œ'
        | 'Ř'
        | 'Ś'
        | 'Ş'
        | 'Š'
        | 'Ţ'
        | 'Ť'
        | 'Ů'
        | 'Ű'
        | 'Ÿ'
        | 'Ź'
        | 'Ż'
        | 'Ž'
        | 'Ґ' => UPPER_ACCENTED,
        'ß'..='ñ'
        | 'ā'
        | 'ă'
        | 'ą'
        | 'ć'
        | 'č'
        | 'ď'
        | 'đ'
        | 'ē'
        | 'ė'
        | 'ę'
        | 'ě'
        | 'ğ'
        | 'ģ'
        | 'ī'
        | 'į'
        | 'ķ'
        | 'ĺ'
        | 'ļ'
        | 'ľ'
        | 'ł'
        | 'œ'
        | 'ŕ'
        | 'ś'
        | 'ş'
        | 'š'
        | 'ť'
        | 'ź'
        | 'ż'
        | 'ž'
        | 'ґ'
        | 'ﬁ'
        | 'ﬂ' => LOWER_ACCENTED,
        'Þ' | 'Ά' | 'Έ'..='Ί' | 'Ό' | 'Ύ' | 'Ώ' | 'Α'..='Ϋ' | 'Ё'..='Я' => UPPER_COMMON,
        'ά'..='ω' | 'а'..='џ' => LOWER_COMMON,
        '│' | '┌' | '┐' | '┘' | '├' | '┤' | '┬' | '┼' | '═'..='╬' | '▀' | '▄' | '█' | '▌' | '▐' | '░' | '▒' | '▓' => {
            BOX
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrongly_decoded_text_looks_bad() {
        for text in [
            "Ã©",
            "â€™",
            "\u{93}",
            "aÃ b",
            "Ã la",
            "Â b",
            "ok.Â ®",
            "é¡²",
            "πÉ",
            "œ.",
            "É°",
            "Ø\u{a0}Ø§",
            "‚Äî",
            "√±",
            "вЂ",
            "Р°Р",
            "ГўВЂВњa",
            "β€™",
            "Ξ°Ξ",
            "ā€",
            "╔É",
            "é©a",
            "xÃ€",
        ] {
            assert!(is_bad(text), "{text}");
        }
    }

    #[test]
    fn text_in_many_languages_does_not() {
        for text in [
            "",
            "plain",
            "Ça va? Déjà vu, cœur",
            "Größe über Äpfel",
            "¿Qué? ¡Él!",
            "Привет, мир",
            "Γειά σου Κόσμε",
            "«Ø»",
            "中文",
            "£5 ± 2 · §1",
            "(╯°□°)╯︵ ┻━┻",
            "Å b",
            "é©\u{301}",
            "é©Ⓐ",
            "ГўВЂВ\nab",
        ] {
            assert!(!is_bad(text), "{text}");
        }
    }
}
