/** Swarms with each other: what is shared arrives, whoever comes, goes, is slow or lies. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { corrupt, meet, noise, settled, until, within, without } from "./fake-links.js";
import { PIECE_BYTES, REQUEST_MS, film, hashOf, mesh, person, sha256 } from "./fake-swarm.js";

const bytesOf = async (blob) => new Uint8Array(await blob.arrayBuffer());
const sources = (download) => [...new Set(download.pieces)].sort();

test("what one shares, another fetches", async (t) => {
  const [ann, bob] = [person(t, "ann"), person(t, "bob")];
  mesh(ann, bob);
  const file = film();
  const share = await ann.swarm.share(file);
  assert.deepEqual(share, { id: sha256(await bytesOf(file)), name: "film.webm", type: "video/webm", size: file.size, pieceBytes: PIECE_BYTES, pieces: 40 });
  await until(() => bob.swarm.shares.size === 1, "an announcement");
  assert.deepEqual(bob.told, [{ event: "share", ...share }]);
  assert.deepEqual([ann.swarm.shares.get(share.id), bob.swarm.shares.get(share.id)], [share, share]);

  const download = bob.swarm.fetch(share.id);
  const progress = [];
  const states = [];
  download.addEventListener("progress", ({ detail }) => progress.push(detail));
  download.addEventListener("state", ({ detail }) => states.push(detail));
  const blob = await within(download.blob(), "the file");
  assert.deepEqual(await bytesOf(blob), await bytesOf(file));
  assert.equal(blob.type, "video/webm");
  assert.deepEqual(progress.map(({ piece }) => piece).sort((a, b) => a - b), Array.from({ length: 40 }, (_, piece) => piece));
  assert.deepEqual(progress.at(-1).received, file.size);
  assert.ok(progress.every(({ received, total, from }, i) => received > (progress[i - 1]?.received ?? 0) && total === file.size && from === "ann"));
  assert.deepEqual([download.pieces.length, sources(download), download.state, download.received, download.total], [40, ["ann"], "done", file.size, file.size]);
  assert.equal(states.at(-1), "done");
  assert.equal(await download.blob(), blob);
});

test("who comes later hears of what is shared, and who fetches first waits for it", async (t) => {
  const [ann, bob] = [person(t, "ann"), person(t, "bob")];
  const { id } = await ann.swarm.share(film());
  const download = bob.swarm.fetch(id);
  assert.deepEqual([download.state, download.share, download.pieces.length], ["waiting", undefined, 0]);
  const fetched = hashOf(download);
  meet(ann.room, bob.room);
  assert.equal(await within(fetched, "the file"), id);
});

test("a file comes from everybody who has it at once, out of order, and is read in order", async (t) => {
  const people = ["ann", "bob", "cid", "eve"].map((name) => person(t, name));
  mesh(...people);
  const eve = people.pop();
  for (const { swarm } of people) await swarm.share(film());
  const [[id]] = [...people[0].swarm.shares.keys()].map((id) => [id]);
  await until(() => [...eve.swarm.shares.keys()].includes(id), "an announcement");
  await settled();
  const download = eve.swarm.fetch(id);
  const order = [];
  download.addEventListener("progress", ({ detail }) => order.push(detail.piece));
  const reading = (async () => {
    const chunks = [];
    for await (const chunk of download.stream()) chunks.push(chunk);
    return Buffer.concat(chunks);
  })();
  assert.equal(sha256(await within(reading, "the stream")), id);
  assert.deepEqual(sources(download), ["ann", "bob", "cid"]);
  assert.notDeepEqual(order, [...order].sort((a, b) => a - b));
});

test("who fetches serves what is there already: through one in the middle, a file reaches one who never met its sharer", async (t) => {
  const [ann, bob, cid] = ["ann", "bob", "cid"].map((name) => person(t, name));
  const [line] = meet(ann.room, bob.room);
  meet(bob.room, cid.room);
  const { id } = await ann.swarm.share(film());
  // Half of it reaches the one in the middle, and no more.
  let chunks = 0;
  line.outgoing = (data) => {
    if (typeof data !== "string" && ++chunks >= 41) line.isHeld = true;
    return data;
  };
  const middle = hashOf(bob.swarm.fetch(id));
  const download = cid.swarm.fetch(id);
  const far = hashOf(download);
  await until(() => line.isHeld && download.received > 0, "pieces of a file that is not whole anywhere near");
  assert.ok(bob.swarm.fetch(id).received < 39 * PIECE_BYTES);
  line.outgoing = (data) => data;
  line.release();
  assert.deepEqual(await within(Promise.all([middle, far]), "the file, twice"), [id, id]);
  assert.deepEqual(sources(download), ["bob"]);
});

test("a corrupted piece is refused, its sender avoided, and the piece fetched elsewhere", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  const [, toEve] = [meet(ann.room, eve.room), meet(bob.room, eve.room)[0]];
  toEve.outgoing = corrupt;
  const { id } = await ann.swarm.share(film());
  await bob.swarm.share(film());
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await settled();
  const download = eve.swarm.fetch(id);
  assert.equal(await within(hashOf(download), "the file"), id);
  const refused = eve.told.filter(({ event }) => event === "refused");
  assert.equal(refused.length, 1, "and nothing more is asked of it");
  assert.deepEqual([refused[0].id, refused[0].from, typeof refused[0].piece], [id, "bob", "number"]);
  assert.deepEqual(sources(download), ["ann"]);

  // Nor for anything else.
  const { id: other } = await bob.swarm.share(film(2));
  await settled();
  assert.equal(eve.swarm.shares.has(other), false);
});

test("when the only one who has it corrupts it, the file waits for another", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  meet(bob.room, eve.room)[0].outgoing = corrupt;
  const { id } = await bob.swarm.share(film());
  const download = eve.swarm.fetch(id);
  const fetched = hashOf(download);
  await until(() => download.state === "waiting" && eve.told.some(({ event }) => event === "refused"), "a refusal");
  assert.deepEqual(eve.told.map(({ event }) => event), ["share", "unshared", "refused"]);
  bob.swarm.withdraw(id);
  await bob.swarm.share(film());
  await settled();
  assert.equal(download.state, "waiting");
  meet(ann.room, eve.room);
  await ann.swarm.share(film());
  assert.equal(await within(fetched, "the file"), id);
});

test("when one leaves half way, the others give the rest", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  const [line] = meet(ann.room, eve.room);
  meet(bob.room, eve.room);
  const { id } = await ann.swarm.share(film());
  await bob.swarm.share(film());
  await settled();
  const download = eve.swarm.fetch(id);
  download.addEventListener("progress", ({ detail: { received, total } }) => received > total / 2 && line.close());
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.equal(line.state, "closed");
  assert.deepEqual(sources(download), ["ann", "bob"]);
});

test("when all leave, the rest waits for one to come back", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  const { id } = await ann.swarm.share(film());
  const [line] = meet(ann.room, eve.room);
  const download = eve.swarm.fetch(id);
  const froms = [];
  download.addEventListener("progress", ({ detail: { received, total, from } }) => {
    froms.push(from);
    if (received > total / 2) line.close();
  });
  const fetched = hashOf(download);
  await until(() => line.state === "closed", "half of the file");
  await until(() => download.state === "waiting", "nobody to ask");
  const before = download.received;
  assert.ok(before > 0 && before < film().size);
  assert.ok(!download.pieces.includes("wanted"));
  ann.room.peerId = "ann again";
  meet(ann.room, eve.room);
  assert.equal(await within(fetched, "the file"), id);
  assert.equal(froms.length, 40, "no piece came twice");
  assert.deepEqual(sources(download), ["ann", "ann again"]);
});

test("who does not answer in time is asked no more while others do", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  meet(ann.room, eve.room);
  const [silent] = meet(bob.room, eve.room);
  const { id } = await ann.swarm.share(film());
  await bob.swarm.share(film());
  await settled();
  silent.outgoing = without("binary");
  const download = eve.swarm.fetch(id);
  const fetched = hashOf(download);
  // Once everything else is here, those who answer are asked for what the silent one was asked for.
  assert.equal(await within(fetched, "the file, without a time-out"), id);
  assert.deepEqual(sources(download), ["ann"]);
});

test("when the only one does not answer, it is asked again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  const [line] = meet(ann.room, eve.room);
  const { id } = await ann.swarm.share(film());
  line.outgoing = without("binary");
  const fetched = hashOf(eve.swarm.fetch(id));
  await until(() => eve.swarm.fetch(id).pieces.includes("wanted"), "a request");
  await settled();
  line.outgoing = (data) => data;
  t.mock.timers.tick(REQUEST_MS);
  assert.equal(await within(fetched, "the file"), id);
});

test("a swarm that begins when the links are there already finds the others", async (t) => {
  for (const late of ["ann", "eve"]) {
    const early = person(t, late === "ann" ? "eve" : "ann");
    const { id } = await early.swarm.share(film());
    const { room } = { room: new early.room.constructor(late) };
    meet(early.room, room);
    await settled();
    const { Swarm } = await import("../swarm.js");
    const swarm = new Swarm(room);
    t.after(() => swarm.close());
    assert.equal(await within(hashOf(swarm.fetch(id)), "the file"), id);
  }
});

test("an empty file, and one of a byte, are files as well", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  mesh(ann, eve);
  for (const bytes of [noise(0), noise(1)]) {
    const { id, pieces } = await ann.swarm.share(new Blob([bytes]));
    assert.equal(pieces, bytes.length);
    const download = eve.swarm.fetch(id);
    assert.deepEqual(await bytesOf(await within(download.blob(), "the file")), bytes);
    let read = 0;
    for await (const chunk of download.stream()) read += chunk.length;
    assert.equal(read, bytes.length);
  }
});

test("several files at once, each way", async (t) => {
  const [ann, eve] = ["ann", "eve"].map((name) => person(t, name));
  mesh(ann, eve);
  const fetched = [];
  for (let seed = 1; seed <= 4; seed++) {
    const [from, to] = seed % 2 ? [ann, eve] : [eve, ann];
    const { id } = await from.swarm.share(film(seed));
    fetched.push(hashOf(to.swarm.fetch(id)).then((hash) => assert.equal(hash, id)));
  }
  await within(Promise.all(fetched), "four files");
});

test("when many fetch at once, the one who shares need not send the file to each", async (t) => {
  const [ann, ...others] = ["ann", "bob", "cid", "dan", "eve"].map((name) => person(t, name));
  mesh(ann, ...others);
  const { id } = await ann.swarm.share(film());
  const downloads = others.map(({ swarm }) => swarm.fetch(id));
  const hashes = await within(Promise.all(downloads.map(hashOf)), "the file, four times");
  assert.deepEqual(new Set(hashes), new Set([id]));
  const fromAnn = downloads.flatMap(({ pieces }) => pieces).filter((from) => from === "ann").length;
  assert.ok(fromAnn < 120, `${fromAnn} of 160 pieces came from the one who shared it`);
});
