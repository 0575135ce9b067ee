// ONNX Runtime, set up to load its files from the folder of the page.

import * as ort from 'onnxruntime-web/wasm';

ort.env.wasm.wasmPaths = new URL('./', import.meta.url).href;
// Threads need shared memory, which browsers allow on cross-origin isolated pages only. More than 8 threads hardly help
// models of this size.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
ort.env.logLevel = 'error';

/** Threads of the runtime. It sets the number to 1 itself where it cannot start more. */
export const threads = () => ort.env.wasm.numThreads;

export { ort };
