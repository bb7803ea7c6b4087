import assert from "node:assert/strict";
import { test } from "node:test";

import { Visit, doorOf, languageOf, nameOf, userOf } from "../pages/visit.js";

test("of what a stranger says only what can be shown is taken", () => {
  for (const metadata of [undefined, null, 7, "x", {}, { name: 7 }, { name: "  " }, []]) assert.equal(nameOf(metadata), undefined);
  assert.equal(nameOf({ name: "<b>Emma" }), "<b>Emma");
  assert.equal(nameOf({ name: "x".repeat(1_000) }).length, 80);
  assert.equal(doorOf({ door: "websocket" }), "websocket");
  for (const door of ["constructor", "", 7, undefined]) assert.equal(doorOf({ door }), undefined);
  assert.equal(languageOf({ lang: "es-MX" }), "es-MX");
  assert.equal(userOf("emma@example.org"), "emma@example.org");
  assert.equal(userOf("x".repeat(1_000)).length, 80);
  for (const user of [undefined, "", "  "]) assert.equal(userOf(user), undefined);
  for (const lang of ["<b>", "", "x", 7, "es; rm"]) assert.equal(languageOf({ lang }), undefined);
});

/** A client in a room, as far as a visit looks. */
function staying() {
  const client = Object.assign(new EventTarget(), { state: "connected", transport: "webtransport", closed: 0, close: () => client.closed++ });
  const told = [];
  const room = Object.assign(new EventTarget(), { peers: [], links: new Map(), setMetadata: async (metadata) => void told.push(metadata) });
  const visit = new Visit({ server: "s", room: "r", door: "auto", name: "Emma" }, client, room, { name: "Emma", door: "webtransport" });
  return { client, room, told, visit };
}

const link = (remoteId, state = "connected") => Object.assign(new EventTarget(), { remoteId, state, closed: 0, close() { this.closed++; } });

test("the others are told what is new, and only that", () => {
  const { visit, told } = staying();
  visit.tell({ name: "Emma" });
  visit.tell({ muted: true });
  visit.tell({ muted: true });
  assert.deepEqual(told, [{ name: "Emma", door: "webtransport", muted: true }]);
});

test("who comes back by another door says so", () => {
  const { client, told } = staying();
  client.transport = "websocket";
  client.state = "reconnecting";
  client.dispatchEvent(new Event("state"));
  client.state = "connected";
  client.dispatchEvent(new Event("state"));
  assert.deepEqual(told.map(({ door }) => door), ["websocket"]);
});

test("a peer that is gone for the server, and still has a line, is still there, with its name and who it is", () => {
  const { room, visit } = staying();
  const line = link("b");
  room.peers = [{ peerId: "a", metadata: { name: "A" } }, { peerId: "b", metadata: { name: "B" }, user: "stella" }];
  room.links.set("b", line);
  assert.deepEqual(visit.peers().map(({ peerId, metadata, user }) => [peerId, metadata.name, user]), [["a", "A", undefined], ["b", "B", "stella"]]);
  room.peers = [];
  assert.deepEqual(visit.peers(), [{ peerId: "b", metadata: { name: "B" }, user: "stella", link: line }]);
  assert.deepEqual(visit.peer("b"), { peerId: "b", metadata: { name: "B" }, user: "stella", link: line });
  line.isOver = true;
  assert.deepEqual(visit.peers(), []);
});

test("every line is met once, and every change is told", () => {
  const { room, visit } = staying();
  const [before, after] = [link("a"), link("b")];
  room.links.set("a", before);
  const met = [];
  let changes = 0;
  visit.watch({ link: (line) => met.push(line.remoteId), changed: () => changes++ });
  assert.equal(changes, 1);
  for (let i = 0; i < 2; i++) room.dispatchEvent(new CustomEvent("link", { detail: after }));
  assert.deepEqual(met, ["a", "b"]);
  changes = 0;
  for (const [target, type] of [[before, "state"], [after, "renamed"]]) target.dispatchEvent(new Event(type));
  for (const type of ["peer-joined", "peer-updated", "peer-left"]) room.dispatchEvent(new CustomEvent(type, { detail: { peerId: "c" } }));
  assert.equal(changes, 5);
});

test("why there is no line is known until there is another, or the peer has left", () => {
  const { room, visit } = staying();
  const failures = () => visit.peers().map(({ failure }) => failure);
  visit.watch({ link: () => {}, changed: () => {} });
  room.peers = [{ peerId: "a" }];
  const fail = () => {
    const line = link("a");
    room.dispatchEvent(new CustomEvent("link", { detail: line }));
    assert.deepEqual(failures(), [undefined]);
    line.error = { code: "no-answer" };
    line.dispatchEvent(new Event("state"));
    assert.deepEqual(failures(), ["no-answer"]);
  };
  fail();
  fail();
  room.dispatchEvent(new CustomEvent("peer-left", { detail: { peerId: "a" } }));
  assert.deepEqual(failures(), [undefined]);
});

test("the end closes everything, and nothing is heard any more", () => {
  const { client, room, visit } = staying();
  const line = link("a");
  room.links.set("a", line);
  let changes = 0;
  visit.watch({ link: () => {}, changed: () => changes++ });
  visit.end();
  changes = 0;
  room.dispatchEvent(new Event("peer-joined"));
  line.dispatchEvent(new Event("state"));
  assert.deepEqual([client.closed, line.closed, changes, visit.signal.aborted], [1, 1, 0, true]);
});
