// Draws src/page/sample.png, the picture of "Use a sample picture": a red circle on a pale ground.
//
//   node sample.js
//
// The file is committed, because the compressed bytes depend on the version of zlib in Node. A unit test compares its
// pixels with this drawing.

import { writeFile } from 'node:fs/promises';
import { crc32, deflateSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';

export const [WIDTH, HEIGHT] = [320, 240];

const GROUND = [226, 230, 236];
const RED = [214, 44, 44];
const CENTRE = [168, 118];
const RADIUS = 78;
/** Samples per pixel along each axis, for smooth edges. */
const SAMPLES = 4;

/** Rows of a PNG: a filter byte of 0, then red, green and blue of each pixel. */
export function drawn() {
  const rows = Buffer.alloc(HEIGHT * (1 + WIDTH * 3));
  let at = 0;
  for (let y = 0; y < HEIGHT; y++) {
    at++;
    for (let x = 0; x < WIDTH; x++) {
      const covered = coverage(x, y);
      for (let c = 0; c < 3; c++) rows[at++] = Math.round(GROUND[c] + (RED[c] - GROUND[c]) * covered);
    }
  }
  return rows;
}

/** The share of a pixel that is inside the circle. */
function coverage(x, y) {
  let inside = 0;
  for (let n = 0; n < SAMPLES * SAMPLES; n++) {
    const dx = x + ((n % SAMPLES) + 0.5) / SAMPLES - CENTRE[0];
    const dy = y + (Math.floor(n / SAMPLES) + 0.5) / SAMPLES - CENTRE[1];
    if (dx * dx + dy * dy <= RADIUS * RADIUS) inside++;
  }
  return inside / SAMPLES ** 2;
}

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

function png() {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(WIDTH, 0);
  header.writeUInt32BE(HEIGHT, 4);
  // 8 bits per channel, red, green and blue.
  header.set([8, 2], 8);
  const start = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const data = chunk('IDAT', deflateSync(drawn(), { level: 9 }));
  return Buffer.concat([start, chunk('IHDR', header), data, chunk('IEND', Buffer.alloc(0))]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(new URL('src/page/sample.png', import.meta.url), png());
}
