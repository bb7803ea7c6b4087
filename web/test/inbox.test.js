import assert from "node:assert/strict";
import { test } from "node:test";

import { Inbox } from "../src/inbox.js";
import { within } from "./fake-server.js";

function filled() {
  const handed = [];
  const inbox = new Inbox((message) => handed.push(message));
  return { inbox, handed };
}

/** A task later than all that were posted before. */
function taskLater() {
  const { port1, port2 } = new MessageChannel();
  const later = new Promise((resolve) => (port1.onmessage = () => (port1.close(), resolve())));
  port2.postMessage(null);
  return within(later, "a task");
}

test("what comes is handed on at once", () => {
  const { inbox, handed } = filled();
  inbox.take("a");
  assert.deepEqual(handed, ["a"]);
});

test("what comes while it is held waits for the next task, and keeps its place", async () => {
  const { inbox, handed } = filled();
  inbox.hold();
  inbox.take("b");
  inbox.take("c");
  inbox.putBack(["a"]);
  await Promise.resolve();
  assert.deepEqual(handed, []);
  await taskLater();
  assert.deepEqual(handed, ["a", "b", "c"]);
  inbox.take("d");
  assert.deepEqual(handed, ["a", "b", "c", "d"]);
});

test("what is put back while nothing is held has its turn all the same", async () => {
  const { inbox, handed } = filled();
  inbox.putBack(["a"]);
  inbox.take("b");
  assert.deepEqual(handed, []);
  await taskLater();
  assert.deepEqual(handed, ["a", "b"]);
});

test("what cannot be dealt with does not keep what is behind it", (t) => {
  const tasks = [];
  class FakeChannel {
    port1 = { onmessage: () => {}, close() {} };
    port2 = { postMessage: () => tasks.push(() => this.port1.onmessage()) };
  }
  const { MessageChannel } = globalThis;
  globalThis.MessageChannel = FakeChannel;
  t.after(() => (globalThis.MessageChannel = MessageChannel));
  const handed = [];
  const inbox = new Inbox((message) => {
    if (message === "a") throw new Error("cannot");
    handed.push(message);
  });
  inbox.hold();
  inbox.take("a");
  inbox.take("b");
  assert.throws(tasks.shift(), /cannot/);
  tasks.shift()?.();
  assert.deepEqual(handed, ["b"]);
});

test("what makes it hold again is handed on alone", async () => {
  const handed = [];
  const inbox = new Inbox((message) => {
    handed.push(message);
    inbox.hold();
  });
  for (const message of ["a", "b", "c"]) inbox.take(message);
  assert.deepEqual(handed, ["a"]);
  await taskLater();
  assert.deepEqual(handed, ["a", "b"]);
  await taskLater();
  assert.deepEqual(handed, ["a", "b", "c"]);
});

test("flushed, nothing waits for a task", async () => {
  const { inbox, handed } = filled();
  inbox.hold();
  inbox.take("a");
  inbox.take("b");
  inbox.flush();
  assert.deepEqual(handed, ["a", "b"]);
  await taskLater();
  assert.deepEqual(handed, ["a", "b"]);
});
