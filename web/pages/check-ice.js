/** The STUN and TURN servers that clients are told of, each URL by itself, asked by the browser for what it is there for. */

import { comeIn, inTime, orAborted, seconds } from "./check-doors.js";
import { adviceOf, detailOf } from "./faults.js";
import { failed, nothing } from "./findings.js";
import { judgeStun, judgeTurn, oneByOne, parseIceUrl, written } from "./iceurl.js";
import { readCandidate } from "./steps.js";

/**
 * @typedef {import("./check-doors.js").Patient} Patient
 * @typedef {import("./check-doors.js").Door} Door
 * @typedef {import("./findings.js").Finding} Finding
 * @typedef {import("./iceurl.js").IceServer} IceServer
 * @typedef {import("./iceurl.js").IceError} IceError
 */

/**
 * Asks every server that a client is told of now, one after another.
 * @param {Patient} patient
 * @param {Door} door
 * @param {(finding: Finding) => void} tell
 * @param {(url: string) => void} begin is told which one is asked next
 */
export async function askIceServers(patient, door, tell, begin) {
  const check = "turn";
  if (typeof RTCPeerConnection !== "function") return tell(nothing(check, ["check.no-webrtc"], ["check.advice-no-webrtc"]));
  let client;
  try {
    client = await inTime(patient, (signal) => comeIn(patient, door, signal));
  } catch (fault) {
    patient.signal.throwIfAborted();
    return tell(failed(check, detailOf(fault, seconds(patient)), adviceOf(fault)));
  }
  try {
    const servers = oneByOne(client.welcome.iceServers ?? []);
    if (!servers) return tell(failed(check, ["check.ice-list"], ["check.advice-ice-list"]));
    if (servers.length === 0) tell(nothing(check, ["check.no-ice"], ["check.advice-no-ice"]));
    for (const server of servers) {
      begin(server.urls);
      tell(await ask(patient, server));
    }
  } finally {
    // The credentials are good for as long as the session is there.
    client.close();
  }
}

/** @param {Patient} patient @param {IceServer} server @returns {Promise<Finding>} */
async function ask(patient, server) {
  const { urls: url } = server;
  const target = parseIceUrl(url);
  if (!target) return failed("turn", ["check.ice-url", { url }], ["check.advice-ice-url"]);
  try {
    if (target.relays) return judgeTurn(url, target, await relay(patient, server), seconds(patient));
    return judgeStun(url, target, await reflect(patient, server), seconds(patient));
  } catch (fault) {
    patient.signal.throwIfAborted();
    const { message } = /** @type {Error} */ (fault);
    return failed(target.relays ? "turn" : "stun", ["check.ice-unusable", { url, message }], ["check.advice-ice-url"]);
  }
}

/** By what address a STUN server sees this browser. @param {Patient} patient @param {IceServer} server */
async function reflect(patient, server) {
  const tellsErrors = "onicecandidateerror" in RTCPeerConnection.prototype;
  const seen = { mapped: /** @type {string | undefined} */ (undefined), isComplete: false, tellsErrors, errors: /** @type {IceError[]} */ ([]) };
  const connection = new RTCPeerConnection({ iceServers: [server] });
  try {
    await untilOver(patient, async (signal) => {
      const found = new Promise((resolve) => {
        noteErrors(connection, seen.errors);
        connection.onicecandidate = ({ candidate }) => {
          const read = readCandidate(candidate?.candidate);
          if (read?.type !== "srflx") return;
          seen.mapped = written(read);
          resolve(undefined);
        };
        connection.onicegatheringstatechange = () => {
          seen.isComplete = connection.iceGatheringState === "complete";
          if (seen.isComplete) resolve(undefined);
        };
      });
      connection.createDataChannel("check");
      await connection.setLocalDescription();
      await orAborted(found, signal);
    });
    return seen;
  } finally {
    connection.close();
  }
}

/** A line from this page to itself, both ends of which have nothing but a relay of this server. @param {Patient} patient @param {IceServer} server */
async function relay(patient, server) {
  /** @type {{relayed?: {address: string, port: string}, returnedMs?: number, isComplete: boolean, errors: IceError[]}} */
  const seen = { isComplete: false, errors: [] };
  const configuration = { iceServers: [server], iceTransportPolicy: /** @type {const} */ ("relay") };
  const caller = new RTCPeerConnection(configuration);
  const called = new RTCPeerConnection(configuration);
  try {
    await untilOver(patient, async (signal) => {
      const over = new Promise((resolve, reject) => {
        noteErrors(caller, seen.errors);
        caller.onicegatheringstatechange = () => {
          seen.isComplete = caller.iceGatheringState === "complete";
          // Without a relay there is nothing more to wait for.
          if (seen.isComplete && !seen.relayed) resolve(undefined);
        };
        caller.oniceconnectionstatechange = () => caller.iceConnectionState === "failed" && resolve(undefined);
        const channel = caller.createDataChannel("check");
        let begun = 0;
        channel.onopen = () => ((begun = performance.now()), channel.send("there and back"));
        channel.onmessage = () => ((seen.returnedMs = performance.now() - begun), resolve(undefined));
        called.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => channel.send(data));
        introduce(caller, called, (read) => (seen.relayed ??= read)).catch(reject);
      });
      await orAborted(over, signal);
    });
    return seen;
  } finally {
    caller.close();
    called.close();
  }
}

/**
 * Has two connections of this page know of each other, without any server.
 * @param {RTCPeerConnection} caller
 * @param {RTCPeerConnection} called
 * @param {(relayed: {address: string, port: string}) => void} relayed
 */
async function introduce(caller, called, relayed) {
  /** @type {() => void} */
  let described = () => {};
  const areDescribed = new Promise((resolve) => (described = () => resolve(undefined)));
  for (const [from, to] of [[caller, called], [called, caller]]) {
    from.onicecandidate = async ({ candidate }) => {
      const read = readCandidate(candidate?.candidate);
      if (from === caller && read?.type === "relay") relayed(read);
      await areDescribed;
      // One end may be closed by then.
      if (candidate) await to.addIceCandidate(candidate).catch(() => {});
    };
  }
  await caller.setLocalDescription();
  await called.setRemoteDescription(/** @type {RTCSessionDescription} */ (caller.localDescription));
  await called.setLocalDescription();
  await caller.setRemoteDescription(/** @type {RTCSessionDescription} */ (called.localDescription));
  described();
}

/** Where the time is over, what was seen until then is the answer. @param {Patient} patient @param {(signal: AbortSignal) => Promise<void>} work */
async function untilOver(patient, work) {
  try {
    await inTime(patient, work);
  } catch (fault) {
    if (/** @type {any} */ (fault).code !== "timed-out") throw fault;
  }
}

/** @param {RTCPeerConnection} connection @param {IceError[]} errors */
function noteErrors(connection, errors) {
  connection.onicecandidateerror = ({ errorCode, errorText }) => void errors.push({ code: errorCode, text: errorText });
}
