import assert from "node:assert/strict";
import { test } from "node:test";

import { Meter, SAMPLES_MAX, extended, pathOf, roundUp } from "../pages/meter.js";

test("a rate is bits per second since the sample before", () => {
  const meter = new Meter();
  assert.equal(meter.sample(1_000, 0), undefined);
  assert.equal(meter.sample(2_000, 1_000), 8_000);
  assert.equal(meter.sample(2_000, 1_500), 0);
  assert.equal(meter.sample(2_500, 2_000), 8_000);
});

test("a counter that began anew, or is not known, has no rate", () => {
  const meter = new Meter();
  meter.sample(1_000, 0);
  assert.equal(meter.sample(10, 1_000), undefined);
  assert.equal(meter.sample(1_010, 2_000), 8_000);
  assert.equal(meter.sample(undefined, 3_000), undefined);
  assert.equal(meter.sample(5_000, 4_000), undefined);
  assert.equal(meter.sample(6_000, 4_000), undefined, "no time has passed");
});

test("a series keeps the newest", () => {
  let series = [];
  for (let i = 0; i < SAMPLES_MAX + 5; i++) series = extended(series, i);
  assert.equal(series.length, SAMPLES_MAX);
  assert.deepEqual([series[0], series.at(-1)], [5, SAMPLES_MAX + 4]);
});

test("a scale ends at a round number that nothing exceeds", () => {
  for (const [value, top] of [[0, 1], [1, 1], [1.5, 2], [2.1, 5], [7, 10], [10, 10], [11, 20], [499, 500], [501, 1_000], [0.03, 0.05], [NaN, 1]]) {
    assert.ok(Math.abs(roundUp(value) - top) < 1e-9, `${value}: ${roundUp(value)}`);
  }
});

test("a path ends at the right edge, its top is the scale's end, and what is missing is a gap", () => {
  const field = { width: SAMPLES_MAX - 1, height: 10, max: 100 };
  assert.equal(pathOf([0, 100], field), `M${SAMPLES_MAX - 2}.0 10.0h0.1L${SAMPLES_MAX - 1}.0 0.0`);
  assert.equal(pathOf([50, undefined, 50], field).match(/M/g).length, 2);
  assert.equal(pathOf([1_000], field), `M${SAMPLES_MAX - 1}.0 0.0h0.1`, "nothing leaves the field");
  assert.equal(pathOf([], field), "");
});
