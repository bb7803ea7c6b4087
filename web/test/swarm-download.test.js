/** One download: whom it asks for what, how much it keeps, and what it believes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Bitfield } from "../src/swarm/bitfield.js";
import { Neighbour } from "../src/swarm/neighbour.js";
import { PieceCache } from "../src/swarm/cache.js";
import { altered, meet, noise, settled, until, untilLater, within, without } from "./fake-links.js";
import { PIECE_BYTES, REQUEST_MS, announcing, cachesOf, film, giving, hashOf, manifestOf, mesh, person, sha256, stranger } from "./fake-swarm.js";

const bytes = noise(39.5 * PIECE_BYTES);
const id = sha256(bytes);
const honest = manifestOf(bytes);
/** The same id, and another content behind it. */
const forged = manifestOf(noise(39.5 * PIECE_BYTES, 9), { id });

function bitsOf(has) {
  const bits = new Bitfield(40);
  for (let piece = 0; piece < 40; piece++) if (has(piece)) bits.set(piece);
  return bits.toString();
}

const code = (promise) => promise.then(() => "no error", (error) => error.code);

// ---- whom to ask for what

test("the piece that the fewest have is asked for first, and only of those who have it", async (t) => {
  const eve = person(t, "eve");
  const [all, few] = [await stranger("x", eve, { list: giving(honest).list }), await stranger("y", eve)];
  few.say(announcing(honest, bitsOf((piece) => piece !== 7 && piece !== 9)));
  all.say(announcing(honest));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await settled();
  eve.swarm.fetch(id);
  await until(() => all.asked().length === 4 && few.asked().length === 4, "requests");
  assert.deepEqual(all.asked().filter((piece) => piece === 7 || piece === 9).length, 2);
  const asked = [...all.asked(), ...few.asked()];
  assert.equal(new Set(asked).size, 8, "nobody is asked for the same");
});

test("pieces that a peer gets later are asked of it", async (t) => {
  const eve = person(t, "eve");
  const x = await stranger("x", eve, giving(honest));
  x.say(announcing(honest, bitsOf((piece) => piece < 2)));
  const download = eve.swarm.fetch(id);
  await until(() => download.received === 2 * PIECE_BYTES, "two pieces");
  await settled();
  assert.deepEqual(x.asked().sort(), [0, 1]);
  x.say({ type: "have", id, pieces: Array.from({ length: 40 }, (_, piece) => piece) });
  assert.equal(await within(hashOf(download), "the file"), id);
});

/** It stayed "wanted" for ever, asked of nobody, and the file never became whole. */
test("a piece whose question breaks the channel is asked of somebody else", async (t) => {
  const eve = person(t, "eve");
  const { ask } = Neighbour.prototype;
  let broken = 0;
  t.mock.method(Neighbour.prototype, "ask", function (task) {
    if (task.message.piece !== 5 || broken++ > 0) return ask.call(this, task);
    task.lose("gone");
    return () => {};
  });
  const x = await stranger("x", eve, giving(honest));
  x.say(announcing(honest));
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file"), id);
  assert.ok(broken > 1);
});

test("a piece that a peer refuses is not asked of it again", async (t) => {
  const eve = person(t, "eve");
  const give = giving(honest);
  const x = await stranger("x", eve, { ...give, request: (message, say) => (message.piece === 5 ? say({ type: "refuse", n: message.n }) : give.request(message, say)) });
  x.say(announcing(honest));
  const download = eve.swarm.fetch(id);
  await until(() => download.received === bytes.length - PIECE_BYTES, "all pieces but one");
  await settled();
  assert.equal(x.asked().filter((piece) => piece === 5).length, 1);
  const y = await stranger("y", eve, give);
  y.say(announcing(honest));
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.deepEqual(y.asked(), [5]);
});

test("at the end, the idle ask for what a slow one has not sent, and take its request back", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const eve = person(t, "eve");
  const [slow, quick] = [await stranger("x", eve), await stranger("y", eve, giving(honest))];
  for (const each of [slow, quick]) each.say(announcing(honest));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await settled();
  const download = eve.swarm.fetch(id);
  // The slow one may be asked for the hashes first; then only time helps.
  await until(() => slow.heard.some(({ type }) => type === "list") || download.received > 0, "a beginning");
  if (download.received === 0) t.mock.timers.tick(REQUEST_MS);
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.ok(slow.asked().every((piece) => quick.asked().includes(piece)));
  const count = (...types) => slow.heard.filter(({ type }) => types.includes(type)).length;
  await until(() => count("cancel") === count("request", "list"), "everything is taken back");
});

test("whoever reads a stream gets first what comes next", async (t) => {
  const eve = person(t, "eve");
  const x = await stranger("x", eve, { list: giving(honest).list });
  x.say(announcing(honest));
  const reader = eve.swarm.fetch(id).stream().getReader();
  void reader.read().catch(() => {});
  await until(() => x.asked().length === 4, "requests");
  assert.deepEqual(x.asked().sort(), [0, 1, 2, 3]);
});

// ---- how much is kept

test("a file longer than the cache can be streamed; what is not read is not fetched", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: 5 * PIECE_BYTES })];
  const [line] = meet(ann.room, eve.room);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  await until(() => download.received === 5 * PIECE_BYTES, "a full cache");
  await settled();
  assert.equal(download.received, 5 * PIECE_BYTES);
  assert.ok(!download.pieces.includes("wanted"));
  const reader = download.stream().getReader();
  const read = [(await reader.read()).value];
  await until(() => download.received >= 6 * PIECE_BYTES, "a piece more");
  await settled();
  assert.ok(download.received <= 7 * PIECE_BYTES, `${download.received / PIECE_BYTES} pieces for one that was read`);
  for (let part; !(part = await within(reader.read(), "the next piece")).done; ) read.push(part.value);
  assert.equal(sha256(Buffer.concat(read)), id);
  assert.equal(line.state, "connected");
});

test("a file longer than the cache can be had whole", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: 2 * PIECE_BYTES })];
  mesh(ann, eve);
  await ann.swarm.share(film());
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file"), id);
});

test("two files do not keep each other from coming, however small the cache", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: PIECE_BYTES })];
  mesh(ann, eve);
  const ids = [(await ann.swarm.share(film())).id, (await ann.swarm.share(film(2))).id];
  const hashes = await within(Promise.all(ids.map((id) => hashOf(eve.swarm.fetch(id)))), "two files");
  assert.deepEqual(hashes, ids);
});

test("who begins to read when pieces have gone again has them fetched again", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: 5 * PIECE_BYTES })];
  mesh(ann, eve);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  const read = async () => {
    const chunks = [];
    for await (const chunk of download.stream()) chunks.push(chunk);
    return sha256(Buffer.concat(chunks));
  };
  assert.equal(await within(read(), "the stream"), id);
  assert.equal(download.state, "done");
  assert.equal(await within(read(), "the stream once more"), id);
  assert.equal(await within(hashOf(download), "the file"), id);
});

test("what a reader has still to read stays, whoever else needs room; what nobody reads makes it", async (t) => {
  const [ann, bob, eve] = [person(t, "ann"), person(t, "bob"), person(t, "eve", { cacheBytesMax: 40 * PIECE_BYTES })];
  const [toAnn] = meet(ann.room, eve.room);
  meet(bob.room, eve.room);
  const other = (await bob.swarm.share(film(2))).id;
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  for await (const chunk of download.stream()) assert.ok(chunk.length > 0);
  toAnn.close();
  const reader = download.stream().getReader();
  const chunks = [(await within(reader.read(), "the first piece")).value];
  assert.equal(await within(hashOf(eve.swarm.fetch(other)), "another file, in what room there is"), other);
  for (let part; !(part = await within(reader.read(), "the next piece")).done; ) chunks.push(part.value);
  assert.equal(sha256(Buffer.concat(chunks)), id);
});

test("a piece that comes when its reader has gone may go again", async (t) => {
  const caches = cachesOf(t);
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: 5 * PIECE_BYTES })];
  const [line] = meet(ann.room, eve.room);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  for await (const chunk of download.stream()) assert.ok(chunk.length > 0);
  line.isHeld = true;
  const again = download.stream();
  await until(() => download.pieces.includes("wanted"), "requests");
  await again.cancel();
  line.release();
  await until(() => !download.pieces.includes("wanted"), "answers");
  const [cache] = caches;
  assert.ok(cache.bytes > 0);
  assert.equal(cache.reserve(cache.bytesMax), true, "there is room for as much as there may be");
});

test("a stream that nobody reads any more holds nothing up", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cacheBytesMax: 5 * PIECE_BYTES })];
  mesh(ann, eve);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  const [left, abandoned] = [download.stream(), download.stream()];
  for await (const chunk of left) if (chunk) break;
  const fetched = hashOf(download);
  await until(() => download.received >= 5 * PIECE_BYTES, "a full cache");
  await settled();
  assert.notEqual(download.state, "done");
  await abandoned.cancel();
  assert.equal(await within(fetched, "the file"), id);
});

test("a reader may do with its bytes what it likes", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  mesh(ann, eve);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  for await (const chunk of download.stream()) chunk.fill(0);
  assert.equal(await within(hashOf(download), "the file"), id);
});

test("when the browser keeps no more, the download fails and says so", async (t) => {
  const shelf = new Map();
  const caches = { keys: async () => [], delete: async () => true, open: async () => ({ put: () => Promise.reject(new DOMException("full", "QuotaExceededError")), match: async () => undefined, delete: async () => shelf.clear() }) };
  for (const [name, value] of [["caches", caches], ["navigator", { locks: { request: async (name, ...rest) => rest.at(-1)({ name }) } }]]) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  const [ann, eve] = [person(t, "ann"), person(t, "eve", { cache: "cache-storage" })];
  mesh(ann, eve);
  await ann.swarm.share(film());
  assert.equal(await within(code(eve.swarm.fetch(id).blob()), "a failure"), "storage");
});

// ---- what is believed

test("when the whole is another file, it is not given out, and who vouched for it is avoided; fetched again, it is right", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  const liar = await stranger("x", eve, giving(forged));
  liar.say(announcing(forged));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  const download = eve.swarm.fetch(id);
  const read = [];
  const reading = (async () => {
    for await (const chunk of download.stream()) read.push(chunk);
  })();
  assert.deepEqual(await within(Promise.all([code(download.blob()), code(reading)]), "a failure"), ["wrong-hash", "wrong-hash"]);
  assert.ok(read.length < 40, "the last piece is held back");
  assert.equal(download.state, "failed");
  assert.deepEqual(eve.told.filter(({ event }) => event !== "share"), [{ ...eve.told[0], event: "unshared" }, { event: "distrusted", id, from: "x" }]);
  assert.equal(eve.swarm.shares.has(id), false);

  meet(ann.room, eve.room);
  await ann.swarm.share(film());
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file"), id);
});

test("who only passed on what another made up is not distrusted", async (t) => {
  const eve = person(t, "eve");
  const answers = giving(forged);
  const [liar, victim] = [await stranger("x", eve, giving(forged)), await stranger("y", eve, answers)];
  liar.say(announcing(forged));
  victim.say(announcing(forged, bitsOf(() => true)));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await settled();
  assert.equal(await within(code(eve.swarm.fetch(id).blob()), "a failure"), "wrong-hash");
  assert.deepEqual(eve.told.filter(({ event }) => event === "distrusted"), [{ event: "distrusted", id, from: "x" }]);
  const again = eve.swarm.fetch(id);
  await settled();
  assert.deepEqual([again.state, again.share], ["waiting", undefined], "what was found out is not tried again");
  Object.assign(answers, giving(honest));
  victim.say(announcing(honest));
  assert.equal(await within(hashOf(again), "the file, from who was taken in before"), id);
});

test("hashes that are not those announced are the fault of who gave them", async (t) => {
  const eve = person(t, "eve");
  const liar = await stranger("x", eve, { list: giving(forged).list });
  liar.say(announcing(honest));
  const fetched = hashOf(eve.swarm.fetch(id));
  await until(() => eve.told.some(({ event }) => event === "distrusted"), "distrust");
  assert.deepEqual(eve.told.at(-1), { event: "distrusted", id, from: "x" });
  assert.deepEqual(liar.asked(), []);
  const other = await stranger("y", eve, giving(honest));
  other.say(announcing(honest));
  assert.equal(await within(fetched, "the file"), id);
});

test("who refuses its hashes is not asked for them again, until it announces them again", async (t) => {
  const eve = person(t, "eve");
  const answers = { list: ({ n }, say) => say({ type: "refuse", n }) };
  const x = await stranger("x", eve, answers);
  x.say(announcing(honest));
  const download = eve.swarm.fetch(id);
  await until(() => x.heard.some(({ type }) => type === "list") && download.state === "waiting", "a refusal");
  await settled();
  assert.equal(x.heard.filter(({ type }) => type === "list").length, 1);
  Object.assign(answers, giving(honest));
  x.say(announcing(honest));
  assert.equal(await within(hashOf(download), "the file"), id);
});

for (const [what, answers] of [
  ["does not give its hashes", {}],
  ["refuses its hashes", { list: ({ n }, say) => say({ type: "refuse", n }) }],
  ["gives its hashes and no pieces", { list: giving(forged).list }],
  ["gives some pieces", { ...giving(forged), request: (message, say) => message.piece % 3 === 0 && giving(forged).request(message, say) }],
]) {
  test(`who announces a file that is another and ${what} does not hold up those who have it`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const eve = person(t, "eve");
    const liar = await stranger("x", eve, answers);
    liar.say(announcing(forged));
    await until(() => eve.swarm.shares.has(id), "an announcement");
    const download = eve.swarm.fetch(id);
    const fetched = hashOf(download);
    const other = await stranger("y", eve, giving(honest));
    other.say(announcing(honest));
    await untilLater(t.mock.timers, REQUEST_MS / 4, () => download.state === "done", "the file");
    assert.equal(await within(fetched, "the file"), id);
    assert.deepEqual([...new Set(download.pieces)], ["y"]);
  });
}

test("who announces a file that is another and leaves, before anything came of it, is forgotten at once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const eve = person(t, "eve");
  const liar = await stranger("x", eve);
  liar.say(announcing(forged));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  const fetched = hashOf(eve.swarm.fetch(id));
  await until(() => liar.heard.some(({ type }) => type === "list"), "a request");
  const other = await stranger("y", eve, giving(honest));
  other.say(announcing(honest));
  await settled();
  liar.link.close();
  assert.equal(await within(fetched, "the file, without time passing"), id);
});

test("two files of one peer take turns", async (t) => {
  const eve = person(t, "eve");
  const manifests = [honest, manifestOf(noise(39.5 * PIECE_BYTES, 2))];
  const byId = (message) => giving(manifests.find(({ share }) => share.id === message.id));
  const x = await stranger("x", eve, { list: (message, say) => byId(message).list(message, say), request: (message, say) => byId(message).request(message, say) });
  x.say(...manifests.map((manifest) => announcing(manifest)));
  await until(() => eve.swarm.shares.size === 2, "announcements");
  const ids = manifests.map(({ share }) => share.id);
  assert.deepEqual(await within(Promise.all(ids.map((id) => hashOf(eve.swarm.fetch(id)))), "two files"), ids);
  const asked = x.heard.filter(({ type }) => type === "request").slice(0, 40).map(({ id }) => id);
  for (const id of ids) assert.ok(asked.filter((other) => other === id).length > 10, "of the first forty");
});

test("a stream that has begun under a manifest that leads nowhere fails, and the file comes all the same", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const eve = person(t, "eve");
  const liar = await stranger("x", eve, { ...giving(forged), request: (message, say) => message.piece < 3 && giving(forged).request(message, say) });
  liar.say(announcing(forged));
  const download = eve.swarm.fetch(id);
  const fetched = hashOf(download);
  const reader = download.stream().getReader();
  await within(reader.read(), "a piece of the wrong file");
  const other = await stranger("y", eve, giving(honest));
  other.say(announcing(honest));
  const failed = (async () => {
    while (!(await reader.read()).done);
  })();
  const failure = code(failed);
  await untilLater(t.mock.timers, REQUEST_MS / 4, () => download.state === "done", "the file");
  assert.equal(await within(failure, "a failure"), "manifest-changed");
  assert.equal(await within(fetched, "the file"), id);
});

test("the one whom most vouch for is believed first", async (t) => {
  const eve = person(t, "eve");
  const liar = await stranger("w", eve, giving(forged));
  liar.say(announcing(forged));
  await until(() => eve.swarm.shares.has(id), "an announcement");
  for (const name of ["x", "y"]) (await stranger(name, eve, giving(honest))).say(announcing(honest));
  await settled();
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file"), id);
  assert.deepEqual(liar.heard.filter(({ type }) => type === "list"), []);
});

// ---- how it ends

test("it can be given up, while it waits and while it fetches", async (t) => {
  const caches = cachesOf(t);
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  const [line] = meet(ann.room, eve.room);
  for (const isShared of [false, true]) {
    if (isShared) await ann.swarm.share(film());
    if (isShared) await until(() => eve.swarm.shares.has(id), "an announcement");
    line.outgoing = without("binary");
    const controller = new AbortController();
    const download = eve.swarm.fetch(id, { signal: controller.signal });
    const reading = code(download.stream().getReader().read());
    if (isShared) await until(() => download.pieces.includes("wanted"), "a request");
    controller.abort(new Error("enough"));
    const error = await within(download.blob().catch((error) => error), "a failure");
    assert.deepEqual([error.code, error.cause.message, await reading, download.state], ["aborted", "enough", "aborted", "failed"]);
    assert.ok(!download.pieces.includes("wanted"));
  }
  assert.deepEqual([...caches].map(({ bytes }) => bytes), [0], "no room is taken for what does not come");
  line.outgoing = (data) => data;
  assert.equal(await within(hashOf(eve.swarm.fetch(id)), "the file, another time"), id);
  assert.equal(await within(code(eve.swarm.fetch(sha256("never"), { signal: AbortSignal.abort() }).blob()), "a failure"), "aborted");
});

test("given up while a piece is being stored, nothing is kept", async (t) => {
  const caches = cachesOf(t);
  const { put } = PieceCache.prototype;
  let store;
  let isStoring = false;
  const stored = new Promise((resolve) => (store = resolve));
  t.mock.method(PieceCache.prototype, "put", async function (...args) {
    isStoring = true;
    await stored;
    return put.apply(this, args);
  });
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  mesh(ann, eve);
  await ann.swarm.share(film());
  const controller = new AbortController();
  eve.swarm.fetch(id, { signal: controller.signal });
  await until(() => isStoring, "a piece");
  controller.abort();
  store();
  await settled();
  assert.deepEqual([...caches].map(({ bytes }) => bytes), [0]);
});

test("a signal that comes when it is done changes nothing", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  mesh(ann, eve);
  await ann.swarm.share(film());
  const controller = new AbortController();
  const download = eve.swarm.fetch(id, { signal: controller.signal });
  await within(download.blob(), "the file");
  controller.abort();
  assert.equal(download.state, "done");
  assert.equal(eve.swarm.fetch(id), download);
});

test("a peer with another id is still the one that pieces came from", async (t) => {
  const [ann, eve] = [person(t, "ann"), person(t, "eve")];
  const [line, back] = meet(ann.room, eve.room);
  await ann.swarm.share(film());
  const download = eve.swarm.fetch(id);
  download.addEventListener("progress", ({ detail: { received, total } }) => {
    if (received < total / 2 || ann.room.peerId !== "ann") return;
    ann.room.peerId = "ann again";
    back.rename("ann again");
  });
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.deepEqual([...new Set(download.pieces)], ["ann again"]);
  assert.equal(line.state, "connected");
});

test("changed announcements of a running download are followed", async (t) => {
  const eve = person(t, "eve");
  const [x, y] = [await stranger("x", eve, giving(honest)), await stranger("y", eve, giving(honest))];
  x.say(announcing(honest, bitsOf((piece) => piece < 10)));
  const download = eve.swarm.fetch(id);
  await until(() => download.received === 10 * PIECE_BYTES, "ten pieces");
  x.say({ type: "withdraw", id });
  await until(() => download.state === "waiting", "nobody to ask");
  y.say(announcing(honest, bitsOf((piece) => piece < 20)));
  await until(() => download.received === 20 * PIECE_BYTES, "ten more");
  y.say(announcing(honest));
  assert.equal(await within(hashOf(download), "the file"), id);
});

test("what is altered on the way to others does not matter to what is told: a name is only a name", async (t) => {
  const [ann, bob, eve] = ["ann", "bob", "eve"].map((name) => person(t, name));
  const [fromBob] = meet(bob.room, eve.room);
  mesh(ann, eve);
  fromBob.outgoing = altered("announce", (message) => ({ ...message, share: { ...message.share, name: "another" } }));
  await ann.swarm.share(film());
  await until(() => eve.swarm.shares.has(id), "an announcement");
  await bob.swarm.share(film());
  await settled();
  assert.equal(eve.swarm.shares.get(id).name, "film.webm");
  const download = eve.swarm.fetch(id);
  assert.equal(await within(hashOf(download), "the file"), id);
  assert.deepEqual([...new Set(download.pieces)].sort(), ["ann", "bob"]);
  ann.swarm.withdraw(id);
  bob.swarm.withdraw(id);
  await settled();
});
