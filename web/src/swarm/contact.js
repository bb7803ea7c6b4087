/**
 * One link, and the one channel over it that the swarms of both sides use. The side with the lower peer id opens it. A swarm that begins when
 * the link stands already may have missed that, so it opens one itself; where two channels come of it, the one counts that was opened
 * by the swarm with the lower nonce. A channel counts only when the other side has said hello on it: a page without a swarm never does.
 */

import { CHANNELS_PER_LINK_MAX } from "./limits.js";
import { LABEL, Nonsense, VERSION, parseMessage } from "./wire.js";

/** Messages that may come before a channel is open; more than a few mean no good. */
const EARLY_MAX = 64;

/**
 * @typedef {import("../peer.js").PeerLink} Link
 *
 * @typedef {{channel: RTCDataChannel, isMine: boolean, nonce?: string, receiver?: Receiver}} Candidate
 *
 * @typedef {{receive: (data: unknown) => void, end: () => void}} Receiver who talks over the channel
 */

export class Contact {
  #link;
  #nonce;
  #talk;
  /** @type {Set<Candidate>} */
  #candidates = new Set();
  /** @type {Candidate | undefined} the one that counts */
  #current;
  /** Whether we have opened one: a link connects again each time that it has found another way, and its channels live on. */
  #hasOpened = false;
  #listening = new AbortController();

  /**
   * @param {Link} link
   * @param {object} options
   * @param {string} options.nonce of this swarm: 16 hex digits, unlike any other's
   * @param {() => boolean} options.isFirst whether my peer id is lower than the other's
   * @param {(channel: RTCDataChannel) => Receiver} options.talk called when there is a channel, and again when another takes its place
   */
  constructor(link, { nonce, isFirst, talk }) {
    this.#link = link;
    this.#nonce = nonce;
    this.#talk = talk;
    const { signal } = this.#listening;
    link.addEventListener("channel", ({ detail }) => this.#adopt(detail, false), { signal });
    link.addEventListener(
      "state",
      () => {
        if (link.state === "connected" && isFirst()) this.#open();
        if (link.isOver) this.close();
      },
      { signal },
    );
    if (link.state === "connected") this.#open();
  }

  /** Whoever talks over the channel; undefined where there is none. @returns {Receiver | undefined} */
  get receiver() {
    return this.#current?.receiver;
  }

  /** Closes every channel, and takes no more. */
  close() {
    this.#listening.abort();
    for (const candidate of this.#candidates) this.#drop(candidate);
  }

  #open() {
    if (this.#hasOpened) return;
    this.#hasOpened = true;
    try {
      this.#adopt(this.#link.channel(LABEL), true);
    } catch {
      // The link has ended between its event and this; it says so itself.
    }
  }

  /** @param {RTCDataChannel} channel @param {boolean} isMine */
  #adopt(channel, isMine) {
    if (channel.label !== LABEL) return;
    if (!isMine && this.#candidates.size >= CHANNELS_PER_LINK_MAX) return channel.close();
    /** @type {Candidate} */
    const candidate = { channel, isMine };
    this.#candidates.add(candidate);
    const { signal } = this.#listening;
    // Chromium may show what the other side says before it says that the channel is open; an answer could not be sent yet.
    /** @type {unknown[]} */
    const early = [];
    let isOpen = false;
    const hear = (/** @type {unknown} */ data) => {
      if (isOpen) this.#receive(candidate, data);
      else if (early.push(data) > EARLY_MAX) this.#drop(candidate);
    };
    const greet = () => {
      isOpen = true;
      channel.send(JSON.stringify({ type: "hello", version: VERSION, nonce: this.#nonce }));
      for (const data of early.splice(0)) this.#receive(candidate, data);
    };
    channel.binaryType = "arraybuffer";
    channel.addEventListener("message", ({ data }) => hear(data), { signal });
    channel.addEventListener("close", () => this.#drop(candidate), { signal });
    if (channel.readyState === "open") greet();
    else channel.addEventListener("open", greet, { signal });
  }

  /** @param {Candidate} candidate @param {unknown} data */
  #receive(candidate, data) {
    if (!this.#candidates.has(candidate)) return;
    if (candidate.nonce !== undefined) return candidate.receiver?.receive(data);
    const hello = parseHello(data);
    if (!hello) return this.close();
    if (hello.version !== VERSION) return this.#drop(candidate);
    candidate.nonce = hello.nonce;
    this.#choose(candidate);
  }

  /** @param {Candidate} candidate that the other side has said hello on */
  #choose(candidate) {
    const rival = this.#current;
    if (rival) {
      // From the same two swarms, and both sides must come to the same end. Any other came later, so the earlier one is over.
      const isTwin = rival.nonce === candidate.nonce && rival.isMine !== candidate.isMine;
      const mineCounts = this.#nonce < /** @type {string} */ (candidate.nonce);
      if (isTwin && candidate.isMine !== mineCounts) return this.#drop(candidate);
      this.#drop(rival);
    }
    this.#current = candidate;
    candidate.receiver = this.#talk(candidate.channel);
    // A channel can be found closed by the first word that is said over it.
    if (!this.#candidates.has(candidate)) candidate.receiver.end();
  }

  /** @param {Candidate} candidate */
  #drop(candidate) {
    if (!this.#candidates.delete(candidate)) return;
    if (this.#current === candidate) this.#current = undefined;
    candidate.receiver?.end();
    candidate.channel.close();
  }
}

/** @param {unknown} data */
function parseHello(data) {
  try {
    const message = typeof data === "string" ? parseMessage(data) : undefined;
    return message?.type === "hello" ? message : undefined;
  } catch (error) {
    if (!(error instanceof Nonsense)) throw error;
    return undefined;
  }
}
