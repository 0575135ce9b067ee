// Files of the folder that the page stands in.

import { Problem } from '../problem.js';

/**
 * @param {URL} root The exported folder.
 * @param {string} path Within it.
 * @returns {Promise<Response>}
 */
export async function get(root, path) {
  const url = new URL(path.split('/').map(encodeURIComponent).join('/'), root);
  let response;
  try {
    // Asked for again each time, so that a folder that was written anew is seen; most servers answer
    // that nothing has changed.
    response = await fetch(url, { cache: 'no-cache' });
  } catch (error) {
    throw new Problem(`${path} cannot be loaded (${error.message}).`, 'Is the web server still running?');
  }
  if (!response.ok) {
    throw new Problem(
      `${path} is not there: the server answers ${response.status}.`,
      'Serve the whole folder that clip-onnx export wrote, with this page in it.',
    );
  }
  return response;
}

/**
 * All of a file, told about as it comes.
 *
 * @param {URL} root
 * @param {{path: string, size?: number}} file As the manifest lists it.
 * @param {(share: number) => void} progress Called with a number from 0 to 1.
 * @returns {Promise<Uint8Array>}
 */
export async function load(root, { path, size }, progress) {
  const response = await get(root, path);
  if (size === undefined || !response.body) return new Uint8Array(await response.arrayBuffer());
  // One buffer of the size that the manifest promises: parts would need as much again to be joined.
  const bytes = new Uint8Array(size);
  let at = 0;
  let told = 0;
  const wrong = (found) =>
    new Problem(
      `${path} has ${found} bytes; the manifest says ${size}.`,
      'It was changed after the export, or the server cut it off. Export the folder again.',
    );
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) {
      await reader.cancel();
      throw wrong('more');
    }
    bytes.set(value, at);
    at += value.length;
    if (at - told > size / 100) {
      told = at;
      progress(at / size);
    }
  }
  if (at !== size) throw wrong(at);
  return bytes;
}
