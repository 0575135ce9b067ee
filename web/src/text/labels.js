// From the text in the label box to labels and sentences.

import { Problem } from '../problem.js';

/**
 * Lines that are not blank, without duplicates.
 *
 * @param {string} text
 * @returns {string[]}
 */
export function labelsOf(text) {
  const labels = text.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (labels.length === 0) throw new Problem('There are no labels.', 'Type at least one. Each label has its own line.');
  return [...new Set(labels)];
}

/**
 * @param {string[]} labels
 * @param {string} template
 * @returns {string[]}
 */
export function sentencesOf(labels, template) {
  if (!template.includes('{}')) {
    throw new Problem('The sentence has no {} for the label.', 'Example: a photo of a {}');
  }
  return labels.map((label) => template.replaceAll('{}', () => label));
}
