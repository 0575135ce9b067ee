// Ways to give the page a picture: choose, drop or paste a file, or use the sample.

/** Labels that suit the sample picture. */
const SAMPLE_LABELS = ['red circle', 'blue circle', 'green square', 'yellow triangle', 'blue cross'];

/**
 * @param {{file: HTMLInputElement, drop: HTMLElement}} parts
 * @param {(file: File) => void} take
 */
export function onPicture({ file, drop }, take) {
  const first = (files) => files?.[0] && take(files[0]);
  file.addEventListener('change', () => {
    first(file.files);
    // Without this, choosing the same file again fires no event.
    file.value = '';
  });
  // On the whole page: a file dropped beside the frame would replace the page.
  addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  addEventListener('dragleave', () => drop.classList.remove('over'));
  addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    first(event.dataTransfer?.files);
  });
  addEventListener('paste', (event) => first(event.clipboardData?.files));
}

/**
 * @param {URL} url Of the sample picture.
 * @returns {Promise<File>}
 */
export async function samplePicture(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return new File([await response.blob()], 'sample.png', { type: 'image/png' });
}

/**
 * Fills in the labels of the sample where the visitor has typed none. The labels that the page starts with count as
 * none: they do not suit the sample.
 *
 * @param {HTMLTextAreaElement} labels
 */
export function fillSampleLabels(labels) {
  if (labels.value.trim() === '' || labels.value === labels.defaultValue) labels.value = SAMPLE_LABELS.join('\n');
}
