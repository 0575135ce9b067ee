// Reads a job of check_engines.py from its first argument, runs it with onnxruntime-web's wasm in node, and writes what
// the first output of each run holds as float32. The second argument is the folder of onnxruntime-web.

import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [job, folder] = [JSON.parse(readFileSync(process.argv[2], 'utf8')), process.argv[3]];
const ort = await import(pathToFileURL(`${folder}/dist/ort.node.min.mjs`).href);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };

const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(job.model)), { executionProviders: ['wasm'] });
for (const run of job.runs) {
  const feeds = {};
  for (const { name, type, dims, data } of run.inputs) {
    const bytes = new Uint8Array(readFileSync(data));
    feeds[name] = new ort.Tensor(type, new ARRAYS[type](bytes.buffer), dims);
  }
  const found = await session.run(feeds);
  const { data } = found[session.outputNames[0]];
  writeFileSync(run.out, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}
