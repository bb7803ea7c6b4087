import assert from "node:assert/strict";
import { test } from "node:test";

import { Outgoing } from "../src/outgoing.js";

const said = (...types) => {
  const outgoing = new Outgoing();
  for (const type of types) outgoing.push({ type });
  return outgoing;
};

/** Writes all that there is to write; tells what. */
function written(outgoing) {
  const types = [];
  for (let message = outgoing.next; message; message = outgoing.next) {
    types.push(message.type);
    outgoing.wrote();
  }
  return types;
}

test("what was not confirmed is said again, and then what is new", () => {
  const outgoing = said("a", "b", "c");
  outgoing.begin(1);
  for (const type of ["a", "b", "c"]) outgoing.push({ type });
  assert.deepEqual(written(outgoing), ["a", "b", "c"]);
  outgoing.push({ type: "d" });
  // The server has `hello` and `a`.
  outgoing.resume(2);
  assert.deepEqual(written(outgoing), ["b", "c", "d"]);
  outgoing.confirm(5);
  assert.deepEqual(written(outgoing), []);
  outgoing.resume(5);
  assert.deepEqual(written(outgoing), []);
});

test("what is hurried is written next, and counted where it was written", () => {
  const outgoing = said("a", "b", "c");
  outgoing.wrote();
  outgoing.hurry({ type: "ping" });
  assert.deepEqual(written(outgoing), ["ping", "b", "c"]);
  outgoing.resume(2);
  assert.deepEqual(written(outgoing), ["b", "c"]);
});

test("an answer confirms its question, and all before it", () => {
  const outgoing = new Outgoing();
  for (const id of [undefined, 1, undefined, 2]) outgoing.push({ type: `${id}`, id });
  for (let n = 0; n < 3; n++) outgoing.wrote();
  outgoing.answered(1);
  outgoing.answered(2);
  outgoing.answered(7);
  outgoing.resume(0);
  assert.deepEqual(written(outgoing), ["undefined", "2"]);
});

test("what was not written cannot be confirmed", () => {
  const outgoing = said("a", "b");
  outgoing.wrote();
  outgoing.confirm(1_000_000);
  assert.deepEqual(written(outgoing), ["b"]);
  outgoing.confirm(0);
  outgoing.resume(0);
  assert.deepEqual(written(outgoing), ["b"]);
});

test("a new session tells what was said in the old one and what was not", () => {
  const outgoing = said("a", "b");
  outgoing.wrote();
  assert.deepEqual(outgoing.begin(1), { written: [{ type: "a" }], waiting: [{ type: "b" }] });
  assert.equal(outgoing.next, undefined);
});

test("a confirmation is asked for once in a while", () => {
  const outgoing = said(...Array.from({ length: 600 }, () => "a"));
  const asked = [];
  for (let n = 1; outgoing.next; n++) if (outgoing.wrote()) asked.push(n);
  assert.deepEqual(asked, [256, 512]);
});

test("so much may wait, and no more", () => {
  const outgoing = said(...Array.from({ length: 4_096 }, () => "a"));
  assert.throws(() => outgoing.push({ type: "b" }), { code: "too-much-waiting" });
  outgoing.wrote();
  outgoing.confirm(1);
  outgoing.push({ type: "b" });
  outgoing.drop();
  outgoing.push({ type: "c" });
});
