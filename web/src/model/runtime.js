// ONNX Runtime, set up to load what it needs from the page's own folder and nowhere else.

import * as ort from 'onnxruntime-web/wasm';

ort.env.wasm.wasmPaths = new URL('./', import.meta.url).href;
// Several threads need memory that is shared, which browsers give to isolated pages alone.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
ort.env.logLevel = 'error';

export { ort };
