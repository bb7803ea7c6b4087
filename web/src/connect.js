/**
 * From a base URL to a connected client: finds the doors, picks one, and holds what is said there to the time that the caller has.
 * The only place that knows that there are several transports.
 */

import { failure } from "./codes.js";
import { decode as readJson, encode as writeJson } from "./codec/json.js";
import { decode as readMsgpack, subprotocol, encode as writeMsgpack } from "./codec/msgpack.js";
import { withDeadline } from "./deadline.js";
import { discover } from "./discovery.js";
import { recall, remember } from "./memory.js";
import { SignalingClient } from "./signaling.js";
import { available as hasWebSocket, open as openWebSocket } from "./transport/websocket.js";
import { available as hasWebTransport, open as openWebTransport } from "./transport/webtransport.js";

/** Where UDP is blocked, WebTransport does not fail but stays silent. So long a door has the way for itself before the next is tried as well. */
const HEAD_START_MS = 500;

/** @type {Record<"json" | "msgpack", import("./signaling.js").Codec & {subprotocol?: string}>} */
const CODECS = { json: { encode: writeJson, decode: readJson }, msgpack: { encode: writeMsgpack, decode: readMsgpack, subprotocol } };

/** In the order of our preference, each with the codec that it speaks unless another is asked for. */
const DOORS = [
  { type: "webtransport", available: hasWebTransport, open: openWebTransport, codecs: ["msgpack"] },
  { type: "websocket", available: hasWebSocket, open: openWebSocket, codecs: ["json", "msgpack"] },
];

/**
 * @typedef {object} ConnectOptions
 * @property {string} [room] to be entered
 * @property {unknown} [metadata] what others in the room see of us; any JSON value
 * @property {boolean} [mesh] a direct line to everybody in that room, without being asked for
 * @property {RTCIceServer[]} [iceServers] STUN and TURN servers for the lines in that room, beside those that the server names
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] of the lines in that room; `relay` shows nobody our addresses
 * @property {string | (() => string | Promise<string>)} [token] who we are; a function is asked for each connection
 * @property {"auto" | "webtransport" | "websocket"} [transport] auto: WebTransport, unless WebSocket is there first
 * @property {"json" | "msgpack"} [codec] for WebSocket; json unless it is said otherwise
 * @property {AbortSignal} [signal] gives up, while connecting
 * @property {number} [timeoutMs] for everything together; 10,000 unless it is said otherwise
 * @property {number} [retries] how often the first attempt is repeated; 3 unless it is said otherwise
 * @property {boolean} [reconnect] come back by itself after a connection was lost; true unless it is said otherwise
 */

/**
 * Connects to a server, and enters a room if one is given. Settles when the server has let us in (and the room too); rejects with an Error
 * whose `code` stands in `codes.js`, or with the signal's reason.
 *
 * Events that come after the room was entered wait until whoever awaits this promise had a turn: add listeners right away and
 * none is missed.
 * @overload
 * @param {string | URL} baseUrl of the server, such as `http://localhost:8080`
 * @param {ConnectOptions & {room: string}} options
 * @returns {Promise<SignalingClient & {readonly room: import("./room.js").Room}>}
 */
/**
 * @overload
 * @param {string | URL} baseUrl
 * @param {ConnectOptions} [options]
 * @returns {Promise<SignalingClient>}
 */
/**
 * @param {string | URL} baseUrl
 * @param {ConnectOptions} [options]
 * @returns {Promise<SignalingClient>}
 */
export async function connect(baseUrl, options = {}) {
  const { room, metadata, token, transport = "auto", codec, signal, timeoutMs = 10_000, retries = 3, reconnect = true } = options;
  const client = new SignalingClient((options) => dial(baseUrl, { transport, codec, ...options }), { token, retries, reconnect });
  const error = failure("connect-timeout", `${baseUrl} did not let us in within ${timeoutMs} ms`);
  try {
    await withDeadline({ signal, ms: timeoutMs, error }, async (signal) => {
      await client.connect({ signal });
      if (room !== undefined) await client.join(room, metadata, options);
    });
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/**
 * Opens the first door that works.
 * @param {string | URL} baseUrl
 * @param {{transport: string, codec?: "json" | "msgpack", signal?: AbortSignal}} options
 * @returns {Promise<import("./signaling.js").Line>}
 */
async function dial(baseUrl, { transport: choice, codec, signal }) {
  const { transports } = await discover(baseUrl, { signal });
  const doors = DOORS.filter(({ type }) => choice === "auto" || choice === type).flatMap(({ type, available, open, codecs }) => {
    const entry = transports.find((entry) => entry.type === type);
    const spoken = CODECS[/** @type {"json" | "msgpack"} */ (codec && codecs.includes(codec) ? codec : codecs[0])];
    return entry && available() ? [{ type, open, entry, codec: spoken }] : [];
  });
  if (doors.length === 0) throw failure("unsupported", `no ${choice === "auto" ? "transport" : choice} that both this browser and the server have`);

  const first = recall(baseUrl);
  doors.sort((a, b) => Number(b.type === first) - Number(a.type === first));
  const { line, door } = await race(doors, signal);
  // Only where the preferred one was tried first: what is remembered is no proof of itself, and would otherwise be renewed for ever.
  if (first === undefined && door.type !== DOORS[0].type && doors.length > 1) remember(baseUrl, door.type);
  return line;
}

/**
 * Tries one door after another, each with a head start before the next, and takes the first that opens. The others are given up.
 * @template {{open: Function, entry: object, codec: {subprotocol?: string}}} Door
 * @param {Door[]} doors
 * @param {AbortSignal} [signal]
 * @returns {Promise<{line: any, door: Door}>}
 */
function race(doors, signal) {
  return new Promise((resolve, reject) => {
    const losers = new AbortController();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let next;
    let [begun, failed, isOver] = [0, 0, false];
    const end = () => {
      isOver = true;
      clearTimeout(next);
      signal?.removeEventListener("abort", aborted);
      losers.abort(failure("closed", "another door was opened"));
    };
    const aborted = () => (end(), reject(signal?.reason));
    const begin = async () => {
      clearTimeout(next);
      const door = doors[begun++];
      if (!door || isOver) return;
      if (begun < doors.length) next = setTimeout(begin, HEAD_START_MS);
      try {
        const transport = await door.open(door.entry, { subprotocol: door.codec.subprotocol, signal: losers.signal });
        if (isOver) return transport.close();
        end();
        resolve({ line: { transport, codec: door.codec }, door });
      } catch (error) {
        if (isOver) return;
        if (++failed === doors.length) return end(), reject(error);
        if (failed === begun) void begin();
      }
    };
    if (signal?.aborted) return aborted();
    signal?.addEventListener("abort", aborted);
    void begin();
  });
}
