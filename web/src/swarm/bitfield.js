/** Which pieces of a file somebody has: a bit for each, the first one highest, as on the wire. */

import { fromBase64, toBase64 } from "../bytes.js";

export class Bitfield {
  #bytes;
  #count = 0;

  /** With no bit set. @param {number} length */
  constructor(length) {
    this.length = length;
    this.#bytes = new Uint8Array(Math.ceil(length / 8));
  }

  /** With every bit set. @param {number} length */
  static full(length) {
    const bits = new Bitfield(length);
    for (let i = 0; i < length; i++) bits.set(i);
    return bits;
  }

  /** Throws where `text` is not what `toString` gives for that length. @param {string} text @param {number} length */
  static parse(text, length) {
    const bytes = fromBase64(text);
    const bits = new Bitfield(length);
    if (bytes.length !== bits.#bytes.length) throw new RangeError(`${bytes.length} bytes for ${length} pieces`);
    for (let i = 0; i < 8 * bytes.length; i++) {
      if (!(bytes[i >> 3] & (0x80 >> (i & 7)))) continue;
      if (i >= length) throw new RangeError(`piece ${i} of ${length}`);
      bits.set(i);
    }
    return bits;
  }

  /** How many bits are set. */
  get count() {
    return this.#count;
  }

  /** @param {number} i @returns {boolean} */
  has(i) {
    return (this.#bytes[i >> 3] & (0x80 >> (i & 7))) !== 0;
  }

  /** Whether that changed anything. @param {number} i @returns {boolean} */
  set(i) {
    if (this.has(i)) return false;
    this.#bytes[i >> 3] |= 0x80 >> (i & 7);
    this.#count++;
    return true;
  }

  /** Whether that changed anything. @param {number} i @returns {boolean} */
  clear(i) {
    if (!this.has(i)) return false;
    this.#bytes[i >> 3] &= ~(0x80 >> (i & 7));
    this.#count--;
    return true;
  }

  toString() {
    return toBase64(this.#bytes);
  }
}
