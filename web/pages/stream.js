/**
 * Stream: a video that one chose, watched by the others while it arrives, in pieces from everybody who has some. The server introduces; no piece of the
 * video passes it.
 */

import { Swarm } from "../swarm.js";
import { arrange, byId, h, write } from "./dom.js";
import { openPage } from "./entrance.js";
import { pageText } from "./i18n.js";
import { Notice } from "./notice.js";
import { PieceMap } from "./piecemap.js";
import { countBySender } from "./pieces.js";
import { playWhileArriving } from "./player.js";
import { Roster } from "./roster.js";
import { recordFilm } from "./testfilm.js";
import { bytes } from "./units.js";

/** Somebody who comes back at once was not away. */
const ALONE_MS = 1_500;
/** How often the map is drawn; pieces may come faster. */
const DRAW_MS = 100;
/** How often the progress is said to whoever does not see the map. */
const SAY_MS = 3_000;

/**
 * @typedef {import("./visit.js").Visit} Visit
 * @typedef {import("../swarm.js").Download} Download
 * @typedef {import("../src/swarm/manifest.js").Share} Share
 */

const text = pageText();
const hint = new Notice({ id: "hint", testid: "hint", buttonTestid: "hint-button" });
const roster = new Roster({ list: byId("peers"), empty: byId("empty"), text });
const file = byId("file", HTMLInputElement);
const film = byId("film", HTMLButtonElement);
const video = byId("video", HTMLVideoElement);
const progress = byId("progress", HTMLProgressElement);

/** @type {Swarm | undefined} */
let swarm;
/** What I share myself. @type {Map<string, Share>} */
const mine = new Map();
/** The one that is being watched. @type {{share: Share, stop: AbortController, url?: string} | undefined} */
let watched;

// ---- sharing

file.addEventListener("change", () => {
  const [chosen] = file.files ?? [];
  if (chosen) void share(chosen);
  // So that the same file can be chosen again.
  file.value = "";
});

film.addEventListener("click", async () => {
  const visit = page.visit();
  if (!visit) return;
  film.disabled = true;
  try {
    const made = await recordFilm(visit.wish.name, { signal: visit.signal, tick: (left) => write(film, text.say("stream.filming", { count: left })) });
    if (made) await share(made);
  } catch (error) {
    if (!visit.signal.aborted) fail(error);
  } finally {
    film.disabled = false;
    write(film, text.say("stream.film"));
  }
});

/** @param {File} chosen */
async function share(chosen) {
  const visit = page.visit();
  if (!visit || !swarm) return;
  hint.hide();
  write(byId("sharing"), text.say("stream.reading", { name: chosen.name }));
  try {
    const shared = await swarm.share(chosen, { signal: visit.signal });
    if (visit.signal.aborted) return;
    mine.set(shared.id, shared);
    page.announce(text.say("stream.shared", { name: chosen.name }));
    showShares();
  } catch (error) {
    if (!visit.signal.aborted) fail(error);
  } finally {
    write(byId("sharing"), "");
  }
}

function showShares() {
  const shares = new Map([...(swarm?.shares ?? []), ...mine]);
  const before = new Map([...byId("shares").children].map((item) => [/** @type {HTMLElement} */ (item).dataset.key, item]));
  arrange(byId("shares"), [...shares.values()].map((share) => before.get(keyOf(share)) ?? shareItem(share)));
  for (const item of byId("shares").children) {
    const { id } = /** @type {HTMLElement} */ (item).dataset;
    item.toggleAttribute("data-watched", id === watched?.share.id);
    item.querySelector("button")?.setAttribute("aria-pressed", String(id === watched?.share.id));
  }
  byId("nothing").hidden = shares.size > 0;
}

/** An item of the list is good for as long as this is the same: what was announced by others may become one's own. @param {Share} share */
function keyOf(share) {
  return `${share.id} ${mine.has(share.id) ? "own" : "theirs"}`;
}

/** @param {Share} share */
function shareItem(share) {
  const own = mine.has(share.id);
  const facts = [bytes(share.size, text.language), text.say("stream.pieces", { count: share.pieces }), own ? text.say("stream.yours") : ""].filter(Boolean);
  const named = { type: "button", "data-testid": "watch", "aria-label": text.say("stream.watch-named", { name: share.name || text.say("stream.nameless") }) };
  return h(
    "li",
    { "data-testid": "share", "data-id": share.id, "data-key": keyOf(share) },
    h("span", { class: "who" }, h("b", {}, share.name || text.say("stream.nameless")), " ", h("small", {}, facts.join(" · "))),
    own ? null : h("button", { ...named, onclick: () => watch(share) }, text.say("stream.watch")),
  );
}

// ---- watching

/** @param {Share} share */
async function watch(share) {
  const visit = page.visit();
  if (!visit || !swarm || watched?.share.id === share.id) return;
  endWatching();
  const stop = new AbortController();
  const current = (watched = /** @type {NonNullable<typeof watched>} */ ({ share, stop }));
  const { signal } = stop;
  byId("stage").hidden = false;
  write(byId("title"), share.name || text.say("stream.nameless"));
  showShares();
  try {
    const download = swarm.fetch(share.id, { signal });
    follow(visit, current, download);
    // Asked for both at once: the player may turn the stream away, and the file is to be whole all the same.
    const whole = download.blob();
    whole.catch(() => {});
    const begin = () => {
      setMode("streaming");
      // Whoever may not play it by itself has the controls.
      video.play().catch(() => {});
    };
    const playing = playWhileArriving(video, download.stream(), { signal, playing: begin });
    // Where the stream fails the file does too, or is fetched anew from another peer.
    const streaming = playing.catch(() => false);
    // Whoever pauses keeps the player waiting, and not the file.
    const blob = await Promise.race([whole, streaming.then((streamed) => (streamed || signal.aborted || setMode("whole"), whole))]);
    if (signal.aborted) return;
    // What a stranger calls it might be a page, and would run under our address when it is opened.
    const url = (current.url = URL.createObjectURL(new Blob([blob], { type: mediaType(share.type) })));
    const save = byId("save", HTMLAnchorElement);
    save.href = url;
    save.download = share.name || "video";
    save.hidden = false;
    page.announce(text.say("stream.whole", { name: share.name }));
    if ((await streaming) || signal.aborted) return;
    video.src = url;
    await video.play().catch(() => {});
  } catch (error) {
    if (signal.aborted) return;
    // So that it can be tried again.
    endWatching();
    showShares();
    fail(error);
  }
}

/** @param {string} type */
function mediaType(type) {
  return /^(video|audio)\/[\w.+-]+$/.test(type) ? type : "application/octet-stream";
}

/** How the video is played: `waiting` for what it is, `streaming` while it arrives, or when it is `whole`. @param {"waiting" | "streaming" | "whole"} mode */
function setMode(mode) {
  byId("stage").dataset.mode = mode;
  write(byId("mode"), text.say(`stream.mode-${mode}`));
}

/** Shows what has come and from whom, until the end. @param {Visit} visit @param {NonNullable<typeof watched>} current @param {Download} download */
function follow(visit, current, download) {
  const { signal } = current.stop;
  const map = new PieceMap({ text, name: (peerId) => page.name(visit.peer(peerId).metadata) });
  byId("map").replaceChildren(map.element);
  setMode("waiting");
  let aloneSince = Infinity;
  let saidAt = 0;
  let damaged = 0;

  const draw = () => {
    const now = performance.now();
    const { received, pieces, state } = download;
    const done = received >= current.share.size;
    map.show(pieces);
    progress.max = current.share.size || 1;
    progress.value = received;
    const facts = { received: bytes(received, text.language), total: bytes(current.share.size, text.language), count: countBySender(pieces).size };
    write(byId("received"), text.say("stream.received", facts));
    aloneSince = state === "waiting" ? Math.min(aloneSince, now) : Infinity;
    byId("stalled").hidden = done || now - aloneSince < ALONE_MS;
    if (now - saidAt >= SAY_MS || done) {
      saidAt = now;
      write(byId("said"), text.say("stream.received", facts));
    }
    if (done) clearInterval(drawing);
  };
  const drawing = setInterval(draw, DRAW_MS);
  signal.addEventListener("abort", () => clearInterval(drawing));
  const refused = (/** @type {CustomEvent<{id: string, from: string}>} */ { detail: { id, from } }) => {
    if (id !== current.share.id) return;
    damaged++;
    byId("damaged").hidden = false;
    write(byId("damaged"), text.say("stream.damaged", { count: damaged, name: page.name(visit.peer(from).metadata) }));
  };
  swarm?.addEventListener("refused", refused, { signal });
  draw();
}

function endWatching() {
  const ended = watched;
  watched = undefined;
  ended?.stop.abort();
  if (ended?.url) URL.revokeObjectURL(ended.url);
  video.removeAttribute("src");
  video.load();
  byId("stage").hidden = true;
  byId("save").hidden = true;
  byId("damaged").hidden = true;
  write(byId("said"), "");
}

/** @param {unknown} error */
function fail(error) {
  const { code: given, message } = /** @type {{code?: unknown, message: string}} */ (error);
  // Errors of the browser have a number there.
  const code = typeof given === "string" ? given : "unexpected";
  const key = `stream.failed-${code}`;
  hint.show({ code, text: text.has(key) ? text.say(key) : text.say("notice.other", { code, message }) });
}

byId("stop", HTMLButtonElement).addEventListener("click", () => {
  endWatching();
  showShares();
  file.focus();
});

// ---- the page

function end() {
  endWatching();
  swarm?.close();
  swarm = undefined;
  mine.clear();
  byId("shares").replaceChildren();
  byId("nothing").hidden = false;
  roster.clear();
  hint.hide();
}

/** @param {Visit} visit */
function enter(visit) {
  swarm = new Swarm(visit.room);
  const { signal } = visit;
  const announced = (/** @type {CustomEvent<Share>} */ { detail }) => {
    if (!mine.has(detail.id)) page.announce(text.say("stream.announced", { name: detail.name }));
    showShares();
  };
  swarm.addEventListener("share", announced, { signal });
  swarm.addEventListener("unshared", showShares, { signal });
  const withdrawn = (/** @type {CustomEvent<Share>} */ { detail }) => {
    mine.delete(detail.id);
    hint.show({ code: "changed", text: text.say("stream.changed", { name: detail.name || text.say("stream.nameless") }) });
    showShares();
  };
  swarm.addEventListener("withdrawn", withdrawn, { signal });
  showShares();
}

byId("hints").append(hint.element);
film.hidden = typeof MediaRecorder === "undefined";

const page = openPage({ page: "stream", text, mesh: true, enter, changed: (visit) => roster.show(visit), end });
