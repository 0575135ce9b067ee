import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { drawn, HEIGHT, WIDTH } from '../../sample.js';

test('the committed sample picture is the drawing of sample.js', async () => {
  const png = await readFile(new URL('../../src/page/sample.png', import.meta.url));
  assert.ok(png.length <= 30_000, `${png.length} bytes`);
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [WIDTH, HEIGHT]);
  // IDAT is behind the signature (8 bytes) and IHDR (25 bytes).
  const length = png.readUInt32BE(33);
  assert.equal(png.toString('latin1', 37, 41), 'IDAT');
  assert.ok(inflateSync(png.subarray(41, 41 + length)).equals(drawn()));
});
