// The page in headless Chromium beside `clip-onnx classify`, on the same folders and pictures.
//
//   npm run test:browser -- --binary ../target/release/clip-onnx [--chromium FILE] [--photos FOLDER] [--within 1e-4]
//       [FOLDER...]
//
// Without folders it exports the repository's small checkpoints. ONNX Runtime is used by the binary where
// ORT_DYLIB_PATH names it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import puppeteer from 'puppeteer-core';
import { classified, exported, withPage } from './folders.js';
import { askedBy, flags } from './network.js';
import { Visit } from './page.js';
import { defaultPhotos, photosIn } from './photos.js';
import { serve } from './serve.js';

const LABELS = ['cat', 'a person in space', 'cup of coffee', 'brick wall', 'Caf\u00e9 &amp; \u201cbar\u201d', 'dog_house!'];
// Some of the small models see few places: the label comes first.
const TEMPLATE = '{}, a photo';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    binary: { type: 'string', default: process.env.CLIP_ONNX },
    chromium: { type: 'string', default: process.env.CHROMIUM ?? '/usr/bin/chromium' },
    photos: { type: 'string' },
    within: { type: 'string', default: '1e-4' },
  },
});
if (!options.binary) throw new Error('name the command-line tool: --binary FILE, or CLIP_ONNX=FILE');
const binary = resolve(options.binary);
/** How far a probability of a lossless picture may be from the tool's, and its log odds. */
const within = Number(options.within);
const oddsWithin = 100 * within;

const failures = [];
const check = (fine, text) => fine || failures.push(text);

const scratch = await mkdtemp(join(tmpdir(), 'clip-onnx-demo-'));
const log = join(scratch, 'network.json');
const server = await serve(scratch);
const browser = await puppeteer.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', ...flags(log)],
  // Where it writes is thrown away afterwards.
  userDataDir: join(scratch, 'profile'),
  // Large models are loaded in one call.
  protocolTimeout: 600_000,
});

/** Largest difference of log odds, which says more where probabilities are all close to zero. */
function ofOdds(expected, found) {
  const odds = (p) => Math.log(p) - Math.log1p(-p);
  const all = [...expected].map(([label, p]) => Math.abs(odds(p) - odds(found.get(label)))).filter(Number.isFinite);
  return Math.max(0, ...all);
}

/** What a difference means: of JPEG, decoders differ. */
function verdict(photo, expected, found, most, odds) {
  const ranked = (map) => [...map].sort((a, b) => b[1] - a[1]);
  const [first, second] = ranked(expected);
  const top = ranked(found)[0][0];
  if (photo.endsWith('.png')) return most <= within && odds <= oddsWithin ? 'equal' : 'DIFFERS';
  if (top === first[0]) return 'same top';
  return second && first[1] - second[1] <= 2 * most ? 'top two too close to tell' : 'OTHER TOP';
}

async function compare(name, source, place, photos, rows) {
  const visit = await Visit.to(browser, `${server.origin}/${place}/`);
  const problem = await visit.problem();
  if (problem) {
    failures.push(`${name}: ${problem}`);
    return;
  }
  await visit.type(TEMPLATE, LABELS);
  let chosen = false;
  for (const photo of photos) {
    // By turns.
    chosen = !chosen;
    const { found, seconds } = await (chosen ? visit.choose(photo) : visit.drop(photo));
    const expected = await classified(binary, source, photo, TEMPLATE, LABELS);
    const most = Math.max(...[...expected].map(([label, p]) => Math.abs(p - (found.get(label) ?? NaN))));
    const spread = Math.max(...expected.values()) - Math.min(...expected.values());
    const odds = ofOdds(expected, found);
    const said = verdict(photo, expected, found, most, odds);
    check(found.size === expected.size && !/[A-Z]{5}/.test(said), `${name}, ${basename(photo)}: ${said}, ${most}`);
    rows.push([name, basename(photo), most.toExponential(1), odds.toExponential(1), spread.toExponential(1), seconds.toFixed(2), said]);
  }
  // Labels that were seen are not read again; the picture neither.
  await visit.type(TEMPLATE, LABELS.slice(1));
  const { found, seconds } = await visit.submit();
  check(found.size === LABELS.length - 1, `${name}: ${found.size} labels after one was taken out`);
  rows.push([name, 'one label less', '', '', '', seconds.toFixed(2), 'cached']);
  check(visit.errors.length === 0, `${name}: ${visit.errors.join('; ')}`);
  await visit.page.close();
}

/** What the page says where it cannot go on. */
async function refusals(place, rows) {
  const told = async (what, url, pattern) => {
    const visit = await Visit.to(browser, url);
    const problem = await visit.problem();
    check(pattern.test(problem), `${what}: the page says: ${problem}`);
    rows.push([what, '', '', '', '', '', problem.replaceAll('\n', ' ').slice(0, 60)]);
    return visit;
  };
  await told('no manifest', `${server.origin}/page/`, /manifest\.json is not there/);
  await told('opened as a file', pathToFileURL(join(scratch, 'page/index.html')).href, /opened as a file[^]*http\.server/);
  const visit = await Visit.to(browser, `${server.origin}/${place}/`);
  const error = await visit.drop(fileURLToPath(import.meta.url)).catch(String);
  check(/no image/.test(error), `no image: ${error}`);
  await visit.type('a photo', ['cat']);
  check(/no \{\}/.test(await visit.submit().catch(String)), 'a template without a place is told');
}

const rows = [];
let asked = [];
let elsewhere = [];
try {
  const photos = options.photos ? await photosIn(options.photos) : await defaultPhotos(browser, join(scratch, 'photos'));
  const given = positionals.map((folder) => ({ name: basename(resolve(folder)), folder: resolve(folder) }));
  const folders = given.length > 0 ? given : await exported(binary, scratch);
  for (const [n, source] of folders.entries()) {
    const { name, folder, expect } = source;
    const place = `served/${n}`;
    await withPage(folder, join(scratch, place));
    if (expect) {
      const visit = await Visit.to(browser, `${server.origin}/${place}/`);
      const problem = await visit.problem();
      check(expect.test(problem), `${name}: the page says: ${problem}`);
      rows.push([name, '', '', '', '', '', problem.replaceAll('\n', ' ').slice(0, 60)]);
    } else {
      await compare(name, source, place, photos, rows).catch((error) => failures.push(`${name}: ${error.message}`));
    }
  }
  // Several threads, where the server's headers allow them.
  await compare(`${folders[0].name}, isolated`, folders[0], 'isolated/served/0', photos.slice(0, 2), rows);
  await withPage(await mkdtemp(join(scratch, 'empty')), join(scratch, 'page'));
  await refusals('served/0', rows);
  // The log is whole when the browser is gone.
  await browser.close();
  asked = await askedBy(log, server.origin);
  elsewhere = asked.filter((url) => !url.startsWith(`${server.origin}/`));
  check(elsewhere.length === 0, `asked of others: ${elsewhere}`);
  check(asked.some((url) => url.endsWith('.wasm')), 'the log has what workers ask for');
  check(server.missing.every((path) => path === '/page/manifest.json'), `asked for and not there: ${server.missing}`);
} finally {
  await browser.close();
  server.close();
  await rm(scratch, { recursive: true, force: true });
}

const head = ['folder', 'picture', 'difference', 'of log odds', 'spread', 'seconds', 'verdict'];
const widths = head.map((_, n) => Math.max(...[head, ...rows].map((row) => row[n].length)));
for (const row of [head, ...rows]) console.log(row.map((cell, n) => cell.padEnd(widths[n])).join('  ').trimEnd());
console.log(`\n${asked.length} requests, ${elsewhere.length} of them to other hosts`);
for (const failure of failures) console.error(`FAILED ${failure}`);
console.log(failures.length === 0 ? 'all fine' : `${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
