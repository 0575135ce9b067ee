// The part that computes, off the page's own thread: what takes seconds must not freeze the page.

import { Classifier } from './model/classifier.js';

/** The exported folder: this file is in its demo/. */
const root = new URL('../', import.meta.url);

/** @type {Classifier | undefined} */
let classifier;

const say = (text, share) => postMessage({ progress: { text, share } });

const ACTIONS = {
  async open() {
    classifier = await Classifier.open(root);
    return classifier.about();
  },
  classify: ({ photo, sentences }) => classifier.classify(photo, sentences, say),
};

/** One after another, in the order in which they come. */
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
