/** From counters that only grow to rates, and the last minute of a value. Pure: is told the time. */

/** How many samples are kept; at one a second, a minute. */
export const SAMPLES_MAX = 60;

/** Bits per second, from bytes that are counted. */
export class Meter {
  /** @type {{bytes: number, atMs: number} | undefined} */
  #before;

  /**
   * The rate since the sample before; undefined for the first one, and where the counter began anew, as it does with another connection.
   * @param {number | undefined} bytes
   * @param {number} atMs
   * @returns {number | undefined}
   */
  sample(bytes, atMs) {
    const before = this.#before;
    this.#before = bytes === undefined ? undefined : { bytes, atMs };
    if (bytes === undefined || !before || bytes < before.bytes || atMs <= before.atMs) return undefined;
    return ((bytes - before.bytes) * 8 * 1_000) / (atMs - before.atMs);
  }
}

/**
 * The series with one more value; the oldest makes way.
 * @param {readonly (number | undefined)[]} series
 * @param {number | undefined} value
 * @returns {(number | undefined)[]}
 */
export function extended(series, value) {
  return [...series, value].slice(-SAMPLES_MAX);
}

/**
 * The smallest of 1, 2 and 5, times a power of ten, that is not below: so the scale of a plot changes seldom.
 * @param {number} value
 * @returns {number}
 */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 10 * power;
}

/**
 * The path of a line through the values, for SVG: the newest at the right edge, the top of the field being `max`. A value that is missing is a gap.
 * @param {readonly (number | undefined)[]} series
 * @param {{width: number, height: number, max: number}} field
 * @returns {string}
 */
export function pathOf(series, { width, height, max }) {
  const step = width / (SAMPLES_MAX - 1);
  const first = SAMPLES_MAX - series.length;
  let path = "";
  let pen = false;
  series.forEach((value, i) => {
    if (value === undefined) return (pen = false);
    const x = ((first + i) * step).toFixed(1);
    const y = (height - (Math.min(value, max) / max) * height).toFixed(1);
    // A single point between two gaps is a short line, or nothing would be seen of it.
    path += pen ? `L${x} ${y}` : `M${x} ${y}h0.1`;
    pen = true;
  });
  return path;
}
