import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { get } from '../../src/model/files.js';

const root = new URL('https://here.example/shop/model/');
const fetchOf = globalThis.fetch;

afterEach(() => {
  globalThis.fetch = fetchOf;
});

test('files of the folder are asked for, and no others, whatever a manifest names', async () => {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(String(url));
    return new Response('');
  };
  await get(root, 'onnx/vision model.onnx');
  assert.deepEqual(asked, ['https://here.example/shop/model/onnx/vision%20model.onnx']);
  for (const path of ['//other.example/v.onnx', '/v.onnx', '../v.onnx', 'a/../../v.onnx', '/\\other.example/v.onnx']) {
    await assert.rejects(get(root, path), /is not in the exported folder/, path);
  }
  // A colon and what follows it are part of a name.
  await get(root, 'https://other.example/v.onnx');
  assert.ok(asked.every((url) => url.startsWith(root.href)), String(asked));
});
