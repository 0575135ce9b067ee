// Bundles the page into dist/: index.html, and demo/ with the files that it loads. The output is deterministic.

import { build } from 'esbuild';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { licences } from './licences.js';

const here = new URL('./', import.meta.url);
const at = (path) => new URL(path, here);
const runtime = 'node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded';

const common = {
  absWorkingDir: at('.').pathname,
  bundle: true,
  minify: true,
  charset: 'utf8',
  legalComments: 'none',
  target: 'es2022',
  logLevel: 'warning',
};

await rm(at('dist'), { recursive: true, force: true });
await mkdir(at('dist/demo'), { recursive: true });

// A classic script: browsers do not run modules on a page that was opened as a file.
await build({ ...common, entryPoints: ['src/page/page.js'], outfile: 'dist/demo/page.js', format: 'iife' });
await build({ ...common, entryPoints: ['src/page/style.css'], outfile: 'dist/demo/style.css' });
await build({
  ...common,
  entryPoints: ['src/worker.js'],
  outfile: 'dist/demo/worker.js',
  format: 'esm',
  // The loader of the runtime stays a separate file beside the WebAssembly, because the runtime's threads load it too.
  conditions: ['onnxruntime-web-use-extern-wasm'],
});

for (const ending of ['mjs', 'wasm']) {
  await copyFile(at(`${runtime}.${ending}`), at(`dist/demo/ort-wasm-simd-threaded.${ending}`));
}
await copyFile(at('src/page/index.html'), at('dist/index.html'));
await copyFile(at('src/page/sample.png'), at('dist/demo/sample.png'));
await writeFile(at('dist/demo/LICENSES.txt'), await licences(here));
