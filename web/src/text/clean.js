// What happens to a sentence before it is cut into tokens, by whose numbers are followed.

import { mended } from './mend.js';

/** Python's `string.punctuation`. */
const PUNCTUATION = /[!-/:-@[-`{-~]/g;

/** What Python's `split` takes for spaces: Unicode's, and the four separators of ASCII. */
const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

const singleSpaces = (text) => text.split(SPACES).filter(Boolean).join(' ');

const WAYS = {
  /** Not at all: SigLIP in its authors' code. CLIP's tokenizer of transformers does it itself. */
  none: (text) => text,
  /** SigLIP 2. */
  lower: (text) => text.toLowerCase(),
  /** open_clip's `lower`; a Greek subscript iota that stands alone is nothing in its pattern of words. */
  mended: (text) => singleSpaces(mended(text)).toLowerCase().replaceAll('\u0345', ' '),
  /** The same in the case it has: open_clip's `whitespace`. */
  spaced: (text) => singleSpaces(mended(text)),
  /** open_clip's `canonicalize`. */
  canonical: (text) => singleSpaces(mended(text).replaceAll('_', ' ').replace(PUNCTUATION, '').toLowerCase()),
  /** transformers' SigLIP. */
  unpunctuated: (text) => singleSpaces(text.replace(PUNCTUATION, '')).toLowerCase(),
};

/**
 * How a model's sentences are cleaned.
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
