/**
 * Check: looks at a server from this browser, in the network that it is in, and tells what works, what does not, why, and what to change; as
 * `switchboard check` does from where that runs. `data-state` of the body is `idle`, `checking`, or `checked`.
 */

import { ownAddress, readAddress, serverAddress } from "./address.js";
import * as doors from "./check-doors.js";
import * as ice from "./check-ice.js";
import * as sessions from "./check-sessions.js";
import { byId, h, write } from "./dom.js";
import { examine } from "./examination.js";
import { outcomeOf, reportOf } from "./findings.js";
import { pageText } from "./i18n.js";
import { keepToken, takeToken, tokenFor } from "./token.js";
import { showWays } from "./ways.js";

/** How long each step may take. */
const STEP_MS = 10_000;
const COPIED_MS = 2_000;

/** @typedef {import("./findings.js").Finding} Finding */

const text = pageText();
/** @type {Finding[]} */
const findings = [];
/** What was looked at. */
let server = "";
/** Aborted when the examination is given up. */
let attempt = new AbortController();

const [serverField, tokenField, roomField, longField] = ["server", "token", "room", "long"].map((id) => byId(id, HTMLInputElement));
const [start, stop, copy] = ["start", "stop", "copy"].map((id) => byId(id, HTMLButtonElement));
const [verdict, rows, byHand] = ["verdict", "findings", "by-hand"].map((id) => byId(id));
const progress = byId("progress", HTMLProgressElement);
const json = byId("json", HTMLTextAreaElement);

// ---- an examination

async function begin() {
  const current = (attempt = new AbortController());
  const { signal } = current;
  server = serverAddress(serverField.value);
  keepToken(server, tokenField.value.trim());
  history.replaceState(null, "", ownAddress(location.href, { ...readAddress(location.href), server }));
  const patient = {
    server,
    token: tokenFor(server),
    room: roomField.value || `check-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0")}`,
    isLong: longField.checked,
    stepMs: STEP_MS,
    signal,
  };
  findings.length = 0;
  rows.replaceChildren();
  show("checking", text.say("check.looking", { what: server }));
  try {
    await examine(patient, { ...doors, ...sessions, ...ice }, { found: add, begin: advance });
    show("checked", conclusion());
  } catch (error) {
    const isMistake = !signal.aborted;
    // What is still open is given up as well.
    current.abort();
    const { message = String(error) } = /** @type {Error} */ (error);
    show(findings.length > 0 ? "checked" : "idle", isMistake ? text.say("check.mistake", { message }) : text.say("check.stopped"));
    if (!isMistake) return;
    verdict.dataset.outcome = "failed";
    console.error(error);
  }
}

/** @param {Finding} finding */
function add(finding) {
  findings.push(finding);
  const { check, outcome, detail, advice } = finding;
  rows.append(
    h(
      "tr",
      { role: "row", "data-testid": "finding", "data-check": check, "data-outcome": outcome },
      h("th", { scope: "row", role: "rowheader", lang: "en" }, check),
      h("td", { role: "cell", class: "outcome" }, text.say(`check.outcome-${outcome}`)),
      h("td", { role: "cell" }, text.say(...detail)),
      h("td", { role: "cell", class: "advice" }, advice ? text.say(...advice) : ""),
    ),
  );
  byId("results").hidden = false;
}

/** @param {string} what @param {number} done @param {number} of */
function advance(what, done, of) {
  [progress.max, progress.value] = [of, done];
  write(verdict, text.say("check.looking", { what }));
}

function conclusion() {
  const outcome = outcomeOf(findings);
  if (outcome === "ok") return text.say("check.all-works", { server });
  if (outcome === "warning") return text.say("check.works-but", { server, count: findings.filter((finding) => finding.outcome === "warning").length });
  return text.say("check.does-not-work", { server, count: findings.filter((finding) => finding.outcome === "failed").length });
}

// ---- what is seen

/** @param {"idle" | "checking" | "checked"} state @param {string} line */
function show(state, line) {
  const isRunning = state === "checking";
  const hadFocus = document.activeElement === start || document.activeElement === stop;
  document.body.dataset.state = state;
  start.hidden = isRunning;
  start.textContent = text.say(state === "idle" ? "check.start" : "check.again");
  stop.hidden = progress.hidden = !isRunning;
  // Half of it would look like the whole.
  copy.hidden = state !== "checked" || attempt.signal.aborted;
  byHand.hidden = true;
  byId("results").hidden = findings.length === 0;
  verdict.dataset.outcome = state === "checked" && !attempt.signal.aborted ? outcomeOf(findings) : "";
  write(verdict, line);
  // The button that had the focus is gone, and the other is where it was.
  if (hadFocus) (isRunning ? stop : start).focus();
  showWays(byId("nav"), { page: "check", text, wish: { ...readAddress(location.href), server: serverAddress(serverField.value) } });
}

async function copyJson() {
  const report = JSON.stringify(reportOf(server, findings, (key, values) => text.say(key, values)), undefined, 2);
  try {
    await navigator.clipboard.writeText(report);
    copy.textContent = text.say("bar.copied");
    setTimeout(() => (copy.textContent = text.say("check.copy")), COPIED_MS);
  } catch {
    // No permission, or no secure context.
    json.value = report;
    byHand.hidden = false;
    json.select();
  }
}

// ---- what is asked

/** What a link has brought, or this tab has kept, is for one server. */
function fillIn() {
  takeToken();
  const asked = readAddress(location.href);
  serverField.value = asked.server;
  tokenField.value = tokenFor(asked.server) ?? "";
  // A token may be for this room alone; else the others in it would only wonder who comes and goes.
  roomField.value = tokenField.value ? asked.room : "";
}

byId("ask", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  if (document.body.dataset.state !== "checking") void begin();
});
serverField.addEventListener("change", () => (tokenField.value = tokenFor(serverAddress(serverField.value)) ?? ""));
stop.addEventListener("click", () => attempt.abort());
copy.addEventListener("click", copyJson);
addEventListener("pagehide", () => attempt.abort());
addEventListener("hashchange", () => {
  if (document.body.dataset.state !== "checking") fillIn();
});

document.title = `${text.say("check.title")} · Switchboard`;
text.fill(document);
fillIn();
show("idle", text.say("check.nothing-yet"));
