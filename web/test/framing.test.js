import assert from "node:assert/strict";
import { test } from "node:test";

import { encodeFrame, FrameDecoder } from "../src/framing.js";

const bytes = (...values) => Uint8Array.from(values);

test("a frame is its length, big-endian, and its bytes", () => {
  assert.deepEqual(encodeFrame(bytes(7, 8, 9)), bytes(0, 0, 0, 3, 7, 8, 9));
  assert.deepEqual(encodeFrame(new Uint8Array(0x010203)).subarray(0, 4), bytes(0, 1, 2, 3));
});

test("frames come back whole, wherever the stream was cut", () => {
  const frames = [bytes(1, 2, 3), bytes(), bytes(4), new Uint8Array(300).fill(5)];
  const stream = Uint8Array.from(frames.flatMap((frame) => [...encodeFrame(frame)]));
  for (let size = 1; size <= stream.length; size++) {
    const decoder = new FrameDecoder();
    const seen = [];
    for (let at = 0; at < stream.length; at += size) seen.push(...decoder.push(stream.subarray(at, at + size)));
    assert.deepEqual(seen, frames, `in chunks of ${size}`);
  }
});

test("a frame keeps its bytes when the chunk that brought it is used again", () => {
  const chunk = encodeFrame(bytes(1, 2));
  const [frame] = new FrameDecoder().push(chunk);
  chunk.fill(0);
  assert.deepEqual(frame, bytes(1, 2));
});

test("a header that announces too much is refused before its bytes arrive", () => {
  const decoder = new FrameDecoder(10);
  assert.deepEqual(decoder.push(encodeFrame(new Uint8Array(10))), [new Uint8Array(10)]);
  assert.throws(() => decoder.push(bytes(0, 0, 0, 11)), RangeError);
});
