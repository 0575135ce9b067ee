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

const FILTERS = {
  bilinear: { weight: bilinear, support: 1 },
  bicubic: { weight: bicubic, support: 2 },
};

/** Halves go away from zero, as in C and Rust; Math.round sends them up. */
const rounded = (x) => (x < 0 ? -Math.round(-x) : Math.round(x));

/**
 * Where each new pixel's sources begin, and how much each of them counts, as floating-point numbers.
 *
 * @param {number} from Length of the line.
 * @param {number} to Length it gets.
 * @param {'bilinear' | 'bicubic'} filter
 * @returns {{start: number, weights: number[]}[]}
 */
function exactTaps(from, to, filter) {
  const { weight, support } = FILTERS[filter];
  const scale = from / to;
  // What is made smaller is averaged over as many pixels as become one.
  const stretch = Math.max(scale, 1);
  const radius = support * stretch;
  const shrink = 1 / stretch;
  return Array.from({ length: to }, (_, at) => {
    const middle = (at + 0.5) * scale;
    let start = Math.max(Math.floor(middle - radius), 0);
    const end = Math.min(Math.ceil(middle + radius), from);
    const weights = [];
    for (let x = start; x < end; x++) weights.push(weight((x - (middle - 0.5)) * shrink));
    while (weights.length > 0 && weights[0] === 0) {
      weights.shift();
      start++;
    }
    while (weights.length > 0 && weights.at(-1) === 0) weights.pop();
    const sum = weights.reduce((all, w) => all + w, 0);
    return { start, weights: sum === 0 ? weights : weights.map((w) => w / sum) };
  });
}

/**
 * The same in whole numbers of at most 16 bits, as clip-onnx's own resizing has them; `bits` are those
 * behind the point.
 *
 * @param {number} from
 * @param {number} to
 * @param {'bilinear' | 'bicubic'} filter
 * @returns {{bits: number, taps: {start: number, weights: Int32Array}[]}}
 */
export function wholeTaps(from, to, filter) {
  const taps = exactTaps(from, to, filter);
  const most = taps.reduce((max, tap) => tap.weights.reduce((a, b) => Math.max(a, b), max), 0);
  let bits = 0;
  // As many as fit: 8 are the pixel's, and two are kept for sums below nought and above one.
  while (bits < 21 && rounded(most * 2 ** (bits + 1)) < 2 ** 15) bits++;
  return {
    bits,
    taps: taps.map(({ start, weights }) => ({
      start,
      weights: Int32Array.from(weights, (w) => rounded(w * 2 ** bits)),
    })),
  };
}
