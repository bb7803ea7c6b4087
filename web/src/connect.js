/**
 * From a base URL to a connected client: finds the doors, picks one, and holds what is said there to the time that the caller has.
 * The only place that knows that there are several transports.
 */

import { failure } from "./codes.js";
import * as json from "./codec/json.js";
import * as msgpack from "./codec/msgpack.js";
import { withDeadline } from "./deadline.js";
import { discover } from "./discovery.js";
import { SignalingClient } from "./signaling.js";
import * as websocket from "./transport/websocket.js";
import * as webtransport from "./transport/webtransport.js";

/** Where UDP is blocked, WebTransport does not fail but stays silent; so long it may, before `auto` goes on to the next door. */
const FIRST_CHOICE_MS = 3_000;

/** In the order of our preference. */
const DOORS = [
  { type: "webtransport", transport: webtransport, codec: msgpack },
  { type: "websocket", transport: websocket, codec: json },
];

/**
 * Connects to a server, and enters a room if one is given. Settles when the server has let us in (and the room too); rejects with an Error
 * whose `code` stands in `codes.js`, or with the signal's reason.
 *
 * Events that come after the room was entered wait until whoever awaits this promise had a turn: add listeners right away and
 * none is missed.
 * @param {string | URL} baseUrl of the server, such as `http://localhost:8080`
 * @param {object} [options]
 * @param {string} [options.room]
 * @param {unknown} [options.metadata] what others in the room see of us; any JSON value
 * @param {"auto" | "webtransport" | "websocket"} [options.transport] auto: WebTransport, else WebSocket
 * @param {AbortSignal} [options.signal] gives up, while connecting
 * @param {number} [options.timeoutMs] for everything together
 * @returns {Promise<SignalingClient>}
 */
export async function connect(baseUrl, { room, metadata, transport = "auto", signal, timeoutMs = 10_000 } = {}) {
  const client = new SignalingClient((options) => dial(baseUrl, transport, options));
  const error = failure("connect-timeout", `${baseUrl} did not let us in within ${timeoutMs} ms`);
  try {
    await withDeadline({ signal, ms: timeoutMs, error }, async (signal) => {
      await client.connect({ signal });
      if (room !== undefined) await client.join(room, metadata);
    });
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/** Opens the first door that works. @returns {Promise<import("./signaling.js").Line>} */
async function dial(baseUrl, choice, { signal }) {
  const { transports } = await discover(baseUrl, { signal });
  const doors = DOORS.filter(({ type }) => choice === "auto" || choice === type)
    .map((door) => ({ ...door, entry: transports.find(({ type }) => type === door.type) }))
    .filter(({ transport, entry }) => entry && transport.available());
  if (doors.length === 0) throw failure("unsupported", `no ${choice === "auto" ? "transport" : choice} that both this browser and the server have`);

  const last = doors.pop();
  for (const door of doors) {
    const error = failure("connect-timeout", `${door.type} did not open within ${FIRST_CHOICE_MS} ms`);
    try {
      return await withDeadline({ signal, ms: FIRST_CHOICE_MS, error }, (signal) => openDoor(door, signal));
    } catch {
      signal?.throwIfAborted();
    }
  }
  return openDoor(last, signal);
}

async function openDoor({ transport, codec, entry }, signal) {
  return { transport: await transport.open(entry, { subprotocol: codec.subprotocol, signal }), codec };
}
