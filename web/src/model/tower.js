// One exported file, loaded and run.

import { Problem } from '../problem.js';
import { load } from './files.js';
import { ort } from './runtime.js';

/** Tensors of these types are made here. */
const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array };

/** Which output is the embedding. Others are whole sequences, or maps. */
const EMBEDDING = /embed|pooler_output/;

export class Tower {
  /**
   * @param {URL} root
   * @param {import('./layout.js').TowerFile} file
   * @param {(text: string, share?: number) => void} say
   * @returns {Promise<Tower>}
   */
  static async open(root, file, say) {
    const bytes = (one) => load(root, one, (share) => say(`Loading ${one.path}`, share));
    const model = await bytes(file);
    const externalData = [];
    for (const data of file.data) {
      externalData.push({ path: data.path.slice(data.path.lastIndexOf('/') + 1), data: await bytes(data) });
    }
    say(`Preparing ${file.path}`);
    try {
      // Errors alone: a mask that may be left out is worth a warning to it.
      const options = { externalData, logSeverityLevel: 3 };
      return new Tower(file.path, await ort.InferenceSession.create(model, options));
    } catch (error) {
      throw new Problem(
        `${file.path} cannot be run by this browser: ${error.message ?? error}.`,
        'If memory ran out, export in a smaller precision: clip-onnx export ... --precision int8',
      );
    }
  }

  /**
   * @param {string} path
   * @param {import('onnxruntime-web').InferenceSession} session
   */
  constructor(path, session) {
    this.path = path;
    this.session = session;
    if (session.inputMetadata.length !== 1) {
      throw new Problem(`${path} takes ${session.inputNames.join(', ')}; this page gives one input.`);
    }
    this.input = session.inputMetadata[0];
    const outputs = session.outputMetadata.filter((output) => output.shape.length === 2);
    this.output = (outputs.find((output) => EMBEDDING.test(output.name)) ?? outputs[0])?.name;
    if (!(this.input.type in ARRAYS) || !this.output) {
      throw new Problem(`${path} takes ${this.input.type} and gives ${session.outputNames.join(', ')}: not a tower.`);
    }
    const rows = this.input.shape[0];
    /** Rows it takes at once, where that is fixed. */
    this.fixed = typeof rows === 'number' && rows > 0 ? rows : null;
  }

  /**
   * Embeddings of as many rows; each has the shape and the values of one.
   *
   * @param {{dims: number[], data: ArrayLike<number>}[]} rows
   * @returns {Promise<Float32Array[]>}
   */
  async run(rows) {
    const batch = this.fixed ?? rows.length;
    const out = [];
    for (let start = 0; start < rows.length; start += batch) {
      out.push(...(await this.#batch(rows.slice(start, start + batch), batch)));
    }
    return out;
  }

  async #batch(rows, size) {
    const each = rows[0].data.length;
    const data = new ARRAYS[this.input.type](size * each);
    for (let n = 0; n < size; n++) {
      // A fixed batch is filled up with the last row.
      const { data: row } = rows[Math.min(n, rows.length - 1)];
      data.set(data instanceof BigInt64Array ? Array.from(row, BigInt) : row, n * each);
    }
    const tensor = new ort.Tensor(this.input.type, data, [size, ...rows[0].dims.slice(1)]);
    const found = await this.session.run({ [this.input.name]: tensor }, [this.output]);
    const { dims, data: values } = found[this.output];
    tensor.dispose();
    const width = dims[1];
    return rows.map((_, n) => {
      const row = Float32Array.from(values.subarray(n * width, (n + 1) * width));
      if (!row.every(Number.isFinite)) throw new Problem(`${this.path} gives an embedding that is no number.`);
      return row;
    });
  }
}
