/**
 * The WebSocket door. One surface with `webtransport.js`, which `signaling.js` knows by its shape alone: `start`, `send`,
 * `sendBestEffort`, `close`, and two events.
 *
 * - `message`, a CustomEvent whose `detail` is one frame: text here, or bytes with a MessagePack subprotocol
 * - `close`, a CustomEvent whose `detail` is `{number?, reason}`: once, whoever ended it
 *
 * Neither fires before `start()`, so that nothing is lost between opening and listening.
 */

import { failure } from "../codes.js";

/** Is there such a thing in this browser? */
export function available() {
  return typeof WebSocket === "function";
}

/**
 * Opens a connection. Rejects with `unreachable`, or with the reason of the signal.
 * @param {import("../discovery.js").TransportEntry} entry
 * @param {{subprotocol?: string, signal?: AbortSignal}} options
 * @returns {Promise<WebSocketTransport>}
 */
export async function open(entry, { subprotocol, signal }) {
  signal?.throwIfAborted();
  const socket = new WebSocket(entry.url, subprotocol === undefined ? [] : [subprotocol]);
  socket.binaryType = "arraybuffer";
  try {
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = () => reject(failure("unreachable", `no WebSocket at ${entry.url}`));
      signal?.addEventListener("abort", () => reject(signal.reason));
    });
  } catch (error) {
    socket.close();
    throw error;
  }
  return new WebSocketTransport(socket);
}

class WebSocketTransport extends EventTarget {
  type = "websocket";
  #socket;

  /** @param {WebSocket} socket */
  constructor(socket) {
    super();
    this.#socket = socket;
  }

  start() {
    this.#socket.onmessage = ({ data }) => this.#tell("message", typeof data === "string" ? data : new Uint8Array(data));
    this.#socket.onclose = ({ code, reason }) => this.#tell("close", { number: code, reason });
  }

  /** @param {any} frame text or bytes, queued by the browser, in order; dropped once the socket is closing */
  send(frame) {
    this.#socket.send(frame);
  }

  /** A WebSocket has nothing that may be lost. @returns {boolean} */
  sendBestEffort() {
    return false;
  }

  close() {
    this.#socket.close();
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
