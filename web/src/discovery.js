/**
 * From one base URL to the doors of a server. Knows the discovery document and nothing about what is behind its URLs.
 */

import { failure } from "./codes.js";

/**
 * @typedef {object} TransportEntry one door, as the server describes it
 * @property {string} type `webtransport` or `websocket`; others are from a newer server
 * @property {string} url
 * @property {string[]} [codecs]
 * @property {{algorithm: string, value: string}[]} [certificateHashes] while the certificate is self-signed; base64
 *
 * @typedef {object} Discovery
 * @property {string} name
 * @property {string} version of the server
 * @property {TransportEntry[]} transports in the order of the server's preference
 * @property {string[]} dialects
 */

/**
 * Asks a server for its doors. Rejects with `unreachable` when nobody answers, with `not-switchboard` when it is somebody else,
 * with `bad-url` where there is nobody to ask.
 * @param {string | URL} baseUrl
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<Discovery>}
 */
export async function discover(baseUrl, { signal } = {}) {
  let url;
  try {
    // A base URL with a path, behind a reverse proxy, keeps it.
    url = new URL(".well-known/switchboard", String(baseUrl).replace(/\/*$/, "/"));
    if (!url.protocol.startsWith("http")) throw new TypeError("neither http: nor https:");
  } catch (cause) {
    throw failure("bad-url", `${baseUrl} is no server's URL, such as http://localhost:8080`, { cause });
  }
  let response;
  try {
    response = await fetch(url, { signal, cache: "no-store" });
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw failure("unreachable", `no server answers at ${baseUrl}`, { cause });
  }
  // A proxy whose server is away says so.
  if (response.status >= 500) throw failure("unreachable", `${baseUrl} answers with status ${response.status}`);
  const document = response.ok ? await response.json().catch(() => null) : null;
  signal?.throwIfAborted();
  if (!Array.isArray(document?.transports)) throw failure("not-switchboard", `what answers at ${baseUrl} is not Switchboard`);
  return document;
}
