/**
 * Phrases: what one writes, all read and hear at once; and voice messages. Everything goes over the direct lines: it never passes the server, and
 * goes on when that is gone. A phrase is a plain text on the standing channel, so any client that sends one takes part.
 */

import { byId, h, write } from "./dom.js";
import { openPage } from "./entrance.js";
import { pageText } from "./i18n.js";
import { askForDevices } from "./media.js";
import { Notice } from "./notice.js";
import { Recording, canRecord } from "./recorder.js";
import { Roster } from "./roster.js";
import { Reader } from "./speech.js";
import { store, stored } from "./stored.js";
import { bytes, clock } from "./units.js";
import { languageOf } from "./visit.js";
import { VOICE_LABEL, extensionOf, receiveVoice, sendVoice } from "./voice.js";

/** Lines in the log; the oldest make way. */
const LINES_MAX = 500;
/** Of a stranger's phrase so much is shown and read. */
const PHRASE_CHARACTERS_MAX = 4_000;
/** Voice messages that are kept, all together; the oldest make way. */
const VOICES_BYTES_MAX = 64 * 1024 * 1024;
/** Voice messages that one peer may have under way. */
const VOICES_UNDER_WAY_MAX = 4;

/**
 * @typedef {import("./visit.js").Visit} Visit
 * @typedef {import("./visit.js").PeerLink} PeerLink
 * @typedef {import("./voice.js").Voice} Voice
 */

const text = pageText();
const hint = new Notice({ id: "hint", testid: "hint", buttonTestid: "hint-button" });
const log = byId("log");
const input = byId("text", HTMLInputElement);
const sayButton = byId("say", HTMLButtonElement);
const record = byId("record", HTMLButtonElement);
const discard = byId("discard", HTMLButtonElement);
const aloud = byId("aloud", HTMLInputElement);
const roster = new Roster({ list: byId("peers"), empty: byId("empty"), text });
const reader = new Reader({ blocked: askForTouch });

// ---- phrases

byId("compose", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const visit = page.visit();
  const phrase = input.value;
  if (!visit || phrase.trim() === "") return;
  const reached = visit.peers().filter(({ link }) => link?.send(phrase)).length;
  if (reached === 0) return;
  addLine({ whose: "mine", name: text.say("you"), content: h("span", {}, phrase), note: reachedText(visit, reached) });
  input.value = "";
});

/** Who did not get it, if anybody did not. @param {Visit} visit @param {number} reached */
function reachedText(visit, reached) {
  const all = visit.peers().length;
  return reached === all ? "" : text.say("phrases.reached", { reached, count: all });
}

/** @param {Visit} visit @param {PeerLink} link @param {unknown} data */
function hear(visit, link, data) {
  // Bytes on this channel are of no page that we know.
  if (typeof data !== "string" || data.trim() === "") return;
  const phrase = data.slice(0, PHRASE_CHARACTERS_MAX);
  const { metadata } = visit.peer(link.remoteId);
  const lang = languageOf(metadata);
  // So that a screen reader speaks it as the page itself does.
  addLine({ whose: "theirs", name: page.name(metadata), content: h("span", { lang }, phrase) });
  reader.read(phrase, lang);
}

/** @param {{whose: "mine" | "theirs", name: string, content: HTMLElement, note?: string}} line */
function addLine({ whose, name, content, note = "" }) {
  const end = isAtEnd();
  const small = h("small", { hidden: note === "" }, note);
  const line = h("li", { class: whose, "data-testid": "line" }, h("b", {}, name), " ", content, " ", small);
  log.append(line);
  if (log.childElementCount > LINES_MAX) removeLine(/** @type {Element} */ (log.firstElementChild));
  // Whoever has scrolled up to read is left there.
  if (end || whose === "mine") log.scrollTop = log.scrollHeight;
  byId("silence").hidden = true;
  return { line, small };
}

function isAtEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

/** @param {Element} line */
function removeLine(line) {
  line.remove();
  const voice = voices.get(line);
  if (voice) URL.revokeObjectURL(voice.url);
  voices.delete(line);
}

// ---- reading aloud

aloud.checked = reader.on = stored("aloud") !== "no";
aloud.disabled = !reader.available;
byId("aloud-not").hidden = reader.available;
aloud.addEventListener("change", () => {
  reader.on = aloud.checked;
  store("aloud", aloud.checked ? "yes" : "no");
  if (!reader.on) reader.stop();
});

function askForTouch() {
  hint.show({ code: "silent", text: text.say("phrases.silent"), tone: "plain", button: text.say("phrases.speak"), act: () => hint.hide() });
}

// ---- voice messages

/** Those that are shown, the oldest first. @type {Map<Element, {url: string, bytes: number}>} */
const voices = new Map();
/** @type {Recording | undefined} */
let recording;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticking;
let asking = false;

record.addEventListener("click", () => (recording ? recording.stop() : void speak()));
discard.addEventListener("click", () => recording?.discard());

async function speak() {
  const visit = page.visit();
  if (!visit || asking) return;
  hint.hide();
  asking = true;
  const { audio, lack } = await askForDevices({ audio: true, video: false });
  asking = false;
  if (visit.signal.aborted) return audio?.stop();
  if (!audio) {
    const why = `${text.say(`media.${lack ?? "missing"}`)} ${text.say("phrases.still-write")}`;
    hint.show({ code: lack ?? "missing", text: why, button: text.say("media.ask-again"), act: () => void speak() });
    return;
  }
  recording = new Recording(audio);
  showRecording();
  ticking = setInterval(showRecording, 200);
  const voice = await recording.finished;
  recording = undefined;
  clearInterval(ticking);
  showRecording();
  if (voice && !visit.signal.aborted) sendToAll(visit, voice);
}

function showRecording() {
  record.setAttribute("aria-pressed", String(recording !== undefined));
  write(record, text.say(recording ? "phrases.stop" : "phrases.record"));
  discard.hidden = !recording;
  write(byId("recorded"), recording ? clock(recording.seconds) : "");
  if (!recording && document.activeElement === document.body) record.focus();
}

/** @param {Visit} visit @param {Voice} voice */
function sendToAll(visit, voice) {
  const { small } = addVoice("mine", text.say("you"), voice);
  const links = visit.peers().flatMap(({ link }) => (link?.state === "connected" ? [link] : []));
  const all = visit.peers().length;
  let reached = 0;
  const tell = () => {
    const end = isAtEnd();
    small.hidden = false;
    write(small, text.say("phrases.reached", { reached, count: all }));
    if (end) log.scrollTop = log.scrollHeight;
  };
  tell();
  for (const link of links) {
    sendVoice(link.channel(VOICE_LABEL), voice).then(
      () => (reached++, tell()),
      (error) => console.warn(`a voice message did not reach ${link.remoteId}:`, error),
    );
  }
}

/** @param {Visit} visit @param {PeerLink} link @param {RTCDataChannel} channel @param {Set<RTCDataChannel>} underWay */
async function take(visit, link, channel, underWay) {
  if (channel.label !== VOICE_LABEL) return;
  if (underWay.size >= VOICES_UNDER_WAY_MAX) return channel.close();
  underWay.add(channel);
  try {
    const voice = await receiveVoice(channel);
    if (visit.signal.aborted) return;
    addVoice("theirs", page.name(visit.peer(link.remoteId).metadata), voice);
  } catch (error) {
    console.warn(`a voice message of ${link.remoteId} did not arrive:`, error);
  } finally {
    underWay.delete(channel);
  }
}

/** @param {"mine" | "theirs"} whose @param {string} name @param {Voice} voice */
function addVoice(whose, name, { blob, seconds }) {
  const url = URL.createObjectURL(blob);
  const mine = whose === "mine" && text.say("phrases.voice-mine");
  const label = mine || text.say("phrases.voice-of", { name });
  const file = `${mine || text.say("phrases.file", { name })}${extensionOf(blob.type)}`.replace(/[^\p{L}\p{N}. -]/gu, "_");
  const audio = h("audio", { controls: true, preload: "metadata", src: url, "aria-label": label, "data-testid": "voice" });
  const save = h("a", { href: url, download: file, "data-testid": "save" }, text.say("phrases.save"));
  const facts = `${clock(seconds)} · ${bytes(blob.size, text.language)} · `;
  const content = h("div", { class: "voice" }, audio, h("small", {}, facts, save));
  const added = addLine({ whose, name, content });
  voices.set(added.line, { url, bytes: blob.size });
  let kept = [...voices.values()].reduce((sum, voice) => sum + voice.bytes, 0);
  for (const [line, voice] of voices) {
    if (kept <= VOICES_BYTES_MAX) break;
    kept -= voice.bytes;
    removeLine(line);
  }
  return added;
}

// ---- the page

/** @param {Visit} visit */
function show(visit) {
  roster.show(visit);
  const connected = visit.peers().filter(({ link }) => link?.state === "connected").length;
  // What has the focus keeps it: a field that is disabled under somebody's hands loses it.
  input.readOnly = connected === 0;
  input.setAttribute("aria-disabled", String(connected === 0));
  sayButton.disabled = connected === 0;
  record.disabled = !recording && (connected === 0 || !canRecord());
  write(byId("record-why"), canRecord() ? "" : text.say("phrases.cannot-record"));
  input.placeholder = connected === 0 ? text.say("phrases.nobody") : text.say("phrases.to", { count: connected });
}

/** @param {Visit} visit @param {PeerLink} link */
function meet(visit, link) {
  const { signal } = visit;
  const underWay = new Set();
  link.addEventListener("message", ({ detail }) => hear(visit, link, detail), { signal });
  link.addEventListener("channel", ({ detail }) => void take(visit, link, detail, underWay), { signal });
}

function end() {
  recording?.discard();
  reader.stop();
  roster.clear();
  hint.hide();
  for (const line of [...log.children]) removeLine(line);
  byId("silence").hidden = false;
}

byId("hints").append(hint.element);
showRecording();

const page = openPage({ page: "phrases", text, mesh: true, link: meet, changed: show, end });
