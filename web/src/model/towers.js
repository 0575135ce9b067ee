// Both towers of one precision, loaded with one progress bar.

import { megabytes } from '../figures.js';
import { Tower } from './tower.js';

/**
 * @param {URL} root
 * @param {import('./layout.js').Choice} choice
 * @param {import('./classifier.js').Say} say
 * @returns {Promise<{image: Tower, text: Tower, loaded: {precision: string, bytes: number, seconds: number}}>}
 */
export async function openTowers(root, { precision, bytes, image, text }, say) {
  const started = performance.now();
  let [done, shown] = [0, 0];
  const share = () => (bytes ? Math.min(done / bytes, 1) : undefined);
  const title = `Loading ${precision}${bytes === undefined ? '' : ` (${megabytes(bytes)})`}`;
  const progress = (more) => {
    done += more;
    // A message for each chunk would be thousands for a large file.
    if (bytes && done - shown < bytes / 100) return;
    shown = done;
    say(title, share());
  };
  say(title, 0);
  const towers = {};
  try {
    for (const [kind, file] of [['image', image], ['text', text]]) towers[kind] = await Tower.open(root, file, progress);
  } catch (error) {
    await towers.image?.close();
    throw error;
  }
  return { ...towers, loaded: { precision, bytes: done, seconds: (performance.now() - started) / 1000 } };
}
