// tokenizer.json files for the tests.

import { readFile } from 'node:fs/promises';

/** CLIP's, as the export writes it, from the merges that are built into the command-line tool. */
export async function clipTokenizer() {
  const text = await readFile(new URL('../../../src/tokenize/clip_merges.txt', import.meta.url), 'utf8');
  const merges = text.split('\n').filter(Boolean).map((line) => line.split(' '));
  const visible = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const all = Array.from({ length: 256 }, (_, byte) => byte);
  const others = all.filter((byte) => !visible(byte)).map((_, n) => 256 + n);
  const bytes = [...all.filter(visible), ...others].map((code) => String.fromCharCode(code));
  const marks = ['<|startoftext|>', '<|endoftext|>'];
  const tokens = [...bytes, ...bytes.map((byte) => `${byte}</w>`), ...merges.map((pair) => pair.join('')), ...marks];
  const added = (content, id) =>
    ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: true, special: true });
  const words = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;
  return {
    added_tokens: marks.map((mark, n) => added(mark, 49406 + n)),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: String.raw`\s+` }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: words }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: null,
    decoder: null,
    model: {
      type: 'BPE', dropout: null, unk_token: marks[1], continuing_subword_prefix: '', end_of_word_suffix: '</w>',
      fuse_unk: false, byte_fallback: false, ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges,
    },
  };
}

/** One of the type of SigLIP's, with a tiny vocabulary. */
export function unigramTokenizer() {
  const special = (content, id) =>
    ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  return {
    added_tokens: ['<pad>', '</s>', '<unk>'].map(special),
    normalizer: { type: 'NFKC' },
    pre_tokenizer: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always', split: true },
    post_processor: null,
    decoder: null,
    model: {
      type: 'Unigram',
      unk_id: 2,
      byte_fallback: false,
      vocab: [
        ['<pad>', 0], ['</s>', 0], ['<unk>', 0], ['\u2581', -2], ['\u2581a', -3], ['c', -5], ['a', -5], ['t', -5],
        ['\u2581cat', -4], ['\u2581ca', -4.5], ['at', -4],
      ],
    },
  };
}
