/** A table that is written anew every few seconds, without losing the button that has the focus. */

import { arrange, h, write } from "../pages/dom.js";

/**
 * @template Item
 * @typedef {object} Column
 * @property {string} title
 * @property {(item: Item) => string} text
 * @property {"name" | "number" | undefined} [kind]
 */

/**
 * @template Item
 * @typedef {{text: string, testid: string, act: (item: Item) => void}} Act a button at the end of each row
 */

/** @template Item */
export class Table {
  #columns;
  #acts;
  #key;
  #empty;
  #body = h("tbody");
  /** @type {Map<string, {row: HTMLTableRowElement, item: Item}>} */
  #rows = new Map();
  #testid;

  /**
   * @param {{columns: Column<Item>[], acts?: Act<Item>[], key: (item: Item) => string, empty: string, testid: string}} options
   * `empty`: the sentence where there is nothing
   */
  constructor({ columns, acts = [], key, empty, testid }) {
    this.#columns = columns;
    this.#acts = acts;
    this.#key = key;
    this.#testid = testid;
    this.#empty = h("p", { class: "empty", "data-testid": `no-${testid}` }, empty);
    const heads = columns.map(({ title, kind }) => h("th", { scope: "col", class: kind }, title));
    const last = acts.length > 0 ? [h("td")] : [];
    this.table = h("table", {}, h("thead", {}, h("tr", {}, ...heads, ...last)), this.#body);
    this.element = h("div", {}, this.#empty, this.table);
    this.show([]);
  }

  /** @param {Item[]} items */
  show(items) {
    const rows = new Map();
    for (const item of items) {
      const key = this.#key(item);
      const known = this.#rows.get(key) ?? { row: this.#row(key), item };
      known.item = item;
      this.#columns.forEach(({ text }, i) => write(known.row.cells[i], text(item)));
      rows.set(key, known);
    }
    this.#rows = rows;
    arrange(this.#body, [...rows.values()].map(({ row }) => row));
    this.#empty.hidden = items.length > 0;
    this.table.hidden = items.length === 0;
  }

  /** @param {string} key */
  #row(key) {
    const cells = this.#columns.map(({ kind }) => h("td", { class: kind }));
    const row = h("tr", { "data-testid": this.#testid, "data-key": key }, ...cells);
    const buttons = this.#acts.map(({ text, testid, act }) => {
      const onclick = () => {
        const known = this.#rows.get(key);
        if (known) act(known.item);
      };
      // Which of many it is, for who does not see the row.
      return h("button", { type: "button", "data-testid": testid, "aria-label": `${text}: ${key}`, onclick }, text);
    });
    if (buttons.length > 0) row.append(h("td", { class: "acts" }, ...buttons));
    return row;
  }
}
