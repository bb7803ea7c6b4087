import assert from "node:assert/strict";
import { test } from "node:test";

import { CLOSE_CODES, ERROR_CODES, LOCAL_CODES, closeCode, failure } from "../src/codes.js";

const within = (from, to) => (code) => code.number >= from && code.number <= to;

test("the range of a close code says whether to come back", () => {
  assert.deepEqual(CLOSE_CODES.filter((code) => code.reconnect), CLOSE_CODES.filter(within(4000, 4199)));
  assert.deepEqual(CLOSE_CODES.filter((code) => !code.reconnect), CLOSE_CODES.filter(within(4200, 4299)));
});

test("refusals have a range of their own", () => {
  assert.ok(ERROR_CODES.every(within(4300, 4399)));
});

test("no number stands twice, and no name among what may end a connection or among refusals", () => {
  for (const codes of [[...CLOSE_CODES, ...LOCAL_CODES], ERROR_CODES]) assert.equal(new Set(codes.map((code) => code.slug)).size, codes.length);
  const numbers = [...CLOSE_CODES, ...ERROR_CODES].map((code) => code.number);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
});

test("a close code is found by its number", () => {
  assert.equal(closeCode(4000).slug, "draining");
  assert.equal(closeCode(1006), undefined);
  assert.equal(closeCode(undefined), undefined);
});

test("a failure is an Error with a code", () => {
  const error = failure("room-full", "the room is full", { retryable: true });
  assert.ok(error instanceof Error);
  assert.deepEqual([error.code, error.message, error.retryable], ["room-full", "the room is full", true]);
});
