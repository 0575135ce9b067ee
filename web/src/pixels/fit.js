// A picture at a tower's size: resized and cropped by the model's own rule.

import { Problem } from '../problem.js';
import { pillow } from './pillow.js';
import { tensorflow } from './tensorflow.js';

/** Pixels along the longer side after resizing, of which one square is cropped out. */
const LONGEST = 1 << 16;

/**
 * @param {import('./pillow.js').Picture} picture
 * @param {object} config The manifest's `config`.
 * @returns {import('./pillow.js').Picture}
 */
export function fitted(picture, config) {
  const cfg = config.preprocess_cfg;
  const size = config.vision_cfg.image_size;
  if (cfg.resize_mode !== 'shortest') {
    return cfg.antialias ? pillow(picture, size, cfg.interpolation) : tensorflow(picture, size);
  }
  const { scaled, filter } = shortest(picture, size, cfg.interpolation);
  if (Math.max(...scaled) > LONGEST) {
    throw new Problem(
      `The picture has ${picture.width} x ${picture.height} pixels, too long and narrow to be resized.`,
      'Crop it first.',
    );
  }
  const whole = [Math.max(scaled[0], size[0]), Math.max(scaled[1], size[1])];
  return cropped(pillow(picture, whole, filter), size, config.dialect === 'transformers');
}

/**
 * The size at which the shortest side is the tower's, and the filter that goes with it.
 *
 * @param {{height: number, width: number}} picture
 * @param {[number, number]} size
 * @param {'bilinear' | 'bicubic'} interpolation
 */
export function shortest({ height, width }, size, interpolation) {
  if (size[0] === size[1]) {
    const long = Math.floor((size[0] * Math.max(height, width)) / Math.min(height, width));
    return { scaled: height < width ? [size[0], long] : [long, size[0]], filter: interpolation };
  }
  // open_clip's way with other shapes, which knows bicubic alone.
  const ratio = Math.min(height / size[0], width / size[1]);
  return { scaled: [height, width].map((n) => halfToEven(n / ratio)), filter: 'bicubic' };
}

/** As Python's `round`. */
export function halfToEven(x) {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/**
 * The middle of a picture. A spare pixel that is odd goes where Python's `round` sends it, or, as
 * transformers has it, always down.
 *
 * @param {import('./pillow.js').Picture} picture
 * @param {[number, number]} size
 * @param {boolean} down
 */
export function cropped(picture, [height, width], down) {
  const place = (all, part) => {
    const spare = Math.max(all - part, 0);
    return down ? Math.floor(spare / 2) : halfToEven(spare / 2);
  };
  const top = place(picture.height, height);
  const left = place(picture.width, width);
  const values = new Uint8ClampedArray(height * width * 4);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * picture.width + left) * 4;
    values.set(picture.values.subarray(start, start + width * 4), y * width * 4);
  }
  return { ...picture, height, width, values };
}
