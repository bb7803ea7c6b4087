/**
 * What we show and say, to everybody who has a line to us: one picture and one sound, which may be exchanged or taken away at any time. Where they
 * come from is somebody else's affair.
 */

/**
 * @typedef {"audio" | "video"} Kind
 * @typedef {Pick<RTCRtpSender, "replaceTrack">} Sender
 * @typedef {{addTrack: (track: any, ...streams: any[]) => Sender, isOver: boolean}} Link as much of a PeerLink as is needed here
 */

export class Senders {
  #stream;
  /** @type {Map<Kind, MediaStreamTrack>} */
  #tracks = new Map();
  /** @type {Map<Link, Map<Kind, Sender>>} */
  #links = new Map();

  /** @param {unknown} stream what belongs together at the other end; a MediaStream, which may be empty */
  constructor(stream) {
    this.#stream = stream;
  }

  /** From now on this link gets what there is. @param {Link} link */
  add(link) {
    if (this.#links.has(link)) return;
    this.#links.set(link, new Map());
    for (const [kind, track] of this.#tracks) void this.#give(link, kind, track);
  }

  /** @param {Link} link */
  remove(link) {
    this.#links.delete(link);
  }

  /**
   * Shows this track instead of the one before, or none. Settles when everybody gets it.
   * @param {Kind} kind
   * @param {MediaStreamTrack | undefined} track
   * @returns {Promise<void>}
   */
  async set(kind, track) {
    if (track) this.#tracks.set(kind, track);
    else this.#tracks.delete(kind);
    await Promise.all([...this.#links.keys()].map((link) => this.#give(link, kind, track)));
  }

  /** Nobody gets anything any more. */
  clear() {
    this.#links.clear();
    this.#tracks.clear();
  }

  /** @param {Link} link @param {Kind} kind @param {MediaStreamTrack | undefined} track */
  async #give(link, kind, track) {
    const senders = this.#links.get(link);
    if (!senders || link.isOver) return;
    try {
      const sender = senders.get(kind);
      // To exchange a track needs no negotiation, so the sender stays when there is nothing to send.
      if (sender) await sender.replaceTrack(track ?? null);
      else if (track) senders.set(kind, link.addTrack(track, this.#stream));
    } catch {
      // The link was closed meanwhile, and needs nothing any more.
    }
  }
}
