/**
 * What stands in a page's address, and addresses of pages: in the hash, which no server of pages ever sees, the room, and in a link that was given to one
 * person a token; in the query the server where it is not the page's own, the door, a name, a language, a picture. Pure: takes and gives strings.
 */

/** The pages that the first one leads to, in the order in which they are offered: four of a room, and one that looks at the server. */
export const PAGES = ["call", "phrases", "stream", "inspect", "check"];

/** How the doors are called, for people. @type {Record<string, string>} */
export const DOORS = { webtransport: "WebTransport", websocket: "WebSocket" };

/** What somebody chose by the address, and keeps from page to page. */
const KEPT = ["lang", "picture"];

/**
 * @typedef {object} Wish what somebody who comes in has chosen
 * @property {string} server
 * @property {string} room
 * @property {string} door `auto`, or one of `DOORS`
 * @property {string} [name]
 */

/**
 * @param {string} href
 * @returns {Wish}
 */
export function readAddress(href) {
  const { searchParams, hash, origin } = new URL(href);
  return {
    server: serverAddress(searchParams.get("server") ?? origin),
    room: new URLSearchParams(hash.slice(1)).get("room") ?? "",
    door: Object.hasOwn(DOORS, searchParams.get("door") ?? "") ? String(searchParams.get("door")) : "auto",
    name: searchParams.get("name") ?? undefined,
  };
}

/**
 * The token in an address, which says to the server who somebody is, and the address without it. No other address here has one.
 * @param {string} href
 * @returns {{token: string | undefined, rest: string}}
 */
export function splitToken(href) {
  const url = new URL(href);
  const hash = new URLSearchParams(url.hash.slice(1));
  const token = hash.get("token") || undefined;
  hash.delete("token");
  url.hash = hash.toString();
  return { token, rest: url.href };
}

/** The address with a token in it, for one's own eyes. @param {string} href @param {string} token @returns {string} */
export function withToken(href, token) {
  const url = new URL(href);
  const hash = new URLSearchParams(url.hash.slice(1));
  hash.set("token", token);
  url.hash = hash.toString();
  return url.href;
}

/** A server's address as it is compared and shown: without slashes at its end. @param {string} typed */
export function serverAddress(typed) {
  return typed.trim().replace(/\/+$/, "");
}

/**
 * The address of the page at `href` for somebody who is to come into the same room: nothing of one's own stands in it.
 * @param {string} href
 * @param {{server: string, room: string}} wish
 * @returns {string}
 */
export function invitation(href, { server, room }) {
  const url = new URL(new URL(href).pathname, href);
  if (server !== url.origin) url.searchParams.set("server", server);
  if (room !== "") url.hash = new URLSearchParams({ room }).toString();
  return url.href;
}

/**
 * The same for oneself, in another tab or after a reload: with the door and whatever else was chosen.
 * @param {string} href
 * @param {Wish} wish
 * @returns {string}
 */
export function ownAddress(href, wish) {
  const url = new URL(invitation(href, wish));
  if (wish.door !== "auto") url.searchParams.set("door", wish.door);
  for (const kept of KEPT) {
    const value = new URL(href).searchParams.get(kept);
    if (value) url.searchParams.set(kept, value);
  }
  return url.href;
}

/**
 * Where another page of the same room is; `index` is the one that leads to the others.
 * @param {string} page
 * @param {string} href of the present page
 * @param {Wish} wish
 */
export function pageAddress(page, href, wish) {
  return ownAddress(new URL(page === "index" ? "." : `${page}.html`, href).href + new URL(href).search, wish);
}
