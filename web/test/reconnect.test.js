import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { SignalingClient } from "../src/signaling.js";
import { FakeServer, once, within } from "./fake-server.js";

const WINDOW = { resumeWindowMs: 30_000, resumeToken: "first" };

// Nobody waits for chance here: every attempt but those that are told to wait begins at once.
beforeEach((t) => t.mock.method(Math, "random", () => 0));

async function inRoom(t, welcome = WINDOW) {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial);
  t.after(() => client.close());
  await server.admit(client, welcome);
  const joining = client.join("r", { name: "me" });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "me", peers: [{ peerId: "a" }] }, { type: "ack", id });
  const room = await within(joining, "joined");
  const states = [];
  client.addEventListener("state", ({ detail }) => states.push(detail));
  return { server, client, room, states };
}

/** The next state of this name. */
async function becomes(client, state) {
  for (;;) {
    const { detail } = await once(client, "state");
    if (detail.state === state) return detail;
  }
}

test("a lost session is resumed: both sides say again what the other has missed, and nobody notices", async (t) => {
  const { server, client, room, states } = await inRoom(t);
  client.send("offer", { to: "a", payload: 1 });
  client.send("offer", { to: "a", payload: 2 });
  const asking = client.request("message", { payload: 3 });
  for (const type of ["offer", "offer", "message"]) await server.heard(type);
  const left = [];
  client.addEventListener("left", ({ detail }) => left.push(detail));

  server.end(1006);
  assert.equal(states.at(-1).cause.code, "connection-lost");
  client.send("offer", { to: "a", payload: 4 });
  const connected = becomes(client, "connected");
  // It has `hello`, `join` and the first offer.
  const { resume } = await server.admitAgain({ ...WINDOW, resumed: true, received: 3, resumeToken: "second" });
  assert.deepEqual(resume, { token: "first", received: 3 }, "welcome, joined and ack");
  assert.equal((await within(connected, "connected")).resumed, true);
  assert.equal((await server.heard("offer")).payload, 2);
  assert.equal((await server.heard("message")).payload, 3);
  assert.equal((await server.heard("offer")).payload, 4);
  assert.equal((await server.heard("ping")).received, 3);
  server.say({ type: "ack", id: 2 });
  await within(asking, "carried out");
  assert.deepEqual([client.rooms, room.peers, left], [["r"], [{ peerId: "a" }], []]);

  server.end(undefined);
  assert.deepEqual((await server.admitAgain({ resumed: true, received: 7 })).resume, { token: "second", received: 4 });
  assert.equal((await server.heard("ping")).type, "ping");
});

test("what came before the answer to entering a room is not lost with the connection", async (t) => {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial);
  t.after(() => client.close());
  await server.admit(client, WINDOW);
  const payloads = [];
  client.addEventListener("offer", ({ detail }) => payloads.push(detail.payload));
  const joining = client.join("r");
  const { id } = await server.heard("join");
  const offer = { type: "offer", room: "r", from: "a" };
  server.say({ type: "joined", room: "r", peerId: "me", peers: [{ peerId: "a" }] }, { ...offer, payload: 1 });
  server.end(1006);

  const { resume } = await server.admitAgain({ ...WINDOW, resumed: true, received: 2 });
  assert.deepEqual(resume, { token: "first", received: 3 }, "welcome, joined and the offer");
  assert.equal((await server.heard("ping")).received, 3);
  server.say({ type: "ack", id }, { ...offer, payload: 2 });
  await within(joining, "joined");
  const last = once(client, "message");
  server.say({ type: "message", room: "r", from: "a", payload: 3 });
  await last;
  assert.deepEqual(payloads, [1, 2]);
});

test("while a room is entered, what comes from another one keeps its place behind what waits", async (t) => {
  const { server, client } = await inRoom(t);
  const payloads = [];
  client.addEventListener("offer", ({ detail }) => payloads.push(detail.payload));
  const joining = client.join("second");
  const { id } = await server.heard("join");
  const offer = { type: "offer", from: "a" };
  server.say(
    { type: "joined", room: "second", peerId: "me", peers: [{ peerId: "a" }] },
    { ...offer, room: "second", payload: 1 },
    { ...offer, room: "r", payload: 2 },
    { type: "ack", id },
  );
  await within(joining, "joined");
  const last = once(client, "message");
  server.say({ type: "message", room: "r", from: "a", payload: 3 });
  await last;
  assert.deepEqual(payloads, [1, 2]);
});

test("a session that is forgotten begins anew in the same rooms, and says who is gone and who came", async (t) => {
  const { server, client, room } = await inRoom(t);
  const heard = [];
  for (const type of ["peer-left", "peer-joined"]) room.addEventListener(type, ({ detail }) => heard.push(`${type} ${detail.peerId}`));
  const replacing = client.metadata({ name: "new" }, "r");
  server.say({ type: "ack", id: (await server.heard("metadata")).id });
  await within(replacing, "replaced");
  client.send("offer", { to: "a", payload: "for who is gone" });
  const lost = client.request("message", { payload: "unconfirmed" });
  await server.heard("offer");
  await server.heard("message");

  server.end(1006);
  assert.equal(client.state, "reconnecting");
  client.send("message", { payload: "later" });
  const connected = becomes(client, "connected");
  const failing = assert.rejects(within(lost, "given up"), { code: "connection-lost" });
  await server.admitAgain({ resumed: false, peerId: "me again", ...WINDOW });
  assert.equal((await within(connected, "connected")).resumed, false);
  await failing;
  const { id, ...join } = await server.heard("join");
  assert.deepEqual(join, { type: "join", room: "r", metadata: { name: "new" } });
  assert.equal((await server.heard("message")).payload, "later");
  server.say({ type: "joined", room: "r", peerId: "me again", peers: [{ peerId: "b" }] }, { type: "ack", id });
  await once(client, "joined");
  assert.deepEqual(heard, ["peer-left a", "peer-joined b"]);
  assert.deepEqual([client.peerId, room.peerId, room.peers], ["me again", "me again", [{ peerId: "b" }]]);
  assert.equal(client.room, room);
});

/** It went to an id of the session before, and was refused as `no-such-peer`. */
test("a signal that waits for a connection is said in the same session, or not at all", async (t) => {
  const { server, client } = await inRoom(t, WINDOW);
  server.end(1006);
  client.send("offer", { to: "a", payload: "first" });
  await server.admitAgain({ resumed: true, received: 2 });
  assert.equal((await server.heard("offer")).payload, "first");
  await server.heard("ping");
  server.end(1006);
  client.send("offer", { to: "a", payload: "second" });
  const asked = client.request("offer", { to: "a", payload: "third" });
  client.send("message", { payload: "last" });
  await server.admitAgain({ resumed: false });
  await assert.rejects(within(asked, "a refusal"), { code: "connection-lost" });
  await server.heard("join");
  assert.equal((await server.heard("message")).payload, "last");
});

/** Its count was that of the old session, more than the server had sent in the new one: refused, as `bad-message`. */
test("a ping that was not said in its session is not said in the next", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client } = await inRoom(t, { ...WINDOW, heartbeatMs: 1_000, limits: { messagesPerSecond: 0.5 } });
  t.mock.timers.tick(1_000);
  client.send("message", { payload: "later" });
  server.end(1006);
  t.mock.timers.tick(0);
  await server.admitAgain({ resumed: false });
  assert.equal((await server.heard("join")).room, "r");
  assert.equal((await server.heard("message")).payload, "later");
});

test("a room that cannot be entered again is left", async (t) => {
  const { server, client, room } = await inRoom(t);
  const left = once(room, "left");
  server.end(1006);
  await server.admitAgain({ resumed: false });
  const { id } = await server.heard("join");
  server.say({ type: "error", id, code: "room-full", message: "full", retryable: true });
  assert.equal((await left).detail.reason, "room-full");
  assert.deepEqual([client.rooms, client.state], [[], "connected"]);
});

/** All clients of one address come back at once after their server was restarted, and one that was refused for that had lost its room for good. */
test("a room whose server wants it to be entered later is entered later", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client, room } = await inRoom(t);
  const left = [];
  room.addEventListener("left", ({ detail }) => left.push(detail.reason));
  server.end(1006);
  t.mock.timers.tick(0);
  await server.admitAgain({ resumed: false, peerId: "me again" });
  const { id } = await server.heard("join");
  server.say({ type: "error", id, code: "rate-limited", message: "too soon", retryable: true, retryAfterMs: 1_500 });
  await settled();
  const again = server.heard("join");
  t.mock.timers.tick(1_500);
  const join = await again;
  assert.deepEqual([join.room, join.metadata], ["r", { name: "me" }]);
  server.say({ type: "joined", room: "r", peerId: "me again", peers: [{ peerId: "b" }] }, { type: "ack", id: join.id });
  await settled();
  assert.deepEqual([client.rooms, room.peers, left], [["r"], [{ peerId: "b" }], []]);
});

test("joining and leaving that were under way are said again in a new session", async (t) => {
  const { server, client } = await inRoom(t);
  const joining = client.join("s");
  await server.heard("join");
  server.end(1006);
  await server.admitAgain({ resumed: false });
  const joins = [await server.heard("join"), await server.heard("join")];
  assert.deepEqual(joins.map(({ room }) => room), ["r", "s"]);
  server.say({ type: "joined", room: "s", peerId: "me", peers: [] }, { type: "ack", id: joins[1].id });
  assert.equal((await within(joining, "joined")).name, "s");
});

test("it tries until somebody is there, and waits as long as the server asks", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client, states } = await inRoom(t);
  server.unreachable = true;
  server.say({ type: "goodbye", code: "draining", reason: "shutting down", reconnect: true, reconnectAfterMs: 5_000 });
  server.end(4000);
  assert.deepEqual([states.at(-1).cause.code, states.at(-1).retryInMs], ["draining", 5_000]);
  t.mock.timers.tick(4_999);
  await settled();
  assert.equal(server.dialled, 1);
  for (let attempt = 2; attempt < 6; attempt++) {
    t.mock.timers.tick(1);
    await settled();
    assert.equal(server.dialled, attempt);
    assert.equal(states.at(-1).cause.code, "unreachable");
  }
  server.unreachable = false;
  t.mock.timers.tick(1);
  const { resume } = await server.admitAgain();
  assert.equal(resume, undefined, "the session ended with its goodbye");
  assert.equal(client.state, "connected");
});

test("who is told not to come back does not", async (t) => {
  const { server, client } = await inRoom(t);
  const closed = once(client, "close");
  server.say({ type: "goodbye", code: "replaced", reason: "replaced", reconnect: false, reconnectAfterMs: 0 });
  server.end(4201);
  assert.equal((await closed).detail.code, "replaced");
  assert.deepEqual([client.state, server.dialled], ["closed", 1]);
});

test("nor who is refused for good while it comes back", async (t) => {
  const { server, client } = await inRoom(t);
  const closed = once(client, "close");
  server.end(1006);
  await server.heard("hello");
  server.say({ type: "goodbye", code: "unauthorized", reason: "the token is not good", reconnect: false, reconnectAfterMs: 0 });
  server.end(4202);
  assert.equal((await closed).detail.code, "unauthorized");
  assert.equal(server.dialled, 2);
});

test("who is lost again and again waits longer each time", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client } = await inRoom(t);
  t.mock.method(Math, "random", () => 1);
  const waits = [];
  client.addEventListener("state", ({ detail }) => detail.retryInMs !== undefined && waits.push(detail.retryInMs));
  for (let time = 0; time < 3; time++) {
    server.end(1006);
    t.mock.timers.tick(waits.at(-1));
    await server.admitAgain({ resumed: true, received: 100 });
    assert.equal(client.state, "connected");
    await server.heard("ping");
  }
  assert.deepEqual(waits, [250, 500, 1_000]);
});

test("closing while it comes back is the end", async (t) => {
  const { server, client, states } = await inRoom(t);
  server.unreachable = true;
  server.end(1006);
  const pending = client.request("message", { payload: 1 });
  client.close();
  await assert.rejects(pending, { code: "closed" });
  assert.deepEqual(states.map(({ state }) => state), ["reconnecting", "closed"]);
  await settled();
  assert.equal(server.dialled, 1);
});

test("who has begun to connect tries as often as it is told, and no more", async () => {
  const server = new FakeServer();
  server.unreachable = true;
  const client = new SignalingClient(server.dial, { retries: 2 });
  await assert.rejects(within(client.connect(), "given up"), { code: "unreachable" });
  assert.deepEqual([server.dialled, client.state], [3, "closed"]);
});

test("a token is asked for each time", async (t) => {
  let asked = 0;
  const server = new FakeServer();
  const client = new SignalingClient(server.dial, { token: async () => `token ${++asked}` });
  t.after(() => client.close());
  const connecting = client.connect();
  assert.equal((await server.admitAgain()).token, "token 1");
  await within(connecting, "connected");
  server.end(1006);
  assert.equal((await server.admitAgain()).token, "token 2");
});

/** One failure of whoever issues it ended the client, which was only about to come back. */
test("a token that cannot be had while coming back is asked for again, unless there will be none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const server = new FakeServer();
  const answers = ["first", new Error("away"), "third", Object.assign(new Error("signed out"), { reconnect: false })];
  const token = async () => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const client = new SignalingClient(server.dial, { token });
  const states = [];
  client.addEventListener("state", ({ detail: { state, cause } }) => states.push([state, cause?.code]));
  await server.admit(client);
  server.end(1006);
  t.mock.timers.tick(0);
  await settled();
  t.mock.timers.tick(10_000);
  assert.equal((await server.admitAgain()).token, "third");
  server.end(1006);
  t.mock.timers.tick(10_000);
  await settled();
  assert.deepEqual(states, [
    ["connected", undefined],
    ["reconnecting", "connection-lost"],
    ["reconnecting", "no-token"],
    ["connected", undefined],
    ["reconnecting", "connection-lost"],
    ["closed", "no-token"],
  ]);
});

/** Nobody waited for the welcome yet: an unhandled rejection, which ends a program in node. */
for (const when of ["fails", "comes too late"]) {
  test(`a token that ${when} rejects the connecting, and nothing else`, async (t) => {
    const unhandled = [];
    const note = (error) => unhandled.push(error);
    process.on("unhandledRejection", note);
    t.after(() => process.off("unhandledRejection", note));
    const server = new FakeServer();
    const token = async () => {
      if (when === "fails") throw new Error("no token");
      server.end(1006);
      await settled();
      return "late";
    };
    const client = new SignalingClient(server.dial, { token });
    await assert.rejects(within(client.connect(), "rejected"), when === "fails" ? /no token/ : { code: "connection-lost" });
    await settled();
    assert.deepEqual([unhandled, client.state, server.closed], [[], "closed", true]);
  });
}

test("messages keep to the rates of the server", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const server = new FakeServer();
  const client = new SignalingClient(server.dial, { reconnect: false });
  t.after(() => client.close());
  await server.admit(client, { limits: { messagesPerSecond: 10 }, heartbeatMs: 1_000_000 });
  for (let n = 0; n < 20; n++) client.send("message", { payload: n });
  for (let n = 0; n < 18; n++) assert.equal((await server.heard("message")).payload, n);
  const rest = server.heard("message");
  for (; now < 1_000; now += 10) t.mock.timers.tick(10);
  assert.equal((await rest).payload, 18);
});

// ---- what the browser tells

/** A page, as far as it is listened to. */
function page(t) {
  const target = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  globalThis.addEventListener = target.addEventListener.bind(target);
  globalThis.document = document;
  t.after(() => {
    Reflect.deleteProperty(globalThis, "addEventListener");
    Reflect.deleteProperty(globalThis, "document");
  });
  const fire = (type, fields) => (type === "visibilitychange" ? document : target).dispatchEvent(Object.assign(new Event(type), fields));
  return { fire };
}

for (const type of ["online", "visibilitychange"]) {
  test(`${type} makes it try at once`, async (t) => {
    const { fire } = page(t);
    const { server, client } = await inRoom(t);
    t.mock.method(Math, "random", () => 1_000);
    server.unreachable = true;
    server.end(1006);
    await settled();
    assert.equal(server.dialled, 1);
    server.unreachable = false;
    fire(type);
    await server.admitAgain({ resumed: true, received: 2 });
    assert.equal(client.state, "connected");
  });

  test(`${type} makes a connection prove that it is alive, soon`, async (t) => {
    const { fire } = page(t);
    const { server, client } = await inRoom(t);
    t.mock.timers.enable({ apis: ["setTimeout"] });
    fire(type);
    await server.heard("ping");
    server.say({ type: "pong", received: 3 });
    t.mock.timers.tick(3_000);
    assert.equal(client.state, "connected");
    fire(type);
    await server.heard("ping");
    t.mock.timers.tick(3_000);
    assert.equal(client.state, "reconnecting");
  });
}

/** A client that closes leaves: so giving a connection up ended the very session that was to be gone on with. */
test("a connection that fell silent is closed when another one has taken its place", async (t) => {
  const { fire } = page(t);
  const { server, client } = await inRoom(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  fire("online");
  await server.heard("ping");
  t.mock.timers.tick(3_000);
  assert.deepEqual([client.state, server.closed], ["reconnecting", false]);
  t.mock.timers.tick(0);
  const { resume } = await server.admitAgain({ ...WINDOW, resumed: true, received: 2 });
  assert.equal(resume.token, "first");
  assert.ok(server.closed, "the old one; the new one is connected");
  assert.equal(client.state, "connected");
});

test("nor is one closed on which no welcome came, before the client itself is", async (t) => {
  const { server, client } = await inRoom(t);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  server.end(1006);
  t.mock.timers.tick(0);
  await server.heard("hello");
  t.mock.timers.tick(10_000);
  await settled();
  assert.deepEqual([client.state, server.closed], ["reconnecting", false]);
  client.close();
  assert.ok(server.closed);
});

test("a page that is left says goodbye, and comes back with it", async (t) => {
  const { fire } = page(t);
  const { server, client } = await inRoom(t);
  fire("pagehide");
  assert.ok(server.closed);
  assert.equal(client.state, "reconnecting");
  await settled();
  assert.equal(server.dialled, 1, "nothing is tried behind the scenes");
  fire("pageshow", { persisted: true });
  const { resume } = await server.admitAgain({ resumed: false });
  assert.equal(resume, undefined, "it had left");
  assert.equal((await server.heard("join")).room, "r");
});

/** Lets everything run that waits for no timer. */
async function settled() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
