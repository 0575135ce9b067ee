// Exported folders with the page in them.

import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const run = promisify(execFile);

const web = fileURLToPath(new URL('../../', import.meta.url));
const fixtures = join(web, '../tests/fixtures');

/** Small checkpoints in the forms that differ for the page; `expect` where it is to say that it cannot. */
const EXPORTS = [
  { fixture: 'openclip_vit_tiny', file: 'checkpoint.pt' },
  { fixture: 'openclip_vit_tiny', file: 'checkpoint.pt', options: ['--layout', 'hf'] },
  { fixture: 'siglip_tiny', file: 'checkpoint.npz', options: ['--layout', 'hf'] },
  { fixture: 'openclip_vit_tiny_quickgelu', file: 'checkpoint.safetensors', options: ['--layout', 'clip-as-service'] },
  { fixture: 'openclip_siglip_tiny', file: 'checkpoint.safetensors', options: ['--external-data'] },
  { fixture: 'siglip_tiny_rect', file: 'checkpoint.npz', options: ['--static', '2'] },
  { fixture: 'mobileclip_s1_tiny', file: 'checkpoint.pt', options: ['--layout', 'immich', '--external-data'] },
  { fixture: 'mobileclip2_b_tiny', file: 'checkpoint.safetensors', options: ['--dynamic-text', '--precision', 'fp16-weights'] },
  { fixture: 'openclip_vit_tiny', file: 'checkpoint.pt', options: ['--image', 'uint8'] },
  { fixture: 'siglip_tiny_rect', file: 'checkpoint.npz', options: ['--image', 'uint8-nchw', '--static', '1'] },
  { fixture: 'mobileclip_s0_tiny', file: 'checkpoint.pt', options: ['--layout', 'immich-uint8'] },
  { fixture: 'openclip_siglip_tiny', file: 'checkpoint.safetensors', options: ['--resize', '--outputs', 'last_hidden_state,patch_tokens'] },
  { fixture: 'siglip2_naflex_tiny', file: 'checkpoint.npz', expect: /NaFlex/ },
  { fixture: 'siglip_tiny', file: 'checkpoint.npz', tokenizer: false, expect: /no tokenizer\.json/ },
];

/** A tokenizer.json of letters, which fits every small vocabulary. */
function letters() {
  const all = [' ', ...'abcdefghijklmnopqrstuvwxyz'];
  return {
    version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: { type: 'Lowercase' },
    pre_tokenizer: null, post_processor: null, decoder: null,
    model: { type: 'Unigram', unk_id: 2, vocab: [['<pad>', -9], ['<end>', -9], ['<unk>', -9], ...all.map((one) => [one, -3])] },
  };
}

/**
 * @param {string} binary
 * @param {string} scratch
 * @returns {Promise<{name: string, folder: string, tokenizer?: string, expect?: RegExp}[]>}
 */
export async function exported(binary, scratch) {
  const tokenizer = join(scratch, 'letters.json');
  await writeFile(tokenizer, JSON.stringify(letters()));
  const out = [];
  for (const { fixture, file, options = [], tokenizer: has = true, expect } of EXPORTS) {
    const from = join(fixtures, fixture);
    const name = [fixture, ...options].join(' ') + (has ? '' : ' without tokenizer');
    const folder = join(scratch, `export${out.length}`);
    const named = has ? ['--tokenizer', tokenizer] : [];
    const config = ['--config', join(from, 'config.json')];
    const page = expect ? [] : ['--demo'];
    await run(binary, ['export', join(from, file), ...config, '--out', folder, '--no-verify', ...named, ...page, ...options]);
    out.push({ name, folder, tokenizer, expect });
  }
  return out;
}

/**
 * What a web server would have for its root: an export's files, and the page, which is the export's own where it has
 * one.
 *
 * @param {string} folder
 * @param {string} place
 */
export async function withPage(folder, place) {
  await mkdir(place, { recursive: true });
  const names = await readdir(folder);
  for (const name of names) await symlink(resolve(folder, name), join(place, name));
  if (!names.includes('index.html')) await cp(join(web, 'dist'), place, { recursive: true });
}

/** What the command-line tool says of the same picture, by label. */
export async function classified(binary, { folder, tokenizer }, photo, template, labels) {
  const named = tokenizer ? ['--tokenizer', tokenizer] : [];
  const flags = ['--json', '--template', template, '--labels', labels.join(','), ...named];
  const { stdout } = await run(binary, ['classify', folder, photo, ...flags]);
  return new Map(JSON.parse(stdout)[0].labels.map(({ label, probability }) => [label, probability]));
}
