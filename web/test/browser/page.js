// Operates the page in Chromium like a visitor.

import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';

/** Milliseconds. A large model loads slowly on a small machine. */
const TIMEOUT = 300_000;

const MIME = { '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.webp': 'image/webp' };

export class Visit {
  /**
   * @param {import('puppeteer-core').Browser} browser
   * @param {string} url
   * @param {{viewport?: import('puppeteer-core').Viewport, reducedMotion?: boolean}} [screen]
   */
  static async to(browser, url, { viewport, reducedMotion } = {}) {
    const page = await browser.newPage();
    if (viewport) await page.setViewport(viewport);
    if (reducedMotion) await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
    const visit = new Visit(page);
    page.on('pageerror', (error) => visit.errors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && visit.errors.push(message.text()));
    await page.goto(url);
    await page.waitForFunction(
      () => document.getElementById('status').textContent.startsWith('Ready') || !document.getElementById('problem').hidden,
      { timeout: TIMEOUT },
    );
    return visit;
  }

  constructor(page) {
    this.page = page;
    this.errors = [];
  }

  /** The problem that the page shows, or an empty string. */
  problem() {
    return this.page.evaluate(() => {
      const problem = document.getElementById('problem');
      return problem.hidden ? '' : problem.innerText;
    });
  }

  /** Text of an element; empty where it is hidden. */
  text(id) {
    return this.page.evaluate((id) => {
      const element = document.getElementById(id);
      return element.hidden ? '' : element.textContent;
    }, id);
  }

  async type(template, labels) {
    await this.page.evaluate((template, labels) => {
      document.getElementById('template').value = template;
      document.getElementById('labels').value = labels.join('\n');
    }, template, labels);
  }

  labels() {
    return this.page.evaluate(() => document.getElementById('labels').value.split('\n'));
  }

  /** Drops a file onto the page, and waits for the result. */
  async drop(path) {
    const data = (await readFile(path)).toString('base64');
    return this.#answered(() =>
      this.page.evaluate(async (data, name, type) => {
        const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], name, { type }));
        document.getElementById('drop').dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
      }, data, basename(path), MIME[extname(path)] ?? ''));
  }

  /** Chooses a file with the file input. */
  async choose(path) {
    const input = await this.page.$('#file');
    return this.#answered(() => input.uploadFile(path));
  }

  /** Presses "Run". */
  submit() {
    return this.#answered(() => this.page.click('#go'));
  }

  /** Presses "Use a sample picture". */
  sample() {
    return this.#answered(() => this.page.click('#sample'));
  }

  /** Switches the check box of the orientation tag. */
  switchOrientation() {
    return this.#answered(() => this.page.click('#orient'));
  }

  /** Chooses a precision. */
  select(precision) {
    return this.#answered(() => this.page.select('#precision', precision));
  }

  /** The options of the precision, and whether the select is visible. */
  precisions() {
    return this.page.evaluate(() => ({
      visible: document.getElementById('precision').checkVisibility(),
      chosen: document.getElementById('precision').value,
      options: [...document.getElementById('precision').options].map(({ value, text, disabled }) => ({ value, text, disabled })),
    }));
  }

  /** Where the result is on the screen. */
  place() {
    return this.page.evaluate(() => {
      const { top, bottom } = document.getElementById('result').getBoundingClientRect();
      return { top, bottom, height: innerHeight, scrolled: scrollY };
    });
  }

  /** Probabilities by label, what was loaded, and what the page showed meanwhile. */
  async #answered(action) {
    await this.page.evaluate(() => {
      document.getElementById('status').textContent = '';
      document.getElementById('problem').hidden = true;
      const [status, progress] = [document.getElementById('status'), document.getElementById('progress')];
      globalThis.seen = [];
      globalThis.observer?.disconnect();
      globalThis.observer = new MutationObserver(() => {
        globalThis.seen.push({ text: status.textContent, visible: !progress.hidden, value: progress.position });
      });
      const all = { subtree: true, childList: true, attributes: true, characterData: true };
      globalThis.observer.observe(status.closest('.working'), all);
    });
    const started = performance.now();
    await action();
    await this.page.waitForFunction(
      () => document.getElementById('status').textContent.startsWith('Done') || !document.getElementById('problem').hidden,
      { timeout: TIMEOUT },
    );
    const seconds = (performance.now() - started) / 1000;
    const problem = await this.problem();
    if (problem) throw new Error(`the page shows: ${problem}`);
    const { rows, ...others } = await this.page.evaluate(() => ({
      rows: [...document.querySelectorAll('#bars li')].map(({ dataset }) => [dataset.label, Number(dataset.probability)]),
      precision: document.getElementById('loaded').dataset.precision,
      loaded: document.getElementById('loaded').textContent,
      ran: document.getElementById('ran').textContent,
      seen: globalThis.seen,
    }));
    return { found: new Map(rows), seconds, ...others };
  }
}
