/**
 * The pieces of one file that are here, and those who read them. Pieces come in any order, and wait in the cache until whoever reads from the
 * beginning has got so far; behind the last reader they may go. How far ahead pieces are wanted follows from where the slowest
 * reader is. Knows nothing about peers.
 */

import { Bitfield } from "./bitfield.js";
import { PIECES_AHEAD } from "./limits.js";
import { manifestKey, pieceLength, readPiece } from "./manifest.js";
import { failure } from "../codes.js";

/**
 * What is known of a file: at first without the hashes of its pieces.
 * @typedef {{share: import("./manifest.js").Share, root: string, hashes?: Uint8Array}} Chosen
 *
 * Where somebody reads. `isStream`: what is read next comes first. `isCheck`: the check of the whole, under that manifest alone.
 * @typedef {{at: number, isStream?: boolean, isCheck?: boolean, manifest?: Chosen}} Cursor
 */

export class Pieces {
  #cache;
  #moved;
  /** @type {Chosen | undefined} */
  #manifest;
  /** Begins the names of our pieces in the cache. */
  #key = "";
  #has = new Bitfield(0);
  /** @type {Blob | undefined} the file, where it is here as such */
  #blob;
  #isChecked = false;
  /** @type {Error | undefined} */
  #error;
  /** Stands for the first reader, until it comes. @type {Cursor | undefined} */
  #reserved = { at: 0 };
  /** @type {Set<Cursor>} */
  #cursors = new Set([/** @type {Cursor} */ (this.#reserved)]);
  #position = 0;
  #wake = () => {};
  #change = new Promise((resolve) => (this.#wake = () => resolve(undefined)));

  /**
   * @param {import("./cache.js").PieceCache} cache
   * @param {() => void} moved called when other pieces may be wanted than before
   */
  constructor(cache, moved) {
    this.#cache = cache;
    this.#moved = moved;
  }

  /** Which are here. */
  get bits() {
    return this.#has;
  }

  /** Whether all are, and the whole is what it should be. */
  get isWhole() {
    return this.#isChecked && this.#has.count === this.#has.length;
  }

  /** @returns {Blob | undefined} */
  get blob() {
    return this.#blob;
  }

  /** The first piece that somebody has still to read. */
  get position() {
    return this.#position;
  }

  /** The first that is too far ahead of the slowest reader to be kept. */
  get end() {
    if (!this.#manifest) return 0;
    const { pieceBytes, pieces } = this.#manifest.share;
    return Math.min(pieces, this.#position + Math.max(1, Math.floor(this.#cache.bytesMax / pieceBytes)));
  }

  /** What the readers of streams get next. @returns {number[]} */
  get ahead() {
    const pieces = [];
    for (const { at, isStream } of this.#cursors) {
      if (isStream) for (let piece = at; piece < Math.min(at + PIECES_AHEAD, this.end); piece++) pieces.push(piece);
    }
    return pieces;
  }

  /** @param {number} piece */
  has(piece) {
    return this.#has.has(piece);
  }

  /** A piece that is here; undefined for others. @param {number} piece */
  async get(piece) {
    return this.has(piece) ? this.#bytes(piece) : undefined;
  }

  /** Begins with nothing. Who has read something under another manifest fails with `manifest-changed`. @param {Chosen} manifest */
  begin(manifest) {
    this.#drop();
    this.#manifest = manifest;
    this.#key = manifestKey(manifest.share, manifest.root);
    this.#has = new Bitfield(manifest.share.pieces);
    this.#position = 0;
    this.stir();
  }

  /** All of it is here, as that. @param {Blob} blob */
  replace(blob) {
    this.#drop();
    this.#blob = blob;
    this.#has = Bitfield.full(this.#has.length);
  }

  /** The whole is what it should be: readers get their last piece. */
  checked() {
    this.#isChecked = true;
    this.stir();
  }

  /** Drops everything, and fails all readers, those that come as well. @param {Error} error */
  fail(error) {
    this.#error = error;
    this.#drop();
    this.#blob = undefined;
    this.stir();
  }

  /** Lets everybody look again who waits for something. */
  stir() {
    const wake = this.#wake;
    this.#change = new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    wake();
  }

  /** Makes room for a piece; see {@link import("./cache.js").PieceCache.reserve}. @param {number} piece @param {{force?: boolean}} [options] */
  reserve(piece, options) {
    return this.#cache.reserve(this.length(piece), options);
  }

  /** @param {number} piece that does not come after all */
  unreserve(piece) {
    this.#cache.unreserve(this.length(piece));
  }

  /**
   * Keeps a piece, in room that was reserved. Rejects with `storage`. Whoever reads hears of it by {@link stir}.
   * @param {number} piece
   * @param {Uint8Array} bytes
   * @param {() => boolean} isWanted asked when it is stored; if not, it goes again
   * @returns {Promise<boolean>} whether it was wanted
   */
  async put(piece, bytes, isWanted) {
    const key = this.#keyOf(piece);
    await this.#cache.put(key, bytes, () => this.#has.clear(piece));
    if (!isWanted()) {
      this.#cache.delete(key);
      return false;
    }
    this.#has.set(piece);
    if (piece < this.position || piece >= this.end) this.#cache.unpin(key);
    return true;
  }

  /** @param {number} piece @returns {number} */
  length(piece) {
    return pieceLength(/** @type {Chosen} */ (this.#manifest).share, piece);
  }

  /** A new reader, at the beginning. @param {Partial<Cursor>} [options] @returns {Cursor} */
  attach(options) {
    /** @type {Cursor} */
    const cursor = { at: 0, ...options };
    this.#cursors.add(cursor);
    // The check reads for nobody.
    if (!cursor.isCheck && this.#reserved) {
      this.#cursors.delete(this.#reserved);
      this.#reserved = undefined;
    }
    this.#move();
    return cursor;
  }

  /** @param {Cursor} cursor */
  detach(cursor) {
    if (this.#cursors.delete(cursor)) this.#move();
  }

  /**
   * The next piece for a reader, when it is there; undefined at the end. But for the check, the last one comes only when the whole was checked.
   * @param {Cursor} cursor
   * @returns {Promise<Uint8Array | undefined>}
   */
  async read(cursor) {
    for (;;) {
      if (this.#error) throw this.#error;
      const manifest = this.#manifest;
      if (cursor.manifest !== manifest && (cursor.at > 0 || cursor.isCheck)) throw failure("manifest-changed", "what was read so far led nowhere");
      cursor.manifest = manifest;
      if (manifest?.hashes) {
        const { pieces } = manifest.share;
        const mayEnd = cursor.isCheck || this.#isChecked;
        if (cursor.at >= pieces && mayEnd) return undefined;
        if (cursor.at < pieces && this.has(cursor.at) && (cursor.at < pieces - 1 || mayEnd)) {
          const bytes = await this.#bytes(cursor.at);
          if (this.#manifest !== manifest || this.#error) continue;
          if (bytes) {
            cursor.at++;
            this.#move();
            return bytes;
          }
          // The browser has thrown it out of its storage.
          this.#has.clear(cursor.at);
          this.#cache.delete(this.#keyOf(cursor.at));
          this.#moved();
        }
      }
      await this.#change;
    }
  }

  /** Pins what somebody has still to read, as far as it is in reach, and nothing else. */
  #move() {
    const before = { from: this.position, to: this.end };
    this.#position = Math.min(this.#has.length, ...[...this.#cursors].map(({ at }) => at));
    const now = { from: this.position, to: this.end };
    for (let piece = before.from; piece < before.to; piece++) if (piece < now.from || piece >= now.to) this.#cache.unpin(this.#keyOf(piece));
    for (let piece = now.from; piece < now.to; piece++) if (piece < before.from || piece >= before.to) this.#cache.pin(this.#keyOf(piece));
    this.#moved();
  }

  #drop() {
    for (let piece = 0; piece < this.#has.length; piece++) if (this.#has.clear(piece)) this.#cache.delete(this.#keyOf(piece));
  }

  /** @param {number} piece */
  #keyOf(piece) {
    return `${this.#key} ${piece}`;
  }

  /** @param {number} piece that is here @returns {Promise<Uint8Array | undefined>} */
  #bytes(piece) {
    return this.#blob ? readPiece(this.#blob, /** @type {Chosen} */ (this.#manifest).share, piece) : this.#cache.get(this.#keyOf(piece));
  }
}
