// What the browser asked the network for on the page's behalf, by its own log.

import { readFile } from 'node:fs/promises';

/** Flags with which Chromium writes the log, and finds no other host. */
export const flags = (log) => [`--log-net-log=${log}`, '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'];

/**
 * Addresses that pages and workers of `origin` asked for. What the browser does for itself is left out.
 *
 * @param {string} log Written when the browser was closed.
 * @param {string} origin
 * @returns {Promise<string[]>}
 */
export async function askedBy(log, origin) {
  const { constants, events } = JSON.parse(await readFile(log, 'utf8'));
  const start = constants.logEventTypes.URL_REQUEST_START_JOB;
  return events
    .filter(({ type, params }) => type === start && params?.initiator === origin && params.url)
    .map(({ params }) => params.url);
}
