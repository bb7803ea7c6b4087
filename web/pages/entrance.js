/**
 * What all pages of a room share: the way in, the way out, and what is seen between: the form, the notice, the line that says where we are,
 * the way to the other pages. `data-state` of the body is `idle`, `connecting`, `inside`, or `lost` while the server is gone.
 */

import { DOORS, invitation, ownAddress, readAddress, serverAddress } from "./address.js";
import { byId, h, write } from "./dom.js";
import { Notice } from "./notice.js";
import { store, stored } from "./stored.js";
import { openWithToken, takeToken, tokenFor } from "./token.js";
import { Visit, nameOf } from "./visit.js";
import { showWays as showWaysFrom } from "./ways.js";

/** Operators of the first switchboards, and some who made them unnecessary. */
const NAMES = ["Emma", "Stella", "Louise", "Almon", "Tivadar", "Julia", "Grace", "Merle", "Oleanna", "Esther"];
const COPIED_MS = 2_000;

/**
 * @typedef {import("./i18n.js").Text} Text
 * @typedef {import("./visit.js").PeerLink} PeerLink
 *
 * @typedef {object} Hooks what a page does about it
 * @property {string} page one of `PAGES`, of a room
 * @property {Text} text
 * @property {[string, HTMLInputElement | HTMLSelectElement][]} [fields] what else is asked at the entrance: a key of the texts, and what to fill in
 * @property {boolean} [mesh] lines to everybody, by themselves
 * @property {() => Record<string, unknown>} [about] what the others see beside name and door, asked when a room is entered
 * @property {(client: import("./visit.js").SignalingClient, signal: AbortSignal) => void} [connected] there is a connection, and the room is still to be
 * entered; the signal is aborted when the visit is over
 * @property {(visit: Visit) => void} [enter] we are in; called before anything that happens in the room
 * @property {(visit: Visit, link: PeerLink) => void} [link] a line to somebody, once for each
 * @property {(visit: Visit) => void} [changed] somebody came or went, or is otherwise than before
 * @property {() => void} [end] the visit is over; also when there was none
 */

/**
 * Makes a page of a room out of what stands in its html: `#inside` with the page's own content, and a `header`. Goes in at once where the address
 * names a room.
 * @param {Hooks} hooks
 */
export function openPage({ page, text, fields = [], mesh = false, about = () => ({}), connected, enter, link, changed, end }) {
  /** @type {Visit | undefined} */
  let visit;
  let attempt = new AbortController();
  /** @type {(import("./address.js").Wish & {name: string}) | undefined} */
  let wish;

  takeToken();
  const form = entranceForm(text, fields);
  const notice = new Notice({ id: "notice", testid: "notice", buttonTestid: "reconnect" });
  const status = h("p", { id: "status", role: "status", tabindex: "-1", "data-testid": "status" });
  const retry = h("p", { id: "retry", "data-testid": "retry", hidden: true });
  const copy = h("button", { id: "copy", type: "button", "data-testid": "copy", onclick: copyLink }, text.say("bar.copy"));
  const leaveButton = h("button", { id: "leave", type: "button", "data-testid": "leave", onclick: leave }, text.say("bar.leave"));
  const announcer = h("p", { class: "unseen", role: "status", "data-testid": "announcer" });
  const inside = byId("inside");
  const nav = h("nav", { "aria-label": text.say("nav.label") });

  document.title = `${text.say(`${page}.title`)} · Switchboard`;
  byId("top").append(nav);
  inside.before(notice.element, form.element, announcer);
  inside.prepend(h("div", { class: "bar" }, status, retry, copy, leaveButton));
  text.fill(document);

  // ---- coming and going

  async function come() {
    finish();
    const current = (attempt = new AbortController());
    wish = form.wish();
    remember(wish);
    show("connecting", text.say("status.connecting", { server: wish.server }));
    try {
      const { signal } = current;
      const all = { page, lang: text.language, ...about() };
      const token = tokenFor(wish.server);
      const begun = await Visit.begin(wish, { mesh, about: all, signal, token, connected: (client) => connected?.(client, signal) });
      if (attempt !== current) return begun.end();
      visit = begun;
    } catch (error) {
      if (attempt === current) fail(/** @type {any} */ (error));
      return;
    }
    arrive(visit);
  }

  /** Ends the visit, if there is one, without a word. */
  function finish() {
    attempt.abort();
    visit?.end();
    visit = undefined;
    stopCountdown();
    end?.();
  }

  function leave() {
    finish();
    show("idle");
    const url = new URL(ownAddress(location.href, { ...form.wish(), room: "" }));
    history.replaceState(null, "", url);
    showWays();
    form.focus();
  }

  /** We did not get in. @param {{code?: string, message: string, reconnect?: boolean, retryable?: boolean}} error */
  function fail({ code = "unexpected", message, reconnect, retryable }) {
    const gone = explain(code, message);
    finish();
    show("idle");
    const again = reconnect !== false && retryable !== false;
    notice.show({ code, text: gone, button: again ? text.say("notice.again") : undefined, act: come });
    // The button that had the focus is gone.
    form.focus();
  }

  // ---- inside

  /** @param {Visit} current */
  function arrive(current) {
    const { client, room, signal } = current;
    // The client says `goodbye` by itself when the page goes, and comes back with it.
    client.addEventListener("state", ({ detail }) => follow(current, detail), { signal });
    client.addEventListener("close", ({ detail }) => lose(current, detail), { signal });
    // With a client that is over every room is left; then it says itself why.
    room.addEventListener("left", ({ detail }) => client.state !== "closed" && turnedOut(detail), { signal });
    // These listen before the visit does, so that who leaves is still known.
    const nameOfPeer = (/** @type {string} */ peerId) => name(current.peer(peerId).metadata);
    room.addEventListener("peer-joined", ({ detail }) => announce(text.say("announce.came", { name: nameOfPeer(detail.peerId) })), { signal });
    room.addEventListener("peer-left", ({ detail }) => announce(text.say("announce.left", { name: nameOfPeer(detail.peerId) })), { signal });
    show("inside", statusLine(current));
    enter?.(current);
    current.watch({ link: (found) => link?.(current, found), changed: () => changed?.(current) });
    // The button that had the focus is gone; whoever uses the keyboard goes on from here.
    if (document.activeElement === document.body) status.focus();
  }

  /** The connection to the server comes and goes; the visit goes on. @param {Visit} current @param {import("../src/signaling.js").StateDetail} detail */
  function follow(current, { state, cause, retryInMs }) {
    stopCountdown();
    if (state === "connected") {
      show("inside", statusLine(current));
    } else if (state === "reconnecting") {
      show("lost", text.say("status.lost"));
      notice.show({ code: cause?.code ?? "connection-lost", text: gone(current, cause), button: text.say("notice.now"), act: hurry });
      if (retryInMs !== undefined) countDown(performance.now() + retryInMs);
    }
  }

  /** A client tries at once when its page is looked at again, and who presses a button looks at it. */
  function hurry() {
    document.dispatchEvent(new Event("visibilitychange"));
  }

  /** The client does not come back. @param {Visit} current @param {import("../src/signaling.js").Cause} cause */
  function lose(current, cause) {
    stopCountdown();
    show("lost", text.say("status.lost"));
    const button = text.say(cause.reconnect ? "notice.reconnect" : "notice.anyway");
    notice.show({ code: cause.code, text: gone(current, cause), button, act: come });
  }

  /** The server does not have us in the room any more, and we did not ask to leave. @param {any} detail */
  function turnedOut({ reason }) {
    finish();
    show("idle");
    const sentences = [...(reason === "removed" ? [] : [text.say("notice.turned-out")]), explain(reason, reason)];
    notice.show({ code: reason, text: sentences.join(" "), button: text.say("notice.again"), act: come });
    form.focus();
  }

  /** Why the server is gone, and what still works. @param {Visit} current @param {import("../src/signaling.js").Cause} [cause] */
  function gone(current, cause) {
    const why = cause ? explain(cause.code, cause.reason) : text.say("code.connection-lost");
    const goesOn = current.peers().some(({ link }) => link?.state === "connected");
    return goesOn ? `${why} ${text.say("notice.lines-go-on")}` : why;
  }

  /** @param {string} code @param {string} message */
  function explain(code, message) {
    const key = `code.${code}`;
    const values = { server: wish?.server ?? "", door: DOORS[wish?.door ?? ""] ?? text.say("entrance.any-door"), message, code };
    return text.say(text.has(key) ? key : "notice.other", values);
  }

  // ---- what is seen

  /** @param {"idle" | "connecting" | "inside" | "lost"} state @param {string} [line] */
  function show(state, line = "") {
    document.body.dataset.state = state;
    // While the server is lost the same notice stays: one that is shown anew is read aloud anew, at every attempt.
    if (state !== "lost") notice.hide();
    form.element.hidden = state !== "idle";
    inside.hidden = state === "idle";
    write(status, line);
    showWays();
  }

  /** The other pages, of the same room while there is one. */
  function showWays() {
    const here = wish && document.body.dataset.state !== "idle" ? wish : { ...form.wish(), room: "" };
    showWaysFrom(nav, { page, text, wish: here });
  }

  /** @param {Visit} current */
  function statusLine({ client, room }) {
    return text.say("status.inside", { room: room.name, door: DOORS[client.transport ?? ""] ?? "" });
  }

  /** A stranger's name, for people. @param {any} metadata */
  function name(metadata) {
    return nameOf(metadata) ?? text.say("somebody");
  }

  /** Says something to whoever does not see the page. @param {string} sentence */
  function announce(sentence) {
    announcer.textContent = sentence;
  }

  /** @type {ReturnType<typeof setInterval> | undefined} */
  let counting;

  /** Seconds until the next attempt; outside of what is read aloud, for it changes all the time. @param {number} until */
  function countDown(until) {
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1_000));
      write(retry, seconds > 0 ? text.say("status.retry", { count: seconds }) : text.say("status.retrying"));
    };
    retry.hidden = false;
    counting = setInterval(tick, 250);
    tick();
  }

  function stopCountdown() {
    clearInterval(counting);
    retry.hidden = true;
  }

  // ---- the address

  /** A reload comes back to the same room, by the same door, under the same name. @param {import("./address.js").Wish & {name: string}} chosen */
  function remember(chosen) {
    store("name", chosen.name);
    history.replaceState(null, "", ownAddress(location.href, chosen));
  }

  async function copyLink() {
    if (!wish) return;
    try {
      await navigator.clipboard.writeText(invitation(location.href, wish));
      copy.textContent = text.say("bar.copied");
    } catch {
      // No permission, or no secure context: the address bar has the same link.
      copy.textContent = text.say("bar.copy-yourself");
    }
    announce(copy.textContent);
    setTimeout(() => (copy.textContent = text.say("bar.copy")), COPIED_MS);
  }

  form.element.addEventListener("submit", (event) => {
    event.preventDefault();
    void come();
  });
  // Another tab has nothing of what this one keeps.
  document.addEventListener("click", (event) => {
    const way = event.target instanceof Element && event.target.closest("a[data-way]");
    if (way instanceof HTMLAnchorElement && way.target === "_blank" && wish && openWithToken(way.dataset.way || page, wish)) event.preventDefault();
  });
  addEventListener("hashchange", () => {
    const isAnother = takeToken();
    const { room } = readAddress(location.href);
    if (room === "" || (room === visit?.wish.room && !isAnother)) return;
    form.setRoom(room);
    void come();
  });
  // Of a page that comes back as it was, the client goes on by itself; devices are the page's own affair.

  show("idle");
  if (form.wish().room === "") form.focus();
  else void come();

  return { announce, name, notice, visit: () => visit };
}

/** Who, where, by which door, at which server. @param {Text} text @param {[string, Element][]} more */
function entranceForm(text, more) {
  const asked = readAddress(location.href);
  const chance = NAMES[Math.floor(Math.random() * NAMES.length)];
  const plain = { autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
  const room = h("input", { id: "room", "data-testid": "room", required: true, placeholder: text.say("entrance.example"), ...plain });
  const name = h("input", { id: "name", "data-testid": "name", required: true, maxlength: "40", autocomplete: "off" });
  const server = h("input", { id: "server", "data-testid": "server", type: "url", required: true, ...plain });
  const door = h(
    "select",
    { id: "door", "data-testid": "door" },
    h("option", { value: "auto" }, text.say("entrance.any-door")),
    ...Object.entries(DOORS).map(([value, label]) => h("option", { value }, label)),
  );
  room.value = asked.room;
  name.value = asked.name ?? stored("name") ?? chance;
  server.value = asked.server;
  door.value = asked.door;
  const fields = /** @type {[string, Element][]} */ ([["room", room], ["name", name], ["door", door], ["server", server], ...more]);
  const element = h(
    "form",
    { id: "entrance", class: "card", "data-testid": "entrance", "aria-label": text.say("entrance.label") },
    h("div", { class: "fields" }, ...fields.map(([key, field]) => h("label", {}, `${text.say(`entrance.${key}`)} `, field))),
    h("button", { class: "primary", "data-testid": "enter" }, text.say("entrance.enter")),
  );
  return {
    element,
    focus: () => room.focus(),
    setRoom: (/** @type {string} */ typed) => (room.value = typed),
    wish: () => ({ server: serverAddress(server.value), room: room.value, name: name.value.trim() || text.say("somebody"), door: door.value }),
  };
}
