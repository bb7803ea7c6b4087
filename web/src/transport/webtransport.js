/**
 * The WebTransport door: messages as frames on one bidirectional stream, which this side opens, and best effort in datagrams. The same
 * surface as `websocket.js`, where it is described; here a frame is always bytes.
 */

import { fromBase64 } from "../bytes.js";
import { failure } from "../codes.js";
import { FrameDecoder, encodeFrame } from "../framing.js";

/** Is there such a thing in this browser, on this page? (It takes a secure context: HTTPS or localhost.) */
export function available() {
  return typeof WebTransport === "function";
}

/**
 * Opens a session and its stream. Rejects with `unreachable`, or with the reason of the signal.
 * @param {import("../discovery.js").TransportEntry} entry
 * @param {{signal?: AbortSignal}} options
 * @returns {Promise<WebTransportTransport>}
 */
export async function open(entry, { signal }) {
  signal?.throwIfAborted();
  const hashes = (entry.certificateHashes ?? []).map(({ algorithm, value }) => ({ algorithm, value: fromBase64(value) }));
  const session = new WebTransport(entry.url, hashes.length > 0 ? { serverCertificateHashes: hashes } : {});
  // `closed` rejects together with whatever else fails; it is looked at in `start`.
  session.closed.catch(() => {});
  const giveUp = () => session.close();
  signal?.addEventListener("abort", giveUp);
  try {
    await session.ready;
    return new WebTransportTransport(session, await session.createBidirectionalStream());
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw failure("unreachable", `no WebTransport at ${entry.url}`, { cause });
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

class WebTransportTransport extends EventTarget {
  type = "webtransport";
  #session;
  #stream;
  #writer;
  #datagrams;

  /** @param {any} session a WebTransport @param {any} stream its bidirectional one */
  constructor(session, stream) {
    super();
    this.#session = session;
    this.#stream = stream;
    this.#writer = stream.writable.getWriter();
    // `createWritable` is how newer browsers spell it; some have only one of the two.
    const datagrams = session.datagrams.writable ?? session.datagrams.createWritable();
    this.#datagrams = datagrams.getWriter();
    for (const writer of [this.#writer, this.#datagrams]) writer.closed.catch(() => {});
  }

  start() {
    void this.#readDatagrams();
    void this.#readFrames();
  }

  /** @param {Uint8Array} frame queued by the browser, in order; dropped once the session is over */
  send(frame) {
    this.#writer.write(encodeFrame(frame)).catch(() => {});
  }

  /**
   * Sends a datagram, which may be lost.
   * @param {Uint8Array} frame
   * @returns {boolean} false if it is too long for one
   */
  sendBestEffort(frame) {
    const fits = frame.length <= this.#session.datagrams.maxDatagramSize;
    if (fits) this.#datagrams.write(frame).catch(() => {});
    return fits;
  }

  close() {
    // The end of the stream is a goodbye of its own, and comes behind what was sent. A page that is being left does not live to see
    // the promise settle; then the browser closes the session.
    const end = () => {
      try {
        this.#session.close();
      } catch {
        // It is over already.
      }
    };
    this.#writer.close().then(end, end);
  }

  async #readFrames() {
    const reader = this.#stream.readable.getReader();
    const decoder = new FrameDecoder();
    try {
      for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
        for (const frame of decoder.push(chunk.value)) this.#tell("message", frame);
      }
    } catch {
      // Whatever ended the stream, the session's own end tells more.
    }
    this.close();
    this.#tell("close", await this.#ending());
  }

  async #readDatagrams() {
    const reader = this.#session.datagrams.readable.getReader();
    try {
      for (let datagram = await reader.read(); !datagram.done; datagram = await reader.read()) this.#tell("message", datagram.value);
    } catch {
      // The stream tells.
    }
  }

  async #ending() {
    try {
      const { closeCode, reason } = await this.#session.closed;
      return { number: closeCode, reason };
    } catch (error) {
      return { number: undefined, reason: /** @type {Error} */ (error).message };
    }
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
