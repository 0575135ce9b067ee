// What a visitor types, as sentences.

import { Problem } from '../problem.js';

/**
 * Lines that hold something, each once.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function labelsOf(text) {
  const labels = text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (labels.length === 0) throw new Problem('There are no labels.', 'Type at least one, each on a line of its own.');
  return [...new Set(labels)];
}

/**
 * @param {string[]} labels
 * @param {string} template
 * @returns {string[]}
 */
export function sentencesOf(labels, template) {
  if (!template.includes('{}')) {
    throw new Problem('The sentence has no {} for the label.', 'Write it as in: a photo of a {}');
  }
  return labels.map((label) => template.replaceAll('{}', () => label));
}
