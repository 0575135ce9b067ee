// From a resized picture to the input tensor of the image tower.

/** Whether the shape is NHWC, as of `--image uint8`, and not NCHW. */
const isChannelsLast = (shape) => {
  const channels = (axis) => shape[axis] === 3 || shape[axis] === 'channels';
  return shape.length === 4 && channels(3) && !channels(1);
};

/**
 * One row of the input of the image tower.
 *
 * @param {import('./pillow.js').Picture} picture At the size of the tower.
 * @param {{mean: number[], std: number[], rescale_factor?: number}} cfg
 * @param {{type: string, shape: (number | string)[]}} input Metadata of the tower's input.
 * @returns {{dims: number[], data: Float32Array | Uint8Array}}
 */
export function imageInput({ height, width, values }, cfg, input) {
  const area = height * width;
  const last = isChannelsLast(input.shape);
  // The graph itself scales bytes.
  const bytes = input.type === 'uint8';
  const tables = [0, 1, 2].map((c) => (bytes ? null : table(cfg.mean[c], cfg.std[c], cfg.rescale_factor)));
  const data = bytes ? new Uint8Array(area * 3) : new Float32Array(area * 3);
  for (let at = 0; at < area; at++) {
    for (let c = 0; c < 3; c++) {
      const value = values[at * 4 + c];
      data[last ? at * 3 + c : c * area + at] = bytes ? value : tables[c][value];
    }
  }
  return { dims: last ? [1, height, width, 3] : [1, 3, height, width], data };
}

/** The input value of each of the 256 bytes, computed in float32 as by the tool. */
function table(mean, std, factor) {
  const f32 = Math.fround;
  const scaled = (byte) => f32(factor === undefined ? byte / 255 : byte * f32(factor));
  return Float32Array.from({ length: 256 }, (_, byte) => f32(f32(scaled(byte) - f32(mean)) / f32(std)));
}
