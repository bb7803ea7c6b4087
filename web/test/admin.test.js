import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import { Reading, percentile, rate } from "../admin/prometheus.js";
import { en } from "../admin/text-en.js";
import { es } from "../admin/text-es.js";

const forms = (entry) => (typeof entry === "string" ? [entry] : [entry.one, entry.other]);
const placeholders = (entry) => [...new Set(forms(entry).join().match(/\{\w+\}/g))].sort();

test("metrics are read with their labels, and added up by them", () => {
  const text = [
    "# HELP a_total Some help with {braces} 7",
    "# TYPE a_total counter",
    'a_total{door="websocket",dialect="native"} 3',
    'a_total{door="websocket",dialect="a\\"b\\\\c\\n,x=\\"y"} 4 1700000000000',
    'a_total{door="webtransport",dialect="native"} 1e1',
    "b 0.5",
    "",
  ].join("\n");
  const reading = new Reading(text, 0);
  assert.equal(reading.sum("a_total"), 17);
  assert.equal(reading.sum("a_total", { door: "websocket" }), 7);
  assert.equal(reading.sum("a_total", { dialect: 'a"b\\c\n,x="y' }), 4);
  assert.equal(reading.sum("a_total", { door: "none" }), 0);
  assert.equal(reading.sum("b"), 0.5);
  assert.equal(reading.sum("c"), undefined);
});

test("a rate is what a counter grew by in a second, and there is none where it began anew", () => {
  const at = (value, ms) => new Reading(`a_total ${value}`, ms);
  assert.equal(rate(at(10, 0), at(30, 2_000), "a_total"), 10);
  assert.equal(rate(undefined, at(30, 2_000), "a_total"), undefined);
  assert.equal(rate(at(30, 0), at(10, 2_000), "a_total"), undefined);
  assert.equal(rate(at(1, 5), at(2, 5), "a_total"), undefined);
  assert.equal(rate(at(1, 0), at(2, 5), "b_total"), undefined);
});

test("a percentile is reckoned from what came between two readings", () => {
  const at = (counts) => new Reading(["0.001", "0.01", "+Inf"].map((le, i) => `a_bucket{le="${le}"} ${counts[i]}`).join("\n"), 0);
  const before = at([100, 100, 100]);
  assert.equal(percentile(before, at([110, 110, 110]), "a", 0.5), 0.0005);
  assert.equal(percentile(before, at([105, 115, 115]), "a", 0.5).toFixed(5), (0.001 + (0.009 * 2.5) / 10).toFixed(5));
  assert.equal(percentile(before, at([100, 100, 105]), "a", 0.99), 0.01, "nobody knows how far beyond");
  assert.equal(percentile(before, before, "a", 0.5), undefined);
  assert.equal(percentile(undefined, before, "a", 0.5), undefined);
  assert.equal(percentile(before, before, "b", 0.5), undefined);
});

test("both languages have the same sentences, which ask for the same values", () => {
  assert.deepEqual(Object.keys(es), Object.keys(en));
  for (const [key, entry] of Object.entries(en)) {
    assert.equal(typeof es[key], typeof entry, key);
    if (typeof entry === "string") assert.deepEqual(placeholders(es[key]), placeholders(entry), key);
    assert.notDeepEqual(es[key], entry, key);
  }
});

test("every sentence is asked for, and no other", async () => {
  const folder = new URL("../admin/", import.meta.url);
  const names = (await readdir(folder)).filter((name) => /\.(html|js)$/.test(name) && !name.startsWith("text-"));
  const all = (await Promise.all(names.map((name) => readFile(new URL(name, folder), "utf8")))).join("\n");
  for (const [, key] of all.matchAll(/(?:data-text=|\.say\(|key: )"([^"]+)"/g)) assert.ok(Object.hasOwn(en, key), key);
  const stems = [...all.matchAll(/`([a-z]+\.)\$\{/g)].map(([, stem]) => stem);
  assert.deepEqual(Object.keys(en).filter((key) => !all.includes(`"${key}"`) && !stems.some((stem) => key.startsWith(stem))), []);
});
