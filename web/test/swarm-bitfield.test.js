import assert from "node:assert/strict";
import { test } from "node:test";

import { Bitfield } from "../src/swarm/bitfield.js";

test("bits are set, cleared and counted once", () => {
  const bits = new Bitfield(10);
  assert.equal(bits.set(3), true);
  assert.equal(bits.set(3), false);
  assert.equal(bits.set(9), true);
  assert.deepEqual([bits.has(3), bits.has(4), bits.has(9), bits.count], [true, false, true, 2]);
  assert.equal(bits.clear(3), true);
  assert.equal(bits.clear(3), false);
  assert.deepEqual([bits.has(3), bits.count, bits.length], [false, 1, 10]);
});

test("a bitfield of any length survives the wire", () => {
  for (let length = 0; length < 40; length++) {
    const bits = new Bitfield(length);
    for (let i = 0; i < length; i += 3) bits.set(i);
    const back = Bitfield.parse(bits.toString(), length);
    assert.equal(back.count, bits.count);
    for (let i = 0; i < length; i++) assert.equal(back.has(i), i % 3 === 0, `${i} of ${length}`);
    assert.equal(Bitfield.full(length).count, length);
    assert.equal(Bitfield.parse(Bitfield.full(length).toString(), length).count, length);
  }
});

test("the first piece is the highest bit", () => {
  const bits = new Bitfield(9);
  bits.set(0);
  bits.set(8);
  assert.equal(bits.toString(), "gIA=");
});

test("what is no bitfield of that length is not taken", () => {
  assert.throws(() => Bitfield.parse("gIA=", 8), RangeError);
  assert.throws(() => Bitfield.parse("gIA=", 17), RangeError);
  assert.throws(() => Bitfield.parse("/w==", 7), RangeError, "a bit behind the last piece");
  assert.throws(() => Bitfield.parse("?", 8));
});
