/**
 * A server in the same process: hands a SignalingClient a line, shows what comes over it, and says what a test wants said. Messages cross
 * as JSON text, a task later, as over a socket.
 */

import * as json from "../src/codec/json.js";

/** How long a test waits for anything. */
export const DEADLINE_MS = 2_000;

export const WELCOME = {
  type: "welcome",
  peerId: "me",
  resumeToken: "secret",
  resumed: false,
  received: 1,
  iceServers: [],
  heartbeatMs: 10_000,
  resumeWindowMs: 0,
  limits: {},
  version: "0.0.0",
};

export class FakeServer {
  #line;
  #arrived = [];
  #waiting = [];
  /** Datagrams, as they were sent. */
  datagrams = [];
  /** Whether the client has closed the line. */
  closed = false;
  /** How often it was asked for a line, and whether it gives none. */
  dialled = 0;
  unreachable = false;

  /** To be given to a SignalingClient. */
  dial = async () => {
    const server = this;
    this.dialled++;
    this.closed = false;
    if (this.unreachable) throw Object.assign(new Error("nobody there"), { code: "unreachable" });
    class FakeTransport extends EventTarget {
      type = "fake";
      started = false;
      start() {
        this.started = true;
      }
      send(frame) {
        server.#arrive(json.decode(frame));
      }
      sendBestEffort(frame) {
        server.datagrams.push(json.decode(frame));
        return true;
      }
      close() {
        server.closed = true;
      }
    }
    this.#line = new FakeTransport();
    return { transport: this.#line, codec: json };
  };

  /** Says messages to the client, all in one go, as a chunk of a stream brings them. */
  say(...messages) {
    for (const message of messages) this.sayFrame(json.encode(message));
  }

  sayFrame(frame) {
    if (!this.#line.started) throw new Error("nobody listens yet");
    this.#line.dispatchEvent(new CustomEvent("message", { detail: frame }));
  }

  /** Ends the line from the server's side. */
  end(number, reason = "") {
    this.#line.dispatchEvent(new CustomEvent("close", { detail: { number, reason } }));
  }

  /** The next message from the client, which has to be of this type. */
  async heard(type) {
    const message = this.#arrived.shift() ?? (await within(new Promise((resolve) => this.#waiting.push(resolve)), `the client says ${type}`));
    if (message.type !== type) throw new Error(`heard ${JSON.stringify(message)} where ${type} was expected`);
    return message;
  }

  /** Lets a client in: hears `hello`, says `welcome`. */
  async admit(client, welcome = {}) {
    const connected = client.connect();
    await this.heard("hello");
    this.say({ ...WELCOME, ...welcome });
    await within(connected, "connected");
  }

  /** Lets a client in that comes back; gives its `hello`. */
  async admitAgain(welcome = {}) {
    const hello = await this.heard("hello");
    this.say({ ...WELCOME, ...welcome });
    return hello;
  }

  #arrive(message) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#arrived.push(message);
  }
}

/** The next event of a type; rejects at the deadline. */
export function once(target, type) {
  return within(new Promise((resolve) => target.addEventListener(type, resolve, { once: true })), `event ${type}`);
}

/** The promise, or a rejection that says what did not come in time. */
export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${DEADLINE_MS} ms: ${what}`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
