/** Plays a video while its bytes arrive, by Media Source, where the format and the browser allow it. Where the bytes come from is somebody else's affair. */

import { HEAD_BYTES_MAX, streamableType } from "./container.js";

/** What was seen longer ago makes way when the browser's buffer is full. */
const KEEP_SECONDS = 10;

/**
 * Feeds the video with what the stream brings. Settles with true when all of it is in the video; with false, and the stream cancelled, when this file or
 * this browser is not made for it. Rejects as the stream does, and with the signal's reason.
 * @param {HTMLVideoElement} video
 * @param {ReadableStream<Uint8Array>} stream
 * @param {{signal: AbortSignal, playing: (type: string) => void}} options `playing`: called when it is clear that it can be played so
 * @returns {Promise<boolean>}
 */
export async function playWhileArriving(video, stream, { signal, playing }) {
  const reader = stream.getReader();
  const stop = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", stop);
  try {
    const { head, type } = await readHead(reader);
    signal.throwIfAborted();
    const Source = mediaSource();
    if (!type || !Source?.isTypeSupported(type)) return cancelled(reader);
    const source = new Source();
    const buffer = await attach(video, source, type, signal);
    playing(type);
    try {
      await append(video, buffer, head, signal);
    } catch (error) {
      signal.throwIfAborted();
      // What is in the file is not what its head says.
      return cancelled(reader, error);
    }
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) break;
      try {
        await append(video, buffer, value, signal);
      } catch (error) {
        signal.throwIfAborted();
        return cancelled(reader, error);
      }
    }
    if (source.readyState === "open") source.endOfStream();
    return true;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** @returns {typeof MediaSource | undefined} */
function mediaSource() {
  // Phones by Apple have only the managed one.
  return globalThis.MediaSource ?? /** @type {any} */ (globalThis).ManagedMediaSource;
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {unknown} [error] */
async function cancelled(reader, error) {
  if (error) console.warn("this video has to be whole before it can be played:", error);
  await reader.cancel().catch(() => {});
  return false;
}

/** Reads until it is clear what this is. @param {ReadableStreamDefaultReader<Uint8Array>} reader */
async function readHead(reader) {
  let head = new Uint8Array();
  for (;;) {
    const { done, value } = await reader.read();
    if (value) {
      const longer = new Uint8Array(head.length + value.length);
      longer.set(head);
      longer.set(value, head.length);
      head = longer;
    }
    const type = streamableType(head);
    if (done || type !== null || head.length >= HEAD_BYTES_MAX) return { head, type };
  }
}

/** @param {HTMLVideoElement} video @param {MediaSource} source @param {string} type @param {AbortSignal} signal */
async function attach(video, source, type, signal) {
  const url = URL.createObjectURL(source);
  try {
    // The managed one wants to know that the picture goes nowhere else.
    video.disableRemotePlayback = true;
    const open = event(source, "sourceopen", signal);
    video.src = url;
    await open;
  } finally {
    URL.revokeObjectURL(url);
  }
  return source.addSourceBuffer(type);
}

/** @param {HTMLVideoElement} video @param {SourceBuffer} buffer @param {Uint8Array} chunk @param {AbortSignal} signal */
async function append(video, buffer, chunk, signal) {
  for (;;) {
    try {
      buffer.appendBuffer(/** @type {Uint8Array<ArrayBuffer>} */ (chunk));
      await event(buffer, "updateend", signal);
      if (video.error) throw video.error;
      return;
    } catch (error) {
      if (/** @type {DOMException} */ (error).name !== "QuotaExceededError") throw error;
    }
    const seen = video.currentTime - KEEP_SECONDS;
    if (buffer.buffered.length > 0 && buffer.buffered.start(0) < seen) {
      buffer.remove(0, seen);
      await event(buffer, "updateend", signal);
    } else {
      // Full of what is still to be seen: it goes on when that has been seen.
      await event(video, "timeupdate", signal);
    }
  }
}

/** @param {EventTarget} target @param {string} type @param {AbortSignal} signal @returns {Promise<Event>} */
function event(target, type, signal) {
  return new Promise((resolve, reject) => {
    const gaveUp = () => reject(signal.reason);
    target.addEventListener(type, (event) => (signal.removeEventListener("abort", gaveUp), resolve(event)), { once: true });
    signal.addEventListener("abort", gaveUp, { once: true });
  });
}
