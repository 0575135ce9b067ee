// transformers.js on a folder of layout `hf`, offline: embeddings of pictures and sentences as JSON.
//
//     npm install @huggingface/transformers
//     node scripts/check_layouts.mjs FOLDER clip|siglip request.json > embeddings.json
//     node scripts/check_layouts.mjs FOLDER pipeline request.json > probabilities.json     (of a combined model)
//
// request.json: {"images": [paths], "texts": [sentences]}.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";

const require = createRequire(path.join(process.cwd(), "package.json"));
const t = await import(pathToFileURL(require.resolve("@huggingface/transformers")));
const [folder, kind, request] = process.argv.slice(2);
const { images, texts } = JSON.parse(fs.readFileSync(request, "utf8"));
t.env.allowRemoteModels = false;
t.env.localModelPath = path.dirname(path.resolve(folder));
const name = path.basename(path.resolve(folder));
const options = { dtype: "fp32", local_files_only: true };
if (kind === "pipeline") {
  const classify = await t.pipeline("zero-shot-image-classification", name, options);
  const found = [];
  for (const image of images) found.push(await classify(image, texts, { hypothesis_template: "This is a photo of {}" }));
  console.log(JSON.stringify({ images: found }));
  process.exit(0);
}
const [Text, Vision] = kind === "clip"
  ? [t.CLIPTextModelWithProjection, t.CLIPVisionModelWithProjection]
  : [t.SiglipTextModel, t.SiglipVisionModel];
const out = kind === "clip" ? ["text_embeds", "image_embeds"] : ["pooler_output", "pooler_output"];
const tokenizer = await t.AutoTokenizer.from_pretrained(name, options);
const textModel = await Text.from_pretrained(name, options);
const processor = await t.AutoProcessor.from_pretrained(name, options);
const visionModel = await Vision.from_pretrained(name, options);
const result = { texts: [], images: [] };
for (const text of texts) {
  const inputs = tokenizer([text], { padding: "max_length", truncation: true });
  result.texts.push(Array.from((await textModel(inputs))[out[0]].data));
}
for (const image of images) {
  const inputs = await processor(await t.RawImage.read(image));
  result.images.push(Array.from((await visionModel(inputs))[out[1]].data));
}
console.log(JSON.stringify(result));
