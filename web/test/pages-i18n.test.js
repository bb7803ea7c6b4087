import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import { CLOSE_CODES, ERROR_CODES, LOCAL_CODES } from "../src/codes.js";
import { SWARM_CODES } from "../src/swarm/codes.js";
import { TABLES, Text, pickLanguage } from "../pages/i18n.js";

const { en, es } = TABLES;

/** Everything that pages are made of, but the tables. */
async function sources() {
  const web = new URL("../", import.meta.url);
  const names = [
    ...(await readdir(web)).filter((name) => name.endsWith(".html")),
    ...(await readdir(new URL("pages/", web))).filter((name) => !name.startsWith("text-")).map((name) => `pages/${name}`),
  ];
  return Promise.all(names.map(async (name) => ({ name, source: await readFile(new URL(name, web), "utf8") })));
}

const forms = (entry) => (typeof entry === "string" ? [entry] : [entry.one, entry.other]);
const placeholders = (sentence) => [...new Set(sentence.match(/\{\w+\}/g))].sort();

test("both languages have the same keys, in the same order", () => {
  assert.deepEqual(Object.keys(es), Object.keys(en));
});

for (const [what, stem, codes] of [
  ["the connection, a room or a line", "code.", [...CLOSE_CODES, ...ERROR_CODES, ...LOCAL_CODES]],
  ["a file", "stream.failed-", SWARM_CODES],
]) {
  test(`every code that ends ${what} has its sentence, and no other has`, () => {
    const said = Object.keys(en).flatMap((key) => (key.startsWith(stem) ? key.slice(stem.length) : []));
    assert.deepEqual(said, [...new Set(codes.map(({ slug }) => slug))]);
  });
}

test("a sentence asks for the same values in both languages, and in one and several", () => {
  for (const [key, entry] of Object.entries(en)) {
    assert.equal(typeof es[key], typeof entry, key);
    const expected = placeholders(forms(entry).at(-1));
    assert.ok(typeof entry === "string" || expected.includes("{count}"), `${key} has nothing to count`);
    for (const sentence of [...forms(entry), ...forms(es[key])]) {
      assert.notEqual(sentence.trim(), "", key);
      // Where there is one of something, a language may have a word for it.
      const missing = expected.filter((name) => !placeholders(sentence).includes(name) && !(name === "{count}" && [entry.one, es[key].one].includes(sentence)));
      assert.deepEqual([missing, placeholders(sentence).filter((name) => !expected.includes(name))], [[], []], `${key}: ${sentence}`);
    }
  }
});

test("no sentence was left in the other language", () => {
  const international = new Set(["index.title", "notice.other"]);
  assert.deepEqual(Object.keys(en).filter((key) => JSON.stringify(en[key]) === JSON.stringify(es[key]) && !international.has(key)), []);
});

test("every key that a page asks for is there", async () => {
  let asked = 0;
  for (const { name, source } of await sources()) {
    for (const [, key] of source.matchAll(/(?:data-(?:text|label|hint)=|\.say\()"([^"]+)"/g)) {
      assert.ok(Object.hasOwn(en, key), `${name} asks for ${key}`);
      asked++;
    }
  }
  assert.ok(asked > 100, `only ${asked} were found`);
});

test("every key is asked for by a page", async () => {
  const all = (await sources()).map(({ source }) => source).join("\n");
  // Keys that are put together: `notice.${code}`.
  const stems = [...all.matchAll(/[`"]([a-z]+\.[a-z-]*)\$\{/g)].map(([, stem]) => stem);
  const families = new Set([...all.matchAll(/`\$\{\w+\}\.([a-z]+)`/g)].map(([, part]) => part));
  const unused = Object.keys(en).filter((key) => !all.includes(`"${key}"`) && !stems.some((stem) => key.startsWith(stem)) && !families.has(key.split(".")[1]));
  assert.deepEqual(unused, []);
});

test("the first language that there is a table for is taken, whatever its region", () => {
  assert.equal(pickLanguage(["es-MX", "en"]), "es");
  assert.equal(pickLanguage(["de-AT", "ES"]), "es");
  assert.equal(pickLanguage([null, undefined, "", "en-GB", "es"]), "en");
  assert.equal(pickLanguage(["de", "constructor", "__proto__"]), "en");
  assert.equal(pickLanguage([]), "en");
});

test("values are filled in, and decide between one and several", () => {
  const text = new Text("en");
  assert.equal(text.say("phrases.to", { count: 1 }), "To one peer");
  assert.equal(text.say("phrases.to", { count: 3 }), "To 3 peers");
  assert.equal(new Text("es").say("phrases.to", { count: 3 }), "Para 3 personas");
  assert.equal(text.say("announce.came", { name: "{count} <b>" }), "{count} <b> came in");
  assert.equal(text.say("announce.came"), "{name} came in");
  assert.equal(text.say("no.such-key"), "no.such-key");
  assert.equal(text.has("constructor"), false);
});
