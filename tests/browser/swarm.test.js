/** Files that go around in a room, between browsers: from everybody who has them, past one who corrupts what he sends and one who leaves. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "./support.js";

const FILE_BYTES = 20_000_000;
const PIECES = Math.ceil(FILE_BYTES / (256 * 1024));
/** Four browsers' worth of encryption may share one processor. */
const FILE_MS = 90_000;

const browser = await startBrowser({ after });

/** A page with a swarm in a room, which has met as many others as there should be. */
async function person(t, server, { transport, others = 0, options = {}, prepare = () => {} }) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(prepare);
  await page.evaluate(
    async ({ base, transport, options }) => {
      const [{ connect }, { Swarm }] = await Promise.all([import(`${base}/client.js`), import(`${base}/swarm.js`)]);
      globalThis.client = await connect(base, { room: "cinema", transport, mesh: true });
      const { room } = globalThis.client;
      const swarm = (globalThis.swarm = new Swarm(room, options));
      globalThis.refused = [];
      swarm.addEventListener("refused", ({ detail }) => globalThis.refused.push(detail));
      globalThis.hash = async (blob) => {
        const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
        return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      };
      /** Fetches the file, and gives its hash when all of it is here; meanwhile `download` is how far it is. */
      globalThis.fetched = async (id) => {
        globalThis.download = swarm.fetch(id);
        return globalThis.hash(await globalThis.download.blob());
      };
    },
    { base: server.url, transport, options },
  );
  await eventually(async () => {
    const states = await page.evaluate(() => [...globalThis.client.room.links.values()].map(({ state }) => state));
    assert.deepEqual(states, new Array(others).fill("connected"));
  });
  return page;
}

/** Shares 20 MB that nobody has ever seen; gives the id. */
async function share(page) {
  const share = await page.evaluate(async (size) => {
    const parts = [];
    for (let left = size; left > 0; left -= 65_536) parts.push(crypto.getRandomValues(new Uint8Array(Math.min(left, 65_536))));
    const file = new File(parts, "film.webm", { type: "video/webm" });
    const share = await globalThis.swarm.share(file);
    return { ...share, hash: await globalThis.hash(file) };
  }, FILE_BYTES);
  assert.deepEqual([share.id, share.size, share.pieces], [share.hash, FILE_BYTES, PIECES]);
  return share.id;
}

const fetched = (page, id) => within(page.evaluate((id) => globalThis.fetched(id), id), "the whole file", FILE_MS);
const peerId = (page) => page.evaluate(() => globalThis.client.peerId);
/** How many pieces came from each peer. */
const sources = (page) =>
  page.evaluate(() => globalThis.download.pieces.reduce((counts, from) => ({ ...counts, [from]: (counts[from] ?? 0) + 1 }), {}));

/** In a page: turns a bit in every chunk of a piece that it sends. */
function corruptPieces() {
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (data) {
    if (this.label !== "switchboard.swarm" || typeof data === "string") return send.call(this, data);
    const bytes = new Uint8Array(data);
    bytes[bytes.length - 1] ^= 1;
    return send.call(this, bytes);
  };
}

test("20 MB reach three peers who fetch at once, though one of them corrupts what he passes on and one leaves half way", async (t) => {
  const server = await startServer(t);
  const ann = await person(t, server, {
    transport: "webtransport",
    prepare: () => {
      const { send } = RTCDataChannel.prototype;
      globalThis.bufferedAmountMax = 0;
      RTCDataChannel.prototype.send = function (data) {
        send.call(this, data);
        globalThis.bufferedAmountMax = Math.max(globalThis.bufferedAmountMax, this.bufferedAmount);
      };
    },
  });
  const bob = await person(t, server, { transport: "websocket", others: 1, prepare: corruptPieces });
  const cid = await person(t, server, { transport: "webtransport", others: 2 });
  const eve = await person(t, server, { transport: "websocket", others: 3 });
  const bobsId = await peerId(bob);

  const id = await share(ann);
  const bobs = fetched(bob, id);
  // So that the others ask Bob for many pieces: one alone may come from Ann before he answers.
  const half = async () => assert.ok((await bob.evaluate(() => globalThis.download.received)) > FILE_BYTES / 2);
  await eventually(half, FILE_MS);
  const eves = fetched(eve, id);
  const left = new Promise((resolve) => cid.exposeFunction("left", resolve).then(() => cid.evaluate((id) => {
    const download = globalThis.swarm.fetch(id);
    void download.blob().catch(() => {});
    download.addEventListener("progress", ({ detail: { received, total } }) => {
      if (received < total / 2 || globalThis.hasLeft) return;
      globalThis.hasLeft = true;
      globalThis.left(received / total);
      location.href = "about:blank";
    });
  }, id)));

  const part = await within(left, "Cid's half", FILE_MS);
  assert.ok(part >= 0.5 && part < 0.6, `${part}`);
  assert.deepEqual(await Promise.all([bobs, eves]), [id, id]);
  const refused = await eve.evaluate(() => globalThis.refused);
  assert.deepEqual(refused.map(({ id, from }) => ({ id, from })), [{ id, from: bobsId }], "refused once, and asked for nothing more");
  const from = await sources(eve);
  assert.equal(from[bobsId], undefined);
  assert.equal(Object.values(from).reduce((a, b) => a + b), PIECES);
  t.diagnostic(`Eve's pieces, by peer: ${JSON.stringify(from)}`);
  const buffered = await ann.evaluate(() => globalThis.bufferedAmountMax);
  assert.ok(buffered > 0 && buffered < (256 + 16) * 1024, `${buffered} bytes in a buffer`);
});

test("when the one who shared it leaves half way, the file comes from who fetched it before, and not from him who corrupts it", async (t) => {
  const server = await startServer(t);
  const ann = await person(t, server, { transport: "websocket" });
  const bob = await person(t, server, { transport: "webtransport", others: 1, prepare: corruptPieces });
  const cid = await person(t, server, { transport: "websocket", others: 2 });
  const ids = { ann: await peerId(ann), bob: await peerId(bob), cid: await peerId(cid) };
  const id = await share(ann);
  assert.deepEqual(await Promise.all([fetched(bob, id), fetched(cid, id)]), [id, id]);

  const eve = await person(t, server, { transport: "webtransport", others: 3 });
  await ann.evaluate((after) => {
    const { send } = RTCDataChannel.prototype;
    let sent = 0;
    RTCDataChannel.prototype.send = function (data) {
      if (typeof data !== "string") sent += data.byteLength;
      // In the middle of a piece.
      if (sent > after) location.href = "about:blank";
      else send.call(this, data);
    };
  }, FILE_BYTES / 10);
  assert.equal(await fetched(eve, id), id);
  await within(ann.waitForURL("about:blank"), "Ann's leave");
  const refused = await eve.evaluate(() => globalThis.refused);
  assert.deepEqual(refused.map(({ id, from }) => ({ id, from })), [{ id, from: ids.bob }]);
  const from = await sources(eve);
  assert.deepEqual(Object.keys(from).sort(), [ids.ann, ids.cid].sort(), `${JSON.stringify(from)}`);
  assert.ok(from[ids.ann] < PIECES / 2, `${from[ids.ann]} pieces from who left`);
});

test("a film five times as long as the cache, which is Cache Storage, is streamed, and nothing of it stays behind", async (t) => {
  const server = await startServer(t);
  const ann = await person(t, server, { transport: "webtransport" });
  const eve = await person(t, server, { transport: "websocket", others: 1, options: { cache: "cache-storage", cacheBytesMax: 4 * 1024 * 1024 } });
  const id = await share(ann);
  const { hash, stored } = await within(
    eve.evaluate(async (id) => {
      const download = globalThis.swarm.fetch(id);
      const parts = [];
      let stored = 0;
      for await (const chunk of download.stream()) {
        parts.push(chunk);
        const [name] = await caches.keys();
        stored = Math.max(stored, (await (await caches.open(name)).keys()).length);
      }
      return { hash: await globalThis.hash(new Blob(parts)), stored };
    }, id),
    "the whole stream",
    FILE_MS,
  );
  assert.equal(hash, id);
  // Those that have made room may be about to be deleted.
  assert.ok(stored > 4 && stored < 32, `${stored} pieces at a time`);
  await eve.evaluate(() => globalThis.swarm.close());
  await eventually(async () => assert.deepEqual(await eve.evaluate(() => caches.keys()), []));
});
