/**
 * The direct line to one peer: one RTCPeerConnection, one data channel, and the signals that bring them about. Knows how to `send` a
 * signal and nothing about sockets or rooms.
 *
 * Negotiation is "perfect negotiation" (W3C WebRTC, §10.7): either side may offer at any time. When both do, that is glare, and the one
 * with the lower peer id is polite: it takes its own offer back. The data channel is agreed on beforehand (`negotiated`), so that there is
 * one and not two, whoever offered.
 */

const DATA_CHANNEL = { negotiated: true, id: 0 };

/** Candidates that wait for their description; a browser gathers a dozen, a peer that sends more means no good. */
const CANDIDATES_MAX = 256;

/**
 * Events: `state` (a CustomEvent whose detail is the new state), `message` (detail: what the peer sent over the data channel).
 * The state goes from `connecting` to `connected`, and to `closed` when the line broke or either side ended it: the last event.
 */
export class PeerLink extends EventTarget {
  #connection;
  #send;
  #channel;
  #state = "connecting";
  #polite;
  #offering = false;
  #ignoring = false;
  /** Settles with the first candidate, or when there are none. */
  #gathering;
  /** Signals are taken one after another, in the order in which they came. */
  #signals = Promise.resolve();
  /** Candidates that came before the description that they belong to. */
  #candidates = [];

  /**
   * @param {object} options
   * @param {string} options.localId my peer id
   * @param {string} options.remoteId the other's
   * @param {(type: "offer" | "answer" | "ice-candidate", payload: any) => void} options.send takes a signal to the other
   * @param {RTCIceServer[]} [options.iceServers]
   * @param {typeof RTCPeerConnection} [options.RTCPeerConnection] another implementation, for tests
   */
  constructor({ localId, remoteId, send, iceServers = [], RTCPeerConnection = globalThis.RTCPeerConnection }) {
    super();
    this.remoteId = remoteId;
    this.#send = send;
    this.#polite = localId < remoteId;
    this.#connection = new RTCPeerConnection({ iceServers });
    this.#connection.onnegotiationneeded = () => this.#offer();
    this.#gathering = new Promise((resolve) => {
      this.#connection.onicecandidate = ({ candidate }) => {
        resolve();
        if (candidate) this.#send("ice-candidate", candidate.toJSON());
      };
    });
    this.#connection.onconnectionstatechange = () => {
      if (this.#connection.connectionState === "failed") this.close();
    };
  }

  /** `connecting`, `connected` or `closed`. */
  get state() {
    return this.#state;
  }

  /** Begins to connect. The other side need not: its link answers. When both do, one of the two offers wins. */
  start() {
    this.#openChannel();
  }

  /**
   * Takes a signal from the peer. Settles when it has had its effect; a signal that makes no sense has none.
   * @param {"offer" | "answer" | "ice-candidate"} type
   * @param {any} payload
   * @returns {Promise<void>}
   */
  receive(type, payload) {
    this.#signals = this.#signals.then(async () => {
      if (this.#state === "closed") return;
      try {
        if (type === "ice-candidate") await this.#addCandidate(payload);
        else await this.#describe({ type, sdp: payload?.sdp });
      } catch (error) {
        // A peer can send anything; it must not be able to do more than fail to connect.
        console.warn(`${type} from ${this.remoteId} not taken:`, error);
      }
    });
    return this.#signals;
  }

  /** Sends over the data channel; false when it is not open. @param {string} text @returns {boolean} */
  send(text) {
    if (this.#channel?.readyState !== "open") return false;
    this.#channel.send(text);
    return true;
  }

  /** Ends the line. */
  close() {
    if (this.#state === "closed") return;
    this.#connection.close();
    this.#setState("closed");
  }

  async #offer() {
    try {
      this.#offering = true;
      await this.#connection.setLocalDescription();
      this.#sendDescription();
    } catch (error) {
      // Closed meanwhile, or the other's offer came first: then there is nothing to offer any more.
      if (this.#state !== "closed" && this.#connection.signalingState === "stable") console.warn(`no offer to ${this.remoteId}:`, error);
    } finally {
      this.#offering = false;
    }
  }

  async #describe(description) {
    const connection = this.#connection;
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
  }

  async #addCandidate(candidate) {
    // Those that belong to an ignored offer wait too: among them may be the first of the answer that is to come.
    if (!this.#ignoring && this.#connection.remoteDescription) await this.#takeCandidate(candidate);
    else if (this.#candidates.length < CANDIDATES_MAX) this.#candidates.push(candidate);
  }

  async #takeCandidate(candidate) {
    try {
      // Without an argument, and so for null: there will be no more.
      await this.#connection.addIceCandidate(candidate ?? undefined);
    } catch {
      // One that belongs to an offer which was ignored or taken back, or that this browser cannot read. Others will do.
    }
  }

  #sendDescription() {
    const { type, sdp } = this.#connection.localDescription;
    this.#send(type, { type, sdp });
  }

  #openChannel() {
    if (this.#channel) return;
    const channel = this.#connection.createDataChannel("switchboard", DATA_CHANNEL);
    channel.onopen = () => this.#setState("connected");
    channel.onclose = () => this.close();
    channel.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent("message", { detail: data }));
    this.#channel = channel;
  }

  #setState(state) {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
