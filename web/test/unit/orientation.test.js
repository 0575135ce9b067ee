import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutOrientation } from '../../src/pixels/orientation.js';

const joined = (bytes) => Buffer.concat(withoutOrientation(Uint8Array.from(bytes)));

test('a JPEG loses its Exif segments and nothing else', () => {
  const exif = [0xff, 0xe1, 0, 10, ...Buffer.from('Exif\0\0'), 1, 2];
  const xmp = [0xff, 0xe1, 0, 6, ...Buffer.from('http')];
  const scan = [0xff, 0xda, 0, 4, 1, 2, 0xff, 0xe1, 0, 10, ...Buffer.from('Exif\0\0')];
  assert.deepEqual([...joined([0xff, 0xd8, ...exif, ...xmp, ...scan])], [0xff, 0xd8, ...xmp, ...scan]);
  assert.deepEqual([...joined([0x42, 0x4d, ...exif])], [0x42, 0x4d, ...exif], 'a BMP has none');
  assert.deepEqual([...joined([0xff, 0xd8, 0xff, 0xe1, 0xff, 0xff, ...Buffer.from('Exif')])], [0xff, 0xd8]);
});

test('a PNG loses its Exif chunk and nothing else', () => {
  const chunk = (name, ...contents) => [0, 0, 0, contents.length, ...Buffer.from(name), ...contents, 9, 9, 9, 9];
  const start = [0x89, ...Buffer.from('PNG\r\n\x1a\n')];
  const file = [...start, ...chunk('IHDR', 1, 2), ...chunk('eXIf', 1, 2, 3), ...chunk('IDAT', 7)];
  assert.deepEqual([...joined(file)], [...start, ...chunk('IHDR', 1, 2), ...chunk('IDAT', 7)]);
});

test('a WebP keeps its length, and its Exif chunk is renamed', () => {
  const chunk = (name, ...contents) => [...Buffer.from(name), contents.length, 0, 0, 0, ...contents];
  const start = [...Buffer.from('RIFF'), 99, 0, 0, 0, ...Buffer.from('WEBP')];
  const file = [...start, ...chunk('VP8X', 1, 2, 3, 0), ...chunk('EXIF', 5, 0)];
  assert.deepEqual([...joined(file)], [...start, ...chunk('VP8X', 1, 2, 3, 0), ...chunk('none', 5, 0)]);
  assert.equal(file.length, joined(file).length);
});
