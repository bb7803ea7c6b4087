/** The doors of a server: what it tells of them, and whether they are open to this browser. And clients that come in by one door and no other. */

import { SignalingClient } from "../client.js";
import { failure } from "../src/codes.js";
import * as json from "../src/codec/json.js";
import * as msgpack from "../src/codec/msgpack.js";
import { withDeadline } from "../src/deadline.js";
import { available as hasWebSocket, open as openWebSocket } from "../src/transport/websocket.js";
import { available as hasWebTransport, open as openWebTransport } from "../src/transport/webtransport.js";
import { adviceOf, clockOf, detailOf, isDoorUrl, isRefusal, noDocument } from "./faults.js";
import { failed, millis, nothing, ok } from "./findings.js";

/** Back and forth so often. */
const ROUNDS = 5;

/** The two that are looked at, by the names that they have in the document: JSON over WebSocket, and WebTransport. */
export const DOORS = {
  websocket: { available: hasWebSocket, open: openWebSocket, codec: json },
  webtransport: { available: hasWebTransport, open: openWebTransport, codec: msgpack },
};

/**
 * @typedef {import("../src/discovery.js").TransportEntry} TransportEntry
 * @typedef {import("../src/signaling.js").Line} Line
 * @typedef {import("./findings.js").Finding} Finding
 *
 * @typedef {object} Patient a server, and how it is spoken to
 * @property {string} server
 * @property {string} [token]
 * @property {string} room
 * @property {boolean} isLong
 * @property {number} stepMs how long each step may take
 * @property {AbortSignal} signal gives up
 *
 * @typedef {object} Door
 * @property {keyof typeof DOORS} type
 * @property {TransportEntry} entry
 */

/**
 * Holds a step to its time. What it has opened is its own affair: it is told by the signal.
 * @template T
 * @param {Patient} patient
 * @param {(signal: AbortSignal) => Promise<T>} work
 * @param {number} [ms]
 * @returns {Promise<T>}
 */
export function inTime({ signal, stepMs }, work, ms = stepMs) {
  return withDeadline({ signal, ms, error: failure("timed-out", `not within ${ms} ms`) }, work);
}

/** Seconds that a step has, as they are told. @param {Patient} patient */
export const seconds = ({ stepMs }) => Math.round(stepMs / 1_000);

/**
 * Reads the document that tells of the doors.
 * @param {Patient} patient
 * @param {(finding: Finding) => void} tell
 * @returns {Promise<TransportEntry[] | undefined>}
 */
export async function discover(patient, tell) {
  const check = "discovery";
  try {
    const url = new URL(".well-known/switchboard", `${patient.server}/`);
    const askedAt = Date.now();
    const response = await inTime(patient, (signal) => fetch(url, { signal, cache: "no-store" }));
    const answeredAt = Date.now();
    const document = response.ok ? await inTime(patient, () => response.json().catch(() => undefined)) : undefined;
    if (!Array.isArray(document?.transports)) {
      const { detail, advice } = noDocument(response.status, { origin: location.origin });
      tell(failed(check, detail, advice));
      return undefined;
    }
    const urls = document.transports.map((/** @type {TransportEntry} */ { url }) => url).join(", ");
    tell(ok(check, ["check.discovery-ok", { version: String(document.version), urls }]));
    const date = response.headers.get("date");
    // A page of another origin is not shown it.
    tell(date === null && response.type === "cors" ? nothing("clock", ["check.clock-hidden"]) : clockOf(date ?? "", askedAt, answeredAt));
    return document.transports;
  } catch (fault) {
    patient.signal.throwIfAborted();
    const { code, message } = /** @type {any} */ (fault);
    const isMixed = isSecureContext && location.protocol === "https:" && patient.server.startsWith("http:");
    const detail = code === "timed-out" ? detailOf(fault, seconds(patient)) : /** @type {const} */ (["check.no-connection-because", { message: String(message) }]);
    tell(failed(check, [...detail], [isMixed ? "check.advice-mixed" : "check.advice-unreachable-server"]));
    return undefined;
  }
}

/**
 * Comes in by each door, and tells which are open.
 * @param {Patient} patient
 * @param {TransportEntry[]} transports
 * @param {keyof typeof DOORS} type
 * @param {(finding: Finding) => void} tell
 * @returns {Promise<Door | undefined>} if it is open
 */
export async function tryDoor(patient, transports, type, tell) {
  const entry = transports.find((transport) => transport.type === type);
  if (!entry) return void tell(nothing(type, ["check.door-off"]));
  if (!DOORS[type].available()) {
    // It is the page that lacks it, where the browser gives it to secure ones alone.
    tell(isSecureContext ? nothing(type, ["check.door-unsupported"]) : nothing(type, ["check.door-insecure"], ["check.advice-insecure"]));
    return undefined;
  }
  if (!isDoorUrl(type, entry.url)) return void tell(failed(type, ["check.door-url", { url: String(entry.url) }], ["check.advice-door-url"]));
  const door = { type, entry };
  try {
    const { greeting, round } = await inTime(patient, (signal) => visit(patient, door, signal));
    tell(ok(type, ["check.door-ok", { greeting: millis(greeting), round: millis(round) }]));
    return door;
  } catch (fault) {
    patient.signal.throwIfAborted();
    tell(failed(type, detailOf(fault, seconds(patient)), isRefusal(/** @type {any} */ (fault)) ? adviceOf(fault) : whyShut(door)));
    return undefined;
  }
}

/** @param {Door} door @returns {import("./findings.js").Said} */
function whyShut({ type, entry }) {
  if (type === "websocket") return ["check.advice-upgrade"];
  const { port, protocol } = new URL(entry.url);
  return ["check.advice-udp", { port: port || (protocol === "https:" ? "443" : "80") }];
}

/** @param {Patient} patient @param {Door} door @param {AbortSignal} signal */
async function visit(patient, door, signal) {
  const begun = performance.now();
  const client = await comeIn(patient, door, signal);
  try {
    const greeting = performance.now() - begun;
    const rounds = [];
    for (let i = 0; i < ROUNDS; i++) {
      const begun = performance.now();
      await orAborted(client.request("ping"), signal);
      rounds.push(performance.now() - begun);
    }
    return { greeting, round: rounds.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] };
  } finally {
    client.close();
  }
}

/**
 * A client that has been greeted, and does not come back by itself.
 * @param {Patient} patient
 * @param {Door} door
 * @param {AbortSignal} signal
 * @returns {Promise<SignalingClient>}
 */
export async function comeIn(patient, door, signal) {
  const client = new SignalingClient((options) => dial(door, options), { token: patient.token, reconnect: false });
  try {
    await client.connect({ signal });
    signal.throwIfAborted();
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}

/** Opens a connection by this door. @param {Door} door @param {{signal?: AbortSignal}} options @returns {Promise<Line>} */
export async function dial({ type, entry }, options) {
  const { open, codec } = DOORS[type];
  return { transport: await open(entry, options), codec };
}

/** The promise, or a rejection once the signal is aborted. @template T @param {Promise<T>} promise @param {AbortSignal} signal @returns {Promise<T>} */
export function orAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/**
 * The first event of this kind that is it; rejects when the client is over, or the signal aborted.
 * @param {SignalingClient} client
 * @param {string} type
 * @param {(detail: any) => boolean} isIt
 * @param {AbortSignal} signal
 * @returns {Promise<any>}
 */
export function heard(client, type, isIt, signal) {
  const listening = new AbortController();
  const found = new Promise((resolve, reject) => {
    const on = (/** @type {string} */ name, /** @type {(detail: any) => void} */ listener) =>
      EventTarget.prototype.addEventListener.call(client, name, (event) => listener(/** @type {CustomEvent} */ (event).detail), { signal: listening.signal });
    on(type, (detail) => isIt(detail) && resolve(detail));
    on("close", ({ code, reason }) => reject(failure(code, reason)));
  });
  return orAborted(found, signal).finally(() => listening.abort());
}
