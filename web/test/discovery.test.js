import assert from "node:assert/strict";
import { test } from "node:test";

import { mayComeBack } from "../src/codes.js";
import { discover } from "../src/discovery.js";

function answer(t, response) {
  return t.mock.method(globalThis, "fetch", async () => (response instanceof Error ? Promise.reject(response) : response));
}

test("the document is asked for at the base URL, whatever its path", async (t) => {
  const document = { name: "switchboard", transports: [] };
  const fetch = answer(t, null);
  for (const [base, url] of [
    ["http://localhost:8080", "http://localhost:8080/.well-known/switchboard"],
    ["http://localhost:8080/", "http://localhost:8080/.well-known/switchboard"],
    ["https://example.org/calls", "https://example.org/calls/.well-known/switchboard"],
  ]) {
    fetch.mock.mockImplementationOnce(async () => Response.json(document), fetch.mock.callCount());
    assert.deepEqual(await discover(base), document);
    const [asked, { cache }] = fetch.mock.calls.at(-1).arguments;
    assert.deepEqual([String(asked), cache], [url, "no-store"]);
  }
});

test("who does not answer is unreachable", async (t) => {
  answer(t, new TypeError("Failed to fetch"));
  await assert.rejects(discover("http://localhost:1"), { code: "unreachable" });
});

/** It was unreachable, and so was tried again and again. */
test("what is no address is a bad URL, and is not tried again", async (t) => {
  answer(t, new TypeError("Failed to fetch"));
  for (const base of ["nonsense", undefined, "localhost:8080", "ws://localhost:8080"]) {
    const error = await discover(base).catch((error) => error);
    assert.deepEqual([error.code, mayComeBack(error)], ["bad-url", false], base);
  }
});

test("who answers something else is not Switchboard", async (t) => {
  for (const response of [new Response("", { status: 404 }), new Response("<p>"), Response.json(null), Response.json({ transports: 1 })]) {
    answer(t, response);
    await assert.rejects(discover("http://localhost:1"), { code: "not-switchboard" });
    t.mock.restoreAll();
  }
});

test("giving up is no fault of the server", async (t) => {
  answer(t, new TypeError("aborted"));
  await assert.rejects(discover("http://localhost:1", { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
});
