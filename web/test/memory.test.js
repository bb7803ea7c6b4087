import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { recall, remember } from "../src/memory.js";

function storage() {
  const items = new Map();
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => void items.set(key, value), items };
}

afterEach(() => Reflect.deleteProperty(globalThis, "localStorage"));

const install = (value) => Object.defineProperty(globalThis, "localStorage", { value, configurable: true });

test("a door is remembered per host, for a while", (t) => {
  install(storage());
  t.mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
  assert.equal(recall("http://h:1"), undefined);
  remember("http://h:1/path", "websocket");
  assert.equal(recall("http://h:1"), "websocket");
  assert.equal(recall("http://h:2"), undefined);
  t.mock.timers.setTime(1_000_000 + 10 * 60_000 - 1);
  assert.equal(recall("http://h:1"), "websocket");
  t.mock.timers.setTime(1_000_000 + 10 * 60_000);
  assert.equal(recall("http://h:1"), undefined);
  t.mock.timers.setTime(1_000);
  assert.equal(recall("http://h:1"), undefined, "after the clock was set back");
});

test("where nothing can be stored, nothing is remembered", () => {
  remember("http://h", "websocket");
  assert.equal(recall("http://h"), undefined);
  const full = storage();
  full.setItem = () => {
    throw new Error("full");
  };
  install(full);
  remember("http://h", "websocket");
  full.items.set("switchboard.door h", "{");
  assert.equal(recall("http://h"), undefined);
});
