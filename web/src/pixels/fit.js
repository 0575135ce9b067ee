// Resizes and crops a picture to the size of the image tower, by the rule of the model.

import { Problem } from '../problem.js';
import { pillow } from './pillow.js';
import { tensorflow } from './tensorflow.js';

/** Largest length after resizing. Only the middle of it is used, so more would waste memory. */
const LONGEST = 1 << 16;

/**
 * @param {import('./pillow.js').Picture} picture
 * @param {object} config `config` of the manifest.
 * @returns {import('./pillow.js').Picture}
 */
export function fitted(picture, config) {
  const cfg = config.preprocess_cfg;
  const code = cfg.code ?? config.dialect;
  const size = config.vision_cfg.image_size;
  const { height, width } = picture;
  if (cfg.resize_mode === 'none' && cfg.crop === false && (height !== size[0] || width !== size[1])) {
    throw new Problem(
      `The picture has ${width} x ${height} pixels, and this model does not resize pictures.`,
      `Make it ${size[1]} x ${size[0]} pixels first.`,
    );
  }
  const { scaled, filter } = target(picture, size, cfg, code);
  if (Math.max(...scaled) > LONGEST) {
    throw new Problem(`The picture has ${width} x ${height} pixels, which is too long and narrow to resize.`, 'Crop it first.');
  }
  // open_clip converts to RGB after resizing, so alpha has an effect on resizing.
  const rgb = code === 'transformers' ? overWhite(picture) : code === 'open_clip' ? picture : { ...picture, alpha: false };
  const resized = cfg.antialias ? pillow(rgb, scaled, filter) : tensorflow(rgb, scaled);
  return cropped(resized, size, code === 'transformers', cfg.fill_color ?? [0, 0, 0]);
}

/**
 * The size of a picture before the centre crop, and the filter.
 *
 * @param {{height: number, width: number}} picture
 * @param {[number, number]} size Of the image tower.
 * @param {object} cfg `preprocess_cfg` of the manifest.
 * @param {'original' | 'open_clip' | 'transformers'} code The library whose rules are used.
 */
export function target({ height, width }, size, cfg, code) {
  const to = cfg.resize_to ?? size;
  const filter = cfg.interpolation;
  const byRatio = (of) => {
    const ratio = of(height / to[0], width / to[1]);
    return [height, width].map((n) => Math.max(halfToEven(n / ratio), 1));
  };
  if (cfg.resize_mode === 'none') return { scaled: [height, width], filter };
  if (cfg.resize_mode === 'longest') return { scaled: byRatio(Math.max), filter };
  if (cfg.resize_mode !== 'shortest') return { scaled: to, filter };
  if (to[0] === to[1]) return { scaled: shortest([height, width], to[0], cfg.longest_edge), filter };
  // For sizes that are not square open_clip always uses bicubic.
  return { scaled: byRatio(Math.min), filter: code === 'open_clip' ? 'bicubic' : filter };
}

/**
 * The shorter side becomes `side`, and the longer one is in proportion, rounded down. If that is more than `most`, the
 * longer one becomes about `most`, as in transformers.
 */
function shortest([height, width], side, most) {
  const [short, long] = height < width ? [height, width] : [width, height];
  const at = (side, long) => (height < width ? [side, long] : [long, side]);
  if (most === undefined || (long / short) * side <= most) return at(side, Math.floor((side * long) / short));
  const raw = (most * short) / long;
  const rounded = Math.max(halfToEven(raw), 1);
  return short === rounded ? [height, width] : at(rounded, Math.max(Math.trunc((raw * long) / short), 1));
}

/** Composites a picture over white, with the arithmetic of Pillow's `alpha_composite`. */
function overWhite(picture) {
  if (!picture.alpha) return picture;
  const values = new Uint8ClampedArray(picture.values);
  for (let at = 0; at < values.length; at += 4) {
    const alpha = values[at + 3];
    for (let c = at; c < at + 3; c++) {
      const sum = (values[c] * alpha + 255 * (255 - alpha)) * 128 + 0x4000;
      values[c] = ((sum >> 8) + sum) >> 15;
    }
    values[at + 3] = 255;
  }
  return { ...picture, values, alpha: false };
}

/** Rounds half to even, as Python's `round`. */
export function halfToEven(x) {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/**
 * The centre crop of a picture, padded where the picture is smaller. Half pixels of the offset are rounded to even, as
 * in torchvision, or down, as in transformers.
 *
 * @param {import('./pillow.js').Picture} picture
 * @param {[number, number]} size
 * @param {boolean} down
 * @param {[number, number, number]} fill Red, green and blue.
 */
export function cropped(picture, [height, width], down, fill = [0, 0, 0]) {
  // Offset in the source, offset in the result, and the length.
  const place = (all, part) => {
    // An odd pixel of padding is before the picture in transformers, and behind it in torchvision.
    if (all < part) return [0, Math.floor((part - all + (down ? 1 : 0)) / 2), all];
    const spare = all - part;
    return [down ? Math.floor(spare / 2) : halfToEven(spare / 2), 0, part];
  };
  const [top, y, rows] = place(picture.height, height);
  const [left, x, columns] = place(picture.width, width);
  const values = new Uint8ClampedArray(height * width * 4);
  for (let at = 0; at < values.length; at += 4) values.set([...fill, 255], at);
  for (let row = 0; row < rows; row++) {
    const start = ((top + row) * picture.width + left) * 4;
    values.set(picture.values.subarray(start, start + columns * 4), ((y + row) * width + x) * 4);
  }
  return { ...picture, height, width, values };
}
