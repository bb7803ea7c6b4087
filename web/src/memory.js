/**
 * Remembers by which door a server was reached where the preferred one stayed shut, so that nobody waits for that again; for a while, counted from
 * when both were last tried.
 */

/** Networks change, and servers are mended. */
const REMEMBERED_MS = 10 * 60 * 1_000;

const key = (/** @type {string | URL} */ baseUrl) => `switchboard.door ${new URL(baseUrl).host}`;

/** @param {string | URL} baseUrl @param {string} type of the transport */
export function remember(baseUrl, type) {
  try {
    localStorage.setItem(key(baseUrl), JSON.stringify({ type, until: Date.now() + REMEMBERED_MS }));
  } catch {
    // No storage, or none for this page: then the next attempt takes its time as well.
  }
}

/** @param {string | URL} baseUrl @returns {string | undefined} the type of the transport that is to be tried first */
export function recall(baseUrl) {
  try {
    const { type, until } = JSON.parse(localStorage.getItem(key(baseUrl)) ?? "");
    // A clock that was set back does not keep it for ever.
    return until > Date.now() && until <= Date.now() + REMEMBERED_MS ? type : undefined;
  } catch {
    return undefined;
  }
}
