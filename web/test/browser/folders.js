// Exported folders with the page in them.

import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const run = promisify(execFile);

const web = fileURLToPath(new URL('../../', import.meta.url));
const fixtures = join(web, '../tests/fixtures');

const ALL = ['--precision', 'fp32,fp16,fp16-weights,int8,int8-weights,int4,int4-fp16'];

/** Small checkpoints in the forms that matter for the page. `expect` is the problem that the page must show. */
const EXPORTS = [
  { fixture: 'openclip_vit_tiny', file: 'checkpoint.pt' },
  { fixture: 'openclip_vit_tiny', file: 'checkpoint.pt', options: ['--layout', 'hf', ...ALL] },
  { fixture: 'mobileclip_s0_tiny', file: 'checkpoint.pt', options: ['--external-data', ...ALL] },
  { fixture: 'openclip_siglip_tiny', file: 'checkpoint.safetensors', options: ['--layout', 'clip-as-service', ...ALL] },
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

/** A tokenizer.json whose tokens are letters. It fits every small vocabulary. */
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
    const shown = options.map((option) => (option === ALL[1] ? 'all' : option));
    const name = [fixture, ...shown].join(' ') + (has ? '' : ' without tokenizer');
    const folder = join(scratch, `export${out.length}`);
    const named = has ? ['--tokenizer', tokenizer] : [];
    const config = ['--config', join(from, 'config.json')];
    // Only --demo puts a tokenizer.json into every layout. The page that it adds is not the one that is tested.
    const page = expect ? [] : ['--demo'];
    await run(binary, ['export', join(from, file), ...config, '--out', folder, '--no-verify', ...named, ...page, ...options]);
    out.push({ name, folder, tokenizer, expect });
  }
  return out;
}

/**
 * Makes the root of a web server: the files of an export, and the page of dist/. A page in the export is the one that
 * the binary was built with, which may be older.
 *
 * @param {string} folder
 * @param {string} place
 */
export async function withPage(folder, place) {
  await mkdir(place, { recursive: true });
  const names = (await readdir(folder)).filter((name) => name !== 'index.html' && name !== 'demo');
  for (const name of names) await symlink(resolve(folder, name), join(place, name));
  await cp(join(web, 'dist'), place, { recursive: true });
}

/**
 * The same with files that are not ONNX, of the same size.
 *
 * @param {string} folder
 * @param {string} place
 * @param {string[]} paths Of the broken files.
 */
export async function withBroken(folder, place, paths) {
  await cp(folder, place, { recursive: true });
  await cp(join(web, 'dist'), place, { recursive: true });
  for (const path of paths) {
    const { length } = await readFile(join(folder, path));
    await writeFile(join(place, path), Buffer.alloc(length, 0xff));
  }
}

/**
 * Precisions of a folder by its manifest, the smallest first, each with the paths and the size of its files.
 *
 * @param {string} folder
 * @returns {Promise<{precision: string, paths: string[], bytes: number}[]>}
 */
export async function precisionsIn(folder) {
  const { files } = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8'));
  const towers = files.filter(({ role }) => role === 'tower');
  return [...new Set(towers.map(({ precision }) => precision))]
    .map((precision) => {
      const own = towers.filter((file) => file.precision === precision);
      const paths = own.flatMap(({ path, data = [] }) => [path, ...data]);
      return { precision, paths, bytes: files.reduce((sum, { path, size }) => sum + (paths.includes(path) ? size : 0), 0) };
    })
    .sort((a, b) => a.bytes - b.bytes);
}

/**
 * Probabilities by the command-line tool, by label.
 *
 * @param {string} binary
 * @param {{folder: string, tokenizer?: string}} source
 * @param {{photo: string, template: string, labels: string[], precision: string, orient: boolean}} request
 */
export async function classified(binary, { folder, tokenizer }, { photo, template, labels, precision, orient }) {
  const flags = ['--json', '--template', template, '--labels', labels.join(','), '--precision', precision];
  if (orient) flags.push('--orient');
  if (tokenizer) flags.push('--tokenizer', tokenizer);
  const { stdout } = await run(binary, ['classify', folder, photo, ...flags]);
  return new Map(JSON.parse(stdout)[0].labels.map(({ label, probability }) => [label, probability]));
}
