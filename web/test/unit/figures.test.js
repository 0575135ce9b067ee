import assert from 'node:assert/strict';
import { test } from 'node:test';
import { duration, megabytes, percent } from '../../src/figures.js';

test('sizes, times and probabilities as text', () => {
  assert.deepEqual([0, 40_000, 12_345_678, 151_277_440].map(megabytes), ['0.0 MB', '< 0.1 MB', '12.3 MB', '151 MB']);
  assert.deepEqual([0.004, 0.049, 1.24, 75].map(duration), ['< 0.01 s', '0.05 s', '1.2 s', '75.0 s']);
  const spaced = (p) => percent(p).replaceAll('\u00a0', ' ');
  assert.deepEqual([0, 1e-6, 0.0123, 0.5, 1].map(spaced), ['0.00 %', '< 0.01 %', '1.23 %', '50.0 %', '100.0 %']);
});
