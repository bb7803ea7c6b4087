/** WebTorrent's peers find each other by `bittorrent-tracker`, whose tracker is this server, and move a file's pieces over the connections that it yields. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { before, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "../browser/support.js";
import { bundle } from "./bundle.js";

/**
 * What a torrent client does, but for the torrent's own protocol: a peer that has pieces sends those that it is asked for, one that has none asks
 * for one after another and looks at the hash of each.
 */
const APPLICATION = `
  import Client from "bittorrent-tracker/client";

  // The library is for bundlers that say so.
  globalThis.process ??= { browser: true };

  const hex = async (bytes) =>
    [...new Uint8Array(await crypto.subtle.digest("SHA-1", bytes))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  window.torrent = ({ infoHash, peerId, announce, pieces, hashes }) => {
    const have = new Map(pieces.map((piece, i) => [i, Uint8Array.from(atob(piece), (char) => char.charCodeAt(0))]));
    const seen = { updates: [], scrapes: [], warnings: [], peers: [] };
    const left = () => hashes.length - have.size;
    const client = new Client({ infoHash, peerId, announce, rtcConfig: { iceServers: [] }, getAnnounceOpts: () => ({ numwant: 3, left: left() }) });
    client.on("error", (error) => seen.warnings.push(String(error)));
    client.on("warning", (error) => seen.warnings.push(String(error)));
    client.on("update", ({ complete, incomplete, interval }) => seen.updates.push({ complete, incomplete, interval }));
    client.on("scrape", ({ infoHash, complete, incomplete, downloaded }) => seen.scrapes.push({ infoHash, complete, incomplete, downloaded }));
    client.on("peer", (peer) => {
      const ask = () => {
        const next = hashes.findIndex((_, i) => !have.has(i));
        if (next >= 0) peer.send(Uint8Array.of(0, next));
        else if (!seen.completed) {
          seen.completed = true;
          client.complete();
        }
      };
      peer.on("error", () => {});
      peer.on("connect", () => {
        seen.peers.push(peer.id);
        if (left()) ask();
      });
      peer.on("data", async (data) => {
        const [kind, i] = data;
        if (kind === 0) {
          if (have.has(i)) peer.send(Uint8Array.from([1, i, ...have.get(i)]));
          return;
        }
        const piece = data.slice(2);
        if ((await hex(piece)) !== hashes[i]) throw new Error("piece " + i + " is not what it should be");
        have.set(i, piece);
        ask();
      });
    });
    return { client, seen, content: async () => (left() ? null : hex(await new Blob([...have.keys()].sort().map((i) => have.get(i))).arrayBuffer())) };
  };
`;

let browser, script;
before(async (t) => {
  browser = await startBrowser(t);
  script = await bundle(APPLICATION);
});

const sha1 = (bytes) => createHash("sha1").update(bytes).digest("hex");

/** A file of some pieces. */
function file() {
  const pieces = Array.from({ length: 8 }, () => randomBytes(16 * 1024));
  return { infoHash: sha1(randomBytes(8)), hashes: pieces.map(sha1), pieces: pieces.map((piece) => piece.toString("base64")), content: sha1(Buffer.concat(pieces)) };
}

/** A torrent client in a page of a browser context of its own, with all of the file or nothing, before it has announced itself. */
async function torrent(t, server, { infoHash, hashes, pieces }, hasAll, path = "/tracker") {
  const page = await browser.newPage(t);
  const heard = [];
  const sockets = [];
  page.on("websocket", (socket) => {
    sockets.push(socket);
    socket.on("framereceived", ({ payload }) => heard.push(JSON.parse(payload)));
  });
  await page.goto(`${server.url}/healthz`);
  await page.addScriptTag({ content: script });
  // All bytes are to be seen, zero among them.
  const peerId = Buffer.concat([Buffer.from([0, 10, 0x7f, 0x80, 0xff]), randomBytes(15)]).toString("hex");
  const announce = server.url.replace("http", "ws") + path;
  await page.evaluate((options) => void (window.it = window.torrent(options)), { infoHash, peerId, announce, hashes, pieces: hasAll ? pieces : [] });
  return { page, peerId, heard, sockets, seen: () => page.evaluate(() => window.it.seen), content: () => page.evaluate(() => window.it.content()) };
}

const tell = ({ page }, what, ...args) => page.evaluate(([what, args]) => void window.it.client[what](...args), [what, args]);
const last = async (one) => (await one.seen()).updates.at(-1);

for (const path of ["/tracker", "/announce"]) {
  test(`a file moves from one page to another that met it at ${path}`, async (t) => {
    const server = await startServer(t);
    const shared = file();
    const [seeder, leecher] = await Promise.all([torrent(t, server, shared, true, path), torrent(t, server, shared, false, path)]);
    await tell(seeder, "start");
    await eventually(async () => assert.deepEqual(await last(seeder), { complete: 1, incomplete: 0, interval: 120 }));
    await tell(leecher, "start");
    await eventually(async () => assert.equal(await leecher.content(), shared.content), 30_000);
    assert.deepEqual([(await seeder.seen()).peers, (await leecher.seen()).peers], [[leecher.peerId], [seeder.peerId]]);

    // It has said that it has all, and both are counted.
    await eventually(async () => assert.deepEqual(await last(leecher), { complete: 2, incomplete: 0, interval: 120 }));
    await tell(seeder, "scrape");
    const counts = { infoHash: shared.infoHash, complete: 2, incomplete: 0, downloaded: 1 };
    await eventually(async () => assert.deepEqual((await seeder.seen()).scrapes, [counts]));

    await tell(leecher, "stop");
    await eventually(async () => assert.deepEqual(await last(leecher), { complete: 1, incomplete: 0, interval: 120 }));
    await leecher.page.close();
    await tell(seeder, "stop");
    await eventually(async () => assert.deepEqual(await last(seeder), { complete: 0, incomplete: 0, interval: 120 }));
    assert.deepEqual((await seeder.seen()).warnings, []);
    assert.ok(!seeder.sockets[0].isClosed());
  });
}

test("a page is in several swarms over one socket, and asks for both at once", async (t) => {
  const server = await startServer(t);
  const [first, second] = [file(), file()];
  const seeder = await torrent(t, server, first, true);
  await tell(seeder, "start");
  await eventually(async () => assert.equal((await last(seeder))?.complete, 1));
  const both = { ...second, peerId: randomBytes(20).toString("hex"), announce: server.url.replace("http", "ws") + "/tracker" };
  await seeder.page.evaluate((options) => void (window.other = window.torrent({ ...options, pieces: [] })), both);
  await seeder.page.evaluate(() => void window.other.client.start());
  await eventually(async () => assert.equal((await seeder.page.evaluate(() => window.other.seen.updates.at(-1)))?.incomplete, 1));
  assert.equal(seeder.sockets.length, 1);

  await tell(seeder, "scrape", { infoHash: [first.infoHash, second.infoHash, "00".repeat(20)] });
  const counts = (infoHash, complete, incomplete) => ({ infoHash, complete, incomplete, downloaded: 0 });
  const expected = [counts(first.infoHash, 1, 0), counts(second.infoHash, 0, 1), counts("00".repeat(20), 0, 0)];
  const sorted = (scrapes) => scrapes.sort((a, b) => a.infoHash.localeCompare(b.infoHash));
  await eventually(async () => assert.deepEqual(sorted((await seeder.seen()).scrapes), sorted(expected)));
  await seeder.page.evaluate(() => void (window.other.client.stop(), window.other.client.destroy()));
  const known = (await seeder.seen()).updates.length;
  await tell(seeder, "update");
  await eventually(async () => assert.equal((await seeder.seen()).updates.length, known + 1));
  assert.ok(!seeder.sockets[0].isClosed());
});

test("many meet each other, and nobody itself", async (t) => {
  const server = await startServer(t);
  const shared = file();
  const seeder = await torrent(t, server, shared, true);
  await tell(seeder, "start");
  await eventually(async () => assert.equal((await last(seeder))?.complete, 1));
  const leechers = [];
  for (let i = 0; i < 3; i++) {
    leechers.push(await torrent(t, server, shared, false));
    await tell(leechers.at(-1), "start");
    await eventually(async () => assert.equal(await leechers.at(-1).content(), shared.content), 30_000);
  }
  await eventually(async () => assert.equal((await last(leechers.at(-1))).complete, 4));
  const all = [seeder, ...leechers];
  for (const one of all) {
    const others = all.filter((other) => other !== one).map(({ peerId }) => peerId);
    const { peers, warnings } = await one.seen();
    assert.ok(peers.length > 0 && peers.every((peer) => others.includes(peer)), JSON.stringify({ peers, others }));
    assert.deepEqual(warnings, []);
  }
  await within(Promise.all(all.map(({ page }) => page.close())), "an end");
});
