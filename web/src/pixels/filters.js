// Weights of resampling along one axis.

/** A triangle of radius 1. */
function bilinear(x) {
  const at = Math.abs(x);
  return at < 1 ? 1 - at : 0;
}

/** The Catmull-Rom cubic, a = -1/2, of radius 2, which Pillow calls bicubic. */
function bicubic(x) {
  const a = -0.5;
  const at = Math.abs(x);
  if (at < 1) return ((a + 2) * at - (a + 3)) * at * at + 1;
  if (at < 2) return (((at - 5) * at + 8) * at - 4) * a;
  return 0;
}

/** A constant of radius 1/2: the mean of an area. */
function box(x) {
  return x > -0.5 && x <= 0.5 ? 1 : 0;
}

/** A sinc with a Hamming window, of radius 1. Pillow stores the constants of the window as float32. */
function hamming(x) {
  const at = Math.abs(x);
  if (at === 0) return 1;
  if (at >= 1) return 0;
  const angle = at * Math.PI;
  return (Math.sin(angle) / angle) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(angle));
}

/** A sinc with a sinc window, of radius 3. */
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

/** Fraction bits of a weight. Of 32 bits, 8 are for the byte, and 2 for sums below 0 and above 255. */
export const BITS = 32 - 8 - 2;

/** A weight in fixed point, rounded half away from zero, as in Pillow. */
const fixed = (weight) => Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));

/**
 * For each new pixel, the first source pixel and the weights of the source pixels, in fixed point as in Pillow.
 *
 * @param {number} from Old length of the axis.
 * @param {number} to New length.
 * @param {keyof typeof FILTERS} filter
 * @returns {{start: number, weights: Int32Array}[]}
 */
export function fixedTaps(from, to, filter) {
  const { weight, support } = FILTERS[filter];
  const scale = from / to;
  // Downscaling widens the filter, so that all source pixels count.
  const stretch = Math.max(scale, 1);
  const radius = support * stretch;
  const shrink = 1 / stretch;
  return Array.from({ length: to }, (_, at) => {
    const middle = (at + 0.5) * scale;
    const start = Math.max(Math.trunc(middle - radius + 0.5), 0);
    const end = Math.min(Math.trunc(middle + radius + 0.5), from);
    const weights = Array.from({ length: end - start }, (_, n) => weight((start + n - middle + 0.5) * shrink));
    const sum = weights.reduce((all, w) => all + w, 0);
    return { start, weights: Int32Array.from(weights, (w) => fixed(sum === 0 ? w : w / sum)) };
  });
}
