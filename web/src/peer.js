/**
 * The direct line to one peer: one RTCPeerConnection, a data channel that is always there, and whatever tracks and channels are added. Gets
 * signals taken there by `send`, and knows nothing about sockets or rooms.
 *
 * Negotiation is "perfect negotiation" (W3C WebRTC, §10.7): either side may offer at any time. When both do, that is glare, and the one
 * with the lower peer id is polite: it takes its own offer back. The data channel is agreed on beforehand (`negotiated`), so that there is
 * one and not two, whoever offered.
 *
 * Where there are tracks, glare is avoided: Chromium cannot take back an offer of them (it has numbered the RTP header extensions, and refuses
 * other numbers). The impolite one goes on to offer when it likes; the polite one asks for its turn, in an empty candidate, which means nothing to
 * peers that are not ours, and offers when it is given. Whoever knows this says so beside its descriptions.
 */

import { failure } from "./codes.js";

const DATA_CHANNEL = { negotiated: true, id: 0 };
/** For whoever made the line; see `room.js`. */
const CONTROL_CHANNEL = { negotiated: true, id: 1 };

/** Before anything is agreed, it is not known whether the other takes turns; so long it is waited for. */
const FIRST_TURN_MS = 500;

/** Candidates that wait for their description; a browser gathers a dozen, a peer that sends more means no good. */
const CANDIDATES_MAX = 256;

/** A peer may be away for half a minute and come back, to what was said to it meanwhile; who is there answers at once, or not at all. */
const ANSWER_MS = 40_000;
/** A line that falls silent may find back by itself for so long, before another way is looked for. */
const DISCONNECTED_MS = 2_000;
/** Looking for another way may take so long, */
const RESTART_MS = 6_000;
/** and is tried so often without a connection in between before the line has failed. */
const RESTARTS_MAX = 5;

/**
 * @typedef {"connecting" | "connected" | "failed" | "closed"} LinkState
 *
 * @typedef {object} LinkStats
 * @property {number} [roundTripMs]
 * @property {string} [localCandidate] `host`, `srflx`, `prflx` or `relay`
 * @property {string} [remoteCandidate]
 * @property {string} [protocol] `udp` or `tcp`
 * @property {number} bytesSent
 * @property {number} bytesReceived
 *
 * @typedef {object} LinkEvents
 * @property {LinkState} state
 * @property {string | ArrayBuffer} message
 * @property {RTCDataChannel} channel
 * @property {RTCTrackEvent} track
 * @property {string} renamed
 */

const LinkTarget = /** @type {new () => import("./typed-target.js").TypedTarget<LinkEvents>} */ (EventTarget);

/**
 * Events, all CustomEvents: `state` (detail: the new state), `message` (what the peer sent over the data channel: a string or an ArrayBuffer),
 * `channel` (an RTCDataChannel that the peer opened), `track` (the RTCTrackEvent), `renamed` (the peer's new id).
 * The state goes from `connecting` to `connected`; back, while a line that fell silent is looked after; and to `closed` when either side ended
 * it, or to `failed`, with an `error`, when there is no way to the peer: the last event.
 */
export class PeerLink extends LinkTarget {
  #connection;
  #send;
  #control;
  /** @type {RTCDataChannel | undefined} */
  #channel;
  /** @type {LinkState} */
  #state = "connecting";
  #polite;
  #offering = false;
  #ignoring = false;
  /** Whether the other takes turns. */
  #takesTurns = false;
  /** The polite one waits for its turn, and the impolite one has yet to give it. */
  #isAsked = false;
  /** It is the polite one's turn. */
  #isGiven = false;
  /** Settles with the first candidate, or when there are none. @type {Promise<void>} */
  #gathering;
  /** Signals are taken one after another, in the order in which they came. @type {Promise<void>} */
  #signals = Promise.resolve();
  /** Candidates that came before the description that they belong to. @type {any[]} */
  #candidates = [];
  /** While it is `connecting`: when that has taken too long. @type {ReturnType<typeof setTimeout> | undefined} */
  #recovery;
  /** Since it last was connected. */
  #restarts = 0;
  /** Why it has `failed`: `no-answer` or `line-failed`. @type {(Error & {code: string}) | undefined} */
  error;

  /**
   * @param {object} options
   * @param {string} options.localId my peer id
   * @param {string} options.remoteId the other's
   * @param {(type: "offer" | "answer" | "ice-candidate", payload: any) => void} options.send takes a signal to the other
   * @param {RTCIceServer[]} [options.iceServers]
   * @param {RTCIceTransportPolicy} [options.iceTransportPolicy]
   * @param {(channel: RTCDataChannel) => void} [options.control] takes a second channel, for who made the line
   * @param {typeof globalThis.RTCPeerConnection} [options.RTCPeerConnection] another implementation, for tests
   */
  constructor({ localId, remoteId, send, iceServers = [], iceTransportPolicy, control, RTCPeerConnection = globalThis.RTCPeerConnection }) {
    super();
    this.remoteId = remoteId;
    this.#send = send;
    this.#control = control;
    this.#polite = localId < remoteId;
    this.#connection = new RTCPeerConnection({ iceServers, ...(iceTransportPolicy && { iceTransportPolicy }) });
    this.#connection.onnegotiationneeded = () => this.#negotiate();
    this.#gathering = new Promise((resolve) => {
      this.#connection.onicecandidate = ({ candidate }) => {
        resolve();
        if (candidate) this.#send("ice-candidate", candidate.toJSON());
      };
    });
    this.#connection.onconnectionstatechange = () => this.#watch();
    this.#connection.ontrack = (event) => this.#tell("track", event);
    this.#connection.ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      this.#tell("channel", channel);
    };
    this.#recoverAfter(ANSWER_MS);
  }

  /** `connecting`, `connected`, `failed` or `closed`. */
  get state() {
    return this.#state;
  }

  /** Has it ended, one way or the other? */
  get isOver() {
    return this.#state === "failed" || this.#state === "closed";
  }

  /** What the browser has under it, for what is not here. */
  get connection() {
    return this.#connection;
  }

  /** Begins to connect. The other side need not: its link answers. When both do, one of the two offers wins. */
  start() {
    if (!this.isOver) this.#openChannel();
  }

  /**
   * Takes a signal from the peer. Settles when it has had its effect; a signal that makes no sense has none.
   * @param {"offer" | "answer" | "ice-candidate"} type
   * @param {any} payload
   * @returns {Promise<void>}
   */
  receive(type, payload) {
    this.#signals = this.#signals.then(async () => {
      if (this.isOver) return;
      try {
        if (type !== "ice-candidate") await this.#describe({ type, sdp: payload?.sdp }, payload?.turns === true);
        else if (payload?.turn) await this.#turn(payload.turn);
        else await this.#addCandidate(payload);
      } catch (error) {
        // A peer can send anything; it must not be able to do more than fail to connect.
        if (!this.isOver) console.warn(`${type} from ${this.remoteId} not taken:`, error);
      }
    });
    return this.#signals;
  }

  /**
   * Sends over the data channel; false when it is not open. Throws `message-too-large` for more than the peer takes (256 KiB between browsers), and
   * `too-much-waiting` when the browser keeps no more of what the network has not yet taken (16 MiB in Chromium).
   * @param {string | ArrayBuffer | ArrayBufferView<ArrayBuffer> | Blob} data
   * @returns {boolean}
   */
  send(data) {
    if (this.#channel?.readyState !== "open") return false;
    try {
      this.#channel.send(/** @type {any} */ (data));
    } catch (/** @type {any} */ cause) {
      throw failure(cause.name === "OperationError" ? "too-much-waiting" : "message-too-large", cause.message, { cause });
    }
    return true;
  }

  /**
   * Opens a channel beside the one that is always there. The peer hears of it by `channel`, unless it is `negotiated`.
   * @param {string} label
   * @param {RTCDataChannelInit} [options]
   * @returns {RTCDataChannel}
   */
  channel(label, options) {
    const channel = this.#connection.createDataChannel(label, options);
    channel.binaryType = "arraybuffer";
    return channel;
  }

  /** Shows the peer a track; at any time. @param {MediaStreamTrack} track @param {MediaStream[]} streams @returns {RTCRtpSender} */
  addTrack(track, ...streams) {
    return this.#connection.addTrack(track, ...streams);
  }

  /** @param {RTCRtpSender} sender what `addTrack` gave */
  removeTrack(sender) {
    if (!this.isOver) this.#connection.removeTrack(sender);
  }

  /** How the line is, and which way it takes. @returns {Promise<LinkStats>} */
  async stats() {
    /** @type {Map<string, any>} */
    const report = /** @type {any} */ (await this.#connection.getStats());
    const all = [...report.values()];
    const transport = all.find(({ type, selectedCandidatePairId }) => type === "transport" && selectedCandidatePairId);
    // Firefox marks the pair itself.
    const pair = report.get(transport?.selectedCandidatePairId) ?? all.find(({ type, selected }) => type === "candidate-pair" && selected);
    const [local, remote] = [report.get(pair?.localCandidateId), report.get(pair?.remoteCandidateId)];
    return {
      roundTripMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1_000,
      localCandidate: local?.candidateType,
      remoteCandidate: remote?.candidateType,
      protocol: local?.protocol,
      bytesSent: pair?.bytesSent ?? 0,
      bytesReceived: pair?.bytesReceived ?? 0,
    };
  }

  /** Looks for another way to the peer, while what goes over the present one goes on. */
  restart() {
    if (!this.isOver && this.#connection.remoteDescription) this.#connection.restartIce();
  }

  /** Servers for the next time that a way is looked for. @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    if (!this.isOver) this.#connection.setConfiguration({ ...this.#connection.getConfiguration(), iceServers });
  }

  /** Says once more what the peer has yet to answer: it was lost with a session. */
  repeat() {
    if (this.#connection.signalingState === "have-local-offer") this.#sendDescription();
    else if (this.#polite && this.#isAsked) this.#sendTurn("ask");
  }

  /** The peer has another id from now on. @param {string} remoteId */
  rename(remoteId) {
    this.remoteId = remoteId;
    this.#tell("renamed", remoteId);
  }

  /** Ends the line. */
  close() {
    this.#end("closed");
  }

  /** @param {LinkState} state */
  #end(state) {
    if (this.isOver) return;
    clearTimeout(this.#recovery);
    this.#connection.close();
    this.#setState(state);
  }

  #negotiate() {
    const isNew = !this.#connection.remoteDescription;
    // The data channel alone can be taken back.
    const asks = this.#polite && (isNew ? this.#connection.getTransceivers().length > 0 : this.#takesTurns);
    // When an offer of the other's is answered, the browser tells again what is still needed.
    if (this.#isGiven || (asks && this.#isAsked)) return;
    if (!asks) return void this.#offer();
    this.#isAsked = true;
    this.#sendTurn("ask");
    if (isNew) setTimeout(() => this.#isAsked && !this.#connection.remoteDescription && this.#turn("yours"), FIRST_TURN_MS);
  }

  /** @param {unknown} turn `ask` to the impolite one, `yours` to the polite one */
  async #turn(turn) {
    if (turn === (this.#polite ? "ask" : "yours")) return;
    this.#isAsked = !this.#polite;
    if (!this.#polite) this.#give();
    else if (this.#connection.signalingState === "stable") await this.#offer();
  }

  /** Gives the polite one its turn, as soon as no offer of ours is under way. */
  #give() {
    if (this.#polite || !this.#isAsked || this.#offering || this.#connection.signalingState !== "stable") return;
    [this.#isAsked, this.#isGiven] = [false, true];
    this.#sendTurn("yours");
  }

  /** @param {"ask" | "yours"} turn */
  #sendTurn(turn) {
    this.#send("ice-candidate", { candidate: "", turn });
  }

  async #offer() {
    try {
      this.#offering = true;
      await this.#connection.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      // Closed meanwhile, or the other's offer came first: then there is nothing to offer any more.
      if (!this.isOver && this.#connection.signalingState === "stable") console.warn(`no offer to ${this.remoteId}:`, error);
    } finally {
      this.#offering = false;
      this.#give();
    }
  }

  /** @param {{type: "offer" | "answer", sdp: string}} description @param {boolean} takesTurns */
  async #describe(description, takesTurns) {
    const connection = this.#connection;
    this.#takesTurns = takesTurns;
    if (description.type === "offer") this.#isGiven = false;
    const glare = description.type === "offer" && (this.#offering || connection.signalingState !== "stable");
    this.#ignoring = glare && !this.#polite;
    if (this.#ignoring) return;

    // Chromium may find no candidates for the answer if its own offer is taken back before it has found one for that.
    if (glare) await this.#gathering;
    // Where there is glare, this takes back our own offer.
    await connection.setRemoteDescription(description);
    if (description.type === "offer") {
      this.#openChannel();
      await connection.setLocalDescription();
      this.#sendDescription();
    }
    for (const candidate of this.#candidates.splice(0)) await this.#takeCandidate(candidate);
    this.#give();
  }

  /** @param {any} candidate */
  async #addCandidate(candidate) {
    // Those that belong to an ignored offer wait too: among them may be the first of the answer that is to come.
    if (!this.#ignoring && this.#connection.remoteDescription) await this.#takeCandidate(candidate);
    else if (this.#candidates.length < CANDIDATES_MAX) this.#candidates.push(candidate);
  }

  /** @param {any} candidate */
  async #takeCandidate(candidate) {
    try {
      // Without an argument, and so for null: there will be no more.
      await this.#connection.addIceCandidate(candidate ?? undefined);
    } catch {
      // One that belongs to an offer which was ignored or taken back, or that this browser cannot read. Others will do.
    }
  }

  #sendDescription() {
    const { type, sdp } = /** @type {RTCSessionDescription} */ (this.#connection.localDescription);
    this.#send(/** @type {"offer" | "answer"} */ (type), { type, sdp, turns: true });
  }

  #openChannel() {
    if (this.#channel) return;
    const channel = (this.#channel = this.channel("switchboard", DATA_CHANNEL));
    channel.onopen = () => this.#found();
    channel.onclose = () => this.close();
    channel.onmessage = ({ data }) => this.#tell("message", data);
    this.#control?.(this.channel("switchboard.control", CONTROL_CHANNEL));
  }

  #watch() {
    const { connectionState } = this.#connection;
    if (connectionState === "connected" && this.#channel?.readyState === "open") this.#found();
    if (connectionState !== "disconnected" && connectionState !== "failed") return;
    this.#setState("connecting");
    // One that is being looked after has failed in vain once more, which is counted when its time is over.
    if (this.isOver || this.#restarts > 0) return;
    if (connectionState === "failed") this.#recover();
    else this.#recoverAfter(DISCONNECTED_MS);
  }

  #found() {
    clearTimeout(this.#recovery);
    this.#restarts = 0;
    this.#setState("connected");
  }

  /** @param {number} ms */
  #recoverAfter(ms) {
    clearTimeout(this.#recovery);
    this.#recovery = setTimeout(() => this.#recover(), ms);
  }

  /** Looks for another way, again and again, but not for ever. */
  #recover() {
    if (!this.#connection.remoteDescription) return this.#fail("no-answer", `${this.remoteId} did not answer`);
    if (this.#restarts === RESTARTS_MAX) return this.#fail("line-failed", `no way to ${this.remoteId} was found`);
    // The impolite one begins; if both did, half of the offers would be in vain.
    if (!this.#polite || this.#restarts > 0) this.restart();
    this.#restarts++;
    this.#recoverAfter(RESTART_MS);
  }

  /** @param {string} code @param {string} message */
  #fail(code, message) {
    this.error = failure(code, message);
    this.#end("failed");
  }

  /** @param {LinkState} state */
  #setState(state) {
    if (this.#state === state || this.isOver) return;
    this.#state = state;
    this.#tell("state", state);
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
