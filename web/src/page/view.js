// What is on the page, and how it changes.

const of = (id) => document.getElementById(id);

export const parts = {
  form: of('form'),
  file: of('file'),
  drop: of('drop'),
  labels: of('labels'),
  template: of('template'),
  orient: of('orient'),
};

/** @param {{message: string, hint?: string} | null} problem */
export function showProblem(problem) {
  of('problem').hidden = !problem;
  of('problem-message').textContent = problem?.message ?? '';
  of('problem-hint').textContent = problem?.hint ?? '';
}

/**
 * @param {string} text
 * @param {number} [share] From 0 to 1, where it is known.
 */
export function showStatus(text, share) {
  const percent = share === undefined ? '' : ` (${Math.floor(share * 100)} %)`;
  of('status').textContent = text + percent;
}

/** Whether something is being done, and how far it is. */
export function showProgress(working, share) {
  const progress = of('progress');
  progress.hidden = !working;
  if (share === undefined) progress.removeAttribute('value');
  else progress.value = share;
}

/** @param {boolean} able */
export const allow = (able) => {
  of('go').disabled = !able;
};

export function showModel({ model, imageSize: [height, width], precision, bytes, independent }) {
  const size = `${Math.round(bytes / 1e6)} MB`;
  of('about').textContent =
    `${model}, ${height} x ${width} pixels, ${precision}, ${size}, run in this browser. Pictures stay on this device.`;
  of('note').textContent = independent
    ? 'Each label is judged by itself: they need not sum to 100 %.'
    : 'One of the labels is taken to be right: they sum to 100 %.';
  document.title = `${model}: what does this picture show?`;
}

/** @param {File} file */
export function showPicture(file) {
  const preview = /** @type {HTMLImageElement} */ (of('preview'));
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `The chosen picture, ${file.name}`;
  preview.hidden = false;
  // What no browser shows is told of when it is decoded.
  preview.onerror = () => {
    preview.hidden = true;
  };
  of('file-name').textContent = file.name;
}

/** What is shown is not of what is typed any more. */
export const showStale = () => of('result').classList.add('stale');

/**
 * @param {string[]} labels
 * @param {number[]} probabilities
 */
export function showResult(labels, probabilities) {
  const ranked = labels.map((label, n) => ({ label, p: probabilities[n] })).sort((a, b) => b.p - a.p);
  of('bars').replaceChildren(...ranked.map(bar));
  of('result').classList.remove('stale');
  of('result').hidden = false;
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
  // All its digits, for who wants them.
  Object.assign(row.dataset, { label, probability: String(p) });
  row.title = String(p);
  return row;
}

/** Three digits that say something, down to a hundredth of a percent. */
function percent(p) {
  const value = p * 100;
  if (value > 0 && value < 0.01) return '< 0.01 %';
  return `${value.toFixed(value < 10 ? 2 : 1)} %`;
}
