/**
 * One peer of the swarm, over one channel: what it has (its offers), what was asked of it, what it asks. Checks what only this conversation
 * can tell: that an answer belongs to a request, that a chunk is where it must be, that bounds are kept. Whether a piece is
 * what it should be is for who asked.
 */

import { REQUESTS_MAX, REQUESTS_SERVED_MAX, PIECE_BYTES, SHARES_MAX } from "./limits.js";
import { manifestKey } from "./manifest.js";
import { Outbox } from "./outbox.js";
import { Nonsense, decodeChunk, parseMessage } from "./wire.js";

/**
 * A file as one peer has it.
 * @typedef {object} Offer
 * @property {import("./manifest.js").Share} share
 * @property {string} root
 * @property {string} key what tells its manifest from others
 * @property {boolean} whole the peer says that it has checked the whole
 * @property {import("./bitfield.js").Bitfield} bits
 *
 * What is asked of a peer. Either `take` is called, with all the bytes, or `lose`, unless it was cancelled.
 * @typedef {object} Task
 * @property {{type: "request" | "list", id: string, root: string, piece?: number, from?: number}} message
 * @property {number} bytes length of the answer
 * @property {(bytes: Uint8Array) => Promise<void>} take a free slot more when it settles
 * @property {(why: "refused" | "late" | "gone") => void} lose
 *
 * @typedef {{n: number, task: Task, bytes?: Uint8Array, received: number}} Request
 *
 * Whoever has the neighbour.
 * @typedef {object} Host
 * @property {number} requestMs
 * @property {(neighbour: Neighbour, offer: Offer) => void} offered new, or instead of an earlier one of that file
 * @property {(neighbour: Neighbour, id: string) => void} withdrawn
 * @property {(neighbour: Neighbour, id: string, pieces: number[]) => void} grown pieces that were not in its bits before
 * @property {(id: string, root: string, piece: number) => Promise<Uint8Array | undefined>} readPiece
 * @property {(id: string, root: string, from: number) => string | undefined} readHashes
 * @property {(neighbour: Neighbour) => void} free it has a slot more
 * @property {(neighbour: Neighbour, reason: string) => void} faulty it sent nonsense or does not read: the channel is to be closed
 */

export class Neighbour {
  #link;
  #host;
  #outbox;
  /** @type {Map<string, Offer>} */
  #offers = new Map();
  /** @type {Map<number, Request>} by number, in the order in which they are answered */
  #requests = new Map();
  #next = 0;
  /** Answers that have arrived and are being looked at. */
  #checking = 0;
  /** Bytes that may still come for requests that were given up. */
  #stale = 0;
  #slots = REQUESTS_MAX;
  /** @type {ReturnType<typeof setTimeout> | undefined} for the request whose turn it is */
  #timer;
  #ended = false;

  /** Whether nothing is fetched from it any more, because it sent what was wrong. */
  avoided = false;

  /**
   * @param {{remoteId: string}} link
   * @param {RTCDataChannel} channel an open one, over which both sides have said hello
   * @param {Host} host
   */
  constructor(link, channel, host) {
    this.#link = link;
    this.#host = host;
    this.#outbox = new Outbox(channel, (reason) => host.faulty(this, reason));
  }

  get peerId() {
    return this.#link.remoteId;
  }

  /** What it has, by id of the file. @returns {ReadonlyMap<string, Offer>} */
  get offers() {
    return this.#offers;
  }

  /** Whether more may be asked of it. */
  get isFree() {
    return !this.#ended && !this.avoided && this.#busy < this.#slots;
  }

  get isIdle() {
    return this.#busy === 0;
  }

  /** Whether it let the last request wait too long. Then others are asked first, and it is asked for one piece at a time. */
  get isSlow() {
    return this.#slots < REQUESTS_MAX;
  }

  get #busy() {
    return this.#requests.size + this.#checking;
  }

  /**
   * @param {import("./manifest.js").Share} share
   * @param {string} root
   * @param {import("./bitfield.js").Bitfield} [bits] without them, I have all of it
   */
  announce({ id, name, type, size, pieceBytes }, root, bits) {
    this.#outbox.forget(id);
    const share = { id, name, type, size, pieceBytes };
    this.#outbox.tell({ type: "announce", share, root, whole: bits === undefined, bits: bits?.toString() });
  }

  /** @param {string} id */
  withdraw(id) {
    this.#outbox.forget(id);
    this.#outbox.tell({ type: "withdraw", id });
  }

  /** @param {string} id @param {number} piece that I have now */
  tellOfPiece(id, piece) {
    this.#outbox.tellOfPiece(id, piece);
  }

  /** Asks for something. Gives a function that takes it back. @param {Task} task @returns {() => void} */
  ask(task) {
    if (this.#ended) {
      queueMicrotask(() => task.lose("gone"));
      return () => {};
    }
    const n = this.#next++;
    this.#requests.set(n, { n, task, received: 0 });
    this.#outbox.tell({ ...task.message, n });
    if (this.#requests.size === 1) this.#watch();
    return () => {
      if (!this.#drop(n)) return;
      this.#host.free(this);
    };
  }

  /** Takes what came over the channel. @param {unknown} data */
  receive(data) {
    if (this.#ended) return;
    try {
      if (typeof data === "string") this.#hear(parseMessage(data));
      else if (data instanceof ArrayBuffer) this.#collect(decodeChunk(data));
      else throw new Nonsense("neither text nor bytes");
    } catch (error) {
      if (!(error instanceof Nonsense)) throw error;
      this.#host.faulty(this, error.message);
    }
  }

  /** The channel is gone: nothing comes any more, and what was asked is lost. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#outbox.close();
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const { task } of requests) task.lose("gone");
  }

  /** @param {import("./wire.js").Message | undefined} message */
  #hear(message) {
    switch (message?.type) {
      case "hello":
        throw new Nonsense("hello again");
      case "announce": {
        const { share, root, whole, bits } = message;
        if (!this.#offers.has(share.id) && this.#offers.size >= SHARES_MAX) throw new Nonsense("too many announcements");
        const offer = { share, root, key: manifestKey(share, root), whole, bits };
        this.#offers.set(share.id, offer);
        return this.#host.offered(this, offer);
      }
      case "withdraw":
        if (this.#offers.delete(message.id)) this.#host.withdrawn(this, message.id);
        return;
      case "have": {
        const offer = this.#offers.get(message.id);
        if (!offer || message.pieces.some((piece) => piece >= offer.share.pieces)) throw new Nonsense("pieces of nothing");
        return this.#host.grown(this, message.id, message.pieces.filter((piece) => offer.bits.set(piece)));
      }
      case "list": {
        const { n, id, root, from } = message;
        return this.#serve(n, async () => {
          const hashes = this.#host.readHashes(id, root, from);
          return hashes ? { type: "hashes", n, hashes } : undefined;
        });
      }
      case "request": {
        const { n, id, root, piece } = message;
        return this.#serve(n, () => this.#host.readPiece(id, root, piece));
      }
      case "cancel":
        return this.#outbox.cancel(message.n);
      case "hashes":
        return this.#collectHashes(message.n, message.hashes);
      case "refuse": {
        const request = this.#requestOf(message.n);
        if (!request) return;
        this.#finish(request);
        request.task.lose("refused");
        return this.#host.free(this);
      }
    }
  }

  /** @param {number} n @param {import("./outbox.js").Answer} answer */
  #serve(n, answer) {
    if (this.#outbox.jobs >= REQUESTS_SERVED_MAX) throw new Nonsense("too many requests");
    this.#outbox.serve(n, answer);
  }

  /** The request that an answer belongs to; undefined where it was given up. @param {number} n */
  #requestOf(n) {
    if (n >= this.#next) throw new Nonsense("an answer to nothing");
    const request = this.#requests.get(n);
    const [first] = this.#requests.values();
    // Else a peer could hold back one piece for ever, and do well by its other answers.
    if (request && request !== first) throw new Nonsense("an answer before its turn");
    return request;
  }

  /** @param {{n: number, offset: number, bytes: Uint8Array}} chunk */
  #collect({ n, offset, bytes }) {
    const request = this.#requestOf(n);
    if (!request) {
      this.#stale -= bytes.length;
      if (this.#stale < 0) throw new Nonsense("more than was asked for");
      return;
    }
    const { task } = request;
    const isInPlace = task.message.type === "request" && offset === request.received && offset + bytes.length <= task.bytes;
    if (!isInPlace) throw new Nonsense("a chunk out of place");
    request.bytes ??= new Uint8Array(task.bytes);
    request.bytes.set(bytes, offset);
    request.received += bytes.length;
    if (request.received === task.bytes) this.#take(request, request.bytes);
  }

  /** @param {number} n @param {Uint8Array} hashes */
  #collectHashes(n, hashes) {
    const request = this.#requestOf(n);
    if (!request) return;
    if (request.task.message.type !== "list" || hashes.length !== request.task.bytes) throw new Nonsense("hashes that were not asked for");
    this.#take(request, hashes);
  }

  /** @param {Request} request @param {Uint8Array} bytes */
  #take(request, bytes) {
    this.#finish(request);
    this.#slots = REQUESTS_MAX;
    // The slot is in use until the bytes are checked, so that a peer cannot pile up pieces that wait for it.
    this.#checking++;
    request.task.take(bytes).finally(() => {
      this.#checking--;
      this.#host.free(this);
    });
  }

  /** @param {Request} request */
  #finish({ n }) {
    this.#requests.delete(n);
    this.#watch();
  }

  /** Gives a request up. @param {number} n @returns {Request | undefined} */
  #drop(n) {
    const request = this.#requests.get(n);
    if (!request || this.#ended) return undefined;
    if (request.task.message.type === "request") this.#stale += request.task.bytes - request.received;
    this.#outbox.tell({ type: "cancel", n });
    this.#finish(request);
    return request;
  }

  /** Times the request whose turn it is: they are answered in order, so those behind it have not begun. */
  #watch() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const [first] = this.#requests.values();
    if (!first || this.#ended) return;
    const ms = this.#host.requestMs * Math.max(1, Math.ceil(first.task.bytes / PIECE_BYTES));
    this.#timer = setTimeout(() => this.#late(), ms);
  }

  #late() {
    this.#slots = 1;
    const numbers = [...this.#requests.keys()];
    for (const n of numbers) this.#drop(n)?.task.lose("late");
    this.#host.free(this);
  }
}
