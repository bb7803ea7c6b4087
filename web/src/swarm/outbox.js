/**
 * What goes out to one peer over its channel: messages first, then the pieces that it asked for, one after another. Flow control is here: the
 * channel's buffer is filled up to a mark and then waited for, so that a message never stands behind more than that, and a peer that
 * reads slowly costs no memory. Knows nothing about files.
 */

import { BUFFERED_BYTES_HIGH, BUFFERED_BYTES_LOW, HAVES_PER_MESSAGE_MAX, QUEUED_MESSAGES_MAX } from "./limits.js";
import { CHUNK_DATA_BYTES_MAX, encodeChunk } from "./wire.js";

/**
 * A request to answer: with the bytes of a piece, with a message, or not at all, which refuses it.
 * @typedef {() => Promise<Uint8Array | {type: string} | undefined>} Answer
 *
 * @typedef {{n: number, answer: Answer, bytes?: Uint8Array, offset: number}} Job
 */

export class Outbox {
  #channel;
  #lost;
  /** @type {object[]} */
  #messages = [];
  /** @type {Map<string, number[]>} by file, the pieces that the peer has not been told of */
  #news = new Map();
  /** @type {Job[]} */
  #jobs = [];
  #pumping = false;
  #closed = false;
  #wake = () => {};

  /**
   * @param {RTCDataChannel} channel an open one
   * @param {(reason: string) => void} lost called when the channel takes no more, or the peer does not read
   */
  constructor(channel, lost) {
    this.#channel = channel;
    this.#lost = lost;
    channel.bufferedAmountLowThreshold = BUFFERED_BYTES_LOW;
    channel.addEventListener("bufferedamountlow", () => this.#wake());
  }

  /** How many requests wait for their answer, or get it. */
  get jobs() {
    return this.#jobs.length;
  }

  /** @param {object} message */
  tell(message) {
    if (this.#messages.length >= QUEUED_MESSAGES_MAX) return this.#end("the peer does not read");
    this.#messages.push(message);
    this.#pump();
  }

  /** Tells of a piece that was got; many of them share a message when the channel is busy. @param {string} id @param {number} piece */
  tellOfPiece(id, piece) {
    const pieces = this.#news.get(id);
    if (pieces) pieces.push(piece);
    else this.#news.set(id, [piece]);
    this.#pump();
  }

  /** Tells of no more pieces of a file that are still to be told of. @param {string} id */
  forget(id) {
    this.#news.delete(id);
  }

  /** Answers a request when its turn comes. @param {number} n @param {Answer} answer */
  serve(n, answer) {
    this.#jobs.push({ n, answer, offset: 0 });
    this.#pump();
  }

  /** Answers a request no further; its number may be one that never was. @param {number} n */
  cancel(n) {
    this.#jobs = this.#jobs.filter((job) => job.n !== n);
  }

  close() {
    this.#closed = true;
    this.#messages = [];
    this.#news.clear();
    this.#jobs = [];
    this.#wake();
  }

  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    while (!this.#closed) {
      if (this.#channel.bufferedAmount >= BUFFERED_BYTES_HIGH) {
        await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
        continue;
      }
      const message = this.#messages.shift() ?? this.#nextNews();
      if (message) this.#write(JSON.stringify(message));
      else if (this.#jobs.length > 0) await this.#work(this.#jobs[0]);
      else break;
    }
    this.#pumping = false;
  }

  #nextNews() {
    for (const [id, pieces] of this.#news) {
      const some = pieces.splice(0, HAVES_PER_MESSAGE_MAX);
      if (pieces.length === 0) this.#news.delete(id);
      return { type: "have", id, pieces: some };
    }
    return undefined;
  }

  /** Sends the next chunk of a piece, once the piece is there. @param {Job} job */
  async #work(job) {
    if (!job.bytes) {
      // A file may have gone from the disk, or a piece from the cache.
      const answer = await job.answer().catch(() => undefined);
      // Taken back meanwhile.
      if (this.#jobs[0] !== job) return;
      if (!(answer instanceof Uint8Array)) {
        this.#jobs.shift();
        this.#messages.push(answer ?? { type: "refuse", n: job.n });
        return;
      }
      job.bytes = answer;
    }
    const end = Math.min(job.offset + CHUNK_DATA_BYTES_MAX, job.bytes.length);
    this.#write(encodeChunk(job.n, job.offset, job.bytes.subarray(job.offset, end)));
    job.offset = end;
    if (end === job.bytes.length) this.#jobs.shift();
  }

  /** @param {string | Uint8Array} data */
  #write(data) {
    try {
      this.#channel.send(/** @type {any} */ (data));
    } catch (error) {
      this.#end(`the channel takes no more: ${error}`);
    }
  }

  /** @param {string} reason */
  #end(reason) {
    if (this.#closed) return;
    this.close();
    this.#lost(reason);
  }
}
