/**
 * One room that a client is in: who else is there, what is said, and the direct lines to them. Knows its client by `send` and `request`, and peer
 * connections through `peer.js`.
 *
 * A line outlives the server. When a session is lost its peer comes back under another id; then the two sides prove to each other that
 * they are the ends of this line: each tells its new id and a secret over the line, and is told the secret through the server.
 */

import { failure } from "./codes.js";
import { PeerLink } from "./peer.js";

/** A peer that ought to call first, in a mesh, has so long before we do. */
const FIRST_CALL_MS = 1_500;
/** Where there was no way there may be one later. By then the other side has given up its end as well. */
const FAILED_CALL_MS = 30_000;
/** After a session was lost, a peer that looks new may be an old one that has yet to say so. */
const RENAMING_MS = 5_000;
/** What a peer says of itself over a line: an id, a secret, and the words between. A longer text is none of ours, and is not for the server. */
const CLAIM_LENGTH_MAX = 256;

/**
 * @typedef {{peerId: string, metadata?: any, user?: string}} Peer `user`: who it is by its token, which the server vouches for
 *
 * @typedef {object} RoomOptions
 * @property {boolean} [mesh] a line to everybody, without being asked for
 * @property {RTCIceServer[]} [iceServers] STUN and TURN servers for the lines, beside those that the server names
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] `relay` shows nobody our addresses; in some rooms the server wants it for all
 * @property {typeof globalThis.RTCPeerConnection} [RTCPeerConnection] another implementation, for tests
 *
 * @typedef {{link: PeerLink, control?: RTCDataChannel, secret: string, claimed?: {peerId: string, secret: string}, proved: Set<string>,
 * isLost?: boolean, provedBy?: string}} Line a link, and what the two rooms say over it; `proved`: to whom we have proved, in this session, that we
 * are its end; `isLost`: a session was, and not both sides have proved it since; `provedBy`: who has
 *
 * @typedef {{type: "message", room: string, from: string, payload: any, to?: string, bestEffort?: boolean}} RoomMessage
 *
 * @typedef {object} RoomEvents
 * @property {Peer & {type: string, room: string}} peer-joined
 * @property {Peer & {type: string, room: string}} peer-updated
 * @property {{type: string, room: string, peerId: string, reason: string}} peer-left
 * @property {RoomMessage} message
 * @property {PeerLink} link
 * @property {{type: string, room: string, reason: string}} left
 */

const RoomTarget = /** @type {new () => import("./typed-target.js").TypedTarget<RoomEvents>} */ (EventTarget);

/**
 * Events: `peer-joined`, `peer-updated`, `peer-left`, `message` and `left`, whose detail is the message from the server, for this room alone; and
 * `link`, whose detail is a new {@link PeerLink}, whoever began. Listening for `link` means to be reachable: without it, without `mesh` and
 * without having called `connect`, nobody is answered, for an answer tells our addresses.
 */
export class Room extends RoomTarget {
  /** @type {import("./signaling.js").SignalingClient} */
  #client;
  #options;
  /** @type {Map<string, Peer>} */
  #peers = new Map();
  /** @type {Map<string, Line>} */
  #lines = new Map();
  #reachable = false;
  #isEntered = false;
  /** What the server wants for the lines of this room. @type {RTCIceTransportPolicy | undefined} */
  #policy;
  /** Until when a peer that looks new may be an old one. */
  #renamingUntil = 0;
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #timers = new Set();

  /**
   * Made by its client.
   * @param {import("./signaling.js").SignalingClient} client
   * @param {string} name
   * @param {unknown} [metadata]
   * @param {RoomOptions} [options]
   */
  constructor(client, name, metadata, options = {}) {
    super();
    this.#client = client;
    this.name = name;
    this.metadata = metadata;
    this.#options = options;
    this.#reachable = options.mesh ?? false;
  }

  /** My own peer id. @returns {string} */
  get peerId() {
    return /** @type {string} */ (this.#client.peerId);
  }

  /** Who else is here. @returns {Peer[]} */
  get peers() {
    return [...this.#peers.values()];
  }

  /** The direct lines, by peer id. @returns {Map<string, PeerLink>} */
  get links() {
    return new Map([...this.#lines].map(([peerId, { link }]) => [peerId, link]));
  }

  /**
   * Sends a message through the server, to one peer or to all others. While there is no connection it waits for the next one. Should the server
   * have forgotten the session, a message to all is said as soon as we have entered again: those who have yet to do so do not get it. Throws
   * `closed` when the client is, and what its `send` throws.
   * @param {unknown} payload any JSON value
   * @param {string} [to]
   */
  send(payload, to) {
    this.#assertOpen();
    this.#client.send("message", { room: this.name, to, payload });
  }

  /** The same, which may be lost, and is faster for it where there are datagrams. @param {unknown} payload @param {string} [to] */
  sendBestEffort(payload, to) {
    this.#assertOpen();
    this.#client.sendBestEffort({ room: this.name, to, payload });
  }

  /** Replaces what the others see of me. @param {unknown} metadata */
  async setMetadata(metadata) {
    await this.#client.metadata(metadata, this.name);
  }

  /** Leaves the room, and with it every line. */
  async leave() {
    await this.#client.leave(this.name);
  }

  /**
   * The line to a peer: the one there is, or a new one, which begins to connect. Throws `no-such-peer` unless the peer is in the room. A peer may
   * answer nobody (see {@link Room}): then the line has `failed` after 40 seconds, with `no-answer`. It is `closed` when the peer leaves.
   * @param {string | Peer} peer
   * @returns {PeerLink}
   */
  connect(peer) {
    const peerId = typeof peer === "string" ? peer : peer?.peerId;
    this.#assertOpen();
    this.#reachable = true;
    const line = this.#lines.get(peerId);
    if (!line && !this.#peers.has(peerId)) throw failure("no-such-peer", `${peerId} is not one of the others in ${this.name}`);
    const { link } = line ?? this.#open(peerId);
    link.start();
    return link;
  }

  /**
   * @template {keyof RoomEvents} Name
   * @param {Name} type
   * @param {(event: CustomEvent<RoomEvents[Name]>) => void} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    if (type === "link") this.#reachable = true;
    super.addEventListener(type, listener, options);
  }

  // ---- for the client

  /** Whoever entered has his turn now, and may listen: in a mesh, calls those who are there. */
  begin() {
    for (const { peerId } of this.peers) this.#meet(peerId, 0);
  }

  /** @param {string} peerId @returns {boolean} */
  has(peerId) {
    return this.#peers.has(peerId);
  }

  /** Takes what the server says about this room into the state. @param {any} message */
  enter(message) {
    const { type, room, ...peer } = message;
    if (type === "peer-joined" || type === "peer-updated") this.#peers.set(peer.peerId, peer);
    else if (type === "peer-left") this.#peers.delete(peer.peerId);
  }

  #assertOpen() {
    if (this.#client.state === "closed") throw failure("closed", "the client is closed");
  }

  /** Tells whom it concerns. @param {any} message */
  tell(message) {
    const { type, peerId, from, payload } = message;
    switch (type) {
      case "joined":
        this.#policy = message.iceTransportPolicy;
        return this.#joined(message.peers);
      case "peer-joined":
        this.#event(type, message);
        for (const line of this.#lines.values()) if (line.claimed?.peerId === peerId) this.#prove(line);
        return this.#meet(peerId, FIRST_CALL_MS);
      case "peer-left":
        this.#part(message);
        return this.#event(type, message);
      case "left":
        this.#over();
        return this.#event(type, message);
      case "offer":
      case "answer":
      case "ice-candidate":
        return this.#signal(type, from, payload);
      case "peer-updated":
      case "message":
        return this.#event(type, message);
    }
  }

  /** The device is on another network: every line has to find its way anew, and where there was none there may be one now. */
  networkChanged() {
    for (const { link } of this.#lines.values()) link.restart();
    for (const peerId of this.#peers.keys()) this.#meet(peerId, 0);
  }

  /** New servers for the lines that there are; later ones take them from the client. @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    for (const { link } of this.#lines.values()) link.setIceServers(this.#with(iceServers));
  }

  /** @param {RTCIceServer[]} [iceServers] of the server @returns {RTCIceServer[]} */
  #with(iceServers = []) {
    return [...(this.#options.iceServers ?? []), ...iceServers];
  }

  /** We are in: for the first time, or anew with another id. @param {Peer[]} peers */
  #joined(peers) {
    const [before, isAnew] = [this.#peers, this.#isEntered];
    this.#isEntered = true;
    this.#peers = new Map(peers.map((peer) => [peer.peerId, peer]));
    const orphans = [...this.#lines.keys()].filter((peerId) => !this.#peers.has(peerId));
    // A line that was not there yet cannot be proved to be the same.
    for (const line of [...this.#lines.values()]) if (line.link.state !== "connected") line.link.close();
    if (orphans.length > 0) this.#renamingUntil = performance.now() + RENAMING_MS;
    for (const line of this.#lines.values()) {
      line.proved.clear();
      this.#lose(line);
      this.#claim(line);
    }
    for (const peerId of before.keys()) {
      if (!this.#peers.has(peerId)) this.#event("peer-left", { type: "peer-left", room: this.name, peerId, reason: "timeout" });
    }
    for (const peer of peers) {
      if (!isAnew) continue;
      const known = before.get(peer.peerId);
      const type = known ? "peer-updated" : "peer-joined";
      if (!known || spelling(known.metadata) !== spelling(peer.metadata)) this.#event(type, { type, room: this.name, ...peer });
      this.#meet(peer.peerId, 0);
    }
    for (const line of this.#lines.values()) this.#prove(line);
  }

  /** In a mesh, the newcomer calls those who are there. They call as well, if it does not. @param {string} peerId @param {number} patienceMs */
  #meet(peerId, patienceMs) {
    if (!this.#options.mesh) return;
    const orphaned = performance.now() < this.#renamingUntil ? RENAMING_MS : 0;
    const call = () => this.#peers.has(peerId) && !this.#lines.has(peerId) && this.connect(peerId);
    const timer = setTimeout(() => (this.#timers.delete(timer), call()), Math.max(patienceMs, orphaned));
    this.#timers.add(timer);
  }

  /** A peer is gone. If only its session is, the line to it may be as good as before. @param {{peerId: string, reason: string}} message */
  #part({ peerId, reason }) {
    const line = this.#lines.get(peerId);
    if (!line) return;
    if (reason !== "timeout" || line.link.state !== "connected") line.link.close();
    else {
      this.#renamingUntil = performance.now() + RENAMING_MS;
      this.#lose(line);
    }
  }

  #over() {
    this.#peers.clear();
    // In a mesh, one that is closed begins to wait to be called again.
    for (const { link } of [...this.#lines.values()]) link.close();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** @param {"offer" | "answer" | "ice-candidate"} type @param {string} from @param {any} payload */
  #signal(type, from, payload) {
    if (type === "ice-candidate" && typeof payload?.secret === "string") return this.#proved(from, payload.secret);
    const begins = type === "offer" || payload?.turn === "ask";
    const line = this.#lines.get(from) ?? (begins && this.#reachable && this.#peers.has(from) ? this.#open(from) : undefined);
    void line?.link.receive(type, payload);
  }

  /** @param {string} remoteId @returns {Line} */
  #open(remoteId) {
    const { iceTransportPolicy, RTCPeerConnection } = this.#options;
    const link = new PeerLink({
      localId: this.peerId,
      remoteId,
      iceServers: this.#with(this.#client.welcome?.iceServers),
      iceTransportPolicy: this.#policy ?? iceTransportPolicy,
      RTCPeerConnection,
      control: (channel) => {
        line.control = channel;
        channel.onmessage = ({ data }) => this.#claimed(line, data);
      },
      // What is said to an id of before would reach nobody; it is repeated.
      send: (type, payload) => {
        if (line.isLost) return;
        const fields = { room: this.name, to: link.remoteId, payload };
        if (type !== "offer") return this.#client.send(type, fields);
        // Where the peer has only lost its session, the line goes on.
        this.#client.request(type, fields).catch(({ code }) => code === "no-such-peer" && link.state === "connecting" && link.close());
      },
    });
    /** @type {Line} */
    const line = { link, secret: crypto.randomUUID(), proved: new Set() };
    this.#lines.set(remoteId, line);
    link.addEventListener("state", () => {
      // A line that breaks after its peer has gone cannot be mended: there is nobody to signal to.
      if (link.state === "connecting" && this.#client.state === "connected" && (line.isLost || !this.#peers.has(link.remoteId))) link.close();
      if (link.isOver && this.#lines.get(link.remoteId) === line) {
        this.#lines.delete(link.remoteId);
        // It broke, and nobody has left: once more, from the beginning.
        this.#meet(link.remoteId, link.state === "failed" ? FAILED_CALL_MS : FIRST_CALL_MS);
      }
    });
    this.#event("link", link);
    return line;
  }

  // ---- who is at the other end, after a session was lost

  /** Signals find the other end no more, until both sides have proved who they are. @param {Line} line */
  #lose(line) {
    line.isLost = true;
    line.provedBy = undefined;
  }

  /** @param {Line} line */
  #find(line) {
    const { link, provedBy, proved } = line;
    if (!line.isLost || provedBy !== link.remoteId || !proved.has(provedBy)) return;
    line.isLost = false;
    link.repeat();
  }

  /** Tells over the line who we are now. @param {Line} line */
  #claim({ control, secret }) {
    if (control?.readyState === "open") control.send(JSON.stringify({ peerId: this.peerId, secret }));
  }

  /** @param {Line} line @param {unknown} data */
  #claimed(line, data) {
    if (typeof data !== "string" || data.length > CLAIM_LENGTH_MAX) return;
    try {
      const { peerId, secret } = JSON.parse(data);
      if (typeof peerId !== "string" || typeof secret !== "string") return;
      // Who hears it for the first time has not said who it is itself.
      if (!line.claimed) this.#claim(line);
      line.claimed = { peerId, secret };
      this.#prove(line);
    } catch {
      // A peer may say what it likes here; it only keeps itself from being found.
    }
  }

  /** Tells through the server what only the other end of the line can know; once, however often that is asked for. @param {Line} line */
  #prove(line) {
    const { claimed, proved } = line;
    if (claimed && !proved.has(claimed.peerId) && this.#client.state === "connected" && this.#peers.has(claimed.peerId)) {
      proved.add(claimed.peerId);
      // An empty candidate means nothing to clients that are not ours: there are no more.
      this.#client.send("ice-candidate", { room: this.name, to: claimed.peerId, payload: { candidate: "", secret: claimed.secret } });
      this.#find(line);
    }
  }

  /** Who knows the secret is the other end of its line. @param {string} from @param {string} secret */
  #proved(from, secret) {
    for (const [before, line] of this.#lines) {
      if (line.secret !== secret) continue;
      if (before !== from) {
        this.#lines.get(from)?.link.close();
        this.#lines.delete(before);
        this.#lines.set(from, line);
        this.#lose(line);
        line.link.rename(from);
      }
      line.provedBy = from;
      return this.#find(line);
    }
  }

  /** @param {string} type @param {unknown} detail */
  #event(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What two values that look the same have in common. MessagePack has integers for which JSON has no words. @param {unknown} value */
function spelling(value) {
  return JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `${item}` : item));
}
