import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceOf, clockOf, detailOf, isDoorUrl, isRefusal, noDocument } from "../pages/faults.js";
import { TABLES } from "../pages/i18n.js";
import { CLOSE_CODES, ERROR_CODES, failure } from "../src/codes.js";

const NOON = Date.parse("2026-03-01T12:00:00Z");
const header = (offsetMs) => new Date(NOON + offsetMs).toUTCString();

test("a clock is off by what cannot be the time that the answer took, nor the rest of a second", () => {
  const cases = [
    [0, "ok", "check.clock-same"],
    [-1_000, "ok", "check.clock-same"],
    [-2_000, "ok", "check.clock-same"],
    [-5_000, "ok", "check.clock-behind", 4],
    [5_000, "ok", "check.clock-ahead", 4],
    [-30_000, "warning", "check.clock-behind", 29],
    [30_000, "warning", "check.clock-ahead", 29],
    [-3_600_000, "failed", "check.clock-behind", 3_599],
    [3_600_000, "failed", "check.clock-ahead", 3_599],
  ];
  for (const [offset, outcome, key, seconds] of cases) {
    // The answer took a second.
    const finding = clockOf(header(offset), NOON, NOON + 1_000);
    assert.deepEqual([finding.outcome, finding.detail[0], finding.detail[1]?.seconds], [outcome, key, seconds], `${offset}`);
    assert.equal(finding.advice !== undefined, outcome !== "ok");
  }
  assert.deepEqual([clockOf("", NOON, NOON).outcome, clockOf("noon", NOON, NOON).detail], ["warning", ["check.clock-none"]]);
});

test("what a server refuses is told by its code, and every advice is a sentence", () => {
  for (const { slug } of [...CLOSE_CODES, ...ERROR_CODES]) {
    const fault = failure(slug, "no");
    assert.ok(isRefusal(fault), slug);
    assert.deepEqual(detailOf(fault, 10), ["check.refused", { code: slug, message: "no" }]);
    assert.ok(Object.hasOwn(TABLES.en, adviceOf(fault)[0]), adviceOf(fault)[0]);
  }
  assert.deepEqual(adviceOf(failure("unauthorized", "")), ["check.advice-unauthorized"]);
  assert.deepEqual(adviceOf(failure("too-deep", "")), ["check.advice-log"]);
});

test("who does not answer has refused nothing", () => {
  for (const code of ["unreachable", "connect-timeout", "timed-out", "connection-lost"]) assert.equal(isRefusal(failure(code, "")), false, code);
  assert.equal(isRefusal(new TypeError("a mistake")), false);
  assert.deepEqual(detailOf(failure("timed-out", ""), 7), ["check.silent", { seconds: 7 }]);
  assert.deepEqual(detailOf(failure("unreachable", "", { cause: new Error("Opening handshake failed.") }), 7), ["check.no-connection-because", { message: "Opening handshake failed." }]);
  assert.deepEqual(detailOf(failure("unreachable", ""), 7), ["check.no-connection"]);
  assert.deepEqual(detailOf(new TypeError("a mistake"), 7), ["check.unexpected", { message: "a mistake" }]);
});

/** A browser's own faults have numbers for codes, and one was told as the server's: "refused as 12". */
test("what the browser itself throws is no refusal of the server", () => {
  const fault = new DOMException("not a URL", "SyntaxError");
  assert.equal(fault.code, 12);
  assert.equal(isRefusal(fault), false);
  assert.deepEqual(detailOf(fault, 7), ["check.unexpected", { message: "not a URL" }]);
});

test("a door's URL is one that the browser can open", () => {
  for (const url of ["ws://localhost:8080/ws", "wss://example.org/ws"]) assert.ok(isDoorUrl("websocket", url), url);
  assert.ok(isDoorUrl("webtransport", "https://[::1]:8080/wt"));
  for (const url of [undefined, "", "/ws", "wss://", "https://example.org/ws"]) assert.equal(isDoorUrl("websocket", url), false, url);
  for (const url of [undefined, "https://a b/wt", "http://localhost/wt", "wss://example.org/wt"]) assert.equal(isDoorUrl("webtransport", url), false, url);
});

test("each answer that is no document has its own way out", () => {
  const advice = (status) => noDocument(status, { origin: "https://app.example.org" }).advice;
  assert.deepEqual(advice(403), ["check.advice-origin", { origin: "https://app.example.org" }]);
  assert.deepEqual(advice(404), ["check.advice-path"]);
  assert.deepEqual(advice(502), ["check.advice-proxy"]);
  assert.deepEqual(advice(200), ["check.advice-somebody-else"]);
  assert.deepEqual(advice(500), ["check.advice-log"]);
});
