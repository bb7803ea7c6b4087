/** The page of whoever runs the server: asks for the token once, then looks every two seconds, and ends what it is told to after a question. */

import { byId, h, write } from "../pages/dom.js";
import { pageText } from "../pages/i18n.js";
import { Plot } from "../pages/plots.js";
import { bytes, milliseconds } from "../pages/units.js";
import { Api, Refused, peerPath, roomPath } from "./api.js";
import { Live } from "./live.js";
import { Reading, percentile, rate } from "./prometheus.js";
import { ask } from "./question.js";
import { Table } from "./table.js";
import { en } from "./text-en.js";
import { es } from "./text-es.js";

/**
 * @typedef {{id: string, name: string, dialect: string, peers: number, metadataBytes: number}} Room
 * @typedef {{peerId: string, user?: string, rooms: string[], door: string, dialect: string, address: string, connected: boolean, since: string, waitingBytes: number}} Peer
 */

const LOOK_EVERY_MS = 2_000;
/** So many of a list are shown at first, and at the most. */
const SHOWN = 100;
const SHOWN_MAX = 1_000;
/** Where this tab keeps the token. */
const KEPT = "switchboard.admin-token";

const text = pageText({ en, es });
text.fill(document);
const { language } = text;

/** @type {Api | undefined} */
let api;
/** @type {Reading | undefined} */
let before;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

const notice = byId("notice");
const desk = byId("desk");
const entrance = byId("entrance", HTMLFormElement);
const token = byId("token", HTMLInputElement);

const number = (/** @type {number | undefined} */ value) =>
  value === undefined ? "–" : new Intl.NumberFormat(language, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
const perSecond = (/** @type {number | undefined} */ value) => (value === undefined ? "–" : `${number(value)}/s`);
const size = (/** @type {number | undefined} */ value) => (value === undefined ? "–" : bytes(value, language));
const sizePerSecond = (/** @type {number | undefined} */ value) => (value === undefined ? "–" : `${bytes(value, language)}/s`);
const seconds = (/** @type {number | undefined} */ value) => milliseconds(value === undefined ? undefined : value * 1_000, language);

/** @type {{key: string, spell: (value: number | undefined) => string, value: (now: Reading, before: Reading | undefined) => number | undefined}[]} */
const PLOTTED = [
  { key: "plot.connections", spell: number, value: (now) => now.sum("switchboard_connections") },
  { key: "plot.sessions-waiting", spell: number, value: (now) => now.sum("switchboard_sessions", { connected: "no" }) },
  { key: "plot.rooms", spell: number, value: (now) => now.sum("switchboard_rooms") },
  { key: "plot.received", spell: perSecond, value: (now, before) => rate(before, now, "switchboard_messages_received_total") },
  { key: "plot.delivered", spell: perSecond, value: (now, before) => rate(before, now, "switchboard_messages_delivered_total") },
  { key: "plot.bytes-received", spell: sizePerSecond, value: (now, before) => rate(before, now, "switchboard_message_bytes_received_total") },
  { key: "plot.bytes-sent", spell: sizePerSecond, value: (now, before) => rate(before, now, "switchboard_message_bytes_sent_total") },
  { key: "plot.median", spell: seconds, value: (now, before) => percentile(before, now, "switchboard_delivery_seconds", 0.5) },
  { key: "plot.percentile", spell: seconds, value: (now, before) => percentile(before, now, "switchboard_delivery_seconds", 0.99) },
  { key: "plot.outbox", spell: size, value: (now) => now.sum("switchboard_outbox_bytes") },
  { key: "plot.refusals", spell: perSecond, value: (now, before) => rate(before, now, "switchboard_refusals_total") },
  { key: "plot.closes", spell: perSecond, value: (now, before) => rate(before, now, "switchboard_closes_total") },
];
const plots = PLOTTED.map(({ key, spell, value }) => ({ plot: new Plot({ label: text.say(key), spell }), value }));
byId("plots").append(...plots.map(({ plot }) => plot.element));

/** @type {Table<{door: string, dialect: string, connections: number, peers: number}>} */
const doors = new Table({
  key: ({ door, dialect }) => `${door} ${dialect}`,
  testid: "door",
  empty: text.say("doors.empty"),
  columns: [
    { title: text.say("doors.door"), text: ({ door }) => door },
    { title: text.say("doors.dialect"), text: ({ dialect }) => dialect },
    { title: text.say("doors.connections"), kind: "number", text: ({ connections }) => number(connections) },
    { title: text.say("doors.peers"), kind: "number", text: ({ peers }) => number(peers) },
  ],
});
byId("doors").append(doors.element);

/** @type {Table<Room>} */
const rooms = new Table({
  key: ({ id }) => id,
  testid: "room",
  empty: text.say("rooms.empty"),
  columns: [
    { title: text.say("rooms.room"), kind: "name", text: ({ name }) => name },
    { title: text.say("rooms.dialect"), text: ({ dialect }) => (dialect === "shared" ? text.say("rooms.shared") : dialect) },
    { title: text.say("rooms.peers"), kind: "number", text: ({ peers }) => number(peers) },
    { title: text.say("rooms.metadata"), kind: "number", text: ({ metadataBytes }) => size(metadataBytes) },
  ],
  acts: [
    { text: text.say("rooms.watch"), testid: "watch", act: (room) => api && live.watch(api, room) },
    { text: text.say("rooms.close"), testid: "close", act: closeRoom },
  ],
});

/** @type {Table<Peer>} */
const peers = new Table({
  key: ({ peerId }) => peerId,
  testid: "peer",
  empty: text.say("peers.empty"),
  columns: [
    { title: text.say("peers.peer"), kind: "name", text: ({ peerId }) => peerId },
    { title: text.say("peers.user"), kind: "name", text: ({ user }) => user ?? "" },
    { title: text.say("peers.rooms"), kind: "name", text: ({ rooms }) => rooms.join(", ") },
    { title: text.say("peers.door"), text: ({ door, connected }) => (connected ? door : text.say("peers.absent")) },
    { title: text.say("peers.dialect"), text: ({ dialect }) => dialect },
    { title: text.say("peers.address"), text: ({ address }) => address },
    { title: text.say("peers.since"), text: ({ since }) => new Date(since).toLocaleTimeString(language) },
    { title: text.say("peers.waiting"), kind: "number", text: ({ waitingBytes }) => size(waitingBytes) },
  ],
  acts: [{ text: text.say("peers.kick"), testid: "kick", act: ({ peerId }) => kick(peerId, peerId) }],
});

/** A list, and how much of it is shown. @param {string} id @param {HTMLElement} table */
function list(id, table) {
  const show = h("button", { type: "button", "data-testid": `more-${id}`, onclick: () => more() }, text.say("more.show"));
  const only = h("span", { class: "empty" }, text.say("more.only", { count: SHOWN_MAX }));
  const foot = h("div", { class: "more", hidden: true }, show, only);
  byId(id).append(table, foot);
  const shown = {
    limit: SHOWN,
    /** @param {boolean} hasMore */
    note(hasMore) {
      foot.hidden = !hasMore;
      show.hidden = shown.limit >= SHOWN_MAX;
      only.hidden = shown.limit < SHOWN_MAX;
    },
  };
  function more() {
    shown.limit = Math.min(shown.limit * 2, SHOWN_MAX);
    void look();
  }
  return shown;
}
const roomsShown = list("rooms", rooms.element);
const peersShown = list("peers", peers.element);

const live = new Live(text, kick);

/** @param {Room} room */
async function closeRoom({ id, name, peers }) {
  if (await ask(text.say("rooms.close-ask", { name, count: peers }), text.say("rooms.close"))) await act((api) => api.remove(roomPath(id)));
}

/** @param {string} peerId @param {string} name */
async function kick(peerId, name) {
  if (await ask(text.say("peers.kick-ask", { name }), text.say("peers.kick"))) await act((api) => api.remove(peerPath(peerId)));
}

/** @param {(api: Api) => Promise<void>} deed */
async function act(deed) {
  try {
    if (api) await deed(api);
  } catch (error) {
    return failed(error);
  }
  await look();
}

/** Looks once, and again in two seconds. */
async function look() {
  clearTimeout(timer);
  const asked = api;
  if (!asked) return;
  try {
    const [metrics, roomPage, peerPage] = await Promise.all([
      asked.text("metrics"),
      asked.get(`v1/rooms?limit=${roomsShown.limit}`),
      asked.get(`v1/peers?limit=${peersShown.limit}`),
    ]);
    if (api !== asked) return;
    showMetrics(new Reading(metrics, performance.now()));
    rooms.show(roomPage.rooms);
    roomsShown.note(roomPage.next !== undefined);
    peers.show(peerPage.peers);
    peersShown.note(peerPage.next !== undefined);
    write(byId("status"), text.say("status.now", { time: new Date().toLocaleTimeString(language) }));
    enter();
  } catch (error) {
    failed(error);
  }
  // Another look may have been quicker, and is then the one that goes on.
  clearTimeout(timer);
  if (api === asked) timer = setTimeout(look, LOOK_EVERY_MS);
}

/** @param {Reading} now */
function showMetrics(now) {
  for (const { plot, value } of plots) plot.push(value(now, before));
  before = now;
  const open = now.samples("switchboard_connections").filter(({ value }) => value > 0);
  doors.show(
    open.map(({ labels: { door = "", dialect = "" }, value }) => {
      return { door, dialect, connections: value, peers: now.sum("switchboard_peers", { door, dialect }) ?? 0 };
    }),
  );
}

/** The token was good. */
function enter() {
  notice.hidden = true;
  entrance.hidden = true;
  desk.hidden = false;
  document.body.dataset.state = "inside";
}

/** @param {unknown} error */
function failed(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.code === "unauthorized") return leave(text.say("token.wrong"));
  tell(error.code === "unreachable" ? text.say("status.silent") : text.say("status.refused", { detail: error.message, code: error.code }));
}

/** @param {string} sentence */
function tell(sentence) {
  notice.hidden = false;
  write(notice, sentence);
}

/** Forgets the token. @param {string} [why] */
function leave(why) {
  api = undefined;
  before = undefined;
  live.end();
  clearTimeout(timer);
  sessionStorage.removeItem(KEPT);
  entrance.hidden = false;
  desk.hidden = true;
  document.body.dataset.state = "outside";
  notice.hidden = true;
  if (why) tell(why);
  token.focus();
}

entrance.addEventListener("submit", (event) => {
  event.preventDefault();
  begin(token.value.trim());
  token.value = "";
});
byId("forget").addEventListener("click", () => leave());

/** @param {string} kept */
function begin(kept) {
  sessionStorage.setItem(KEPT, kept);
  api = new Api(kept);
  void look();
}

const kept = sessionStorage.getItem(KEPT);
if (kept) begin(kept);
