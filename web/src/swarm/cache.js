/**
 * The pieces that were fetched, in memory or in the browser's Cache Storage, within one bound for all downloads of a swarm. A pinned piece
 * stays: somebody has not read it yet. The others serve other peers, and go when there is need of room, those first that were not asked for
 * the longest time.
 *
 * Room is reserved when a piece is asked of a peer, so that what is under way counts as well.
 */

import { failure } from "../codes.js";

/** Caches of this origin that belong to a swarm begin so; behind it is the swarm's own name. */
const NAME = "switchboard.swarm.";

/**
 * Where the bytes are kept.
 * @typedef {object} Shelf
 * @property {(key: string, bytes: Uint8Array) => Promise<void>} put
 * @property {(key: string) => Promise<Uint8Array | undefined>} get
 * @property {(key: string) => void} delete
 * @property {() => void} close everything goes
 */

export class PieceCache {
  #shelf;
  #bytesMax;
  /** @type {Map<string, {bytes: number, pinned: boolean, dropped: () => void}>} what was asked for last is at the end */
  #entries = new Map();
  #bytes = 0;
  #reserved = 0;

  /** @param {Shelf} shelf @param {number} bytesMax */
  constructor(shelf, bytesMax) {
    this.#shelf = shelf;
    this.#bytesMax = bytesMax;
  }

  get bytesMax() {
    return this.#bytesMax;
  }

  /** What is kept, and what is reserved. */
  get bytes() {
    return this.#bytes + this.#reserved;
  }

  /**
   * Makes room for a piece, and says whether there is enough. Forced, it is given even so: a reader waits for that very piece, and
   * room comes from nowhere until it has it.
   * @param {number} bytes
   * @param {{force?: boolean}} [options]
   * @returns {boolean}
   */
  reserve(bytes, { force = false } = {}) {
    for (const [key, { pinned, dropped }] of this.#entries) {
      if (this.bytes + bytes <= this.#bytesMax) break;
      if (pinned) continue;
      this.delete(key);
      dropped();
    }
    if (!force && this.bytes + bytes > this.#bytesMax) return false;
    this.#reserved += bytes;
    return true;
  }

  /** Gives back room that is not needed after all. @param {number} bytes */
  unreserve(bytes) {
    this.#reserved -= bytes;
  }

  /**
   * Keeps a piece, pinned, in room that was reserved for it. Rejects with `storage` when the browser does not take it; the room is given
   * back then.
   * @param {string} key
   * @param {Uint8Array} bytes
   * @param {() => void} dropped called when it had to make room for others
   */
  async put(key, bytes, dropped) {
    try {
      await this.#shelf.put(key, bytes);
    } catch (cause) {
      throw failure("storage", "the browser keeps no more", { cause });
    } finally {
      this.#reserved -= bytes.length;
    }
    this.delete(key, { keep: true });
    this.#entries.set(key, { bytes: bytes.length, pinned: true, dropped });
    this.#bytes += bytes.length;
  }

  /** Undefined for what is not there, or no longer. @param {string} key @returns {Promise<Uint8Array | undefined>} */
  async get(key) {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return this.#shelf.get(key);
  }

  /** From now on a piece may not go. @param {string} key */
  pin(key) {
    const entry = this.#entries.get(key);
    if (entry) entry.pinned = true;
  }

  /** From now on a piece may go. @param {string} key */
  unpin(key) {
    const entry = this.#entries.get(key);
    if (entry) entry.pinned = false;
  }

  /** @param {string} key @param {{keep?: boolean}} [options] `keep`: the bytes on the shelf are others by now */
  delete(key, { keep = false } = {}) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    if (!keep) this.#shelf.delete(key);
  }

  close() {
    this.#entries.clear();
    this.#bytes = 0;
    this.#shelf.close();
  }
}

/** Keeps pieces in memory. @returns {Shelf} */
export function memory() {
  /** @type {Map<string, Uint8Array>} */
  const pieces = new Map();
  return {
    put: async (key, bytes) => void pieces.set(key, bytes),
    get: async (key) => pieces.get(key),
    delete: (key) => pieces.delete(key),
    close: () => pieces.clear(),
  };
}

/**
 * Keeps pieces in Cache Storage, in a cache of their own that ends with the swarm. A page that is closed or crashes leaves its cache behind;
 * the next swarm of that origin deletes it: a lock that lives as long as the page tells whose are still in use. Throws `unsupported` where
 * the browser has none (outside of https and localhost).
 * @param {string} name of this swarm, unlike any other's
 * @param {{caches?: CacheStorage, locks?: LockManager}} [platform]
 * @returns {Shelf}
 */
export function cacheStorage(name, { caches = globalThis.caches, locks = globalThis.navigator?.locks } = {}) {
  if (!caches || !locks) throw failure("unsupported", "this page has no Cache Storage");
  const own = NAME + name;
  let unlock = () => {};
  const opened = (async () => {
    await new Promise((resolve) => {
      const ended = new Promise((end) => (unlock = () => end(undefined)));
      locks.request(own, () => (resolve(undefined), ended)).catch(resolve);
    });
    for (const other of await caches.keys()) {
      if (other === own || !other.startsWith(NAME)) continue;
      await locks.request(other, { ifAvailable: true }, async (lock) => void (lock && (await caches.delete(other))));
    }
    return caches.open(own);
  })();
  // Whoever puts something hears of it.
  opened.catch(() => {});
  // Cache Storage is made for requests, so a piece has an address; nobody ever goes there.
  const address = (/** @type {string} */ key) => `https://swarm.invalid/${encodeURIComponent(key)}`;
  return {
    async put(key, bytes) {
      await (await opened).put(address(key), new Response(/** @type {BodyInit} */ (bytes)));
    },
    async get(key) {
      const response = await (await opened).match(address(key));
      return response && new Uint8Array(await response.arrayBuffer());
    },
    delete(key) {
      opened.then((cache) => cache.delete(address(key))).catch(() => {});
    },
    close() {
      opened
        .then(() => caches.delete(own))
        .catch(() => {})
        .finally(unlock);
    },
  };
}
