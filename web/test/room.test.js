import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Room } from "../src/room.js";
import { SignalingClient } from "../src/signaling.js";
import { FakeRTCPeerConnection } from "./fake-rtc.js";
import { FakeServer, once, within } from "./fake-server.js";

beforeEach((t) => {
  FakeRTCPeerConnection.all = [];
  t.mock.method(Math, "random", () => 0);
});

async function entered(t, { peers = [], policy, ...options } = {}) {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial);
  t.after(() => client.close());
  await server.admit(client, { peerId: "m" });
  const joining = client.join("r", { name: "me" }, { RTCPeerConnection: FakeRTCPeerConnection, ...options });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "m", peers, iceTransportPolicy: policy }, { type: "ack", id });
  const room = await within(joining, "joined");
  return { server, client, room };
}

const joined = (peerId) => ({ type: "peer-joined", room: "r", peerId });
const offer = (from) => ({ type: "offer", from, room: "r", payload: { type: "offer", sdp: "theirs" } });

async function settled() {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test("a room tells its own events, and sends to one or to all", async (t) => {
  const { server, room } = await entered(t);
  const heard = [];
  for (const type of ["peer-joined", "peer-updated", "peer-left", "message"]) {
    room.addEventListener(type, ({ detail }) => heard.push([type, detail.peerId ?? detail.payload]));
  }
  server.say({ type: "message", room: "elsewhere", from: "x", payload: "not for here" });
  server.say(joined("a"), { type: "peer-updated", room: "r", peerId: "a", metadata: 1 }, { type: "message", room: "r", from: "a", payload: "hi" });
  await settled();
  assert.deepEqual(room.peers, [{ peerId: "a", metadata: 1 }]);
  server.say({ type: "peer-left", room: "r", peerId: "a", reason: "left" });
  assert.deepEqual(heard, [["peer-joined", "a"], ["peer-updated", "a"], ["message", "hi"], ["peer-left", "a"]]);
  room.send("to all");
  room.send("to one", "a");
  assert.deepEqual(await server.heard("message"), { type: "message", room: "r", payload: "to all" });
  assert.deepEqual(await server.heard("message"), { type: "message", room: "r", payload: "to one", to: "a" });
  const leaving = room.leave();
  const { id } = await server.heard("leave");
  const left = once(room, "left");
  server.say({ type: "left", room: "r", reason: "left" }, { type: "ack", id });
  await Promise.all([left, within(leaving, "left")]);
});

test("who somebody is by their token stands beside what they say of themselves, as long as they are there", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a", metadata: 1, user: "emma@example.org" }] });
  const heard = [];
  for (const type of ["peer-joined", "peer-updated"]) room.addEventListener(type, ({ detail }) => heard.push([type, detail.peerId, detail.user]));
  server.say({ ...joined("b"), user: "stella" }, joined("c"), { type: "peer-updated", room: "r", peerId: "a", user: "emma@example.org" });
  await settled();
  assert.deepEqual(heard, [["peer-joined", "b", "stella"], ["peer-joined", "c", undefined], ["peer-updated", "a", "emma@example.org"]]);
  assert.deepEqual(room.peers, [{ peerId: "a", user: "emma@example.org" }, { peerId: "b", user: "stella" }, { peerId: "c" }]);
});

test("what whoever runs the server says in a room is a message, though no such peer is there", async (t) => {
  const { server, client, room } = await entered(t, { peers: [{ peerId: "a" }] });
  const heard = [];
  for (const target of [client, room]) target.addEventListener("message", ({ detail }) => heard.push([detail.from, detail.payload]));
  const from = "0".repeat(32);
  server.say({ type: "message", room: "r", from, payload: "closing at six" });
  await settled();
  assert.deepEqual(heard, [[from, "closing at six"], [from, "closing at six"]]);
  assert.deepEqual(room.peers, [{ peerId: "a" }]);
});

test("who is sent out of a room is told, has nobody there any more, and every line is hung up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, client, room } = await entered(t, { mesh: true, peers: [{ peerId: "a" }] });
  t.mock.timers.tick(0);
  await server.heard("offer");
  const link = room.links.get("a");
  const left = once(room, "left");
  server.say({ type: "left", room: "r", reason: "removed" });
  assert.equal((await left).detail.reason, "removed");
  assert.deepEqual([link.state, room.links.size, room.peers, client.rooms, client.state], ["closed", 0, [], [], "connected"]);
  t.mock.timers.tick(100_000);
  await settled();
  assert.equal(room.links.size, 0, "nobody is called again");
});

test("nobody is answered who was not asked for", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }] });
  server.say(offer("a"));
  await settled();
  assert.deepEqual([FakeRTCPeerConnection.all.length, room.links.size], [0, 0]);
});

test("who listens for links gets one with the offer, and the peer its answer", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }] });
  const links = [];
  room.addEventListener("link", ({ detail }) => links.push(detail));
  server.say(offer("a"), offer("a"), offer("a stranger"));
  assert.equal((await server.heard("answer")).to, "a");
  assert.deepEqual(links.map(({ remoteId }) => remoteId), ["a"]);
  assert.equal(room.links.get("a"), links[0]);
  assert.equal(room.connect({ peerId: "a" }), links[0]);
});

test("in a mesh the newcomer calls those who are there, and they call it if it does not", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, room } = await entered(t, { mesh: true, peers: [{ peerId: "a" }, { peerId: "b" }] });
  t.mock.timers.tick(0);
  const called = [(await server.heard("offer")).to, (await server.heard("offer")).to];
  assert.deepEqual(called, ["a", "b"]);
  server.say(joined("c"), joined("d"));
  await settled();
  t.mock.timers.tick(1_499);
  server.say(offer("c"));
  await settled();
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual([...room.links.keys()], ["a", "b", "c", "d"]);
  server.say({ type: "peer-left", room: "r", peerId: "a", reason: "left" });
  await settled();
  assert.deepEqual([...room.links.keys()], ["b", "c", "d"]);
  assert.equal(FakeRTCPeerConnection.all[0].connectionState, "closed");
});

/** Over WebSocket each message is a task of its own: three times in four, links were made before anybody could listen for them. */
test("no link is made, and nothing told, before whoever enters can listen", async (t) => {
  const server = new FakeServer();
  const client = new SignalingClient(server.dial);
  t.after(() => client.close());
  await server.admit(client, { peerId: "m" });
  const joining = client.join("r", undefined, { RTCPeerConnection: FakeRTCPeerConnection, mesh: true });
  const { id } = await server.heard("join");
  for (const message of [{ type: "joined", room: "r", peerId: "m", peers: [{ peerId: "a" }] }, joined("b"), offer("b")]) {
    server.say(message);
    await new Promise((resolve) => setTimeout(resolve));
  }
  assert.equal(FakeRTCPeerConnection.all.length, 0);
  server.say({ type: "ack", id });
  const room = await within(joining, "joined");
  const heard = [];
  room.addEventListener("peer-joined", ({ detail }) => heard.push(detail.peerId));
  const links = new Promise((resolve) => room.addEventListener("link", ({ detail }) => heard.push(detail.remoteId) === 3 && resolve()));
  await within(links, "two links");
  assert.deepEqual(heard.sort(), ["a", "b", "b"]);
});

test("in a mesh, where no way was found another is looked for half a minute later, or when the network has changed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { room } = await entered(t, { mesh: true, peers: [{ peerId: "a" }] });
  t.mock.timers.tick(0);
  const fail = async () => {
    const [link] = room.links.values();
    await settled();
    await link.receive("answer", { type: "answer", sdp: "theirs" });
    FakeRTCPeerConnection.all.at(-1).fail();
    for (let restart = 0; restart < 5; restart++) t.mock.timers.tick(6_000);
    assert.deepEqual([link.state, room.links.size], ["failed", 0]);
  };
  await fail();
  t.mock.timers.tick(29_999);
  assert.equal(room.links.size, 0);
  t.mock.timers.tick(1);
  assert.equal(room.links.size, 1);
  await fail();
  room.networkChanged();
  t.mock.timers.tick(0);
  assert.equal(room.links.size, 1);
});

test("there is a line only to who is in the room, and none to oneself", async (t) => {
  const { room } = await entered(t, { peers: [{ peerId: "a" }] });
  for (const nobody of ["nobody", "m", undefined, {}]) assert.throws(() => room.connect(nobody), { code: "no-such-peer" });
  assert.equal(room.links.size, 0);
});

test("a line whose offer finds nobody is closed", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }] });
  const link = room.connect("a");
  const { id } = await server.heard("offer");
  const closed = once(link, "state");
  server.say({ type: "error", id, code: "no-such-peer", message: "gone", retryable: false });
  assert.equal((await closed).detail, "closed");
  assert.equal(room.links.size, 0);
});

test("who asks for its turn begins a line as well", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }] });
  room.addEventListener("link", () => {});
  server.say({ type: "ice-candidate", from: "a", room: "r", payload: { candidate: "", turn: "ask" } });
  assert.deepEqual((await server.heard("ice-candidate")).payload, { candidate: "", turn: "yours" });
});

test("a line uses the ICE servers of its room beside those of the server", async (t) => {
  const [ours, theirs] = [{ urls: "stun:ours.example" }, { urls: "turn:theirs.example" }];
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }], iceServers: [ours] });
  room.connect("a");
  server.say({ type: "ice-servers", iceServers: [theirs] });
  await settled();
  assert.deepEqual(FakeRTCPeerConnection.all[0].configuration.iceServers, [ours, theirs]);
});

test("in a room of which the server wants it, nobody's addresses are shown, whatever the page says", async (t) => {
  for (const [policy, iceTransportPolicy, expected] of [["relay", undefined, "relay"], ["relay", "all", "relay"], [undefined, "relay", "relay"], [undefined, "all", "all"]]) {
    FakeRTCPeerConnection.all = [];
    const { room } = await entered(t, { peers: [{ peerId: "a" }], policy, iceTransportPolicy });
    room.connect("a");
    assert.equal(FakeRTCPeerConnection.all[0].configuration.iceTransportPolicy, expected, `${policy} ${iceTransportPolicy}`);
  }
});

/** It went nowhere, without a word. */
test("a room whose client is closed says so", async (t) => {
  const { client, room } = await entered(t, { peers: [{ peerId: "a" }] });
  client.close();
  for (const use of [() => room.send("x"), () => room.sendBestEffort("x"), () => room.connect("a")]) assert.throws(use, { code: "closed" });
});

test("leaving closes every line", async (t) => {
  const { client, room } = await entered(t, { peers: [{ peerId: "a" }] });
  const link = room.connect("a");
  client.close();
  assert.deepEqual([link.state, room.links.size, room.peers.length], ["closed", 0, 0]);
});

test("new servers reach the lines that there are, and those to come", async (t) => {
  const { server, room } = await entered(t, { peers: [{ peerId: "a" }, { peerId: "b" }] });
  room.connect("a");
  const iceServers = [{ urls: "turn:example.org" }];
  server.say({ type: "ice-servers", iceServers });
  await settled();
  room.connect("b");
  assert.deepEqual(FakeRTCPeerConnection.all.map(({ configuration }) => configuration.iceServers), [iceServers, iceServers]);
});

// ---- a session that is lost, while the line goes on

/** In a room with `a`, over a line that is connected, with what the two rooms say over it. */
async function lined(t) {
  const { server, client, room } = await entered(t, { peers: [{ peerId: "a" }] });
  const link = room.connect("a");
  await server.heard("offer");
  await server.heard("ice-candidate");
  await link.receive("answer", { type: "answer", sdp: "theirs" });
  const [connection] = FakeRTCPeerConnection.all;
  connection.open();
  const control = connection.channels[1];
  control.readyState = "open";
  return { server, client, room, link, connection, control };
}

/** Loses the session; comes back as `n` in a room with these. */
async function renewed({ server }, peers) {
  server.end(1006);
  await server.admitAgain({ peerId: "n" });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "n", peers }, { type: "ack", id });
  await settled();
}

test("a line goes on under the peer's new id, once both have proved who they are", async (t) => {
  const here = await lined(t);
  const { server, room, link, control } = here;
  await renewed(here, []);
  assert.deepEqual([link.state, link.remoteId], ["connected", "a"]);
  const { peerId, secret } = JSON.parse(control.sent[0]);
  assert.equal(peerId, "n");
  const renamed = once(link, "renamed");
  control.onmessage({ data: JSON.stringify({ peerId: "a again", secret: "theirs" }) });
  server.say(joined("a again"));
  const proof = await server.heard("ice-candidate");
  assert.deepEqual([proof.to, proof.payload], ["a again", { candidate: "", secret: "theirs" }]);
  server.say({ type: "ice-candidate", from: "a again", room: "r", payload: { candidate: "", secret } });
  assert.equal((await renamed).detail, "a again");
  assert.deepEqual([...room.links.entries()], [["a again", link]]);
});

test("of a room that was left no timer stays behind", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const here = await entered(t, { mesh: true, peers: [{ peerId: "a" }] });
  here.room.connect("a");
  const set = t.mock.method(globalThis, "setTimeout");
  const cleared = t.mock.method(globalThis, "clearTimeout");
  here.server.say({ type: "left", room: "r", reason: "left" });
  await settled();
  assert.equal(here.room.links.size, 0);
  const left = new Set(set.mock.calls.map(({ result }) => result));
  for (const call of cleared.mock.calls) left.delete(call.arguments[0]);
  assert.deepEqual([set.mock.callCount() > 0, left.size], [true, 0]);
});

/** The offer went to the peer's old id and was refused: the line said "connected" and could never be negotiated again. */
test("a track that is added while the server is away is offered to the peer's new id, and to no other", async (t) => {
  const here = await lined(t);
  const { server, link, connection, control } = here;
  server.end(1006);
  link.addTrack({});
  await settled();
  await server.admitAgain({ peerId: "n" });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "n", peers: [] }, { type: "ack", id });
  await settled();
  const { secret } = JSON.parse(control.sent[0]);
  control.onmessage({ data: JSON.stringify({ peerId: "a again", secret: "theirs" }) });
  server.say(joined("a again"));
  assert.equal((await server.heard("ice-candidate")).payload.secret, "theirs");
  server.say({ type: "ice-candidate", from: "a again", room: "r", payload: { candidate: "", secret } });
  const repeated = await server.heard("offer");
  assert.deepEqual([repeated.to, repeated.payload.sdp], ["a again", connection.localDescription.sdp]);
  server.say({ type: "answer", from: "a again", room: "r", payload: { type: "answer", sdp: "theirs" } });
  await settled();
  assert.equal(connection.tracks, 1);
});

test("a track that is added while the peer's session is lost is offered when it is back, under whatever id", async (t) => {
  const { server, link, control } = await lined(t);
  server.say({ type: "peer-left", room: "r", peerId: "a", reason: "timeout" });
  await settled();
  link.addTrack({});
  await settled();
  server.say(joined("a"));
  control.onmessage({ data: JSON.stringify({ peerId: "a", secret: "theirs" }) });
  const { secret } = JSON.parse(control.sent[0]);
  assert.equal((await server.heard("ice-candidate")).payload.secret, "theirs");
  server.say({ type: "ice-candidate", from: "a", room: "r", payload: { candidate: "", secret } });
  assert.equal((await server.heard("offer")).to, "a");
});

test("who does not know the secret is not taken for the peer", async (t) => {
  const here = await lined(t);
  await renewed(here, [{ peerId: "x" }]);
  here.server.say({ type: "ice-candidate", from: "x", room: "r", payload: { candidate: "", secret: "guessed" } });
  for (const nonsense of ["{", "1", "null", '{"peerId":1}']) here.control.onmessage({ data: nonsense });
  await settled();
  assert.equal(here.link.remoteId, "a");
});

/** A secret of any length went to the server as it was, and one above the limit on messages ended the session of whoever passed it on. */
test("what a peer claims of itself is short, and is passed on once", async (t) => {
  const here = await lined(t);
  const { server, client, control } = here;
  const claim = (peerId, secret) => control.onmessage({ data: JSON.stringify({ peerId, secret }) });
  claim("a", "x".repeat(300));
  for (let time = 0; time < 100; time++) claim("a", `secret ${time}`);
  client.send("message", { room: "r", payload: "last" });
  assert.equal((await server.heard("ice-candidate")).payload.secret, "secret 0");
  await server.heard("message");
  // In a new session we are somebody else, and have to prove it again.
  await renewed(here, [{ peerId: "a" }]);
  assert.equal((await server.heard("ice-candidate")).payload.secret, "secret 99");
});

/** JSON has no words for such an integer, and whoever had one in its metadata left the room in which a session was lost half entered. */
test("metadata that MessagePack can carry and JSON cannot is compared when a room is entered again", () => {
  const client = /** @type {any} */ ({ peerId: "m", state: "connected", send: () => {} });
  const room = new Room(client, "r");
  const updated = [];
  room.addEventListener("peer-updated", ({ detail }) => updated.push(detail.metadata));
  for (const n of [2n ** 60n, 2n ** 60n, 2n ** 61n]) room.tell({ type: "joined", peers: [{ peerId: "a", metadata: { n } }] });
  assert.deepEqual(updated, [{ n: 2n ** 61n }]);
});

test("a peer whose session ran out keeps its line, and one that left does not", async (t) => {
  for (const [reason, state] of [["timeout", "connected"], ["disconnected", "closed"], ["removed", "closed"]]) {
    FakeRTCPeerConnection.all = [];
    const { server, link } = await lined(t);
    server.say({ type: "peer-left", room: "r", peerId: "a", reason });
    await settled();
    assert.equal(link.state, state, reason);
  }
});

test("a line that outlives its peer is closed as soon as it breaks", async (t) => {
  const { server, room, link, connection } = await lined(t);
  server.say({ type: "peer-left", room: "r", peerId: "a", reason: "timeout" });
  await settled();
  connection.fail();
  assert.deepEqual([link.state, room.links.size], ["closed", 0]);
});

test("a line that breaks while the server is away waits for it", async (t) => {
  const here = await lined(t);
  here.server.unreachable = true;
  here.server.end(1006);
  here.connection.fail();
  assert.equal(here.link.state, "connecting");
});

test("a line that was not there yet begins anew", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { server, room } = await entered(t, { mesh: true, peers: [{ peerId: "a" }] });
  t.mock.timers.tick(0);
  await server.heard("offer");
  await server.heard("ice-candidate");
  server.end(1006);
  t.mock.timers.tick(0);
  await server.admitAgain({ peerId: "n" });
  const { id } = await server.heard("join");
  server.say({ type: "joined", room: "r", peerId: "n", peers: [{ peerId: "a" }] }, { type: "ack", id });
  await settled();
  t.mock.timers.tick(5_000);
  assert.equal((await server.heard("offer")).to, "a");
  assert.deepEqual(FakeRTCPeerConnection.all.map(({ connectionState }) => connectionState), ["closed", "new"]);
});
