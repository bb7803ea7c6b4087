/**
 * Inspect: every signaling message of a room, as it passes, and what it is for. The page takes part in the room and shows what it sends and
 * receives itself; what others say to each other is not for it.
 */

import { byId, write } from "./dom.js";
import { openPage } from "./entrance.js";
import { pageText } from "./i18n.js";
import { Roster } from "./roster.js";
import { Sequence } from "./sequence.js";
import { Story, lineOpened, note } from "./steps.js";
import { TestPicture } from "./testpicture.js";
import { nameOf } from "./visit.js";

/** What a server says, beside answers to the heartbeat. */
const RECEIVED = /** @type {const} */ ([
  ...["joined", "peer-joined", "peer-updated", "peer-left", "left"],
  ...["offer", "answer", "ice-candidate", "message", "error", "ice-servers", "goodbye"],
]);
/** Steps that are also read aloud by a screen reader; the others come by the dozen. */
const SAID = new Set(["offer", "answer", "line"]);
/** Names of peers that are remembered, after they have left too. */
const NAMES_MAX = 2_000;
/** States of a connection that have a sentence. */
const NOTED = new Set(["checking", "connected", "disconnected", "failed", "closed"]);

/**
 * @typedef {import("./visit.js").Visit} Visit
 * @typedef {import("./visit.js").PeerLink} PeerLink
 * @typedef {import("./visit.js").SignalingClient} SignalingClient
 */

const text = pageText();
const roster = new Roster({ list: byId("peers"), empty: byId("empty"), text });
/** @type {Map<string, string>} */
const names = new Map();
const sequence = new Sequence({ text, name: (peerId) => names.get(peerId) ?? text.say("somebody") });
const candidates = byId("candidates", HTMLInputElement);
const picture = byId("picture", HTMLButtonElement);
let story = new Story();

/** @param {import("./steps.js").Step | undefined} step */
function add(step) {
  if (!step) return;
  const summary = sequence.add(step);
  byId("quiet").hidden = true;
  if (SAID.has(step.type)) page.announce(summary);
}

/** Listens from before the room is entered. @param {SignalingClient} client @param {AbortSignal} signal */
function listen(client, signal) {
  const greeted = () => {
    // The greeting passes before anybody can listen; what was answered is known.
    add(story.sent({ type: "hello" }));
    add(story.received({ ...client.welcome, resumeToken: undefined }));
  };
  greeted();
  client.addEventListener("sent", ({ detail }) => add(detail.type === "hello" ? story.renewed() : story.sent(detail)), { signal });
  const receive = (/** @type {{detail: any}} */ { detail }) => {
    know(detail);
    add(story.received(detail));
  };
  for (const type of RECEIVED) client.addEventListener(type, receive, { signal });
  let lost = false;
  const follow = (/** @type {{detail: {state: string}}} */ { detail: { state } }) => {
    if (state === "connected") greeted();
    // It is told once, not at every attempt to come back.
    else if (state === "reconnecting" && !lost) add(note("reconnecting"));
    lost = state === "reconnecting";
  };
  client.addEventListener("state", follow, { signal });
}

/** Notes who is who. @param {any} message */
function know({ type, peers, peerId, metadata }) {
  const told = type === "joined" ? peers : type === "peer-joined" || type === "peer-updated" ? [{ peerId, metadata }] : [];
  for (const peer of told) names.set(peer.peerId, nameOf(peer.metadata) ?? text.say("somebody"));
  // Who has no row any more needs no name: there are fewer rows than this.
  while (names.size > NAMES_MAX) names.delete(/** @type {string} */ (names.keys().next().value));
  if (type === "peer-updated") sequence.rename();
}

/** @param {Visit} visit @param {PeerLink} link */
function meet(visit, link) {
  const { signal } = visit;
  const { connection } = link;
  const state = () => NOTED.has(connection.iceConnectionState) && add(note(`ice-${connection.iceConnectionState}`, link.remoteId));
  connection.addEventListener("iceconnectionstatechange", state, { signal });
  link.addEventListener("state", () => link.state === "connected" && add(lineOpened(link.remoteId)), { signal });
  link.addEventListener("state", () => link.isOver && (senders.delete(link), add(note(`line-${link.state}`, link.remoteId))), { signal });
  if (shown) senders.set(link, link.addTrack(shown.track, shown.stream));
}

// ---- something more to negotiate

/** @type {TestPicture | undefined} */
let shown;
/** @type {Map<PeerLink, RTCRtpSender>} */
const senders = new Map();

picture.addEventListener("click", () => {
  const visit = page.visit();
  if (!visit) return;
  if (shown) {
    for (const [link, sender] of senders) link.removeTrack(sender);
    hidePicture();
  } else {
    const begun = (shown = new TestPicture(visit.wish.name));
    for (const { link } of visit.peers()) if (link) senders.set(link, link.addTrack(begun.track, begun.stream));
  }
  showPicture();
});

function hidePicture() {
  senders.clear();
  shown?.stop();
  shown = undefined;
}

function showPicture() {
  picture.setAttribute("aria-pressed", String(shown !== undefined));
}

// ---- the page

candidates.addEventListener("change", () => byId("sequence").classList.toggle("no-candidates", !candidates.checked));
byId("clear", HTMLButtonElement).addEventListener("click", () => {
  sequence.clear();
  byId("quiet").hidden = false;
});
byId("sequence").append(sequence.element);

/** @param {Visit} visit */
function show(visit) {
  roster.show(visit);
  const connected = visit.peers().some(({ link }) => link && !link.isOver);
  picture.disabled = !connected && !shown;
  write(byId("picture-why"), picture.disabled ? text.say("inspect.nobody-to-show") : "");
}

function end() {
  hidePicture();
  showPicture();
  story = new Story();
  names.clear();
  sequence.clear();
  roster.clear();
  byId("quiet").hidden = false;
}

const page = openPage({ page: "inspect", text, mesh: true, connected: listen, link: meet, changed: show, end });
