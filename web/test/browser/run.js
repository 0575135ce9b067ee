// Compares the page in headless Chromium with `clip-onnx classify`, on the same folders and pictures.
//
//   npm run test:browser -- --binary ../target/release/clip-onnx [--chromium FILE] [--photos FOLDER] [--within 1e-4]
//       [FOLDER...]
//
// Without folders it exports small checkpoints of the repository. The binary runs ONNX Runtime too where
// ORT_DYLIB_PATH names it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import puppeteer from 'puppeteer-core';
import { boundOf, distance, verdict, widest } from './bounds.js';
import * as features from './features.js';
import { classified, exported, precisionsIn, withBroken, withPage } from './folders.js';
import { askedBy, flags } from './network.js';
import { Visit } from './page.js';
import { defaultPhotos, isTurned, photosIn } from './photos.js';
import { serve } from './serve.js';

const LABELS = ['cat', 'a person in space', 'cup of coffee', 'brick wall', 'Caf\u00e9 &amp; \u201cbar\u201d', 'dog_house!'];
// The label comes first, because some of the small models have a short context.
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
const within = Number(options.within);

const failures = [];
const rows = [];
const check = (fine, text) => fine || failures.push(text);
/** A check that throws, as a row of the table. */
async function feature(name, work) {
  const started = performance.now();
  const error = await work().then(() => null, (error) => error);
  if (error) failures.push(`${name}: ${error.message}`);
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  rows.push([name, '', '', '', '', '', seconds, error ? 'FAILED' : 'fine']);
}

const scratch = await mkdtemp(join(tmpdir(), 'clip-onnx-demo-'));
const log = join(scratch, 'network.json');
const server = await serve(scratch);
const browser = await puppeteer.launch({
  executablePath: options.chromium,
  args: ['--no-sandbox', ...flags(log)],
  userDataDir: join(scratch, 'profile'),
  // One call waits while a large model is loaded.
  protocolTimeout: 600_000,
});

/** One folder: the page's default precision on all pictures, then the other precisions on some. */
async function compare(name, source, place, photos) {
  const visit = await Visit.to(browser, `${server.origin}/${place}/`);
  const problem = await visit.problem();
  if (problem) {
    failures.push(`${name}: ${problem}`);
    return;
  }
  await visit.type(TEMPLATE, LABELS);
  const precisions = await precisionsIn(source.folder);
  const tool = (photo, precision, orient) =>
    classified(binary, source, { photo, template: TEMPLATE, labels: LABELS, precision, orient });

  /** The bound of a precision. Only int8 needs the distance of the tool's own results from fp32. */
  const bound = async (precision, photos) => {
    const needed = precision === 'int8' && precisions.some((one) => one.precision === 'fp32');
    const far = [];
    for (const photo of needed ? photos : []) {
      far.push(distance(await tool(photo, 'fp32', true), await tool(photo, precision, true)));
    }
    return boundOf(precision, within, needed ? widest(far) : null);
  };
  const add = async (answer, photo, precision, orient, bound) => {
    check(answer.precision === precision, `${name}: ${answer.precision} is loaded instead of ${precision}`);
    const expected = await tool(photo, precision, orient);
    const { probability, odds } = distance(expected, answer.found);
    const spread = Math.max(...expected.values()) - Math.min(...expected.values());
    const said = verdict(photo, expected, answer.found, bound);
    const shown = basename(photo) + (orient ? '' : ', as stored');
    const fine = answer.found.size === expected.size && !/[A-Z]{5}/.test(said);
    check(fine, `${name}, ${precision}, ${shown}: ${said}, ${probability}, log odds ${odds}`);
    const numbers = [probability, odds, spread].map((value) => value.toExponential(1));
    rows.push([name, precision, shown, ...numbers, answer.seconds.toFixed(2), said]);
  };

  const [smallest] = precisions;
  const within0 = await bound(smallest.precision, photos);
  for (const [n, photo] of photos.entries()) {
    const answer = await (n % 2 === 0 ? visit.choose(photo) : visit.drop(photo));
    if (n === 0 && !place.startsWith('isolated')) await features.checkLoaded(visit, answer, precisions);
    await add(answer, photo, smallest.precision, true, within0);
    if (isTurned(photo)) {
      const stored = await visit.switchOrientation();
      await add(stored, photo, smallest.precision, false, within0);
      const { odds } = distance(answer.found, stored.found);
      check(odds > 0.01, `${name}, ${basename(photo)}: the orientation tag makes a difference of ${odds} only`);
      await visit.switchOrientation();
    }
  }
  // The embeddings of the picture and of known labels are cached.
  await visit.type(TEMPLATE, LABELS.slice(1));
  const { found, seconds } = await visit.submit();
  check(found.size === LABELS.length - 1, `${name}: ${found.size} labels after one was removed`);
  rows.push([name, smallest.precision, 'one label less', '', '', '', seconds.toFixed(2), 'cached']);

  const some = photos.filter((photo) => photo.endsWith('.png')).slice(-4);
  for (const { precision } of some.length > 0 ? precisions.slice(1) : []) {
    const bound1 = await bound(precision, some);
    await visit.type(TEMPLATE, LABELS);
    await visit.select(precision);
    for (const photo of some) await add(await visit.choose(photo), photo, precision, true, bound1);
  }
  check(visit.errors.length === 0, `${name}: ${visit.errors.join('; ')}`);
  await visit.page.close();
}

/** The other folders are compared even where one fails. */
const comparedOrFailed = (name, ...others) =>
  compare(name, ...others).catch((error) => failures.push(`${name}: ${error.message}`));

/** Problems that the page must show. */
async function refusals(place) {
  const refused = async (what, url, pattern) => {
    const visit = await Visit.to(browser, url);
    const problem = await visit.problem();
    check(pattern.test(problem), `${what}: the page shows: ${problem}`);
    rows.push([what, '', '', '', '', '', '', problem.replaceAll('\n', ' ').slice(0, 60)]);
  };
  await refused('no manifest', `${server.origin}/page/`, /manifest\.json is missing/);
  await refused('opened as a file', pathToFileURL(join(scratch, 'page/index.html')).href, /opened as a file[^]*http\.server/);
  const visit = await Visit.to(browser, `${server.origin}/${place}/`);
  const error = await visit.drop(fileURLToPath(import.meta.url)).catch(String);
  check(/not an image/.test(error), `a file that is not an image: ${error}`);
  await visit.type('a photo', ['cat']);
  check(/no \{\}/.test(await visit.submit().catch(String)), 'a sentence without {} is refused');
}

/** Features that do not depend on the kind of folder. */
async function others(folders, photos) {
  const [first] = folders;
  const url = `${server.origin}/served/0/`;
  await comparedOrFailed(`${first.name}, isolated`, first, 'isolated/served/0', photos.slice(0, 2));
  await feature('sample picture', () => features.checkSample(browser, url, binary, first));
  await feature('scrolling', () => features.checkScrolling(browser, url));
  const loader = '/isolated/served/0/demo/ort-wasm-simd-threaded.mjs';
  const isolated = `${server.origin}/isolated/served/0/`;
  await feature('threads', () => features.checkThreads(browser, isolated, () => server.count(loader)));
  await feature('server of README.md', () => features.checkReadmeServer(browser, join(scratch, 'served/0')));
  for (const [n, source] of folders.entries()) {
    const precisions = source.expect ? [] : await precisionsIn(source.folder);
    if (precisions.length < 3) continue;
    const place = `broken/${n}`;
    await withBroken(source.folder, join(scratch, place), [precisions[0].paths[0], precisions.at(-1).paths.at(-1)]);
    await feature(`${source.name}, broken files`, () =>
      features.checkFallback(browser, `${server.origin}/${place}/`, photos[0], precisions));
    break;
  }
}

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
      check(expect.test(problem), `${name}: the page shows: ${problem}`);
      rows.push([name, '', '', '', '', '', '', problem.replaceAll('\n', ' ').slice(0, 60)]);
    } else {
      await comparedOrFailed(name, source, place, photos);
    }
  }
  await others(folders, photos);
  await withPage(await mkdtemp(join(scratch, 'empty')), join(scratch, 'page'));
  await refusals('served/0');
  // Chromium completes the log when it exits.
  await browser.close();
  asked = await askedBy(log, server.origin);
  elsewhere = asked.filter((url) => !url.startsWith(`${server.origin}/`));
  check(elsewhere.length === 0, `requests to other hosts: ${elsewhere}`);
  check(asked.some((url) => url.endsWith('.wasm')), 'the log contains requests of workers');
  check(server.missing.every((path) => path === '/page/manifest.json'), `requested but missing: ${server.missing}`);
} finally {
  await browser.close();
  server.close();
  await rm(scratch, { recursive: true, force: true });
}

const head = ['folder', 'precision', 'picture', 'difference', 'of log odds', 'spread', 'seconds', 'verdict'];
const widths = head.map((_, n) => Math.max(...[head, ...rows].map((row) => row[n].length)));
for (const row of [head, ...rows]) console.log(row.map((cell, n) => cell.padEnd(widths[n])).join('  ').trimEnd());
console.log(`\n${asked.length} requests, ${elsewhere.length} of them to other hosts`);
for (const failure of failures) console.error(`FAILED ${failure}`);
console.log(failures.length === 0 ? 'all passed' : `${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
