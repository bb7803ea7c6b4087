import assert from "node:assert/strict";
import { test } from "node:test";

import { decode, encode } from "../src/codec/json.js";

test("a message is one JSON object in a text frame", () => {
  const message = { type: "message", payload: [1, null, "é"] };
  assert.equal(encode(message), '{"type":"message","payload":[1,null,"é"]}');
  assert.deepEqual(decode(encode(message)), message);
});

test("a binary frame is not JSON", () => {
  assert.throws(() => decode(new Uint8Array([0x80])), TypeError);
});
