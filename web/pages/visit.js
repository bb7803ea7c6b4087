/**
 * One stay in one room, from the button to the way out; a new one begins with nothing of the old. Keeps what the others see of us up to date,
 * and says when anything about the others has changed. Knows no element of the page.
 */

import { connect } from "../client.js";

/** A name is what a stranger wrote; so much of it is shown. */
const NAME_CHARACTERS_MAX = 80;

/**
 * @typedef {import("../client.js").SignalingClient} SignalingClient
 * @typedef {import("../client.js").PeerLink} PeerLink
 * @typedef {import("../src/room.js").Room} Room
 * @typedef {import("./address.js").Wish} Wish
 *
 * @typedef {object} Peer somebody else in the room
 * @property {string} peerId
 * @property {any} metadata nothing about its shape is sure
 * @property {string} [user] who it is, where the server vouches for that
 * @property {PeerLink | undefined} link
 * @property {string} [failure] the code of why there is none any more
 */

export class Visit {
  #left = new AbortController();
  #about;
  /** What was last known of each, for those who are gone for the server and still have a line to us. @type {Map<string, {metadata: any, user?: string}>} */
  #known = new Map();
  /** @type {WeakSet<PeerLink>} */
  #watched = new WeakSet();
  /** Why there is no line, by peer id; until there is another, or the peer has left. @type {Map<string, string>} */
  #failures = new Map();

  /**
   * Connects and enters the room. Rejects with the code of what went wrong, or with the signal's reason.
   * @param {Wish & {name: string}} wish
   * @param {{mesh: boolean, about: Record<string, unknown>, signal: AbortSignal, token?: string, connected?: (client: SignalingClient) => void}} options
   * `about`: what the others see beside name and door; `token`: who we are; `connected`: called when there is a connection, before the room is entered
   * @returns {Promise<Visit>}
   */
  static async begin(wish, { mesh, about, signal, token, connected }) {
    // Somebody waits for the answer, and may have mistyped the address: not as many attempts as a client makes by itself.
    const client = await connect(wish.server, { transport: /** @type {any} */ (wish.door), signal, token, retries: 1 });
    const giveUp = () => client.close();
    signal.addEventListener("abort", giveUp);
    try {
      signal.throwIfAborted();
      connected?.(client);
      // Only now is it known by which door we came.
      const metadata = { ...about, name: wish.name, door: client.transport };
      return new Visit(wish, client, await client.join(wish.room, metadata, { mesh }), metadata);
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  /**
   * @param {Wish & {name: string}} wish
   * @param {SignalingClient} client
   * @param {Room} room
   * @param {Record<string, unknown>} about
   */
  constructor(wish, client, room, about) {
    this.wish = wish;
    this.client = client;
    this.room = room;
    this.#about = about;
    // A connection that is lost may come back by the other door.
    client.addEventListener("state", () => client.state === "connected" && this.tell({ door: client.transport }), { signal: this.signal });
  }

  /** Aborted when the visit is over: a listener that was added with it is gone then. */
  get signal() {
    return this.#left.signal;
  }

  /** What the others see of us. */
  get about() {
    return this.#about;
  }

  /** Tells the others something new about us. @param {Record<string, unknown>} news */
  tell(news) {
    if (Object.entries(news).every(([key, value]) => this.#about[key] === value)) return;
    this.#about = { ...this.#about, ...news };
    // Refused where the connection is over, and then nobody sees it; or in a room that we are not in any more.
    this.room.setMetadata(this.#about).catch(() => {});
  }

  /** Who else is there: all that the server knows of, and those who still have a line to us. @returns {Peer[]} */
  peers() {
    /** @type {Map<string, Peer>} */
    const peers = new Map();
    for (const { peerId, metadata, user } of this.room.peers) {
      peers.set(peerId, { peerId, metadata, user, link: this.room.links.get(peerId), failure: this.#failures.get(peerId) });
    }
    for (const [peerId, link] of this.room.links) {
      if (!peers.has(peerId) && !link.isOver) peers.set(peerId, { peerId, ...this.#recall(peerId), link });
    }
    this.#known = new Map([...peers.values()].map(({ peerId, metadata, user }) => [peerId, { metadata, user }]));
    return [...peers.values()];
  }

  /** The peer with this id. One that has just gone is known for the last time. @param {string} peerId @returns {Peer} */
  peer(peerId) {
    const { metadata, user } = this.room.peers.find((peer) => peer.peerId === peerId) ?? this.#recall(peerId);
    return { peerId, metadata, user, link: this.room.links.get(peerId) };
  }

  /** @param {string} peerId @returns {{metadata: any, user?: string}} */
  #recall(peerId) {
    return this.#known.get(peerId) ?? { metadata: undefined };
  }

  /**
   * Calls `link` once for every line that there is or will be, and `changed` whenever somebody came, went, or is otherwise than before.
   * @param {{link: (link: PeerLink) => void, changed: () => void}} hooks
   */
  watch({ link, changed }) {
    const { room, signal } = this;
    /** @param {PeerLink} found */
    const meet = (found) => {
      if (this.#watched.has(found)) return;
      this.#watched.add(found);
      this.#failures.delete(found.remoteId);
      found.addEventListener("state", () => found.error && this.#failures.set(found.remoteId, found.error.code), { signal });
      for (const type of /** @type {const} */ (["state", "renamed"])) found.addEventListener(type, changed, { signal });
      link(found);
    };
    const meetNew = (/** @type {{detail: PeerLink}} */ { detail }) => {
      meet(detail);
      changed();
    };
    room.addEventListener("link", meetNew, { signal });
    room.addEventListener("peer-left", ({ detail }) => this.#failures.delete(detail.peerId), { signal });
    for (const type of /** @type {const} */ (["peer-joined", "peer-updated", "peer-left"])) room.addEventListener(type, changed, { signal });
    this.client.addEventListener("state", changed, { signal });
    for (const found of room.links.values()) meet(found);
    changed();
  }

  /** Leaves, and ends every line. */
  end() {
    this.#left.abort();
    for (const link of this.room.links.values()) link.close();
    this.client.close();
  }
}

/**
 * A stranger's name, or undefined where there is none that could be shown.
 * @param {any} metadata
 * @returns {string | undefined}
 */
export function nameOf(metadata) {
  const name = metadata?.name;
  return typeof name === "string" && name.trim() !== "" ? name.slice(0, NAME_CHARACTERS_MAX) : undefined;
}

/** So much of who somebody is, by the word of the server, as can be shown; undefined where nobody vouches. @param {string | undefined} user */
export function userOf(user) {
  return user?.trim() ? user.slice(0, NAME_CHARACTERS_MAX) : undefined;
}

/** The door that a stranger says to have come by; undefined for one that we do not know. @param {any} metadata @returns {string | undefined} */
export function doorOf(metadata) {
  const door = metadata?.door;
  return door === "webtransport" || door === "websocket" ? door : undefined;
}

/** The language that a stranger says to speak, if that is a language tag. @param {any} metadata @returns {string | undefined} */
export function languageOf(metadata) {
  const lang = metadata?.lang;
  return typeof lang === "string" && /^[a-z]{2,3}(-[a-z0-9]{2,8})*$/i.test(lang) ? lang : undefined;
}
