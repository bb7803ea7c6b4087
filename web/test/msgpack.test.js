import assert from "node:assert/strict";
import { test } from "node:test";

import * as reference from "@msgpack/msgpack";

import { decode, encode } from "../src/codec/msgpack.js";

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const unhex = (text) => new Uint8Array(Buffer.from(text, "hex"));

/** Values and their one shortest spelling: every edge between two markers. */
const SPELLINGS = [
  [null, "c0"],
  [false, "c2"],
  [true, "c3"],
  [0, "00"],
  [127, "7f"],
  [128, "cc80"],
  [255, "ccff"],
  [256, "cd0100"],
  [65535, "cdffff"],
  [65536, "ce00010000"],
  [2 ** 32 - 1, "ceffffffff"],
  [2 ** 32, "cf0000000100000000"],
  [Number.MAX_SAFE_INTEGER, "cf001fffffffffffff"],
  [2n ** 53n, "cf0020000000000000"],
  [2n ** 64n - 1n, "cfffffffffffffffff"],
  [-1, "ff"],
  [-32, "e0"],
  [-33, "d0df"],
  [-128, "d080"],
  [-129, "d1ff7f"],
  [-32768, "d18000"],
  [-32769, "d2ffff7fff"],
  [-(2 ** 31), "d280000000"],
  [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
  [-(2n ** 63n), "d38000000000000000"],
  [-0, "cb8000000000000000"],
  [1.5, "cb3ff8000000000000"],
  [2 ** 53, "cb4340000000000000"],
  [Infinity, "cb7ff0000000000000"],
  ["", "a0"],
  ["é", "a2c3a9"],
  ["\ufeffx", "a4efbbbf78"],
  ["x".repeat(31), `bf${"78".repeat(31)}`],
  ["x".repeat(32), `d920${"78".repeat(32)}`],
  ["x".repeat(256), `da0100${"78".repeat(256)}`],
  ["x".repeat(65536), `db00010000${"78".repeat(65536)}`],
  [new Uint8Array(), "c400"],
  [new Uint8Array(256), `c50100${"00".repeat(256)}`],
  [new Uint8Array(65536), `c600010000${"00".repeat(65536)}`],
  [[], "90"],
  [Array(15).fill(1), `9f${"01".repeat(15)}`],
  [Array(16).fill(1), `dc0010${"01".repeat(16)}`],
  [Array(65536).fill(1), `dd00010000${"01".repeat(65536)}`],
  [{}, "80"],
  [{ a: { b: [1] } }, "81a16181a1629101"],
];

test("every value has its shortest spelling, and comes back from it", () => {
  for (const [value, spelling] of SPELLINGS) {
    assert.equal(hex(encode(value)), spelling, String(value).slice(0, 40));
    assert.deepEqual(decode(unhex(spelling)), value, spelling.slice(0, 40));
  }
});

test("maps of every size come back", () => {
  for (const size of [15, 16, 65536]) {
    const map = Object.fromEntries(Array.from({ length: size }, (_, i) => [`k${i}`, i]));
    assert.deepEqual(decode(encode(map)), map);
  }
});

test("what we write, the reference reads, and the other way round", () => {
  const random = mulberry32(20_26);
  for (let round = 0; round < 2000; round++) {
    const value = anyValue(random, 0);
    assert.deepEqual(reference.decode(encode(value), { useBigInt64: false }), value);
    assert.deepEqual(decode(reference.encode(value)), value);
    assert.deepEqual(decode(encode(value)), value);
    assert.equal(hex(encode(value)), hex(reference.encode(value)));
  }
});

test("64 bits go both ways as BigInt where a number would not be exact", () => {
  for (const value of [2n ** 53n, 2n ** 64n - 1n, -(2n ** 53n), -(2n ** 63n)]) {
    assert.equal(reference.decode(encode(value), { useBigInt64: true }), value);
    assert.equal(decode(reference.encode(value, { useBigInt64: true })), value);
  }
  assert.equal(decode(encode(5n)), 5);
  assert.throws(() => encode(2n ** 64n), RangeError);
  assert.throws(() => encode(-(2n ** 63n) - 1n), RangeError);
});

test("undefined is left out of maps and is nil elsewhere, as in JSON", () => {
  assert.deepEqual(decode(encode({ a: undefined, b: [undefined] })), { b: [null] });
});

test("an object that knows its JSON form is written in it", () => {
  assert.deepEqual(decode(encode({ toJSON: () => ({ type: "offer", sdp: "v=0" }) })), { type: "offer", sdp: "v=0" });
});

test("any view of bytes is bin, and bin is a copy", () => {
  const words = Uint16Array.of(0x0201, 0x0403).subarray(1);
  assert.deepEqual(decode(encode(words)), Uint8Array.of(3, 4));
  assert.deepEqual(decode(encode(words.buffer)), Uint8Array.of(1, 2, 3, 4));
  const bytes = encode(Uint8Array.of(1));
  const value = decode(bytes);
  bytes.fill(0);
  assert.deepEqual(value, Uint8Array.of(1));
});

test("floats of 32 bits and extensions are read", () => {
  assert.equal(decode(unhex("ca3fc00000")), 1.5);
  assert.deepEqual(decode(unhex("d6ff00000001")), { ext: -1, data: Uint8Array.of(0, 0, 0, 1) });
  assert.deepEqual(decode(unhex("c70205aabb")), { ext: 5, data: Uint8Array.of(0xaa, 0xbb) });
  assert.deepEqual(decode(reference.encode(new Date(0))), { ext: -1, data: new Uint8Array(4) });
});

test("a key that is no string becomes its JSON text", () => {
  assert.deepEqual(decode(encode(new Map([[1, "one"], [null, 0], [2n ** 60n, "big"]]))), {
    1: "one",
    null: 0,
    '"1152921504606846976"': "big",
  });
});

test("a key named __proto__ is only a key", () => {
  const value = decode(unhex("81a95f5f70726f746f5f5f81a16101"));
  assert.deepEqual(Object.keys(value), ["__proto__"]);
  assert.equal(value.a, undefined);
});

test("what ends early, goes on too long, nests too deep or means nothing is refused", () => {
  const whole = encode({ a: ["text", 1.5, 2n ** 60n, new Uint8Array(3)] });
  for (let end = 0; end < whole.length; end++) assert.throws(() => decode(whole.subarray(0, end)), RangeError);
  for (const text of ["c1", "0000", "ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff", "91".repeat(200) + "00"]) {
    assert.throws(() => decode(unhex(text)), RangeError, text);
  }
  assert.throws(() => encode(() => {}), TypeError);
  assert.throws(() => decode("{}"), TypeError);
  const loop = [];
  loop.push(loop);
  assert.throws(() => encode(loop), RangeError);
});

/** Random numbers from a seed, so that a failure can be repeated. */
function mulberry32(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function anyValue(random, depth) {
  const below = (n) => Math.floor(random() * n);
  const text = () => Array.from({ length: below(40) }, () => String.fromCodePoint([65, 233, 0x20ac, 0x1f600][below(4)])).join("");
  const list = (make) => Array.from({ length: below(20) }, make);
  const scalars = [
    () => null,
    () => random() < 0.5,
    () => below(2 ** below(54)) * (random() < 0.5 ? -1 : 1) + 0,
    () => (random() - 0.5) * 10 ** below(300),
    text,
    () => Uint8Array.from(list(() => below(256))),
  ];
  const nested = [
    () => list(() => anyValue(random, depth + 1)),
    () => Object.fromEntries(list(() => [text(), anyValue(random, depth + 1)])),
  ];
  const choices = depth < 3 ? [...scalars, ...nested] : scalars;
  return choices[below(choices.length)]();
}
