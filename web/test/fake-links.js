/**
 * As much of rooms, links and data channels as a swarm uses, in one process: what is sent arrives a task later, in order, and can be changed,
 * dropped or held back on the way. Nothing takes time.
 */

const WAIT_MS = 20_000;

export class FakeRoom extends EventTarget {
  links = new Map();

  constructor(peerId) {
    super();
    this.peerId = peerId;
  }
}

export class FakeLink extends EventTarget {
  state = "connecting";
  /** Channels that this side has, whoever opened them. */
  channels = [];
  /** What becomes of what this side sends: other data, or undefined when it is lost. */
  outgoing = (data) => data;
  /** Messages that arrive in one task. */
  batch = 32;
  /** While true, what this side sends is on its way. */
  isHeld = false;

  constructor(room, remoteId) {
    super();
    this.room = room;
    this.remoteId = remoteId;
  }

  get isOver() {
    return this.state === "failed" || this.state === "closed";
  }

  channel(label) {
    if (this.state === "closed") throw new DOMException("closed", "InvalidStateError");
    const mine = new FakeChannel(label, this);
    const theirs = new FakeChannel(label, this.other);
    mine.other = theirs;
    theirs.other = mine;
    this.channels.push(mine);
    setImmediate(() => {
      if (this.state === "closed" || mine.readyState !== "connecting") return;
      theirs.readyState = "open";
      this.other.channels.push(theirs);
      this.other.dispatchEvent(new CustomEvent("channel", { detail: theirs }));
      mine.readyState = "open";
      mine.dispatchEvent(new Event("open"));
    });
    return mine;
  }

  /** What is held back goes on its way. */
  release() {
    this.isHeld = false;
    for (const channel of this.channels) channel.deliver();
  }

  setState(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  rename(id) {
    this.room.links.delete(this.remoteId);
    this.room.links.set(id, this);
    this.remoteId = id;
    this.dispatchEvent(new CustomEvent("renamed", { detail: id }));
  }

  /** Ends the line, on both sides. */
  close() {
    for (const link of [this, this.other]) {
      if (link.state === "closed") continue;
      for (const channel of link.channels) channel.readyState = "closed";
      link.room.links.delete(link.remoteId);
      link.setState("closed");
    }
  }
}

/** A line between two rooms, connected unless said otherwise. Gives its two ends. */
export function meet(a, b, { connected = true } = {}) {
  const [mine, theirs] = [new FakeLink(a, b.peerId), new FakeLink(b, a.peerId)];
  mine.other = theirs;
  theirs.other = mine;
  for (const link of [mine, theirs]) {
    link.room.links.set(link.remoteId, link);
    link.room.dispatchEvent(new CustomEvent("link", { detail: link }));
  }
  if (connected) for (const link of [mine, theirs]) link.setState("connected");
  return [mine, theirs];
}

export class FakeChannel extends EventTarget {
  readyState = "connecting";
  binaryType = "blob";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  /** The most that was ever in the buffer. */
  bufferedAmountMax = 0;
  /** Everything that was sent. */
  sent = [];
  #queue = [];
  #delivering = false;

  constructor(label, link) {
    super();
    this.label = label;
    this.link = link;
  }

  send(data) {
    if (this.readyState !== "open") throw new DOMException("not open", "InvalidStateError");
    const copy = typeof data === "string" ? data : data.slice().buffer;
    const size = typeof copy === "string" ? copy.length : copy.byteLength;
    this.sent.push(copy);
    this.#queue.push({ data: copy, size });
    this.bufferedAmount += size;
    this.bufferedAmountMax = Math.max(this.bufferedAmountMax, this.bufferedAmount);
    this.deliver();
  }

  deliver() {
    if (this.#delivering || this.link.isHeld) return;
    this.#delivering = true;
    setImmediate(() => {
      this.#delivering = false;
      for (let count = 0; count < this.link.batch && this.#queue.length > 0 && this.readyState === "open" && !this.link.isHeld; count++) {
        const { data, size } = this.#queue.shift();
        const before = this.bufferedAmount;
        this.bufferedAmount -= size;
        const arrives = this.link.outgoing(data);
        if (arrives !== undefined && this.other.readyState === "open") this.other.dispatchEvent(new MessageEvent("message", { data: arrives }));
        const low = this.bufferedAmountLowThreshold;
        if (before > low && this.bufferedAmount <= low) this.dispatchEvent(new Event("bufferedamountlow"));
      }
      if (this.#queue.length > 0 && this.readyState === "open") this.deliver();
    });
  }

  close() {
    for (const channel of [this, this.other]) {
      if (channel.readyState === "closed") continue;
      channel.readyState = "closed";
      setImmediate(() => channel.dispatchEvent(new Event("close")));
    }
  }
}

/** For `outgoing`: turns a bit in every chunk of a piece. */
export function corrupt(data) {
  if (typeof data === "string") return data;
  const bytes = new Uint8Array(data.slice(0));
  bytes[bytes.length - 1] ^= 1;
  return bytes.buffer;
}

/** For `outgoing`: changes every message of one type. */
export function altered(type, change) {
  return (data) => {
    const message = typeof data === "string" ? JSON.parse(data) : undefined;
    return message?.type === type ? JSON.stringify(change(message)) : data;
  };
}

/** For `outgoing`: loses every message of one type, or with `binary` every chunk. */
export function without(type) {
  return (data) => ((typeof data === "string" ? JSON.parse(data).type : "binary") === type ? undefined : data);
}

/** Waits until something is so. */
export async function until(condition, what, ms = WAIT_MS) {
  const deadline = performance.now() + ms;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets everything run that has been set going, as far as no timer is involved. */
export async function settled() {
  for (let round = 0; round < 8; round++) {
    // Hashes are computed on other threads, in the order in which they were asked for.
    await crypto.subtle.digest("SHA-256", new Uint8Array(1));
    for (let turn = 0; turn < 6; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets time pass, of a test that has its own, until something is so. */
export async function untilLater(timers, ms, condition, what) {
  const deadline = performance.now() + WAIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS} ms, whatever time passed in them: ${what}`);
    await settled();
    if (!condition()) timers.tick(ms);
  }
}

/** The promise, or a rejection that says what did not come in time. */
export async function within(promise, what, ms = WAIT_MS) {
  let isSettled = false;
  const settle = () => (isSettled = true);
  promise.then(settle, settle);
  await until(() => isSettled, what, ms);
  return promise;
}

/** Bytes that look random and are the same each time. */
export function noise(length, seed = 1) {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
