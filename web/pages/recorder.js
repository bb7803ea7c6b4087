/** Records what the microphone hears, up to a length, and gives the microphone back. */

import { VOICE_SECONDS_MAX, recordingType } from "./voice.js";

/** Good enough for a voice; two minutes are half a megabyte. */
const BITS_PER_SECOND = 32_000;

/** @typedef {import("./voice.js").Voice} Voice */

/** Can this browser record at all? */
export function canRecord() {
  return Boolean(globalThis.MediaRecorder && globalThis.navigator?.mediaDevices && recordingType(globalThis.MediaRecorder));
}

/** One recording, from the start to `stop` or `discard`. */
export class Recording {
  #recorder;
  #stream;
  #begun = performance.now();
  #timer;
  /** @type {Blob[]} */
  #parts = [];
  /** Settles when it is over, with nothing if it was discarded or empty. @type {Promise<Voice | undefined>} */
  finished;
  #discarded = false;

  /** @param {MediaStreamTrack} track the microphone's, which is stopped at the end */
  constructor(track) {
    this.#stream = new MediaStream([track]);
    this.#recorder = new MediaRecorder(this.#stream, { mimeType: recordingType(MediaRecorder), audioBitsPerSecond: BITS_PER_SECOND });
    this.#recorder.addEventListener("dataavailable", ({ data }) => data.size > 0 && this.#parts.push(data));
    this.finished = new Promise((resolve) => {
      const over = () => {
        clearTimeout(this.#timer);
        track.stop();
        const seconds = this.seconds;
        const blob = new Blob(this.#parts, { type: this.#recorder.mimeType });
        resolve(this.#discarded || blob.size === 0 ? undefined : { blob, seconds });
      };
      this.#recorder.addEventListener("stop", over);
      this.#recorder.addEventListener("error", over);
    });
    this.#timer = setTimeout(() => this.stop(), VOICE_SECONDS_MAX * 1_000);
    this.#recorder.start();
  }

  /** How long it is so far. */
  get seconds() {
    return (performance.now() - this.#begun) / 1_000;
  }

  /** Ends it; `finished` has it then. */
  stop() {
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
  }

  /** Ends it and forgets it. */
  discard() {
    this.#discarded = true;
    this.stop();
  }
}
