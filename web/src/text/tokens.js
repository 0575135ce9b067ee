// From sentences to rows of token ids, by the tokenizer.json of the folder and the rules of the model.

import { Tokenizer } from '@huggingface/tokenizers';
import { Problem } from '../problem.js';
import { cleaned } from './clean.js';

/** End tokens of known vocabularies. */
const ENDS = ['</s>', '<eos>', '<|endoftext|>', '<end_of_text>'];

/** CLIP's special tokens in tokenizer.json, and the names of open_clip for them. */
const MARKS = { '<|startoftext|>': '<start_of_text>', '<|endoftext|>': '<end_of_text>' };

export class Tokens {
  /**
   * @param {object} json Contents of tokenizer.json.
   * @param {object} config `config` of the manifest.
   */
  constructor(json, config) {
    this.config = config;
    this.text = config.text_cfg;
    try {
      const renamed = withOwnNames(withUnicodeWords(json), config);
      this.inner = new Tokenizer(renamed, {});
      /** The library gives no id for unknown words of a WordLevel model. */
      this.unknown = this.inner.token_to_id(renamed.model.unk_token);
    } catch (error) {
      throw new Problem(`tokenizer.json cannot be read: ${error.message}.`, 'Export the folder again.');
    }
    const { vocab_size: size, eot_id: end } = this.text;
    const found = this.inner.get_vocab(true).size;
    // Some vocabularies have extra entries without rows in the model.
    if (found > size + Math.floor(size / 100) + 256) {
      throw unfit(`it has ${found} entries, but the model has ${size} rows`);
    }
    const ends = ENDS.map((mark) => this.inner.token_to_id(mark)).filter((id) => id !== undefined);
    if (ends.length > 0 && !ends.includes(end)) {
      throw unfit(`its end token is ${ends[0]}, but the model's is ${end}`);
    }
  }

  /**
   * A row: the start token if the model has one, the text, the end token, padding. Long texts are cut before the end token.
   *
   * @param {string} sentence
   * @returns {number[]}
   */
  row(sentence) {
    const { context_length: length, sot_id: start, eot_id: end, pad_id: pad, vocab_size: size } = this.text;
    const clean = cleaned(sentence, this.config);
    const found = clean === '' ? [] : this.inner.encode(clean, { add_special_tokens: false }).ids;
    const ids = found.map((id) => id ?? this.unknown);
    const row = [...(start === null || start === undefined ? [] : [start]), ...ids].slice(0, length - 1);
    row.push(end);
    while (row.length < length) row.push(pad);
    const outside = row.findIndex((id) => !(id < size));
    if (outside !== -1) {
      throw unfit(`it gives the id ${row[outside]} in "${sentence}", but the model has ${size} rows`);
    }
    return row;
  }
}

const unfit = (reason) =>
  new Problem(
    `tokenizer.json does not fit the model: ${reason}.`,
    'Export the folder again with the tokenizer.json of the model: clip-onnx export ... --tokenizer tokenizer.json',
  );

/** Characters of a word in Unicode, as `\w` of the regular expressions of Rust. */
const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d`;

/** The library splits words of a `Whitespace` pre-tokenizer at letters that are not ASCII. */
function withUnicodeWords(json) {
  const split = { type: 'Split', pattern: { Regex: `[${WORD}]+|[^${WORD}\\s]+` }, behavior: 'Removed', invert: true };
  return json.pre_tokenizer?.type === 'Whitespace' ? { ...json, pre_tokenizer: split } : json;
}

/** open_clip knows special tokens in texts by its own names, not by those in the file. */
function withOwnNames(json, { family, dialect }) {
  if (family.startsWith('siglip') || dialect === 'transformers') return json;
  const vocab = json.model?.vocab;
  if (!vocab || Array.isArray(vocab) || !Object.keys(MARKS).every((mark) => mark in vocab)) return json;
  const other = (mark) => MARKS[mark] ?? mark;
  return {
    ...json,
    added_tokens: json.added_tokens?.map((token) => ({ ...token, content: other(token.content) })),
    // The pattern of open_clip ignores case. Of its suffixes only this one has a letter with a third case form.
    pre_tokenizer: JSON.parse(JSON.stringify(json.pre_tokenizer).replace("'s|", "'[sſ]|")),
    post_processor: null,
    model: {
      ...json.model,
      unk_token: other(json.model.unk_token),
      vocab: Object.fromEntries(Object.entries(vocab).map(([token, id]) => [other(token), id])),
    },
  };
}
