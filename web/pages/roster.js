/** The list of who is in the room: name, who that is where the server vouches for it, id, door, and how the line to each of them is. */

import { DOORS } from "./address.js";
import { arrange, h, write } from "./dom.js";
import { doorOf, nameOf, userOf } from "./visit.js";

/**
 * @typedef {import("./visit.js").Visit} Visit
 * @typedef {import("./i18n.js").Text} Text
 */

export class Roster {
  /** @type {Map<string, HTMLElement>} */
  #items = new Map();
  #list;
  #empty;
  #text;

  /** @param {{list: Element, empty: HTMLElement, text: Text}} where `empty` is shown while nobody else is there */
  constructor({ list, empty, text }) {
    this.#list = list;
    this.#empty = empty;
    this.#text = text;
  }

  /** Shows who is there now. @param {Visit} visit */
  show(visit) {
    const { client, about } = visit;
    const peers = visit.peers();
    const items = new Map();
    const own = /** @type {string} */ (client.peerId);
    items.set(own, this.#item(own, { ...about, name: this.#text.say("you.named", { name: visit.wish.name }) }, "myself"));
    for (const { peerId, metadata, user, link, failure } of peers) {
      const item = this.#item(peerId, metadata, "peer", userOf(user));
      const line = link?.state ?? "none";
      item.dataset.line = failure ? "failed" : line;
      write(/** @type {Element} */ (item.querySelector(".line")), this.#text.say(failure ? `code.${failure}` : `line.${line}`));
      items.set(peerId, item);
    }
    this.#items = items;
    arrange(this.#list, [...items.values()]);
    this.#empty.hidden = peers.length > 0;
  }

  /** Shows nobody. */
  clear() {
    this.#items.clear();
    this.#list.replaceChildren();
  }

  /** @param {string} peerId @param {any} metadata @param {"myself" | "peer"} testid @param {string} [user] */
  #item(peerId, metadata, testid, user) {
    const item = this.#items.get(peerId) ?? emptyItem(testid);
    const door = doorOf(metadata);
    item.dataset.peerId = peerId;
    item.dataset.door = door ?? "unknown";
    const parts = { name: nameOf(metadata) ?? this.#text.say("somebody"), id: peerId.slice(0, 8), door: door ? DOORS[door] : this.#text.say("door.unknown") };
    for (const [part, value] of Object.entries(parts)) write(/** @type {Element} */ (item.querySelector(`.${part}`)), value);
    showUser(/** @type {HTMLElement} */ (item.querySelector(".user")), user, this.#text);
    /** @type {HTMLElement} */ (item.querySelector(".id")).title = this.#text.say("peer.id", { id: peerId });
    return item;
  }
}

/** Who somebody is, beside the name that anybody may choose; nothing where nobody vouches for it. @param {HTMLElement} element @param {string | undefined} user @param {Text} text */
export function showUser(element, user, text) {
  element.hidden = user === undefined;
  write(element, user ?? "");
  element.title = user === undefined ? "" : text.say("peer.user", { user });
}

/** @param {string} testid */
function emptyItem(testid) {
  const who = h("span", { class: "who" }, h("b", { class: "name" }), " ", h("span", { class: "user badge", "data-testid": "user" }), " ", h("code", { class: "id" }));
  return h("li", { "data-testid": testid }, who, " ", h("span", { class: "door" }), " ", h("span", { class: "line" }));
}
