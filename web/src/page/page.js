// The page: takes a picture and labels, asks the worker, shows what it says. It is a classic script, so that
// it runs, and can say what is wrong, where the page was opened as a file.

import { labelsOf, sentencesOf } from '../text/labels.js';
import { Link } from './link.js';
import { onPicture } from './pictures.js';
import * as view from './view.js';

const FROM_FILE = {
  message: 'This page was opened as a file; browsers let such pages load nothing.',
  hint: 'In the exported folder, run: python3 -m http.server and open http://localhost:8000',
};

const { form, labels, template, orient } = view.parts;

/** Tells one picture from another, so that it is looked at once. */
let pictures = 0;
/** @type {{key: number, file: File} | null} */
let photo = null;
let ready = false;
/** Whether the worker is at something, and whether it is to start over after that. */
let working = false;
let again = false;

/** @param {Link} link */
async function compare(link) {
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
  const started = performance.now();
  try {
    const found = await link.ask('classify', { photo: { ...photo, orient: orient.checked }, sentences });
    view.showResult(names, found);
    view.showStatus(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  } catch (problem) {
    view.showProblem(problem);
    view.showStale();
    view.showStatus('');
  }
  working = false;
  view.showProgress(false);
  if (again) {
    again = false;
    await compare(link);
  }
}

async function start() {
  const script = new URL('worker.js', document.currentScript.src);
  const link = new Link(script, (text, share) => {
    view.showStatus(text, share);
    view.showProgress(true, share);
  });
  form.hidden = false;
  view.showProblem(null);
  view.allow(false);

  onPicture(view.parts, (file) => {
    photo = { key: ++pictures, file };
    view.showPicture(file);
    view.showStale();
    compare(link);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (photo) compare(link);
    else view.showProblem({ message: 'There is no picture yet.', hint: 'Choose one, or drop one onto the page.' });
  });
  form.addEventListener('input', view.showStale);
  orient.addEventListener('change', () => compare(link));
  labels.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

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
  await compare(link);
}

if (location.protocol === 'file:') view.showProblem(FROM_FILE);
else start();
