/**
 * The way out: what is said in a session is kept until the server has confirmed it, and written to whatever connection there is, as fast as the
 * server wants it. Knows a line by its shape, and of a message only how to spell it.
 */

import { failure } from "./codes.js";
import { Outgoing } from "./outgoing.js";
import { Pace } from "./pace.js";

/** @typedef {import("./outgoing.js").Message} Message */

const UTF8 = new TextEncoder();

export class Writer {
  #ask;
  #refuse;
  #outgoing = new Outgoing();
  /** @type {import("./signaling.js").Line | undefined} */
  #line;
  /** Of the session: the server has one account for it, over all its connections. @type {Pace | undefined} */
  #pace;
  #messageBytesMax = Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pause;

  /**
   * @param {object} hooks
   * @param {() => void} hooks.ask says something that is answered with a confirmation
   * @param {(message: Message, error: Error) => void} hooks.refuse a message that was taken while there was no connection, and cannot be sent
   */
  constructor({ ask, refuse }) {
    this.#ask = ask;
    this.#refuse = refuse;
  }

  /**
   * Says something, now or over the next connection. Throws `too-much-waiting`; and, while there is a connection, `bad-message` for what cannot be spelled, and
   * `message-too-large`.
   * @param {Message} message
   */
  say(message) {
    if (this.#line) this.#spell(this.#line, message);
    this.#outgoing.push(message);
    this.#write();
  }

  /** The same for what has to be said however much waits: without it, it would wait for ever. @param {Message} message */
  insist(message) {
    this.#outgoing.insist(message);
    this.#write();
  }

  /** The same for what is of use only now, whatever waits: a question whether anybody is there. @param {Message} message */
  hurry(message) {
    this.#outgoing.hurry(message);
    // What waited for its turn may be longer, and so wait longer.
    this.#rest();
    this.#write();
  }

  /**
   * Sends what may be lost, if there is a connection and the server wants more now.
   * @param {object} message
   * @returns {boolean} false if the connection has no way for it but the usual one
   */
  sayBestEffort(message) {
    if (!this.#line) return true;
    const { transport, codec } = this.#line;
    const frame = encode(codec, message);
    return /** @type {Pace} */ (this.#pace).take(sizeOf(frame)) > 0 || transport.sendBestEffort(frame);
  }

  /** Goes on with the session, of which the server has so many messages. @param {number} received */
  resume(received) {
    this.#outgoing.resume(received);
  }

  /** Begins a session, in which the server has so many messages already; what was said before and is not confirmed. @param {number} received */
  renew(received) {
    this.#pace = undefined;
    return this.#outgoing.begin(received);
  }

  /** Writes to this connection from now on. @param {import("./signaling.js").Line} line @param {{messageBytes?: number, messagesPerSecond?: number}} limits those of `welcome` */
  open(line, limits) {
    this.#line = line;
    this.#pace ??= new Pace(limits);
    this.#messageBytesMax = limits.messageBytes ?? Infinity;
    this.#write();
  }

  /** Writes to no connection. */
  close() {
    this.#line = undefined;
    this.#rest();
  }

  /** The server has so many messages of this session. @param {number} received */
  confirm(received) {
    this.#outgoing.confirm(received);
  }

  /** The server has answered this message. @param {number} id */
  answered(id) {
    this.#outgoing.answered(id);
  }

  /** One message more than the server takes would end the session, and every line with it. @param {import("./signaling.js").Line} line @param {Message} message */
  #spell({ codec }, message) {
    const frame = encode(codec, message);
    const bytes = sizeOf(frame);
    if (bytes <= this.#messageBytesMax) return frame;
    throw failure("message-too-large", `${bytes} bytes, where the server takes ${this.#messageBytesMax}`);
  }

  #rest() {
    clearTimeout(this.#pause);
    this.#pause = undefined;
  }

  #write() {
    while (this.#line && this.#pace && this.#pause === undefined && this.#outgoing.next) {
      const message = this.#outgoing.next;
      let frame;
      try {
        frame = this.#spell(this.#line, message);
      } catch (error) {
        this.#outgoing.drop();
        this.#refuse(message, /** @type {Error} */ (error));
        continue;
      }
      const waitMs = this.#pace.take(sizeOf(frame), message.type === "join");
      if (waitMs > 0) {
        this.#pause = setTimeout(() => {
          this.#pause = undefined;
          this.#write();
        }, waitMs);
        return;
      }
      this.#line.transport.send(frame);
      if (this.#outgoing.wrote()) this.#ask();
    }
  }
}

/** @param {import("./signaling.js").Codec} codec @param {object} message */
function encode(codec, message) {
  try {
    return codec.encode(message);
  } catch (/** @type {any} */ cause) {
    throw failure("bad-message", cause.message, { cause, retryable: false });
  }
}

/** @param {string | Uint8Array} frame */
function sizeOf(frame) {
  return typeof frame === "string" ? UTF8.encode(frame).length : frame.length;
}
