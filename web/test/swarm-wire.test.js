import assert from "node:assert/strict";
import { test } from "node:test";

import { Bitfield } from "../src/swarm/bitfield.js";
import { toBase64 } from "../src/bytes.js";
import { CHUNK_DATA_BYTES_MAX, Nonsense, decodeChunk, encodeChunk, parseMessage } from "../src/swarm/wire.js";
import { noise } from "./fake-links.js";

const id = "0123456789abcdef".repeat(4);
const root = "f".repeat(64);
const share = { id, name: "film.webm", type: "video/webm", size: 100_000, pieceBytes: 16_384 };
const bits = new Bitfield(7);
bits.set(2);
const parse = (message) => parseMessage(JSON.stringify(message));

test("every message comes through as it was", () => {
  const announced = parse({ type: "announce", share, root, whole: false, bits: bits.toString() });
  assert.deepEqual([announced.share, announced.root, announced.whole, announced.bits.toString()], [{ ...share, pieces: 7 }, root, false, bits.toString()]);
  assert.equal(parse({ type: "announce", share, root, whole: true }).bits.count, 7);
  const hashes = noise(64);
  assert.deepEqual(parse({ type: "hashes", n: 3, hashes: toBase64(hashes) }), { type: "hashes", n: 3, hashes });
  for (const message of [
    { type: "hello", version: 1, nonce: "0123456789abcdef" },
    { type: "withdraw", id },
    { type: "have", id, pieces: [0, 5] },
    { type: "list", n: 0, id, root, from: 256 },
    { type: "request", n: 2 ** 32 - 1, id, root, piece: 8191 },
    { type: "cancel", n: 1 },
    { type: "refuse", n: 1 },
  ]) {
    assert.deepEqual(parse(message), message);
    assert.deepEqual(parse({ ...message, later: "added" }), message, "unknown fields are ignored");
  }
});

test("a message of a later version is ignored", () => {
  assert.equal(parse({ type: "gossip" }), undefined);
});

const announcement = { type: "announce", share, root, whole: true };
const announcing = (fields) => ({ ...announcement, share: { ...share, ...fields } });
const NONSENSE = {
  "no JSON": "{",
  "nothing": "null",
  "a number": "7",
  "a list": "[]",
  "no type": "{}",
  "a type that is no text": { type: 1 },
  "hello without a nonce": { type: "hello", version: 1 },
  "hello with a long nonce": { type: "hello", version: 1, nonce: "0".repeat(17) },
  "hello with a version that is none": { type: "hello", version: "1", nonce: "0".repeat(16) },
  "an announcement without a share": { ...announcement, share: undefined },
  "an announcement of nothing": { ...announcement, share: null },
  "an announcement without a root": { ...announcement, root: undefined },
  "neither whole nor bits": { ...announcement, whole: false },
  "bits of another length": { ...announcement, whole: false, bits: "AAA=" },
  "bits that are no base64": { ...announcement, whole: false, bits: "#" },
  "an id in capitals": announcing({ id: "A".repeat(64) }),
  "a short id": announcing({ id: "a".repeat(63) }),
  "a long name": announcing({ name: "x".repeat(256) }),
  "a name that is no text": announcing({ name: null }),
  "a long type": announcing({ type: "x".repeat(256) }),
  "a type with a line break": announcing({ type: "text/html\nx" }),
  "a negative size": announcing({ size: -1 }),
  "half a byte": announcing({ size: 1.5 }),
  "an endless file": announcing({ size: 1e300 }),
  "a file that is too long": announcing({ size: 32 * 2 ** 30 + 1, pieceBytes: 2 ** 22 }),
  "too many pieces": announcing({ size: 8192 * 16_384 + 1 }),
  "pieces of nothing": announcing({ pieceBytes: 0 }),
  "tiny pieces": announcing({ pieceBytes: 16_383 }),
  "huge pieces": announcing({ pieceBytes: 2 ** 22 + 1 }),
  "too many pieces at once": { type: "have", id, pieces: new Array(257).fill(0) },
  "a piece that no file has": { type: "have", id, pieces: [8192] },
  "pieces that are no list": { type: "have", id, pieces: "0" },
  "a request without a number": { type: "request", id, root, piece: 0 },
  "a request of a large number": { type: "request", n: 2 ** 32, id, root, piece: 0 },
  "a request for no piece": { type: "request", n: 0, id, root },
  "a request without a root": { type: "request", n: 0, id, piece: 0 },
  "a list from nowhere": { type: "list", n: 0, id, root, from: -1 },
  "no hashes": { type: "hashes", n: 0, hashes: "" },
  "half a hash": { type: "hashes", n: 0, hashes: toBase64(noise(33)) },
  "too many hashes": { type: "hashes", n: 0, hashes: toBase64(noise(257 * 32)) },
  "to cancel nothing": { type: "cancel" },
  "to refuse nothing": { type: "refuse", n: "0" },
  "too long": JSON.stringify({ type: "gossip", text: "x".repeat(16_384) }),
  "too deep": "[".repeat(16_000),
};

for (const [what, message] of Object.entries(NONSENSE)) {
  test(`nonsense is found out: ${what}`, () => {
    assert.throws(() => parseMessage(typeof message === "string" ? message : JSON.stringify(message)), Nonsense);
  });
}

test("whatever text comes, it is a message, or nothing known, or nonsense", () => {
  const words = ["type", "announce", "have", "request", "n", "id", id, "pieces", "share", "hashes", "hello"];
  let seed = 7;
  const below = (max) => (seed = (Math.imul(seed, 48271) >>> 0) % 2147483647) % max;
  const value = (depth) => {
    switch (below(depth > 3 ? 4 : 6)) {
      case 0:
        return below(3) - 1;
      case 1:
        return words[below(words.length)];
      case 2:
        return [true, false, null, 1e99][below(4)];
      case 3:
        return "";
      case 4:
        return Array.from({ length: below(4) }, () => value(depth + 1));
      default:
        return Object.fromEntries(Array.from({ length: below(6) }, () => [words[below(words.length)], value(depth + 1)]));
    }
  };
  for (let round = 0; round < 5000; round++) {
    const message = { ...Object(value(0)), type: words[below(words.length)] };
    try {
      parse(message);
    } catch (error) {
      assert.ok(error instanceof Nonsense, `${JSON.stringify(message)}: ${error.stack}`);
    }
  }
});

test("a chunk comes through as it was, in at most 16 KiB", () => {
  const bytes = noise(CHUNK_DATA_BYTES_MAX);
  const chunk = encodeChunk(2 ** 32 - 1, 65_536, bytes);
  assert.equal(chunk.length, 16 * 1024);
  assert.deepEqual(decodeChunk(chunk.buffer), { n: 2 ** 32 - 1, offset: 65_536, bytes });
  for (const length of [0, 7, 8, 16 * 1024 + 1]) assert.throws(() => decodeChunk(new ArrayBuffer(length)), Nonsense);
});
