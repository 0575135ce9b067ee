// Decodes a file to pixels with the decoders of the browser.

import { Problem } from '../problem.js';
import { withoutOrientation } from './orientation.js';
import { rawPixels } from './raw.js';

/** Pixels as stored: no colour profile, no multiplication by alpha, no orientation. */
const AS_STORED = { colorSpaceConversion: 'none', premultiplyAlpha: 'none', imageOrientation: 'none' };

/** Pixels of a picture, at most: the bound of the program, which is Pillow's. A canvas takes four bytes for each. */
const PIXELS = 178_956_970;

/** Bytes of a picture's file, at most. */
const BYTES = 512 * 2 ** 20;

/**
 * @param {Blob} file
 * @param {boolean} [orient] Apply the orientation tag. The models' own pipelines do not.
 * @returns {Promise<import('./pillow.js').Picture>}
 */
export async function decode(file, orient = false) {
  if (file.size > BYTES) throw tooLarge(`The picture's file has ${file.size} bytes`, BYTES);
  const bitmap = await bitmapOf(file, orient);
  const { width, height } = bitmap;
  if (width * height > PIXELS) {
    bitmap.close();
    throw tooLarge(`The picture has ${width} x ${height} pixels`, PIXELS);
  }
  try {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', { willReadFrequently: true, colorSpace: 'srgb' });
    context.imageSmoothingEnabled = false;
    context.globalCompositeOperation = 'copy';
    context.drawImage(bitmap, 0, 0);
    const values = context.getImageData(0, 0, width, height, { colorSpace: 'srgb' }).data;
    if (!isTransparent(values)) return { height, width, values, alpha: false };
    return { height, width, values: rawPixels(bitmap) ?? values, alpha: true };
  } catch (error) {
    throw new Problem(
      `The picture has ${width} x ${height} pixels, more than this browser can draw (${error.message}).`,
      'Make it smaller first.',
    );
  } finally {
    bitmap.close();
  }
}

const tooLarge = (what, most) => new Problem(`${what}; at most ${most} are read.`, 'Make it smaller first.');

async function bitmapOf(file, orient) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const stored = orient ? file : new Blob(withoutOrientation(bytes), { type: file.type });
  const options = orient ? { ...AS_STORED, imageOrientation: 'from-image' } : AS_STORED;
  try {
    return await createImageBitmap(stored, options);
  } catch (error) {
    // Some browsers do not support the option.
    if (error instanceof TypeError) {
      const { imageOrientation: _, ...others } = options;
      const bitmap = await createImageBitmap(stored, others).catch(() => null);
      if (bitmap) return bitmap;
    }
    throw new Problem(
      `${file.name || 'The file'} is not an image that this browser can decode.`,
      'Choose a JPEG, PNG, WebP, GIF or BMP.',
    );
  }
}

function isTransparent(values) {
  for (let at = 3; at < values.length; at += 4) if (values[at] !== 255) return true;
  return false;
}
