//! The single-byte encodings that UTF-8 is wrongly decoded with.
//!
//! Each is tried in the order of ftfy's list, which goes from common to rare.
//! The tables also tell which characters look like a piece of UTF-8, wherever they occur.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A single-byte encoding, whose lower half is ASCII.
pub struct Charmap {
    /// Whether byte 1A stands for U+FFFD, a byte that was lost.
    pub sloppy: bool,
    /// Whether a space may have been byte A0. In Mac Roman it would be a dash before a space too often.
    pub spaces: bool,
    /// Characters of the bytes from 80 to FF. U+FFFD marks a byte without one, which decodes as in Latin-1.
    upper: &'static str,
}

/// Number of encodings.
const COUNT: usize = 10;
/// Latin-1 and Windows-1250 to 1257: the encodings that wrongly decoded pieces are recognized by.
const LATIN_LIKE: usize = 7;

/// The encodings in the order they are tried.
pub const CHARMAPS: [Charmap; COUNT] = [
    // latin-1
    Charmap {
        sloppy: false,
        spaces: true,
        upper: "\
            ��������������������������������\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
            ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    },
    // windows-1252
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            €�‚ƒ„…†‡ˆ‰Š‹Œ�Ž��‘’“”•–—˜™š›œ�žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
            ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    },
    // windows-1251
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—�™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї\
            АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
    },
    // windows-1250
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            €�‚�„…†‡�‰Š‹ŚŤŽŹ�‘’“”•–—�™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż\
            ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    },
    // windows-1253
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            €�‚ƒ„…†‡�‰�‹�����‘’“”•–—�™�›����\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ\
            ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ",
    },
    // windows-1254
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            €�‚ƒ„…†‡ˆ‰Š‹Œ����‘’“”•–—˜™š›œ��Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿\
            ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
    },
    // windows-1257
    Charmap {
        sloppy: true,
        spaces: true,
        upper: "\
            €�‚�„…†‡�‰�‹�¨ˇ¸�‘’“”•–—�™�›�¯˛�\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ\
            ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
    },
    // iso-8859-2
    Charmap {
        sloppy: false,
        spaces: true,
        upper: "\
            ��������������������������������\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż\
            ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
    },
    // macroman
    Charmap {
        sloppy: false,
        spaces: false,
        upper: "\
            ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø\
            ¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
    },
    // cp437
    Charmap {
        sloppy: false,
        spaces: true,
        upper: "\
            ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
            └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
    },
];

/// Characters that stand for a byte within UTF-8, yet often stand for themselves.
const PUNCTUATION: &str = "–—―‘’‚“”„•…";

/// The byte that a character has in each encoding.
pub type Bytes = [Option<u8>; COUNT];

/// What a character may have been before it was wrongly decoded.
#[derive(Clone, Copy, Default)]
pub struct Origin {
    /// Its byte in each encoding.
    pub bytes: Bytes,
    /// How many bytes of UTF-8 it would begin, or 0.
    pub begins: usize,
    /// Whether it would continue UTF-8.
    pub continues: bool,
    /// Whether it would continue UTF-8, and seldom stands for itself.
    pub strict: bool,
}

/// Origins of characters that are not ASCII, sorted.
static ORIGINS: LazyLock<Vec<(char, Origin)>> = LazyLock::new(|| {
    let mut origins = BTreeMap::<char, Origin>::new();
    for (n, charmap) in CHARMAPS.iter().enumerate() {
        for (byte, c) in (0x80..=0xff).zip(charmap.upper.chars()) {
            let origin = origins.entry(if c == '\u{fffd}' { char::from(byte) } else { c }).or_default();
            origin.bytes[n] = Some(byte);
            if n < LATIN_LIKE {
                match byte {
                    0x80..=0xbf => origin.continues = true,
                    0xc2..=0xdf => origin.begins = 2,
                    0xe0..=0xef => origin.begins = 3,
                    0xf0 | 0xf3 => origin.begins = 4,
                    _ => {}
                }
            }
        }
        if charmap.sloppy {
            origins.entry('\u{fffd}').or_default().bytes[n] = Some(0x1a);
        }
    }
    for (&c, origin) in &mut origins {
        origin.strict = origin.continues && !PUNCTUATION.contains(c);
    }
    origins.into_iter().collect()
});

impl Origin {
    /// What a character may have been.
    pub fn of(c: char) -> Self {
        if let Ok(byte) = u8::try_from(c)
            && byte.is_ascii()
        {
            let mut bytes = [Some(byte); COUNT];
            if byte == 0x1a {
                bytes = std::array::from_fn(|n| Some(byte).filter(|_| !CHARMAPS[n].sloppy));
            }
            return Self { bytes, continues: c == ' ', ..Self::default() };
        }
        match ORIGINS.binary_search_by_key(&c, |origin| origin.0) {
            Ok(at) => ORIGINS[at].1,
            Err(_) => Self::default(),
        }
    }
}

/// Characters of Windows-1252 instead of C1 controls, which share their bytes.
pub fn without_c1(c: char) -> char {
    match c {
        '\u{80}'..='\u{9f}' => {
            CHARMAPS[1].upper.chars().nth(c as usize - 0x80).filter(|&c| c != '\u{fffd}').unwrap_or(c)
        }
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_in_every_encoding() {
        for (n, charmap) in CHARMAPS.iter().enumerate() {
            assert_eq!(charmap.upper.chars().count(), 128);
            let mut bytes: Vec<u8> = ORIGINS.iter().filter_map(|origin| origin.1.bytes[n]).collect();
            bytes.retain(|&byte| byte != 0x1a);
            bytes.sort_unstable();
            assert!(bytes.into_iter().eq(0x80..=0xff));
        }
    }

    #[test]
    fn a_character_tells_what_it_may_have_been() {
        assert_eq!(
            Origin::of('Ä').bytes.map(Option::unwrap_or_default),
            [196, 196, 0, 196, 0, 196, 196, 196, 128, 142]
        );
        assert_eq!(Origin::of('ˇ').bytes.map(Option::unwrap_or_default), [0, 0, 0, 161, 0, 0, 142, 183, 255, 0]);
        assert_eq!((Origin::of('Ã').begins, Origin::of('â').begins, Origin::of('ð').begins), (2, 3, 4));
        assert!(Origin::of('’').continues && !Origin::of('’').strict && Origin::of('‹').strict);
        assert!(Origin::of('中').bytes.iter().all(Option::is_none));
        assert_eq!((without_c1('\u{92}'), without_c1('\u{81}')), ('’', '\u{81}'));
    }
}
