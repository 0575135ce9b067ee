// The licences of the bundled packages, as one text.

import { readFile } from 'node:fs/promises';

/** Bundled packages, and the files with their licences. */
const BUNDLED = [
  // The npm packages contain no licence file. This one is from the source repository.
  { names: ['onnxruntime-web', 'onnxruntime-common'], text: 'licenses/onnxruntime.txt' },
  { names: ['@huggingface/tokenizers'], text: 'node_modules/@huggingface/tokenizers/LICENSE' },
  { names: ['entities'], text: 'node_modules/entities/LICENSE' },
];

/**
 * @param {URL} here The folder of package.json.
 * @returns {Promise<string>}
 */
export async function licences(here) {
  const read = (path) => readFile(new URL(path, here), 'utf8');
  const parts = ['This page is part of clip-onnx (Apache-2.0). It bundles:'];
  for (const { names, text } of BUNDLED) {
    for (const name of names) {
      const { version, license } = JSON.parse(await read(`node_modules/${name}/package.json`));
      parts.push(`${name} ${version} (${license})`);
    }
    parts.push((await read(text)).trim());
  }
  parts.push(
    'ThirdPartyNotices.txt in the source repository of ONNX Runtime lists the third-party code in its WebAssembly.',
  );
  return `${parts.join('\n\n')}\n`;
}
