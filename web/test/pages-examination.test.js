import assert from "node:assert/strict";
import { test } from "node:test";

import { examine } from "../pages/examination.js";
import { ok } from "../pages/findings.js";

const fine = (check) => ok(check, ["check.clock-same"]);

/** Checks that find everything fine, but for what is given; and what was asked of them. */
function checksWith(changes = {}) {
  const asked = [];
  const note = (name, ...values) => void asked.push([name, ...values]);
  const checks = {
    discover: async (_, tell) => (tell(fine("discovery")), tell(fine("clock")), []),
    tryDoor: async (_, __, type, tell) => (tell(fine(type)), { type, entry: { type, url: "" } }),
    forward: async (_, open) => (note("forward", open.map(({ type }) => type)), fine("forward")),
    resume: async (_, open) => (note("resume", open.map(({ type }) => type)), fine("resume")),
    askIceServers: async (_, door, tell, begin) => (note("turn", door.type), begin("turn:a"), tell(fine("turn"))),
    direct: async () => fine("direct"),
    idle: async (_, door) => (note("idle", door.type), fine("idle")),
    ...changes,
  };
  return { checks, asked };
}

async function examined({ checks }, { isLong = false, signal = new AbortController().signal } = {}) {
  const told = { findings: [], begun: [] };
  const patient = { server: "http://localhost:8080", room: "r", isLong, stepMs: 1_000, signal };
  const over = examine(patient, checks, { found: ({ check, outcome }) => told.findings.push(`${check} ${outcome}`), begin: (...what) => told.begun.push(what) });
  return over.then(() => told, (error) => Object.assign(told, { error }));
}

const oks = (...checks) => checks.map((check) => `${check} ok`);
const skips = (...checks) => checks.map((check) => `${check} skipped`);

test("everything is looked at in its order, and how far it is goes one way", async () => {
  const all = checksWith();
  const { findings, begun } = await examined(all, { isLong: true });
  assert.deepEqual(findings, oks("discovery", "clock", "websocket", "webtransport", "forward", "resume", "turn", "direct", "idle", "idle"));
  assert.deepEqual(begun.map(([what]) => what), ["discovery", "websocket", "webtransport", "forward", "resume", "turn", "turn:a", "direct", "idle"]);
  const done = begun.map(([, done]) => done);
  assert.deepEqual(done, [...done].sort((a, b) => a - b));
  assert.ok(begun.every(([, done, of]) => done < of && of === 8));
  assert.deepEqual(all.asked.filter(([name]) => name === "idle"), [["idle", "websocket"], ["idle", "webtransport"]]);
});

test("without the document nothing else is asked, nor told as if it failed", async () => {
  const { findings } = await examined(checksWith({ discover: async () => undefined }));
  assert.deepEqual(findings, skips("clock", "websocket", "webtransport", "forward", "resume", "turn", "direct"));
  const long = await examined(checksWith({ discover: async () => undefined }), { isLong: true });
  assert.equal(long.findings.at(-1), "idle skipped");
});

test("one open door is enough for the rest, and without any there is none", async () => {
  const one = checksWith({ tryDoor: async (_, __, type, tell) => (tell(fine(type)), type === "webtransport" ? { type, entry: { type, url: "" } } : undefined) });
  await examined(one);
  assert.deepEqual(one.asked, [["forward", ["webtransport"]], ["resume", ["webtransport"]], ["turn", "webtransport"]]);
  const none = checksWith({ tryDoor: async () => undefined });
  const { findings } = await examined(none);
  assert.deepEqual([findings.slice(2), none.asked], [skips("forward", "resume", "turn", "direct"), []]);
});

test("what fails is no reason to leave out what does not need it", async () => {
  const { findings } = await examined(checksWith({ forward: async () => ({ ...fine("forward"), outcome: "failed" }) }));
  assert.deepEqual(findings.slice(4), ["forward failed", ...oks("resume", "turn", "direct")]);
});

test("an examination that is given up asks nothing more", async () => {
  const stop = new AbortController();
  const all = checksWith({ forward: async () => (stop.abort(new Error("enough")), fine("forward")) });
  const { findings, error } = await examined(all, { signal: stop.signal });
  assert.equal(error.message, "enough");
  assert.deepEqual([findings.at(-1), all.asked], ["forward ok", []]);
});
