// Requests of the page, from the network log of Chromium.

import { readFile } from 'node:fs/promises';

/** Flags of Chromium: write the log, and resolve no other host. */
export const flags = (log) => [`--log-net-log=${log}`, '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'];

/**
 * Addresses that pages and workers of `origin` requested, without the requests of the browser itself.
 *
 * @param {string} log Complete once the browser has exited.
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
