/** How long to wait before trying again: full jitter, so that many who lost the same server do not come back in step. */

/** The first wait is at most so long, and each that follows at most twice as long as the one before, */
const FIRST_MS = 250;
/** up to this. */
const LONGEST_MS = 30_000;

/**
 * Between nothing and a bound that doubles with every attempt.
 * @param {number} attempt 0 for the first
 * @param {() => number} [random] from 0 to 1
 * @returns {number} milliseconds
 */
export function backoffMs(attempt, random = Math.random) {
  return random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
}
