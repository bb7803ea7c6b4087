/**
 * The call: everybody's picture and sound, from browser to browser. The server introduces, and tells who has muted himself; what is seen and heard
 * never passes it, and goes on when it is gone.
 */

import { arrange, byId, h, write } from "./dom.js";
import { openPage } from "./entrance.js";
import { pageText } from "./i18n.js";
import { askForDevices, askForScreen, canShareScreen, lackOf } from "./media.js";
import { Meter } from "./meter.js";
import { Notice } from "./notice.js";
import { Plot } from "./plots.js";
import { Senders } from "./senders.js";
import { store, stored } from "./stored.js";
import { TestPicture } from "./testpicture.js";
import { Tile } from "./tiles.js";
import { bitsPerSecond, milliseconds } from "./units.js";

/** How often the statistics are read. */
const STATISTICS_MS = 1_000;

/**
 * @typedef {import("./visit.js").Visit} Visit
 * @typedef {import("./visit.js").PeerLink} PeerLink
 */

const text = pageText();
const hint = new Notice({ id: "hint", testid: "hint", buttonTestid: "hint-button" });
const soundHint = new Notice({ id: "sound-hint", testid: "sound-hint", buttonTestid: "hear" });
const tiles = byId("tiles");
const mute = byId("mute", HTMLButtonElement);
const cameraOff = byId("camera", HTMLButtonElement);
const screenButton = byId("screen", HTMLButtonElement);

const picture = h(
  "select",
  { id: "picture", "data-testid": "picture" },
  h("option", { value: "camera" }, text.say("entrance.camera")),
  h("option", { value: "test" }, text.say("entrance.test-picture")),
);
picture.value = new URLSearchParams(location.search).get("picture") === "test" || stored("picture") === "test" ? "test" : "camera";

// ---- what we show

/** Where our picture and sound come from at the moment. */
const own = {
  /** @type {MediaStreamTrack | undefined} */ camera: undefined,
  /** @type {MediaStreamTrack | undefined} */ microphone: undefined,
  /** @type {MediaStreamTrack | undefined} */ screen: undefined,
  /** @type {TestPicture | undefined} */ testPicture: undefined,
  cameraOn: true,
  muted: false,
};
let senders = new Senders(new MediaStream());
let ownTile = newTile(true);

/** Asks for camera and microphone, or runs the test picture. Whoever has left meanwhile keeps neither. @param {Visit} visit */
async function begin(visit) {
  hint.hide();
  if (picture.value === "test") {
    own.testPicture ??= new TestPicture(visit.wish.name);
    return show(visit);
  }
  const { audio, video, lack } = await askForDevices({ audio: !own.microphone, video: !own.camera && own.cameraOn });
  if (visit.signal.aborted) return [audio, video].forEach((track) => track?.stop());
  if (audio && own.microphone) audio.stop();
  else if (audio) takeMicrophone(visit, audio);
  // It may have been switched off, or asked for once more, while the browser asked.
  if (video && (!own.cameraOn || own.camera)) video.stop();
  else if (video) takeCamera(visit, video);
  else if (!own.camera && own.cameraOn) own.testPicture ??= new TestPicture(visit.wish.name);
  if (lack) {
    const without = own.camera ? "sound" : own.microphone ? "picture" : "both";
    const sentences = [text.say(`media.${lack}`), text.say(`media.without-${without}`)];
    hint.show({ code: lack, text: sentences.join(" "), tone: "plain", button: text.say("media.ask-again"), act: () => void begin(visit) });
  }
  await show(visit);
}

/** @param {Visit} visit @param {MediaStreamTrack} track */
function takeCamera(visit, track) {
  own.camera = track;
  own.testPicture?.stop();
  own.testPicture = undefined;
  // Not fired by `stop`: somebody pulled the plug, or took the permission back.
  track.addEventListener("ended", () => {
    if (visit.signal.aborted || own.camera !== track) return;
    own.camera = undefined;
    own.testPicture ??= new TestPicture(visit.wish.name);
    hint.show({ code: "ended", text: text.say("media.ended"), tone: "plain", button: text.say("media.ask-again"), act: () => void begin(visit) });
    void show(visit);
  });
}

/** @param {Visit} visit @param {MediaStreamTrack} track */
function takeMicrophone(visit, track) {
  own.microphone = track;
  track.addEventListener("ended", () => {
    if (visit.signal.aborted || own.microphone !== track) return;
    own.microphone = undefined;
    hint.show({ code: "ended", text: text.say("media.microphone-ended"), tone: "plain", button: text.say("media.ask-again"), act: () => void begin(visit) });
    void show(visit);
  });
}

/** Brings what the others get, what they are told, the own tile and the buttons up to date. @param {Visit} visit */
async function show(visit) {
  const video = own.screen ?? (own.cameraOn ? (own.camera ?? own.testPicture?.track) : undefined);
  if (own.microphone) own.microphone.enabled = !own.muted;
  visit.tell({ muted: own.muted || !own.microphone, camera: own.cameraOn, screen: own.screen !== undefined });
  const stream = ownTile.video.srcObject;
  const shown = stream instanceof MediaStream ? stream.getVideoTracks()[0] : undefined;
  if (shown !== video) ownTile.play(video ? new MediaStream([video]) : null, { mirror: video !== undefined && video === own.camera });
  showOwnTile(visit);
  setPressed(mute, own.muted);
  mute.disabled = !own.microphone;
  setPressed(cameraOff, !own.cameraOn);
  setPressed(screenButton, own.screen !== undefined);
  await Promise.all([senders.set("video", video), senders.set("audio", own.microphone)]);
}

/** @param {HTMLButtonElement} button @param {boolean} pressed */
function setPressed(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

mute.addEventListener("click", () => {
  const visit = page.visit();
  own.muted = !own.muted;
  if (visit) void show(visit);
});

// The camera is given back when it is off, so that its light goes out too.
cameraOff.addEventListener("click", () => {
  const visit = page.visit();
  if (!visit) return;
  own.cameraOn = !own.cameraOn;
  if (own.cameraOn && !own.testPicture) return void begin(visit);
  own.camera?.stop();
  own.camera = undefined;
  void show(visit);
});

screenButton.hidden = !canShareScreen();
screenButton.addEventListener("click", async () => {
  const visit = page.visit();
  if (!visit) return;
  if (own.screen) return endScreen(visit);
  hint.hide("screen-refused");
  // Until one is chosen, nobody chooses another.
  screenButton.disabled = true;
  try {
    const screen = await askForScreen();
    if (visit.signal.aborted) return screen.stop();
    own.screen = screen;
    // The browser has a button of its own that ends it.
    screen.addEventListener("ended", () => own.screen === screen && endScreen(visit));
    await show(visit);
  } catch (error) {
    if (!visit.signal.aborted) hint.show({ code: "screen-refused", text: text.say(`screen.${lackOf(error) === "refused" ? "refused" : "failed"}`), tone: "plain" });
  } finally {
    screenButton.disabled = false;
  }
});

/** @param {Visit} visit */
function endScreen(visit) {
  own.screen?.stop();
  own.screen = undefined;
  void show(visit);
}

/** Gives every device back. */
function end() {
  for (const track of [own.camera, own.microphone, own.screen]) track?.stop();
  own.testPicture?.stop();
  Object.assign(own, { camera: undefined, microphone: undefined, screen: undefined, testPicture: undefined, cameraOn: true, muted: false });
  senders.clear();
  senders = new Senders(new MediaStream());
  for (const tile of byPeer.values()) tile.play(null);
  byPeer.clear();
  byLink = new WeakMap();
  ownTile.play(null);
  ownTile = newTile(true);
  tiles.replaceChildren();
  statistics.clear();
  byId("statistics").replaceChildren();
  hint.hide();
  soundHint.hide();
}

// ---- what we see

/** @type {Map<string, Tile>} */
const byPeer = new Map();
/** A peer that comes back with another id keeps its line, and so its tile. @type {WeakMap<PeerLink, Tile>} */
let byLink = new WeakMap();
/** @type {WeakMap<PeerLink, MediaStream>} */
const streams = new WeakMap();

/** @param {boolean} own */
function newTile(own) {
  return new Tile({ text, own, blocked: askForTouch });
}

/** Browsers play no sound on a page that nobody has touched yet. */
function askForTouch() {
  const unblock = () => {
    soundHint.hide();
    for (const tile of byPeer.values()) tile.unblock();
  };
  soundHint.show({ code: "silent", text: text.say("call.silent"), tone: "plain", button: text.say("call.hear"), act: unblock });
}

/** @param {Visit} visit */
function showOwnTile({ client, wish, about }) {
  ownTile.show({ peerId: client.peerId ?? "", metadata: { ...about, name: text.say("you.named", { name: wish.name }) }, line: "own" });
}

/** @param {Visit} visit */
function showTiles(visit) {
  const peers = visit.peers();
  const shown = new Map();
  for (const { peerId, metadata, user, link } of peers) {
    const tile = (link && byLink.get(link)) ?? byPeer.get(peerId) ?? newTile(false);
    if (link) {
      byLink.set(link, tile);
      tile.play(streams.get(link) ?? null);
    }
    tile.show({ peerId, metadata, user, line: link?.state ?? "none" });
    shown.set(peerId, tile);
  }
  const kept = new Set(shown.values());
  for (const tile of byPeer.values()) if (!kept.has(tile)) tile.play(null);
  byPeer.clear();
  for (const [peerId, tile] of shown) byPeer.set(peerId, tile);
  showOwnTile(visit);
  arrange(tiles, [ownTile, ...shown.values()].map(({ element }) => element));
  byId("empty").hidden = peers.length > 0;
}

/** @param {Visit} visit @param {PeerLink} link */
function meet(visit, link) {
  senders.add(link);
  link.addEventListener("state", () => link.isOver && senders.remove(link), { signal: visit.signal });
  const take = (/** @type {RTCTrackEvent} */ { track, streams: [stream] }) => {
    streams.set(link, stream ?? new MediaStream([track]));
    showTiles(visit);
  };
  link.addEventListener("track", ({ detail }) => take(detail), { signal: visit.signal });
}

// ---- statistics

/**
 * @typedef {object} Row one line's statistics
 * @property {HTMLElement} element
 * @property {Element} name
 * @property {Element} path which kinds of candidates the line goes by
 * @property {Plot} roundTrip
 * @property {Plot} sent
 * @property {Plot} received
 * @property {Meter} sentMeter
 * @property {Meter} receivedMeter
 */

/** @type {Map<PeerLink, Row>} */
const statistics = new Map();

/** @returns {Row} */
function newRow() {
  const rate = (/** @type {number | undefined} */ value) => bitsPerSecond(value, text.language);
  const roundTrip = new Plot({ label: text.say("statistics.round-trip"), spell: (value) => milliseconds(value, text.language) });
  const [sent, received] = ["sent", "received"].map((key) => new Plot({ label: text.say(`statistics.${key}`), spell: rate }));
  const [name, path] = [h("b", { class: "name" }), h("span", { class: "path", "data-testid": "path" })];
  const plots = h("div", { class: "plots" }, roundTrip.element, received.element, sent.element);
  const element = h("li", { "data-testid": "statistics-row" }, h("p", {}, name, " ", path), plots);
  return { element, name, path, roundTrip, sent, received, sentMeter: new Meter(), receivedMeter: new Meter() };
}

/** @param {Visit} visit */
async function readStatistics(visit) {
  const peers = visit.peers().filter(({ link }) => link?.state === "connected");
  for (const { link, metadata } of peers) {
    if (!link) continue;
    const stats = await link.stats();
    if (visit.signal.aborted) return;
    const row = statistics.get(link) ?? newRow();
    statistics.set(link, row);
    const now = performance.now();
    row.roundTrip.push(stats.roundTripMs);
    row.sent.push(row.sentMeter.sample(stats.bytesSent, now));
    row.received.push(row.receivedMeter.sample(stats.bytesReceived, now));
    write(row.name, page.name(metadata));
    write(row.path, pathText(stats));
  }
  const links = new Set(peers.map(({ link }) => link));
  for (const link of statistics.keys()) if (!links.has(link)) statistics.delete(link);
  arrange(byId("statistics"), [...statistics.values()].map(({ element }) => element));
  byId("statistics-empty").hidden = statistics.size > 0;
}

/** @param {{localCandidate?: string, remoteCandidate?: string, protocol?: string}} stats */
function pathText({ localCandidate, remoteCandidate, protocol }) {
  if (!localCandidate || !remoteCandidate) return text.say("statistics.unknown");
  const relayed = [localCandidate, remoteCandidate].includes("relay");
  const how = text.say(relayed ? "statistics.relayed" : "statistics.direct");
  return `${how}: ${localCandidate} ↔ ${remoteCandidate}${protocol ? `, ${protocol.toUpperCase()}` : ""}`;
}

const panel = byId("panel", HTMLDetailsElement);

/** @param {Visit} visit */
function follow(visit) {
  const read = async () => {
    if (panel.open && !document.hidden) await readStatistics(visit).catch(() => {});
    if (!visit.signal.aborted) setTimeout(read, STATISTICS_MS);
  };
  void read();
}

// ---- the page

picture.addEventListener("change", () => {
  store("picture", picture.value);
  const url = new URL(location.href);
  if (picture.value === "test") url.searchParams.set("picture", "test");
  else url.searchParams.delete("picture");
  history.replaceState(null, "", url);
});
byId("hints").append(hint.element, soundHint.element);

const page = openPage({
  page: "call",
  text,
  fields: [["picture", picture]],
  mesh: true,
  about: () => ({ muted: own.muted, camera: own.cameraOn, screen: false }),
  enter: (visit) => {
    void begin(visit);
    follow(visit);
  },
  link: meet,
  changed: showTiles,
  end,
});
