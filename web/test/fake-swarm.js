/** Rooms with swarms in them, and strangers, who say over a channel whatever a test likes. */

import { createHash } from "node:crypto";

import { PieceCache } from "../src/swarm/cache.js";
import { Swarm } from "../src/swarm/swarm.js";
import { encodeChunk } from "../src/swarm/wire.js";
import { FakeRoom, meet, noise, until } from "./fake-links.js";

export const PIECE_BYTES = 16 * 1024;
export const REQUEST_MS = 1000;

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** A file that is 39 pieces and a half. */
export const film = (seed = 1) => new File([noise(39.5 * PIECE_BYTES, seed)], "film.webm", { type: "video/webm" });

/** Somebody in a room, with a swarm that ends with the test; what the swarm tells is kept in `told`. */
export function person(t, name, options) {
  const room = new FakeRoom(name);
  const swarm = new Swarm(room, { pieceBytes: PIECE_BYTES, requestMs: REQUEST_MS, ...options });
  t.after(() => swarm.close());
  const told = [];
  for (const type of ["share", "unshared", "withdrawn", "refused", "distrusted"]) swarm.addEventListener(type, ({ detail }) => told.push({ event: type, ...detail }));
  return { name, room, swarm, told };
}

/** The caches that the swarms of a test use, from now on. */
export function cachesOf(t) {
  const caches = new Set();
  const { reserve } = PieceCache.prototype;
  t.mock.method(PieceCache.prototype, "reserve", function (...args) {
    caches.add(this);
    return reserve.apply(this, args);
  });
  return caches;
}

/** Lines between all of them. */
export function mesh(...people) {
  people.forEach((one, i) => people.slice(i + 1).forEach((other) => meet(one.room, other.room)));
}

/** The hash of all that a download gives. */
export async function hashOf(download) {
  return sha256(new Uint8Array(await (await download.blob()).arrayBuffer()));
}

/** What a swarm says about a file that it shares, with what it takes to answer for it. */
export function manifestOf(bytes, { id = sha256(bytes), pieceBytes = PIECE_BYTES } = {}) {
  const pieces = Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, i) => bytes.slice(i * pieceBytes, (i + 1) * pieceBytes));
  const hashes = Buffer.concat(pieces.map((piece) => createHash("sha256").update(piece).digest()));
  return { share: { id, name: "film", type: "", size: bytes.length, pieceBytes }, root: sha256(hashes), hashes, pieces };
}

/**
 * Somebody without a swarm of ours, who has a line to one person and a channel over it. `answers` says what becomes of messages, by type; a type
 * that is not there gets no answer.
 */
export async function stranger(name, { room }, answers = {}) {
  const [link] = meet(new FakeRoom(name), room);
  const channel = link.channel("switchboard.swarm");
  const heard = [];
  channel.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    heard.push(message);
    answers[message.type]?.(message, say);
  });
  const say = (...messages) => {
    for (const message of messages) channel.send(ArrayBuffer.isView(message) ? message : JSON.stringify(message));
  };
  await until(() => channel.readyState === "open", "an open channel");
  say({ type: "hello", version: 1, nonce: "0".repeat(16) });
  return { name, link, channel, heard, say, asked: () => heard.filter(({ type }) => type === "request").map(({ piece }) => piece) };
}

/** Answers of one who has a file and gives it. */
export function giving(manifest) {
  return {
    list: ({ n, from }, say) => say({ type: "hashes", n, hashes: manifest.hashes.subarray(from * 32, (from + 256) * 32).toString("base64") }),
    request: ({ n, piece }, say) => say(...[0, 8192].map((offset) => encodeChunk(n, offset, manifest.pieces[piece].subarray(offset, offset + 8192))).filter((chunk) => chunk.length > 8)),
  };
}

export function announcing({ share, root }, bits) {
  return { type: "announce", share, root, whole: bits === undefined, bits };
}
