/** Asks before something ends. */

import { byId, write } from "../pages/dom.js";

/**
 * Is it meant? Escape means no.
 * @param {string} question
 * @param {string} yes what the button says that means it
 * @returns {Promise<boolean>}
 */
export function ask(question, yes) {
  const dialog = byId("question", HTMLDialogElement);
  const yesButton = byId("question-yes");
  write(byId("question-text"), question);
  write(yesButton, yes);
  return new Promise((resolve) => {
    const end = new AbortController();
    const answer = (/** @type {boolean} */ meant) => {
      end.abort();
      dialog.close();
      resolve(meant);
    };
    yesButton.addEventListener("click", () => answer(true), { signal: end.signal });
    byId("question-no").addEventListener("click", () => answer(false), { signal: end.signal });
    dialog.addEventListener("cancel", () => answer(false), { signal: end.signal });
    dialog.showModal();
    byId("question-no").focus();
  });
}
