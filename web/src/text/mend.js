// The repairs of ftfy, which open_clip applies to texts: HTML entities, typographic quotes, ligatures, widths and control
// characters. Text that was decoded with a wrong encoding is not repaired, because that needs large tables.

import { decodeHTML, decodeHTMLStrict } from 'entities/decode';

/** Ligatures and digraphs, which are replaced by their letters. */
const LIGATURES = /[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb04\ufb06]/g;
/** ftfy keeps the long s of this ligature; NFKC replaces it. */
const LONG_ST = /\ufb05/g;
const WIDTHS = /[\u3000\uff01-\uffef]/g;
const SINGLE_QUOTES = /[\u02bc\u2018-\u201b]/g;
const DOUBLE_QUOTES = /[\u201c-\u201f]/g;
const LINE_BREAKS = /\r\n|[\r\u2028\u2029\x85]/g;
const CONTROLS = /[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufff9-\ufffc\ufeff]/g;
const TERMINAL_COLOURS = /\x1b\[[\d;]*[a-zA-Z]/g;

const compatible = (text) => text.normalize('NFKC');
/** The first character of the NFKC form, because ftfy's table of widths maps one character to one. */
const firstCompatible = (text) => String.fromCodePoint(text.normalize('NFKC').codePointAt(0));

/** @param {string} text */
export function mended(text) {
  // ftfy does not decode entities in texts with tags. open_clip decodes them twice after ftfy.
  let now = text.includes('<') ? text : decodeHTMLStrict(text);
  now = now
    .replace(TERMINAL_COLOURS, '')
    .replace(LONG_ST, '\u017ft')
    .replace(LIGATURES, (one) => (one === '\u0149' ? '\u02bcn' : compatible(one)))
    .replace(WIDTHS, firstCompatible)
    .replace(DOUBLE_QUOTES, '"')
    .replace(SINGLE_QUOTES, "'")
    .replace(LINE_BREAKS, '\n')
    .replace(CONTROLS, '')
    .normalize('NFC');
  return decodeHTML(decodeHTML(now));
}
