// Ways a picture gets onto the page: chosen, dropped, pasted.

/**
 * @param {{file: HTMLInputElement, drop: HTMLElement}} parts
 * @param {(file: File) => void} take
 */
export function onPicture({ file, drop }, take) {
  const first = (files) => files?.[0] && take(files[0]);
  file.addEventListener('change', () => {
    first(file.files);
    // So that the same file can be chosen again.
    file.value = '';
  });
  // All over the page: what misses the frame would be opened instead of the page.
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
