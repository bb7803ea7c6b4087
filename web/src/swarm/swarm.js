/**
 * Files that go around in a room: what is shared from here, what the others announced, what is being fetched, and who is asked for it. Everybody
 * who has a piece serves it. Knows a room and its links by their shape; the server sees nothing of all this.
 */

import { PieceCache, cacheStorage, memory } from "./cache.js";
import { Contact } from "./contact.js";
import { Download } from "./download.js";
import {
  AVOIDED_MAX,
  HASHES_PER_MESSAGE_MAX,
  MANIFESTS_REMEMBERED_MAX,
  NAME_CHARS_MAX,
  PIECE_BYTES_MAX,
  PIECE_BYTES_MIN,
  REQUEST_MS,
  SHARES_MAX,
  TYPE_CHARS_MAX,
} from "./limits.js";
import { HASH_BYTES, describe, manifestKey, readPiece } from "./manifest.js";
import { Neighbour } from "./neighbour.js";
import { remember } from "./remember.js";
import { toBase64, toHex } from "../bytes.js";
import { isHash } from "./wire.js";
import { failure } from "../codes.js";

/** Rooms that have a swarm. @type {WeakSet<object>} */
const taken = new WeakSet();

/**
 * @typedef {import("./manifest.js").Share} Share
 * @typedef {import("./manifest.js").Manifest & {key: string}} Manifest
 * @typedef {import("./contact.js").Link} Link
 * @typedef {import("../room.js").Room} Room
 *
 * @typedef {object} SwarmOptions
 * @property {"memory" | "cache-storage"} [cache] where pieces wait; `cache-storage` throws `unsupported` where a page has none
 * @property {number} [cacheBytesMax] how much of that, 256 MiB by default, for all downloads together; each may go beyond it by one piece
 * @property {number} [pieceBytes] for what is shared from here; by default 256 KiB, and more for files beyond 2 GiB
 * @property {number} [requestMs] how long a peer has for each 256 KiB, 10,000 by default, before they are asked of others
 *
 * @typedef {object} SwarmEvents
 * @property {Share} share
 * @property {Share} unshared
 * @property {Share} withdrawn
 * @property {{id: string, piece: number, from: string}} refused
 * @property {{id: string, from: string}} distrusted
 *
 * @typedef {{contact: Contact, neighbour?: Neighbour, listening: AbortController}} Line what belongs to a link
 */

const SwarmTarget = /** @type {new () => import("../typed-target.js").TypedTarget<SwarmEvents>} */ (EventTarget);

/**
 * Events: `share` when a file can be fetched that could not before (detail: the {@link Share}), `unshared` when nobody is left who announces it
 * (detail: the same), `withdrawn` when what was shared from here cannot be read any more, the file having been changed, moved or deleted, and so is not
 * shared from here (detail: the same), `refused` when a peer sent a corrupted piece and is asked for nothing any more (detail: `{id, piece, from}`), `distrusted` when
 * that is because the hashes that it gave were wrong, or it vouched for a file that was another (detail: `{id, from}`).
 *
 * One swarm for each room, for two would take each other's channels: a second throws `already-open`, as long as the first is not closed.
 */
export class Swarm extends SwarmTarget {
  #room;
  #pieceBytes;
  #requestMs;
  #cache;
  #nonce = toHex(crypto.getRandomValues(new Uint8Array(8)));
  /** @type {Map<Link, Line>} */
  #lines = new Map();
  /** @type {Map<string, {manifest: Manifest, blob: Blob}>} what is shared from here */
  #own = new Map();
  /** @type {Map<string, Download>} */
  #downloads = new Map();
  /** @type {Map<string, Share>} */
  #shares = new Map();
  /** @type {Set<string>} ids of peers that sent what was wrong */
  #avoided = new Set();
  /** @type {Set<string>} keys of manifests that were made up */
  #wrong = new Set();
  #pumping = false;
  #closing = new AbortController();

  /**
   * @param {Room} room whose links are used, those that are there and those that come
   * @param {SwarmOptions} [options]
   */
  constructor(room, { cache = "memory", cacheBytesMax = 256 * 1024 * 1024, pieceBytes, requestMs = REQUEST_MS } = {}) {
    super();
    if (pieceBytes !== undefined && !(Number.isInteger(pieceBytes) && pieceBytes >= PIECE_BYTES_MIN && pieceBytes <= PIECE_BYTES_MAX)) {
      throw new RangeError(`pieceBytes: ${PIECE_BYTES_MIN} to ${PIECE_BYTES_MAX}`);
    }
    if (taken.has(room)) throw failure("already-open", "this room has a swarm already, which is not closed");
    this.#room = room;
    this.#pieceBytes = pieceBytes;
    this.#requestMs = requestMs;
    this.#cache = new PieceCache(cache === "cache-storage" ? cacheStorage(this.#nonce) : memory(), cacheBytesMax);
    taken.add(room);
    const { signal } = this.#closing;
    room.addEventListener("link", ({ detail }) => this.#meet(detail), { signal });
    room.addEventListener("left", () => this.close(), { signal });
    for (const link of room.links.values()) this.#meet(link);
  }

  /** What can be fetched, by id: what others announced, and what is shared from here. @returns {ReadonlyMap<string, Share>} */
  get shares() {
    return this.#shares;
  }

  /**
   * Shares a file with everybody in the room, those who come later too, until {@link withdraw}. Reads it once from beginning to end before it
   * settles. Rejects with `not-a-file`, `too-large` (beyond 32 GiB), `too-many` (64 files at a time, those that are fetched included) or `closed`.
   * @param {Blob | File} blob
   * @param {{signal?: AbortSignal}} [options] gives up while it is read
   * @returns {Promise<Share>}
   */
  async share(blob, { signal } = {}) {
    this.#throwIfClosed();
    if (!(blob instanceof Blob)) throw failure("not-a-file", "what is shared is a File or a Blob; of a text, new Blob([text])");
    const name = "name" in blob ? blob.name.slice(0, NAME_CHARS_MAX) : "";
    const type = blob.type.slice(0, TYPE_CHARS_MAX);
    const described = await describe(blob, { name, type, pieceBytes: this.#pieceBytes, signal });
    this.#throwIfClosed();
    const { share, root } = described;
    const before = this.#own.get(share.id);
    if (before) return before.manifest.share;
    this.#throwIfFull(share.id);
    const manifest = { ...described, key: manifestKey(share, root) };
    this.#own.set(share.id, { manifest, blob });
    this.#downloads.get(share.id)?.supply(blob, manifest, this.#room.peerId);
    this.#announce(share.id);
    this.#list(share.id);
    return share;
  }

  /**
   * Fetches a file, as soon as somebody announces it. Gives the download that there is already, if there is one that has not failed. Whoever
   * fetches serves what is here already, and goes on to do so when it is done, until {@link withdraw} or the end of the swarm. Throws
   * `bad-id`, `too-many` (64 files at a time, those that are shared included) or `closed`.
   * @param {string} id SHA-256 in hex, in either case
   * @param {{signal?: AbortSignal}} [options] gives up a download that is not done, for everybody who reads it
   * @returns {Download}
   */
  fetch(id, { signal } = {}) {
    this.#throwIfClosed();
    id = String(id).toLowerCase();
    if (!isHash(id)) throw failure("bad-id", "an id is a SHA-256 in hex, 64 digits");
    let download = this.#downloads.get(id);
    if (!download) {
      this.#throwIfFull(id);
      download = this.#download(id);
    }
    const fetched = download;
    const abort = () => {
      if (fetched.state !== "done") fetched.fail(failure("aborted", "given up", { cause: signal?.reason }));
    };
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { signal: this.#closing.signal });
    return download;
  }

  /** Shares a file no longer, and serves no more of what was fetched of it; a download that is under way fails with `aborted`. @param {string} id */
  withdraw(id) {
    const download = this.#downloads.get(id);
    if (!this.#own.delete(id) && !download) return;
    // A download announces what becomes of it.
    if (download) download.fail(failure("aborted", "withdrawn"));
    else this.#announce(id);
    this.#list(id);
  }

  /** Ends everything: downloads fail with `closed`, what was kept of them goes, the channels are closed. The links stay. */
  close() {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    taken.delete(this.#room);
    for (const { contact, listening } of this.#lines.values()) {
      listening.abort();
      contact.close();
    }
    this.#lines.clear();
    for (const download of [...this.#downloads.values()]) download.fail(failure("closed", "the swarm is over"));
    this.#own.clear();
    this.#shares.clear();
    this.#cache.close();
  }

  #throwIfClosed() {
    if (this.#closing.signal.aborted) throw failure("closed", "the swarm is over");
  }

  /** @param {string} id of a file that is not to be counted twice */
  #throwIfFull(id) {
    const ids = new Set([...this.#own.keys(), ...this.#downloads.keys(), id]);
    if (ids.size > SHARES_MAX) throw failure("too-many", `${SHARES_MAX} files at a time`);
  }

  // Who is there

  get #neighbours() {
    return [...this.#lines.values()].flatMap(({ neighbour }) => neighbour ?? []);
  }

  /** @param {Link} link */
  #meet(link) {
    if (this.#lines.has(link) || link.isOver) return;
    const listening = new AbortController();
    const { signal } = listening;
    let peerId = link.remoteId;
    const contact = new Contact(link, {
      nonce: this.#nonce,
      isFirst: () => this.#room.peerId < link.remoteId,
      talk: (channel) => this.#talk(link, channel),
    });
    this.#lines.set(link, { contact, listening });
    link.addEventListener("renamed", () => {
      if (this.#avoided.delete(peerId)) remember(this.#avoided, link.remoteId, AVOIDED_MAX);
      for (const download of this.#downloads.values()) download.renamed(peerId, link.remoteId);
      peerId = link.remoteId;
    }, { signal });
    link.addEventListener("state", () => {
      if (!link.isOver) return;
      listening.abort();
      contact.close();
      this.#lines.delete(link);
    }, { signal });
  }

  /** @param {Link} link @param {RTCDataChannel} channel @returns {import("./contact.js").Receiver} */
  #talk(link, channel) {
    const line = /** @type {Line} */ (this.#lines.get(link));
    const neighbour = new Neighbour(link, channel, {
      requestMs: this.#requestMs,
      offered: (neighbour, offer) => {
        if (neighbour.avoided) return;
        this.#downloads.get(offer.share.id)?.offered(neighbour, offer);
        this.#list(offer.share.id);
      },
      withdrawn: (neighbour, id) => this.#withdrawn(neighbour, id),
      grown: (neighbour, id, pieces) => this.#downloads.get(id)?.grown(neighbour, pieces),
      readPiece: (id, root, piece) => this.#readPiece(id, root, piece),
      readHashes: (id, root, from) => this.#readHashes(id, root, from),
      free: () => this.#pump(),
      faulty: () => line.contact.close(),
    });
    neighbour.avoided = this.#avoided.has(link.remoteId);
    line.neighbour = neighbour;
    for (const id of new Set([...this.#own.keys(), ...this.#downloads.keys()])) this.#announceTo(neighbour, id);
    return {
      receive: (data) => neighbour.receive(data),
      end: () => {
        neighbour.end();
        if (line.neighbour === neighbour) line.neighbour = undefined;
        for (const id of neighbour.offers.keys()) this.#withdrawn(neighbour, id);
      },
    };
  }

  /** @param {Neighbour} neighbour @param {string} id */
  #withdrawn(neighbour, id) {
    this.#downloads.get(id)?.withdrawn(neighbour);
    this.#list(id);
  }

  /** Asks a peer for nothing any more. @param {string} from */
  #avoid(from) {
    remember(this.#avoided, from, AVOIDED_MAX);
    for (const neighbour of this.#neighbours) {
      if (neighbour.peerId !== from) continue;
      neighbour.avoided = true;
      for (const id of neighbour.offers.keys()) this.#withdrawn(neighbour, id);
    }
  }

  // What is there

  /** Brings `shares` up to date about a file, and tells what that changes. @param {string} id */
  #list(id) {
    if (this.#closing.signal.aborted) return;
    const listed = this.#shares.get(id);
    const own = this.#own.get(id)?.manifest.share;
    const offers = this.#neighbours.filter(({ avoided }) => !avoided).flatMap(({ offers }) => offers.get(id) ?? []);
    // A file keeps its name for as long as the one who gave it that name announces it.
    const share = own ?? offers.find((offer) => offer.share === listed)?.share ?? offers.find(({ whole }) => whole)?.share ?? offers[0]?.share;
    if (share === listed) return;
    if (share) this.#shares.set(id, share);
    else this.#shares.delete(id);
    if (!listed || !share) this.dispatchEvent(new CustomEvent(share ? "share" : "unshared", { detail: share ?? listed }));
  }

  /** Tells everybody what of a file can be had from here. @param {string} id */
  #announce(id) {
    for (const neighbour of this.#neighbours) this.#announceTo(neighbour, id, { orWithdraw: true });
  }

  /** @param {Neighbour} neighbour @param {string} id @param {{orWithdraw?: boolean}} [options] */
  #announceTo(neighbour, id, { orWithdraw = false } = {}) {
    const own = this.#own.get(id)?.manifest;
    const download = this.#downloads.get(id);
    const manifest = own ?? download?.manifest;
    if (manifest) neighbour.announce(manifest.share, manifest.root, own ? undefined : download?.bits);
    else if (orWithdraw) neighbour.withdraw(id);
  }

  /** @param {string} id @param {string} root @param {number} piece */
  async #readPiece(id, root, piece) {
    const own = this.#own.get(id);
    const download = this.#downloads.get(id);
    if (own?.manifest.root === root && piece < own.manifest.share.pieces) {
      try {
        return await readPiece(own.blob, own.manifest.share, piece);
      } catch {
        // The file on the disk was changed, moved or deleted. Whoever asked at the same time has found the same.
        if (this.#own.get(id) !== own) return undefined;
        this.withdraw(id);
        this.dispatchEvent(new CustomEvent("withdrawn", { detail: own.manifest.share }));
      }
    } else if (download?.manifest?.root === root && piece < download.manifest.share.pieces) return download.readPiece(piece);
    return undefined;
  }

  /** @param {string} id @param {string} root @param {number} from @returns {string | undefined} */
  #readHashes(id, root, from) {
    const manifest = [this.#own.get(id)?.manifest, this.#downloads.get(id)?.manifest].find((manifest) => manifest?.root === root);
    const hashes = manifest?.hashes.subarray(from * HASH_BYTES, (from + HASHES_PER_MESSAGE_MAX) * HASH_BYTES);
    return hashes && hashes.length > 0 ? toBase64(hashes) : undefined;
  }

  // What is fetched

  /** @param {string} id */
  #download(id) {
    /** @type {[Neighbour, import("./neighbour.js").Offer][]} */
    const offers = this.#neighbours.flatMap((neighbour) => {
      const offer = neighbour.offers.get(id);
      return offer && !neighbour.avoided ? [[neighbour, offer]] : [];
    });
    /** @type {import("./download.js").Host} */
    const host = {
      cache: this.#cache,
      requestMs: this.#requestMs,
      isWrong: (key) => this.#wrong.has(key),
      distrust: (peerIds, key) => {
        if (key !== undefined) remember(this.#wrong, key, MANIFESTS_REMEMBERED_MAX);
        for (const from of peerIds) {
          this.#avoid(from);
          this.dispatchEvent(new CustomEvent("distrusted", { detail: { id, from } }));
        }
      },
      refuse: (from, piece) => {
        this.#avoid(from);
        this.dispatchEvent(new CustomEvent("refused", { detail: { id, piece, from } }));
      },
      ready: () => this.#announce(id),
      gained: (piece) => {
        for (const neighbour of this.#neighbours) neighbour.tellOfPiece(id, piece);
      },
      wanting: () => this.#pump(),
      failed: () => {
        this.#downloads.delete(id);
        this.#announce(id);
      },
    };
    const download = new Download(id, host, offers);
    this.#downloads.set(id, download);
    const own = this.#own.get(id);
    if (own) download.supply(own.blob, own.manifest, this.#room.peerId);
    return download;
  }

  /** Gives out what there is to ask for to whoever has a slot free: soon, and once however many reasons there are. */
  #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      let free = this.#neighbours.filter(({ isFree }) => isFree).sort((a, b) => Number(a.isSlow) - Number(b.isSlow));
      // One at a time each, so that what there is is spread over all of them.
      while (free.length > 0) free = free.filter((neighbour) => this.#ask(neighbour) && neighbour.isFree);
    });
  }

  /** Asks a peer for something that any download wants, and says whether there was such. @param {Neighbour} neighbour */
  #ask(neighbour) {
    for (const [id, download] of this.#downloads) {
      if (!download.ask(neighbour)) continue;
      // They take turns: this one is the last from now on.
      this.#downloads.delete(id);
      this.#downloads.set(id, download);
      return true;
    }
    return false;
  }
}
