// An exported folder as a zero-shot classifier.

import { decode } from '../pixels/decode.js';
import { fitted } from '../pixels/fit.js';
import { imageInput } from '../pixels/input.js';
import { Tokens } from '../text/tokens.js';
import { Problem } from '../problem.js';
import { get } from './files.js';
import { open } from './manifest.js';
import { probabilities } from './probabilities.js';
import { threads } from './runtime.js';
import { SessionError } from './tower.js';
import { openTowers } from './towers.js';

/** Texts per run. */
const BATCH = 8;

/** @typedef {(text: string, share?: number) => void} Say */

/**
 * @typedef {object} Loaded
 * @property {string} precision
 * @property {number} bytes
 * @property {number} seconds
 * @property {{precision: string, reason: string}[]} failed Smaller precisions for which no session could be created.
 * @property {number} threads
 */

export class Classifier {
  /**
   * Reads the manifest and the tokenizer. The towers are loaded with the first picture, so that a visit alone does
   * not cost hundreds of megabytes.
   *
   * @param {URL} root The exported folder.
   */
  static async open(root) {
    const folder = await open(root);
    let json;
    try {
      json = await (await get(root, folder.tokenizer.path)).json();
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Problem(`${folder.tokenizer.path} cannot be read: ${error.message}.`, 'Export the folder again.');
    }
    return new Classifier(root, folder, new Tokens(json, folder.config));
  }

  constructor(root, folder, tokens) {
    this.root = root;
    this.folder = folder;
    this.tokens = tokens;
    /** @type {Awaited<ReturnType<typeof openTowers>> | null} */
    this.towers = null;
    /** @type {Loaded | null} */
    this.loaded = null;
    this.#forget();
  }

  /** What the page shows of the model. */
  about() {
    const { config, choices, metadata } = this.folder;
    return {
      model: config.model,
      imageSize: config.vision_cfg.image_size,
      choices: choices.map(({ precision, bytes }) => ({ precision, bytes })),
      independent: metadata.logit_bias !== undefined,
      threads: threads(),
    };
  }

  /**
   * @param {{key: unknown, file: Blob, orient: boolean}} photo `key` identifies the picture. `orient`: apply the
   *     orientation tag.
   * @param {string[]} sentences
   * @param {string | undefined} precision Without one, what is loaded, or else the smallest that can be loaded.
   * @param {Say} say
   * @returns {Promise<{probabilities: number[], loaded: Loaded, seconds: number}>} Probabilities in the order of the
   *     sentences; seconds without loading.
   */
  async classify(photo, sentences, precision, say) {
    let seconds = 0;
    const timed = async (work) => {
      const started = performance.now();
      const result = await work();
      seconds += (performance.now() - started) / 1000;
      return result;
    };
    if (!this.#isLoaded(precision)) await this.#unload();
    // Before the towers are loaded: a file that is not an image should not cost a download.
    const pixels = await timed(() => this.#pixels(photo, say));
    if (!this.towers) await this.#load(precision, say);
    const found = await timed(async () => {
      const image = await this.#imageEmbedding(photo, pixels, say);
      const texts = await this.#textEmbeddings(sentences, say);
      return probabilities(image, texts, this.folder.metadata);
    });
    return { probabilities: found, loaded: this.loaded, seconds };
  }

  #isLoaded(precision) {
    return this.towers !== null && (precision === undefined || precision === this.loaded.precision);
  }

  /** Frees the towers, because two models at once may not fit into memory. */
  async #unload() {
    const { image, text } = this.towers ?? {};
    this.towers = null;
    this.#forget();
    await image?.close();
    await text?.close();
  }

  /** Embeddings of one precision are not comparable with those of another. */
  #forget() {
    /** Embeddings of the last texts. @type {Map<string, Float32Array>} */
    this.texts = new Map();
    /** The embedding of the last picture. @type {{key: unknown, orient: boolean, embedding: Float32Array} | null} */
    this.image = null;
  }

  async #load(precision, say) {
    const { choices } = this.folder;
    const wanted = precision === undefined ? choices : choices.filter((choice) => choice.precision === precision);
    const failed = [];
    for (const [n, choice] of wanted.entries()) {
      try {
        this.towers = await openTowers(this.root, choice, say);
        this.loaded = { ...this.towers.loaded, failed, threads: threads() };
        break;
      } catch (error) {
        const last = n === wanted.length - 1;
        if (last || !(error instanceof SessionError && error.specific)) throw error;
        failed.push({ precision: choice.precision, reason: error.reason });
      }
    }
  }

  #isCached({ key, orient }) {
    return this.image?.key === key && this.image.orient === orient;
  }

  /** Pixels at the size of the image tower, or null where its embedding is cached. */
  async #pixels(photo, say) {
    if (this.#isCached(photo)) return null;
    say('Decoding the picture');
    return fitted(await decode(photo.file, photo.orient), this.folder.config);
  }

  async #imageEmbedding(photo, pixels, say) {
    if (this.#isCached(photo)) return this.image.embedding;
    say('Running the image tower');
    const tower = this.towers.image;
    const [embedding] = await tower.run([imageInput(pixels, this.folder.config.preprocess_cfg, tower.input)]);
    this.image = { key: photo.key, orient: photo.orient, embedding };
    return embedding;
  }

  async #textEmbeddings(sentences, say) {
    const missing = sentences.filter((sentence) => !this.texts.has(sentence));
    const rows = missing.map((sentence) => this.tokens.row(sentence));
    const now = new Map(sentences.map((sentence) => [sentence, this.texts.get(sentence)]));
    for (let start = 0; start < rows.length; start += BATCH) {
      say('Running the text tower', start / rows.length);
      const part = rows.slice(start, start + BATCH).map((data) => ({ dims: [1, data.length], data }));
      const found = await this.towers.text.run(part);
      found.forEach((embedding, n) => now.set(missing[start + n], embedding));
    }
    this.texts = now;
    return sentences.map((sentence) => now.get(sentence));
  }
}
