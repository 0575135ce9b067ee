// A folder, ready to say what a picture shows.

import { decode } from '../pixels/decode.js';
import { fitted } from '../pixels/fit.js';
import { imageInput } from '../pixels/input.js';
import { Tokens } from '../text/tokens.js';
import { Problem } from '../problem.js';
import { get } from './files.js';
import { open } from './manifest.js';
import { probabilities } from './probabilities.js';
import { Tower } from './tower.js';

/** Sentences that are run at once. */
const BATCH = 8;

/** @typedef {(text: string, share?: number) => void} Say */

export class Classifier {
  /**
   * Everything but the towers, which are loaded when they are needed first.
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
    /** @type {Partial<Record<'image' | 'text', Tower>>} */
    this.towers = {};
    /** Embeddings of the last sentences. @type {Map<string, Float32Array>} */
    this.texts = new Map();
    /** The last picture's. @type {{key: unknown, orient: boolean, embedding: Float32Array} | null} */
    this.image = null;
  }

  /** What the page tells of the model. */
  about() {
    const { config, image, text } = this.folder;
    const size = (file) => [file, ...file.data].reduce((sum, { size }) => sum + (size ?? 0), 0);
    return {
      model: config.model,
      family: config.family,
      dialect: config.dialect,
      imageSize: config.vision_cfg.image_size,
      precision: image.precision === text.precision ? image.precision : `${image.precision}, ${text.precision}`,
      bytes: size(image) + size(text),
      independent: this.folder.metadata.logit_bias !== undefined,
    };
  }

  /**
   * @param {{key: unknown, file: Blob, orient: boolean}} photo `key` tells one from another; whether it is turned as
   *     its file says.
   * @param {string[]} sentences
   * @param {Say} say
   * @returns {Promise<number[]>} Probabilities, in the order of the sentences.
   */
  async classify(photo, sentences, say) {
    // The picture first: what cannot be decoded is told before much is loaded.
    const image = await this.#imageEmbedding(photo, say);
    const texts = await this.#textEmbeddings(sentences, say);
    return probabilities(image, texts, this.folder.metadata);
  }

  async #tower(kind, say) {
    this.towers[kind] ??= await Tower.open(this.root, this.folder[kind], say);
    return this.towers[kind];
  }

  async #imageEmbedding({ key, file, orient }, say) {
    if (this.image?.key === key && this.image.orient === orient) return this.image.embedding;
    say('Reading the picture');
    const { config } = this.folder;
    const picture = fitted(await decode(file, orient), config);
    const tower = await this.#tower('image', say);
    say('Looking at the picture');
    const [embedding] = await tower.run([imageInput(picture, config.preprocess_cfg, tower.input)]);
    this.image = { key, orient, embedding };
    return embedding;
  }

  async #textEmbeddings(sentences, say) {
    const missing = sentences.filter((sentence) => !this.texts.has(sentence));
    const rows = missing.map((sentence) => this.tokens.row(sentence));
    const now = new Map(sentences.map((sentence) => [sentence, this.texts.get(sentence)]));
    if (rows.length > 0) {
      const tower = await this.#tower('text', say);
      for (let start = 0; start < rows.length; start += BATCH) {
        say('Reading the labels', start / rows.length);
        const part = rows.slice(start, start + BATCH).map((data) => ({ dims: [1, data.length], data }));
        const found = await tower.run(part);
        found.forEach((embedding, n) => now.set(missing[start + n], embedding));
      }
    }
    this.texts = now;
    return sentences.map((sentence) => now.get(sentence));
  }
}
