// The manifest of an exported folder.

import { Problem } from '../problem.js';
import { get } from './files.js';
import { choicesIn, tokenizerIn, towersIn } from './layout.js';

/**
 * @typedef {object} Folder
 * @property {object} config Configuration of the model.
 * @property {Record<string, string>} metadata
 * @property {import('./layout.js').Choice[]} choices Pairs of towers, the smallest first; at least one.
 * @property {import('./layout.js').ListedFile} tokenizer
 */

/**
 * @param {URL} root The exported folder.
 * @returns {Promise<Folder>}
 */
export async function open(root) {
  const hint = 'Put this page into a folder that clip-onnx export wrote, beside its manifest.json.';
  const response = await get(root, 'manifest.json').catch((problem) => {
    throw new Problem(problem.message, hint);
  });
  let manifest;
  try {
    manifest = JSON.parse(await response.text());
  } catch (error) {
    throw new Problem(`manifest.json cannot be read: ${error.message}.`, hint);
  }
  return parsed(manifest);
}

/**
 * @param {object} manifest
 * @returns {Folder}
 */
export function parsed(manifest) {
  const { tool, config, metadata, files } = manifest;
  if (tool !== 'clip-onnx' || !config || !metadata || !Array.isArray(files)) {
    throw new Problem('manifest.json is not from clip-onnx.', 'Serve a folder that clip-onnx export wrote.');
  }
  if (config.vision_cfg?.model_type === 'naflexvit') {
    throw new Problem(
      `${config.model} is a NaFlex model, whose input is a variable number of patches. This page does not make patches.`,
      'Export it with a fixed image size: clip-onnx export ... --image-size 256',
    );
  }
  const choices = choicesIn(files);
  if (choices.length === 0) {
    const missing = towersIn(files, 'image').length > 0 ? 'text' : 'image';
    throw new Problem(`The folder has no ${missing} tower.`, 'Export the model again, with both towers.');
  }
  const tokenizer = tokenizerIn(files);
  if (!tokenizer) {
    throw new Problem(
      'The folder has no tokenizer.json, which turns labels into tokens.',
      "Export it again with the model's own: clip-onnx export ... --tokenizer tokenizer.json (--layout plain, hf or immich)",
    );
  }
  return { config, metadata, choices, tokenizer };
}
