/** URLs of STUN and TURN servers, and what a browser tells of them. Pure. */

import { failed, ok, warning } from "./findings.js";

/**
 * @typedef {object} Target what a URL says: RFC 7064, RFC 7065
 * @property {string} host
 * @property {number} port
 * @property {"UDP" | "TCP" | "TLS"} by
 * @property {boolean} relays
 *
 * @typedef {{urls: string, username?: string, credential?: string}} IceServer with one URL
 *
 * @typedef {object} IceError as the browser tells it; 701 is its own, for a server that it does not reach
 * @property {number} code
 * @property {string} text
 *
 * @typedef {import("./findings.js").Finding} Finding
 * @typedef {import("./findings.js").Said} Said
 */

/** The browser's own code: the server was not reached. */
const NOT_REACHED = 701;
const CREDENTIALS = new Set([401, 431, 438, 441]);
const FULL = new Set([486, 508]);
/** Below 1024 Chromium asks TURN servers at these alone. */
const LOW_PORTS = new Set([53, 80, 443]);

/** @param {string} url @returns {Target | undefined} */
export function parseIceUrl(url) {
  const found = /^(stuns?|turns?):(\[[0-9a-f:.]+\]|[^\s:?[\]]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/i.exec(url);
  if (!found) return undefined;
  const [, scheme, host, port, transport] = found;
  const isSecure = scheme.toLowerCase().endsWith("s");
  const number = port === undefined ? (isSecure ? 5349 : 3478) : Number(port);
  if (number < 1 || number > 65_535) return undefined;
  const by = isSecure ? "TLS" : transport?.toLowerCase() === "tcp" ? "TCP" : "UDP";
  return { host: host.replace(/[[\]]/g, ""), port: number, by, relays: scheme.toLowerCase().startsWith("turn") };
}

/** Every URL of a list by itself, with its credentials; undefined if it is no such list. @param {any} servers @returns {IceServer[] | undefined} */
export function oneByOne(servers) {
  const isServer = (/** @type {any} */ server) => [server?.urls].flat().every((url) => typeof url === "string");
  if (!Array.isArray(servers) || !servers.every(isServer)) return undefined;
  return servers.flatMap(({ urls, username, credential }) => [urls].flat().map((url) => ({ urls: url, username, credential })));
}

/** An address and a port, as they are written. @param {{address: string, port: string | number}} of */
export function written({ address, port }) {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Is this an address of an inner network, to which most TURN servers relay nothing? @param {string} address */
export function isInner(address) {
  const v4 = /^(?:::ffff:)?(\d+)\.(\d+)\.\d+\.\d+$/i.exec(address);
  if (!v4) return /^(::1?$|f[cd]|fe[89ab])/i.test(address);
  const [a, b] = [Number(v4[1]), Number(v4[2])];
  return a === 10 || a === 127 || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168) || (a === 169 && b === 254) || (a === 100 && b >= 64 && b < 128);
}

/**
 * @param {string} url
 * @param {Target} target
 * @param {{mapped?: string, isComplete: boolean, tellsErrors: boolean, errors: IceError[]}} seen `isComplete`: the browser has asked everybody and has nothing more to tell;
 *   `tellsErrors`: it would tell who has not answered
 * @param {number} seconds that there were
 * @returns {Finding}
 */
export function judgeStun(url, target, { mapped, isComplete, tellsErrors, errors }, seconds) {
  if (mapped) return ok("stun", ["check.stun-ok", { url, mapped }]);
  // A browser shows no address twice, and one that has the world's has shown it already.
  if (isComplete && errors.length === 0 && tellsErrors) return ok("stun", ["check.stun-same", { url }]);
  if (isComplete && errors.length === 0) return warning("stun", ["check.stun-unsure", { url }], ["check.advice-unsure"]);
  return notReached("stun", url, target, { errors, isComplete }, seconds);
}

/**
 * @param {string} url
 * @param {Target} target
 * @param {{relayed?: {address: string, port: string | number}, returnedMs?: number, isComplete: boolean, errors: IceError[]}} seen
 * @param {number} seconds
 * @returns {Finding}
 */
export function judgeTurn(url, target, { relayed, returnedMs, isComplete, errors }, seconds) {
  if (!relayed) return notReached("turn", url, target, { errors, isComplete }, seconds);
  const at = written(relayed);
  if (returnedMs !== undefined) return ok("turn", ["check.turn-ok", { url, relayed: at, ms: `${returnedMs.toFixed(1)} ms` }]);
  // On an inner network, a server that relays to the public internet alone does not do less than it should.
  if (isInner(relayed.address)) return warning("turn", ["check.turn-inner", { url, relayed: at }], ["check.advice-inner", { address: relayed.address }]);
  return failed("turn", ["check.turn-unreachable", { url, relayed: at }], ["check.advice-unreachable", { address: relayed.address }]);
}

/**
 * @param {"stun" | "turn"} check
 * @param {string} url
 * @param {Target} target
 * @param {{isComplete: boolean, errors: IceError[]}} seen
 * @param {number} seconds
 * @returns {Finding}
 */
function notReached(check, url, { host, port, by, relays }, { isComplete, errors }, seconds) {
  // What the server itself said counts for more than what the browser makes of silence on another network.
  const error = errors.find(({ code }) => code !== NOT_REACHED) ?? errors[0];
  /** @type {Said} */
  const open = ["check.advice-port", { host, port, transport: by === "UDP" ? "UDP" : "TCP" }];
  if (!error) {
    const isForbidden = relays && port < 1_024 && !LOW_PORTS.has(port);
    return failed(check, isComplete ? ["check.ice-given-up", { url }] : ["check.ice-silent", { url, seconds }], isForbidden ? ["check.advice-low-port", { port }] : open);
  }
  const { code, text } = error;
  if (code === NOT_REACHED) {
    const advice = by === "TLS" ? /** @type {Said} */ (["check.advice-tls", { host, port }]) : open;
    return failed(check, ["check.ice-error", { url, code, text }], advice);
  }
  const advice = CREDENTIALS.has(code) ? "check.advice-credentials" : FULL.has(code) ? "check.advice-relays" : "check.advice-turn-log";
  return failed(check, ["check.ice-refused", { url, code, text }], [advice]);
}
