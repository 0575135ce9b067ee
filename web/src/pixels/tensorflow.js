// TensorFlow's bilinear resizing without antialiasing, which SigLIP was trained with.

const f32 = Math.fround;

/**
 * Results are rounded down to bytes. Without antialiasing, downscaling ignores most source pixels. All arithmetic is
 * float32, as in TensorFlow.
 *
 * @param {import('./pillow.js').Picture} picture
 * @param {[number, number]} size Height and width.
 * @returns {import('./pillow.js').Picture}
 */
export function tensorflow(picture, [height, width]) {
  const { values } = picture;
  const rows = taps(picture.height, height);
  const columns = taps(picture.width, width);
  const out = new Uint8ClampedArray(height * width * 4);
  let to = 0;
  for (const [top, bottom, dy] of rows) {
    for (const [left, right, dx] of columns) {
      const at = (y, x) => (y * picture.width + x) * 4;
      for (let c = 0; c < 3; c++) {
        const above = between(values[at(top, left) + c], values[at(top, right) + c], dx);
        const below = between(values[at(bottom, left) + c], values[at(bottom, right) + c], dx);
        out[to + c] = Math.trunc(between(above, below, dy));
      }
      out[to + 3] = 255;
      to += 4;
    }
  }
  return { height, width, values: out, alpha: false };
}

const between = (a, b, share) => f32(a + f32(f32(b - a) * share));

/** For each new pixel, the two source pixels around it, and the weight of the second. */
function taps(from, to) {
  const scale = f32(from / to);
  return Array.from({ length: to }, (_, at) => {
    const place = f32(f32(f32(at + 0.5) * scale) - 0.5);
    const low = Math.floor(place);
    const within = (n) => Math.min(Math.max(n, 0), from - 1);
    return [within(low), within(low + 1), f32(place - low)];
  });
}
