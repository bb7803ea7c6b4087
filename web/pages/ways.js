/** The ways from one page to the others, which every page but the first has above its content. */

import { PAGES, pageAddress } from "./address.js";
import { h } from "./dom.js";

/**
 * Has all links of a page lead on with what was chosen: those to the other pages, in `nav`, and those that say by `data-way` where they lead.
 * @param {Element} nav
 * @param {{page: string, text: import("./i18n.js").Text, wish: import("./address.js").Wish}} here
 */
export function showWays(nav, { page, text, wish }) {
  nav.replaceChildren(
    ...["index", ...PAGES].map((to) =>
      h("a", { href: pageAddress(to, location.href, wish), "aria-current": to === page ? "page" : null }, text.say(`nav.${to}`)),
    ),
  );
  for (const way of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("a[data-way]"))) {
    way.href = pageAddress(way.dataset.way || page, location.href, wish);
  }
}
