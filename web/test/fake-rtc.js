/**
 * As much of RTCPeerConnection as a PeerLink uses: the signaling states with rollback, operations one after another, candidates that are
 * refused before there is a remote description, and a negotiated data channel that a test opens. Everything settles microtasks
 * later, candidates a task later as in a browser; nothing takes time. Like Chromium, it cannot take back an offer of tracks.
 */

let descriptions = 0;

export class FakeRTCPeerConnection {
  static all = [];
  signalingState = "stable";
  connectionState = "new";
  localDescription = null;
  remoteDescription = null;
  candidates = [];
  rollbacks = 0;
  restarts = 0;
  channels = [];
  #operations = Promise.resolve();
  #negotiated = false;
  #isNeeded = false;
  /** Tracks that were added, are in the offer under way, and are agreed. */
  #tracks = { added: 0, offered: 0, agreed: 0 };

  constructor(configuration) {
    this.configuration = configuration;
    FakeRTCPeerConnection.all.push(this);
  }

  getConfiguration() {
    return this.configuration;
  }

  setConfiguration(configuration) {
    this.configuration = configuration;
  }

  restartIce() {
    this.restarts++;
    this.#negotiated = false;
    this.#need();
  }

  createDataChannel(label, options) {
    const channel = { label, options, readyState: "connecting", sent: [], send: (data) => channel.sent.push(data) };
    this.channels.push(channel);
    this.#need();
    return channel;
  }

  addTrack() {
    this.#tracks.added++;
    this.#need();
  }

  getTransceivers() {
    return Array(this.#tracks.added);
  }

  /** So many tracks of ours has the other side agreed to. */
  get tracks() {
    return this.#tracks.agreed;
  }

  setLocalDescription() {
    return this.#chain(async () => {
      const type = this.signalingState === "have-remote-offer" ? "answer" : "offer";
      this.localDescription = { type, sdp: `${type} ${++descriptions}` };
      if (type === "offer") this.#tracks.offered = this.#tracks.added;
      this.#move(type === "answer" ? "stable" : "have-local-offer");
      const sdp = this.localDescription.sdp;
      setImmediate(() => this.onicecandidate?.({ candidate: { toJSON: () => ({ candidate: `of ${sdp}` }) } }));
      setImmediate(() => this.onicecandidate?.({ candidate: null }));
    });
  }

  setRemoteDescription({ type, sdp }) {
    return this.#chain(async () => {
      if (typeof sdp !== "string") throw new TypeError("no sdp");
      if (type === "answer" && this.signalingState !== "have-local-offer") throw new Error(`an answer in ${this.signalingState}`);
      if (type === "offer" && this.signalingState === "have-local-offer") {
        if (this.#tracks.offered > this.#tracks.agreed) throw new Error("RTP extension ID reassignment not supported");
        this.rollbacks++;
      }
      if (type === "answer") this.#tracks.agreed = this.#tracks.offered;
      this.remoteDescription = { type, sdp };
      this.#move(type === "answer" ? "stable" : "have-remote-offer");
    });
  }

  addIceCandidate(candidate) {
    return this.#chain(async () => {
      if (!this.remoteDescription) throw new Error("no remote description");
      if (candidate && candidate.candidate !== `of ${this.remoteDescription.sdp}`) throw new Error("a candidate of another description");
      this.candidates.push(candidate);
    });
  }

  close() {
    this.signalingState = "closed";
    this.connectionState = "closed";
  }

  /** What a network would do: opens the channel. */
  open() {
    this.channels[0].readyState = "open";
    this.channels[0].onopen();
  }

  fail() {
    this.become("failed");
  }

  /** @param {string} state of the connection */
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }

  #move(state) {
    this.signalingState = state;
    if (state !== "stable") return;
    if (this.channels.length > 0) this.#negotiated = true;
    if (!this.#isAgreed) this.#need();
  }

  /** Told once, however many things need it. */
  #need() {
    if (this.#isNeeded) return;
    this.#isNeeded = true;
    queueMicrotask(() => {
      this.#isNeeded = false;
      this.#negotiate();
    });
  }

  #negotiate() {
    if (this.#isAgreed || this.signalingState !== "stable" || this.channels.length === 0) return;
    this.onnegotiationneeded?.();
  }

  get #isAgreed() {
    return this.#negotiated && this.#tracks.added === this.#tracks.agreed;
  }

  #chain(operation) {
    const result = this.#operations.then(() => {
      if (this.signalingState === "closed") throw new Error("closed");
      return operation();
    });
    this.#operations = result.catch(() => {});
    return result;
  }
}
