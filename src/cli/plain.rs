//! Text of files as terminals may be shown it: what would steer a terminal, or turn the order of letters, is spelled out.

use serde::Serialize;

/// Characters of one message, at most; names in it come from files.
const MESSAGE: usize = 4000;

/// Whether a character does something to a terminal besides being shown.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    if !text.chars().any(|c| steers(c) && !stays(c)) {
        return text.to_owned();
    }
    let shown = |c: char| if steers(c) && !stays(c) { c.escape_default().collect() } else { vec![c] };
    text.chars().flat_map(shown).collect()
}

/// Text that stays on its line.
pub fn one_line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text of several lines of ours.
pub fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

/// A message on its line, its end left out where it is very long.
pub fn message(text: &str) -> String {
    let text = one_line(text);
    match text.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{} … ({} characters more)", &text[..end], text[end..].chars().count()),
        None => text,
    }
}

/// JSON with indents; the same characters are escaped as JSON has it.
///
/// # Errors
/// As `serde_json`.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let shown = |c: char| -> Vec<char> {
        // They stand in strings alone: all else in JSON is ASCII.
        if steers(c) && c != '\n' { format!("\\u{:04x}", u32::from(c)).chars().collect() } else { vec![c] }
    };
    Ok(if text.is_ascii() { text } else { text.chars().flat_map(shown).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(one_line("gp\u{202e}j.exe é 猫"), "gp\\u{202e}j.exe é 猫");
        assert_eq!(lines("a\nb\r\u{9b}"), "a\nb\\r\\u{9b}");
        assert_eq!(json(&"é\u{202e}\u{85}").unwrap(), "\"é\\u202e\\u0085\"");
    }

    #[test]
    fn long_messages_are_cut() {
        let text = message(&"é".repeat(5000));
        assert!(text.ends_with("é … (1000 characters more)"), "{text}");
        assert_eq!(message("short"), "short");
    }
}
