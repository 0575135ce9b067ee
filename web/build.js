// Bundles the page into dist/: index.html, and demo/ with everything it loads. The same bytes each time.

import { build } from 'esbuild';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
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

// A classic script, which runs even where the page was opened as a file.
await build({ ...common, entryPoints: ['src/page/page.js'], outfile: 'dist/demo/page.js', format: 'iife' });
await build({ ...common, entryPoints: ['src/page/style.css'], outfile: 'dist/demo/style.css' });
await build({
  ...common,
  entryPoints: ['src/worker.js'],
  outfile: 'dist/demo/worker.js',
  format: 'esm',
  // The runtime's loader stays a file of its own, beside the WebAssembly, which its threads load too.
  conditions: ['onnxruntime-web-use-extern-wasm'],
});

for (const ending of ['mjs', 'wasm']) {
  await copyFile(at(`${runtime}.${ending}`), at(`dist/demo/ort-wasm-simd-threaded.${ending}`));
}
await writeFile(at('dist/index.html'), await readFile(at('src/page/index.html')));
await writeFile(at('dist/demo/LICENSES.txt'), await licences(here));
