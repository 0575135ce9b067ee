// A static web server for one folder.

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/**
 * Serves the files below `root`. Under `/isolated/` it serves the same files with the headers that make a page
 * cross-origin isolated.
 *
 * @param {string} root
 * @returns {Promise<{origin: string, missing: string[], count: (path: string) => number, close: () => void}>} Paths that
 *     were requested but are missing, and how often a path was requested.
 */
export async function serve(root) {
  const missing = [];
  const counts = new Map();
  const server = createServer(async (request, response) => {
    let path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    counts.set(path, (counts.get(path) ?? 0) + 1);
    const isolated = path.startsWith('/isolated/');
    if (isolated) path = path.slice('/isolated'.length);
    if (path.endsWith('/')) path += 'index.html';
    const file = join(root, normalize(path));
    const found = await stat(file).catch(() => null);
    if (!found?.isFile()) {
      missing.push(path);
      response.writeHead(404).end('not found');
      return;
    }
    const headers = { 'content-length': found.size, 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' };
    if (isolated) {
      headers['cross-origin-opener-policy'] = 'same-origin';
      headers['cross-origin-embedder-policy'] = 'require-corp';
    }
    response.writeHead(200, headers);
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const count = (path) => counts.get(path) ?? 0;
  return { origin: `http://127.0.0.1:${server.address().port}`, missing, count, close: () => server.close() };
}
