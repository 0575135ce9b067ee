// Elements of the page, and changes to them.

import { duration, megabytes, percent } from '../figures.js';

const of = (id) => document.getElementById(id);

export const parts = {
  form: of('form'),
  file: of('file'),
  drop: of('drop'),
  labels: of('labels'),
  template: of('template'),
  orient: of('orient'),
  precision: of('precision'),
  sample: of('sample'),
};

/** @param {{message: string, hint?: string} | null} problem */
export function showProblem(problem) {
  of('problem').hidden = !problem;
  of('problem-message').textContent = problem?.message ?? '';
  of('problem-hint').textContent = problem?.hint ?? '';
}

/** @param {string} text */
export function showStatus(text) {
  // Screen readers read each change aloud, so there is none while the text is the same.
  if (of('status').textContent !== text) of('status').textContent = text;
}

/**
 * @param {boolean} working
 * @param {number} [share] From 0 to 1, where it is known.
 */
export function showProgress(working, share) {
  const progress = of('progress');
  progress.hidden = !working;
  if (share === undefined) progress.removeAttribute('value');
  else progress.value = share;
  of('share').textContent = working && share !== undefined ? `${Math.floor(share * 100)} %` : '';
}

/** @param {boolean} able */
export const allow = (able) => {
  of('go').disabled = !able;
};

export function showModel({ model, imageSize: [height, width], choices, independent, threads }) {
  of('about').textContent = `${model}, ${height} x ${width} pixels. It runs in this browser. Pictures stay on this device.`;
  of('note').textContent = independent
    ? 'Each label has a probability of its own. They do not sum to 100 %.'
    : 'The probabilities sum to 100 %.';
  document.title = `${model}: what does this picture show?`;
  parts.precision.replaceChildren(
    ...choices.map(({ precision, bytes }) =>
      new Option(bytes === undefined ? precision : `${precision} (${megabytes(bytes)})`, precision)),
  );
  of('precision-setting').hidden = choices.length < 2;
  showThreads(threads);
  of('settings').hidden = false;
}

function showThreads(threads) {
  const hint = globalThis.crossOriginIsolated ? '' : ': serve with COOP and COEP headers for more';
  of('threads').textContent = threads === 1 ? `1 thread${hint}` : `${threads} threads`;
}

/** @param {import('../model/classifier.js').Loaded} loaded */
export function showLoaded({ precision, bytes, seconds, failed, threads }) {
  parts.precision.value = precision;
  for (const { precision } of failed) {
    const option = [...parts.precision.options].find(({ value }) => value === precision);
    if (option && !option.disabled) {
      option.disabled = true;
      option.text += ', cannot be run here';
    }
  }
  of('fallback').hidden = failed.length === 0;
  of('fallback').textContent = failed
    .map((one) => `${one.precision} cannot be run in this browser, so ${precision} was loaded (${one.reason}).`)
    .join(' ');
  showThreads(threads);
  const text = of('loaded');
  text.textContent = `Loaded ${precision}, ${megabytes(bytes)}, in ${duration(seconds)}`;
  Object.assign(text.dataset, { precision, bytes: String(bytes) });
}

/** @param {File} file */
export function showPicture(file) {
  const preview = /** @type {HTMLImageElement} */ (of('preview'));
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `The chosen picture, ${file.name}`;
  preview.hidden = false;
  // The worker reports the problem when it decodes the file.
  preview.onerror = () => {
    preview.hidden = true;
  };
  of('file-name').textContent = file.name;
}

/** The preview shows what the model gets. */
export const showOrientation = () => of('preview').classList.toggle('as-stored', !parts.orient.checked);

/** Marks the result as out of date. */
export const showStale = () => of('result').classList.add('stale');

/**
 * @param {string[]} labels
 * @param {number[]} probabilities
 * @param {number} seconds
 */
export function showResult(labels, probabilities, seconds) {
  const ranked = labels.map((label, n) => ({ label, p: probabilities[n] })).sort((a, b) => b.p - a.p);
  of('bars').replaceChildren(...ranked.map(bar));
  of('ran').textContent = `Ran in ${duration(seconds)}`;
  of('result').classList.remove('stale');
  of('result').hidden = false;
  showStatus(`Done. Highest probability: ${ranked[0].label}, ${percent(ranked[0].p)}`);
}

/** On a phone the result is below the screen. */
export function scrollToResult() {
  if (!matchMedia('(max-width: 40rem), (max-height: 30rem)').matches) return;
  const reduced = matchMedia('(prefers-reduced-motion: reduce)').matches;
  of('result').scrollIntoView({ behavior: reduced ? 'instant' : 'smooth', block: 'start' });
}

function bar({ label, p }) {
  const make = (name, text = '') => {
    const span = document.createElement('span');
    span.className = name;
    span.textContent = text;
    return span;
  };
  const row = document.createElement('li');
  const fill = make('fill');
  fill.style.width = `${p * 100}%`;
  const text = make('text');
  text.append(make('label', label), make('share', percent(p)));
  row.append(fill, text);
  // All digits, for tests and for the tooltip.
  Object.assign(row.dataset, { label, probability: String(p) });
  row.title = String(p);
  return row;
}
