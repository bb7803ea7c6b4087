/**
 * A room as React sees it, in one hook. Needs React and `client.js`; a page without React never loads this.
 *
 * What is connected lives in a {@link Visit}, outside of React: it connects when the component is subscribed to it, and closes when the
 * component no longer is. So rendering alone opens nothing, and what StrictMode, a hidden Activity or a Fast Refresh do to effects ends
 * one connection before it begins the next.
 */

import { useEffect, useState, useSyncExternalStore } from "react";

import { connect } from "./client.js";

/**
 * @typedef {import("./client.js").SignalingClient} SignalingClient
 * @typedef {import("./client.js").Room} Room
 * @typedef {import("./client.js").Peer} Peer
 * @typedef {import("./client.js").RoomMessage} RoomMessage
 * @typedef {Omit<import("./client.js").ConnectOptions, "room" | "signal">} ConnectOptions
 *
 * @typedef {ConnectOptions & {onMessage?: (message: RoomMessage) => void}} RoomOptions what `connect` takes, and `onMessage`: called with each
 *   message that another peer sends in the room
 *
 * @typedef {object} RoomView what a component sees of a room; the very same object as long as nothing in it changes
 * @property {SignalingClient["state"]} state
 * @property {readonly Peer[]} peers the others in the room; the same array, and the same objects in it, as long as they do not change
 * @property {(payload: unknown, to?: string) => boolean} send says something to all in the room, or to one peer; false when there is no room
 *   to say it in (while reconnecting there is: it is said as soon as that can be). The same function as long as the hook's arguments are
 * @property {Room | undefined} room for everything else that a room can do; undefined before the first `connected`
 * @property {SignalingClient | undefined} client likewise
 * @property {(Error & {code: string}) | undefined} error why the state is `closed` or `reconnecting`, or why the metadata was refused
 */

/** @type {RoomOptions} */
const NO_OPTIONS = {};

/**
 * Connects to a server and enters a room for as long as the component is mounted.
 *
 * Another url, room or option ends the connection and begins one with the new arguments; they are compared by value, so an object that is
 * made anew by each render changes nothing. Without a url or a room (undefined or null) the state is `closed` and nothing is connected. New
 * `metadata` is told to the others over the connection that there is. Functions are never a reason to connect again: the one of the latest
 * render is called.
 * @param {string | URL | null | undefined} url of the server
 * @param {string | null | undefined} room
 * @param {RoomOptions} [options]
 * @returns {RoomView}
 */
export function useRoom(url, room, options = NO_OPTIONS) {
  const [held, hold] = useState(() => new Visit(url, room, options));
  let visit = held;
  if (!held.isTo(url, room, options)) hold((visit = new Visit(url, room, options)));
  // Before the subscription, which connects with the options that it finds.
  useEffect(() => visit.update(options));
  return useSyncExternalStore(visit.subscribe, visit.look, visit.look);
}

/** One room by one set of options: a store that is connected while somebody is subscribed to it. */
class Visit {
  #url;
  #room;
  #options;
  /** The metadata that the server has from us, or is about to get. @type {unknown} */
  #told;
  /** Ends what is connected, or about to be. @type {AbortController | undefined} */
  #stay;
  /** @type {() => void} */
  #changed = () => {};
  /** @type {RoomView} */
  #outside;
  /** @type {RoomView} */
  #view;

  /**
   * @param {string | URL | null | undefined} url
   * @param {string | null | undefined} room
   * @param {RoomOptions} options
   */
  constructor(url, room, options) {
    this.#url = url?.toString();
    this.#room = room ?? undefined;
    this.#options = options;
    const state = this.#url === undefined || this.#room === undefined ? "closed" : "connecting";
    this.#outside = { state, peers: [], send: this.#send, room: undefined, client: undefined, error: undefined };
    this.#view = this.#outside;
  }

  /**
   * Whether a visit with these arguments would be connected in the same way.
   * @param {string | URL | null | undefined} url
   * @param {string | null | undefined} room
   * @param {RoomOptions} options
   */
  isTo(url, room, options) {
    return this.#url === url?.toString() && this.#room === (room ?? undefined) && same(essence(this.#options), essence(options));
  }

  /** Takes what may change without connecting again. @param {RoomOptions} options */
  update(options) {
    this.#options = options;
    if (this.#view.room) this.#tellMetadata(this.#view.room);
  }

  look = () => this.#view;

  /** @param {() => void} changed */
  subscribe = (changed) => {
    this.#changed = changed;
    this.#begin();
    return () => this.#end();
  };

  #begin() {
    if (this.#outside.state === "closed") return;
    const stay = (this.#stay = new AbortController());
    this.#told = this.#options.metadata;
    connect(/** @type {string} */ (this.#url), { ...this.#options, ...this.#latest(), room: this.#room, signal: stay.signal }).then(
      (client) => this.#enter(client, stay),
      (error) => {
        if (!stay.signal.aborted) this.#show({ state: "closed", error });
      },
    );
  }

  #end() {
    this.#view = this.#outside;
    this.#stay?.abort();
    this.#stay = undefined;
  }

  /** Functions that call those of the latest render. */
  #latest() {
    const functions = Object.entries(this.#options).filter(([, value]) => typeof value === "function");
    return Object.fromEntries(functions.map(([name]) => [name, (/** @type {any[]} */ ...args) => /** @type {any} */ (this.#options)[name](...args)]));
  }

  /**
   * @param {SignalingClient} client
   * @param {AbortController} stay
   */
  #enter(client, stay) {
    const { signal } = stay;
    if (signal.aborted) return client.close();
    const room = /** @type {Room} */ (client.room);
    const look = () => this.#show({ peers: room.peers });
    for (const type of /** @type {const} */ (["peer-joined", "peer-updated", "peer-left"])) room.addEventListener(type, look, { signal });
    // In a new session there is a new list, which the room takes over when the client has told.
    client.addEventListener("joined", () => queueMicrotask(() => signal.aborted || look()), { signal });
    room.addEventListener("message", ({ detail }) => this.#options.onMessage?.(detail), { signal });
    const follow = (/** @type {import("./client.js").StateDetail} */ { state, cause }) => {
      // Once it is over, it is over, whatever becomes of the connection.
      if (this.#view.state !== "closed") this.#show({ state, error: cause && failure(cause) });
    };
    client.addEventListener("state", ({ detail }) => follow(detail), { signal });
    const left = (/** @type {string} */ code) => {
      const error = this.#view.state === "closed" ? this.#view.error : failure({ code, reason: `out of the room: ${code}` });
      this.#show({ state: "closed", peers: [], error });
      // The connection has no purpose any more. Whoever awaits the answer to `leave` has it before the answer to this.
      const end = () => stay.abort();
      client.request("ping").then(end, end);
    };
    room.addEventListener("left", ({ detail }) => left(detail.reason), { signal });
    // Behind the others, which are not to hear of it: node takes them off in the order in which they came.
    signal.addEventListener("abort", () => client.close());
    // What else has changed meanwhile is told by `update`, which follows each render.
    this.#show({ state: client.state, peers: room.peers, room, client });
  }

  /** @param {Room} room */
  #tellMetadata(room) {
    const { metadata } = this.#options;
    if (same(metadata, this.#told)) return;
    this.#told = metadata;
    const show = (/** @type {RoomView["error"]} */ error) => {
      if (this.#view.room === room && this.#view.state === "connected") this.#show({ error });
    };
    room.setMetadata(metadata).then(() => show(undefined), show);
  }

  /** @type {RoomView["send"]} */
  #send = (payload, to) => {
    const { room, state } = this.#view;
    if (!room || state === "closed") return false;
    room.send(payload, to);
    return true;
  };

  /** @param {Partial<RoomView>} change */
  #show(change) {
    const view = { ...this.#view, ...change };
    view.peers = kept(this.#view.peers, view.peers);
    const names = /** @type {(keyof RoomView)[]} */ (Object.keys(view));
    if (names.every((name) => view[name] === this.#view[name])) return;
    this.#view = view;
    this.#changed();
  }
}

/** What decides how a connection is made. @param {RoomOptions} options */
function essence({ onMessage, metadata, ...options }) {
  return options;
}

/**
 * The end of a connection, or of the stay in a room, as an error; none where this side wanted it.
 * @param {{code: string, reason: string}} cause
 * @returns {RoomView["error"]}
 */
function failure({ code, reason, ...more }) {
  return code === "closed" || code === "left" ? undefined : Object.assign(new Error(reason), { code }, more);
}

/**
 * The new list, with all that is equal to what was there before in its old identity.
 * @param {readonly Peer[]} before
 * @param {readonly Peer[]} now
 */
function kept(before, now) {
  const known = new Map(before.map((peer) => [peer.peerId, peer]));
  const peers = now.map((peer) => {
    const old = known.get(peer.peerId);
    return same(old, peer) ? /** @type {Peer} */ (old) : peer;
  });
  return peers.length === before.length && peers.every((peer, i) => peer === before[i]) ? before : peers;
}

/**
 * Whether two values are equal as JSON has it: objects by their fields, one that is undefined being none. All functions are equal.
 * @param {any} a
 * @param {any} b
 * @returns {boolean}
 */
function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a === "function") return typeof b === "function";
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b) || a.length !== b.length) return false;
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((key) => same(a[key], b[key]));
}
