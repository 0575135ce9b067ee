// Which of a folder's files are its towers, in any layout that an export writes.

/**
 * @typedef {{path: string, size?: number, role?: string, modality?: string, precision?: string, data?: string[]}} ListedFile
 * @typedef {{path: string, size?: number, precision: string, data: ListedFile[]}} TowerFile
 */

/** Of folders whose manifest does not say what files are for: `vision_model.onnx`, `onnx/vision_model_int8.onnx`, `visual/model.onnx`, `visual.onnx`. */
const TOWERS = {
  image: /^(.*\/)?(?:vision_model|visual\/model|visual)(_\w+)?\.onnx$/,
  text: /^(.*\/)?(?:text_model|textual\/model|textual)(_\w+)?\.onnx$/,
};
/** Weights keep the name the model knows them by, whatever the model's file is called. */
const WEIGHTS = { image: 'vision_model', text: 'text_model' };

/**
 * The tower in single precision where there is one, else the first.
 *
 * @param {ListedFile[]} files The manifest's.
 * @param {'image' | 'text'} kind
 * @returns {TowerFile | null}
 */
export function towerIn(files, kind) {
  const towers = files.filter((file) => file.role === 'tower' && file.modality === kind);
  const listed = towers.find((file) => file.precision === 'fp32') ?? towers[0];
  if (listed) {
    const data = files.filter((file) => listed.data?.includes(file.path));
    return { path: listed.path, size: listed.size, precision: listed.precision ?? 'fp32', data };
  }
  const found = files.flatMap((file) => {
    const match = TOWERS[kind].exec(file.path);
    return match ? [{ ...file, precision: match[2] ?? '' }] : [];
  });
  const tower = found.find((file) => file.precision === '') ?? found[0];
  if (!tower) return null;
  const folder = tower.path.slice(0, tower.path.lastIndexOf('/') + 1);
  const names = [`${folder}${WEIGHTS[kind]}${tower.precision}.onnx_data`, `${tower.path}_data`];
  const data = files.filter((file) => names.includes(file.path));
  return { ...tower, precision: tower.precision.slice(1) || 'fp32', data };
}

/**
 * Path of tokenizer.json, wherever the layout puts it.
 *
 * @param {ListedFile[]} files
 * @returns {ListedFile | null}
 */
export const tokenizerIn = (files) => files.find((file) => /(^|\/)tokenizer\.json$/.test(file.path)) ?? null;
