// Embeddings to probabilities, with the checkpoint's own scale and bias.

import { Problem } from '../problem.js';

/** Cosine of the angle between two embeddings, normalised or not. */
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
 * How likely a picture shows what each sentence says: of CLIP one of them does, so they sum to one; of
 * SigLIP, which has a bias, each is by itself.
 *
 * @param {Float32Array} image
 * @param {Float32Array[]} texts
 * @param {Record<string, string>} metadata The manifest's.
 * @returns {number[]}
 */
export function probabilities(image, texts, metadata) {
  const number = (key) => (metadata[key] === undefined ? NaN : Number(metadata[key]));
  const scale = number('logit_scale_exp');
  const bias = number('logit_bias');
  if (Number.isNaN(scale)) {
    throw new Problem('The manifest has no logit_scale_exp, without which cosines are no probabilities.');
  }
  const scaled = texts.map((text) => scale * cosine(image, text));
  if (!Number.isNaN(bias)) return scaled.map((logit) => 1 / (1 + Math.exp(-(logit + bias))));
  const most = Math.max(...scaled);
  const parts = scaled.map((logit) => Math.exp(logit - most));
  const all = parts.reduce((sum, part) => sum + part, 0);
  return parts.map((part) => part / all);
}
