/**
 * What has come in and waits for its turn. Whoever awaited an answer runs before the next message is handed on, and can listen for it: behind
 * `joined` and `ack` an offer may stand in the very same chunk.
 */

export class Inbox {
  #handOn;
  /** @type {any[]} */
  #waiting = [];
  #isHeld = false;

  /** @param {(message: any) => void} handOn deals with one message */
  constructor(handOn) {
    this.#handOn = handOn;
  }

  /** Hands a message on, or keeps it behind those that wait. @param {any} message */
  take(message) {
    if (this.#isHeld) this.#waiting.push(message);
    else this.#handOn(message);
  }

  /** Keeps back what comes now until a task later. (A timer would be throttled in a hidden tab.) */
  hold() {
    this.#isHeld = true;
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      this.#isHeld = false;
      this.#drain(() => this.#isHeld);
    };
    port2.postMessage(null);
  }

  /** Puts what was handed on too early in front of all that waits, for a task later. @param {any[]} messages */
  putBack(messages) {
    this.#waiting.unshift(...messages);
    if (!this.#isHeld) this.hold();
  }

  /** Hands on all that waits, now. */
  flush() {
    this.#drain(() => false);
  }

  /** @param {() => boolean} isEnough */
  #drain(isEnough) {
    try {
      while (this.#waiting.length > 0 && !isEnough()) this.#handOn(this.#waiting.shift());
    } finally {
      // If one could not be dealt with, those behind it still can.
      if (this.#waiting.length > 0 && !this.#isHeld) this.hold();
    }
  }
}
