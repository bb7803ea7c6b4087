import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { Comeback } from "../src/comeback.js";
import { failure } from "../src/codes.js";

const LOST = { code: "connection-lost", reason: "it broke", reconnect: true };

const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** One that notes what it does; `outcomes` says what becomes of each attempt, the last of all that follow. */
function comeback(...outcomes) {
  const done = [];
  const hooks = {
    open: async (signal) => {
      const outcome = outcomes.length > 1 ? outcomes.shift() : outcomes[0];
      done.push("open");
      if (outcome === "silent") await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      if (outcome) throw outcome;
    },
    wait: ({ code }, retryInMs) => done.push(`${code} ${retryInMs}`),
    drop: () => done.push("drop"),
    giveUp: ({ code }) => done.push(`over: ${code}`),
  };
  return { comeback: new Comeback(hooks), done: () => done.splice(0) };
}

beforeEach((t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(Math, "random", () => 1);
});

test("each attempt in vain makes the next wait longer, and the server may ask for more", async (t) => {
  const one = comeback(failure("unreachable", "nobody"), failure("draining", "later", { reconnectAfterMs: 5_000 }), undefined);
  const coming = one.comeback.begin({ ...LOST, reconnectAfterMs: 1_000 });
  assert.deepEqual(one.done(), ["connection-lost 1250"]);
  t.mock.timers.tick(1_249);
  await settled();
  assert.deepEqual(one.done(), []);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(one.done(), ["open", "drop", "unreachable 500"]);
  t.mock.timers.tick(500);
  await settled();
  assert.deepEqual(one.done(), ["open", "drop", "draining 6000"]);
  t.mock.timers.tick(6_000);
  await coming;
  assert.deepEqual(one.done(), ["open"]);
});

test("a connection that held for ten seconds is a steady one, after which the waits begin anew", async (t) => {
  let now = 100_000;
  t.mock.method(performance, "now", () => now);
  const one = comeback(undefined);
  const again = async (afterMs) => {
    now += afterMs;
    const coming = one.comeback.begin(LOST);
    t.mock.timers.tick(30_000);
    await coming;
    one.comeback.connected();
    return one.done()[0];
  };
  const waits = [await again(0), await again(0), await again(10_000), await again(10_001)];
  assert.deepEqual(waits, ["connection-lost 250", "connection-lost 500", "connection-lost 1000", "connection-lost 250"]);
});

test("an attempt has ten seconds", async (t) => {
  const one = comeback("silent", undefined);
  const coming = one.comeback.begin(LOST);
  t.mock.timers.tick(250);
  await settled();
  t.mock.timers.tick(9_999);
  await settled();
  assert.deepEqual(one.done(), ["connection-lost 250", "open"]);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(one.done(), ["drop", "connect-timeout 500"]);
  one.comeback.wake();
  await coming;
});

test("while it is held nothing is tried, until it is woken", async (t) => {
  const one = comeback(undefined);
  one.comeback.isHeld = true;
  const coming = one.comeback.begin(LOST);
  t.mock.timers.tick(60_000);
  await settled();
  assert.deepEqual(one.done(), ["connection-lost 250"]);
  one.comeback.isHeld = false;
  one.comeback.wake();
  await coming;
  assert.deepEqual(one.done(), ["open"]);
});

test("nothing is tried after the end, nor after an answer that makes it pointless", async (t) => {
  const [ended, refused] = [comeback(undefined), comeback(failure("replaced", "somebody else"))];
  const coming = [ended, refused].map(({ comeback }) => comeback.begin(LOST));
  ended.comeback.end();
  t.mock.timers.tick(60_000);
  await Promise.all(coming);
  assert.deepEqual(ended.done(), ["connection-lost 250"]);
  assert.deepEqual(refused.done(), ["connection-lost 250", "open", "drop", "over: replaced"]);
});
