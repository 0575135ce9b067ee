// What the exported folder says of itself.

import { Problem } from '../problem.js';
import { get } from './files.js';
import { tokenizerIn, towerIn } from './layout.js';

/**
 * @typedef {object} Folder
 * @property {object} config The model's configuration.
 * @property {Record<string, string>} metadata
 * @property {import('./layout.js').TowerFile} image
 * @property {import('./layout.js').TowerFile} text
 * @property {import('./layout.js').ListedFile} tokenizer
 */

/**
 * @param {URL} root The exported folder.
 * @returns {Promise<Folder>}
 */
export async function open(root) {
  const hint = 'This page belongs into a folder that clip-onnx export wrote, beside its manifest.json.';
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
    throw new Problem('manifest.json is not one of clip-onnx.', 'Serve a folder that clip-onnx export wrote.');
  }
  if (config.vision_cfg?.model_type === 'naflexvit') {
    throw new Problem(
      `${config.model} is a NaFlex model, which takes patches of any number; this page does not cut pictures into them.`,
      'Freeze it to one size: clip-onnx export ... --image-size 256',
    );
  }
  const image = towerIn(files, 'image');
  const text = towerIn(files, 'text');
  if (!image || !text) {
    throw new Problem(`The folder has no ${image ? 'text' : 'image'} tower.`, 'Export the model again, with both.');
  }
  const tokenizer = tokenizerIn(files);
  if (!tokenizer) {
    throw new Problem(
      'The folder has no tokenizer.json, without which labels cannot be read.',
      "Export it again with the model's own: clip-onnx export ... --tokenizer tokenizer.json (--layout plain, hf or immich)",
    );
  }
  return { config, metadata, image, text, tokenizer };
}
