// Pictures to classify: those of the repository's tests, and larger ones that the browser draws.

import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const pixels = fileURLToPath(new URL('../../../tests/pixels/', import.meta.url));

/** Pictures of a folder. */
export async function photosIn(folder) {
  const names = (await readdir(folder)).filter((name) => /\.(png|jpe?g|webp)$/i.test(name)).sort();
  return names.map((name) => join(folder, name));
}

/**
 * @param {import('puppeteer-core').Browser} browser
 * @param {string} scratch
 */
export async function defaultPhotos(browser, scratch) {
  const page = await browser.newPage();
  await mkdir(scratch, { recursive: true });
  const drawn = [];
  for (const [name, type, turned] of [['drawn.png', 'image/png'], ['drawn.jpg', 'image/jpeg'], ['turned.jpg', 'image/jpeg', true]]) {
    let bytes = Buffer.from(await page.evaluate(draw, type), 'base64');
    if (turned) bytes = Buffer.concat([bytes.subarray(0, 2), EXIF, bytes.subarray(2)]);
    drawn.push(join(scratch, name));
    await writeFile(drawn.at(-1), bytes);
  }
  await page.close();
  return [...(await photosIn(pixels)), ...drawn];
}

/** Says that the picture lies on its side, which is not to be followed. */
const EXIF = Buffer.from([
  0xff, 0xe1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, 0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1,
  0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0,
]);

/** Runs in the page: some soft and some sharp things. */
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
