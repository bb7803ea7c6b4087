import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { PeerLink } from "../src/peer.js";
import { FakeRTCPeerConnection } from "./fake-rtc.js";

let links = [];
beforeEach(() => {
  FakeRTCPeerConnection.all = [];
  mock.timers.enable({ apis: ["setTimeout"] });
});
afterEach(() => {
  for (const link of links.splice(0)) link.close();
  mock.timers.reset();
});

/**
 * Two links, `a` (the polite one) and `b`, with a wire between them that holds every signal until the test lets it through.
 */
function pair() {
  const wire = { a: [], b: [] };
  const link = (localId, remoteId) =>
    new PeerLink({
      localId,
      remoteId,
      send: (type, payload) => wire[localId].push({ type, payload }),
      RTCPeerConnection: FakeRTCPeerConnection,
    });
  const two = { a: link("a", "b"), b: link("b", "a") };
  links = Object.values(two);
  const [aConnection, bConnection] = FakeRTCPeerConnection.all;

  /** Lets everything through that `from` has sent; says what it was. */
  const pass = async (from) => {
    await settled();
    const signals = wire[from].splice(0);
    const to = two[from === "a" ? "b" : "a"];
    for (const { type, payload } of signals) await to.receive(type, structuredClone(payload));
    await settled();
    return signals.map(({ type }) => type);
  };
  return { ...two, aConnection, bConnection, wire, pass };
}

/** Lets everything run that has been set going: no timer is involved anywhere. */
async function settled() {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function assertConnected({ aConnection, bConnection }) {
  assert.deepEqual([aConnection.signalingState, bConnection.signalingState], ["stable", "stable"]);
  assert.equal(aConnection.localDescription.sdp, bConnection.remoteDescription.sdp);
  assert.equal(bConnection.localDescription.sdp, aConnection.remoteDescription.sdp);
  assert.deepEqual([aConnection.channels.length, bConnection.channels.length], [1, 1]);
  for (const connection of [aConnection, bConnection]) {
    assert.deepEqual(connection.candidates, [{ candidate: `of ${connection.remoteDescription.sdp}` }]);
  }
}

for (const [first, second] of [["a", "b"], ["b", "a"]]) {
  test(`when ${first} alone begins, ${second} answers`, async () => {
    const two = pair();
    two[first].start();
    assert.deepEqual(await two.pass(first), ["offer", "ice-candidate"]);
    assert.deepEqual(await two.pass(second), ["answer", "ice-candidate"]);
    assertConnected(two);
    assert.deepEqual([two.wire.a, two.wire.b], [[], []], "and that is all");
  });

  test(`when both begin and ${first}'s offer arrives first, the polite one yields`, async () => {
    const two = pair();
    two.a.start();
    two.b.start();
    await settled();
    await two.pass(first);
    await two.pass(second);
    for (let round = 0; round < 3; round++) {
      await two.pass("a");
      await two.pass("b");
    }
    assertConnected(two);
    assert.deepEqual([two.aConnection.rollbacks, two.bConnection.rollbacks], [1, 0]);
  });
}

/** Lets everything through, both ways, until neither side has anything more to say. */
async function talk({ wire, pass }) {
  for (let round = 0; round < 10; round++) for (const from of ["a", "b"]) await pass(from);
  assert.deepEqual(wire, { a: [], b: [] }, "they come to an end");
}

for (const [first, second] of [["a", "b"], ["b", "a"]]) {
  /** Chromium cannot take back an offer of tracks: the polite one refused the other's offer, was ignored itself, and the line was never negotiated again. */
  test(`both add tracks at the same moment, ${first} a little earlier, and both arrive`, async () => {
    const two = pair();
    two.b.start();
    await talk(two);
    two[first].addTrack({});
    two[second].addTrack({});
    await settled();
    await two.pass(first);
    await talk(two);
    assert.deepEqual([two.aConnection.tracks, two.bConnection.tracks], [1, 1]);
    assert.deepEqual([two.aConnection.signalingState, two.bConnection.signalingState], ["stable", "stable"]);
    for (const connection of [two.aConnection, two.bConnection]) assert.equal(connection.rollbacks, 0);
    two.a.addTrack({});
    await talk(two);
    two.b.addTrack({});
    await talk(two);
    assert.deepEqual([two.aConnection.tracks, two.bConnection.tracks], [2, 2], "and so do those that follow");
  });
}

for (const tracks of [["a"], ["b"], ["a", "b"]]) {
  test(`both begin at once, ${tracks} with a track, and it arrives`, async () => {
    const two = pair();
    for (const id of ["a", "b"]) two[id].start();
    for (const id of tracks) two[id].addTrack({});
    await talk(two);
    assert.deepEqual([two.aConnection.tracks, two.bConnection.tracks], ["a", "b"].map((id) => Number(tracks.includes(id))));
    assert.equal(two.bConnection.rollbacks, 0);
  });
}

test("the polite one begins with a track, and does not wait for a peer that takes no turns", async () => {
  const { a, b, aConnection, wire, pass } = pair();
  a.start();
  a.addTrack({});
  await settled();
  assert.equal(wire.a.pop().payload.turn, "ask");
  mock.timers.tick(500);
  assert.deepEqual(await pass("a"), ["offer", "ice-candidate"]);
  await pass("b");
  assert.equal(aConnection.tracks, 1);
  assert.equal(b.state, "connecting");
});

test("the impolite one waits while it is the other's turn", async () => {
  const two = pair();
  two.b.start();
  await talk(two);
  two.a.addTrack({});
  await two.pass("a");
  two.b.addTrack({});
  assert.deepEqual(await two.pass("b"), ["ice-candidate"], "it gives the turn, and does not offer");
  await talk(two);
  assert.deepEqual([two.aConnection.tracks, two.bConnection.tracks], [1, 1]);
});

test("a peer that takes no turns is offered to at once", async () => {
  const { a, b, aConnection, wire, pass } = pair();
  b.start();
  await settled();
  for (const { payload } of wire.b) delete payload.turns;
  await pass("b");
  await pass("a");
  a.addTrack({});
  assert.deepEqual(await pass("a"), ["offer", "ice-candidate"]);
  await pass("b");
  assert.equal(aConnection.tracks, 1);
});

for (const id of ["a", "b"]) {
  test(`what ${id} said and was lost can be said again`, async () => {
    const two = pair();
    two.b.start();
    await talk(two);
    two[id].addTrack({});
    await settled();
    assert.equal(two.wire[id].splice(0).length > 0, true);
    two[id].repeat();
    await talk(two);
    assert.equal(two[`${id}Connection`].tracks, 1);
    two[id].repeat();
    assert.deepEqual(two.wire[id], [], "what was answered is not");
  });
}

test("candidates wait for the description that they belong to", async () => {
  const { a, b, bConnection, wire } = pair();
  a.start();
  await settled();
  const [offer, candidate] = wire.a;
  await b.receive(candidate.type, candidate.payload);
  await b.receive("ice-candidate", null);
  assert.deepEqual(bConnection.candidates, []);
  await b.receive(offer.type, offer.payload);
  assert.deepEqual(bConnection.candidates, [candidate.payload, undefined]);
});

test("the state goes from connecting over connected, back when the line fails, to closed", async () => {
  const two = pair();
  const { a, aConnection } = two;
  const states = [];
  a.addEventListener("state", ({ detail }) => states.push(detail));
  assert.equal(a.state, "connecting");
  a.start();
  assert.equal(a.send("too soon"), false);
  await talk(two);
  aConnection.open();
  assert.equal(a.send("hello"), true);
  assert.deepEqual(aConnection.channels[0].sent, ["hello"]);
  const heard = [];
  a.addEventListener("message", ({ detail }) => heard.push(detail));
  aConnection.channels[0].onmessage({ data: "hi" });
  aConnection.fail();
  a.close();
  assert.deepEqual(states, ["connected", "connecting", "closed"]);
  assert.deepEqual(heard, ["hi"]);
});

test("what the channel does not take is told by a code", () => {
  const { a, aConnection } = pair();
  a.start();
  aConnection.open();
  for (const [error, code] of [[new TypeError("too large"), "message-too-large"], [new DOMException("full", "OperationError"), "too-much-waiting"]]) {
    aConnection.channels[0].send = () => {
      throw error;
    };
    assert.throws(() => a.send("x"), { code, cause: error });
  }
});

test("nonsense from a peer does nothing", async (t) => {
  const warnings = t.mock.method(console, "warn", () => {});
  const { a, b, pass } = pair();
  for (const [type, payload] of [["answer", { sdp: "out of turn" }], ["offer", null], ["offer", {}], ["ice-candidate", "?"]]) {
    await a.receive(type, payload);
  }
  assert.equal(warnings.mock.callCount(), 3);
  b.start();
  assert.deepEqual(await pass("b"), ["offer", "ice-candidate"]);
  assert.deepEqual(await pass("a"), ["answer", "ice-candidate"]);
});

test("candidates that never find their description do not pile up", async () => {
  const { a, b, bConnection, wire } = pair();
  a.start();
  await settled();
  const [offer, candidate] = wire.a;
  for (let i = 0; i < 1000; i++) await b.receive(candidate.type, candidate.payload);
  await b.receive(offer.type, offer.payload);
  assert.equal(bConnection.candidates.length, 256);
});

test("a link that is closed neither sends nor takes anything", async () => {
  const { a, b, wire } = pair();
  a.start();
  await settled();
  const [offer] = wire.a;
  b.close();
  await b.receive(offer.type, offer.payload);
  await settled();
  assert.deepEqual(wire.b, []);
  a.close();
  assert.equal(a.state, "closed");
});

for (const [id, impolite] of [["a", false], ["b", true]]) {
  test(`a line that fell silent is looked after, ${impolite ? "at once" : "later"} by the ${impolite ? "impolite" : "polite"} one`, async () => {
    const two = pair();
    two.a.start();
    for (let round = 0; round < 2; round++) for (const from of ["a", "b"]) await two.pass(from);
    const [link, connection] = [two[id], two[`${id}Connection`]];
    connection.open();
    connection.become("disconnected");
    assert.equal(link.state, "connecting");
    mock.timers.tick(1_999);
    assert.equal(connection.restarts, 0, "it may find back by itself");
    mock.timers.tick(1);
    assert.equal(connection.restarts, impolite ? 1 : 0);
    mock.timers.tick(6_000);
    assert.equal(connection.restarts, impolite ? 2 : 1);
    connection.become("connected");
    assert.equal(link.state, "connected");
    mock.timers.tick(60_000);
    assert.equal(connection.restarts, impolite ? 2 : 1, "and is left alone then");
  });
}

/**
 * Every failure began to count anew: a browser says "connecting" and "failed" again for each way that it looks for in vain, and so two
 * between whom there was no way looked for one as long as they were in the room.
 */
for (const [how, meanwhile] of [["says nothing more", []], ["fails each time", ["connecting", "failed"]], ["falls silent each time", ["connecting", "disconnected"]]]) {
  test(`a line that ${how} is given up after five restarts, and not before`, async () => {
    const two = pair();
    two.b.start();
    await talk(two);
    const { b, bConnection } = two;
    const states = [];
    b.addEventListener("state", ({ detail }) => states.push(detail));
    const spend = (restarts) => {
      for (let restart = 0; restart < restarts; restart++) {
        for (const state of meanwhile) bConnection.become(state);
        mock.timers.tick(5_999);
        assert.equal(b.state, "connecting");
        mock.timers.tick(1);
      }
    };
    bConnection.open();
    bConnection.fail();
    spend(4);
    assert.deepEqual([bConnection.restarts, b.error], [5, undefined]);
    bConnection.become("connected");
    assert.equal(b.state, "connected", "the fifth was not in vain,");
    bConnection.fail();
    spend(4);
    assert.equal(bConnection.restarts, 10, "and the count begins anew");
    mock.timers.tick(6_000);
    assert.deepEqual([b.state, b.isOver, b.error.code, bConnection.restarts], ["failed", true, "line-failed", 10]);
    assert.equal(bConnection.connectionState, "closed");
    b.close();
    assert.deepEqual(states, ["connected", "connecting", "connected", "connecting", "failed"], "and that is the end");
  });
}

for (const answers of [false, true]) {
  /** Such a line was "connecting" for as long as both were there, and whoever waited for it was told nothing. */
  test(`a peer that ${answers ? "answers in the last moment has time to connect" : "answers nobody is waited for so long"}`, async () => {
    const { a, aConnection, pass } = pair();
    a.start();
    await pass("a");
    mock.timers.tick(39_999);
    assert.equal(a.state, "connecting");
    if (answers) await pass("b");
    mock.timers.tick(1);
    assert.deepEqual([a.state, a.error?.code, aConnection.connectionState], answers ? ["connecting", undefined, "new"] : ["failed", "no-answer", "closed"]);
    if (!answers) return;
    mock.timers.tick(24_000);
    aConnection.open();
    mock.timers.tick(60_000);
    assert.equal(a.state, "connected");
  });
}

test("a line that is answered and never connects fails as well", async () => {
  const two = pair();
  two.b.start();
  await talk(two);
  mock.timers.tick(40_000);
  for (const { state } of [two.a, two.b]) assert.equal(state, "connecting");
  for (let restart = 0; restart < 5; restart++) mock.timers.tick(6_000);
  for (const { error } of [two.a, two.b]) assert.equal(error.code, "line-failed");
});

test("new servers are taken, and another id is told", () => {
  const { a, aConnection } = pair();
  a.setIceServers([{ urls: "stun:example.org" }]);
  assert.deepEqual(aConnection.configuration.iceServers, [{ urls: "stun:example.org" }]);
  const names = [];
  a.addEventListener("renamed", ({ detail }) => names.push(detail));
  a.rename("c");
  assert.deepEqual([names, a.remoteId], [["c"], "c"]);
});
