/**
 * The page's own code: one room at a time, a direct line to everybody in it, and a chat over those lines. Uses only what `client.js`
 * exports. The server introduces; what is said in the chat never passes it, and goes on when it is gone.
 */

import { PeerLink, connect } from "./client.js";

const element = (id) => document.getElementById(id);

/** Lines in the chat; the oldest make way. */
const LOG_LINES_MAX = 500;
const DOORS = { webtransport: "WebTransport", websocket: "WebSocket" };
/** Operators of the first switchboards, and some who made them unnecessary. */
const NAMES = ["Emma", "Stella", "Louise", "Almon", "Tivadar", "Julia", "Grace", "Merle", "Oleanna", "Esther"];

/** What to tell a person, where we know better than the sentence that comes with a code. */
const EXPLANATIONS = {
  "unreachable": (visit) => `No server answers at ${visit.server}. Is it running, and is the address right?`,
  "not-switchboard": (visit) => `Something answers at ${visit.server}, but it is not Switchboard.`,
  "unsupported": (visit) => `${DOORS[visit.door] ?? "No door"} is not to be had here: the browser or the server lacks it. Choose another door.`,
  "connect-timeout": (visit) => `${visit.server} did not let us in in time.`,
  "room-full": () => "This room is full. Try again later, or choose another room.",
  "bad-room-name": () => "This is no good name for a room: it is too long, or has characters that cannot be seen.",
  "draining": () => "The server is shutting down and said goodbye.",
  "connection-lost": () => "The connection to the server is lost.",
  "timeout": () => "The server heard nothing from us for too long.",
};

/**
 * One stay in one room, from the button to the way out. A new one begins with nothing of the old.
 * @typedef {object} Visit
 * @property {string} server
 * @property {string} room
 * @property {string} name
 * @property {string} door
 * @property {AbortController} giveUp
 * @property {import("./client.js").SignalingClient} [client]
 * @property {Map<string, {link: PeerLink, item: HTMLElement, name: string}>} peers by peer id
 */

/** @type {Visit | undefined} */
let visit;

// ---- coming and going

async function enter() {
  end();
  const current = (visit = {
    server: element("server").value.trim().replace(/\/+$/, ""),
    room: element("room").value,
    name: element("name").value.trim() || "Somebody",
    door: element("door").value,
    giveUp: new AbortController(),
    peers: new Map(),
  });
  remember(current);
  show("connecting", `Connecting to ${current.server} …`);
  try {
    current.client = await connect(current.server, { transport: current.door, signal: current.giveUp.signal });
    listen(current);
    await current.client.join(current.room, { name: current.name, door: current.client.transport });
  } catch (error) {
    if (visit === current) fail(error);
  }
}

/** Ends the visit, if there is one, without a word. */
function end() {
  const ended = visit;
  visit = undefined;
  ended?.giveUp.abort();
  ended?.client?.close();
  for (const { link } of ended?.peers.values() ?? []) link.close();
  element("peers").replaceChildren();
  element("log").replaceChildren();
}

function leave() {
  end();
  show("idle");
  history.replaceState(null, "", location.pathname + location.search);
  element("room").focus();
}

/** We did not get in. */
function fail({ code, message, reconnect, retryable }) {
  const explanation = EXPLANATIONS[code]?.(visit) ?? `${message} (${code ?? "unexpected"})`;
  end();
  show("idle");
  complain(explanation, code, reconnect !== false && retryable !== false ? "Try again" : null);
}

/** We were in, and the server is gone. The lines to the others live on. */
function lose({ code, reason, reconnect }) {
  const explanation = EXPLANATIONS[code]?.(visit) ?? `The server ended the connection: ${reason}.`;
  const goesOn = [...visit.peers.values()].some(({ link }) => link.state === "connected");
  show("lost", "Not connected to the server");
  complain(explanation + (goesOn ? " Those you have a line to still hear you; nobody new can come." : ""), code, reconnect ? "Reconnect" : "Try anyway");
}

// ---- who is there

function listen(current) {
  const { client, peers } = current;
  const on = (type, react) => client.addEventListener(type, ({ detail }) => visit === current && react(detail));
  on("joined", (joined) => {
    show("inside", statusLine(current));
    addMyself(current);
    // Who comes later begins; so of two, one offers. Should both, the links sort it out.
    for (const peer of joined.peers) addPeer(current, peer).start();
    // The button that had the focus is gone; whoever uses the keyboard goes on from here.
    if (document.activeElement === document.body) element("status").focus();
  });
  on("peer-joined", (peer) => addPeer(current, peer));
  on("peer-updated", (peer) => describe(peers.get(peer.peerId), peer));
  on("peer-left", ({ peerId }) => removePeer(current, peerId));
  for (const type of ["offer", "answer", "ice-candidate"]) {
    on(type, ({ from, payload }) => peers.get(from)?.link.receive(type, payload));
  }
  on("close", lose);
}

function addMyself({ client, name }) {
  const item = peerItem(client.peerId, { name: `${name} (you)`, door: client.transport });
  item.dataset.testid = "myself";
  item.querySelector(".line").remove();
  element("peers").prepend(item);
}

/** @returns {PeerLink} */
function addPeer(current, { peerId, metadata }) {
  const { client, peers, room } = current;
  const link = new PeerLink({
    localId: client.peerId,
    remoteId: peerId,
    iceServers: client.welcome.iceServers,
    send: (type, payload) => client.send(type, { to: peerId, room, payload }),
  });
  const peer = { link, item: peerItem(peerId, metadata), name: nameOf(metadata) };
  peers.set(peerId, peer);
  element("peers").append(peer.item);
  link.addEventListener("state", () => visit === current && showLines(current));
  link.addEventListener("message", ({ detail }) => visit === current && say(peer.name, String(detail), "theirs"));
  showLines(current);
  return link;
}

function removePeer(current, peerId) {
  const peer = current.peers.get(peerId);
  current.peers.delete(peerId);
  peer?.link.close();
  peer?.item.remove();
  showLines(current);
}

/** Metadata is what a stranger wrote; nothing about its shape is sure. */
function nameOf(metadata) {
  return typeof metadata?.name === "string" && metadata.name !== "" ? metadata.name.slice(0, 80) : "Somebody";
}

function peerItem(peerId, metadata) {
  const item = element("peer").content.firstElementChild.cloneNode(true);
  item.dataset.peerId = peerId;
  describe({ item }, { peerId, metadata });
  return item;
}

function describe(peer, { peerId, metadata }) {
  if (!peer) return;
  peer.name = nameOf(metadata);
  peer.item.querySelector(".name").textContent = peer.name;
  peer.item.querySelector(".id").textContent = peerId.slice(0, 8);
  peer.item.querySelector(".id").title = `peer id ${peerId}`;
  const door = Object.hasOwn(DOORS, metadata?.door ?? "") ? metadata.door : "unknown";
  peer.item.dataset.door = door;
  peer.item.querySelector(".door").textContent = DOORS[door] ?? "unknown door";
}

function showLines({ peers }) {
  let connected = 0;
  for (const { link, item } of peers.values()) {
    item.dataset.line = link.state;
    item.querySelector(".line").textContent = link.state;
    if (link.state === "connected") connected++;
  }
  element("empty").hidden = peers.size > 0;
  element("text").disabled = element("say").disabled = connected === 0;
  element("text").placeholder = connected === 0 ? "Nobody is connected yet" : `To ${connected === 1 ? "one peer" : `${connected} peers`}`;
}

// ---- the chat

function compose(event) {
  event.preventDefault();
  const text = element("text").value;
  if (!visit || text.trim() === "") return;
  let heard = 0;
  for (const { link } of visit.peers.values()) heard += link.send(text);
  if (heard === 0) return;
  say("You", text, "mine");
  element("text").value = "";
}

function say(name, text, whose) {
  const line = document.createElement("li");
  line.className = whose;
  line.dataset.testid = "line";
  const who = document.createElement("b");
  who.textContent = name;
  const what = document.createElement("span");
  what.textContent = text;
  line.append(who, " ", what);
  const log = element("log");
  log.append(line);
  if (log.childElementCount > LOG_LINES_MAX) log.firstElementChild.remove();
  log.scrollTop = log.scrollHeight;
}

// ---- what is seen

/** @param {"idle" | "connecting" | "inside" | "lost"} state */
function show(state, status = "") {
  document.body.dataset.state = state;
  element("notice").hidden = true;
  element("entrance").hidden = state !== "idle";
  element("inside").hidden = state === "idle";
  element("status").textContent = status;
  element("second").href = element("second").dataset.link = visit ? linkTo(visit) : "";
  element("empty").hidden = state !== "inside" || visit.peers.size > 0;
}

function complain(text, code, button) {
  element("notice-text").textContent = text;
  element("notice").dataset.code = code ?? "";
  element("reconnect").textContent = button ?? "";
  element("reconnect").hidden = button === null;
  element("notice").hidden = false;
}

function statusLine({ client, room }) {
  return `In “${room}” over ${DOORS[client.transport]}`;
}

// ---- the address of a room

/** The page with the room in its hash, and with the server where it is not the page's own. */
function linkTo({ server, room }) {
  const url = new URL(location.pathname, location.href);
  if (server !== location.origin) url.searchParams.set("server", server);
  url.hash = new URLSearchParams({ room }).toString();
  return url.href;
}

/** A reload comes back to the same room, by the same door, under the same name. */
function remember(current) {
  sessionStorage.setItem("name", current.name);
  const url = new URL(linkTo(current));
  if (current.door !== "auto") url.searchParams.set("door", current.door);
  history.replaceState(null, "", url);
}

function roomInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("room") ?? "";
}

async function copyLink() {
  const button = element("copy");
  try {
    await navigator.clipboard.writeText(linkTo(visit));
    button.textContent = "Copied";
  } catch {
    // No permission, or no secure context: the address bar has the same link.
    button.textContent = "Copy it from the address bar";
  }
  setTimeout(() => (button.textContent = "Copy link"), 2_000);
}

function arrive() {
  const query = new URLSearchParams(location.search);
  element("server").value = query.get("server") ?? location.origin;
  element("door").value = Object.hasOwn(DOORS, query.get("door") ?? "") ? query.get("door") : "auto";
  element("name").value = query.get("name") ?? sessionStorage.getItem("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)];
  element("room").value = roomInAddress();

  element("entrance").addEventListener("submit", (event) => {
    event.preventDefault();
    void enter();
  });
  element("compose").addEventListener("submit", compose);
  element("reconnect").addEventListener("click", enter);
  element("leave").addEventListener("click", leave);
  element("copy").addEventListener("click", copyLink);
  addEventListener("hashchange", () => {
    if (roomInAddress() === "" || roomInAddress() === visit?.room) return;
    element("room").value = roomInAddress();
    void enter();
  });
  // Without this the others might wait for the browser to give up the connection.
  addEventListener("pagehide", end);

  if (element("room").value === "") element("room").focus();
  else void enter();
}

arrive();
