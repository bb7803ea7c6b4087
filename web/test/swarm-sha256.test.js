import assert from "node:assert/strict";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { test } from "node:test";

import { toHex } from "../src/bytes.js";
import { Sha256, sha256 } from "../src/swarm/sha256.js";

const theirs = (bytes) => createHash("sha256").update(bytes).digest("hex");

test("every length up to three blocks gives the hash that node gives", () => {
  for (let length = 0; length <= 192; length++) {
    const bytes = randomBytes(length);
    assert.equal(toHex(new Sha256().update(bytes).digest()), theirs(bytes), `${length} bytes: ${bytes.toString("hex")}`);
  }
});

test("random bytes in random portions, at random offsets of their buffers, give the hash that node gives", () => {
  for (let round = 0; round < 300; round++) {
    const bytes = randomBytes(randomInt(5000));
    const hash = new Sha256();
    const portions = [];
    for (let at = 0; at < bytes.length; ) {
      const length = randomInt(1, 200);
      portions.push(length);
      hash.update(bytes.subarray(at, at + length));
      at += length;
    }
    assert.equal(toHex(hash.digest()), theirs(bytes), `in portions of ${portions}: ${bytes.toString("hex")}`);
  }
});

test("the example of FIPS 180-4", () => {
  const abc = new TextEncoder().encode("abc");
  assert.equal(toHex(new Sha256().update(abc).digest()), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

/** The length in bits is kept in 64 of them: a file past half a GiB needs more than 32. */
test("a file of more than 2^32 bits has the right length behind it", () => {
  const portion = new Uint8Array(1 << 24);
  const [hash, other] = [new Sha256(), createHash("sha256")];
  for (let i = 0; i < 33; i++) {
    hash.update(portion);
    other.update(portion);
  }
  assert.equal(toHex(hash.digest()), other.digest("hex"));
});

test("where the platform has no subtle crypto, the hash is the same", async (t) => {
  const bytes = randomBytes(1000);
  assert.equal(toHex(await sha256(bytes)), theirs(bytes));
  const { crypto } = globalThis;
  t.after(() => Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true }));
  Object.defineProperty(globalThis, "crypto", { value: {}, configurable: true });
  assert.equal(toHex(await sha256(bytes)), theirs(bytes));
});
