/**
 * One client of a server: its rooms, what is said in them, and the requests under way. Knows a transport and a codec by their shape and
 * neither of them by name; knows nothing about RTCPeerConnection.
 *
 * A frame that comes in is decoded, entered into the state (who is in which room) and handed on as an event with the name that it
 * has on the wire. A request carries an `id`; its promise settles when the `ack` or the `error` with that `id` is there. Coming
 * back after a lost connection is not here yet: a client that fired `close` is over.
 */

import { closeCode, failure } from "./codes.js";

/** Pings, `heartbeatMs` apart, that a server may leave without an answer. */
const UNANSWERED_MAX = 2;

/**
 * @typedef {object} Transport see `transport/websocket.js`
 * @property {string} type
 * @property {() => void} start
 * @property {(frame: string | Uint8Array) => void} send
 * @property {(frame: string | Uint8Array) => void} sendBestEffort
 * @property {() => void} close
 *
 * @typedef {{transport: Transport & EventTarget, codec: {encode: Function, decode: Function}}} Line an open connection and its codec
 *
 * @typedef {{peerId: string, metadata?: any}} Peer
 *
 * @typedef {object} CloseDetail why a connection is over
 * @property {string} code from `codes.js`
 * @property {string} reason for a person
 * @property {boolean} reconnect whether coming back unchanged makes sense
 * @property {number} [reconnectAfterMs] how long to wait before
 */

/**
 * Events, all of them CustomEvents whose `detail` is the message from the server: `joined`, `peer-joined`, `peer-updated`, `peer-left`,
 * `left`, `offer`, `answer`, `ice-candidate`, `message`, `goodbye`, and `error` for the refusal of something that was sent without a promise.
 * And one of our own, `close`, whose detail is a {@link CloseDetail}: fires once, after everything else, whoever ended the connection.
 */
export class SignalingClient extends EventTarget {
  #dial;
  /** @type {Line | undefined} */
  #line;
  #rooms = new Map();
  #requests = new Map();
  #lastId = 0;
  #received = 0;
  /** Messages that wait because somebody who awaited an answer has his turn first. */
  #held = [];
  #holding = false;
  #goodbye;
  #probe;
  #heard = true;
  #closed = false;
  #opening;

  /** @param {(options: {signal?: AbortSignal}) => Promise<Line>} dial opens a connection; `connect` in `connect.js` provides one */
  constructor(dial) {
    super();
    this.#dial = dial;
  }

  /** The `welcome` of the server: `peerId`, `iceServers`, `limits` and so on. Undefined until connected. @type {any} */
  welcome;

  /** My own peer id; undefined until connected. @returns {string | undefined} */
  get peerId() {
    return this.welcome?.peerId;
  }

  /** The door that we came in by, `webtransport` or `websocket`; undefined until connected. @returns {string | undefined} */
  get transport() {
    return this.#line?.transport.type;
  }

  /** The rooms that I am in. @returns {string[]} */
  get rooms() {
    return [...this.#rooms.keys()];
  }

  /** Who else is in a room, those who were there before me first. @param {string} room @returns {Peer[]} */
  peers(room) {
    return [...(this.#rooms.get(room)?.values() ?? [])];
  }

  /** Opens the connection. Settles when the server has said `welcome`. To be called once. @param {{signal?: AbortSignal}} [options] */
  async connect({ signal } = {}) {
    const line = await this.#dial({ signal });
    if (this.#closed || signal?.aborted) {
      line.transport.close();
      throw signal?.aborted ? signal.reason : failure("closed", "closed while connecting");
    }
    this.#line = line;
    const opened = new Promise((resolve, reject) => (this.#opening = { resolve, reject }));
    line.transport.addEventListener("message", ({ detail }) => this.#receive(detail));
    line.transport.addEventListener("close", ({ detail }) => this.#end(detail));
    line.transport.start();
    this.send("hello");
    await opened;
  }

  /**
   * Enters a room. Settles when I am in, with who was there before me; rejects with `room-full`, `bad-room-name` …
   * @param {string} room
   * @param {unknown} [metadata] what the others see of me
   * @returns {Promise<Peer[]>}
   */
  async join(room, metadata) {
    await this.request("join", { room, metadata });
    return this.peers(room);
  }

  /** Leaves a room, or every room. Settles when I am out. @param {string} [room] */
  async leave(room) {
    await this.request("leave", { room });
  }

  /**
   * Replaces what the others see of me, in `room`, or without it in the only room that I am in. Settles when the server has it.
   * @param {unknown} metadata
   * @param {string} [room]
   */
  async metadata(metadata, room) {
    await this.request("metadata", { room, metadata });
  }

  /**
   * Sends a message that nobody waits for: a signal, or a `message`. If it is refused, `error` fires.
   * @param {string} type
   * @param {{to?: string, room?: string, payload?: unknown}} [fields]
   */
  send(type, fields) {
    if (this.#closed || !this.#line) return;
    const { transport, codec } = this.#line;
    transport.send(codec.encode({ type, ...fields }));
  }

  /**
   * Sends a `message` that may be lost: as a datagram where the connection has such, else as any other.
   * @param {{to?: string, room?: string, payload: unknown}} fields
   */
  sendBestEffort(fields) {
    if (this.#closed || !this.#line) return;
    const { transport, codec } = this.#line;
    transport.sendBestEffort(codec.encode({ type: "message", ...fields }));
  }

  /**
   * Sends a message and settles when the server has carried it out; rejects with the `code` of its refusal, or of the connection's end.
   * @param {string} type
   * @param {object} [fields]
   * @returns {Promise<void>}
   */
  request(type, fields) {
    if (this.#closed || !this.#line) return Promise.reject(failure("closed", "not connected"));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#requests.set(id, { resolve, reject });
      this.send(type, { ...fields, id });
    });
  }

  /** Ends the connection. The others see `peer-left`, reason `disconnected`. */
  close() {
    this.#end({ code: "closed", reason: "closed by this side", reconnect: false });
  }

  #receive(frame) {
    if (this.#closed) return;
    let message;
    try {
      message = this.#line.codec.decode(frame);
    } catch (error) {
      this.#end({ code: "connection-lost", reason: `the server sent what is not a message: ${error.message}`, reconnect: true });
      return;
    }
    this.#heard = true;
    if (!message.bestEffort) this.#received++;
    if (this.#holding) this.#held.push(message);
    else this.#handle(message);
  }

  #handle(message) {
    switch (message.type) {
      case "welcome":
        this.welcome = message;
        this.#startProbing(message.heartbeatMs);
        this.#opening.resolve();
        return this.#hold();
      case "ack":
        return this.#settle(message.id, ({ resolve }) => resolve());
      case "error":
        if (this.#requests.has(message.id)) {
          const { code, message: text, retryable, retryAfterMs } = message;
          return this.#settle(message.id, ({ reject }) => reject(failure(code, text, { retryable, retryAfterMs })));
        }
        break;
      case "joined":
        this.#rooms.set(message.room, new Map(message.peers.map((peer) => [peer.peerId, peer])));
        break;
      case "peer-joined":
      case "peer-updated": {
        const { room, peerId, metadata } = message;
        this.#rooms.get(room)?.set(peerId, { peerId, metadata });
        break;
      }
      case "peer-left":
        this.#rooms.get(message.room)?.delete(message.peerId);
        break;
      case "left":
        this.#rooms.delete(message.room);
        break;
      case "goodbye":
        this.#goodbye = message;
        break;
      case "pong":
        return;
    }
    this.#tell(message.type, message);
  }

  #settle(id, how) {
    const request = this.#requests.get(id);
    if (!request) return;
    this.#requests.delete(id);
    how(request);
    this.#hold();
  }

  /**
   * Keeps back what comes now until a task later. Whoever awaited an answer so runs before the next event, and can listen for
   * it: behind `joined` and `ack` an offer may stand in the very same chunk. (A timer would be throttled in a hidden tab.)
   */
  #hold() {
    this.#holding = true;
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      this.#holding = false;
      while (this.#held.length > 0 && !this.#holding && !this.#closed) this.#handle(this.#held.shift());
    };
    port2.postMessage(null);
  }

  /**
   * A server that is gone without a word is noticed by asking it, and by hearing nothing for two beats. Each beat begins when the one
   * before is over: a page that was held up must not find two of them due at once, with no time for an answer between.
   */
  #startProbing(heartbeatMs, unanswered = 0) {
    this.#probe = setTimeout(() => {
      const silent = this.#heard ? 0 : unanswered;
      if (silent === UNANSWERED_MAX) {
        this.#end({ code: "connection-lost", reason: `the server has been silent for ${silent * heartbeatMs} ms`, reconnect: true });
        return;
      }
      this.#heard = false;
      this.send("ping", { received: this.#received });
      this.#startProbing(heartbeatMs, silent + 1);
    }, heartbeatMs);
  }

  /** The one place where a connection ends, whatever ended it. @param {Partial<CloseDetail> & {number?: number}} cause */
  #end(cause) {
    if (this.#closed) return;
    // What the server said last may still be waiting for its turn.
    this.#holding = false;
    while (this.#held.length > 0 && cause.code !== "closed") this.#handle(this.#held.shift());
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#probe);
    this.#line?.transport.close();

    const detail = cause.code ? cause : this.#farewell(cause);
    const error = failure(detail.code, detail.reason, { reconnect: detail.reconnect, reconnectAfterMs: detail.reconnectAfterMs });
    this.#opening?.reject(error);
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
    this.#rooms.clear();
    this.#tell("close", detail);
  }

  /** What the server said before it closed; else what the close code says; else only that the connection is lost. */
  #farewell({ number, reason }) {
    if (this.#goodbye) {
      const { code, reason, reconnect, reconnectAfterMs } = this.#goodbye;
      return { code, reason, reconnect, reconnectAfterMs };
    }
    const known = closeCode(number);
    if (known) return { code: known.slug, reason: reason || known.slug, reconnect: known.reconnect };
    return { code: "connection-lost", reason: reason || "the connection to the server is lost", reconnect: true };
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
