/** What sessions are for: that what one says reaches the other, that they outlive their connections, and that two of them find a direct line. */

import { SignalingClient } from "../client.js";
import { failure } from "../src/codes.js";
import { comeIn, dial, heard, inTime, orAborted, seconds } from "./check-doors.js";
import { adviceOf, detailOf } from "./faults.js";
import { failed, millis, nothing, ok } from "./findings.js";

/** As long as an offer is. */
const OFFER_BYTES = 2_048;
/** So many heartbeats show whether somebody on the way ends what is quiet. */
const HEARTBEATS = 3;

/**
 * @typedef {import("./check-doors.js").Patient} Patient
 * @typedef {import("./check-doors.js").Door} Door
 * @typedef {import("./findings.js").Finding} Finding
 * @typedef {import("../src/signaling.js").Transport & EventTarget} Transport
 */

/**
 * Sends an offer from one session to another, and an answer back.
 * @param {Patient} patient
 * @param {Door[]} open
 * @returns {Promise<Finding>}
 */
export async function forward(patient, open) {
  const check = "forward";
  const [there, back] = [open[0], open[open.length - 1]];
  try {
    const times = await inTime(patient, (signal) =>
      withTwo(patient, there, back, signal, async (sender, receiver) => [
        await pass(patient, sender, receiver, "offer", signal),
        await pass(patient, receiver, sender, "answer", signal),
      ]),
    );
    const values = { bytes: OFFER_BYTES, from: there.type, to: back.type, there: millis(times[0]), back: millis(times[1]) };
    return ok(check, ["check.forward-ok", values]);
  } catch (fault) {
    patient.signal.throwIfAborted();
    return failed(check, detailOf(fault, seconds(patient)), adviceOf(fault));
  }
}

/**
 * @param {Patient} patient
 * @param {SignalingClient} from
 * @param {SignalingClient} to
 * @param {"offer" | "answer"} kind
 * @param {AbortSignal} signal
 */
async function pass({ room }, from, to, kind, signal) {
  const payload = "x".repeat(OFFER_BYTES);
  const begun = performance.now();
  const arrived = heard(to, kind, (message) => message.from === from.peerId, signal);
  const [message] = await Promise.all([arrived, orAborted(from.request(kind, { to: to.peerId, room, payload }), signal)]);
  if (message.payload !== payload) throw new Error("it arrives as something else");
  return performance.now() - begun;
}

/**
 * Two clients in the room, who are gone when this is over.
 * @template T
 * @param {Patient} patient
 * @param {Door} first
 * @param {Door} last
 * @param {AbortSignal} signal
 * @param {(first: SignalingClient, last: SignalingClient) => Promise<T>} work
 * @returns {Promise<T>}
 */
async function withTwo(patient, first, last, signal, work) {
  /** @type {SignalingClient[]} */
  const clients = [];
  try {
    for (const door of [first, last]) {
      const client = await comeIn(patient, door, signal);
      clients.push(client);
      await orAborted(client.join(patient.room), signal);
    }
    return await work(clients[0], clients[1]);
  } finally {
    for (const client of clients) client.close();
  }
}

/**
 * Breaks a connection, says something to its session meanwhile, and comes back for it.
 * @param {Patient} patient
 * @param {Door[]} open
 * @returns {Promise<Finding>}
 */
export async function resume(patient, open) {
  const check = "resume";
  const [from, to] = [open[0], open[open.length - 1]];
  const begun = performance.now();
  try {
    const resumed = await inTime(patient, (signal) => comeBack(patient, from, to, signal));
    if (!resumed) return failed(check, ["check.resume-forgotten"], ["check.advice-resume"]);
    return ok(check, ["check.resume-ok", { from: from.type, to: to.type, ms: millis(performance.now() - begun) }]);
  } catch (fault) {
    patient.signal.throwIfAborted();
    return failed(check, detailOf(fault, seconds(patient)), adviceOf(fault));
  }
}

/** @param {Patient} patient @param {Door} from @param {Door} to @param {AbortSignal} signal @returns {Promise<boolean>} is it the same session? */
async function comeBack(patient, from, to, signal) {
  /** @type {Severable | undefined} */
  let line;
  /** @type {() => void} */
  let said = () => {};
  const isSaid = new Promise((resolve) => (said = () => resolve(undefined)));
  const away = new SignalingClient(
    async (options) => {
      if (line) {
        await orAborted(isSaid, signal);
        return dial(to, options);
      }
      const { transport, codec } = await dial(from, options);
      return { transport: (line = new Severable(/** @type {Transport} */ (transport))), codec };
    },
    { token: patient.token },
  );
  /** @type {SignalingClient | undefined} */
  let other;
  try {
    await away.connect({ signal });
    await orAborted(away.join(patient.room), signal);
    other = await comeIn(patient, to, signal);
    await orAborted(other.join(patient.room), signal);
    const { peerId } = other;
    const arrived = heard(away, "message", (message) => message.from === peerId, signal);
    const back = heard(away, "state", ({ state }) => state === "connected", signal);
    // Whichever fails first is told; the other is not to be left alone with it.
    for (const promise of [arrived, back]) promise.catch(() => {});
    line?.cut();
    await orAborted(other.request("message", { room: patient.room, to: away.peerId, payload: "meanwhile" }), signal);
    said();
    if (!(await back).resumed) return false;
    await arrived;
    return true;
  } finally {
    away.close();
    other?.close();
    line?.end();
  }
}

/** A transport that can be lost: the client hears and says nothing any more, and the server is not told. */
class Severable extends EventTarget {
  #transport;
  #isCut = false;

  /** @param {Transport} transport */
  constructor(transport) {
    super();
    this.#transport = transport;
    this.type = transport.type;
    for (const type of ["message", "close"]) {
      transport.addEventListener(type, (event) => this.#isCut || this.dispatchEvent(new CustomEvent(type, { detail: /** @type {CustomEvent} */ (event).detail })));
    }
  }

  start() {
    this.#transport.start();
  }

  /** @param {any} frame */
  send(frame) {
    if (!this.#isCut) this.#transport.send(frame);
  }

  /** @param {any} frame */
  sendBestEffort(frame) {
    return !this.#isCut && this.#transport.sendBestEffort(frame);
  }

  /** Not once it is lost: closing it would end the session. */
  close() {
    if (!this.#isCut) this.#transport.close();
  }

  cut() {
    this.#isCut = true;
    this.dispatchEvent(new CustomEvent("close", { detail: { reason: "cut" } }));
  }

  end() {
    this.#transport.close();
  }
}

/**
 * Has two peers of this page find a direct line by the server's signaling, and says something over it and back.
 * @param {Patient} patient
 * @param {Door[]} open
 * @returns {Promise<Finding>}
 */
export async function direct(patient, open) {
  const check = "direct";
  if (typeof RTCPeerConnection !== "function") return nothing(check, ["check.no-webrtc"], ["check.advice-no-webrtc"]);
  let state = "";
  try {
    const { ms, way } = await inTime(patient, (signal) =>
      // Who came first may not have heard yet of who came last.
      withTwo(patient, open[0], open[open.length - 1], signal, (first, last) =>
        call(last, first, signal, (connection) => (state = connection.iceConnectionState)),
      ),
    );
    return ok(check, ["check.direct-ok", { way, ms: millis(ms) }]);
  } catch (fault) {
    patient.signal.throwIfAborted();
    const { code } = /** @type {any} */ (fault);
    if (code !== "timed-out" && code !== "line-failed") return failed(check, detailOf(fault, seconds(patient)), adviceOf(fault));
    return failed(check, ["check.direct-none", { seconds: seconds(patient), state }], ["check.advice-direct"]);
  }
}

/**
 * @param {SignalingClient} caller
 * @param {SignalingClient} called
 * @param {AbortSignal} signal
 * @param {(connection: RTCPeerConnection) => void} watch
 */
async function call(caller, called, signal, watch) {
  const listening = new AbortController();
  const until = { signal: listening.signal };
  try {
    called.room?.addEventListener(
      "link",
      // Whoever else is in the room is not meant.
      ({ detail: link }) => link.remoteId === caller.peerId && link.addEventListener("message", ({ detail }) => void link.send(detail), until),
      until,
    );
    const link = /** @type {import("../src/room.js").Room} */ (caller.room).connect(/** @type {string} */ (called.peerId));
    const { connection } = link;
    watch(connection);
    connection.addEventListener("iceconnectionstatechange", () => watch(connection), until);
    let begun = 0;
    const returned = new Promise((resolve, reject) => {
      const begin = () => {
        if (link.state === "connected" && begun === 0) (begun = performance.now()), link.send("there and back");
        if (link.isOver) reject(link.error ?? failure("line-failed", "the line was closed"));
      };
      link.addEventListener("state", begin, until);
      link.addEventListener("message", () => resolve(performance.now() - begun), until);
    });
    const ms = /** @type {number} */ (await orAborted(returned, signal));
    const { localCandidate = "?", remoteCandidate = "?", protocol = "?" } = await orAborted(link.stats(), signal);
    return { ms, way: `${localCandidate} - ${remoteCandidate}, ${protocol}` };
  } finally {
    listening.abort();
  }
}

/**
 * Waits by a door, and says nothing but what keeps the client sure that the server is there.
 * @param {Patient} patient
 * @param {Door} door
 * @returns {Promise<Finding>}
 */
export async function idle(patient, door) {
  const check = "idle";
  /** @type {SignalingClient | undefined} */
  let client;
  try {
    const come = (client = await inTime(patient, (signal) => comeIn(patient, door, signal)));
    const begun = performance.now();
    const waitMs = come.welcome.heartbeatMs * HEARTBEATS;
    const isOver = heard(come, "close", () => true, patient.signal).then(
      () => true,
      () => (patient.signal.throwIfAborted(), true),
    );
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const stays = new Promise((resolve) => (timer = setTimeout(() => resolve(false), waitMs)));
    const ended = await Promise.race([isOver, stays]).finally(() => clearTimeout(timer));
    const waited = Math.round((performance.now() - begun) / 1_000);
    if (ended) return failed(check, ["check.idle-ended", { door: door.type, seconds: waited }], ["check.advice-idle"]);
    return ok(check, ["check.idle-ok", { door: door.type, seconds: waited }]);
  } catch (fault) {
    patient.signal.throwIfAborted();
    return failed(check, detailOf(fault, seconds(patient)), adviceOf(fault));
  } finally {
    client?.close();
  }
}
