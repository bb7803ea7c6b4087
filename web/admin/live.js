/** One room, live: who is there, and what happens. */

import { byId, h, write } from "../pages/dom.js";
import { roomPath } from "./api.js";
import { Table } from "./table.js";

/** @typedef {{peerId: string, name?: string, user?: string, metadata?: unknown}} Member */

/** So many events stay to be read. */
const EVENTS_MAX = 200;

export class Live {
  #text;
  #table;
  #section = byId("live");
  #status = byId("live-status");
  #events = byId("live-events");
  /** @type {Map<string, Member>} */
  #members = new Map();
  #watching = new AbortController();

  /**
   * @param {import("../pages/i18n.js").Text} text
   * @param {(peerId: string, name: string) => void} kick
   */
  constructor(text, kick) {
    this.#text = text;
    /** @type {Table<Member>} */
    this.#table = new Table({
      key: ({ peerId }) => peerId,
      testid: "member",
      empty: text.say("peers.empty"),
      columns: [
        { title: text.say("peers.peer"), kind: "name", text: nameOf },
        { title: text.say("rooms.metadata"), kind: "name", text: ({ metadata }) => (metadata === undefined ? "" : JSON.stringify(metadata)) },
      ],
      acts: [{ text: text.say("peers.kick"), testid: "kick-member", act: (member) => kick(member.peerId, nameOf(member)) }],
    });
    byId("live-peers").append(this.#table.element);
    byId("live-end").addEventListener("click", () => this.end());
  }

  /**
   * Shows this room, instead of the one before.
   * @param {import("./api.js").Api} api
   * @param {{id: string, name: string}} room
   */
  async watch(api, { id, name }) {
    this.end();
    const watching = (this.#watching = new AbortController());
    this.#members.clear();
    this.#events.replaceChildren();
    this.#table.show([]);
    write(this.#status, "");
    write(byId("live-title"), this.#text.say("live.title", { name }));
    this.#section.hidden = false;
    this.#section.scrollIntoView({ block: "nearest" });
    let last = "live.lost";
    try {
      for await (const { event, data } of api.events(`${roomPath(id)}/events?limit=1000`, watching.signal)) {
        if (watching.signal.aborted) return;
        if (event === "closed" || event === "shutdown") last = `live.${event}`;
        else this.#show(event, data);
      }
    } catch (error) {
      // That it broke off is all that there is to say.
      console.debug(error);
    }
    if (!watching.signal.aborted) this.#tell(this.#text.say(last));
  }

  /** Watches no more. */
  end() {
    this.#watching.abort();
    this.#section.hidden = true;
  }

  /** @param {string} event @param {any} data */
  #show(event, data) {
    const text = this.#text;
    if (event === "room") {
      for (const member of data.peers) this.#members.set(member.peerId, member);
      if (data.more) this.#tell(text.say("live.some", { count: data.peers.length }));
      this.#count(data.room.peers);
    } else if (event === "joined" || event === "updated") {
      this.#members.set(data.peer.peerId, data.peer);
      this.#tell(text.say(`live.${event}`, { name: nameOf(data.peer) }));
      this.#count(data.peers);
    } else if (event === "left") {
      const member = this.#members.get(data.peerId) ?? { peerId: data.peerId };
      this.#members.delete(data.peerId);
      this.#tell(text.say("live.left", { name: nameOf(member), reason: data.reason ?? text.say("live.silently") }));
      this.#count(data.peers);
    } else if (event === "messages") {
      const { offer, answer, "ice-candidate": candidate, message } = data.counts;
      this.#tell(text.say("live.said", { offer, answer, candidate, message }));
    }
  }

  /** @param {number} peers */
  #count(peers) {
    write(this.#status, this.#text.say("live.peers", { count: peers }));
    this.#table.show([...this.#members.values()]);
  }

  /** @param {string} sentence */
  #tell(sentence) {
    this.#events.prepend(h("li", {}, `${new Date().toLocaleTimeString(this.#text.language)}  ${sentence}`));
    while (this.#events.children.length > EVENTS_MAX) this.#events.lastElementChild?.remove();
  }
}

/** @param {Member} member */
function nameOf({ peerId, name, user }) {
  return user ?? name ?? peerId;
}
