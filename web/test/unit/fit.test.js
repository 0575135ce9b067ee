import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cropped, fitted, halfToEven, target } from '../../src/pixels/fit.js';
import { imageInput } from '../../src/pixels/input.js';

/** A picture whose red values are the numbers of the pixels. */
function numbered(height, width) {
  const values = new Uint8ClampedArray(height * width * 4).fill(255);
  for (let at = 0; at < height * width; at++) values[at * 4] = at;
  return { height, width, values, alpha: false };
}

test('halves are rounded to even', () => {
  assert.deepEqual([0.5, 1.5, 2.5, 9.5, 2.4, 2.6, 3].map(halfToEven), [0, 2, 2, 10, 2, 3, 3]);
});

test('offsets of crops are rounded as in Python', () => {
  const picture = numbered(5, 7);
  const first = (size, down) => cropped(picture, size, down).values[0];
  assert.equal(first([2, 4], false), 2 * 7 + 2, '1.5 is rounded to 2 on both axes');
  assert.equal(first([4, 6], false), 0, '0.5 is rounded to 0');
  assert.equal(first([2, 4], true), 7 + 1, 'transformers rounds down');
});

test('the shorter side gets the size of the tower, the longer one is rounded down', () => {
  const at = (height, width, size, interpolation, more = {}) =>
    target({ height, width }, size, { resize_mode: 'shortest', interpolation, ...more }, 'open_clip');
  assert.deepEqual(at(77, 123, [32, 32], 'bilinear'), { scaled: [32, 51], filter: 'bilinear' });
  assert.deepEqual(at(201, 50, [32, 32], 'bicubic'), { scaled: [128, 32], filter: 'bicubic' });
  assert.deepEqual(at(77, 123, [24, 40], 'bilinear'), { scaled: [25, 40], filter: 'bicubic' });
  assert.deepEqual(at(100, 300, [32, 32], 'box', { resize_to: [40, 40] }), { scaled: [40, 120], filter: 'box' });
  assert.deepEqual(at(300, 100, [32, 32], 'box', { longest_edge: 80 }), { scaled: [80, 27], filter: 'box' });
});

test('smaller pictures are padded on all sides', () => {
  const cfg = { resize_mode: 'longest', interpolation: 'nearest', antialias: true, fill_color: [7, 8, 9], mean: [], std: [] };
  const config = { dialect: 'open_clip', vision_cfg: { image_size: [4, 4] }, preprocess_cfg: cfg };
  const { values } = fitted(numbered(1, 4), config);
  const reds = Array.from({ length: 16 }, (_, at) => values[at * 4]);
  assert.deepEqual(reds, [7, 7, 7, 7, 0, 1, 2, 3, 7, 7, 7, 7, 7, 7, 7, 7]);
});

test('without resizing a picture must have the size of the tower, unless it is cropped', () => {
  const config = (crop) => ({
    dialect: 'transformers',
    vision_cfg: { image_size: [4, 4] },
    preprocess_cfg: { resize_mode: 'none', interpolation: 'bicubic', antialias: true, ...crop },
  });
  assert.throws(() => fitted(numbered(5, 7), config({ crop: false })), /7 x 5/);
  assert.equal(fitted(numbered(5, 7), config({})).values[0], 1);
});

test('transformers composites transparent pixels over white', () => {
  const picture = { height: 1, width: 1, values: Uint8ClampedArray.of(10, 20, 30, 128), alpha: true };
  const config = (dialect) => ({
    dialect,
    vision_cfg: { image_size: [1, 1] },
    preprocess_cfg: { resize_mode: 'squash', interpolation: 'bicubic', antialias: true },
  });
  // From Pillow 13.
  assert.deepEqual([...fitted(picture, config('transformers')).values].slice(0, 3), [132, 137, 142]);
  assert.deepEqual([...fitted(picture, config('open_clip')).values].slice(0, 3), [10, 20, 30]);
});

test('pictures that are too long and narrow are refused', () => {
  const config = {
    vision_cfg: { image_size: [224, 224] },
    preprocess_cfg: { resize_mode: 'shortest', interpolation: 'bicubic', antialias: true },
  };
  assert.throws(() => fitted(numbered(1, 300), config), /300 x 1/);
});

test('squashed pictures are not cropped', () => {
  const config = {
    vision_cfg: { image_size: [4, 4] },
    preprocess_cfg: { resize_mode: 'squash', interpolation: 'bilinear', antialias: false },
  };
  const { height, width } = fitted(numbered(5, 7), config);
  assert.deepEqual([height, width], [4, 4]);
});

test('inputs have the layout and the type of the tower', () => {
  const picture = { height: 1, width: 2, values: Uint8ClampedArray.of(0, 51, 255, 9, 1, 2, 3, 9), alpha: false };
  const cfg = { mean: [0.5, 0, 0], std: [0.5, 1, 2] };
  const float = imageInput(picture, cfg, { type: 'float32', shape: ['batch_size', 3, 1, 2] });
  assert.deepEqual(float.dims, [1, 3, 1, 2]);
  assert.deepEqual([...float.data], [-1, (1 / 255 - 0.5) / 0.5, 0.2, 2 / 255, 0.5, 3 / 255 / 2].map((x, n) =>
    n === 1 ? Math.fround(Math.fround(Math.fround(1 / 255) - 0.5) / 0.5) : Math.fround(x)));
  const last = imageInput(picture, cfg, { type: 'uint8', shape: [1, 1, 2, 3] });
  assert.deepEqual([last.dims, [...last.data]], [[1, 1, 2, 3], [0, 51, 255, 1, 2, 3]]);
  const first = imageInput(picture, cfg, { type: 'uint8', shape: [1, 3, 1, 2] });
  assert.deepEqual([...first.data], [0, 1, 51, 2, 255, 3]);
  const free = imageInput(picture, cfg, { type: 'uint8', shape: ['batch_size', 1, 2, 'channels'] });
  assert.deepEqual([free.dims, [...free.data]], [[1, 1, 2, 3], [...last.data]]);
});
