// By how much probabilities of the page and of the command-line tool may differ, by precision.

/**
 * Largest difference of probabilities, and of log odds, which are informative where all probabilities are close to 0.
 *
 * @param {Map<string, number>} expected
 * @param {Map<string, number>} found
 */
export function distance(expected, found) {
  const odds = (p) => Math.log(p) - Math.log1p(-p);
  const all = [...expected].map(([label, p]) => [p, found.get(label) ?? NaN]);
  const logs = all.map(([a, b]) => Math.abs(odds(a) - odds(b))).filter(Number.isFinite);
  return { probability: Math.max(...all.map(([a, b]) => Math.abs(a - b))), odds: Math.max(0, ...logs) };
}

/** The largest of several. */
export const widest = (distances) => ({
  probability: Math.max(...distances.map(({ probability }) => probability)),
  odds: Math.max(...distances.map(({ odds }) => odds)),
});

/**
 * The bound for pictures of equal pixels.
 *
 * fp32, fp16-weights and int8-weights are computed in float32 by both: `within`, and a hundred times that in log odds.
 *
 * fp16 and int4-fp16 round activations to float16, and int4 is dequantised in different ways. Engines place these
 * roundings differently. The bound allows a cosine to differ by one rounding of float16, 2^-11, and log odds by the
 * largest scale of a model, 100, times that. The slope of a probability by its log odds is at most 1/4. Measured: at most
 * 0.0093 in log odds between the page and tract, and 0.0093 between tract and native ONNX Runtime.
 *
 * int8 rounds activations to 8 bits by the range of each tensor. A difference of the last bit of float32 moves some to
 * the next step, so that engines agree to 1e-6 or differ by a part of the quantisation error, native ONNX Runtime and
 * tract too. The bound is the quantisation error itself: the distance of the tool's int8 from its fp32 on these
 * pictures. Where the folder has no fp32, only the label of the highest probability is compared.
 *
 * @param {string} precision
 * @param {number} within
 * @param {{probability: number, odds: number} | null} quantisation The tool's own distance from fp32.
 */
export function boundOf(precision, within, quantisation) {
  if (['fp32', 'fp16-weights', 'int8-weights'].includes(precision)) return { probability: within, odds: 100 * within };
  if (['fp16', 'int4', 'int4-fp16'].includes(precision)) {
    const odds = 100 * 2 ** -11;
    return { probability: odds / 4, odds };
  }
  return quantisation;
}

/**
 * @param {string} photo
 * @param {Map<string, number>} expected
 * @param {Map<string, number>} found
 * @param {{probability: number, odds: number} | null} bound
 */
export function verdict(photo, expected, found, bound) {
  const far = distance(expected, found);
  if (photo.endsWith('.png') && bound) {
    return far.probability <= bound.probability && far.odds <= bound.odds ? 'equal' : 'DIFFERS';
  }
  // Decoders of JPEG differ by a step or two of 255.
  const ranked = (map) => [...map].sort((a, b) => b[1] - a[1]);
  const [first, second] = ranked(expected);
  if (ranked(found)[0][0] === first[0]) return 'same top';
  return second && first[1] - second[1] <= 2 * far.probability ? 'top two too close' : 'OTHER TOP';
}
