// Cleans a text before tokenization, by the rules of the model's family and dialect.

import { mended } from './mend.js';

/** Python's `string.punctuation`. */
const PUNCTUATION = /[!-/:-@[-`{-~]/g;

/** White space of Python's `split`: that of Unicode, and the four separators of ASCII. */
const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

const singleSpaces = (text) => text.split(SPACES).filter(Boolean).join(' ');

const WAYS = {
  /** SigLIP in its authors' code; also CLIP in transformers, whose tokenizer.json has the rules. */
  none: (text) => text,
  /** SigLIP 2. */
  lower: (text) => text.toLowerCase(),
  /** open_clip's `lower`. Its word pattern skips a lone Greek combining iota. */
  mended: (text) => singleSpaces(mended(text)).toLowerCase().replaceAll('\u0345', ' '),
  /** open_clip's `whitespace`, which keeps the case. */
  spaced: (text) => singleSpaces(mended(text)),
  /** open_clip's `canonicalize`. */
  canonical: (text) => singleSpaces(mended(text).replaceAll('_', ' ').replace(PUNCTUATION, '').toLowerCase()),
  /** transformers' SigLIP. */
  unpunctuated: (text) => singleSpaces(text.replace(PUNCTUATION, '')).toLowerCase(),
};

/**
 * The name of the rules for a model.
 *
 * @param {{family: string, dialect: string, text_cfg?: {clean?: keyof typeof WAYS}}} config
 * @returns {keyof typeof WAYS}
 */
export function wayOf({ family, dialect, text_cfg }) {
  if (text_cfg?.clean) return text_cfg.clean;
  const siglip = family === 'siglip' || family === 'siglip2';
  if (!siglip) return dialect === 'transformers' ? 'none' : 'mended';
  if (dialect === 'open_clip') return 'canonical';
  if (family === 'siglip2') return 'lower';
  return dialect === 'transformers' ? 'unpunctuated' : 'none';
}

/**
 * @param {string} text
 * @param {{family: string, dialect: string}} config
 */
export const cleaned = (text, config) => WAYS[wayOf(config)](text);
