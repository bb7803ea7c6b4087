import assert from "node:assert/strict";
import { test } from "node:test";

import { rarest } from "../src/swarm/picker.js";

const all = () => true;

test("the piece that the fewest have comes first", () => {
  assert.equal(rarest({ from: 0, to: 5, isEligible: all, holders: [3, 2, 1, 2, 3] }), 2);
  assert.equal(rarest({ from: 0, to: 5, isEligible: (piece) => piece !== 2, holders: [3, 2, 1, 3, 3] }), 1);
  assert.equal(rarest({ from: 3, to: 5, isEligible: all, holders: [3, 2, 1, 2, 3] }), 3);
  assert.equal(rarest({ from: 0, to: 2, isEligible: all, holders: [3, 2, 1, 2, 3] }), 1);
});

test("where nothing is eligible, there is none", () => {
  assert.equal(rarest({ from: 0, to: 3, isEligible: () => false, holders: [1, 1, 1] }), undefined);
  assert.equal(rarest({ from: 3, to: 3, isEligible: all, holders: [1, 1, 1] }), undefined);
});

test("among equals each has the same chance", () => {
  // The k-th of equals asks for a number below 1/k; here are the numbers that lead to each of three.
  const draws = (...numbers) => rarest({ from: 0, to: 3, isEligible: all, holders: [1, 1, 1], random: () => numbers.shift() });
  assert.equal(draws(0, 0.6, 0.5), 0);
  assert.equal(draws(0, 0.4, 0.5), 1);
  assert.equal(draws(0, 0.4, 0.3), 2);
  const counts = [0, 0, 0, 0];
  for (let round = 0; round < 4000; round++) counts[rarest({ from: 0, to: 4, isEligible: all, holders: [1, 1, 1, 1] })]++;
  // Ten standard deviations: this fails by chance never.
  for (const count of counts) assert.ok(Math.abs(count - 1000) < 300, `${counts}`);
});
