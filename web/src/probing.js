/** Is the server still there? Asked when nothing has been heard for a while, and at once when there is reason to doubt it. Knows no message. */

/** Questions, a beat apart, that a server may leave without an answer. */
const UNANSWERED_MAX = 2;
/** How long it may take to answer when there is reason to doubt that it is still there. */
const DOUBT_MS = 3_000;

export class Probing {
  #ask;
  #lost;
  #beatMs = 0;
  #heard = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {object} hooks
   * @param {() => void} hooks.ask the server for any answer
   * @param {(reason: string) => void} hooks.lost there is none
   */
  constructor({ ask, lost }) {
    this.#ask = ask;
    this.#lost = lost;
  }

  /** Begins, for a connection that was opened just now. @param {number} beatMs how long it may be silent before it is asked */
  start(beatMs) {
    this.#beatMs = beatMs;
    this.#heard = true;
    this.#beat(0);
  }

  /** Something has come. */
  heard() {
    this.#heard = true;
  }

  /** After a sleep, or on another network, the connection may be gone without anybody having noticed. */
  doubt() {
    this.stop();
    this.#heard = false;
    this.#ask();
    this.#timer = setTimeout(() => {
      if (this.#heard) this.#beat(0);
      else this.#lost("the server did not answer when the page came back");
    }, DOUBT_MS);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  /**
   * Each beat begins when the one before is over: a page that was held up must not find two of them due at once, with no time for an answer
   * between.
   * @param {number} unanswered
   */
  #beat(unanswered) {
    this.stop();
    this.#timer = setTimeout(() => {
      const silent = this.#heard ? 0 : unanswered;
      if (silent === UNANSWERED_MAX) return this.#lost(`the server has been silent for ${silent * this.#beatMs} ms`);
      this.#heard = false;
      this.#ask();
      this.#beat(silent + 1);
    }, this.#beatMs);
  }
}
