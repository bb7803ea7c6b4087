/**
 * A sequence diagram that grows: a lane for each participant, a row for each step, drawn in SVG by shares of the width, so that it fits every
 * screen. Beside each row, or below it on a phone, stands the sentence that explains it.
 */

import { h, s } from "./dom.js";
import { ME, OTHERS, SERVER, lanesOf } from "./steps.js";

/** Lanes of peers; a phone has no room for more. */
const PEERS_MAX = 4;
/** Rows; the oldest make way. */
const ROWS_MAX = 400;
/** Of one message so much is shown; descriptions have some thousand characters. */
const CONTENT_CHARACTERS_MAX = 20_000;
/** Where the arrow of a row is, from its top, and its label. */
const ARROW_Y = 34;
const LABEL_Y = 24;

/**
 * @typedef {import("./i18n.js").Text} Text
 * @typedef {import("./steps.js").Step} Step
 * @typedef {{step: Step, number: number, atMs: number, element: HTMLElement, drawing: SVGSVGElement}} Row
 */

export class Sequence {
  /** @type {Row[]} */
  #rows = [];
  #number = 0;
  #lanesShown = "";
  #head = h("div", { class: "lanes", "data-testid": "lanes" });
  #list = h("ol", { class: "steps", "data-testid": "steps" });
  #text;
  #name;
  #begun = performance.now();

  /** @param {{text: Text, name: (peerId: string) => string}} options `name`: of a peer, for people */
  constructor({ text, name }) {
    this.#text = text;
    this.#name = name;
    // One arrow head for all rows; each takes the colour of its own line.
    const shape = { viewBox: "0 0 10 10", refX: "9", refY: "5", markerWidth: "7", markerHeight: "7", orient: "auto-start-reverse" };
    const heads = ["sent", "received", "line"].map((kind) => s("marker", { id: `head-${kind}`, ...shape }, s("path", { d: "M0 1L9 5L0 9Z" })));
    const shapes = s("svg", { class: "unseen", "aria-hidden": "true", width: "0", height: "0" }, s("defs", {}, ...heads));
    this.element = h("div", { class: "sequence" }, shapes, this.#head, this.#list);
  }

  /** One more step. @param {Step} step @returns {string} who says what to whom, in words */
  add(step) {
    const row = this.#newRow(step);
    this.#rows.push(row);
    this.#list.append(row.element);
    if (this.#rows.length > ROWS_MAX) this.#rows.shift()?.element.remove();
    if (!this.#relane()) this.#draw(row);
    return this.#summary(step);
  }

  /** Draws the lanes anew, because a name has changed. */
  rename() {
    this.#lanesShown = "";
    this.#relane();
  }

  /** Begins anew. */
  clear() {
    this.#rows = [];
    this.#number = 0;
    this.#begun = performance.now();
    this.#list.replaceChildren();
    this.rename();
  }

  /** Whether all rows had to be drawn anew, since somebody came. */
  #relane() {
    const { lanes } = this.#lanes();
    const names = lanes.map((lane) => this.#laneName(lane));
    if (names.join("\n") === this.#lanesShown) return false;
    this.#lanesShown = names.join("\n");
    this.#head.replaceChildren(...names.map((name, i) => h("span", { title: name, "data-lane": lanes[i] }, name)));
    for (const row of this.#rows) this.#draw(row);
    return true;
  }

  #lanes() {
    return lanesOf(this.#rows.map(({ step }) => step), PEERS_MAX);
  }

  /** @param {string} lane */
  #laneName(lane) {
    return lane === ME || lane === SERVER || lane === OTHERS ? this.#text.say(`lane.${lane}`) : this.#name(lane);
  }

  /** @param {Step} step */
  #summary({ kind, from, to, type }) {
    const names = { from: this.#laneName(from), to: this.#laneName(to), type: this.#label({ kind, type }) };
    return this.#text.say(kind === "note" ? "step.note" : kind === "line" ? "step.line" : "step.message", names);
  }

  /** @param {{kind: string, type: string}} step */
  #label({ kind, type }) {
    return kind === "line" ? this.#text.say("step.label-line") : type;
  }

  /** What a description describes, in words. @param {string[]} kinds as they stand in it; those that nobody has words for stay as they are */
  #kinds(kinds) {
    return kinds.map((kind) => (this.#text.has(`kind.${kind}`) ? this.#text.say(`kind.${kind}`) : kind)).join(", ");
  }

  /** @param {Step} step @returns {Row} */
  #newRow(step) {
    const number = ++this.#number;
    const atMs = performance.now() - this.#begun;
    const seconds = new Intl.NumberFormat(this.#text.language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(atMs / 1_000);
    const drawing = s("svg", { class: "strip", role: "img" });
    const peer = [step.from, step.to].find((lane) => lane !== ME && lane !== SERVER);
    const name = peer ? this.#name(peer) : this.#text.say("lane.server");
    const sentence = this.#text.say(step.about, { ...step.values, name, kinds: this.#kinds(step.kinds ?? []) });
    const content = spelled(step.content);
    // It can be scrolled by keys, so it has the focus at times, and then a name.
    const scrolled = { tabindex: "0", role: "group", "aria-label": this.#text.say("step.content-of", { number, type: this.#label(step) }) };
    const details = content && h("details", {}, h("summary", {}, this.#text.say("step.content")), h("pre", scrolled, content));
    const told = h("div", { class: "told" }, h("p", {}, h("small", {}, `${number} · ${seconds} s`), " ", h("b", {}, this.#label(step)), " ", sentence), details || null);
    const { type, kind, from, to } = step;
    const element = h("li", { "data-testid": "step", "data-type": type, "data-kind": kind, "data-from": from, "data-to": to }, drawing, told);
    return { step, number, atMs, element, drawing };
  }

  /** @param {Row} row */
  #draw({ step, drawing }) {
    const { lanes, laneOf } = this.#lanes();
    const x = (/** @type {number} */ lane) => `${((lane + 0.5) / lanes.length) * 100}%`;
    const [from, to] = [laneOf(step.from), laneOf(step.to)];
    /** @type {SVGElement[]} */
    const parts = lanes.map((_, i) => s("line", { class: "lane", x1: x(i), x2: x(i), y1: "0", y2: "100%" }));
    const direction = step.kind === "line" ? "line" : step.to === ME ? "received" : "sent";
    if (step.kind === "note") {
      parts.push(s("circle", { class: "dot", cx: x(from), cy: ARROW_Y, r: "5" }));
      parts.push(s("text", { class: "label", x: x(from), y: ARROW_Y + 4, dx: "12" }, this.#label(step)));
    } else {
      parts.push(
        s("line", {
          class: `arrow ${direction}`,
          x1: x(from),
          x2: x(to),
          y1: ARROW_Y,
          y2: ARROW_Y,
          "marker-end": `url(#head-${direction})`,
          "marker-start": step.kind === "line" ? "url(#head-line)" : null,
        }),
      );
      // What one peer says to another passes the server, until they have a line of their own.
      if (step.kind === "message" && from > 1 !== to > 1 && Math.min(from, to) === 0) parts.push(s("circle", { class: "pass", cx: x(1), cy: ARROW_Y, r: "4" }));
      parts.push(s("text", { class: "label", x: x((from + to) / 2), y: LABEL_Y, "text-anchor": "middle" }, this.#label(step)));
    }
    drawing.setAttribute("aria-label", this.#summary(step));
    drawing.replaceChildren(...parts);
  }
}

/** What MessagePack has and JSON has not. @param {unknown} value */
function spellable(value) {
  return value instanceof Uint8Array ? [...value] : typeof value === "bigint" ? `${value}` : value;
}

/** What is in a message, as text. @param {unknown} content */
function spelled(content) {
  if (content === undefined || content === null || content === "") return "";
  const text = typeof content === "string" ? content : JSON.stringify(content, (_, value) => spellable(value), 2);
  return text === "{}" ? "" : text.slice(0, CONTENT_CHARACTERS_MAX);
}
