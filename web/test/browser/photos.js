// Pictures to classify: those of the repository's tests, and larger ones that are drawn in the browser.

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';

const pixels = fileURLToPath(new URL('../../../tests/pixels/', import.meta.url));

/** Paths of the pictures in a folder. */
export async function photosIn(folder) {
  const names = (await readdir(folder)).filter((name) => /\.(png|jpe?g|webp)$/i.test(name)).sort();
  return names.map((name) => join(folder, name));
}

/**
 * The pictures of the pixel tests and drawn ones. Those named "turned" have an orientation tag.
 *
 * @param {import('puppeteer-core').Browser} browser
 * @param {string} scratch
 */
export async function defaultPhotos(browser, scratch) {
  const page = await browser.newPage();
  await mkdir(scratch, { recursive: true });
  const [png, jpeg] = await Promise.all(
    ['image/png', 'image/jpeg'].map(async (type) => Buffer.from(await page.evaluate(draw, type), 'base64')),
  );
  await page.close();
  const files = {
    'drawn.png': png,
    'drawn.jpg': jpeg,
    'turned.png': withPngTag(png, TURNED),
    'turned.jpg': withJpegTag(jpeg, TURNED),
    'mirrored_turned.png': withPngTag(png, MIRRORED),
  };
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(scratch, name), bytes);
  return [...(await photosIn(pixels)), ...Object.keys(files).map((name) => join(scratch, name))];
}

export const isTurned = (photo) => photo.includes('turned.');

/** Values of the tag: turn by 90 degrees clockwise; mirror, then turn. */
const [TURNED, MIRRORED] = [6, 5];

/** Exif data with an orientation tag alone. */
const exif = (value) =>
  Buffer.from([0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, value, 0, 0, 0, 0, 0, 0]);

function withJpegTag(jpeg, value) {
  const body = Buffer.concat([Buffer.from('Exif\0\0'), exif(value)]);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(body.length + 2);
  return Buffer.concat([jpeg.subarray(0, 2), Buffer.from([0xff, 0xe1]), length, body, jpeg.subarray(2)]);
}

function withPngTag(png, value) {
  const body = Buffer.concat([Buffer.from('eXIf'), exif(value)]);
  const numbers = Buffer.alloc(8);
  numbers.writeUInt32BE(body.length - 4);
  numbers.writeUInt32BE(crc32(body), 4);
  // Behind the header, which is 8 bytes of signature and 25 of IHDR.
  return Buffer.concat([png.subarray(0, 33), numbers.subarray(0, 4), body, numbers.subarray(4), png.subarray(33)]);
}

/** Runs in the page. Draws a smooth gradient and sharp rectangles. */
async function draw(type) {
  const canvas = new OffscreenCanvas(641, 428);
  const context = canvas.getContext('2d');
  const sky = context.createLinearGradient(0, 0, 200, 428);
  sky.addColorStop(0, '#2b5fa8');
  sky.addColorStop(0.6, '#e9c9a1');
  sky.addColorStop(1, '#3c5a2e');
  context.fillStyle = sky;
  context.fillRect(0, 0, 641, 428);
  for (let n = 0; n < 60; n++) {
    context.fillStyle = `hsl(${n * 47} 70% ${30 + (n % 5) * 10}%)`;
    context.fillRect((n * 97) % 641, (n * 61) % 428, 5 + (n % 7) * 9, 3 + (n % 11) * 6);
  }
  const blob = await canvas.convertToBlob({ type, quality: 0.9 });
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}
