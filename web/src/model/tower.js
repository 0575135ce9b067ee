// One exported file: its session, and runs of it.

import { Problem } from '../problem.js';
import { load } from './files.js';
import { ort } from './runtime.js';

/** Array types by the type of the input tensor. */
const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array };

/** Names of the output with the embedding. Other outputs are token or patch sequences. */
const EMBEDDING = /embed|pooler_output/;

/** Errors that a larger file would give too: the runtime did not start, or memory ran out. */
const GENERAL = /no available backend|out of memory|bad_alloc|allocation failed|abort/i;

/** ONNX Runtime cannot create a session for a file. */
export class SessionError extends Problem {
  /**
   * @param {string} path
   * @param {string} reason
   */
  constructor(path, reason) {
    super(
      `${path} cannot be run in this browser: ${reason}.`,
      'Choose another precision, or export one: clip-onnx export ... --precision int8,fp16',
    );
    this.reason = reason;
    /** Whether another file may work. */
    this.specific = !GENERAL.test(reason);
  }
}

export class Tower {
  /**
   * @param {URL} root
   * @param {import('./layout.js').TowerFile} file
   * @param {(bytes: number) => void} progress Called with the number of new bytes.
   * @returns {Promise<Tower>}
   */
  static async open(root, file, progress) {
    const model = await load(root, file, progress);
    const externalData = [];
    for (const data of file.data) {
      const path = data.path.slice(data.path.lastIndexOf('/') + 1);
      externalData.push({ path, data: await load(root, data, progress) });
    }
    let session;
    try {
      // Errors only: ONNX Runtime warns of inputs of nodes that are unused, which is harmless.
      session = await ort.InferenceSession.create(model, { externalData, logSeverityLevel: 3 });
    } catch (error) {
      throw new SessionError(file.path, String(error.message ?? error).trim().replace(/\.$/, ''));
    }
    return new Tower(file.path, session);
  }

  /**
   * @param {string} path
   * @param {import('onnxruntime-web').InferenceSession} session
   */
  constructor(path, session) {
    this.path = path;
    this.session = session;
    if (session.inputMetadata.length !== 1) {
      throw new Problem(`${path} has the inputs ${session.inputNames.join(', ')}; this page supports one input.`);
    }
    this.input = session.inputMetadata[0];
    const outputs = session.outputMetadata.filter((output) => output.shape.length === 2);
    this.output = (outputs.find((output) => EMBEDDING.test(output.name)) ?? outputs[0])?.name;
    if (!(this.input.type in ARRAYS) || !this.output) {
      const names = session.outputNames.join(', ');
      throw new Problem(`${path} is not a tower: its input is ${this.input.type}, and its outputs are ${names}.`);
    }
    const rows = this.input.shape[0];
    /** The batch size, where the file has a fixed one. */
    this.fixed = typeof rows === 'number' && rows > 0 ? rows : null;
  }

  /** Frees the memory of the session. */
  close() {
    return this.session.release();
  }

  /**
   * Embeddings of rows. All rows have the same shape.
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
      // The last row fills up a fixed batch.
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
      if (!row.every(Number.isFinite)) {
        throw new Problem(`${this.path} gives an embedding with NaN or infinite values.`, 'Choose another precision.');
      }
      return row;
    });
  }
}
