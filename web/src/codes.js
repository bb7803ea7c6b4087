/**
 * Every code that a client can meet, once: the mirror of `src/protocol/code.rs`, one line each so that a test can compare the two,
 * and below it the few faults that only this side can see.
 *
 * The ranges are a contract. 4000 to 4099: come back after `reconnectAfterMs`. 4100 to 4199: come back after backing off. 4200 to
 * 4299: do not come back unchanged. 4300 to 4399: one message was refused, the connection goes on.
 */

/** Why the server closes a connection; `reconnect` says whether coming back unchanged makes sense. */
export const CLOSE_CODES = [
  { number: 4000, slug: "draining", reconnect: true },
  { number: 4001, slug: "slow-consumer", reconnect: true },
  { number: 4002, slug: "timeout", reconnect: true },
  { number: 4100, slug: "server-full", reconnect: true },
  { number: 4101, slug: "hello-timeout", reconnect: true },
  { number: 4102, slug: "stream-timeout", reconnect: true },
  { number: 4103, slug: "rate-limited", reconnect: true },
  { number: 4104, slug: "too-many-connections", reconnect: true },
  { number: 4105, slug: "unavailable", reconnect: true },
  { number: 4200, slug: "too-large", reconnect: false },
  { number: 4201, slug: "replaced", reconnect: false },
  { number: 4202, slug: "unauthorized", reconnect: false },
  { number: 4203, slug: "token-expired", reconnect: false },
  { number: 4204, slug: "removed", reconnect: false },
];

/** Why the server refuses one message; `retryable` says whether the very same message may succeed later. */
export const ERROR_CODES = [
  { number: 4300, slug: "bad-message", retryable: false },
  { number: 4301, slug: "too-deep", retryable: false },
  { number: 4302, slug: "bad-room-name", retryable: false },
  { number: 4303, slug: "metadata-too-large", retryable: false },
  { number: 4304, slug: "room-required", retryable: false },
  { number: 4305, slug: "not-in-room", retryable: false },
  { number: 4306, slug: "already-in-room", retryable: false },
  { number: 4307, slug: "no-such-peer", retryable: false },
  { number: 4308, slug: "too-many-rooms", retryable: true },
  { number: 4309, slug: "room-full", retryable: true },
  { number: 4310, slug: "no-more-rooms", retryable: true },
  { number: 4311, slug: "undeliverable", retryable: false },
  { number: 4312, slug: "rate-limited", retryable: true },
  { number: 4313, slug: "name-taken", retryable: false },
  { number: 4314, slug: "forbidden", retryable: false },
  { number: 4315, slug: "unauthorized", retryable: false },
  { number: 4316, slug: "unavailable", retryable: true },
];

/** Faults that never cross the wire, and so have no number. */
export const LOCAL_CODES = [
  { slug: "unreachable", reconnect: true }, // no server answers at that address
  { slug: "bad-url", reconnect: false }, // what was given is not a server's address
  { slug: "not-switchboard", reconnect: false }, // something answers there, and it is not Switchboard
  { slug: "unsupported", reconnect: false }, // the browser or the server lacks the transport that was asked for
  { slug: "connect-timeout", reconnect: true }, // the server did not let us in in time
  { slug: "no-token", reconnect: true }, // the function that was to give one failed
  { slug: "connection-lost", reconnect: true }, // the connection ended without a goodbye
  { slug: "page-hidden", reconnect: true }, // the page was left, and may come back
  { slug: "too-much-waiting", reconnect: true }, // so much waits to be sent that this message was not taken
  { slug: "message-too-large", reconnect: false }, // more than the server, or for a line the peer, takes; so it was not sent
  { slug: "no-answer", reconnect: true }, // of a line: the peer is there, and did not answer in time
  { slug: "line-failed", reconnect: true }, // of a line: no way to the peer was found, or found again
  { slug: "closed", reconnect: false }, // this side closed it
];

/**
 * The line of a close code, for a connection that ended without a goodbye; undefined for a number that is not ours (1006, say).
 * @param {number | undefined} number
 */
export function closeCode(number) {
  return CLOSE_CODES.find((code) => code.number === number);
}

/**
 * Does it make sense to try again after this error? Not after one that is none of ours.
 * @param {{code?: string, reconnect?: boolean}} error
 * @returns {boolean}
 */
export function mayComeBack({ code, reconnect }) {
  return reconnect ?? [...CLOSE_CODES, ...LOCAL_CODES].find(({ slug }) => slug === code)?.reconnect ?? false;
}

/**
 * What an error says of the end of a connection, or of an attempt to open one.
 * @param {any} error
 * @returns {import("./signaling.js").Cause}
 */
export function causeOf(error) {
  return { code: error.code ?? "connection-lost", reason: String(error.message), reconnect: mayComeBack(error) };
}

/**
 * An Error with a stable `code`: a slug from one of the tables above, or one that only a newer server knows.
 * @param {string} code
 * @param {string} message for a person
 * @param {object} [details] more fields for the error, such as `retryable` or `cause`
 * @returns {Error & {code: string}}
 */
export function failure(code, message, details = {}) {
  return Object.assign(new Error(message), { code }, details);
}
