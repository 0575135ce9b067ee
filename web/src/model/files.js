// Loads files of the folder that contains the page.

import { Problem } from '../problem.js';

/**
 * @param {URL} root The exported folder.
 * @param {string} path Within it.
 * @returns {Promise<Response>}
 */
export async function get(root, path) {
  // The worker has no Content-Security-Policy of its own, and a manifest can name anything.
  const url = new URL(path.split('/').map(encodeURIComponent).join('/'), root);
  if (url.origin !== root.origin || !url.pathname.startsWith(root.pathname)) {
    throw new Problem(
      `${path} is not in the exported folder, and is not loaded.`,
      'The manifest was changed after the export. Export the folder again.',
    );
  }
  let response;
  try {
    // Validated with the server each time, because a folder can be exported again under the same address. Servers
    // answer unchanged files with 304, and the browser then reads its cache.
    response = await fetch(url, { cache: 'no-cache' });
  } catch (error) {
    throw new Problem(`${path} cannot be loaded (${error.message}).`, 'Is the web server still running?');
  }
  if (!response.ok) {
    throw new Problem(
      `${path} is missing: the server answers ${response.status}.`,
      'Serve the whole folder that clip-onnx export wrote, with this page in it.',
    );
  }
  return response;
}

/**
 * Reads a whole file and reports progress.
 *
 * @param {URL} root
 * @param {{path: string, size?: number}} file Entry of the manifest.
 * @param {(bytes: number) => void} progress Called with the number of new bytes.
 * @returns {Promise<Uint8Array>}
 */
export async function load(root, { path, size }, progress) {
  const response = await get(root, path);
  if (size === undefined || !response.body) {
    const bytes = new Uint8Array(await response.arrayBuffer());
    progress(bytes.length);
    return bytes;
  }
  // One buffer of the size in the manifest: joining chunks would need twice the memory.
  const bytes = new Uint8Array(size);
  let at = 0;
  const wrong = (found) =>
    new Problem(
      `${path} has ${found} bytes; the manifest says ${size}.`,
      'The file was changed after the export, or the transfer was cut off. Export the folder again.',
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
    progress(value.length);
  }
  if (at !== size) throw wrong(at);
  return bytes;
}
