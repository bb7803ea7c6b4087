/**
 * One client of a server: its session, its rooms, what is said in them, and the requests under way. Knows a transport and a codec by their shape
 * and neither of them by name; knows nothing about RTCPeerConnection.
 *
 * A frame that comes in is decoded, entered into the state (who is in which room) and handed on as an event with the name that it
 * has on the wire. What goes out is kept until the server has confirmed it. A connection that is lost is opened again: then the server goes on with
 * the session, and neither side has missed anything; or it has forgotten it, and the rooms are entered anew.
 */

import { backoffMs } from "./backoff.js";
import { causeOf, closeCode, failure, mayComeBack } from "./codes.js";
import { Comeback } from "./comeback.js";
import { Inbox } from "./inbox.js";
import { watchPage } from "./page.js";
import { Probing } from "./probing.js";
import { Room } from "./room.js";
import { Writer } from "./writer.js";

/** Said again in a new session, for they mean the same there. Whom a signal or a message was for has another id by then. */
const TIMELESS = new Set(["join", "leave", "metadata"]);
/** Not even said for the first time in another session: a ping counts what came in this one, a signal is for a peer in it, and the other has its own token. */
const OF_SESSION = new Set(["hello", "ping", "offer", "answer", "ice-candidate"]);
/** Never put aside: answers, and what is said of the session as a whole. */
const AT_ONCE = new Set(["welcome", "joined", "ack", "error", "pong", "goodbye"]);
/** Connections that are kept unclosed for the session's sake. After so many in vain there is no session to be saved. */
const SILENT_MAX = 8;
/** Nobody asks for another token when the one that there is ends so soon. */
const RENEWAL_MS_MIN = 1_000;
/** How a connection may end whose session does not. */
const RESUMABLE = new Set(["connection-lost", "connect-timeout", "timeout", "slow-consumer"]);

/**
 * @typedef {object} Transport see `transport/websocket.js`
 * @property {string} type
 * @property {() => void} start
 * @property {(frame: any) => void} send
 * @property {(frame: any) => boolean} sendBestEffort false where it has no datagrams, or none so large
 * @property {() => void} close
 *
 * @typedef {{encode: (message: object) => string | Uint8Array, decode: (frame: any) => any}} Codec
 * @typedef {{transport: Transport & EventTarget, codec: Codec}} Line an open connection and its codec
 * @typedef {import("./room.js").Peer} Peer
 * @typedef {import("./room.js").RoomOptions} RoomOptions
 *
 * @typedef {object} Cause why a connection is over
 * @property {string} code from `codes.js`
 * @property {string} reason for a person
 * @property {boolean} reconnect whether coming back unchanged makes sense
 * @property {number} [reconnectAfterMs] how long to wait before
 *
 * @typedef {"connecting" | "connected" | "reconnecting" | "closed"} ClientState
 *
 * @typedef {object} StateDetail
 * @property {ClientState} state
 * @property {Cause} [cause] why it is `reconnecting` or `closed`
 * @property {number} [retryInMs] when it is tried again, while `reconnecting`
 * @property {boolean} [resumed] `connected` again: in the same session, so that nothing was missed?
 *
 * @typedef {object} ClientOptions
 * @property {boolean} [reconnect] come back by itself after a connection was lost; true unless it is said otherwise
 * @property {number} [retries] how often the first attempt is repeated
 * @property {string | (() => string | Promise<string>)} [token] who we are, for servers that want to know; a function is asked for each connection, and
 * for another one before one runs out
 *
 * @typedef {{type: "offer" | "answer" | "ice-candidate", room: string, from: string, payload: any}} Signal
 *
 * @typedef {object} OwnEvents
 * @property {{type: "joined", room: string, peerId: string, peers: Peer[]}} joined
 * @property {Signal} offer
 * @property {Signal} answer
 * @property {Signal} ice-candidate
 * @property {{type: "ice-servers", iceServers: RTCIceServer[]}} ice-servers
 * @property {{type: "goodbye", code: string, reason: string, reconnect: boolean, reconnectAfterMs: number, closesInMs?: number}} goodbye
 * @property {{type: "error", code: string, message: string, retryable: boolean, retryAfterMs?: number}} error
 * @property {{type: string, [field: string]: any}} sent
 * @property {StateDetail} state
 * @property {Cause} close
 *
 * @typedef {OwnEvents & Omit<import("./room.js").RoomEvents, "link">} ClientEvents
 */

const ClientTarget = /** @type {new () => import("./typed-target.js").TypedTarget<ClientEvents>} */ (EventTarget);

/**
 * Events, all of them CustomEvents whose `detail` is the message from the server: `joined`, `peer-joined`, `peer-updated`, `peer-left`,
 * `left`, `offer`, `answer`, `ice-candidate`, `message`, `goodbye` (one with `closesInMs` only announces the end), and `error` for the refusal of something that
 * was sent without a promise, a new token for one, or because no new one is to be had (`no-token`).
 * And three of our own: `state`, whose detail is a {@link StateDetail}; `sent`, whose detail is a message as it goes out, without the client's token; and `close`,
 * whose detail is a {@link Cause}: fires once, after everything else, when the client is over for good.
 */
export class SignalingClient extends ClientTarget {
  #dial;
  /** @type {Required<Omit<ClientOptions, "token">> & ClientOptions} */
  #options;
  /** @type {Line | undefined} */
  #line;
  /** @type {ClientState} */
  #state = "connecting";
  /** @type {Map<string, Room>} */
  #rooms = new Map();
  /**
   * Those that are being entered: for each request one, in their order, which is that of the answers; and the one of that name that we were in before.
   * @type {Map<string, {rooms: Room[], before?: Room}>}
   */
  #entering = new Map();
  /** @type {Map<number, {resolve: () => void, reject: (error: Error) => void}>} */
  #requests = new Map();
  #lastId = 0;
  #writer = new Writer({
    ask: () => this.#ping(),
    refuse: ({ id }, error) => {
      const { code = "bad-message", message } = /** @type {{code?: string, message: string}} */ (error);
      const refusal = { type: "error", id, code, message, retryable: false };
      if (!this.#refuse(refusal)) this.#tell("error", refusal);
    },
  });
  #inbox = new Inbox((message) => this.#handle(message));
  /** How many messages have come in this session. */
  #received = 0;
  /** What came from a room before the answer to entering it, for another's offer may be faster than our `ack`; and what came behind that. @type {any[]} */
  #early = [];
  /**
   * Connections that have fallen silent, as far as we know. Closing one may still reach the server, and would end the session that is to be
   * resumed. @type {Transport[]}
   */
  #silent = [];
  /** @type {any} */
  #goodbye;
  #probing = new Probing({
    ask: () => this.#ping(),
    lost: (reason) => this.#lose({ code: "connection-lost", reason, reconnect: true }, true),
  });
  /** @type {{resolve: (resumed: boolean) => void, reject: (error: Error) => void} | undefined} */
  #opening;
  #comeback = new Comeback({
    open: (signal) => this.#open(signal),
    wait: (cause, retryInMs) => this.#setState({ state: "reconnecting", cause, retryInMs }),
    // What an attempt that was given up has opened nevertheless.
    drop: () => this.#drop(),
    giveUp: (cause) => this.#end(cause),
  });
  /** @type {string | undefined} */
  #resumeToken;
  /** Says who we are, by the latest token: an older one is not said again. @type {{type: string, token?: string}} */
  #hello = { type: "hello" };
  /** When it was last asked for. */
  #askedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #renewal;
  #unwatch = () => {};

  /**
   * @param {(options: {signal?: AbortSignal}) => Promise<Line>} dial opens a connection; `connect` in `connect.js` provides one
   * @param {ClientOptions} [options]
   */
  constructor(dial, options = {}) {
    super();
    this.#dial = dial;
    this.#options = { reconnect: true, retries: 0, ...options };
  }

  /** The latest `welcome` of the server: `peerId`, `iceServers`, `limits` and so on. Undefined until connected. @type {any} */
  welcome;

  /** `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() {
    return this.#state;
  }

  /** My own peer id; undefined until connected. Another one after a session was lost. @returns {string | undefined} */
  get peerId() {
    return this.welcome?.peerId;
  }

  /** The door that we came in by, `webtransport` or `websocket`; undefined while there is no connection. @returns {string | undefined} */
  get transport() {
    return this.#line?.transport.type;
  }

  /** The names of the rooms that I am in. @returns {string[]} */
  get rooms() {
    return [...this.#rooms.keys()];
  }

  /** The room that I entered first, of those that I am in. @returns {Room | undefined} */
  get room() {
    return this.#rooms.values().next().value;
  }

  /** Who else is in a room, those who were there before me first. @param {string} room @returns {Peer[]} */
  peers(room) {
    return this.#rooms.get(room)?.peers ?? [];
  }

  /** Opens the connection. Settles when the server has said `welcome`. To be called once. @param {{signal?: AbortSignal}} [options] */
  async connect({ signal } = {}) {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#open(signal);
        return;
      } catch (caught) {
        const error = /** @type {any} */ (caught);
        if (signal?.aborted || attempt >= this.#options.retries || !mayComeBack(error)) {
          this.#end(causeOf(error));
          throw signal?.aborted ? signal.reason : error;
        }
        await this.#comeback.pause(Math.max(error.reconnectAfterMs ?? 0, backoffMs(attempt)), signal);
      }
    }
  }

  /**
   * Enters a room. Settles when I am in; rejects with `room-full`, `bad-room-name` …
   * @param {string} name
   * @param {unknown} [metadata] what the others see of me
   * @param {RoomOptions} [options]
   * @returns {Promise<Room>}
   */
  async join(name, metadata, options = {}) {
    const room = new Room(this, name, metadata, options);
    const entering = this.#entering.get(name) ?? { rooms: [], before: this.#rooms.get(name) };
    const { rooms } = entering;
    this.#entering.set(name, entering);
    rooms.push(room);
    try {
      await this.request("join", { room: name, metadata });
    } finally {
      rooms.splice(rooms.indexOf(room), 1);
      if (rooms.length === 0) this.#entering.delete(name);
      this.#inbox.putBack(this.#early.splice(0));
    }
    const entered = this.#rooms.get(name) ?? room;
    entered.begin();
    return entered;
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
    const kept = room === undefined ? this.room : this.#rooms.get(room);
    if (kept) kept.metadata = metadata;
  }

  /**
   * Sends a message that nobody waits for: a signal, or a `message`. If it is refused, `error` fires. While there is no connection it waits
   * for the next one (a signal, only if that goes on with the session), and is refused there if it cannot be sent. Throws `bad-message` for
   * what cannot be spelled, `message-too-large` and `too-much-waiting`.
   * @param {string} type
   * @param {{to?: string, room?: string, payload?: unknown, id?: number, [key: string]: unknown}} [fields]
   */
  send(type, fields) {
    if (this.#state === "closed") return;
    const message = { type, ...fields };
    this.#writer.say(message);
    this.#tell("sent", message);
  }

  /**
   * Sends a `message` that may be lost: as a datagram where the connection has such, else as any other; not at all while there is none.
   * @param {{to?: string, room?: string, payload?: unknown}} fields
   */
  sendBestEffort(fields) {
    // What does not go as a datagram is a message as any other, and is counted as such.
    if (!this.#writer.sayBestEffort({ type: "message", ...fields })) this.send("message", fields);
  }

  /**
   * Sends a message and settles when the server has carried it out; rejects with the `code` of its refusal, or of the session's end.
   * @param {string} type
   * @param {object} [fields]
   * @returns {Promise<void>}
   */
  request(type, fields) {
    if (this.#state === "closed") return Promise.reject(failure("closed", "not connected"));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#requests.set(id, { resolve, reject });
      try {
        this.send(type, { ...fields, id });
      } catch (error) {
        this.#requests.delete(id);
        reject(error);
      }
    });
  }

  /** Ends the session. The others see `peer-left`, reason `disconnected`. */
  close() {
    this.#end({ code: "closed", reason: "closed by this side", reconnect: false });
  }

  // ---- one connection

  /** Opens a connection and waits for its welcome; whether it goes on with the session before. @param {AbortSignal} [signal] */
  async #open(signal) {
    const line = await this.#dial({ signal });
    if (this.#state === "closed" || this.#comeback.isHeld || signal?.aborted) {
      line.transport.close();
      throw signal?.aborted ? signal.reason : failure("closed", "closed while connecting", { reconnect: this.#comeback.isHeld });
    }
    this.#line = line;
    /** @type {Promise<boolean>} */
    const opened = new Promise((resolve, reject) => (this.#opening = { resolve, reject }));
    // It may end while the token is waited for.
    opened.catch(() => {});
    line.transport.addEventListener("message", (event) => this.#line === line && this.#receive(/** @type {CustomEvent} */ (event).detail));
    line.transport.addEventListener("close", (event) => this.#line === line && this.#lose(this.#farewell(/** @type {CustomEvent} */ (event).detail)));
    const giveUp = () => this.#line === line && this.#lose({ code: "connect-timeout", reason: "the server said no welcome in time", reconnect: true }, true);
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      line.transport.start();
      const token = await this.#askToken();
      if (this.#line === line) {
        this.#hello.token = token;
        const resume = this.#resumeToken && { token: this.#resumeToken, received: this.#received };
        line.transport.send(line.codec.encode({ ...this.#hello, resume }));
      }
      return await opened;
    } catch (error) {
      if (this.#line === line) {
        this.#opening = undefined;
        this.#drop();
      }
      throw error;
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** Who issues it may be away for a while, as the server may. An error with `reconnect: false` says that it will give none. */
  async #askToken() {
    const { token } = this.#options;
    this.#askedAt = performance.now();
    try {
      return typeof token === "function" ? await token() : token;
    } catch (cause) {
      const { message, reconnect } = /** @type {any} */ (cause ?? {});
      throw failure("no-token", `no token: ${message}`, { cause, reconnect });
    }
  }

  /**
   * Says another token, before the present one runs out. It is asked for at once, as a timer may be late where nobody looks at the page; unless one was
   * asked for just now: who gives such of a few seconds, fails, or has no other yet, is asked when half of what is left is over.
   * @param {number} endsAt
   * @returns {Promise<void>}
   */
  async #renewToken(endsAt) {
    const now = performance.now();
    const leftMs = endsAt - now;
    const line = this.#line;
    clearTimeout(this.#renewal);
    if (!line || leftMs < RENEWAL_MS_MIN) return;
    if (now - this.#askedAt < leftMs) {
      this.#renewal = setTimeout(() => this.#renewToken(endsAt), leftMs / 2);
      return;
    }
    let token;
    try {
      token = await this.#askToken();
    } catch (caught) {
      const { code, message, reconnect } = /** @type {any} */ (caught);
      const retryable = reconnect !== false;
      if (this.#line === line) this.#tell("error", { type: "error", code, message, retryable });
      if (!retryable) return;
    }
    // Over another connection one was said that is newer.
    if (this.#line !== line) return;
    if (!token || token === this.#hello.token) return this.#renewToken(endsAt);
    this.#hello.token = token;
    this.#writer.hurry(this.#hello);
    this.#tell("sent", { type: "hello" });
  }

  /** @param {any} welcome */
  #welcomed(welcome) {
    const { resumed, received, heartbeatMs, limits, resumeWindowMs, resumeToken } = welcome;
    this.welcome = welcome;
    this.#resumeToken = resumeWindowMs > 0 ? resumeToken : undefined;
    if (resumed) {
      this.#writer.resume(received);
    } else {
      // `hello` and `welcome` are the first messages of a session.
      [this.#received, this.#early] = [1, []];
      this.#renew(this.#writer.renew(1));
    }
    // Another connection goes on with their session, or none does.
    this.#closeSilent();
    this.#setIceServers(welcome.iceServers);
    this.#probing.start(heartbeatMs);
    this.#opening?.resolve(resumed);
    this.#opening = undefined;
    this.#setState({ state: "connected", resumed });
    if (!this.#line) return;
    this.#writer.open(this.#line, limits ?? {});
    // A token is only used up when something has come behind it.
    if (resumed) this.#ping();
  }

  /** @param {RTCIceServer[]} iceServers */
  #setIceServers(iceServers) {
    this.welcome.iceServers = iceServers;
    for (const room of this.#rooms.values()) room.setIceServers(iceServers);
  }

  /** In a new session: enters the rooms of the one before, then goes on with what still makes sense. @param {ReturnType<Writer["renew"]>} said */
  #renew({ written, waiting }) {
    const error = failure("connection-lost", "the session was lost before the server had confirmed this");
    const said = [...written, ...waiting];
    const isOver = (/** @type {{type: string}} */ { type }, /** @type {number} */ i) => (i < written.length ? !TIMELESS.has(type) : OF_SESSION.has(type));
    for (const { id } of said.filter(isOver)) this.#settle(id, ({ reject }) => reject(error));
    const again = said.filter((message, i) => !isOver(message, i));
    for (const room of this.#rooms.values()) {
      // The answer to the first time may have been lost half way.
      if (again.some(({ type, room: name }) => type === "join" && name === room.name)) continue;
      this.#enterAgain(room);
    }
    for (const message of again) this.#writer.insist(message);
  }

  /** @param {Room} room that we were in, in the session before */
  #enterAgain(room) {
    const id = ++this.#lastId;
    const reject = (/** @type {any} */ { code, retryAfterMs }) => {
      if (retryAfterMs === undefined) return this.#leave(room, code);
      // All clients of an address share a rate, and may all have lost the same server.
      const { peerId } = this;
      setTimeout(() => this.peerId === peerId && this.#rooms.get(room.name) === room && this.#enterAgain(room), retryAfterMs);
    };
    this.#requests.set(id, { resolve: () => {}, reject });
    this.#writer.insist({ type: "join", room: room.name, metadata: room.metadata, id });
  }

  /** @param {any} frame */
  #receive(frame) {
    let message;
    try {
      message = this.#line?.codec.decode(frame);
    } catch (error) {
      this.#lose({ code: "connection-lost", reason: `the server sent what is not a message: ${/** @type {Error} */ (error).message}`, reconnect: true });
      return;
    }
    this.#probing.heard();
    if (message.type === "welcome") {
      // What still waits belongs to the session before.
      this.#inbox.flush();
      return this.#handle(message);
    }
    if (!isLast(message) && !message.bestEffort) this.#received++;
    this.#inbox.take(message);
  }

  /** @param {any} message */
  #handle(message) {
    if (this.#state === "closed") return;
    const entering = this.#entering.get(message.room);
    const present = this.#rooms.get(message.room);
    // Who enters a room while the answer to leaving it is still to come is told of that first.
    const isEarly = this.#early.length > 0 || (entering && (!present || present !== entering.before));
    if (isEarly && !AT_ONCE.has(message.type)) return void this.#early.push(message);
    switch (message.type) {
      case "welcome":
        this.#welcomed(message);
        return this.#inbox.hold();
      case "goodbye":
        if (isLast(message)) this.#goodbye = message;
        else if (message.code === "token-expired") void this.#renewToken(performance.now() + message.closesInMs);
        break;
      case "ack":
        return this.#settle(message.id, ({ resolve }) => resolve());
      case "error":
        if (this.#refuse(message)) return;
        break;
      case "pong":
        return this.#writer.confirm(message.received);
      case "ice-servers":
        this.#setIceServers(message.iceServers);
        break;
      case "joined":
        if (!present) this.#rooms.set(message.room, entering?.rooms[0] ?? new Room(this, message.room));
        break;
    }
    const room = this.#rooms.get(message.room);
    // Best effort keeps no order: it may come before its sender has joined, and after it has left.
    if (message.bestEffort && !room?.has(message.from)) return;
    if (message.type === "left") this.#rooms.delete(message.room);
    room?.enter(message);
    this.#tell(message.type, message);
    room?.tell(message);
  }

  /** @param {any} refusal @returns {boolean} whether somebody waits for it */
  #refuse({ id, code, message, retryable, retryAfterMs }) {
    const isAwaited = this.#requests.has(id);
    this.#settle(id, ({ reject }) => reject(failure(code, message, { retryable, retryAfterMs })));
    return isAwaited;
  }

  /** @param {number | undefined} id @param {(request: {resolve: () => void, reject: (error: Error) => void}) => void} how */
  #settle(id, how) {
    const request = id === undefined ? undefined : this.#requests.get(id);
    if (!request) return;
    this.#requests.delete(/** @type {number} */ (id));
    this.#writer.answered(/** @type {number} */ (id));
    how(request);
    this.#inbox.hold();
  }

  /** A room that could not be entered again. @param {Room} room @param {string} reason */
  #leave(room, reason) {
    if (this.#rooms.get(room.name) !== room) return;
    this.#rooms.delete(room.name);
    const left = { type: "left", room: room.name, reason };
    this.#tell("left", left);
    room.tell(left);
  }

  #ping() {
    const message = { type: "ping", received: this.#received };
    this.#writer.hurry(message);
    this.#tell("sent", message);
  }

  // ---- the end of a connection, and coming back

  /** What the server said before it closed; else what the close code says; else only that the connection is lost. @returns {Cause} */
  #farewell(/** @type {{number?: number, reason?: string}} */ { number, reason }) {
    // It may still be waiting for its turn.
    this.#inbox.flush();
    if (this.#goodbye) {
      const { type, ...cause } = this.#goodbye;
      return cause;
    }
    const known = closeCode(number);
    if (known) return { code: known.slug, reason: reason || known.slug, reconnect: known.reconnect };
    return { code: "connection-lost", reason: reason || "the connection to the server is lost", reconnect: true };
  }

  /** Lets go of the connection, and of nothing else. @param {boolean} [isSilent] */
  #drop(isSilent) {
    this.#probing.stop();
    this.#writer.close();
    clearTimeout(this.#renewal);
    const line = this.#line;
    this.#line = this.#goodbye = undefined;
    if (!line) return;
    if (!isSilent || !this.#resumeToken) return line.transport.close();
    this.#silent.push(line.transport);
    if (this.#silent.length > SILENT_MAX) this.#silent.shift()?.close();
  }

  #closeSilent() {
    for (const transport of this.#silent.splice(0)) transport.close();
  }

  /** The connection is over. @param {Cause} cause @param {boolean} [isSilent] only for us: the server may know nothing of it */
  #lose(cause, isSilent) {
    if (this.#state === "closed") return;
    this.#drop(isSilent);
    const opening = this.#opening;
    this.#opening = undefined;
    if (!opening && !RESUMABLE.has(cause.code)) this.#resumeToken = undefined;
    // Of who gives tokens there may be another, with which it is no coming back unchanged.
    const mayReturn = cause.reconnect || (cause.code === "token-expired" && typeof this.#options.token === "function");
    if (opening) opening.reject(asError(cause));
    else if (mayReturn && this.#options.reconnect) void this.#comeback.begin(cause);
    else this.#end(cause);
  }

  #watch() {
    this.#unwatch();
    this.#unwatch = watchPage({
      wake: (networkChanged) => {
        if (this.#state === "connected") this.#probing.doubt();
        else this.#comeback.wake();
        if (networkChanged) for (const room of this.#rooms.values()) room.networkChanged();
      },
      // The others see us leave at once, and not when the server has lost its patience.
      hide: () => {
        this.#closeSilent();
        if (!this.#line) return;
        // While the page is hidden away nothing is tried: it is `show` that ends the wait.
        this.#comeback.isHeld = true;
        this.#lose({ code: "page-hidden", reason: "the page was left", reconnect: true });
      },
      show: () => {
        this.#comeback.isHeld = false;
        this.#comeback.wake();
      },
    });
  }

  /** The one place where a client ends, whatever ended it. @param {Cause} cause */
  #end(cause) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#closeSilent();
    const error = asError(cause);
    this.#setState({ state: "closed", cause });
    this.#comeback.end();
    this.#unwatch();
    this.#opening?.reject(error);
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
    const rooms = [...this.#rooms.values()];
    this.#rooms.clear();
    for (const room of rooms) room.tell({ type: "left", room: room.name, reason: cause.code });
    this.#tell("close", cause);
  }

  /** @param {StateDetail} detail */
  #setState(detail) {
    const wasConnected = this.#state === "connected";
    this.#state = detail.state;
    if (detail.state === "connected" && !wasConnected) {
      this.#comeback.connected();
      this.#watch();
    }
    this.#tell("state", detail);
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Is this the server's last word, and not the announcement of it? @param {any} message */
function isLast({ type, closesInMs }) {
  return type === "goodbye" && closesInMs === undefined;
}

/** @param {Cause} cause */
function asError({ code, reason, ...more }) {
  return failure(code, reason, more);
}
