/**
 * When to try again after a connection was lost: longer and longer after each attempt in vain, not before the server wants it, at once when there is
 * reason to. Knows nothing of what is tried, nor of sessions.
 */

import { backoffMs } from "./backoff.js";
import { causeOf, failure } from "./codes.js";
import { withDeadline } from "./deadline.js";

/** How long one attempt to come back may take. */
const ATTEMPT_MS = 10_000;
/** Whoever is lost again within this time goes on to wait longer each time. */
const STEADY_MS = 10_000;

/** @typedef {import("./signaling.js").Cause} Cause */

export class Comeback {
  #hooks;
  /** Attempts since the connection last was a steady one. */
  #attempts = 0;
  #connectedAt = 0;
  /** Aborted at the end. */
  #life = new AbortController();
  /** Tries at once, if something is to be tried. */
  wake = () => {};
  /** While it is, nothing is tried by itself, however late it is. */
  isHeld = false;

  /**
   * @param {object} hooks
   * @param {(signal: AbortSignal) => Promise<unknown>} hooks.open tries; what it has done when the signal is aborted is for `drop`
   * @param {(cause: Cause, retryInMs: number) => void} hooks.wait it is tried again so much later
   * @param {() => void} hooks.drop an attempt was in vain
   * @param {(cause: Cause) => void} hooks.giveUp there is no point in coming back
   */
  constructor(hooks) {
    this.#hooks = hooks;
  }

  /** There is a connection again. */
  connected() {
    this.#connectedAt = performance.now();
  }

  /** Tries until it is connected again, or may not come back. @param {Cause} cause */
  async begin(cause) {
    const { signal } = this.#life;
    if (performance.now() - this.#connectedAt > STEADY_MS) this.#attempts = 0;
    for (let afterMs = cause.reconnectAfterMs ?? 0; ; ) {
      const retryInMs = afterMs + backoffMs(this.#attempts++);
      this.#hooks.wait(cause, retryInMs);
      await this.pause(retryInMs);
      try {
        const error = failure("connect-timeout", `the server did not let us in within ${ATTEMPT_MS} ms`);
        await withDeadline({ signal, ms: ATTEMPT_MS, error }, this.#hooks.open);
        return;
      } catch (caught) {
        if (signal.aborted) return;
        this.#hooks.drop();
        cause = causeOf(caught);
        if (!cause.reconnect) return this.#hooks.giveUp(cause);
        afterMs = /** @type {any} */ (caught).reconnectAfterMs ?? 0;
      }
    }
  }

  /** Waits so long, or until there is a reason to try at once. @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
  pause(ms, signal) {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#life.signal.removeEventListener("abort", done);
        signal?.removeEventListener("abort", aborted);
        resolve();
      };
      // What settles first counts.
      const aborted = () => (reject(signal?.reason), done());
      const timer = setTimeout(() => !this.isHeld && done(), ms);
      this.wake = done;
      this.#life.signal.addEventListener("abort", done);
      signal?.addEventListener("abort", aborted);
    });
  }

  /** Nothing is tried any more. */
  end() {
    this.#life.abort();
  }
}
