import assert from "node:assert/strict";
import { test } from "node:test";

import { backoffMs } from "../src/backoff.js";

test("the bound doubles up to half a minute, and chance has all of it", () => {
  assert.deepEqual([0, 1, 2, 3].map((attempt) => backoffMs(attempt, () => 1)), [250, 500, 1_000, 2_000]);
  assert.equal(backoffMs(7, () => 1), 30_000);
  assert.equal(backoffMs(10_000, () => 1), 30_000);
  assert.equal(backoffMs(5, () => 0), 0);
  assert.equal(backoffMs(1, () => 0.5), 250);
});
