/** A small plot of the last minute, drawn in SVG: its label, the present value, the line, and the scale's end. */

import { h, s, write } from "./dom.js";
import { SAMPLES_MAX, extended, pathOf, roundUp } from "./meter.js";

const WIDTH = 120;
const HEIGHT = 32;

export class Plot {
  /** @type {(number | undefined)[]} */
  #series = [];
  #line = s("path", { class: "plot-line", "vector-effect": "non-scaling-stroke" });
  #area = s("path", { class: "plot-area" });
  #value = h("b", { class: "plot-value" });
  #top = h("span", { class: "plot-top" });
  #svg;
  #label;
  #spell;

  /** @param {{label: string, spell: (value: number | undefined) => string}} options `spell`: a value, for people */
  constructor({ label, spell }) {
    this.#label = label;
    this.#spell = spell;
    this.#svg = s("svg", { viewBox: `0 -2 ${WIDTH} ${HEIGHT + 3}`, preserveAspectRatio: "none", role: "img" }, this.#area, this.#line);
    this.element = h("div", { class: "plot" }, h("span", { class: "plot-label" }, label), this.#value, this.#svg, this.#top);
  }

  /** One more value, at the right edge; undefined leaves a gap. @param {number | undefined} value */
  push(value) {
    write(this.#value, this.#spell(value));
    // A plot begins with its first value.
    if (this.#series.length === 0 && value === undefined) return;
    this.#series = extended(this.#series, value);
    const max = roundUp(Math.max(...this.#series.map((known) => known ?? 0)));
    const path = pathOf(this.#series, { width: WIDTH, height: HEIGHT, max });
    this.#line.setAttribute("d", path);
    // Where there are gaps, an area under the line would say something about them.
    const first = WIDTH - ((this.#series.length - 1) * WIDTH) / (SAMPLES_MAX - 1);
    this.#area.setAttribute("d", this.#series.includes(undefined) || this.#series.length < 2 ? "" : `${path}V${HEIGHT}H${first.toFixed(1)}Z`);
    write(this.#top, this.#spell(max));
    this.#svg.setAttribute("aria-label", `${this.#label}: ${this.#spell(value)}`);
  }
}
