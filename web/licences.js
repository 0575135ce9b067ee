// The licences of what is bundled, in one text.

import { readFile } from 'node:fs/promises';

/** What is bundled, under which licence, and where its text is. */
const BUNDLED = [
  // Its packages carry no text of their own; this is the one of its source repository.
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
    "What ONNX Runtime's WebAssembly is built from in turn is listed in ThirdPartyNotices.txt of its source repository.",
  );
  return `${parts.join('\n\n')}\n`;
}
