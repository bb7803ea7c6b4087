import assert from "node:assert/strict";
import { test } from "node:test";

import { Pace } from "../src/pace.js";

function paced(limits) {
  const clock = { now: 0 };
  return { clock, pace: new Pace(limits, () => clock.now) };
}

test("without rates nothing waits", () => {
  const { pace } = paced({});
  for (let i = 0; i < 100_000; i++) assert.equal(pace.take(1_000_000), 0);
});

test("nine tenths of two seconds' worth go at once, and then nine tenths of the rate", () => {
  const { clock, pace } = paced({ messagesPerSecond: 100 });
  for (let i = 0; i < 180; i++) assert.equal(pace.take(10), 0, `message ${i}`);
  const waitMs = pace.take(10);
  assert.equal(waitMs, Math.ceil(1_000 / 90));
  clock.now += waitMs - 1;
  assert.ok(pace.take(10) > 0, "it did not wait long enough");
  clock.now += 1;
  assert.equal(pace.take(10), 0);
  clock.now += 3_600_000;
  for (let i = 0; i < 180; i++) assert.equal(pace.take(10), 0);
  assert.ok(pace.take(10) > 0, "an hour saves up no more");
});

test("joins have a rate of their own, and nothing else waits for it", () => {
  const { clock, pace } = paced({ messagesPerSecond: 100, joinsPerSecond: 1 });
  assert.equal(pace.take(10, true), 0);
  const waitMs = pace.take(10, true);
  assert.equal(waitMs, Math.ceil(200 / 0.9));
  assert.equal(pace.take(10), 0);
  clock.now += waitMs;
  assert.equal(pace.take(10, true), 0);
});

test("bytes are counted as well, and one message larger than all goes when it can", () => {
  const { clock, pace } = paced({ messagesPerSecond: 1_000, bytesPerSecond: 1_000 });
  assert.equal(pace.take(1_000), 0);
  assert.ok(pace.take(1_000) > 0);
  clock.now += 10_000;
  assert.equal(pace.take(5_000), 0);
  assert.ok(pace.take(1) > 3_000, "and is paid for afterwards");
});
