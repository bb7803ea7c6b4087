/**
 * What peers say to each other over a channel labelled `switchboard.swarm`: text is JSON, and says who has what and who wants what; binary is
 * a chunk of a piece. Everything that a peer sent is checked here, once, before anybody acts on it. Nothing here touches a channel.
 *
 * | text | says |
 * |---|---|
 * | `hello` `version`, `nonce` | the first message of either side on a channel |
 * | `announce` `share`, `root`, `whole`, `bits` | a file to be had from me; `whole`: all of it, and I vouch for its id; else `bits`: the pieces that I have |
 * | `withdraw` `id` | no longer |
 * | `have` `id`, `pieces` | pieces that I have got since |
 * | `list` `n`, `id`, `root`, `from` | asks for hashes of pieces, from that piece on |
 * | `hashes` `n`, `hashes` | answers it |
 * | `request` `n`, `id`, `root`, `piece` | asks for a piece; it comes as chunks with that `n` |
 * | `cancel` `n` | takes a request back |
 * | `refuse` `n` | a request that is not answered |
 *
 * Requests are answered one after another in the order in which they came. Their numbers count up from 0. Other types are ignored: they
 * are from a later version.
 */

import { Bitfield } from "./bitfield.js";
import { fromBase64 } from "../bytes.js";
import {
  CHUNK_BYTES_MAX,
  HASHES_PER_MESSAGE_MAX,
  HAVES_PER_MESSAGE_MAX,
  MESSAGE_CHARS_MAX,
  NAME_CHARS_MAX,
  PIECES_MAX,
  PIECE_BYTES_MAX,
  PIECE_BYTES_MIN,
  TYPE_CHARS_MAX,
} from "./limits.js";
import { HASH_BYTES, pieceCount } from "./manifest.js";

/** @typedef {import("./manifest.js").Share} Share */

/**
 * A message that was checked.
 * @typedef {{type: "hello", version: number, nonce: string}
 *   | {type: "announce", share: Share, root: string, whole: boolean, bits: Bitfield}
 *   | {type: "withdraw", id: string}
 *   | {type: "have", id: string, pieces: number[]}
 *   | {type: "list", n: number, id: string, root: string, from: number}
 *   | {type: "hashes", n: number, hashes: Uint8Array}
 *   | {type: "request", n: number, id: string, root: string, piece: number}
 *   | {type: "cancel", n: number}
 *   | {type: "refuse", n: number}} Message
 */

export const LABEL = "switchboard.swarm";
export const VERSION = 1;

/** Of a chunk: the number of the request, and where in the piece the chunk belongs, each 4 bytes, big-endian. */
const HEADER_BYTES = 8;

/** How much of a piece a chunk holds at most. */
export const CHUNK_DATA_BYTES_MAX = CHUNK_BYTES_MAX - HEADER_BYTES;

/** What a peer sent makes no sense, or goes past a bound; its channel is closed. */
export class Nonsense extends Error {}

/** Whether this is a SHA-256 in hex. @param {unknown} value @returns {value is string} */
export function isHash(value) {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

/** Undefined for a type of a later version; throws {@link Nonsense}. @param {string} text @returns {Message | undefined} */
export function parseMessage(text) {
  check(text.length <= MESSAGE_CHARS_MAX, "a message is too long");
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new Nonsense("no JSON");
  }
  check(typeof message?.type === "string", "a message without a type");
  const { type, n, id, root } = message;
  switch (type) {
    case "hello":
      check(isCount(message.version, 2 ** 31) && typeof message.nonce === "string" && /^[0-9a-f]{16}$/.test(message.nonce), type);
      return { type, version: message.version, nonce: message.nonce };
    case "announce":
      check(typeof message.whole === "boolean" && isHash(root), type);
      return { type, root, whole: message.whole, ...parseShare(message) };
    case "withdraw":
      check(isHash(id), type);
      return { type, id };
    case "have": {
      const { pieces } = message;
      check(isHash(id) && Array.isArray(pieces) && pieces.length <= HAVES_PER_MESSAGE_MAX && pieces.every((piece) => isCount(piece, PIECES_MAX)), type);
      return { type, id, pieces };
    }
    case "list":
      check(isCount(n) && isHash(id) && isHash(root) && isCount(message.from, PIECES_MAX), type);
      return { type, n, id, root, from: message.from };
    case "hashes": {
      check(isCount(n) && typeof message.hashes === "string", type);
      const hashes = decoded(() => fromBase64(message.hashes));
      check(hashes.length > 0 && hashes.length % HASH_BYTES === 0 && hashes.length <= HASHES_PER_MESSAGE_MAX * HASH_BYTES, type);
      return { type, n, hashes };
    }
    case "request":
      check(isCount(n) && isHash(id) && isHash(root) && isCount(message.piece, PIECES_MAX), type);
      return { type, n, id, root, piece: message.piece };
    case "cancel":
    case "refuse":
      check(isCount(n), type);
      return { type, n };
    default:
      return undefined;
  }
}

/** The share of an announcement, and which pieces there are of it. @param {any} message @returns {{share: Share, bits: Bitfield}} */
function parseShare({ share, whole, bits }) {
  check(typeof share === "object" && share !== null, "an announcement of nothing");
  const { id, name, type, size, pieceBytes } = share;
  check(isHash(id), "an id");
  check(typeof name === "string" && name.length <= NAME_CHARS_MAX, "a name");
  check(typeof type === "string" && type.length <= TYPE_CHARS_MAX && /^[\x20-\x7e]*$/.test(type), "a type");
  check(isCount(pieceBytes, PIECE_BYTES_MAX + 1) && pieceBytes >= PIECE_BYTES_MIN, "a size of pieces");
  check(isCount(size, PIECES_MAX * PIECE_BYTES_MAX + 1), "a size");
  const pieces = pieceCount({ size, pieceBytes });
  check(pieces <= PIECES_MAX, "too many pieces");
  check(whole || typeof bits === "string", "neither whole nor bits");
  return {
    share: Object.freeze({ id, name, type, size, pieceBytes, pieces }),
    bits: whole ? Bitfield.full(pieces) : decoded(() => Bitfield.parse(bits, pieces)),
  };
}

/** @param {number} n the number of the request @param {number} offset in the piece @param {Uint8Array} bytes */
export function encodeChunk(n, offset, bytes) {
  const chunk = new Uint8Array(HEADER_BYTES + bytes.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, n);
  view.setUint32(4, offset);
  chunk.set(bytes, HEADER_BYTES);
  return chunk;
}

/** Throws {@link Nonsense}. @param {ArrayBuffer} buffer @returns {{n: number, offset: number, bytes: Uint8Array}} */
export function decodeChunk(buffer) {
  check(buffer.byteLength > HEADER_BYTES && buffer.byteLength <= CHUNK_BYTES_MAX, "a chunk of that length");
  const view = new DataView(buffer);
  return { n: view.getUint32(0), offset: view.getUint32(4), bytes: new Uint8Array(buffer, HEADER_BYTES) };
}

/** @param {unknown} value @param {number} [end] the first that is too many @returns {value is number} */
function isCount(value, end = 2 ** 32) {
  return Number.isInteger(value) && /** @type {number} */ (value) >= 0 && /** @type {number} */ (value) < end;
}

/** @param {boolean} condition @param {string} what */
function check(condition, what) {
  if (!condition) throw new Nonsense(what);
}

/** @template T @param {() => T} decode @returns {T} */
function decoded(decode) {
  try {
    return decode();
  } catch {
    throw new Nonsense("no base64 of that length");
  }
}
