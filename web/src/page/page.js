// Script of the page: takes a picture and labels, asks the worker, and shows the result. It is a classic script, because
// browsers do not run modules on a page that was opened as a file, and then it could not show the cause.

import { labelsOf, sentencesOf } from '../text/labels.js';
import { Link } from './link.js';
import { fillSampleLabels, onPicture, samplePicture } from './pictures.js';
import * as view from './view.js';

const FROM_FILE = {
  message: 'This page was opened as a file. Browsers do not let such pages load models.',
  hint: 'In the exported folder, run: python3 -m http.server and open http://localhost:8000',
};

const NO_PICTURE = {
  message: 'There is no picture yet.',
  hint: 'Choose one, drop one onto the page, or use the sample picture.',
};

const { form, labels, template, orient, precision, sample } = view.parts;
const demo = new URL('./', document.currentScript.src);

/** Identifies the picture, so that the worker can keep its embedding. */
let pictures = 0;
/** @type {{key: number, file: File} | null} */
let photo = null;
let ready = false;
/** The precision that the visitor has chosen. @type {string | undefined} */
let chosen;
/** Whether a request is running, and whether the inputs have changed since it was sent. */
let working = false;
let again = false;

/** @param {Link} link */
async function run(link) {
  if (!photo || !ready) return;
  if (working) {
    again = true;
    return;
  }
  view.showProblem(null);
  let names;
  let sentences;
  try {
    names = labelsOf(labels.value);
    sentences = sentencesOf(names, template.value);
  } catch (problem) {
    view.showProblem(problem);
    return;
  }
  working = true;
  view.showProgress(true);
  try {
    const request = { photo: { ...photo, orient: orient.checked }, sentences, precision: chosen };
    const { probabilities, loaded, seconds } = await link.ask('classify', request);
    view.showLoaded(loaded);
    view.showResult(names, probabilities, seconds);
    // A result that is out of date in a moment is not worth moving the page.
    if (!again) view.scrollToResult();
  } catch (problem) {
    view.showProblem(problem);
    view.showStale();
    view.showStatus('');
  }
  working = false;
  view.showProgress(false);
  if (again) {
    again = false;
    await run(link);
  }
}

async function start() {
  const link = new Link(new URL('worker.js', demo), (text, share) => {
    view.showStatus(text);
    view.showProgress(true, share);
  });
  form.hidden = false;
  view.showProblem(null);
  view.allow(false);

  const take = (file) => {
    photo = { key: ++pictures, file };
    view.showPicture(file);
    view.showStale();
    run(link);
  };
  onPicture(view.parts, take);
  sample.addEventListener('click', async () => {
    try {
      const file = await samplePicture(new URL('sample.png', demo));
      fillSampleLabels(labels);
      take(file);
    } catch (error) {
      const message = `The sample picture cannot be loaded (${error.message}).`;
      view.showProblem({ message, hint: 'Is the web server still running?' });
    }
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (photo) run(link);
    else view.showProblem(NO_PICTURE);
  });
  form.addEventListener('input', view.showStale);
  orient.addEventListener('change', () => {
    view.showOrientation();
    run(link);
  });
  precision.addEventListener('change', () => {
    chosen = precision.value;
    run(link);
  });
  labels.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  view.showOrientation();

  try {
    view.showModel(await link.ask('open'));
  } catch (problem) {
    view.showProblem(problem);
    form.hidden = true;
    return;
  }
  ready = true;
  view.allow(true);
  view.showStatus('Ready. The model is loaded with the first picture.');
  await run(link);
}

if (location.protocol === 'file:') view.showProblem(FROM_FILE);
else start();
