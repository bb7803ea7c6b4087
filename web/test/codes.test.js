import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import { VOICE_CODES } from "../pages/voice.js";
import { CLOSE_CODES, ERROR_CODES, LOCAL_CODES, closeCode, failure } from "../src/codes.js";
import { SWARM_CODES } from "../src/swarm/codes.js";

const web = new URL("../", import.meta.url);
const slugs = (codes) => codes.map(({ slug }) => slug);
/** The cells of each row of a table in Markdown that begins with a code. */
const rows = (page) => [...page.matchAll(/^\| `([a-z-]+)` \|(.*)\|$/gm)].map(([, slug, rest]) => [slug, ...rest.split("|").map((cell) => cell.trim())]);

const within = (from, to) => (code) => code.number >= from && code.number <= to;

test("the range of a close code says whether to come back", () => {
  assert.deepEqual(CLOSE_CODES.filter((code) => code.reconnect), CLOSE_CODES.filter(within(4000, 4199)));
  assert.deepEqual(CLOSE_CODES.filter((code) => !code.reconnect), CLOSE_CODES.filter(within(4200, 4299)));
});

test("refusals have a range of their own", () => {
  assert.ok(ERROR_CODES.every(within(4300, 4399)));
});

test("no number stands twice, and no name among what may end a connection or among refusals", () => {
  for (const codes of [[...CLOSE_CODES, ...LOCAL_CODES], ERROR_CODES]) assert.equal(new Set(codes.map((code) => code.slug)).size, codes.length);
  const numbers = [...CLOSE_CODES, ...ERROR_CODES].map((code) => code.number);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
});

test("the codes of the server are those of the protocol, number by number, and say the same of coming back", async () => {
  const page = await readFile(new URL("../src/protocol/protocol.md", web), "utf8");
  const specified = rows(page).filter(([, number]) => /^4\d{3}$/.test(number));
  const known = (codes, how) => codes.map(({ slug, number, reconnect, retryable }) => [slug, `${number}`, how, (reconnect ?? retryable) ? "yes" : "no"]);
  assert.deepEqual([...known(CLOSE_CODES, "goodbye"), ...known(ERROR_CODES, "error")], specified.map((cells) => cells.slice(0, 4)));
});

test("the README lists the codes that are none of the server's, and no others", async () => {
  const listed = rows(await readFile(new URL("README.md", web), "utf8")).map(([slug]) => slug);
  assert.deepEqual(listed, slugs([...LOCAL_CODES, ...SWARM_CODES, ...VOICE_CODES]));
});

for (const [part, table, others] of [
  ["src", LOCAL_CODES, [...CLOSE_CODES, ...ERROR_CODES]],
  ["src/swarm", SWARM_CODES, []],
  ["pages/voice.js", VOICE_CODES, []],
]) {
  test(`what fails in ${part} has a code of its table, and each code there is of use`, async () => {
    const source = await sourceOf(part);
    const given = [...source.matchAll(/(?:failure|#fail)\("([a-z-]+)"/g)].map(([, slug]) => slug);
    assert.ok(given.length > 0);
    assert.deepEqual(given.filter((slug) => !slugs([...table, ...others]).includes(slug)), []);
    assert.deepEqual(slugs(table).filter((slug) => !source.includes(`"${slug}"`)), []);
  });
}

/** What a file says, or all in a folder but for its table of codes; what is about files is a folder of its own. */
async function sourceOf(part) {
  const all = part.endsWith(".js") ? [part] : (await readdir(new URL(part, web), { recursive: true })).map((name) => `${part}/${name}`);
  const own = all.filter((name) => name.endsWith(".js") && !name.endsWith("/codes.js") && (part !== "src" || !name.startsWith("src/swarm/")));
  return (await Promise.all(own.map((name) => readFile(new URL(name, web), "utf8")))).join("\n");
}

test("a close code is found by its number", () => {
  assert.equal(closeCode(4000).slug, "draining");
  assert.equal(closeCode(1006), undefined);
  assert.equal(closeCode(undefined), undefined);
});

test("a failure is an Error with a code", () => {
  const error = failure("room-full", "the room is full", { retryable: true });
  assert.ok(error instanceof Error);
  assert.deepEqual([error.code, error.message, error.retryable], ["room-full", "the room is full", true]);
});
