//! What happens to a sentence before it is tokenized.

use std::borrow::Cow;

use super::mend;
use crate::config::Clean;

/// Python's `string.punctuation`.
const PUNCTUATION: &str = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;

impl Clean {
    /// A cleaned sentence.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        let without_punctuation =
            |text: &str| -> String { text.chars().filter(|c| !PUNCTUATION.contains(*c)).collect() };
        match self {
            Clean::None => Cow::Borrowed(text),
            Clean::Lower => Cow::Owned(text.to_lowercase()),
            Clean::Mended => Cow::Owned(single_spaces(&mended(text)).to_lowercase()),
            Clean::Spaced => Cow::Owned(single_spaces(&mended(text))),
            Clean::Canonical => {
                let text = without_punctuation(&mended(text).replace('_', " "));
                Cow::Owned(single_spaces(&text.to_lowercase()))
            }
            Clean::Unpunctuated => Cow::Owned(single_spaces(&without_punctuation(text)).to_lowercase()),
        }
    }
}

/// Broken encodings, curly quotes, ligatures and widths repaired as ftfy does, then HTML entities decoded twice.
fn mended(text: &str) -> String {
    let text = mend::fix_text(text);
    let text = htmlize::unescape(&*text);
    htmlize::unescape(text).into_owned()
}

/// As Python's `" ".join(text.split())`.
fn single_spaces(text: &str) -> String {
    // Python counts the four separators of ASCII as spaces, Unicode does not.
    let space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    text.split(space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cleaned_as_their_authors_do() {
        let text = "  A_photo,\tof &amp;lt;b&amp;gt; “Zoë’s”  ﬁsh! ";
        assert_eq!(Clean::Mended.apply(text), "a_photo, of <b> \"zoë's\" fish!");
        assert_eq!(Clean::Canonical.apply(text), "a photo of b zoës fish");
        assert_eq!(Clean::Unpunctuated.apply("A_photo,  of it!"), "aphoto of it");
        assert_eq!(Clean::None.apply(text), text);
    }
}
