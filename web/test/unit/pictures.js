// Pictures made by a formula. scripts/make_resize.py has the same one.

/**
 * The mean of noise and a ramp.
 *
 * @returns {import('../../src/pixels/pillow.js').Picture}
 */
export function picture(height, width, channels) {
  let state = height * 1000 + width * 10 + channels;
  const values = new Uint8ClampedArray(height * width * 4).fill(255);
  for (let at = 0; at < height * width * channels; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const noise = state >>> 24;
    const pixel = Math.floor(at / channels);
    const ramp = Math.floor(((pixel % width) * 255) / width);
    values[pixel * 4 + (at % channels)] = Math.floor((noise + ramp) / 2) + (noise > 200 ? 60 : 0);
  }
  return { height, width, values, alpha: channels === 4 };
}

/** Red, green and blue of each pixel. */
export const opaqueBytes = ({ values }) => values.filter((_, at) => at % 4 !== 3);
