import assert from "node:assert/strict";
import { test } from "node:test";

import * as json from "../src/codec/json.js";
import { Writer } from "../src/writer.js";

/** A writer, and a connection that shows what is written to it. */
function set(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const asked = [];
  const refused = [];
  const writer = new Writer({
    ask: () => asked.push(true),
    refuse: (message, error) => refused.push([message, error.message]),
  });
  const line = () => {
    const said = [];
    const datagrams = [];
    const transport = {
      send: (frame) => said.push(json.decode(frame).n),
      sendBestEffort: (frame) => transport.hasDatagrams && datagrams.push(json.decode(frame).n) > 0,
      hasDatagrams: true,
    };
    return { transport, codec: json, said, datagrams };
  };
  const say = (...numbers) => numbers.forEach((n) => writer.say({ type: "message", n }));
  return { writer, line, say, asked, refused, tick: (ms) => t.mock.timers.tick(ms) };
}

test("what is said while there is no connection is written to the next one", (t) => {
  const { writer, line, say } = set(t);
  say(1, 2);
  const first = line();
  writer.open(first, {});
  say(3);
  assert.deepEqual(first.said, [1, 2, 3]);
  writer.close();
  say(4);
  const second = line();
  // The server has the first.
  writer.resume(1);
  writer.open(second, {});
  assert.deepEqual(second.said, [2, 3, 4]);
  assert.deepEqual(first.said, [1, 2, 3]);
});

test("what cannot be spelled is told by a code, however it was to go", (t) => {
  const { writer, line } = set(t);
  writer.open(line(), {});
  const message = { type: "message", n: 1n };
  for (const say of [() => writer.say(message), () => writer.sayBestEffort(message)]) assert.throws(say, { code: "bad-message", retryable: false });
});

test("a new session is told what of the old one was never written, and what was not confirmed", (t) => {
  const { writer, line, say } = set(t);
  writer.renew(1);
  writer.open(line(), {});
  say(1, 2);
  writer.confirm(2);
  writer.close();
  say(3);
  const { written, waiting } = writer.renew(1);
  assert.deepEqual([written.map(({ n }) => n), waiting.map(({ n }) => n)], [[2], [3]]);
  const next = line();
  writer.open(next, {});
  assert.deepEqual(next.said, []);
});

/** The server goes on with the account of a session: who bursts anew over each connection is refused, and closed in the end. */
test("more than the server wants at once is written later, also on another connection", (t) => {
  const clock = t.mock.method(performance, "now", () => 0);
  const { writer, line, say, tick } = set(t);
  const first = line();
  writer.open(first, { messagesPerSecond: 1 });
  say(1, 2);
  assert.deepEqual(first.said, [1]);
  writer.close();
  tick(10_000);
  assert.deepEqual(first.said, [1]);
  writer.resume(1);
  const second = line();
  writer.open(second, { messagesPerSecond: 1 });
  assert.deepEqual(second.said, []);
  clock.mock.mockImplementation(() => 2_000);
  tick(2_000);
  assert.deepEqual(second.said, [2]);
});

test("in a new session there is a new account", (t) => {
  const { writer, line, say } = set(t);
  writer.open(line(), { messagesPerSecond: 1 });
  say(1);
  writer.close();
  writer.renew(1);
  const second = line();
  writer.open(second, { messagesPerSecond: 1 });
  say(2);
  assert.deepEqual(second.said, [2]);
});

test("whoever waited for his rate is written when it is time", (t) => {
  const clock = t.mock.method(performance, "now", () => 0);
  const { writer, line, say, tick } = set(t);
  const only = line();
  writer.open(only, { messagesPerSecond: 1 });
  say(1, 2);
  clock.mock.mockImplementation(() => 2_000);
  tick(2_000);
  assert.deepEqual(only.said, [1, 2]);
});

test("4,096 wait, one more is turned away, and what must be said is not", (t) => {
  const { writer, line, say } = set(t);
  for (let n = 0; n < 4_096; n++) say(n);
  assert.throws(() => say(4_096), { code: "too-much-waiting" });
  writer.insist({ type: "ping", n: "ping" });
  const only = line();
  writer.open(only, {});
  assert.equal(only.said.length, 4_097);
  assert.equal(only.said.at(-1), "ping");
});

test("a confirmation is asked for now and then", (t) => {
  const { writer, line, say, asked } = set(t);
  writer.open(line(), {});
  for (let n = 0; n < 255; n++) say(n);
  assert.equal(asked.length, 0);
  say(255);
  assert.equal(asked.length, 1);
});

/** Behind thousands of messages that keep to a rate, the answer came too late and a good connection was given up. */
test("a question whether anybody is there does not wait behind what waits", (t) => {
  const clock = t.mock.method(performance, "now", () => 0);
  const { writer, line, say, tick } = set(t);
  const only = line();
  writer.open(only, { messagesPerSecond: 1 });
  say(1, 2, 3);
  writer.hurry({ type: "ping", n: "ping" });
  clock.mock.mockImplementation(() => 2_000);
  tick(2_000);
  assert.deepEqual(only.said, [1, "ping"]);
});

test("what the codec has no words for is refused, and holds nobody up", (t) => {
  const { writer, line, say, refused } = set(t);
  const message = { type: "message", n: 1n };
  writer.say(message);
  say(2);
  const only = line();
  writer.open(only, {});
  assert.deepEqual(only.said, [2]);
  assert.equal(refused[0][0], message);
  assert.match(refused[0][1], /BigInt/);
});

/** One message above the limit used to end the session: the server closes it as `too-large`, and nobody may come back. */
test("what the server would not take is not sent: refused where it is said, or when there is a connection to measure it by", (t) => {
  const { writer, line, refused } = set(t);
  const message = { type: "message", n: "é".repeat(50) };
  writer.say(message);
  const only = line();
  writer.open(only, { messageBytes: 100 });
  assert.deepEqual([only.said, refused.map(([, text]) => text)], [[], ["125 bytes, where the server takes 100"]]);
  assert.throws(() => writer.say(message), { code: "message-too-large" });
  writer.say({ type: "message", n: "x".repeat(75) });
  assert.equal(only.said.length, 1);
});

test("best effort goes as a datagram, or not at all, or is left to the caller", (t) => {
  const { writer, line } = set(t);
  assert.equal(writer.sayBestEffort({ n: 1 }), true, "nowhere to send it");
  const only = line();
  writer.open(only, { messagesPerSecond: 1 });
  assert.equal(writer.sayBestEffort({ n: 2 }), true);
  assert.equal(writer.sayBestEffort({ n: 3 }), true, "above the rate");
  assert.deepEqual(only.datagrams, [2]);
  const without = line();
  without.transport.hasDatagrams = false;
  writer.renew(1);
  writer.open(without, {});
  assert.equal(writer.sayBestEffort({ n: 4 }), false);
});
