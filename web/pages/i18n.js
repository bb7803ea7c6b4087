/** Which language a page speaks, and its sentences in it. The tables are `text-en.js` and `text-es.js`, key by key the same. */

import { en } from "./text-en.js";
import { es } from "./text-es.js";

/**
 * @typedef {string | {one: string, other: string}} Entry two sentences where a `count` decides
 * @typedef {Record<string, string | number>} Values for the `{names}` in a sentence
 */

/** @type {Record<string, Record<string, Entry>>} */
export const TABLES = { en, es };

/**
 * The first of these languages that there is a table for; English if there is none. A region plays no part: `es-MX` is Spanish.
 * @param {readonly (string | null | undefined)[]} wanted language tags, the preferred one first
 * @returns {string}
 */
export function pickLanguage(wanted) {
  for (const tag of wanted) {
    const language = (tag ?? "").toLowerCase().split("-")[0];
    if (Object.hasOwn(TABLES, language)) return language;
  }
  return "en";
}

/** The sentences of one language. */
export class Text {
  #table;
  #plural;

  /**
   * @param {string} language one that `pickLanguage` gave
   * @param {Record<string, Record<string, Entry>>} [tables] other sentences, in the same languages
   */
  constructor(language, tables = TABLES) {
    this.language = language;
    this.#table = tables[language];
    this.#plural = new Intl.PluralRules(language);
  }

  /** Is there such a sentence? @param {string} key */
  has(key) {
    return Object.hasOwn(this.#table, key);
  }

  /**
   * The sentence, with its `{names}` replaced; `count` also decides between one and several. A key that is missing stands for itself.
   * @param {string} key
   * @param {Values} [values]
   * @returns {string}
   */
  say(key, values = {}) {
    if (!this.has(key)) return key;
    const entry = this.#table[key];
    const sentence = typeof entry === "string" ? entry : this.#plural.select(Number(values.count)) === "one" ? entry.one : entry.other;
    return sentence.replace(/\{(\w+)\}/g, (braced, name) => (Object.hasOwn(values, name) ? String(values[name]) : braced));
  }

  /** Writes the sentences that elements ask for by `data-text`, `data-label` and `data-hint` (a placeholder). @param {ParentNode} root */
  fill(root) {
    for (const element of root.querySelectorAll("[data-text]")) element.textContent = this.say(element.getAttribute("data-text") ?? "");
    for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", this.say(element.getAttribute("data-label") ?? ""));
    for (const element of root.querySelectorAll("[data-hint]")) element.setAttribute("placeholder", this.say(element.getAttribute("data-hint") ?? ""));
  }
}

/**
 * The language that the browser asks for, or that `lang` in the page's address does.
 * @param {Record<string, Record<string, Entry>>} [tables] the sentences of a page that has its own
 * @returns {Text}
 */
export function pageText(tables) {
  const text = new Text(pickLanguage([new URLSearchParams(location.search).get("lang"), ...navigator.languages]), tables);
  document.documentElement.lang = text.language;
  return text;
}
