// The page as a visitor has it, in Chromium.

import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';

/** Loading a large model can take a while on a small machine. */
const PATIENCE = 300_000;

const MIME = { '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.webp': 'image/webp' };

export class Visit {
  /**
   * @param {import('puppeteer-core').Browser} browser
   * @param {string} url
   */
  static async to(browser, url) {
    const page = await browser.newPage();
    const visit = new Visit(page);
    page.on('pageerror', (error) => visit.errors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && visit.errors.push(message.text()));
    await page.goto(url);
    await page.waitForFunction(
      () => document.getElementById('status').textContent.startsWith('Ready') || !document.getElementById('problem').hidden,
      { timeout: PATIENCE },
    );
    return visit;
  }

  constructor(page) {
    this.page = page;
    this.errors = [];
  }

  /** What the page says is wrong; empty where nothing is. */
  problem() {
    return this.page.evaluate(() => {
      const problem = document.getElementById('problem');
      return problem.hidden ? '' : problem.innerText;
    });
  }

  async type(template, labels) {
    await this.page.evaluate((template, labels) => {
      document.getElementById('template').value = template;
      document.getElementById('labels').value = labels.join('\n');
    }, template, labels);
  }

  /** Drops a file onto the page, and waits for what it says. */
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

  /** Chooses a file with the button. */
  async choose(path) {
    const input = await this.page.$('#file');
    return this.#answered(() => input.uploadFile(path));
  }

  /** Presses the button. */
  submit() {
    return this.#answered(() => this.page.click('#go'));
  }

  /** Probabilities by label, and how long they took. */
  async #answered(action) {
    await this.page.evaluate(() => {
      document.getElementById('status').textContent = '';
      document.getElementById('problem').hidden = true;
    });
    const started = performance.now();
    await action();
    await this.page.waitForFunction(
      () => document.getElementById('status').textContent.startsWith('Done') || !document.getElementById('problem').hidden,
      { timeout: PATIENCE },
    );
    const seconds = (performance.now() - started) / 1000;
    const problem = await this.problem();
    if (problem) throw new Error(`the page says: ${problem}`);
    const rows = await this.page.evaluate(() =>
      [...document.querySelectorAll('#bars li')].map(({ dataset }) => [dataset.label, Number(dataset.probability)]));
    return { found: new Map(rows), seconds };
  }
}
