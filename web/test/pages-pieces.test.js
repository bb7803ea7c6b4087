import assert from "node:assert/strict";
import { test } from "node:test";

import { cellsOf, countBySender } from "../pages/pieces.js";

test("pieces are counted by who sent them", () => {
  assert.deepEqual([...countBySender([undefined, "wanted", "b", "a", "b"])], [["b", 2], ["a", 1]]);
  assert.equal(countBySender([]).size, 0);
});

test("of a small file every piece has a cell", () => {
  const cells = cellsOf(["a", "wanted", undefined]);
  assert.deepEqual(cells, [{ state: "there", from: "a" }, { state: "wanted", from: undefined }, { state: "missing", from: undefined }]);
});

test("of a large file several pieces share a cell, which belongs to who sent most of them", () => {
  assert.deepEqual(cellsOf(["a", "b", "b", undefined, "wanted", undefined, "a"], 3), [
    { state: "there", from: "b" },
    { state: "wanted", from: undefined },
    { state: "there", from: "a" },
  ]);
  assert.equal(cellsOf(["a", undefined], 1)[0].state, "some");
  assert.equal(cellsOf(Array(100_000).fill("a"), 400).length, 400);
});

test("holes in the list are pieces too", () => {
  const pieces = Array(4);
  pieces[2] = "a";
  assert.deepEqual(cellsOf(pieces).map(({ state }) => state), ["missing", "missing", "there", "missing"]);
});
