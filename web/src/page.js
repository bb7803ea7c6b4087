/** What the browser knows about the page and its network: when to try again at once, when the page goes, and when it comes back. */

/**
 * @typedef {object} Hooks
 * @property {(networkChanged: boolean) => void} wake there is a network again, or the page is looked at again
 * @property {() => void} hide the page is being left; it may be kept, and come back as it was
 * @property {() => void} show it has come back
 */

/**
 * Watches until the function that it gives is called. Where there is no page (in a worker, in node) what cannot happen does not.
 * @param {Hooks} hooks
 * @returns {() => void}
 */
export function watchPage({ wake, hide, show }) {
  const controller = new AbortController();
  const { signal } = controller;
  const on = (/** @type {string} */ type, /** @type {(event: any) => void} */ listener) => globalThis.addEventListener?.(type, listener, { signal });
  on("online", () => wake(true));
  on("pagehide", hide);
  on("pageshow", ({ persisted }) => persisted && show());
  globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake(false), { signal });
  return () => controller.abort();
}
