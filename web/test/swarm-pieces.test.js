import assert from "node:assert/strict";
import { test } from "node:test";

import { PieceCache, memory } from "../src/swarm/cache.js";
import { Pieces } from "../src/swarm/pieces.js";
import { noise, settled } from "./fake-links.js";

const share = { id: "1", name: "", type: "", size: 95, pieceBytes: 10, pieces: 10 };
const hashes = new Uint8Array(10 * 32);
const bytes = noise(95);
const piece = (i) => bytes.slice(10 * i, 10 * i + 10);

/** A file of ten pieces in a cache for some of them; `put` says whether there was room. */
function file(bytesMax = 1000, { known = true } = {}) {
  const cache = new PieceCache(memory(), bytesMax);
  let moves = 0;
  const pieces = new Pieces(cache, () => moves++);
  const manifest = { share, root: "r", hashes: known ? hashes : undefined };
  pieces.begin(manifest);
  const put = async (i, options) => {
    if (!pieces.reserve(i, options)) return false;
    await pieces.put(i, piece(i), () => true);
    pieces.stir();
    return true;
  };
  return { cache, pieces, manifest, put, moves: () => moves };
}

/** What a promise is by now. */
async function now(promise) {
  await settled();
  return Promise.race([promise, Promise.resolve("not yet")]);
}

test("pieces come in any order and are read in theirs, the last one when the whole is checked", async () => {
  const { pieces, put } = file();
  const cursor = pieces.attach();
  const first = pieces.read(cursor);
  for (const i of [9, 3, 1, 2]) await put(i);
  assert.equal(await now(first), "not yet");
  await put(0);
  assert.deepEqual(await now(first), piece(0));
  for (const i of [1, 2, 3]) assert.deepEqual(await now(pieces.read(cursor)), piece(i));
  for (const i of [4, 5, 6, 7, 8]) await put(i);
  for (const i of [4, 5, 6, 7, 8]) assert.deepEqual(await now(pieces.read(cursor)), piece(i));
  const last = pieces.read(cursor);
  assert.deepEqual([await now(last), pieces.isWhole], ["not yet", false]);
  pieces.checked();
  assert.deepEqual([await now(last), await now(pieces.read(cursor)), pieces.isWhole], [piece(9), undefined, true]);
});

test("the check reads to the end, and does not count as the reader that is waited for", async () => {
  const { pieces, put, manifest } = file();
  const check = pieces.attach({ isCheck: true, manifest });
  for (let i = 0; i < 10; i++) await put(i);
  for (let i = 0; i < 10; i++) assert.deepEqual(await now(pieces.read(check)), piece(i));
  assert.equal(await now(pieces.read(check)), undefined);
  assert.equal(pieces.position, 0);
});

test("nothing is read while the hashes are not known", async () => {
  const { pieces, put, manifest } = file(1000, { known: false });
  const read = pieces.read(pieces.attach());
  await put(0);
  assert.equal(await now(read), "not yet");
  manifest.hashes = hashes;
  pieces.stir();
  assert.deepEqual(await now(read), piece(0));
});

test("as much is wanted as the cache holds, from where the slowest reader is", async () => {
  const { pieces, put, moves } = file(40);
  assert.deepEqual([pieces.position, pieces.end], [0, 4]);
  const [fast, slow] = [pieces.attach({ isStream: true }), pieces.attach()];
  for (const i of [0, 1]) await put(i);
  for (const i of [0, 1]) assert.deepEqual(await pieces.read(fast), piece(i));
  assert.deepEqual([pieces.position, pieces.end, pieces.ahead], [0, 4, [2, 3]]);
  const before = moves();
  await pieces.read(slow);
  assert.deepEqual([pieces.position, pieces.end, pieces.ahead, moves() > before], [1, 5, [2, 3, 4], true]);
  pieces.detach(slow);
  assert.deepEqual([pieces.position, pieces.end, pieces.ahead], [2, 6, [2, 3, 4, 5]]);
  pieces.detach(fast);
  assert.deepEqual([pieces.position, pieces.end], [10, 10], "nobody reads: nothing is wanted");
});

test("what everybody has read makes room, and what somebody has still to read does not", async () => {
  const { pieces, put, cache } = file(40);
  const cursor = pieces.attach();
  for (const i of [0, 1, 2, 3]) await put(i);
  assert.equal(await put(4), false);
  await pieces.read(cursor);
  assert.equal(await put(4), true);
  assert.deepEqual([pieces.has(0), pieces.bits.count, await pieces.get(0), cache.bytes], [false, 4, undefined, 40]);
  const late = pieces.attach();
  assert.equal(await put(0), true, "from beyond what is in reach of the late one");
  assert.deepEqual([await now(pieces.read(late)), pieces.has(4)], [piece(0), false]);
});

test("a piece that is not wanted any more when it is stored goes again", async () => {
  const { pieces, cache } = file();
  pieces.reserve(5);
  assert.equal(await pieces.put(5, piece(5), () => false), false);
  assert.deepEqual([pieces.has(5), cache.bytes], [false, 0]);
});

test("what is thrown out of the browser's storage is wanted again", async () => {
  const shelf = memory();
  const cache = new PieceCache(shelf, 1000);
  const pieces = new Pieces(cache, () => {});
  pieces.begin({ share, root: "r", hashes });
  pieces.reserve(0);
  await pieces.put(0, piece(0), () => true);
  shelf.close();
  const read = pieces.read(pieces.attach());
  assert.deepEqual([await now(read), pieces.has(0), cache.bytes], ["not yet", false, 0]);
  pieces.reserve(0);
  await pieces.put(0, piece(0), () => true);
  pieces.stir();
  assert.deepEqual(await now(read), piece(0));
});

test("when all is here as a Blob, it is read from there, and the cache is left to others", async () => {
  const { pieces, put, cache } = file();
  for (const i of [0, 1, 2]) await put(i);
  const cursor = pieces.attach();
  await pieces.read(cursor);
  pieces.replace(new Blob([bytes]));
  pieces.checked();
  assert.deepEqual([cache.bytes, pieces.isWhole, await pieces.get(9)], [0, true, bytes.slice(90)]);
  for (let i = 1; i < 10; i++) assert.deepEqual(await now(pieces.read(cursor)), piece(i));
  assert.equal(await now(pieces.read(cursor)), undefined);
});

test("under another manifest nothing is left, and who has read something is told", async () => {
  const { pieces, put, cache, manifest } = file();
  const [begun, fresh, check] = [pieces.attach(), pieces.attach(), pieces.attach({ isCheck: true, manifest })];
  await put(0);
  await pieces.read(begun);
  const reads = [begun, fresh, check].map((cursor) => pieces.read(cursor).catch((error) => error.code));
  await settled();
  pieces.begin({ share: { ...share, pieceBytes: 20, pieces: 5 }, root: "other", hashes });
  assert.deepEqual([cache.bytes, pieces.bits.length], [0, 5]);
  // The one that had read nothing got its first piece before that.
  assert.deepEqual(await Promise.all(reads.map(now)), ["manifest-changed", piece(0), piece(0)]);
  for (const cursor of [fresh, check]) assert.equal(await pieces.read(cursor).catch((error) => error.code), "manifest-changed");
  pieces.reserve(0);
  await pieces.put(0, bytes.slice(0, 20), () => true);
  assert.deepEqual(await pieces.read(pieces.attach()), bytes.slice(0, 20));
});

test("when it fails, so does everybody who reads, then and later", async () => {
  const { pieces, put, cache } = file();
  await put(1);
  const read = pieces.read(pieces.attach());
  pieces.fail(new Error("enough"));
  await assert.rejects(read, /enough/);
  await assert.rejects(pieces.read(pieces.attach()), /enough/);
  assert.deepEqual([cache.bytes, pieces.bits.count], [0, 0]);
});
