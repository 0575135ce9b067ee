// The page's side of the worker: requests with answers, and progress messages.

import { Problem } from '../problem.js';

export class Link {
  /**
   * @param {URL} script Script of the worker.
   * @param {(text: string, share?: number) => void} say Receives progress messages.
   */
  constructor(script, say) {
    this.waiting = new Map();
    this.count = 0;
    this.worker = new Worker(script, { type: 'module' });
    this.worker.onmessage = ({ data }) => {
      if (data.progress) {
        say(data.progress.text, data.progress.share);
        return;
      }
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.problem) reject(new Problem(data.problem.message, data.problem.hint));
      else resolve(data.result);
    };
    // The worker did not start or crashed: a file is missing, or the browser is too old.
    this.worker.onerror = (event) => {
      const problem = new Problem(
        `The files of this page in demo/ cannot be run${event.message ? ` (${event.message})` : ''}.`,
        'Serve the whole folder, and use a current browser.',
      );
      for (const { reject } of this.waiting.values()) reject(problem);
      this.waiting.clear();
    };
  }

  /**
   * @param {string} action
   * @param {unknown} [argument]
   * @returns {Promise<any>}
   */
  ask(action, argument) {
    const id = this.count++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, action, argument });
    });
  }
}
