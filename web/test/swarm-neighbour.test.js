import assert from "node:assert/strict";
import { test } from "node:test";

import { Bitfield } from "../src/swarm/bitfield.js";
import { toBase64 } from "../src/bytes.js";
import { Neighbour } from "../src/swarm/neighbour.js";
import { encodeChunk } from "../src/swarm/wire.js";
import { FakeRoom, meet, noise, settled, until } from "./fake-links.js";

const REQUEST_MS = 1000;
const id = "a".repeat(64);
const root = "b".repeat(64);
const share = { id, name: "film", type: "", size: 100_000, pieceBytes: 16_384, pieces: 7 };
const announcement = { type: "announce", share, root, whole: true };

/** A neighbour at one end of a channel; at the other end, the test says what it likes. */
async function neighbour(host = {}) {
  const [link, other] = meet(new FakeRoom("me"), new FakeRoom("peer"));
  const channel = link.channel("test");
  await until(() => channel.readyState === "open", "an open channel");
  const log = [];
  const made = new Neighbour(link, channel, {
    requestMs: REQUEST_MS,
    offered: (_, { key, whole }) => log.push(["offered", key, whole]),
    withdrawn: (_, id) => log.push(["withdrawn", id]),
    grown: (_, id, pieces) => log.push(["grown", id, pieces]),
    readPiece: async (id, root, piece) => noise(20_000, piece + 1),
    readHashes: () => toBase64(noise(64)),
    free: () => log.push(["free"]),
    faulty: (_, reason) => {
      log.push(["faulty", reason]);
      made.end();
    },
    ...host,
  });
  channel.addEventListener("message", ({ data }) => made.receive(data));
  const heard = [];
  other.channels[0].addEventListener("message", ({ data }) => heard.push(typeof data === "string" ? JSON.parse(data) : data));
  const say = async (...messages) => {
    for (const message of messages) {
      const isData = typeof message === "string" || ArrayBuffer.isView(message);
      other.channels[0].send(isData ? message : JSON.stringify(message));
    }
    await settled();
  };
  const faults = () => log.filter(([what]) => what === "faulty").length;
  return { neighbour: made, link, other, channel, log, heard, say, faults };
}

/** A task that keeps what became of it. */
function task(bytes = 20_000, message = { type: "request", id, root, piece: 0 }) {
  const result = { message, bytes, taken: undefined, lost: undefined, checked: Promise.resolve() };
  result.take = (taken) => {
    result.taken = taken;
    return result.checked;
  };
  result.lose = (why) => (result.lost = why);
  return result;
}

/** The chunks that answer a request. */
function chunks(n, bytes, size = 16_000) {
  const made = [];
  for (let at = 0; at < bytes.length; at += size) made.push(encodeChunk(n, at, bytes.subarray(at, at + size)));
  return made;
}

test("what a peer announces, adds and withdraws is kept", async () => {
  const { neighbour: peer, log, say } = await neighbour();
  const bits = new Bitfield(7);
  bits.set(1);
  await say({ ...announcement, whole: false, bits: bits.toString() }, { type: "have", id, pieces: [1, 3, 3, 6] });
  assert.equal(peer.offers.get(id).bits.count, 3);
  await say(announcement, { type: "withdraw", id }, { type: "withdraw", id });
  assert.equal(peer.offers.size, 0);
  const key = `${id} 100000 16384 ${root}`;
  assert.deepEqual(log, [["offered", key, false], ["grown", id, [3, 6]], ["offered", key, true], ["withdrawn", id]]);
});

test("what I announce is told, with pieces that come after", async () => {
  const { neighbour: peer, heard } = await neighbour();
  const bits = new Bitfield(7);
  bits.set(0);
  peer.announce(share, root, bits);
  peer.tellOfPiece(id, 4);
  peer.announce(share, root);
  peer.withdraw(id);
  await settled();
  const { pieces: _, ...told } = share;
  assert.deepEqual(heard, [
    { type: "announce", share: told, root, whole: false, bits: "gA==" },
    { type: "have", id, pieces: [4] },
    { type: "announce", share: told, root, whole: true },
    { type: "withdraw", id },
  ]);
});

test("a request is answered by its chunks, and a list by its hashes", async () => {
  const { neighbour: peer, heard, say, log } = await neighbour();
  const [piece, list] = [task(), task(64, { type: "list", id, root, from: 0 })];
  peer.ask(piece);
  peer.ask(list);
  await settled();
  assert.deepEqual(heard, [{ type: "request", id, root, piece: 0, n: 0 }, { type: "list", id, root, from: 0, n: 1 }]);
  await say(...chunks(0, noise(20_000)), { type: "hashes", n: 1, hashes: toBase64(noise(64)) });
  assert.deepEqual([piece.taken, list.taken], [noise(20_000), noise(64)]);
  assert.deepEqual(log, [["free"], ["free"]]);
  assert.equal(peer.isIdle, true);
});

test("there are four slots, and one is in use until its piece is checked", async () => {
  const { neighbour: peer, say } = await neighbour();
  let checked;
  const first = task();
  first.checked = new Promise((resolve) => (checked = resolve));
  peer.ask(first);
  for (let i = 0; i < 3; i++) {
    assert.equal(peer.isFree, true);
    peer.ask(task());
  }
  assert.equal(peer.isFree, false);
  await say(...chunks(0, noise(20_000)));
  assert.deepEqual([first.taken !== undefined, peer.isFree], [true, false]);
  checked();
  await settled();
  assert.equal(peer.isFree, true);
});

test("a refusal is told, and frees the slot", async () => {
  const { neighbour: peer, say, log } = await neighbour();
  const asked = task();
  peer.ask(asked);
  await say({ type: "refuse", n: 0 });
  assert.deepEqual([asked.lost, log, peer.isIdle], ["refused", [["free"]], true]);
});

test("what is taken back is cancelled, and what still comes of it is ignored", async () => {
  const { neighbour: peer, say, heard, faults } = await neighbour();
  const [first, second] = [task(), task()];
  const cancel = peer.ask(first);
  peer.ask(second);
  await say(...chunks(0, noise(20_000)).slice(0, 1));
  cancel();
  cancel();
  await say(...chunks(0, noise(20_000)).slice(1), { type: "refuse", n: 0 }, ...chunks(1, noise(20_000, 2)));
  assert.deepEqual([first.taken, first.lost, second.taken, faults()], [undefined, undefined, noise(20_000, 2), 0]);
  assert.deepEqual(heard.filter(({ type }) => type === "cancel"), [{ type: "cancel", n: 0 }]);
});

test("who lets a request wait is slow: its requests are lost, and it gets one at a time until it answers", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { neighbour: peer, say, log } = await neighbour();
  const tasks = [task(), task(), task()];
  for (const asked of tasks) peer.ask(asked);
  t.mock.timers.tick(REQUEST_MS - 1);
  assert.deepEqual(tasks.map(({ lost }) => lost), [undefined, undefined, undefined]);
  t.mock.timers.tick(1);
  assert.deepEqual(tasks.map(({ lost }) => lost), ["late", "late", "late"]);
  assert.deepEqual([peer.isSlow, peer.isFree, log], [true, true, [["free"]]]);
  const again = task();
  peer.ask(again);
  assert.equal(peer.isFree, false);
  await say(...chunks(3, noise(20_000)));
  assert.deepEqual([again.taken !== undefined, peer.isSlow, peer.isFree], [true, false, true]);
});

test("each request has its time from when its turn comes, and longer pieces have more", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { neighbour: peer, say } = await neighbour();
  const [first, second] = [task(600_000), task()];
  peer.ask(first);
  peer.ask(second);
  t.mock.timers.tick(3 * REQUEST_MS - 1);
  await say(...chunks(0, noise(600_000)));
  assert.equal(first.taken.length, 600_000);
  t.mock.timers.tick(REQUEST_MS - 1);
  assert.equal(second.lost, undefined);
  t.mock.timers.tick(1);
  assert.equal(second.lost, "late");
});

/** A peer that sends a little now and then would otherwise have as much time as it likes. */
test("a piece that trickles in is late all the same", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { neighbour: peer, say } = await neighbour();
  const asked = task();
  peer.ask(asked);
  for (let at = 0; at < 10; at++) {
    await say(encodeChunk(0, at, Uint8Array.of(at)));
    t.mock.timers.tick(REQUEST_MS / 10);
  }
  assert.equal(asked.lost, "late");
});

test("when the channel is gone, so is what was asked, and what is asked then", async () => {
  const { neighbour: peer } = await neighbour();
  const [before, after] = [task(), task()];
  const cancel = peer.ask(before);
  peer.end();
  peer.end();
  assert.equal(before.lost, "gone");
  cancel();
  peer.ask(after);
  await settled();
  assert.deepEqual([after.lost, peer.isFree], ["gone", false]);
});

test("what a peer asks is answered", async () => {
  const asked = [];
  const { say, heard } = await neighbour({
    readPiece: async (...what) => (asked.push(what), what[2] === 1 ? noise(20) : undefined),
    readHashes: (...what) => (asked.push(what), what[2] === 256 ? toBase64(noise(32)) : undefined),
  });
  await say(
    { type: "request", n: 5, id, root, piece: 1 },
    { type: "request", n: 6, id, root, piece: 2 },
    { type: "list", n: 7, id, root, from: 256 },
    { type: "list", n: 8, id, root, from: 512 },
  );
  assert.deepEqual(asked, [[id, root, 1], [id, root, 2], [id, root, 256], [id, root, 512]]);
  const [piece, ...rest] = heard;
  assert.deepEqual(new Uint8Array(piece), encodeChunk(5, 0, noise(20)));
  assert.deepEqual(rest, [{ type: "refuse", n: 6 }, { type: "hashes", n: 7, hashes: toBase64(noise(32)) }, { type: "refuse", n: 8 }]);
});

test("a peer may have some requests under way, and no more", async () => {
  const { say, faults } = await neighbour({ readPiece: () => new Promise(() => {}) });
  const request = (n) => ({ type: "request", n, id, root, piece: 0 });
  await say(...Array.from({ length: 8 }, (_, n) => request(n)));
  assert.equal(faults(), 0);
  await say({ type: "cancel", n: 3 }, request(8));
  assert.equal(faults(), 0);
  await say(request(9));
  assert.equal(faults(), 1);
});

const other = (i) => i.toString(16).padStart(64, "0");
/** By what it is, what the peer says; there are two requests: 0, for a piece of 20,000 bytes, and 1, for two hashes. */
const NONSENSE = {
  "no JSON": ["{"],
  "an empty chunk": [new Uint8Array(8)],
  "hello again": [{ type: "hello", version: 1, nonce: "0".repeat(16) }],
  "a 65th announcement": Array.from({ length: 65 }, (_, i) => ({ ...announcement, share: { ...share, id: other(i) } })),
  "pieces of what it did not announce": [{ type: "have", id, pieces: [0] }],
  "a piece behind the end": [announcement, { type: "have", id, pieces: [7] }],
  "an answer to nothing": [encodeChunk(2, 0, noise(10))],
  "a refusal of nothing": [{ type: "refuse", n: 2 }],
  "an answer before its turn": [{ type: "hashes", n: 1, hashes: toBase64(noise(64)) }],
  "a chunk that leaves a gap": [encodeChunk(0, 1, noise(10))],
  "a chunk for the second time": [encodeChunk(0, 0, noise(10)), encodeChunk(0, 0, noise(10))],
  "more than the piece": [encodeChunk(0, 0, noise(16_000)), encodeChunk(0, 16_000, noise(4_001))],
  "a chunk in place of hashes": [...chunks(0, noise(20_000)), encodeChunk(1, 0, noise(64))],
  "hashes in place of a piece": [{ type: "hashes", n: 0, hashes: toBase64(noise(64)) }],
  "too few hashes": [...chunks(0, noise(20_000)), { type: "hashes", n: 1, hashes: toBase64(noise(32)) }],
  "too many hashes": [...chunks(0, noise(20_000)), { type: "hashes", n: 1, hashes: toBase64(noise(96)) }],
  "a piece twice": [...chunks(0, noise(20_000)), ...chunks(0, noise(20_000)).slice(0, 1)],
};

for (const [what, messages] of Object.entries(NONSENSE)) {
  test(`nonsense ends the talk and does no more: ${what}`, async () => {
    const { neighbour: peer, say, faults } = await neighbour();
    const [first, second] = [task(), task(64, { type: "list", id, root, from: 0 })];
    peer.ask(first);
    peer.ask(second);
    await say(...messages.slice(0, -1));
    assert.equal(faults(), 0, "it is the last message");
    await say(messages.at(-1), { type: "withdraw", id });
    assert.equal(faults(), 1);
    assert.ok(second.lost === "gone" && (first.lost === "gone" || first.taken));
  });
}

test("sixty-four announcements are no nonsense, nor are changes of them", async () => {
  const { neighbour: peer, say, faults } = await neighbour();
  const announce = (i) => ({ ...announcement, share: { ...share, id: other(i) } });
  await say(...Array.from({ length: 64 }, (_, i) => announce(i)), announce(0), { type: "withdraw", id: other(1) }, announce(64));
  assert.deepEqual([faults(), peer.offers.size], [0, 64]);
});

test("more than is still due of what was taken back is nonsense", async () => {
  const { neighbour: peer, say, faults } = await neighbour();
  const cancel = peer.ask(task());
  await say(encodeChunk(0, 0, noise(10_000)));
  cancel();
  await say(encodeChunk(0, 10_000, noise(10_000)));
  assert.equal(faults(), 0);
  await say(encodeChunk(0, 20_000, noise(1)));
  assert.equal(faults(), 1);
});

test("a peer that does not read is given up", async () => {
  const { neighbour: peer, link, faults } = await neighbour();
  link.isHeld = true;
  peer.announce(share, root);
  for (let i = 0; i < 2000 && faults() === 0; i++) peer.announce({ ...share, name: "x".repeat(255) }, root);
  assert.equal(faults(), 1);
});
