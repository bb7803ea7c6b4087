import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { toHex } from "../src/bytes.js";
import { describe, hashOf, manifestKey, pieceBytesFor, pieceLength, readPiece } from "../src/swarm/manifest.js";
import { noise } from "./fake-links.js";

const KIB = 1024;
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const named = { name: "film.webm", type: "video/webm" };

test("a manifest has the hash of the whole, of each piece, and of those together", async () => {
  const bytes = noise(100_000);
  const { share, root, hashes } = await describe(new Blob([bytes]), { ...named, pieceBytes: 16 * KIB });
  assert.deepEqual(share, { id: sha256(bytes), ...named, size: 100_000, pieceBytes: 16 * KIB, pieces: 7 });
  for (let piece = 0; piece < 7; piece++) {
    assert.equal(toHex(hashOf(hashes, piece)), sha256(bytes.subarray(piece * 16 * KIB, (piece + 1) * 16 * KIB)));
  }
  assert.equal(root, sha256(hashes));
  assert.deepEqual([pieceLength(share, 0), pieceLength(share, 6)], [16 * KIB, 100_000 - 6 * 16 * KIB]);
  assert.deepEqual(await readPiece(new Blob([bytes]), share, 6), bytes.slice(6 * 16 * KIB));
});

test("an empty file has no pieces, and a hash all the same", async () => {
  const { share, root, hashes } = await describe(new Blob([]), named);
  assert.deepEqual([share.pieces, share.id, root, hashes.length], [0, sha256(""), sha256(""), 0]);
});

test("a longer file has larger pieces, up to a length", async () => {
  const GIB = 1024 * KIB * KIB;
  assert.equal(pieceBytesFor(0), 256 * KIB);
  assert.equal(pieceBytesFor(2 * GIB), 256 * KIB);
  assert.equal(pieceBytesFor(2 * GIB + 1), 512 * KIB);
  assert.equal(pieceBytesFor(32 * GIB), 4096 * KIB);
  assert.equal(pieceBytesFor(32 * GIB + 1), undefined);
  const endless = Object.assign(new Blob([]), {});
  Object.defineProperty(endless, "size", { value: 33 * GIB });
  await assert.rejects(describe(endless, named), { code: "too-large" });
});

test("reading can be given up", async () => {
  const controller = new AbortController();
  const described = describe(new Blob([noise(100_000)]), { ...named, signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(described, /enough/);
});

test("manifests differ by everything that tells how a file is cut", () => {
  const share = { id: "1", ...named, size: 2, pieceBytes: 3, pieces: 1 };
  const key = manifestKey(share, "root");
  assert.equal(key, manifestKey({ ...share, name: "other", type: "" }, "root"));
  for (const other of [{ id: "2" }, { size: 3 }, { pieceBytes: 4 }]) assert.notEqual(manifestKey({ ...share, ...other }, "root"), key);
  assert.notEqual(manifestKey(share, "other"), key);
});
