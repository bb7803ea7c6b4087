/**
 * The order in which a server is looked at, and what needs what: what cannot be asked because of what was found before is told as skipped, so that the
 * first thing that is wrong stands out. Knows the checks by what they are given and give back alone.
 */

import { skipped } from "./findings.js";

/**
 * @typedef {import("./check-doors.js").Patient} Patient
 * @typedef {import("./check-doors.js").Door} Door
 * @typedef {import("./findings.js").Finding} Finding
 *
 * @typedef {object} Checks see `check-doors.js`, `check-sessions.js`, `check-ice.js`
 * @property {(patient: Patient, tell: (finding: Finding) => void) => Promise<import("../src/discovery.js").TransportEntry[] | undefined>} discover
 * @property {(patient: Patient, transports: import("../src/discovery.js").TransportEntry[], type: Door["type"], tell: (finding: Finding) => void) =>
 * Promise<Door | undefined>} tryDoor
 * @property {(patient: Patient, open: Door[]) => Promise<Finding>} forward
 * @property {(patient: Patient, open: Door[]) => Promise<Finding>} resume
 * @property {(patient: Patient, door: Door, tell: (finding: Finding) => void, begin: (url: string) => void) => Promise<void>} askIceServers
 * @property {(patient: Patient, open: Door[]) => Promise<Finding>} direct
 * @property {(patient: Patient, door: Door) => Promise<Finding>} idle
 *
 * @typedef {object} Told
 * @property {(finding: Finding) => void} found
 * @property {(what: string, done: number, of: number) => void} begin something is looked at now: the name of the check, or a URL
 */

/** What is looked at by everybody, in this order; `idle` comes behind it. */
const STEPS = ["discovery", "websocket", "webtransport", "forward", "resume", "turn", "direct"];

/**
 * Examines a server. Settles when everything was told; rejects with the signal's reason when it is given up.
 * @param {Patient} patient
 * @param {Checks} checks
 * @param {Told} told
 */
export async function examine(patient, checks, { found, begin }) {
  const steps = patient.isLong ? [...STEPS, "idle"] : STEPS;
  const step = (/** @type {string} */ name, what = name) => {
    patient.signal.throwIfAborted();
    begin(what, steps.indexOf(name), steps.length);
  };
  const skip = (/** @type {string} */ after, /** @type {string} */ wanting) => {
    for (const check of steps.slice(steps.indexOf(after) + 1)) found(skipped(check, wanting));
  };

  step("discovery");
  const transports = await checks.discover(patient, found);
  if (!transports) {
    found(skipped("clock", "discovery"));
    return skip("discovery", "discovery");
  }

  const open = [];
  for (const type of /** @type {const} */ (["websocket", "webtransport"])) {
    step(type);
    const door = await checks.tryDoor(patient, transports, type, found);
    if (door) open.push(door);
  }
  if (open.length === 0) return skip("webtransport", "websocket, webtransport");

  step("forward");
  found(await checks.forward(patient, open));
  step("resume");
  found(await checks.resume(patient, open));
  step("turn");
  await checks.askIceServers(patient, open[0], found, (url) => step("turn", url));
  step("direct");
  found(await checks.direct(patient, open));
  if (!patient.isLong) return;
  step("idle");
  const waited = await Promise.allSettled(open.map((door) => checks.idle(patient, door)));
  patient.signal.throwIfAborted();
  for (const result of waited) {
    if (result.status === "rejected") throw result.reason;
    found(result.value);
  }
}
