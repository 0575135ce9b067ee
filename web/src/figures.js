// Sizes, times and probabilities as text. The spaces of percentages do not break, because they stand at the end of lines.

/** @param {number} bytes */
export function megabytes(bytes) {
  const value = bytes / 1e6;
  if (value > 0 && value < 0.1) return '< 0.1 MB';
  return `${value.toFixed(value < 100 ? 1 : 0)} MB`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 0.01) return '< 0.01 s';
  return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
}

/** Three significant digits, but no more than two decimals. @param {number} probability */
export function percent(probability) {
  const value = probability * 100;
  if (value > 0 && value < 0.01) return '<\u00a00.01\u00a0%';
  return `${value.toFixed(value < 10 ? 2 : 1)}\u00a0%`;
}
