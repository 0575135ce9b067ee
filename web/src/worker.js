// Loads and runs the model in a worker, because seconds of computation would freeze the page.

import { Classifier } from './model/classifier.js';

/** The exported folder. This file is in its demo/. */
const root = new URL('../', import.meta.url);

/** @type {Classifier | undefined} */
let classifier;

const say = (text, share) => postMessage({ progress: { text, share } });

const ACTIONS = {
  async open() {
    classifier = await Classifier.open(root);
    return classifier.about();
  },
  classify: ({ photo, sentences, precision }) => classifier.classify(photo, sentences, precision, say),
};

/** Requests run one at a time, in the order in which they arrive. */
let before = Promise.resolve();

onmessage = ({ data: { id, action, argument } }) => {
  before = before.then(async () => {
    try {
      postMessage({ id, result: await ACTIONS[action](argument) });
    } catch (error) {
      postMessage({ id, problem: { message: error.message ?? String(error), hint: error.hint ?? '' } });
    }
  });
};
