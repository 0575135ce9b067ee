// Compares token ids with those of the models' own tokenizers.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Tokens } from '../../src/text/tokens.js';
import { clipTokenizer, unigramTokenizer } from './tokenizers.js';

const CLIP = { vocab_size: 49408, context_length: 77, sot_id: 49406, eot_id: 49407, pad_id: 0 };
const SIGLIP = { vocab_size: 12, context_length: 6, sot_id: null, eot_id: 1, pad_id: 1 };

const clip = async (dialect = 'open_clip') =>
  new Tokens(await clipTokenizer(), { family: 'clip', dialect, text_cfg: CLIP });
const siglip = (text = SIGLIP) =>
  new Tokens(unigramTokenizer(), { family: 'siglip', dialect: 'original', text_cfg: text });

test('ids of CLIP equal those of open_clip', async () => {
  const tokens = await clip();
  const rows = JSON.parse(await readFile(new URL('../../../tests/clip_tokens.json', import.meta.url), 'utf8'));
  // Text decoded with a wrong encoding, which the page does not repair.
  const garbled = (text) => /\u00c3|\u00e2\u20ac|\u00c2/.test(text);
  const differing = [];
  let compared = 0;
  for (const { text, ids } of rows.filter(({ text }) => !garbled(text))) {
    compared++;
    const expected = [...ids, ...new Array(77).fill(0)].slice(0, 77);
    const found = tokens.row(text);
    if (found.join() !== expected.join()) differing.push({ text, ids, found: found.filter(Boolean) });
  }
  assert.deepEqual(differing, []);
  assert.ok(compared > 60, `${compared} compared`);
});

test('special tokens in a sentence have the names of the dialect', async () => {
  const open = await clip();
  const transformers = await clip('transformers');
  assert.equal(open.row('a <|endoftext|> b').filter((id) => id === 49407).length, 1);
  assert.equal(open.row('a <end_of_text> b').filter((id) => id === 49407).length, 2);
  assert.equal(transformers.row('a <|endoftext|> b').filter((id) => id === 49407).length, 2);
});

test('rows have start and end tokens, and are cut or padded', async () => {
  const long = (await clip()).row('cat '.repeat(100));
  assert.deepEqual([long.length, long[0], long[75], long[76]], [77, 49406, 2368, 49407]);
  const tokens = siglip();
  assert.deepEqual(tokens.row('a cat'), [4, 8, 1, 1, 1, 1]);
  assert.deepEqual(tokens.row(''), [1, 1, 1, 1, 1, 1]);
  assert.deepEqual(tokens.row('cat cat cat cat cat cat'), [8, 8, 8, 8, 8, 1]);
  assert.deepEqual(tokens.row('xq'), [3, 2, 1, 1, 1, 1], 'unknown letters');
});

test('unknown words of a WordLevel model have the id of its unknown token', () => {
  const json = {
    added_tokens: [], normalizer: { type: 'Lowercase' }, pre_tokenizer: { type: 'Whitespace' }, post_processor: null, decoder: null,
    model: { type: 'WordLevel', vocab: { '<pad>': 0, '<unk>': 1, a: 2, cat: 3, 'caf\u00e9': 4 }, unk_token: '<unk>' },
  };
  const text = { vocab_size: 10, context_length: 6, sot_id: 8, eot_id: 9, pad_id: 0 };
  const config = { family: 'clip', dialect: 'transformers', text_cfg: text };
  assert.deepEqual(new Tokens(json, config).row('A cat, a'), [8, 2, 3, 1, 2, 9]);
  assert.deepEqual(new Tokens(json, config).row('Caf\u00e9 \u201ccat\u201d,'), [8, 4, 1, 3, 1, 9], 'words are split as in Unicode');
  const without = { ...json, model: { ...json.model, unk_token: undefined } };
  assert.throws(() => new Tokens(without, config).row('a dog'), /gives the id undefined/);
});

test('tokenizers of other models are refused', () => {
  assert.throws(() => siglip({ ...SIGLIP, eot_id: 0 }), /its end token is 1/);
  assert.throws(() => siglip({ ...SIGLIP, vocab_size: 5 }).row('a cat'), /gives the id 8/);
  assert.throws(() => new Tokens({}, { family: 'siglip', dialect: 'original', text_cfg: SIGLIP }), /cannot be read/);
});
