/** `socket.io-client` 4, unchanged, in node and in Chromium, over each of its transports: rooms, signals, acknowledgements, bytes, and a lost connection. */

import assert from "node:assert/strict";
import { createServer, connect } from "node:net";
import { test } from "node:test";

import { io } from "socket.io-client";

import { startBrowser, startServer, within } from "../browser/support.js";
import { bundle } from "./bundle.js";

const WAYS = { polling: ["polling"], websocket: ["websocket"], "default, with the upgrade": undefined };

/** A client that is connected; it ends with the test. */
async function connected(t, url, transports) {
  const socket = io(url, { transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 });
  t.after(() => socket.disconnect());
  await next(socket, "connect");
  return socket;
}

const next = (socket, event) => within(new Promise((resolve) => socket.once(event, resolve)), `the event ${event}`);

/** What comes as `event` because of what `act` does. */
async function because(socket, event, act) {
  const coming = next(socket, event);
  act();
  return coming;
}

test("ICE servers come behind the connection, and rooms for relays alone say so", async (t) => {
  const { url } = await startServer(t, { SWITCHBOARD_ICE_SERVERS: "stun:stun.example.org", SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter" });
  for (const transports of Object.values(WAYS)) {
    const socket = io(url, { transports, forceNew: true });
    t.after(() => socket.disconnect());
    assert.deepEqual(await next(socket, "ice-servers"), { iceServers: [{ urls: ["stun:stun.example.org"] }] });
    for (const [room, policy] of [["shelter", "relay"], ["other", undefined]]) {
      assert.equal((await because(socket, "joined", () => socket.emit("join", { room }))).iceTransportPolicy, policy);
      await ask(socket, "leave", { room });
      assert.equal((await because(socket, "peer-list", () => socket.emit("announce", { hash: room }))).iceTransportPolicy, policy);
    }
  }
});

const ask = (socket, event, argument) => within(socket.timeout(10_000).emitWithAck(event, argument), `the answer to ${event}`);

async function announced(socket, hash, peerId) {
  const { peers } = await because(socket, "peer-list", () => socket.emit("announce", { hash, peerId }));
  return peers;
}

for (const [name, transports] of Object.entries(WAYS)) {
  test(`two clients announce themselves and exchange signals: ${name}`, async (t) => {
    const { url } = await startServer(t);
    const [anna, bert] = [await connected(t, url, transports), await connected(t, url, transports)];
    assert.deepEqual(await announced(anna, "hash"), []);
    const newcomer = next(anna, "new-peer");
    assert.deepEqual(await announced(bert, "hash"), [anna.id]);
    assert.deepEqual(await newcomer, { peerId: bert.id });
    const offer = await because(anna, "offer", () => bert.emit("offer", { targetPeer: anna.id, offer: { type: "offer", sdp: "v=0" }, fromPeer: "forged" }));
    assert.deepEqual(offer, { fromPeer: bert.id, targetPeer: anna.id, offer: { type: "offer", sdp: "v=0" } });
    const answer = await because(bert, "answer", () => anna.emit("answer", { targetPeer: bert.id, answer: "v=1" }));
    assert.deepEqual(answer, { fromPeer: anna.id, targetPeer: bert.id, answer: "v=1" });
    const candidate = await because(bert, "ice-candidate", () => anna.emit("ice-candidate", { candidate: null }));
    assert.deepEqual(candidate, { fromPeer: anna.id, candidate: null });
    if (!transports) {
      await within((async () => { while (anna.io.engine.transport.name !== "websocket") await new Promise((resolve) => setTimeout(resolve, 5)); })(), "the upgrade");
      for (let n = 0; n < 20; n++) {
        assert.equal((await because(bert, "offer", () => anna.emit("offer", { targetPeer: bert.id, n }))).n, n);
      }
    }
    const gone = bert.id;
    assert.deepEqual(await because(anna, "peer-left", () => bert.disconnect()), { peerId: gone });
  });

  test(`rooms, metadata, acknowledgements and bytes: ${name}`, async (t) => {
    const { url } = await startServer(t);
    const [anna, bert] = [await connected(t, url, transports), await connected(t, url, transports)];
    assert.deepEqual(await ask(anna, "join", { room: "kitchen", metadata: { key: Uint8Array.of(1, 2) } }), { ok: true });
    const joined = next(bert, "joined");
    const came = next(anna, "peer-joined");
    assert.deepEqual(await ask(bert, "join", { room: "kitchen" }), { ok: true });
    const { room, peerId, peers } = await joined;
    assert.deepEqual([room, peerId, peers[0].peerId, [...new Uint8Array(peers[0].metadata.key)]], ["kitchen", bert.id, anna.id, [1, 2]]);
    assert.deepEqual(await came, { room: "kitchen", peerId: bert.id });
    const hears = next(anna, "message");
    assert.deepEqual(await ask(bert, "message", { room: "kitchen", to: anna.id, payload: { text: "hello", picture: Uint8Array.of(0, 255, 7) } }), { ok: true });
    const message = await hears;
    assert.deepEqual([message.from, message.to, message.room, message.payload.text], [bert.id, anna.id, "kitchen", "hello"]);
    assert.deepEqual([...new Uint8Array(message.payload.picture)], [0, 255, 7]);
    const all = next(bert, "message");
    assert.deepEqual(await ask(anna, "message", { payload: Uint8Array.of(9) }), { ok: true });
    assert.deepEqual([...new Uint8Array((await all).payload)], [9]);
    assert.equal((await ask(anna, "message", { room: "kitchen", to: "nobody", payload: 1 })).code, "no-such-peer");
    assert.equal((await ask(anna, "dance", {})).code, "bad-message");
    assert.equal((await because(anna, "error", () => anna.emit("dance", {}))).code, "bad-message");
    const updated = next(bert, "peer-updated");
    assert.deepEqual(await ask(anna, "metadata", { metadata: { name: "Anna" } }), { ok: true });
    assert.deepEqual(await updated, { room: "kitchen", peerId: anna.id, metadata: { name: "Anna" } });
    const left = next(anna, "peer-left");
    assert.deepEqual(await ask(bert, "leave", { room: "kitchen" }), { ok: true });
    assert.deepEqual(await left, { room: "kitchen", peerId: bert.id, reason: "left" });
  });

  test(`who lost its connection comes back and meets the others again: ${name}`, async (t) => {
    const { url } = await startServer(t, { SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS: "300", SWITCHBOARD_TIMEOUTS_SILENCE_MS: "1500" });
    const line = await proxy(t, url);
    const [anna, bert] = [await connected(t, url, transports), await connected(t, line.url, transports)];
    bert.on("connect", () => bert.emit("announce", { hash: "hash" }));
    await announced(anna, "hash");
    const before = bert.id;
    await because(anna, "new-peer", () => bert.emit("announce", { hash: "hash" }));
    const gone = next(anna, "peer-left");
    const lost = next(bert, "disconnect");
    const back = next(anna, "new-peer");
    line.cut();
    await lost;
    line.mend();
    assert.deepEqual(await gone, { peerId: before });
    const { peerId } = await back;
    assert.notEqual(peerId, before);
    assert.equal((await because(bert, "offer", () => anna.emit("offer", { targetPeer: peerId, n: 1 }))).n, 1);
  });
}

/** A way to the server that can be cut, and is closed until it is mended: between two requests there is nothing to cut. */
async function proxy(t, url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on("error", () => {}).on("close", () => (sockets.delete(one), other.destroy()));
      one.pipe(other);
    }
  });
  await within(new Promise((resolve) => server.listen(0, "127.0.0.1", resolve)), "a port for the proxy");
  const cut = () => {
    isCut = true;
    sockets.forEach((socket) => socket.destroy());
  };
  t.after(() => (cut(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}`, cut, mend: () => (isCut = false) };
}

test("a namespace that is none is refused", async (t) => {
  const { url } = await startServer(t);
  const socket = io(`${url}/custom`, { transports: ["websocket"], forceNew: true });
  t.after(() => socket.disconnect());
  assert.equal((await next(socket, "connect_error")).message, "Invalid namespace");
});

test("pages in Chromium: each transport and WebTransport, signals and bytes", async (t) => {
  const { url } = await startServer(t);
  const browser = await startBrowser(t);
  const script = await bundle(`import { io } from "socket.io-client"; globalThis.io = io;`);
  const { transports: doors } = await (await fetch(`${url}/.well-known/switchboard`)).json();
  const hash = doors.find(({ type }) => type === "webtransport").certificateHashes[0];
  const open = async (transports) => {
    const page = await browser.newPage(t);
    await page.goto(`${url}/healthz`);
    await page.addScriptTag({ content: script });
    const id = await page.evaluate(
      ({ transports, hash }) =>
        new Promise((resolve, reject) => {
          globalThis.heard = [];
          if (transports?.[0] === "webtransport") {
            const value = Uint8Array.from(atob(hash.value), (char) => char.charCodeAt());
            const serverCertificateHashes = [{ algorithm: hash.algorithm, value }];
            globalThis.socket = io(`https://${location.host}`, { transports, transportOptions: { webtransport: { serverCertificateHashes } } });
          } else {
            globalThis.socket = io({ transports: transports ?? undefined });
          }
          socket.onAny((event, argument) => heard.push([event, argument]));
          socket.once("connect", () => resolve(socket.id)).once("connect_error", reject);
        }),
      { transports: transports ?? null, hash },
    );
    const hears = (event) =>
      within(
        page.evaluate(async (event) => {
          for (;;) {
            const found = heard.find(([name]) => name === event);
            if (found) return found[1];
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        }, event),
        `${event} in a page`,
      );
    return { page, id, hears };
  };
  for (const [room, transports] of Object.entries({ ...WAYS, webtransport: ["webtransport"] })) {
    const [anna, bert] = [await open(transports), await open(undefined)];
    await anna.page.evaluate((hash) => socket.emit("announce", { hash }), room);
    await anna.hears("peer-list");
    await bert.page.evaluate((hash) => socket.emit("announce", { hash }), room);
    assert.deepEqual((await bert.hears("peer-list")).peers, [anna.id]);
    await bert.page.evaluate((targetPeer) => socket.emit("offer", { targetPeer, sdp: "v=0", bytes: Uint8Array.of(1, 255) }), anna.id);
    await anna.hears("offer");
    const [from, bytes] = await anna.page.evaluate(() => {
      const [, offer] = heard.find(([name]) => name === "offer");
      return [offer.fromPeer, [...new Uint8Array(offer.bytes)]];
    });
    assert.deepEqual([from, bytes], [bert.id, [1, 255]]);
    await anna.page.evaluate((targetPeer) => socket.emit("answer", { targetPeer, sdp: "x".repeat(20_000) }), bert.id);
    assert.equal((await bert.hears("answer")).sdp.length, 20_000);
    if (transports) assert.equal(await anna.page.evaluate(() => socket.io.engine.transport.name), transports[0]);
    await bert.page.evaluate(() => socket.disconnect());
    assert.deepEqual(await anna.hears("peer-left"), { peerId: bert.id });
    await Promise.all([anna.page.close(), bert.page.close()]);
  }
});
