// Resizing with the results of Pillow, byte for byte. The command-line tool gives the same bytes.

import { BITS, fixedTaps } from './filters.js';

/**
 * Rows of pixels of 4 bytes: red, green, blue, alpha.
 *
 * @typedef {{height: number, width: number, values: Uint8ClampedArray | Uint8Array, alpha: boolean}} Picture
 */

/**
 * Resizes along one axis and then along the other; the intermediate picture has bytes too. Colours are weighted by
 * alpha. The alpha of the result is not used.
 *
 * @param {Picture} picture
 * @param {[number, number]} size Height and width.
 * @param {import('./filters.js').Filter} filter
 * @returns {Picture}
 */
export function pillow(picture, [height, width], filter) {
  if (picture.height === height && picture.width === width) return { ...picture, alpha: false };
  if (filter === 'nearest') return nearest(picture, [height, width]);
  let now = picture.alpha ? { ...picture, values: multiplied(picture.values) } : picture;
  // As in Pillow: rows first, unless the height loses more than twice as many pixels as the width.
  const columnsFirst = height < picture.height && picture.height - height > 2 * (picture.width - width);
  for (const step of columnsFirst ? [alongColumns, alongRows] : [alongRows, alongColumns]) {
    now = step(now, step === alongRows ? width : height, filter);
  }
  if (picture.alpha) divide(now.values);
  return { ...now, alpha: false };
}

/** Nearest neighbour. Centres are accumulated by addition, because Pillow's rounding errors depend on it. */
function nearest(picture, [height, width]) {
  const places = (from, to) => {
    const scale = from / to;
    let middle = 0.5 * scale;
    return Array.from({ length: to }, () => {
      const at = Math.min(Math.trunc(middle), from - 1);
      middle += scale;
      return at;
    });
  };
  const columns = places(picture.width, width);
  const out = new Uint8ClampedArray(height * width * 4);
  let to = 0;
  for (const y of places(picture.height, height)) {
    for (const x of columns) {
      const from = (y * picture.width + x) * 4;
      out.set(picture.values.subarray(from, from + 4), to);
      to += 4;
    }
  }
  return { height, width, values: out, alpha: false };
}

/** Resizes rows to `width` pixels. */
function alongRows(picture, width, filter) {
  if (picture.width === width) return picture;
  const taps = fixedTaps(picture.width, width, filter);
  const { height, values } = picture;
  const out = new Uint8ClampedArray(height * width * 4);
  const half = 1 << (BITS - 1);
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * picture.width * 4;
    for (const { start, weights } of taps) {
      let [r, g, b, a] = [half, half, half, half];
      for (let n = 0, from = row + start * 4; n < weights.length; n++, from += 4) {
        const weight = weights[n];
        r += values[from] * weight;
        g += values[from + 1] * weight;
        b += values[from + 2] * weight;
        a += values[from + 3] * weight;
      }
      // The array clamps to 0 and 255.
      out[to++] = r >> BITS;
      out[to++] = g >> BITS;
      out[to++] = b >> BITS;
      out[to++] = a >> BITS;
    }
  }
  return { ...picture, width, values: out };
}

/** Resizes columns to `height` pixels. */
function alongColumns(picture, height, filter) {
  if (picture.height === height) return picture;
  const taps = fixedTaps(picture.height, height, filter);
  const { values } = picture;
  const stride = picture.width * 4;
  const out = new Uint8ClampedArray(height * stride);
  const sums = new Int32Array(stride);
  taps.forEach(({ start, weights }, y) => {
    sums.fill(1 << (BITS - 1));
    for (let n = 0; n < weights.length; n++) {
      const weight = weights[n];
      const row = (start + n) * stride;
      for (let x = 0; x < stride; x++) sums[x] += values[row + x] * weight;
    }
    for (let x = 0; x < stride; x++) out[y * stride + x] = sums[x] >> BITS;
  });
  return { ...picture, height, values: out };
}

/** Multiplies colours by alpha, rounded: Pillow's `RGBA` to `RGBa`. */
function multiplied(values) {
  const out = new Uint8ClampedArray(values);
  for (let at = 0; at < out.length; at += 4) {
    for (let c = at; c < at + 3; c++) {
      const product = out[c] * out[at + 3] + 128;
      out[c] = ((product >> 8) + product) >> 8;
    }
  }
  return out;
}

/** Divides colours by alpha, rounded down: Pillow's `RGBa` to `RGBA`. */
function divide(values) {
  for (let at = 0; at < values.length; at += 4) {
    const alpha = values[at + 3];
    if (alpha === 0 || alpha === 255) continue;
    for (let c = at; c < at + 3; c++) values[c] = Math.floor((255 * values[c]) / alpha);
  }
}
