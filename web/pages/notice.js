/** Something went wrong, or needs a decision: a sentence, the code behind it for whoever looks it up, and at most one button. */

import { h, write } from "./dom.js";

export class Notice {
  #text;
  #button;
  /** @type {(() => void) | undefined} */
  #act;

  /** @param {{id: string, testid: string, buttonTestid: string}} names */
  constructor({ id, testid, buttonTestid }) {
    this.#text = h("p", { "data-testid": `${testid}-text` });
    this.#button = h("button", { type: "button", "data-testid": buttonTestid, onclick: () => this.#act?.() });
    this.element = h("div", { id, class: "notice", role: "alert", "data-testid": testid, hidden: true }, this.#text, this.#button);
  }

  /**
   * Shows a sentence, in place of the one before.
   * @param {{code: string, text: string, tone?: "bad" | "plain", button?: string, act?: () => void}} what
   */
  show({ code, text, tone = "bad", button, act }) {
    this.element.dataset.code = code;
    this.element.dataset.tone = tone;
    this.#act = act;
    this.#button.hidden = !button;
    write(this.#button, button ?? "");
    this.element.hidden = false;
    write(this.#text, text);
    // On a small screen it may be far from the button that was pressed.
    this.element.scrollIntoView({ block: "nearest" });
  }

  /** Takes it away; with a code, only if it is that one which is shown. @param {string} [code] */
  hide(code) {
    if (code !== undefined && this.element.dataset.code !== code) return;
    this.element.hidden = true;
    this.element.dataset.code = "";
    this.#text.textContent = "";
  }
}
