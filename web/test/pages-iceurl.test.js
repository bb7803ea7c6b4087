import assert from "node:assert/strict";
import { test } from "node:test";

import { isInner, judgeStun, judgeTurn, oneByOne, parseIceUrl, written } from "../pages/iceurl.js";

const target = (url) => /** @type {import("../pages/iceurl.js").Target} */ (parseIceUrl(url));
const STUN = "stun:stun.example.org";
const TURN = "turn:turn.example.org";

test("a URL says whom to ask and how", () => {
  assert.deepEqual(parseIceUrl(STUN), { host: "stun.example.org", port: 3478, by: "UDP", relays: false });
  assert.deepEqual(parseIceUrl("turn:10.0.0.1:99?transport=tcp"), { host: "10.0.0.1", port: 99, by: "TCP", relays: true });
  assert.deepEqual(parseIceUrl("turn:[::1]:99?transport=udp"), { host: "::1", port: 99, by: "UDP", relays: true });
  assert.deepEqual(parseIceUrl("turns:[::1]"), { host: "::1", port: 5349, by: "TLS", relays: true });
  for (const url of ["https://example.org", "turn:host:port", "turn:host:0", "turn:host:65536", "turn:", "turn:host?transport=sctp", "stun:a b"]) {
    assert.equal(parseIceUrl(url), undefined, url);
  }
});

test("each URL is asked by itself, with its credentials", () => {
  const servers = [{ urls: STUN }, { urls: [TURN, `${TURN}?transport=tcp`], username: "us", credential: "secret" }];
  assert.deepEqual(oneByOne(servers), [
    { urls: STUN, username: undefined, credential: undefined },
    { urls: TURN, username: "us", credential: "secret" },
    { urls: `${TURN}?transport=tcp`, username: "us", credential: "secret" },
  ]);
});

test("what is no list of servers is told from an empty one", () => {
  assert.deepEqual(oneByOne([]), []);
  for (const servers of ["stun:a", {}, 7, [null], ["stun:a"], [{}], [{ urls: 7 }], [{ urls: [STUN, null] }]]) {
    assert.equal(oneByOne(/** @type {any} */ (servers)), undefined, JSON.stringify(servers));
  }
});

test("an inner address is known from one of the world", () => {
  for (const inner of ["127.0.0.1", "10.9.8.7", "172.16.0.1", "172.31.9.9", "192.168.1.1", "169.254.1.1", "100.64.0.1", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"]) {
    assert.equal(isInner(inner), true, inner);
  }
  for (const outer of ["1.1.1.1", "172.15.0.1", "172.32.0.1", "192.169.1.1", "100.63.0.1", "100.128.0.1", "2001:db8::1", "::ffff:1.1.1.1"]) {
    assert.equal(isInner(outer), false, outer);
  }
  assert.equal(written({ address: "::1", port: 9 }), "[::1]:9");
});

test("STUN works where it tells an address, or nothing that the browser has not shown", () => {
  const judge = (seen) => judgeStun(STUN, target(STUN), { isComplete: false, tellsErrors: true, errors: [], ...seen }, 10);
  assert.equal(judge({ mapped: "1.2.3.4:5", errors: [{ code: 701, text: "another network" }] }).outcome, "ok");
  assert.deepEqual(judge({ isComplete: true }).detail, ["check.stun-same", { url: STUN }]);
  // A browser that would not tell of silence has told nothing.
  const unsure = judge({ isComplete: true, tellsErrors: false });
  assert.deepEqual([unsure.outcome, unsure.detail], ["warning", ["check.stun-unsure", { url: STUN }]]);
  assert.deepEqual(judge({}).detail, ["check.ice-silent", { url: STUN, seconds: 10 }]);
  assert.equal(judge({ isComplete: true, errors: [{ code: 701, text: "timed out" }] }).outcome, "failed");
});

test("what a TURN server refuses, what does not come through and who is not there are told apart", () => {
  const judge = (seen, url = TURN) => {
    const { outcome, detail, advice } = judgeTurn(url, target(url), { isComplete: false, errors: [], ...seen }, 10);
    return [outcome, detail[0], advice?.[0]];
  };
  const [outside, inside] = [{ address: "1.2.3.4", port: 5 }, { address: "10.0.0.1", port: 5 }];
  const [away, no, full, other] = [701, 401, 486, 400].map((code) => ({ code, text: "" }));
  assert.deepEqual(judge({ relayed: outside, returnedMs: 1.25, errors: [away] }), ["ok", "check.turn-ok", undefined]);
  assert.deepEqual(judge({ relayed: outside }), ["failed", "check.turn-unreachable", "check.advice-unreachable"]);
  assert.deepEqual(judge({ relayed: inside }), ["warning", "check.turn-inner", "check.advice-inner"]);
  assert.deepEqual(judge({ errors: [away, no], isComplete: true }), ["failed", "check.ice-refused", "check.advice-credentials"]);
  assert.deepEqual(judge({ errors: [full] }), ["failed", "check.ice-refused", "check.advice-relays"]);
  assert.deepEqual(judge({ errors: [other] }), ["failed", "check.ice-refused", "check.advice-turn-log"]);
  assert.deepEqual(judge({ errors: [away] }), ["failed", "check.ice-error", "check.advice-port"]);
  assert.deepEqual(judge({ errors: [away] }, "turns:turn.example.org"), ["failed", "check.ice-error", "check.advice-tls"]);
  assert.deepEqual(judge({ isComplete: true }), ["failed", "check.ice-given-up", "check.advice-port"]);
  assert.deepEqual(judge({}), ["failed", "check.ice-silent", "check.advice-port"]);
  assert.deepEqual(judge({}, `${TURN}:443`), ["failed", "check.ice-silent", "check.advice-port"]);
  assert.deepEqual(judge({}, `${TURN}:99`), ["failed", "check.ice-silent", "check.advice-low-port"], "Chromium does not even ask");
});
