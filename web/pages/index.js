/** The page that leads to the others, in the room that its own address names, if it names one. */

import { ownAddress, pageAddress, readAddress } from "./address.js";
import { h } from "./dom.js";
import { TABLES, pageText } from "./i18n.js";
import { takeToken } from "./token.js";

const text = pageText();
text.fill(document);

const ways = /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("a[data-way]"));
const language = /** @type {HTMLElement} */ (document.querySelector("[data-testid=language]")).parentElement;

function showWays() {
  takeToken();
  const wish = readAddress(location.href);
  for (const way of ways) way.href = pageAddress(way.dataset.way ?? "", location.href, wish);
  const others = Object.keys(TABLES).filter((other) => other !== text.language);
  language?.replaceChildren(
    ...others.map((lang) => {
      const url = new URL(ownAddress(location.href, wish));
      url.searchParams.set("lang", lang);
      const name = new Intl.DisplayNames(lang, { type: "language" }).of(lang) ?? lang;
      return h("a", { href: url.href, lang, hreflang: lang, "data-testid": "language" }, name[0].toUpperCase() + name.slice(1));
    }),
  );
}

addEventListener("hashchange", showWays);
showWays();
