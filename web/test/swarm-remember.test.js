import assert from "node:assert/strict";
import { test } from "node:test";

import { remember } from "../src/swarm/remember.js";

test("the oldest is forgotten, and what comes again is new", () => {
  const set = new Set();
  for (const value of ["a", "b", "c", "a", "d"]) remember(set, value, 3);
  assert.deepEqual([...set], ["c", "a", "d"]);
});
