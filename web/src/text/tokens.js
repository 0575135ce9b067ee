// Sentences as rows of token ids, by the folder's tokenizer.json and the model's own rules.

import { Tokenizer } from '@huggingface/tokenizers';
import { Problem } from '../problem.js';
import { cleaned } from './clean.js';

/** What ends a sentence in vocabularies there are. */
const ENDS = ['</s>', '<eos>', '<|endoftext|>', '<end_of_text>'];

/** CLIP's marks in tokenizer.json, and what open_clip has instead. */
const MARKS = { '<|startoftext|>': '<start_of_text>', '<|endoftext|>': '<end_of_text>' };

export class Tokens {
  /**
   * @param {object} json Contents of tokenizer.json.
   * @param {object} config The manifest's `config`.
   */
  constructor(json, config) {
    this.config = config;
    this.text = config.text_cfg;
    try {
      this.inner = new Tokenizer(spelled(json, config), {});
    } catch (error) {
      throw new Problem(`tokenizer.json cannot be read: ${error.message}.`, 'Export the folder again.');
    }
    const { vocab_size: size, eot_id: end } = this.text;
    const found = this.inner.get_vocab(true).size;
    // Some have entries for training that no model has rows for.
    if (found > size + Math.floor(size / 100) + 256) {
      throw unfit(`it has ${found} entries, and the model has rows for ${size}`);
    }
    const ends = ENDS.map((mark) => this.inner.token_to_id(mark)).filter((id) => id !== undefined);
    if (ends.length > 0 && !ends.includes(end)) {
      throw unfit(`it ends sentences with id ${ends[0]}, and the model's end with ${end}`);
    }
  }

  /**
   * Start where there is one, the sentence, end, padding. What is too long loses its tail, not its end.
   *
   * @param {string} sentence
   * @returns {number[]}
   */
  row(sentence) {
    const { context_length: length, sot_id: start, eot_id: end, pad_id: pad, vocab_size: size } = this.text;
    const clean = cleaned(sentence, this.config);
    const ids = clean === '' ? [] : this.inner.encode(clean, { add_special_tokens: false }).ids;
    const row = [...(start === null || start === undefined ? [] : [start]), ...ids].slice(0, length - 1);
    row.push(end);
    while (row.length < length) row.push(pad);
    const strange = row.find((id) => !(id < size));
    if (strange !== undefined) {
      throw unfit(`it gives the id ${strange} in "${sentence}", and the model has rows for ${size}`);
    }
    return row;
  }
}

const unfit = (reason) =>
  new Problem(
    `tokenizer.json is not this model's: ${reason}.`,
    'Export the folder again, with the model\'s own file: clip-onnx export ... --tokenizer tokenizer.json',
  );

/** As open_clip reads sentences, its own marks are marks in them, and not those that the file spells. */
function spelled(json, { family, dialect }) {
  if (family.startsWith('siglip') || dialect === 'transformers') return json;
  const vocab = json.model?.vocab;
  if (!vocab || Array.isArray(vocab) || !Object.keys(MARKS).every((mark) => mark in vocab)) return json;
  const other = (mark) => MARKS[mark] ?? mark;
  return {
    ...json,
    added_tokens: json.added_tokens?.map((token) => ({ ...token, content: other(token.content) })),
    // Its pattern is for any case, and of the endings of words only this one has a third form.
    pre_tokenizer: JSON.parse(JSON.stringify(json.pre_tokenizer).replace("'s|", "'[sſ]|")),
    post_processor: null,
    model: {
      ...json.model,
      unk_token: other(json.model.unk_token),
      vocab: Object.fromEntries(Object.entries(vocab).map(([token, id]) => [other(token), id])),
    },
  };
}
