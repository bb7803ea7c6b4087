/** One tile per person of a call: picture, name, the door they came by, how the line is. The picture of whoever shows none is a letter. */

import { DOORS } from "./address.js";
import { h, write } from "./dom.js";
import { showUser } from "./roster.js";
import { doorOf, nameOf, userOf } from "./visit.js";

/**
 * @typedef {import("./i18n.js").Text} Text
 *
 * @typedef {object} Seen
 * @property {string} peerId
 * @property {any} metadata what a stranger says: `name`, `door`, `muted`, `camera`, `screen`
 * @property {string} [user] who it is, where the server vouches for that
 * @property {string} line `connecting`, `connected`, `closed` or `none`; for oneself `own`
 */

export class Tile {
  #text;
  #letter = h("span", { class: "letter", "aria-hidden": "true" });
  #name = h("b", { class: "name" });
  #user = h("span", { class: "user badge", "data-testid": "user" });
  #door = h("span", { class: "door badge" });
  #line = h("span", { class: "line" });
  #muted;
  #screen;
  /** @type {() => void} */
  #blocked;
  #own;

  /** @param {{text: Text, own: boolean, blocked: () => void}} options `blocked`: the browser lets no sound be heard before somebody has touched the page */
  constructor({ text, own, blocked }) {
    this.#text = text;
    this.#own = own;
    this.#blocked = blocked;
    this.#muted = h("span", { class: "badge", hidden: true }, text.say("tile.muted"));
    this.#screen = h("span", { class: "badge", hidden: true }, text.say("tile.screen"));
    this.video = h("video", { playsinline: true, autoplay: true, "data-testid": own ? "own-video" : "video" });
    this.video.muted = own;
    this.element = h(
      "li",
      { class: "tile", "data-testid": own ? "myself" : "peer" },
      h("div", { class: "picture" }, this.video, this.#letter),
      h("p", { class: "caption" }, this.#name, " ", this.#user, " ", this.#door, " ", this.#muted, " ", this.#screen, " ", this.#line),
    );
  }

  /** @param {Seen} seen */
  show({ peerId, metadata, user, line }) {
    const name = nameOf(metadata) ?? this.#text.say("somebody");
    const door = doorOf(metadata);
    this.element.dataset.peerId = peerId;
    this.element.dataset.door = door ?? "unknown";
    this.element.dataset.line = line;
    write(this.#name, name);
    showUser(this.#user, userOf(user), this.#text);
    write(this.#door, door ? DOORS[door] : this.#text.say("door.unknown"));
    write(this.#line, line === "own" || line === "connected" ? "" : this.#text.say(`line.${line}`));
    write(this.#letter, [...name][0].toUpperCase());
    this.#muted.hidden = metadata?.muted !== true;
    this.#screen.hidden = metadata?.screen !== true;
    // Who takes the picture away leaves the last one standing in the video.
    const stream = /** @type {MediaStream | null} */ (this.video.srcObject);
    const isSeen = stream !== null && stream.getVideoTracks().length > 0 && (metadata?.camera !== false || metadata?.screen === true);
    this.element.dataset.picture = isSeen ? "video" : "letter";
    this.video.setAttribute("aria-label", this.#text.say("tile.picture", { name }));
  }

  /** Shows this stream, if it is not shown already. @param {MediaStream | null} stream @param {{mirror?: boolean}} [options] */
  play(stream, { mirror = false } = {}) {
    this.video.classList.toggle("mirror", mirror);
    if (this.video.srcObject === stream) return;
    this.video.srcObject = stream;
    if (stream) void this.#start();
  }

  /** Tries again with sound, when somebody has touched the page. */
  unblock() {
    if (this.#own) return;
    this.video.muted = false;
    if (this.video.srcObject) void this.#start();
  }

  async #start() {
    try {
      await this.video.play();
    } catch (error) {
      // Another stream came meanwhile, or none is wanted any more.
      if (/** @type {DOMException} */ (error).name !== "NotAllowedError" || this.video.muted) return;
      this.video.muted = true;
      this.#blocked();
      this.video.play().catch(() => {});
    }
  }
}
