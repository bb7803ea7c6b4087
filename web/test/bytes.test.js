import assert from "node:assert/strict";
import { test } from "node:test";

import { areEqual, fromBase64, toBase64, toHex } from "../src/bytes.js";
import { noise } from "./fake-links.js";

test("bytes are the text that node makes of them, and come back", () => {
  for (let length = 0; length < 70; length++) {
    const bytes = noise(length, length);
    assert.equal(toHex(bytes), Buffer.from(bytes).toString("hex"));
    assert.equal(toBase64(bytes), Buffer.from(bytes).toString("base64"));
    assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
  }
  assert.throws(() => fromBase64("a"));
  assert.throws(() => fromBase64("ä==="));
});

test("bytes are equal when each of them is", () => {
  assert.equal(areEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 2)), true);
  assert.equal(areEqual(Uint8Array.of(1, 2), Uint8Array.of(1, 3)), false);
  assert.equal(areEqual(Uint8Array.of(1, 2), Uint8Array.of(1)), false);
  assert.equal(areEqual(Uint8Array.of(1), Uint8Array.of(1, 2)), false);
});
