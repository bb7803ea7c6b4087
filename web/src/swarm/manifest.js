/**
 * What is said about a file: its SHA-256 (the id), how it is cut into pieces, the hash of each, and the hash over all of those (the root). Pure
 * but for reading the file.
 *
 * A root ties the list of hashes to an announcement, so that a wrong list is the fault of who gave it. Nothing but the whole file ties the
 * root to the id: somebody has to fetch everything to find that a manifest was made up.
 */

import { toHex } from "../bytes.js";
import { PIECES_MAX, PIECE_BYTES, PIECE_BYTES_MAX } from "./limits.js";
import { Sha256, sha256 } from "./sha256.js";
import { failure } from "../codes.js";

export const HASH_BYTES = 32;

/**
 * @typedef {object} Share a file that can be fetched; `name` and `type` are what its sharer says, and nobody checks them
 * @property {string} id its SHA-256, in hex
 * @property {string} name
 * @property {string} type a media type, or ""
 * @property {number} size in bytes
 * @property {number} pieceBytes length of a piece; the last may be shorter
 * @property {number} pieces how many
 *
 * @typedef {object} Manifest
 * @property {Share} share
 * @property {string} root SHA-256 over the hashes of all pieces, in hex
 * @property {Uint8Array} hashes of the pieces, one behind the other
 */

/** @param {{size: number, pieceBytes: number}} file */
export function pieceCount({ size, pieceBytes }) {
  return Math.ceil(size / pieceBytes);
}

/** The length of one piece. @param {Share} share @param {number} piece */
export function pieceLength({ size, pieceBytes }, piece) {
  return Math.min(pieceBytes, size - piece * pieceBytes);
}

/** The size of pieces for a file of so many bytes; undefined where it is too long for any. @param {number} size */
export function pieceBytesFor(size) {
  for (let bytes = PIECE_BYTES; bytes <= PIECE_BYTES_MAX; bytes *= 2) if (pieceCount({ size, pieceBytes: bytes }) <= PIECES_MAX) return bytes;
  return undefined;
}

/**
 * What tells one manifest from another: two of the same file may differ in the size of pieces, or because one is made up.
 * @param {Share} share
 * @param {string} root
 */
export function manifestKey({ id, size, pieceBytes }, root) {
  return `${id} ${size} ${pieceBytes} ${root}`;
}

/** @param {Uint8Array} hashes of all pieces @returns {Promise<string>} */
export async function rootOf(hashes) {
  return toHex(await sha256(hashes));
}

/** The hash that a piece must have. @param {Uint8Array} hashes @param {number} piece */
export function hashOf(hashes, piece) {
  return hashes.subarray(piece * HASH_BYTES, (piece + 1) * HASH_BYTES);
}

/** The bytes of one piece of a blob. @param {Blob} blob @param {Share} share @param {number} piece */
export async function readPiece(blob, share, piece) {
  const start = piece * share.pieceBytes;
  return new Uint8Array(await blob.slice(start, start + pieceLength(share, piece)).arrayBuffer());
}

/**
 * Reads a blob once, from beginning to end, a piece in memory at a time. Rejects with `too-large`, with the signal's reason, or
 * with the platform's error when a file on disk is not what it was when it was chosen.
 * @param {Blob} blob
 * @param {{name: string, type: string, pieceBytes?: number, signal?: AbortSignal}} options
 * @returns {Promise<Manifest>}
 */
export async function describe(blob, { name, type, pieceBytes = pieceBytesFor(blob.size), signal }) {
  const { size } = blob;
  if (pieceBytes === undefined || pieceCount({ size, pieceBytes }) > PIECES_MAX) throw failure("too-large", `${size} bytes are too many to share`);
  const share = { id: "", name, type, size, pieceBytes, pieces: pieceCount({ size, pieceBytes }) };
  const hashes = new Uint8Array(share.pieces * HASH_BYTES);
  const whole = new Sha256();
  for (let piece = 0; piece < share.pieces; piece++) {
    const bytes = await readPiece(blob, share, piece);
    signal?.throwIfAborted();
    hashes.set(await sha256(bytes), piece * HASH_BYTES);
    whole.update(bytes);
  }
  return { share: Object.freeze({ ...share, id: toHex(whole.digest()) }), root: await rootOf(hashes), hashes };
}
