/** Numbers for people: bytes, bits per second, milliseconds, seconds. Takes the language, because 1.5 is 1,5 elsewhere. */

/** @param {number} value @param {string} language @param {number} [digits] */
function number(value, language, digits = 1) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: value >= 100 ? 0 : digits }).format(value);
}

/**
 * Scales by 1000 until the number is a short one.
 * @param {number} value
 * @param {readonly string[]} units
 * @param {string} language
 */
function scaled(value, units, language) {
  let unit = 0;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${number(value, language, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

/** `1.5 MB`. @param {number} value @param {string} language */
export function bytes(value, language) {
  return scaled(value, ["B", "kB", "MB", "GB", "TB"], language);
}

/** `640 kbit/s`. @param {number | undefined} value @param {string} language */
export function bitsPerSecond(value, language) {
  return value === undefined ? "–" : scaled(value, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"], language);
}

/** `12 ms`; a part of one as such. @param {number | undefined} value @param {string} language */
export function milliseconds(value, language) {
  return value === undefined ? "–" : `${number(value, language, value < 10 ? 1 : 0)} ms`;
}

/** `1:05`. @param {number} seconds */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
