/** What a swarm lists, its bounds, and its end. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Download, Swarm } from "../swarm.js";
import { FakeRoom, corrupt, meet, noise, settled, until, within } from "./fake-links.js";
import { PIECE_BYTES, announcing, film, giving, hashOf, manifestOf, mesh, person, sha256, stranger } from "./fake-swarm.js";

const code = (promise) => promise.then(() => "no error", (error) => error.code);
const types = ({ told }) => told.map(({ event }) => event);

test("what nobody announces any more is not listed", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  mesh(ann, bob);
  mesh(ann, eve);
  const [fromBob] = meet(bob.room, eve.room);
  const { id } = await ann.swarm.share(film());
  await bob.swarm.share(film());
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await settled();
  ann.swarm.withdraw(id);
  ann.swarm.withdraw(id);
  await settled();
  assert.deepEqual([types(eve), eve.swarm.shares.has(id), ann.swarm.shares.has(id)], [["share"], true, true]);
  fromBob.close();
  assert.deepEqual([types(eve), eve.swarm.shares.size], [["share", "unshared"], 0]);
});

test("who has fetched a file shares it, and whoever leaves ends that", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  const [line] = meet(ann.room, bob.room);
  const { id } = await ann.swarm.share(film());
  const download = bob.swarm.fetch(id);
  await within(download.blob(), "the file");
  line.close();
  meet(bob.room, eve.room);
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file from the second"), id);
  bob.swarm.withdraw(id);
  assert.equal(download.state, "failed");
  eve.swarm.withdraw(id);
  await settled();
  assert.equal(eve.swarm.shares.size, 0);
});

test("what was streamed, and is only in the cache, is served as well", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  const [line] = meet(ann.room, bob.room);
  const { id } = await ann.swarm.share(film());
  for await (const chunk of bob.swarm.fetch(id).stream()) assert.ok(chunk.length > 0);
  line.close();
  meet(bob.room, eve.room);
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file from the second"), id);
});

/** Each took channels that were the other's, and neither got anywhere. */
test("a room has one swarm at a time", (t) => {
  const ann = person(t, "ann");
  assert.throws(() => new Swarm(ann.room), { code: "already-open" });
  ann.swarm.close();
  const second = new Swarm(ann.room);
  ann.swarm.close();
  assert.throws(() => new Swarm(ann.room), { code: "already-open" });
  second.close();
});

test("an id may be written in capitals, and what is no file is said to be none", async (t) => {
  const ann = person(t, "ann");
  const { id } = await ann.swarm.share(film());
  assert.equal(ann.swarm.fetch(id.toUpperCase()), ann.swarm.fetch(id));
  for (const thing of ["text", undefined, {}, 1]) assert.equal(await code(ann.swarm.share(thing)), "not-a-file");
});

test("sharing the same file twice is sharing it once", async (t) => {
  const ann = person(t, "ann");
  const share = await ann.swarm.share(film());
  assert.equal(await ann.swarm.share(film()), share);
  assert.deepEqual(types(ann), ["share"]);
});

test("what is shared from here can be fetched from here", async (t) => {
  const ann = person(t, "ann");
  const { id } = await ann.swarm.share(film());
  const download = ann.swarm.fetch(id);
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.deepEqual([download.state, [...new Set(download.pieces)], download.received], ["done", ["ann"], film().size]);
  let read = 0;
  for await (const chunk of download.stream()) read += chunk.length;
  assert.equal(read, film().size);
});

test("a download is done when its file is shared from here meanwhile", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  const download = eve.swarm.fetch(sha256(noise(39.5 * PIECE_BYTES)));
  const fetched = hashOf(download);
  await eve.swarm.share(film());
  assert.equal(await within(fetched, "the file"), download.id);
  mesh(ann, eve);
  assert.equal(await within(hashOf(ann.swarm.fetch(download.id)), "the file elsewhere"), download.id);
});

test("a file that is gone from the disk is no longer shared, and who shared it is told so once", async (t) => {
  const [ann, eve, bob] = ["ann", "eve", "bob"].map((name) => person(t, name));
  for (const { room } of [eve, bob]) meet(ann.room, room);
  const file = film();
  const { id } = await ann.swarm.share(file);
  await until(() => [eve, bob].every(({ swarm }) => swarm.shares.has(id)), "an announcement");
  // Both ask before either is told.
  const asked = [];
  const arrayBuffer = () =>
    new Promise((_, reject) => {
      asked.push(reject);
      if (asked.length >= 2) for (const reject of asked) reject(new DOMException("gone", "NotReadableError"));
    });
  file.slice = () => ({ arrayBuffer });
  const download = eve.swarm.fetch(id);
  bob.swarm.fetch(id);
  assert.equal(download.state, "fetching");
  await until(() => eve.swarm.shares.size === 0 && bob.swarm.shares.size === 0, "the end of the share");
  assert.equal(download.state, "waiting");
  await settled();
  assert.deepEqual([types(ann), types(eve)], [["share", "withdrawn"], ["share", "unshared"]], "there is still somebody who wants it,");
  for (const { swarm } of [eve, bob]) swarm.withdraw(id);
  await until(() => ann.swarm.shares.size === 0, "the end of the wish");
  assert.deepEqual(types(ann), ["share", "withdrawn", "unshared"]);
});

test("the id that a peer is avoided by changes with it, and a new line does not help", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  const [line, back] = meet(ann.room, eve.room);
  line.outgoing = corrupt;
  const { id } = await ann.swarm.share(film());
  eve.swarm.fetch(id);
  await until(() => types(eve).includes("refused"), "a refusal");
  ann.room.peerId = "ann again";
  back.rename("ann again");
  line.close();
  meet(ann.room, eve.room);
  await settled();
  assert.equal(eve.swarm.shares.size, 0);
});

test("nonsense closes the channel of who said it, and nothing else", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  mesh(ann, eve);
  const { id } = await ann.swarm.share(film());
  const bad = await stranger("x", eve);
  bad.say(announcing(manifestOf(noise(10))));
  await until(() => eve.swarm.shares.size === 2, "announcements");
  bad.say({ type: "request" });
  await until(() => bad.channel.readyState === "closed", "the end of the channel");
  assert.equal(bad.link.state, "connected", "the link is for others as well");
  assert.equal(eve.swarm.shares.size, 1);
  bad.link.channel("switchboard.swarm");
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file"), id);
});

test("a peer asks for what there is not, and gets a refusal", async (t) => {
  const eve = person(t, "eve");
  const { id } = await eve.swarm.share(film());
  const { root } = manifestOf(noise(39.5 * PIECE_BYTES));
  const x = await stranger("x", eve);
  const none = "0".repeat(64);
  x.say(
    { type: "request", n: 0, id: none, root, piece: 0 },
    { type: "request", n: 1, id, root: none, piece: 0 },
    { type: "request", n: 2, id, root, piece: 40 },
    { type: "list", n: 3, id, root: none, from: 0 },
    { type: "list", n: 4, id, root, from: 40 },
  );
  await until(() => x.heard.some(({ n }) => n === 4), "the last answer");
  assert.deepEqual(x.heard.filter(({ n }) => n !== undefined), [0, 1, 2, 3, 4].map((n) => ({ type: "refuse", n })));
});

test("sixty-four files at a time, shared and fetched together", async (t) => {
  const ann = person(t, "ann");
  const ids = [];
  for (let i = 0; i < 32; i++) ids.push((await ann.swarm.share(new Blob([noise(10, i + 1)]))).id);
  for (let i = 0; i < 32; i++) ann.swarm.fetch(sha256(`${i}`));
  assert.equal(await code(ann.swarm.share(new Blob(["one more"]))), "too-many");
  assert.throws(() => ann.swarm.fetch(sha256("one more")), { code: "too-many" });
  assert.equal((await ann.swarm.share(new Blob([noise(10, 1)]))).id, ids[0], "one that is there already");
  ann.swarm.withdraw(ids[0]);
  await ann.swarm.share(new Blob(["one more"]));
});

test("an id that is none, and pieces that no peer would take, are refused at once", (t) => {
  const ann = person(t, "ann");
  for (const id of ["", "g".repeat(64), undefined, 7]) assert.throws(() => ann.swarm.fetch(id), { code: "bad-id" });
  for (const pieceBytes of [0, 16_383, 2 ** 22 + 1, 1e9, 20_000.5]) assert.throws(() => new Swarm(new FakeRoom("x"), { pieceBytes }), RangeError);
  assert.throws(() => new Swarm(new FakeRoom("x"), { cache: "cache-storage" }), { code: "unsupported" });
});

for (const [how, end] of [["closed", ({ swarm }) => swarm.close()], ["left with its room", ({ room }) => room.dispatchEvent(new CustomEvent("left"))]]) {
  test(`a swarm that is ${how} is over: downloads fail, channels close, links stay`, async (t) => {
    const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
    const [line, back] = meet(ann.room, eve.room);
    const { id } = await ann.swarm.share(film());
    line.outgoing = (data) => (typeof data === "string" ? data : undefined);
    const download = eve.swarm.fetch(id);
    assert.ok(download instanceof Download);
    const reading = download.stream().getReader().read();
    await until(() => download.pieces.includes("wanted"), "a request");
    end(eve);
    end(eve);
    assert.deepEqual([await code(download.blob()), await code(reading), await code(eve.swarm.share(film()))], ["closed", "closed", "closed"]);
    assert.throws(() => eve.swarm.fetch(id), { code: "closed" });
    assert.deepEqual([eve.swarm.shares.size, back.state, back.channels.map(({ readyState }) => readyState)], [0, "connected", ["closed"]]);
    meet(new FakeRoom("late"), eve.room);
    await settled();
    assert.equal(line.state, "connected");
  });
}

test("a swarm that is closed while a file is read does not share it", async (t) => {
  const ann = person(t, "ann");
  const sharing = code(ann.swarm.share(film()));
  ann.swarm.close();
  assert.equal(await within(sharing, "a refusal"), "closed");
});

test("a name that is too long is cut, so that others take it", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  mesh(ann, eve);
  const { id } = await ann.swarm.share(new File(["x"], "ä".repeat(300)));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  assert.equal(eve.swarm.shares.get(id).name, "ä".repeat(255));
});

test("a stranger that answers like one of us is one of us", async (t) => {
  const eve = person(t, "eve");
  const manifest = manifestOf(noise(100_000));
  const x = await stranger("x", eve, giving(manifest));
  x.say({ type: "gossip from a later version" }, announcing(manifest));
  assert.equal(await within(hashOf(eve.swarm.fetch(manifest.share.id)), "the file"), manifest.share.id);
});
