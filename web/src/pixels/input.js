// A picture at a tower's size as the numbers the tower takes.

/** Pixels before channels: float towers, and byte towers that were made so. */
const isChannelsLast = (shape) => {
  const channels = (axis) => shape[axis] === 3 || shape[axis] === 'channels';
  return shape.length === 4 && channels(3) && !channels(1);
};

/**
 * One picture's share of the image tower's input.
 *
 * @param {import('./pillow.js').Picture} picture At the tower's size.
 * @param {{mean: number[], std: number[], rescale_factor?: number}} cfg
 * @param {{type: string, shape: (number | string)[]}} input What the tower says of its input.
 * @returns {{dims: number[], data: Float32Array | Uint8Array}}
 */
export function imageInput({ height, width, values }, cfg, input) {
  const area = height * width;
  const last = isChannelsLast(input.shape);
  // Bytes are scaled inside the graph.
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

/** What each of the 256 bytes becomes, in 32 bits all along. */
function table(mean, std, factor) {
  const f32 = Math.fround;
  const scaled = (byte) => f32(factor === undefined ? byte / 255 : byte * f32(factor));
  return Float32Array.from({ length: 256 }, (_, byte) => f32(f32(scaled(byte) - f32(mean)) / f32(std)));
}
