/** Why a check failed, and what to do about it. Pure: from what was seen to keys of sentences. */

/** @typedef {import("./findings.js").Said} Said */

/** Codes of the server that somebody can do something about. */
const KNOWN = new Set(["unauthorized", "token-expired", "unavailable", "forbidden", "server-full", "too-many-connections", "rate-limited", "draining"]);

/** A clock may be so far off before a token is good on one side and not on the other, with the leeway that a server has by default. */
const SKEW_MS_MAX = 20_000;
/** No leeway is longer. */
const LEEWAY_MS_MAX = 60_000;
/** A date has whole seconds. */
const SECOND_MS = 1_000;

/** @typedef {Error & {code?: string, cause?: any}} Fault what a client throws */

/** What went wrong. @param {any} fault @param {number} seconds that there were @returns {Said} */
export function detailOf(fault, seconds) {
  const { code, message, cause } = /** @type {Fault} */ (fault);
  if (code === "connect-timeout" || code === "timed-out") return ["check.silent", { seconds }];
  if (code === "unreachable" && cause) return ["check.no-connection-because", { message: String(cause.message ?? cause) }];
  if (code === "unreachable") return ["check.no-connection"];
  // The browser's own faults have numbers there.
  if (typeof code !== "string") return ["check.unexpected", { message: String(message) }];
  return ["check.refused", { code, message: String(message) }];
}

/** What to do about somebody who is not let in. @param {any} fault @returns {Said} */
export function adviceOf(fault) {
  const { code = "" } = /** @type {Fault} */ (fault);
  return [KNOWN.has(code) ? `check.advice-${code}` : "check.advice-log"];
}

/** Did the server itself answer, and with no? @param {any} fault */
export function isRefusal({ code }) {
  return typeof code === "string" && !["unreachable", "connect-timeout", "timed-out", "connection-lost"].includes(code);
}

/** By what a URL of each door begins. */
const DOOR_PROTOCOLS = { websocket: ["ws:", "wss:"], webtransport: ["https:"] };

/** Is this a URL by which a browser can try that door? @param {keyof typeof DOOR_PROTOCOLS} type @param {any} url as the document has it */
export function isDoorUrl(type, url) {
  return URL.canParse(url) && DOOR_PROTOCOLS[type].includes(new URL(url).protocol);
}

/**
 * What the answer to the question for the doors says that is no document.
 * @param {number} status
 * @param {{origin: string}} page
 * @returns {{detail: Said, advice: Said}}
 */
export function noDocument(status, { origin }) {
  if (status === 403) return { detail: ["check.status", { status }], advice: ["check.advice-origin", { origin }] };
  if (status === 404) return { detail: ["check.status", { status }], advice: ["check.advice-path"] };
  if (status >= 502 && status <= 504) return { detail: ["check.status", { status }], advice: ["check.advice-proxy"] };
  if (status >= 200 && status < 300) return { detail: ["check.no-document"], advice: ["check.advice-somebody-else"] };
  return { detail: ["check.status", { status }], advice: ["check.advice-log"] };
}

/**
 * How far the server's clock is from this one.
 * @param {string} header its date
 * @param {number} askedAt when it was asked, in milliseconds since 1970
 * @param {number} answeredAt
 * @returns {import("./findings.js").Finding}
 */
export function clockOf(header, askedAt, answeredAt) {
  const check = "clock";
  const date = Date.parse(header);
  if (Number.isNaN(date)) return { check, outcome: "warning", detail: ["check.clock-none"], advice: ["check.advice-date"] };
  // Written in whole seconds, at some time since we asked.
  const behind = Math.max(0, askedAt - date - SECOND_MS);
  const ahead = Math.max(0, date - answeredAt);
  const skew = Math.max(ahead, behind);
  if (skew <= SECOND_MS) return { check, outcome: "ok", detail: ["check.clock-same"] };
  /** @type {Said} */
  const detail = [ahead > behind ? "check.clock-ahead" : "check.clock-behind", { seconds: Math.floor(skew / SECOND_MS) }];
  if (skew <= SKEW_MS_MAX) return { check, outcome: "ok", detail };
  return { check, outcome: skew <= LEEWAY_MS_MAX ? "warning" : "failed", detail, advice: ["check.advice-clock"] };
}
