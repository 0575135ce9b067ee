// The weights by which pixels of a line are averaged into a shorter or longer line.

/** Triangle of radius 1. */
function bilinear(x) {
  const at = Math.abs(x);
  return at < 1 ? 1 - at : 0;
}

/** Catmull and Rom's cubic, a = -1/2, of radius 2: what Pillow calls bicubic. */
function bicubic(x) {
  const a = -0.5;
  const at = Math.abs(x);
  if (at < 1) return ((a + 2) * at - (a + 3)) * at * at + 1;
  if (at < 2) return (((at - 5) * at + 8) * at - 4) * a;
  return 0;
}

/** All pixels of an area alike. */
function box(x) {
  return x > -0.5 && x <= 0.5 ? 1 : 0;
}

/** A sinc under a window, of radius 1; the window's numbers are of 32 bits, as Pillow has them. */
function hamming(x) {
  const at = Math.abs(x);
  if (at === 0) return 1;
  if (at >= 1) return 0;
  const angle = at * Math.PI;
  return (Math.sin(angle) / angle) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(angle));
}

/** A sinc under a wider one, of radius 3. */
function lanczos(x) {
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

function sinc(x) {
  if (x === 0) return 1;
  return Math.sin(x * Math.PI) / (x * Math.PI);
}

const FILTERS = {
  box: { weight: box, support: 0.5 },
  bilinear: { weight: bilinear, support: 1 },
  hamming: { weight: hamming, support: 1 },
  bicubic: { weight: bicubic, support: 2 },
  lanczos: { weight: lanczos, support: 3 },
};

/** @typedef {'nearest' | keyof typeof FILTERS} Filter */

/** Bits behind the point of a weight: eight are the byte's, two for sums below zero and above one. */
export const BITS = 32 - 8 - 2;

/** To a whole number, halves away from zero, as a cast in C makes it. */
const whole = (weight) => Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));

/**
 * Where each new pixel's sources begin, and the weight of each, as integers as in Pillow.
 *
 * @param {number} from Length of the line.
 * @param {number} to Length it gets.
 * @param {keyof typeof FILTERS} filter
 * @returns {{start: number, weights: Int32Array}[]}
 */
export function wholeTaps(from, to, filter) {
  const { weight, support } = FILTERS[filter];
  const scale = from / to;
  // What is made smaller is averaged over as many pixels as become one.
  const stretch = Math.max(scale, 1);
  const radius = support * stretch;
  const shrink = 1 / stretch;
  return Array.from({ length: to }, (_, at) => {
    const middle = (at + 0.5) * scale;
    const start = Math.max(Math.trunc(middle - radius + 0.5), 0);
    const end = Math.min(Math.trunc(middle + radius + 0.5), from);
    const weights = Array.from({ length: end - start }, (_, n) => weight((start + n - middle + 0.5) * shrink));
    const sum = weights.reduce((all, w) => all + w, 0);
    return { start, weights: Int32Array.from(weights, (w) => whole(sum === 0 ? w : w / sum)) };
  });
}
