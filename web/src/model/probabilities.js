// From embeddings to probabilities, with the scale and the bias of the checkpoint.

import { Problem } from '../problem.js';

/** Cosine similarity of two embeddings, which need not be normalised. */
export function cosine(a, b) {
  let [ab, aa, bb] = [0, 0, 0];
  for (let n = 0; n < a.length; n++) {
    ab += a[n] * b[n];
    aa += a[n] * a[n];
    bb += b[n] * b[n];
  }
  return ab / Math.max(Math.sqrt(aa * bb), 1e-300);
}

/**
 * Probabilities of the texts for an image. CLIP has a softmax over all texts, so they sum to 1. SigLIP has a bias and a
 * sigmoid for each text, so they are independent.
 *
 * @param {Float32Array} image
 * @param {Float32Array[]} texts
 * @param {Record<string, string>} metadata Of the manifest.
 * @returns {number[]}
 */
export function probabilities(image, texts, metadata) {
  const number = (key) => (metadata[key] === undefined ? NaN : Number(metadata[key]));
  const scale = number('logit_scale_exp');
  const bias = number('logit_bias');
  if (Number.isNaN(scale)) {
    throw new Problem('The manifest has no logit_scale_exp, which probabilities are computed with.', 'Export the folder again.');
  }
  const scaled = texts.map((text) => scale * cosine(image, text));
  if (!Number.isNaN(bias)) return scaled.map((logit) => 1 / (1 + Math.exp(-(logit + bias))));
  const most = Math.max(...scaled);
  const parts = scaled.map((logit) => Math.exp(logit - most));
  const all = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / all);
}
