import assert from "node:assert/strict";
import { test } from "node:test";

import { bitsPerSecond, bytes, clock, milliseconds } from "../pages/units.js";

test("sizes are short, and written as the language writes them", () => {
  assert.equal(bytes(0, "en"), "0 B");
  assert.equal(bytes(999, "en"), "999 B");
  assert.equal(bytes(1_500_000, "en"), "1.5 MB");
  assert.equal(bytes(1_500_000, "es"), "1,5 MB");
  assert.equal(bytes(3e15, "en"), "3,000 TB");
});

test("rates and times that are not known are a dash", () => {
  assert.equal(bitsPerSecond(640_000, "en"), "640 kbit/s");
  assert.equal(bitsPerSecond(undefined, "en"), "–");
  assert.equal(milliseconds(0.44, "en"), "0.4 ms");
  assert.equal(milliseconds(12.6, "en"), "13 ms");
  assert.equal(milliseconds(undefined, "en"), "–");
});

test("a length is minutes and seconds", () => {
  for (const [seconds, text] of [[0, "0:00"], [-1, "0:00"], [9.9, "0:09"], [65, "1:05"], [3_600, "60:00"]]) assert.equal(clock(seconds), text);
});
