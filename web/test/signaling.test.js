import assert from "node:assert/strict";
import { test } from "node:test";

import { SignalingClient } from "../src/signaling.js";
import { FakeServer, WELCOME, once, within } from "./fake-server.js";

/** Coming back is in `reconnect.test.js`; here, what is lost is over. */
async function connected(t, welcome) {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial, { reconnect: false });
  t.after(() => client.close());
  await server.admit(client, welcome);
  return { server, client };
}

async function inRoom(t, peers = []) {
  const { server, client } = await connected(t);
  const joining = client.join("r", { name: "me" });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "me", peers }, { type: "ack", id });
  await within(joining, "joined");
  return { server, client };
}

test("connecting is settled by the welcome", async (t) => {
  const { client } = await connected(t);
  assert.equal(client.peerId, "me");
  assert.equal(client.transport, "fake");
  assert.deepEqual(client.rooms, []);
});

test("joining says who was there before", async (t) => {
  const { client } = await inRoom(t, [{ peerId: "a", metadata: { name: "A" } }]);
  assert.deepEqual(client.rooms, ["r"]);
  assert.deepEqual(client.peers("r"), [{ peerId: "a", metadata: { name: "A" } }]);
  assert.deepEqual(client.peers("elsewhere"), []);
});

test("membership follows the events", async (t) => {
  const { server, client } = await inRoom(t, [{ peerId: "a" }]);
  server.say({ type: "peer-joined", room: "r", peerId: "b", metadata: 1 }, { type: "peer-left", room: "r", peerId: "a", reason: "left" });
  server.say({ type: "peer-updated", room: "r", peerId: "b", metadata: 2 });
  await once(client, "peer-updated");
  assert.deepEqual(client.peers("r"), [{ peerId: "b", metadata: 2 }]);
  const leaving = client.leave();
  const { id } = await server.heard("leave");
  server.say({ type: "left", room: "r", reason: "left" }, { type: "ack", id });
  await within(leaving, "left");
  assert.deepEqual(client.rooms, []);
});

test("who awaits an answer can listen for what stands right behind it", async (t) => {
  const { server, client } = await connected(t);
  const joining = client.join("r");
  const { id } = await server.heard("join");
  server.say(
    { type: "joined", room: "r", peerId: "me", peers: [{ peerId: "a" }] },
    { type: "ack", id },
    { type: "offer", from: "a", room: "r", payload: 1 },
    { type: "offer", from: "a", room: "r", payload: 2 },
  );
  await within(joining, "joined");
  const payloads = [];
  client.addEventListener("offer", ({ detail }) => payloads.push(detail.payload));
  server.say({ type: "answer", from: "a", room: "r", payload: 3 });
  await once(client, "answer");
  assert.deepEqual(payloads, [1, 2]);
});

test("a refusal rejects the request that it answers, with its code", async (t) => {
  const { server, client } = await connected(t);
  const [first, second] = [client.join("r"), client.request("message", { room: "r", payload: null })];
  const ids = [(await server.heard("join")).id, (await server.heard("message")).id];
  assert.notEqual(ids[0], ids[1]);
  server.say({ type: "error", id: ids[0], code: "room-full", message: "the room is full", retryable: true }, { type: "ack", id: ids[1] });
  await assert.rejects(within(first, "refused"), { code: "room-full", message: "the room is full", retryable: true });
  await within(second, "carried out");
});

/** The room of the first request was entered by the second, and the one that was given to who asked stayed empty for ever. */
test("of two requests for a room, the one that succeeds has it, and what is said there", async (t) => {
  for (const succeeds of [0, 1]) {
    const { server, client } = await connected(t);
    const joining = ["first", "second"].map((metadata) => client.join("r", metadata));
    const ids = [(await server.heard("join")).id, (await server.heard("join")).id];
    const answers = ids.map((id) => [{ type: "error", id, code: "rate-limited", message: "too soon", retryable: true }]);
    const says = { type: "message", room: "r", from: "a", payload: "hi" };
    answers[succeeds] = [{ type: "joined", room: "r", peerId: "me", peers: [{ peerId: "a" }] }, { type: "ack", id: ids[succeeds] }, says];
    const refusal = assert.rejects(within(joining[1 - succeeds], "refused"), { code: "rate-limited" });
    server.say(...answers.flat());
    await refusal;
    const room = await within(joining[succeeds], "joined");
    const heard = once(room, "message");
    assert.equal(room, client.room);
    assert.equal(room.metadata, ["first", "second"][succeeds]);
    assert.deepEqual(room.peers, [{ peerId: "a" }]);
    assert.equal((await heard).detail.payload, "hi");
  }
});

/** The `left` waited for the answer to entering, and then took the new room for the old one: the client was in no room, and the server had it in one. */
test("a room that is left and entered again in one go is entered", async (t) => {
  const { server, client } = await inRoom(t, [{ peerId: "a" }]);
  const first = client.room;
  const heard = [];
  for (const type of ["left", "joined", "message"]) client.addEventListener(type, ({ detail }) => heard.push([type, detail.payload]));
  const [leaving, joining] = [client.leave("r"), client.join("r")];
  const ids = [(await server.heard("leave")).id, (await server.heard("join")).id];
  const says = (payload) => ({ type: "message", room: "r", from: "a", payload });
  server.say(says(1), { type: "left", room: "r", reason: "left" }, { type: "ack", id: ids[0] });
  await within(leaving, "left");
  server.say({ type: "joined", room: "r", peerId: "me", peers: [{ peerId: "a" }] }, says(2), { type: "ack", id: ids[1] });
  const second = await within(joining, "joined");
  const last = once(second, "message");
  server.say(says(3));
  await last;
  assert.notEqual(second, first);
  assert.deepEqual([client.rooms, second.peers, first.peers], [["r"], [{ peerId: "a" }], []]);
  assert.deepEqual(heard, [["message", 1], ["left", undefined], ["joined", undefined], ["message", 2], ["message", 3]]);
});

test("the refusal of something sent without a promise is an event", async (t) => {
  const { server, client } = await connected(t);
  client.send("offer", { to: "nobody", payload: {} });
  assert.deepEqual(await server.heard("offer"), { type: "offer", to: "nobody", payload: {} });
  const error = once(client, "error");
  server.say({ type: "error", code: "no-such-peer", message: "no such peer", retryable: false });
  assert.equal((await error).detail.code, "no-such-peer");
});

test("metadata, messages and best effort are spelled as specified", async (t) => {
  const { server, client } = await inRoom(t);
  const replacing = client.metadata({ name: "new" }, "r");
  const { id, ...metadata } = await server.heard("metadata");
  assert.deepEqual(metadata, { type: "metadata", room: "r", metadata: { name: "new" } });
  server.say({ type: "ack", id });
  await within(replacing, "replaced");
  client.sendBestEffort({ payload: "x" });
  assert.deepEqual(server.datagrams, [{ type: "message", payload: "x" }]);
});

test("a message that is too large is refused on this side, and the session goes on", async (t) => {
  const { server, client } = await connected(t, { limits: { messageBytes: 100 } });
  const payload = "x".repeat(100);
  assert.throws(() => client.send("message", { payload }), { code: "message-too-large" });
  await assert.rejects(client.join("r", payload), { code: "message-too-large" });
  client.send("message", { payload: "short" });
  assert.equal((await server.heard("message")).payload, "short");
});

test("best effort of a peer that is not there yet, or no longer, is dropped", async (t) => {
  const { server, client } = await inRoom(t, [{ peerId: "a" }]);
  const heard = [];
  for (const target of [client, client.room]) target.addEventListener("message", ({ detail }) => heard.push([detail.from, detail.payload]));
  const says = (from, payload) => ({ type: "message", room: "r", from, payload, bestEffort: true });
  server.say(says("b", 1), { type: "peer-joined", room: "r", peerId: "b" }, says("b", 2));
  server.say({ type: "peer-left", room: "r", peerId: "a", reason: "left" }, says("a", 3));
  const last = new Promise((resolve) => client.room.addEventListener("message", ({ detail }) => detail.payload === 4 && resolve()));
  server.say({ type: "message", room: "r", from: "b", payload: 4 });
  await within(last, "the last message");
  assert.deepEqual(heard, [["b", 2], ["b", 2], ["b", 4], ["b", 4]]);
});

test("a goodbye says why the connection ends", async (t) => {
  const { server, client } = await inRoom(t);
  const heard = [];
  for (const type of ["goodbye", "close"]) client.addEventListener(type, () => heard.push(type));
  const pending = client.leave();
  const closed = once(client, "close");
  server.say({ type: "goodbye", code: "draining", reason: "the server is shutting down", reconnect: true, reconnectAfterMs: 1000 });
  server.end(4000);
  assert.deepEqual((await closed).detail, {
    code: "draining",
    reason: "the server is shutting down",
    reconnect: true,
    reconnectAfterMs: 1000,
  });
  await assert.rejects(pending, { code: "draining", reconnect: true });
  assert.deepEqual(heard, ["goodbye", "close"]);
  assert.deepEqual(client.rooms, []);
  await assert.rejects(client.join("r"), { code: "closed" });
});

test("a goodbye that waits for its turn is heard before the close", async (t) => {
  const { server, client } = await connected(t);
  const joining = client.join("r");
  const { id } = await server.heard("join");
  const closed = once(client, "close");
  server.say({ type: "joined", room: "r", peerId: "me", peers: [] }, { type: "ack", id });
  server.say({ type: "goodbye", code: "too-large", reason: "too large", reconnect: false, reconnectAfterMs: 0 });
  server.end(1006);
  await within(joining, "joined");
  assert.deepEqual([(await closed).detail.code, (await closed).detail.reconnect], ["too-large", false]);
});

test("without a goodbye the close code tells, and without that it is lost", async (t) => {
  for (const [number, code, reconnect] of [[4200, "too-large", false], [4001, "slow-consumer", true], [1006, "connection-lost", true], [undefined, "connection-lost", true]]) {
    const { server, client } = await connected(t);
    const closed = once(client, "close");
    server.end(number);
    assert.deepEqual([(await closed).detail.code, (await closed).detail.reconnect], [code, reconnect]);
    assert.ok(server.closed);
  }
});

test("being turned away rejects the connecting", async () => {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial);
  const connecting = client.connect();
  await server.heard("hello");
  server.say({ type: "goodbye", code: "server-full", reason: "full", reconnect: true, reconnectAfterMs: 10_000 });
  server.end(4100);
  await assert.rejects(within(connecting, "turned away"), { code: "server-full", reconnectAfterMs: 10_000 });
});

test("closing fires close once, ends the line and fails what is under way", async (t) => {
  const { server, client } = await inRoom(t);
  const details = [];
  client.addEventListener("close", ({ detail }) => details.push(detail.code));
  const pending = client.leave();
  client.close();
  client.close();
  server.end(1000);
  assert.deepEqual(details, ["closed"]);
  assert.ok(server.closed);
  await assert.rejects(pending, { code: "closed" });
});

test("what is no message ends the connection", async (t) => {
  const { server, client } = await connected(t);
  const closed = once(client, "close");
  server.sayFrame("{");
  assert.equal((await closed).detail.code, "connection-lost");
});

test("a silent server is asked, and given up when it stays silent for two beats", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client } = await connected(t, { heartbeatMs: 1000 });
  const closed = [];
  client.addEventListener("close", ({ detail }) => closed.push(detail.code));
  // One beat late is no silence yet, as long as an answer comes after all.
  for (let i = 0; i < 2; i++) t.mock.timers.tick(1000);
  server.say({ type: "pong", received: 2 });
  for (let i = 0; i < 2; i++) t.mock.timers.tick(1000);
  t.mock.timers.tick(999);
  assert.deepEqual(closed, []);
  t.mock.timers.tick(1);
  assert.deepEqual(closed, ["connection-lost"]);
});

test("a ping counts what was received, best effort excepted", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server } = await connected(t, { heartbeatMs: 1000 });
  const message = { type: "message", from: "a", room: "r", payload: 0 };
  server.say(message, { ...message, bestEffort: true });
  t.mock.timers.tick(1000);
  assert.deepEqual(await server.heard("ping"), { type: "ping", received: 2 });
});

test("a client that is aborted while it dials closes what it dialled", async () => {
  const server = new FakeServer();
  const controller = new AbortController();
  const client = new SignalingClient(async () => {
    const line = await server.dial();
    controller.abort(new Error("enough"));
    return line;
  });
  await assert.rejects(client.connect({ signal: controller.signal }), /enough/);
  assert.ok(server.closed);
  assert.equal(client.peerId, undefined);
  assert.notEqual(WELCOME.peerId, undefined);
});
