/** What this tab remembers; nothing where the browser keeps nothing. */

/** @param {string} key */
export function stored(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

/** @param {string} key @param {string} value */
export function store(key, value) {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // Then it is not remembered.
  }
}
