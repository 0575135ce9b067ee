// Compares with bytes by Pillow from the same pictures (scripts/make_resize.py), and by the command-line tool for TensorFlow's
// method.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { pillow } from '../../src/pixels/pillow.js';
import { tensorflow } from '../../src/pixels/tensorflow.js';
import { opaqueBytes, picture } from './pictures.js';

const cases = JSON.parse(await readFile(new URL('../data/resize.json', import.meta.url), 'utf8'));

for (const { from, to, way, bytes } of cases) {
  test(`${way} from ${from.join(' x ')} to ${to.join(' x ')}`, () => {
    const source = picture(...from);
    const before = source.values.slice();
    const found = way === 'tensorflow' ? tensorflow(source, to) : pillow(source, to, way);
    assert.deepEqual([found.height, found.width], to);
    assert.equal(Buffer.from(opaqueBytes(found)).toString('hex'), bytes);
    assert.deepEqual(source.values, before, 'the source is not changed');
  });
}
