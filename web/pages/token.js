/**
 * The token that a link brought along, in its hash: `#room=kitchen&token=…`. It says who somebody is, so it does not stay in the address, where it would be
 * seen and copied with it; this tab keeps it, for the one server that the link was for.
 */

import { pageAddress, readAddress, splitToken, withToken } from "./address.js";
import { store, stored } from "./stored.js";

/** @typedef {import("./address.js").Wish} Wish */

/** Takes the token out of the page's address and keeps it. Was there one? @returns {boolean} */
export function takeToken() {
  const { token, rest } = splitToken(location.href);
  if (token === undefined) return false;
  store(keyOf(readAddress(rest).server), token);
  history.replaceState(null, "", rest);
  return true;
}

/** The token for a server, if a link has brought one or somebody has typed it. @param {string} server @returns {string | undefined} */
export function tokenFor(server) {
  return stored(keyOf(server)) || undefined;
}

/** Keeps what somebody has typed; nothing, where that is empty. @param {string} server @param {string} token */
export function keepToken(server, token) {
  if (token !== (tokenFor(server) ?? "")) store(keyOf(server), token);
}

/**
 * Opens another page of the room in a tab of its own, which has nothing of what this one keeps.
 * @param {string} page
 * @param {Wish} wish
 * @returns {boolean} false where a plain link does the same
 */
export function openWithToken(page, wish) {
  const token = tokenFor(wish.server);
  if (token === undefined) return false;
  open(withToken(pageAddress(page, location.href, wish), token), "_blank", "noopener");
  return true;
}

/** @param {string} server */
const keyOf = (server) => `token ${server}`;
