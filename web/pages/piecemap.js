/** The map of a file's pieces: a cell for each, coloured by who it came from, and the legend that says the same in words. */

import { arrange, h, write } from "./dom.js";
import { cellsOf, countBySender } from "./pieces.js";

/** So many colours there are in the style sheet; more peers share them. */
const COLOURS = 6;

/** @typedef {import("./i18n.js").Text} Text */

export class PieceMap {
  /** @type {Map<string, number>} */
  #colours = new Map();
  /** @type {HTMLElement[]} */
  #cells = [];
  #grid = h("div", { class: "cells", role: "img", "data-testid": "cells" });
  #legend = h("ul", { class: "legend", "data-testid": "legend" });
  #text;
  #name;

  /** @param {{text: Text, name: (peerId: string) => string}} options `name`: of who sent a piece, for people */
  constructor({ text, name }) {
    this.#text = text;
    this.#name = name;
    this.element = h("div", { class: "map" }, this.#grid, this.#legend);
  }

  /** @param {readonly (string | undefined)[]} pieces */
  show(pieces) {
    const cells = cellsOf(pieces);
    if (cells.length !== this.#cells.length) {
      this.#cells = cells.map(() => h("i", {}));
      arrange(this.#grid, this.#cells);
    }
    cells.forEach(({ state, from }, i) => {
      const { dataset } = this.#cells[i];
      dataset.state = state;
      if (from === undefined) delete dataset.colour;
      else dataset.colour = String(this.#colour(from));
    });
    const counts = [...countBySender(pieces)];
    const there = counts.reduce((sum, [, count]) => sum + count, 0);
    this.#grid.setAttribute("aria-label", this.#text.say("map.label", { there, count: pieces.length }));
    while (this.#legend.childElementCount < counts.length) this.#legend.append(h("li", {}, h("i", { "data-state": "there" }), h("span")));
    counts.forEach(([peerId, count], i) => {
      const item = /** @type {HTMLElement} */ (this.#legend.children[i]);
      /** @type {HTMLElement} */ (item.firstElementChild).dataset.colour = String(this.#colour(peerId));
      item.dataset.from = peerId;
      item.dataset.count = String(count);
      write(/** @type {Element} */ (item.lastElementChild), this.#text.say("map.from", { name: this.#name(peerId), count }));
    });
  }

  /** The same colour for the same peer, as long as the map is there. @param {string} peerId */
  #colour(peerId) {
    const colour = this.#colours.get(peerId) ?? this.#colours.size % COLOURS;
    this.#colours.set(peerId, colour);
    return colour;
  }
}
