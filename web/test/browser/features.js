// Checks of single features of the page. Each throws where something is wrong.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { boundOf, distance, verdict } from './bounds.js';
import { classified } from './folders.js';
import { Visit } from './page.js';

const web = fileURLToPath(new URL('../../', import.meta.url));
const samplePicture = join(web, 'dist/demo/sample.png');
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
const THREAD_HINT = '1 thread: serve with COOP and COEP headers for more';

/** What the page must show after the first picture, in a folder of these precisions. */
export async function checkLoaded(visit, answer, precisions) {
  const [smallest] = precisions;
  const { visible, chosen, options } = await visit.precisions();
  assert.equal(answer.precision, smallest.precision, 'the smallest precision is loaded');
  assert.equal(chosen, smallest.precision);
  assert.equal(visible, precisions.length > 1, 'there is a select where there is a choice');
  assert.deepEqual(options.map(({ value }) => value), precisions.map(({ precision }) => precision));
  const size = /^Loaded (\S+), (?:< )?([\d.]+) MB, in (?:< )?[\d.]+ s$/.exec(answer.loaded);
  assert.equal(size?.[1], smallest.precision, answer.loaded);
  assert.ok(Math.abs(Number(size[2]) - smallest.bytes / 1e6) <= 0.1, `${answer.loaded}, ${smallest.bytes} bytes`);
  assert.match(answer.ran, /^Ran in (?:< )?[\d.]+ s$/);
  const bars = answer.seen.filter(({ text, visible }) => visible && text.startsWith(`Loading ${smallest.precision}`));
  assert.ok(new Set(bars.map(({ value }) => value)).size >= 2, 'a progress bar moves while the model is loaded');
  assert.ok(bars.every(({ value }) => value <= 1));
  assert.equal(await visit.text('threads'), THREAD_HINT);
}

/** Files that are not ONNX: the next precision is loaded, and the page shows why. */
export async function checkFallback(browser, url, photo, precisions) {
  const visit = await Visit.to(browser, url);
  const answer = await visit.choose(photo);
  const [broken, next] = precisions;
  assert.equal(answer.precision, next.precision);
  assert.ok(answer.loaded.startsWith(`Loaded ${next.precision}, `), answer.loaded);
  const text = await visit.text('fallback');
  assert.ok(text.startsWith(`${broken.precision} cannot be run in this browser, so ${next.precision} was loaded (`), text);
  const { chosen, options } = await visit.precisions();
  assert.equal(chosen, next.precision);
  assert.deepEqual(options.map(({ disabled }) => disabled), precisions.map((one) => one === broken));
  // The visitor's own choice is not replaced by another one.
  const last = precisions.at(-1);
  await assert.rejects(visit.select(last.precision), /cannot be run in this browser[^]*Choose another precision/);
  assert.equal((await visit.select(next.precision)).precision, next.precision, 'the page still works');
  await visit.page.close();
}

/** The sample picture and its labels. */
export async function checkSample(browser, url, binary, source) {
  const visit = await Visit.to(browser, url);
  const { found, precision } = await visit.sample();
  const labels = await visit.labels();
  assert.ok(labels.length > 2 && !labels.includes('cat'), `labels of the sample: ${labels}`);
  const request = { photo: samplePicture, template: 'a photo of a {}', labels, precision, orient: true };
  const expected = await classified(binary, source, request);
  const said = verdict(samplePicture, expected, found, boundOf(precision, 1e-4, null));
  assert.ok(!/[A-Z]{5}/.test(said), `the sample: ${said}, ${distance(expected, found).odds} in log odds`);
  await visit.type('a photo of a {}', ['dog', 'horse']);
  assert.deepEqual([...(await visit.sample()).found.keys()].sort(), ['dog', 'horse'], 'typed labels are kept');
  await visit.type('a photo of a {}', []);
  assert.equal((await visit.sample()).found.size, labels.length, 'an empty box is filled');
  assert.deepEqual(visit.errors, []);
  await visit.page.close();
}

/** On a phone the page scrolls to the result, without motion where that is preferred; on a desktop it does not. */
export async function checkScrolling(browser, url) {
  const visitOf = async (screen) => {
    const visit = await Visit.to(browser, url, screen);
    await visit.page.evaluate(() => {
      globalThis.scrolls = [];
      const scroll = Element.prototype.scrollIntoView;
      Element.prototype.scrollIntoView = function (options) {
        globalThis.scrolls.push(options.behavior);
        scroll.call(this, options);
      };
    });
    await visit.sample();
    return visit;
  };
  const inView = ({ top, height }) => top >= 0 && top < height / 2;
  for (const reducedMotion of [false, true]) {
    const visit = await visitOf({ viewport: PHONE, reducedMotion });
    if (!reducedMotion) {
      await visit.page.waitForFunction(() => {
        const { top } = document.getElementById('result').getBoundingClientRect();
        return top >= 0 && top < innerHeight / 2;
      }, { timeout: 10_000 });
    }
    const place = await visit.place();
    assert.ok(inView(place) && place.scrolled > 0, `on a phone the result is at ${JSON.stringify(place)}`);
    assert.deepEqual(await visit.page.evaluate(() => globalThis.scrolls), [reducedMotion ? 'instant' : 'smooth']);
    const wide = await visit.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `the page is ${wide} pixels wider than the phone`);
    await visit.page.close();
  }
  const visit = await visitOf({ viewport: { width: 1280, height: 900 } });
  assert.equal((await visit.place()).scrolled, 0);
  await visit.page.close();
}

/**
 * An isolated page uses threads, and shows how many.
 *
 * @param {() => number} [loaderRequests] Requests for the loader of the runtime, which each thread makes.
 */
export async function checkThreads(browser, url, loaderRequests) {
  const before = loaderRequests?.();
  const visit = await Visit.to(browser, url);
  assert.ok(await visit.page.evaluate(() => crossOriginIsolated), 'the page is cross-origin isolated');
  const cores = await visit.page.evaluate(() => navigator.hardwareConcurrency);
  await visit.sample();
  const threads = Math.min(cores, 8);
  assert.equal(await visit.text('threads'), threads === 1 ? '1 thread' : `${threads} threads`);
  if (loaderRequests) {
    const requests = loaderRequests() - before;
    assert.ok(requests >= threads, `${threads} threads, ${requests} requests for the loader`);
  }
  assert.deepEqual(visit.errors, []);
  await visit.page.close();
}

/** The server in README.md that sends the headers. */
export async function checkReadmeServer(browser, folder) {
  const readme = await readFile(join(web, 'README.md'), 'utf8');
  const [, code] = /```python\n([^]*?)```/.exec(readme);
  const port = await freePort();
  assert.ok(code.includes('8000'));
  const server = spawn('python3', ['-c', code.replaceAll('8000', String(port))], { cwd: folder, stdio: 'ignore' });
  try {
    const url = `http://127.0.0.1:${port}/`;
    for (let tries = 0; !(await fetch(url).catch(() => null))?.ok; tries++) {
      assert.ok(tries < 100, 'the server of README.md does not answer');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await checkThreads(browser, url);
  } finally {
    server.kill();
  }
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
