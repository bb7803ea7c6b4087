/**
 * What this side has said in a session and the server has not confirmed, in order. Kept until it is, so that it can be said again over the next
 * connection: see "Resuming" in protocol.md. Knows nothing of codecs, sockets and time.
 */

import { failure } from "./codes.js";

/** More than a client can say between two confirmations at the usual rates. */
const WAITING_MAX = 4_096;
/** Confirmation is asked for whenever so many have been written since it last was. */
const ASK_EVERY = 256;

/** @typedef {{type: string, id?: number} & Record<string, any>} Message */

export class Outgoing {
  /** @type {Message[]} */
  #messages = [];
  /** So many of them have been written to the present connection. */
  #written = 0;
  /** So many came before them in this session. */
  #confirmed = 0;
  #unasked = 0;

  /** Puts a message behind the others. Throws `too-much-waiting` where nothing more may wait. @param {Message} message */
  push(message) {
    if (this.#messages.length >= WAITING_MAX) {
      throw failure("too-much-waiting", `${WAITING_MAX} messages wait for the server already`);
    }
    this.insist(message);
  }

  /** The same for what may not be turned away. @param {Message} message */
  insist(message) {
    this.#messages.push(message);
  }

  /** Puts a message in front of those that are not written yet: it is the next. @param {Message} message */
  hurry(message) {
    this.#messages.splice(this.#written, 0, message);
  }

  /** What is to be written next, if anything is. @returns {Message | undefined} */
  get next() {
    return this.#messages[this.#written];
  }

  /** Notes that the next one was written. Is it time to ask for a confirmation? @returns {boolean} */
  wrote() {
    this.#written++;
    this.#unasked = (this.#unasked + 1) % ASK_EVERY;
    return this.#unasked === 0;
  }

  /** Takes out what is next, because it cannot be written. */
  drop() {
    this.#messages.splice(this.#written, 1);
  }

  /** The server has received so many in this session. @param {number} received */
  confirm(received) {
    const confirmed = Math.min(Math.max(received - this.#confirmed, 0), this.#written);
    this.#messages.splice(0, confirmed);
    this.#written -= confirmed;
    this.#confirmed += confirmed;
  }

  /** The server has answered the message with this id, and so has received all before it as well: it answers in order. @param {number} id */
  answered(id) {
    const at = this.#messages.findIndex((message) => message.id === id);
    if (at < this.#written) this.confirm(this.#confirmed + at + 1);
  }

  /** Goes on over another connection, behind the first `received`. @param {number} received */
  resume(received) {
    this.confirm(received);
    this.#written = 0;
  }

  /**
   * Begins a session in which the server has received `received` already.
   * @param {number} received
   * @returns {{written: Message[], waiting: Message[]}} what was said in the session before and not confirmed, and what was not yet said
   */
  begin(received) {
    const written = this.#messages.slice(0, this.#written);
    const waiting = this.#messages.slice(this.#written);
    [this.#messages, this.#written, this.#confirmed] = [[], 0, received];
    return { written, waiting };
  }
}
