import assert from "node:assert/strict";
import { test } from "node:test";

import { Probing } from "../src/probing.js";

const BEAT_MS = 1_000;

function started(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const seen = { asked: 0, lost: [] };
  const probing = new Probing({ ask: () => seen.asked++, lost: (reason) => seen.lost.push(reason) });
  probing.start(BEAT_MS);
  return { probing, seen, tick: (ms) => t.mock.timers.tick(ms) };
}

test("a server that answers is asked once a beat", (t) => {
  const { probing, seen, tick } = started(t);
  for (let beats = 1; beats <= 5; beats++) {
    tick(BEAT_MS);
    assert.equal(seen.asked, beats);
    probing.heard();
  }
  assert.deepEqual(seen.lost, []);
});

test("a server that leaves two questions without an answer is lost", (t) => {
  const { seen, tick } = started(t);
  for (let beats = 1; beats <= 2; beats++) tick(BEAT_MS);
  tick(BEAT_MS - 1);
  assert.deepEqual(seen, { asked: 2, lost: [] });
  tick(1);
  assert.deepEqual(seen, { asked: 2, lost: ["the server has been silent for 2000 ms"] });
  tick(10 * BEAT_MS);
  assert.equal(seen.lost.length, 1);
});

test("who doubts asks at once, and waits no more than three seconds", (t) => {
  const { probing, seen, tick } = started(t);
  probing.doubt();
  assert.equal(seen.asked, 1);
  tick(2_999);
  assert.deepEqual(seen.lost, []);
  tick(1);
  assert.deepEqual(seen.lost, ["the server did not answer when the page came back"]);
});

test("an answer ends the doubt", (t) => {
  const { probing, seen, tick } = started(t);
  probing.doubt();
  probing.heard();
  tick(3_000);
  tick(BEAT_MS);
  assert.deepEqual(seen, { asked: 2, lost: [] });
});

test("stopped, it asks nothing and loses nobody", (t) => {
  const { probing, seen, tick } = started(t);
  probing.doubt();
  probing.stop();
  tick(100 * BEAT_MS);
  assert.deepEqual(seen, { asked: 1, lost: [] });
});
