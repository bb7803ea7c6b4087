/**
 * SHA-256 (FIPS 180-4) of what comes piece by piece: the platform's own takes only the whole at once, which a film is too long for. Where the
 * whole is there the platform is asked, on pages where it answers.
 */

const BLOCK_BYTES = 64;

/** The first 32 bits behind the point of the roots of the first primes (§4.2.2, §5.3.3). */
const PRIMES = /** @type {number[]} */ ([]);
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime !== 0)) PRIMES.push(n);
const fraction = (/** @type {number} */ root) => ((root % 1) * 2 ** 32) | 0;
const ROUNDS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const INITIAL = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));

/** Takes bytes in any portions and gives their hash, once. */
export class Sha256 {
  #state = INITIAL.slice();
  #schedule = new Int32Array(64);
  /** What is there of the next block. */
  #block = new Uint8Array(BLOCK_BYTES);
  #length = 0;

  /** @param {Uint8Array} bytes @returns {this} */
  update(bytes) {
    const filled = this.#length % BLOCK_BYTES;
    this.#length += bytes.length;
    let offset = 0;
    if (filled > 0) {
      offset = Math.min(BLOCK_BYTES - filled, bytes.length);
      this.#block.set(bytes.subarray(0, offset), filled);
      if (filled + offset < BLOCK_BYTES) return this;
      this.#compress(this.#block, 0);
    }
    for (; offset + BLOCK_BYTES <= bytes.length; offset += BLOCK_BYTES) this.#compress(bytes, offset);
    this.#block.set(bytes.subarray(offset));
    return this;
  }

  /** The hash, 32 bytes; after this the object is of no more use. @returns {Uint8Array} */
  digest() {
    const length = this.#length;
    const padding = new Uint8Array(BLOCK_BYTES - ((length + 8) % BLOCK_BYTES) + 8);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(length / 2 ** 29));
    view.setUint32(padding.length - 4, (length % 2 ** 29) * 8);
    this.update(padding);
    const hash = new DataView(new ArrayBuffer(32));
    this.#state.forEach((word, i) => hash.setInt32(4 * i, word));
    return new Uint8Array(hash.buffer);
  }

  /** @param {Uint8Array} bytes @param {number} offset of the block */
  #compress(bytes, offset) {
    const w = this.#schedule;
    for (let t = 0, at = offset; t < 16; t++, at += 4) {
      w[t] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let t = 16; t < 64; t++) {
      const x = w[t - 15];
      const y = w[t - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[t] = (w[t - 16] + s0 + w[t - 7] + s1) | 0;
    }
    const state = this.#state;
    // Taking an array apart goes through its iterator, which is slow.
    let { 0: a, 1: b, 2: c, 3: d, 4: e, 5: f, 6: g, 7: h } = state;
    for (let t = 0; t < 64; t++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + (g ^ (e & (f ^ g))) + ROUNDS[t] + w[t]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }
}

/** The hash of bytes that are all there. @param {Uint8Array} bytes @returns {Promise<Uint8Array>} */
export async function sha256(bytes) {
  // A page that is not from https or localhost has data channels, and no `subtle`.
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return new Sha256().update(bytes).digest();
  return new Uint8Array(await subtle.digest("SHA-256", /** @type {BufferSource} */ (bytes)));
}
