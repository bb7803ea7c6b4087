/** A short film of the test picture, for whoever has no video at hand. */

import { TestPicture } from "./testpicture.js";

const SECONDS = 6;
/** So that even a short film has many pieces. */
const BITS_PER_SECOND = 4_000_000;
/** How often what was recorded is handed over; then it also consists of many clusters. */
const SLICE_MS = 500;

/**
 * Records it. Settles with nothing when it is given up.
 * @param {string} caption
 * @param {{signal: AbortSignal, tick: (secondsLeft: number) => void}} options
 * @returns {Promise<File | undefined>}
 */
export async function recordFilm(caption, { signal, tick }) {
  const mimeType = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((type) => MediaRecorder.isTypeSupported(type));
  const picture = new TestPicture(caption, { snow: true });
  try {
    return await record(picture, mimeType, { signal, tick });
  } finally {
    picture.stop();
  }
}

/**
 * @param {TestPicture} picture
 * @param {string | undefined} mimeType
 * @param {{signal: AbortSignal, tick: (secondsLeft: number) => void}} options
 */
async function record(picture, mimeType, { signal, tick }) {
  const recorder = new MediaRecorder(picture.stream, { mimeType, videoBitsPerSecond: BITS_PER_SECOND });
  /** @type {Blob[]} */
  const parts = [];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const stopped = new Promise((resolve) => recorder.addEventListener("stop", resolve));
  const stop = () => recorder.state !== "inactive" && recorder.stop();
  signal.addEventListener("abort", stop);
  let left = SECONDS;
  tick(left);
  const timer = setInterval(() => (--left > 0 ? tick(left) : stop()), 1_000);
  recorder.start(SLICE_MS);
  await stopped;
  clearInterval(timer);
  signal.removeEventListener("abort", stop);
  if (signal.aborted) return undefined;
  const type = recorder.mimeType.split(";")[0];
  return new File(parts, `${picture.caption}.${type === "video/mp4" ? "mp4" : "webm"}`, { type });
}
