/**
 * A voice message over a data channel of its own: first a header as text, then the bytes in order, then from the other side a word that it has all. The
 * header says how much comes, so whoever sends more, or another kind of thing, is refused before anything is kept of it.
 */

import { failure } from "../src/codes.js";

/** Every code that an error of a voice message can have. */
export const VOICE_CODES = [
  { slug: "lost" }, // the line broke, or the other side fell silent
  { slug: "refused" }, // it is no voice message, or the other side does not take it
];

/** The label of such a channel. */
export const VOICE_LABEL = "voice";
/** Longer than anybody speaks in one go. */
export const VOICE_SECONDS_MAX = 120;
/** Two minutes at the highest rate that a browser records at, and some. */
export const VOICE_BYTES_MAX = 8 * 1024 * 1024;
/** Every browser takes a message of this size. */
const CHUNK_BYTES = 16 * 1024;
/** So much may wait in the channel; more would be kept in memory twice. */
const BUFFERED_BYTES_MAX = 256 * 1024;
/** So long either side may be silent. */
const SILENCE_MS = 20_000;

/** What a browser may be asked to play. Anything else could be a page that runs under our address when somebody opens it. */
const TYPES = /^audio\/(webm|ogg|mp4|aac|mpeg|wav)(;\s*codecs="?[\w.,\s-]+"?)?$/i;

/**
 * @typedef {object} Voice
 * @property {Blob} blob
 * @property {number} seconds
 *
 * @typedef {Pick<RTCDataChannel, "send" | "close" | "readyState" | "bufferedAmount" | "bufferedAmountLowThreshold"> & EventTarget} Channel
 */

/**
 * Sends a message. Settles when the other side has all of it; rejects with `lost` when the line breaks, `refused` when it is not taken.
 * @param {Channel} channel one that was opened for this, by its label
 * @param {Voice} voice
 * @returns {Promise<void>}
 */
export async function sendVoice(channel, { blob, seconds }) {
  const ending = watch(channel);
  try {
    if (channel.readyState !== "open") await Promise.race([once(channel, "open"), ending.promise]);
    channel.bufferedAmountLowThreshold = BUFFERED_BYTES_MAX / 2;
    const answer = once(channel, "message");
    channel.send(JSON.stringify({ size: blob.size, type: blob.type, seconds }));
    for (let at = 0; at < blob.size; at += CHUNK_BYTES) {
      if (channel.bufferedAmount > BUFFERED_BYTES_MAX) await Promise.race([once(channel, "bufferedamountlow"), ending.promise]);
      ending.extend();
      channel.send(await blob.slice(at, at + CHUNK_BYTES).arrayBuffer());
    }
    const { data } = /** @type {MessageEvent} */ (await Promise.race([answer, ending.promise]));
    if (data !== "taken") throw failure("refused", "the other side does not take it");
  } catch (error) {
    // A channel that is closed under our hands throws what it likes.
    if (/** @type {any} */ (error).code === undefined || error instanceof DOMException) throw failure("lost", "the line broke", { cause: error });
    throw error;
  } finally {
    ending.stop();
    channel.close();
  }
}

/**
 * Takes a message. Settles when all of it is there; rejects with `refused` for what is no voice message, `lost` when the line breaks.
 * To be called before anything can have come over the channel.
 * @param {Channel} channel
 * @returns {Promise<Voice>}
 */
export async function receiveVoice(channel) {
  const ending = watch(channel);
  /** @type {(voice: Voice) => void} */
  let done = () => {};
  /** @type {(error: Error) => void} */
  let fail = () => {};
  /** @type {Promise<Voice>} */
  const whole = new Promise((resolve, reject) => ([done, fail] = [resolve, reject]));
  /** @type {{size: number, type: string, seconds: number} | undefined} */
  let header;
  /** @type {ArrayBuffer[]} */
  const parts = [];
  let received = 0;

  const take = (/** @type {Event} */ event) => {
    const { data } = /** @type {MessageEvent} */ (event);
    ending.extend();
    if (!header) {
      header = readHeader(data);
      if (!header) fail(failure("refused", "this is no voice message"));
      return;
    }
    const length = data instanceof ArrayBuffer ? data.byteLength : Infinity;
    received += length;
    if (received > header.size) return fail(failure("refused", "more came than was announced"));
    // Each part takes more than its bytes; only the last may be short.
    if (received < header.size && length < CHUNK_BYTES) return fail(failure("refused", "it comes in crumbs"));
    parts.push(data);
    if (received === header.size) done({ blob: new Blob(parts, { type: header.type }), seconds: header.seconds });
  };
  channel.addEventListener("message", take);
  try {
    const voice = await Promise.race([whole, ending.promise]);
    channel.send("taken");
    return voice;
  } catch (error) {
    channel.close();
    throw error;
  } finally {
    ending.stop();
    channel.removeEventListener("message", take);
  }
}

/**
 * The header of a message, if it is one that we would play.
 * @param {unknown} text
 * @returns {{size: number, type: string, seconds: number} | undefined}
 */
export function readHeader(text) {
  let header;
  try {
    header = JSON.parse(typeof text === "string" ? text : "");
  } catch {
    return undefined;
  }
  const { size, type, seconds } = header ?? {};
  if (!Number.isInteger(size) || size < 1 || size > VOICE_BYTES_MAX) return undefined;
  if (typeof type !== "string" || !TYPES.test(type)) return undefined;
  return { size, type, seconds: typeof seconds === "number" && seconds >= 0 && seconds <= 2 * VOICE_SECONDS_MAX ? seconds : 0 };
}

/** The end of a file's name for such a type, with its dot. @param {string} type */
export function extensionOf(type) {
  const [, subtype] = /^audio\/(\w+)/.exec(type) ?? [];
  return { webm: ".webm", ogg: ".ogg", mp4: ".m4a", aac: ".aac", mpeg: ".mp3", wav: ".wav" }[subtype ?? ""] ?? ".audio";
}

/** The first type of these that a recorder makes; undefined where there is none. @param {{isTypeSupported: (type: string) => boolean} | undefined} recorder */
export function recordingType(recorder) {
  return ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus", "audio/webm"].find((type) => recorder?.isTypeSupported(type));
}

/** Rejects with `lost` when the channel closes, or is silent for too long. @param {Channel} channel */
function watch(channel) {
  /** @type {(error: Error) => void} */
  let reject = () => {};
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const promise = new Promise((_, rejectPromise) => (reject = rejectPromise));
  // Whoever has what he came for does not ask any more.
  promise.catch(() => {});
  const closed = () => reject(failure("lost", "the line broke"));
  const extend = () => {
    clearTimeout(timer);
    timer = setTimeout(closed, SILENCE_MS);
  };
  channel.addEventListener("close", closed);
  extend();
  const stop = () => {
    clearTimeout(timer);
    channel.removeEventListener("close", closed);
  };
  return { promise, extend, stop };
}

/** @param {EventTarget} target @param {string} type @returns {Promise<Event>} */
function once(target, type) {
  return new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
}
