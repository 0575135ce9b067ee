// Which files of a folder are towers, in any layout that an export writes.

/**
 * @typedef {{path: string, size?: number, role?: string, modality?: string, precision?: string, data?: string[]}} ListedFile
 * @typedef {{path: string, size?: number, precision: string, data: ListedFile[]}} TowerFile
 * @typedef {{precision: string, bytes?: number, image: TowerFile, text: TowerFile}} Choice
 */

/**
 * Names of towers where the manifest has no roles: `vision_model.onnx`, `onnx/vision_model_int8.onnx`,
 * `visual/model.onnx`, `visual.onnx`.
 */
const TOWERS = {
  image: /^(?:.*\/)?(?:vision_model|visual\/model|visual)(_\w+)?\.onnx$/,
  text: /^(?:.*\/)?(?:text_model|textual\/model|textual)(_\w+)?\.onnx$/,
};
/** External data has this name in every layout, because the model file refers to it by name. */
const WEIGHTS = { image: 'vision_model', text: 'text_model' };
/** Precisions by the suffix of a file name. Others are named like their suffix. */
const SUFFIXES = { '': 'fp32', _fp16w: 'fp16-weights', _int8w: 'int8-weights', _q4: 'int4', _q4f16: 'int4-fp16' };

/**
 * Towers of one modality, in the order of the manifest.
 *
 * @param {ListedFile[]} files Those of the manifest.
 * @param {'image' | 'text'} kind
 * @returns {TowerFile[]}
 */
export function towersIn(files, kind) {
  const listed = files.filter((file) => file.role === 'tower' && file.modality === kind);
  if (listed.length > 0) {
    return listed.map(({ path, size, precision, data }) => {
      return { path, size, precision: precision ?? 'fp32', data: files.filter((file) => data?.includes(file.path)) };
    });
  }
  return files.flatMap(({ path, size }) => {
    const match = TOWERS[kind].exec(path);
    if (!match) return [];
    const suffix = match[1] ?? '';
    const place = path.slice(0, path.lastIndexOf('/') + 1);
    const names = [`${place}${WEIGHTS[kind]}${suffix}.onnx_data`, `${path}_data`];
    const data = files.filter((file) => names.includes(file.path));
    return [{ path, size, precision: SUFFIXES[suffix] ?? suffix.slice(1), data }];
  });
}

/**
 * The pairs of towers to choose from, the smallest first. Pairs of unknown size come last, with fp32 before others.
 *
 * @param {ListedFile[]} files Those of the manifest.
 * @returns {Choice[]} Empty where a tower is missing.
 */
export function choicesIn(files) {
  const [images, texts] = [towersIn(files, 'image'), towersIn(files, 'text')];
  const pairs = images.flatMap((image) => {
    const text = texts.find(({ precision }) => precision === image.precision);
    return text ? [choice(image.precision, image, text)] : [];
  });
  if (pairs.length > 0) return pairs.sort(bySize);
  // No precision has both towers: of each tower the smallest file.
  const [image] = images.sort(bySize);
  const [text] = texts.sort(bySize);
  return image && text ? [choice(`${image.precision}, ${text.precision}`, image, text)] : [];
}

const choice = (precision, image, text) => ({ precision, bytes: bytesOf(image, text), image, text });

/** Bytes of towers and their external data; `undefined` where the size of a file is unknown. */
function bytesOf(...towers) {
  const sizes = towers.flatMap((tower) => [tower, ...tower.data]).map(({ size }) => size);
  return sizes.includes(undefined) ? undefined : sizes.reduce((sum, size) => sum + size, 0);
}

function bySize(a, b) {
  const size = (one) => ('bytes' in one ? one.bytes : bytesOf(one)) ?? Infinity;
  const rank = (one) => (one.precision === 'fp32' ? 0 : 1);
  // Infinity minus itself is NaN, which is falsy like 0.
  return size(a) - size(b) || rank(a) - rank(b);
}

/**
 * The entry of tokenizer.json, in whichever subfolder the layout puts it.
 *
 * @param {ListedFile[]} files
 * @returns {ListedFile | null}
 */
export const tokenizerIn = (files) => files.find((file) => /(^|\/)tokenizer\.json$/.test(file.path)) ?? null;
