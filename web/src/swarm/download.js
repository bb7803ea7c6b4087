/**
 * One file on its way here: under which manifest, whom to ask for which piece, and whether what comes is right. Does not know how peers are
 * asked, only that they are ({@link Neighbour.ask}), and not who else wants something of them: the swarm hands out free slots. What is here, and
 * how it is read, is in `pieces.js`; one reader is always there: the check of the whole against the id.
 *
 * A piece comes whole from one peer, so a wrong one is the fault of exactly that peer.
 */

import { Bitfield } from "./bitfield.js";
import { areEqual, toHex } from "../bytes.js";
import { HASHES_PER_MESSAGE_MAX, MANIFESTS_REMEMBERED_MAX, STUCK_REQUESTS, VOUCHERS_MAX } from "./limits.js";
import { HASH_BYTES, hashOf, rootOf } from "./manifest.js";
import { rarest } from "./picker.js";
import { Pieces } from "./pieces.js";
import { remember } from "./remember.js";
import { Sha256, sha256 } from "./sha256.js";
import { failure } from "../codes.js";

/**
 * @typedef {import("./manifest.js").Share} Share
 * @typedef {import("./neighbour.js").Neighbour} Neighbour
 * @typedef {import("./neighbour.js").Offer} Offer
 *
 * @typedef {"waiting" | "fetching" | "done" | "failed"} State `waiting`: nobody that we could ask is there
 *
 * @typedef {import("./pieces.js").Chosen & {key: string}} Chosen the manifest that we go by; with its hashes, once they are here
 *
 * @typedef {{received: number, total: number, piece: number, from: string}} Progress
 *
 * @typedef {{progress: Progress, state: State}} DownloadEvents
 *
 * The swarm, for a download.
 * @typedef {object} Host
 * @property {import("./cache.js").PieceCache} cache
 * @property {number} requestMs
 * @property {(key: string) => boolean} isWrong whether that manifest was found to be made up
 * @property {(peerIds: Iterable<string>, key?: string) => void} distrust these gave wrong hashes; or vouched for a manifest that is made up
 * @property {(peerId: string, piece: number) => void} refuse that peer sent a wrong piece
 * @property {() => void} ready it can be announced what is here; also: that all is here
 * @property {(piece: number) => void} gained
 * @property {() => void} wanting there may be something to ask for that there was not before
 * @property {() => void} failed
 */

const DownloadTarget = /** @type {new () => import("../typed-target.js").TypedTarget<DownloadEvents>} */ (EventTarget);

/**
 * Events: `progress` when a piece is there and good (detail: `{received, total, piece, from}`, in bytes but for the piece, `from` the peer that
 * it came from), `state` (detail: the new state; `failed` is the last, and so is `done` unless what is done is withdrawn).
 */
export class Download extends DownloadTarget {
  #id;
  #host;
  /** @type {Map<Neighbour, Offer>} */
  #offers;
  /** @type {Chosen | undefined} */
  #manifest;
  /** @type {Map<string, number>} how often a manifest led nowhere */
  #tries = new Map();
  /** @type {Set<string>} who says to have checked the whole under this manifest */
  #vouchers = new Set();
  #listing = false;
  /** By piece, how many of those whom we can ask have it. */
  #holders = new Uint32Array();
  /** What is here. */
  #kept;
  /** What is here, or was. */
  #got = new Bitfield(0);
  /** @type {Map<number, Map<Neighbour, () => void>>} by piece, whom it was asked of, and how to take that back; the oldest first */
  #requests = new Map();
  /** @type {(string | undefined)[]} */
  #pieces = [];
  #received = 0;
  /** @type {Promise<Blob> | undefined} */
  #collecting;
  #verified = false;
  /** @type {Error | undefined} */
  #error;
  /** @type {State} */
  #state = "waiting";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #stuckTimer;

  /** For {@link Swarm.fetch}. @param {string} id @param {Host} host @param {Iterable<[Neighbour, Offer]>} offers those that there are */
  constructor(id, host, offers) {
    super();
    this.#id = id;
    this.#host = host;
    this.#kept = new Pieces(host.cache, host.wanting);
    this.#offers = new Map(offers);
    this.#update();
  }

  /** SHA-256 of the file, in hex. */
  get id() {
    return this.#id;
  }

  /** What is known about the file; undefined while nobody has announced it. @returns {Share | undefined} */
  get share() {
    return this.#manifest?.share;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /**
   * By piece: undefined, `wanted` (somebody was asked for it), or the id of the peer that it came from.
   * @returns {ReadonlyArray<string | undefined>}
   */
  get pieces() {
    return this.#pieces;
  }

  /** Bytes that are here, or were. */
  get received() {
    return this.#received;
  }

  /** Size of the file in bytes; undefined while nobody has announced it. */
  get total() {
    return this.share?.size;
  }

  /**
   * The file from the beginning, a piece at a time, each as soon as it and all before it are here. The last one is held back until the whole was
   * checked; then the stream ends. It fails as {@link blob} does, and with `manifest-changed` if what was read so far turns out to lead nowhere.
   *
   * Pieces come as fast as the slowest reader reads, as far as the cache does not hold them.
   * @returns {ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>}
   */
  stream() {
    const cursor = this.#kept.attach({ isStream: true });
    /** @type {UnderlyingDefaultSource<Uint8Array>} */
    const source = {
      pull: async (controller) => {
        try {
          const bytes = await this.#kept.read(cursor);
          // The reader may do with its bytes what it likes: others are still served with ours.
          if (bytes) return controller.enqueue(bytes.slice());
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        this.#kept.detach(cursor);
      },
      cancel: () => this.#kept.detach(cursor),
    };
    const stream = /** @type {any} */ (new ReadableStream(source, { highWaterMark: 0 }));
    // Not every browser can iterate over streams yet.
    stream[Symbol.asyncIterator] ??= () => iterate(stream.getReader());
    return stream;
  }

  /**
   * The whole file, checked. Rejects with an Error whose `code` is `aborted`, `closed` (the swarm is over), `wrong-hash` (what was announced under
   * this id was another file; whoever vouched for it is avoided, so fetching again may help) or `storage`.
   *
   * Its `type` is what the sharer says it is: a page that opens such a Blob by its URL runs what is in it.
   * @returns {Promise<Blob>}
   */
  async blob() {
    if (this.#kept.blob) return this.#kept.blob;
    this.#collecting ??= this.#collect();
    return this.#collecting;
  }

  // What follows is for the swarm.

  /** The manifest, once its hashes are here. @returns {import("./manifest.js").Manifest | undefined} */
  get manifest() {
    const { share, root, hashes } = this.#manifest ?? {};
    return share && root !== undefined && hashes ? { share, root, hashes } : undefined;
  }

  /** Which pieces others can have from here; undefined for all of them. */
  get bits() {
    return this.#kept.isWhole ? undefined : this.#kept.bits;
  }

  /** A piece, for another peer; undefined if it is not here. @param {number} piece */
  readPiece(piece) {
    return this.#kept.get(piece);
  }

  /** A peer has it, or has more or less of it than it said before. @param {Neighbour} neighbour @param {Offer} offer */
  offered(neighbour, offer) {
    this.#forget(neighbour);
    this.#offers.set(neighbour, offer);
    if (offer.key === this.#manifest?.key) this.#count(neighbour, offer);
    this.#update();
  }

  /** A peer has more pieces. @param {Neighbour} neighbour @param {number[]} pieces */
  grown(neighbour, pieces) {
    const offer = this.#offers.get(neighbour);
    if (!offer || offer.key !== this.#manifest?.key) return;
    for (const piece of pieces) this.#holders[piece]++;
    this.#host.wanting();
  }

  /** A peer has it no more, or is no longer to be asked. @param {Neighbour} neighbour */
  withdrawn(neighbour) {
    this.#forget(neighbour);
    for (const [piece, asked] of [...this.#requests]) {
      const cancel = asked.get(neighbour);
      if (!cancel) continue;
      cancel();
      this.#unask(piece, neighbour);
    }
    this.#update();
  }

  /** A peer has another id. @param {string} before @param {string} after */
  renamed(before, after) {
    this.#pieces.forEach((from, piece) => from === before && (this.#pieces[piece] = after));
    if (this.#vouchers.delete(before)) this.#vouchers.add(after);
  }

  /** Asks a peer for something, if there is anything to ask it for. @param {Neighbour} neighbour @returns {boolean} */
  ask(neighbour) {
    if (this.#error) return false;
    const offer = this.#offers.get(neighbour);
    const manifest = this.#manifest;
    if (!offer || !manifest || offer.key !== manifest.key) return false;
    if (!manifest.hashes) return this.#askForHashes(neighbour, manifest);
    const piece = this.#pick(neighbour, offer);
    if (piece === undefined) return false;
    this.#askForPiece(neighbour, offer, piece);
    return true;
  }

  /**
   * The file is here already: this side shares it.
   * @param {Blob} blob
   * @param {import("./manifest.js").Manifest & {key: string}} manifest
   * @param {string} from my own peer id
   */
  supply(blob, manifest, from) {
    if (this.#error || this.#kept.blob) return;
    if (this.#manifest?.key !== manifest.key) this.#reset(manifest);
    this.#cancelRequests();
    this.#kept.replace(blob);
    this.#got = Bitfield.full(manifest.share.pieces);
    this.#pieces = this.#pieces.map((peerId) => (peerId === undefined || peerId === "wanted" ? from : peerId));
    this.#received = manifest.share.size;
    this.#finish();
  }

  /** Gives up, for that reason. @param {Error} error */
  fail(error) {
    if (this.#error) return;
    this.#error = error;
    clearTimeout(this.#stuckTimer);
    this.#cancelRequests();
    this.#offers.clear();
    this.#setState("failed");
    this.#kept.fail(error);
    this.#host.failed();
  }

  /** Done or failed: which manifest it is will not change any more. Readers may still come, and wait for pieces that have gone since. */
  get #isOver() {
    return this.#verified || this.#error !== undefined;
  }

  // Which manifest

  /** Chooses a manifest where there is none, and says whether there is anybody to ask. */
  #update() {
    if (!this.#isOver) {
      if (!this.#isOffered && this.#received === 0) {
        const offer = this.#best();
        if (offer) this.#reset(offer);
      }
      this.#setState(this.#isOffered ? "fetching" : "waiting");
    }
    this.#host.wanting();
  }

  get #isOffered() {
    const key = this.#manifest?.key;
    return [...this.#offers.values()].some((offer) => offer.key === key);
  }

  /**
   * The offer whose manifest is to be tried next: one that did not lead nowhere before, and that as many as possible vouch for.
   * @param {string} [except] a key
   * @returns {Offer | undefined}
   */
  #best(except) {
    /** @type {Map<string, {offer: Offer, vouchers: number, tries: number}>} */
    const manifests = new Map();
    for (const offer of this.#offers.values()) {
      if (offer.key === except || this.#host.isWrong(offer.key)) continue;
      const entry = manifests.get(offer.key) ?? { offer, vouchers: 0, tries: this.#tries.get(offer.key) ?? 0 };
      if (offer.whole) entry.vouchers++;
      manifests.set(offer.key, entry);
    }
    const [best] = [...manifests.values()].sort((a, b) => a.tries - b.tries || b.vouchers - a.vouchers);
    return best?.offer;
  }

  /** Begins anew, under that manifest. @param {Chosen} manifest */
  #reset({ share, root, key, hashes }) {
    this.#cancelRequests();
    this.#manifest = { share, root, key, hashes };
    this.#listing = false;
    this.#vouchers.clear();
    const { pieces } = share;
    this.#got = new Bitfield(pieces);
    this.#pieces = new Array(pieces).fill(undefined);
    this.#holders = new Uint32Array(pieces);
    this.#received = 0;
    for (const [neighbour, offer] of this.#offers) if (offer.key === key) this.#count(neighbour, offer);
    this.#kept.begin(this.#manifest);
    this.#progressed();
  }

  /** @param {Neighbour} neighbour @param {Offer} offer under our manifest */
  #count(neighbour, { whole, bits }) {
    for (let piece = 0; piece < bits.length; piece++) if (bits.has(piece)) this.#holders[piece]++;
    if (whole) remember(this.#vouchers, neighbour.peerId, VOUCHERS_MAX);
  }

  /** @param {Neighbour} neighbour */
  #forget(neighbour) {
    const offer = this.#offers.get(neighbour);
    if (!offer) return;
    this.#offers.delete(neighbour);
    if (offer.key !== this.#manifest?.key) return;
    // What it says later changes the very bits of this offer, so they are what was counted.
    for (let piece = 0; piece < offer.bits.length; piece++) if (offer.bits.has(piece)) this.#holders[piece]--;
  }

  /** Something came, so that this manifest leads somewhere. */
  #progressed() {
    clearTimeout(this.#stuckTimer);
    if (!this.#manifest || this.#isOver) return;
    this.#stuckTimer = setTimeout(() => this.#stuck(), STUCK_REQUESTS * this.#host.requestMs);
  }

  #stuck() {
    const manifest = /** @type {Chosen} */ (this.#manifest);
    const other = this.#isWanting ? this.#best(manifest.key) : undefined;
    if (!other) return this.#progressed();
    // A stranger can announce what he does not have, and hold us up by it, but not for ever.
    const tries = (this.#tries.get(manifest.key) ?? 0) + 1;
    this.#tries.delete(manifest.key);
    this.#tries.set(manifest.key, tries);
    if (this.#tries.size > MANIFESTS_REMEMBERED_MAX) this.#tries.delete(/** @type {string} */ (this.#tries.keys().next().value));
    this.#reset(other);
    this.#update();
  }

  /** @param {Neighbour} neighbour @param {Chosen} manifest */
  #askForHashes(neighbour, manifest) {
    if (this.#listing) return false;
    this.#listing = true;
    const { share, root } = manifest;
    const hashes = new Uint8Array(share.pieces * HASH_BYTES);
    const isCurrent = () => this.#manifest === manifest && !this.#isOver;
    // All of them from one peer: if they are wrong, it is clear whose fault that is.
    const part = (/** @type {number} */ from) => {
      const count = Math.min(HASHES_PER_MESSAGE_MAX, share.pieces - from);
      if (count <= 0) return void this.#list(neighbour, manifest, hashes);
      neighbour.ask({
        message: { type: "list", id: share.id, root, from },
        bytes: count * HASH_BYTES,
        take: async (bytes) => {
          if (!isCurrent()) return;
          hashes.set(bytes, from * HASH_BYTES);
          this.#progressed();
          part(from + count);
        },
        lose: (why) => {
          if (!isCurrent()) return;
          this.#listing = false;
          // It announced what it does not have after all. It may announce it again.
          if (why === "refused") this.#forget(neighbour);
          this.#update();
        },
      });
    };
    part(0);
    return true;
  }

  /** @param {Neighbour} neighbour @param {Chosen} manifest @param {Uint8Array} hashes */
  async #list(neighbour, manifest, hashes) {
    const root = await rootOf(hashes);
    if (this.#manifest !== manifest || this.#isOver) return;
    this.#listing = false;
    if (root !== manifest.root) return this.#host.distrust([neighbour.peerId]);
    manifest.hashes = hashes;
    this.#host.ready();
    this.#verify(manifest);
    this.#kept.stir();
    this.#host.wanting();
  }

  // Which pieces

  /** Whether there is anything that we wait for. */
  get #isWanting() {
    if (!this.#manifest?.hashes) return true;
    for (let piece = this.#kept.position; piece < this.#kept.end; piece++) if (!this.#kept.has(piece)) return true;
    return false;
  }

  /** The piece to ask a peer for, room for it being made. @param {Neighbour} neighbour @param {Offer} offer */
  #pick(neighbour, { bits }) {
    const { position, end, ahead } = this.#kept;
    const isMissing = (/** @type {number} */ piece) => !this.#kept.has(piece) && !this.#requests.has(piece);
    const isEligible = (/** @type {number} */ piece) => isMissing(piece) && bits.has(piece);
    const piece = ahead.find(isEligible) ?? rarest({ from: position, to: end, isEligible, holders: this.#holders });
    if (piece === undefined) {
      for (let other = position; other < end; other++) if (isMissing(other)) return undefined;
      return this.#pickAgain(neighbour, bits);
    }
    if (this.#kept.reserve(piece)) return piece;
    // There is no room but for the one that the slowest reader waits for: it makes room for the next.
    if (!isEligible(position)) return undefined;
    this.#kept.reserve(position, { force: true });
    return position;
  }

  /**
   * When everything has been asked for, whoever is idle is asked for the oldest of what others have been asked for: one slow peer so does
   * not hold up the end.
   * @param {Neighbour} neighbour
   * @param {Bitfield} bits
   */
  #pickAgain(neighbour, bits) {
    if (!neighbour.isIdle) return undefined;
    for (const [piece, asked] of this.#requests) {
      if (asked.size === 1 && !asked.has(neighbour) && !this.#kept.has(piece) && bits.has(piece)) return piece;
    }
    return undefined;
  }

  /** @param {Neighbour} neighbour @param {Offer} offer @param {number} piece */
  #askForPiece(neighbour, offer, piece) {
    const { share, root } = offer;
    const asked = this.#requests.get(piece) ?? new Map();
    this.#requests.set(piece, asked);
    this.#pieces[piece] = "wanted";
    const manifest = this.#manifest;
    // Once it is taken back, or everything begins anew, it is not ours any more.
    const isCurrent = () => this.#manifest === manifest && this.#requests.get(piece) === asked && asked.has(neighbour);
    let cancel = () => {};
    // Its channel may be found broken by the very question, which then is lost at once.
    asked.set(neighbour, () => cancel());
    cancel = neighbour.ask({
      message: { type: "request", id: share.id, root, piece },
      bytes: this.#kept.length(piece),
      take: async (bytes) => {
        if (!isCurrent()) return;
        const hashes = /** @type {Uint8Array} */ (manifest?.hashes);
        const isGood = areEqual(await sha256(bytes), hashOf(hashes, piece));
        if (!isCurrent()) return;
        if (isGood) return this.#keep(neighbour, piece, bytes, asked);
        this.#unask(piece, neighbour);
        this.#host.refuse(neighbour.peerId, piece);
      },
      lose: (why) => {
        if (!isCurrent()) return;
        this.#unask(piece, neighbour);
        if (why === "refused" && this.#offers.get(neighbour) === offer && offer.bits.clear(piece)) this.#holders[piece]--;
        this.#host.wanting();
      },
    });
  }

  /** @param {number} piece @param {Neighbour} neighbour */
  #unask(piece, neighbour) {
    const asked = this.#requests.get(piece);
    if (!asked?.delete(neighbour) || asked.size > 0) return;
    this.#requests.delete(piece);
    this.#kept.unreserve(piece);
    this.#pieces[piece] = undefined;
  }

  /** Keeps a good piece. @param {Neighbour} neighbour @param {number} piece @param {Uint8Array} bytes @param {Map<Neighbour, () => void>} asked */
  async #keep(neighbour, piece, bytes, asked) {
    for (const cancel of asked.values()) cancel();
    // Empty, it stays in the list until the piece is in the cache, so that nobody is asked for it again.
    asked.clear();
    const isCurrent = () => this.#requests.get(piece) === asked;
    try {
      if (!(await this.#kept.put(piece, bytes, isCurrent))) return;
    } catch (error) {
      if (isCurrent()) {
        // The cache has given its room back.
        this.#requests.delete(piece);
        this.fail(/** @type {Error} */ (error));
      }
      return;
    }
    this.#requests.delete(piece);
    const from = neighbour.peerId;
    this.#pieces[piece] = from;
    if (this.#got.set(piece)) this.#received += bytes.length;
    this.#progressed();
    this.#host.gained(piece);
    this.#kept.stir();
    this.dispatchEvent(new CustomEvent("progress", { detail: { received: this.#received, total: this.total, piece, from } }));
  }

  #cancelRequests() {
    for (const [piece, asked] of this.#requests) {
      for (const cancel of asked.values()) cancel();
      // Where nobody is asked any more, the piece is on its way into the cache, which has the room.
      if (asked.size > 0) this.#kept.unreserve(piece);
      if (this.#pieces[piece] === "wanted") this.#pieces[piece] = undefined;
    }
    this.#requests.clear();
  }

  // The whole

  /** Reads the whole and checks it against the id. @param {Chosen} manifest */
  async #verify(manifest) {
    const cursor = this.#kept.attach({ manifest, isCheck: true });
    const hash = new Sha256();
    try {
      for (let bytes; (bytes = await this.#kept.read(cursor)); ) hash.update(bytes);
    } catch (error) {
      // Failed, or another manifest has been chosen; whoever waits hears of it in its own way. Or what was kept cannot be read any more.
      if (this.#manifest === manifest) this.fail(/** @type {Error} */ (error));
      return;
    } finally {
      this.#kept.detach(cursor);
    }
    if (this.#manifest !== manifest || this.#isOver) return;
    if (toHex(hash.digest()) === this.#id) return this.#finish();
    const vouchers = [...this.#vouchers];
    this.fail(failure("wrong-hash", "what was fetched is not the file that was asked for"));
    this.#host.distrust(vouchers, manifest.key);
  }

  #finish() {
    this.#verified = true;
    clearTimeout(this.#stuckTimer);
    this.#setState("done");
    this.#kept.checked();
    this.#host.ready();
  }

  async #collect() {
    for (;;) {
      const cursor = this.#kept.attach();
      /** @type {BlobPart[]} */
      const parts = [];
      try {
        // As Blobs they are out of our memory: the browser puts large ones on the disk.
        for (let bytes; (bytes = await this.#kept.read(cursor)); ) parts.push(new Blob([/** @type {BlobPart} */ (bytes)]));
        const { share } = /** @type {Chosen} */ (this.#manifest);
        const blob = new Blob(parts, { type: share.type });
        this.#cancelRequests();
        this.#kept.replace(blob);
        this.#host.ready();
        return blob;
      } catch (error) {
        if (/** @type {{code?: string}} */ (error).code !== "manifest-changed") throw error;
      } finally {
        this.#kept.detach(cursor);
      }
    }
  }

  /** @param {State} state */
  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader @returns {AsyncGenerator<Uint8Array, void>} */
async function* iterate(reader) {
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
