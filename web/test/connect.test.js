import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import * as msgpack from "../src/codec/msgpack.js";
import { connect } from "../src/connect.js";
import { FrameDecoder, encodeFrame } from "../src/framing.js";
import { WELCOME, once, within } from "./fake-server.js";

const WT = { type: "webtransport", url: "https://h/wt", certificateHashes: [{ algorithm: "sha-256", value: "AQI=" }, { algorithm: "sha-256", value: "Aw==" }] };
const WS = { type: "websocket", url: "ws://h/ws" };

/** What a server answers, in either codec: welcome, and to a join with somebody's offer right behind. */
function answers({ type, room, id }) {
  if (type === "hello") return [WELCOME];
  if (type !== "join") return [];
  return [{ type: "joined", room, peerId: "me", peers: [{ peerId: "a" }] }, { type: "ack", id }, { type: "offer", from: "a", room, payload: 1 }];
}

class FakeWebSocket {
  constructor(url, subprotocols) {
    Object.assign(this, { url, subprotocols });
    queueMicrotask(() => this.onopen());
  }
  send(text) {
    for (const message of answers(JSON.parse(text))) setImmediate(() => this.onmessage({ data: JSON.stringify(message) }));
  }
  close() {
    setImmediate(() => this.onclose({ code: 1000, reason: "" }));
  }
}

/** Opens at once, never, or fails. */
function fakeWebTransport(behaviour, made) {
  return class {
    constructor(url, options) {
      made.push({ url, options, session: this });
      this.closed = new Promise((resolve) => (this.finish = resolve));
      const error = new Error("refused");
      this.ready = behaviour === "opens" ? Promise.resolve() : behaviour === "fails" ? Promise.reject(error) : new Promise((_, reject) => (this.refuse = reject));
      this.datagrams = { readable: new ReadableStream(), writable: new WritableStream({ write: (chunk) => void this.sent.push(chunk) }), maxDatagramSize: 20 };
    }
    sent = [];
    async createBidirectionalStream() {
      const decoder = new FrameDecoder();
      let toClient;
      const readable = new ReadableStream({ start: (controller) => void (toClient = controller) });
      const writable = new WritableStream({
        write: (chunk) => {
          const replies = decoder.push(chunk).flatMap((frame) => answers(msgpack.decode(frame)));
          // All in one chunk, as a stream may bring them.
          if (replies.length > 0) toClient.enqueue(Uint8Array.from(replies.flatMap((reply) => [...encodeFrame(msgpack.encode(reply))])));
        },
      });
      return { readable, writable };
    }
    close() {
      this.over = true;
      this.refuse?.(new Error("closed"));
      this.finish({ closeCode: 0, reason: "" });
    }
  };
}

let made;
let transports;
beforeEach((t) => {
  made = [];
  transports = [WT, WS, { type: "pigeon" }];
  globalThis.fetch = async () => Response.json({ transports });
  globalThis.WebSocket = FakeWebSocket;
  globalThis.WebTransport = fakeWebTransport("opens", made);
});

test("auto takes WebTransport, and pins every hash", async () => {
  const client = await within(connect("http://h"), "connected");
  assert.equal(client.transport, "webtransport");
  const hash = (...bytes) => ({ algorithm: "sha-256", value: Uint8Array.from(bytes) });
  assert.deepEqual(made[0].options, { serverCertificateHashes: [hash(1, 2), hash(3)] });
  client.close();
});

test("nothing is pinned where the certificate is a real one", async () => {
  transports = [{ type: "webtransport", url: "https://h/wt" }];
  const client = await within(connect("http://h"), "connected");
  assert.deepEqual(made[0].options, {});
  client.close();
});

for (const transport of ["webtransport", "websocket"]) {
  test(`who connects into a room by ${transport} misses nothing that comes right behind`, async () => {
    const client = await within(connect("http://h", { room: "r", transport }), "connected");
    assert.equal(client.transport, transport);
    assert.deepEqual(client.peers("r"), [{ peerId: "a" }]);
    assert.equal((await once(client, "offer")).detail.payload, 1);
    client.close();
  });
}

test("best effort is a datagram where it fits in one", async () => {
  const client = await within(connect("http://h", { transport: "webtransport" }), "connected");
  client.sendBestEffort({ payload: "x".repeat(100) });
  assert.deepEqual(made[0].session.sent, []);
  client.sendBestEffort({});
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(made[0].session.sent.map((frame) => msgpack.decode(frame)), [{ type: "message" }]);
  client.close();
});

test("auto falls back to WebSocket when WebTransport fails, is not there, or stays silent", async (t) => {
  for (const behaviour of ["fails", "silent", "missing"]) {
    globalThis.WebTransport = behaviour === "missing" ? undefined : fakeWebTransport(behaviour, made);
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const connecting = connect("http://h");
    // Until the session has been asked for; then its time runs out.
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(3_000);
    t.mock.timers.reset();
    const client = await within(connecting, `connected although WebTransport is ${behaviour}`);
    assert.equal(client.transport, "websocket", behaviour);
    if (behaviour === "silent") assert.ok(made.at(-1).session.over, "what was given up is closed");
    client.close();
  }
});

test("a transport that was asked for is not replaced by another", async () => {
  globalThis.WebTransport = fakeWebTransport("fails", made);
  await assert.rejects(connect("http://h", { transport: "webtransport" }), { code: "unreachable" });
  globalThis.WebTransport = undefined;
  await assert.rejects(connect("http://h", { transport: "webtransport" }), { code: "unsupported" });
});

test("time and the caller's signal both end the waiting", async () => {
  globalThis.WebTransport = fakeWebTransport("silent", made);
  await assert.rejects(connect("http://h", { transport: "webtransport", timeoutMs: 1 }), { code: "connect-timeout" });
  const controller = new AbortController();
  const connecting = connect("http://h", { transport: "webtransport", signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(connecting, /enough/);
});

// ---- the race, and what is remembered of it

/** A WebSocket that never opens, as behind a proxy that knows none. */
class SilentWebSocket {
  constructor() {
    made.push({ socket: this });
  }
  close() {
    this.over = true;
  }
}

const settled = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
};

test("WebTransport has half a second for itself, and no more", async (t) => {
  globalThis.WebTransport = fakeWebTransport("silent", made);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const connecting = connect("http://h");
  await settled();
  let opened = false;
  void connecting.then(() => (opened = true));
  t.mock.timers.tick(499);
  await settled();
  assert.ok(!opened);
  t.mock.timers.tick(1);
  const client = await within(connecting, "connected");
  assert.equal(client.transport, "websocket");
  assert.ok(made[0].session.over, "the loser is closed");
  client.close();
});

test("where WebSocket is blocked, WebTransport wins although it is slow", async (t) => {
  globalThis.WebSocket = SilentWebSocket;
  const Slow = fakeWebTransport("silent", made);
  globalThis.WebTransport = class extends Slow {
    constructor(...args) {
      super(...args);
      this.ready.catch(() => {});
      this.ready = new Promise((resolve) => (this.arrive = resolve));
    }
  };
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const connecting = connect("http://h");
  await settled();
  t.mock.timers.tick(500);
  await settled();
  made[0].session.arrive();
  const client = await within(connecting, "connected");
  assert.equal(client.transport, "webtransport");
  assert.ok(made[1].socket.over, "the loser is closed");
  client.close();
});

/** Each success renewed it, so a server whose WebTransport stayed shut once was never again asked for it by who came every few minutes. */
test("that WebSocket won is remembered for ten minutes from then, however often it is used meanwhile", async (t) => {
  const items = new Map();
  const localStorage = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value) };
  Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "localStorage"));
  t.mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
  globalThis.WebTransport = fakeWebTransport("fails", made);
  const tried = async (ms) => {
    t.mock.timers.setTime(1_000_000 + ms);
    const before = made.length;
    const client = await within(connect("http://h"), "connected");
    assert.equal(client.transport, "websocket");
    client.close();
    return made.length > before;
  };
  assert.equal(await tried(0), true);
  for (let minute = 1; minute < 10; minute++) assert.equal(await tried(minute * 60_000), false, `after ${minute} minutes`);
  assert.equal(await tried(10 * 60_000), true, "then there is a race again");
  assert.equal(await tried(20 * 60_000 - 1), false, "and what it showed is remembered as long");
});

test("where WebSocket won it is tried first, and WebTransport half a second later", async (t) => {
  const items = new Map();
  const localStorage = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value) };
  Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "localStorage"));
  globalThis.WebTransport = fakeWebTransport("fails", made);
  (await within(connect("http://h"), "connected")).close();
  assert.equal(made.length, 1);
  const client = await within(connect("http://h"), "connected");
  assert.deepEqual([client.transport, made.length], ["websocket", 1], "it was not even tried");
  client.close();

  // And should the remembered one be blocked by now, there is still the other.
  globalThis.WebSocket = SilentWebSocket;
  globalThis.WebTransport = fakeWebTransport("opens", made);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const connecting = connect("http://h");
  await settled();
  t.mock.timers.tick(500);
  const other = await within(connecting, "connected");
  assert.equal(other.transport, "webtransport");
  other.close();
});

test("WebSocket speaks MessagePack where that is asked for", async () => {
  const subprotocols = [];
  globalThis.WebSocket = class {
    constructor(url, offered) {
      subprotocols.push(...offered);
      queueMicrotask(() => this.onopen());
    }
    send(bytes) {
      for (const message of answers(msgpack.decode(bytes))) setImmediate(() => this.onmessage({ data: msgpack.encode(message).buffer }));
    }
    close() {}
  };
  const client = await within(connect("http://h", { transport: "websocket", codec: "msgpack" }), "connected");
  assert.deepEqual(subprotocols, ["switchboard.msgpack"]);
  client.close();
});
