import assert from "node:assert/strict";
import { test } from "node:test";

import { withDeadline } from "../src/deadline.js";

const error = new Error("too late");
const never = () => new Promise(() => {});

test("work that is done in time gives its result, and its failure", async () => {
  assert.equal(await withDeadline({ ms: 1000, error }, async () => 7), 7);
  await assert.rejects(withDeadline({ ms: 1000, error }, () => Promise.reject(new Error("failed"))), /failed/);
});

test("work that is not done in time is told so, and given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let signal;
  const result = withDeadline({ ms: 1000, error }, (given) => {
    signal = given;
    return never();
  });
  t.mock.timers.tick(999);
  assert.equal(signal.aborted, false);
  t.mock.timers.tick(1);
  assert.equal(signal.reason, error);
  await assert.rejects(result, error);
});

test("the caller's own signal comes through", async () => {
  const controller = new AbortController();
  const result = withDeadline({ signal: controller.signal, ms: 60_000, error }, never);
  controller.abort(new Error("enough"));
  await assert.rejects(result, /enough/);
  await assert.rejects(withDeadline({ signal: controller.signal, ms: 60_000, error }, () => assert.fail("ran")), /enough/);
});
