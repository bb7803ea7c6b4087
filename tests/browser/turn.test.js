/** Calls through the server's own TURN server, by each of its ways, and by no other: UDP, TCP, TLS; for longer than the credentials that they begin with. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { eventually, startBrowser, startServer, within } from "./support.js";

// The certificate for TLS is made here, and nobody vouches for it.
const browser = await startBrowser({ after }, ["--ignore-certificate-errors"]);

/** By which of the URLs that the server names a page may go. */
const WAYS = { udp: /^turn:.*transport=udp$/, tcp: /^turn:.*transport=tcp$/, tls: /^turns:/ };

/** A pair of files for 127.0.0.1. */
function certificate(t) {
  const directory = mkdtempSync(join(tmpdir(), "switchboard-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const [cert, key] = [join(directory, "chain.pem"), join(directory, "key.pem")];
  const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"];
  execFileSync("openssl", ["req", ...made, "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key], { stdio: "ignore" });
  return { SWITCHBOARD_TLS_CERT: cert, SWITCHBOARD_TLS_KEY: key, SWITCHBOARD_TURN_TLS_LISTEN: "127.0.0.1:0" };
}

/** A page in a room for relays alone, whose lines know only the servers of one way. */
async function inRoom(t, server, way) {
  const page = await browser.newPage(t, { ignoreHTTPSErrors: true });
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(
    async ({ base, way }) => {
      const pattern = new RegExp(way);
      const configurations = [];
      const only = (configuration) => ({
        ...configuration,
        iceServers: configuration.iceServers.map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => pattern.test(url)) })),
      });
      const Everywhere = globalThis.RTCPeerConnection;
      globalThis.RTCPeerConnection = class extends Everywhere {
        constructor(configuration) {
          super(only(configuration));
          configurations.push(this.getConfiguration());
        }
        setConfiguration(configuration) {
          super.setConfiguration(only(configuration));
          configurations.push(this.getConfiguration());
        }
      };
      const { connect } = await import(`${base}/client.js`);
      const [heard, states] = [[], []];
      const entered = await connect(base, { room: "shelter", transport: "websocket", mesh: true });
      entered.room.addEventListener("link", ({ detail: link }) => {
        globalThis.link = link;
        link.addEventListener("message", ({ detail }) => heard.push(detail));
        link.addEventListener("state", () => states.push(link.state));
      });
      Object.assign(globalThis, { heard, states, entered, configurations });
    },
    { base: server.url, way: way.source },
  );
  return page;
}

/** How many relays clients have there by this way, or have had. */
async function relays(server, way, series = "allocations") {
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const metrics = await (await fetch(`${server.admin}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).text();
  return Number(metrics.match(new RegExp(`^switchboard_turn_${series}{transport="${way}"} (\\d+)$`, "m"))?.[1]);
}

/** A server that relays for pages of this machine, by UDP and TCP unless there are more settings. */
function startRelay(t, settings = {}) {
  return startServer(t, {
    SWITCHBOARD_TURN_ENABLED: "true",
    SWITCHBOARD_TURN_LISTEN: "127.0.0.1:0",
    SWITCHBOARD_TURN_ALLOW: "127.0.0.1",
    SWITCHBOARD_TURN_GRACE_MS: "0",
    SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter",
    SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0",
    ...settings,
  });
}

async function areConnected(pages) {
  for (const page of pages) assert.ok(await page.evaluate(() => globalThis.link?.state === "connected"));
}

for (const [way, urls] of Object.entries(WAYS)) {
  test(`a call goes through the server itself by ${way}, and its relays go with its sessions`, { timeout: 90_000 }, async (t) => {
    const server = await startRelay(t, way === "tls" ? certificate(t) : {});
    const pages = [await inRoom(t, server, urls), await inRoom(t, server, urls)];
    await eventually(() => areConnected(pages), 30_000);
    for (const page of pages) assert.ok(await page.evaluate(() => globalThis.link.send("by a relay")));
    await eventually(async () => {
      for (const page of pages) assert.deepEqual(await page.evaluate(() => globalThis.heard), ["by a relay"]);
    });
    const { localCandidate, remoteCandidate } = await pages[0].evaluate(() => globalThis.link.stats());
    assert.deepEqual([localCandidate, remoteCandidate], ["relay", "relay"]);
    assert.ok((await relays(server, way)) >= 2);
    for (const page of pages) await page.evaluate(() => globalThis.entered.close());
    await eventually(async () => assert.equal(await relays(server, way), 0));
  });
}

/** So long credentials are good here; clients get new ones each five seconds. */
const TTL_MS = 10_000;
/** A page says a word each so many milliseconds. */
const WORD_MS = 20;
/** Nobody who listens to a call would call less a gap. */
const GAP_MS = 1_500;

/** Says one number after the other, until told to stop, and notes when those of the other page come. */
function talk(wordMs) {
  const told = { said: 0, refused: 0, latest: performance.now(), gap: 0 };
  globalThis.link.addEventListener("message", () => {
    const now = performance.now();
    [told.gap, told.latest] = [Math.max(told.gap, now - told.latest), now];
  });
  const speaking = setInterval(() => (globalThis.link.send(String(told.said)) ? told.said++ : told.refused++), wordMs);
  globalThis.told = told;
  globalThis.hush = () => clearInterval(speaking);
}

/** The first candidate that these servers give, or what they say instead. */
async function gather(iceServers) {
  const connection = new RTCPeerConnection({ iceServers, iceTransportPolicy: "relay" });
  const found = new Promise((resolve) => {
    connection.addEventListener("icecandidate", ({ candidate }) => candidate && resolve(candidate.type));
    connection.addEventListener("icecandidateerror", ({ errorCode }) => resolve(errorCode));
  });
  connection.createDataChannel("");
  await connection.setLocalDescription();
  const first = await found;
  connection.close();
  return first;
}

test("a call goes on without a gap when its credentials are renewed and when it looks for a way anew", { timeout: 120_000 }, async (t) => {
  const server = await startRelay(t, { SWITCHBOARD_ICE_TURN_TTL_MS: String(TTL_MS) });
  const pages = [await inRoom(t, server, WAYS.udp), await inRoom(t, server, WAYS.udp)];
  await eventually(() => areConnected(pages), 30_000);
  for (const page of pages) await page.evaluate(talk, WORD_MS);
  const usernames = (page) => page.evaluate(() => globalThis.configurations.map(({ iceServers }) => iceServers[0].username));
  const isOver = (username) => Number(username.split(":")[0]) * 1000 < Date.now();
  const made = await relays(server, "udp", "allocations_total");

  // The relay of the beginning lives on when its credentials are over, though the lines have been told of three others.
  await eventually(async () => {
    for (const page of pages) {
      const [first, ...others] = await usernames(page);
      assert.ok(isOver(first) && new Set(others).size >= 3, `${first} ${others}`);
    }
  }, 3 * TTL_MS);
  await areConnected(pages);
  assert.equal(await relays(server, "udp", "allocations_total"), made, "nobody needed another relay");
  // Those that they look for now are had by the credentials that count.
  await pages[0].evaluate(() => globalThis.link.restart());
  await eventually(async () => assert.ok((await relays(server, "udp", "allocations_total")) >= made + 2));
  const after = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.told.said)));
  await eventually(async () => {
    for (const [index, page] of pages.entries()) assert.ok((await page.evaluate(() => globalThis.told.said)) >= after[index] + 2000 / WORD_MS);
  });

  for (const page of pages) await page.evaluate(() => globalThis.hush());
  const spoken = await Promise.all(pages.map((page) => page.evaluate(() => globalThis.told)));
  for (const [index, page] of pages.entries()) {
    const expected = Array.from({ length: spoken[1 - index].said }, (_, number) => String(number));
    await eventually(async () => assert.deepEqual(await page.evaluate(() => globalThis.heard), expected, "every word, in order"));
    const { refused, gap } = spoken[index];
    t.diagnostic(`${expected.length} words heard, ${Math.round(gap)} ms between two of them at most`);
    assert.equal(refused, 0);
    assert.ok(gap < GAP_MS, `silence for ${gap} ms`);
    assert.deepEqual(await page.evaluate(() => globalThis.states), ["connected"], "the line was never lost");
  }
  const { localCandidate, remoteCandidate } = await pages[0].evaluate(() => globalThis.link.stats());
  assert.deepEqual([localCandidate, remoteCandidate], ["relay", "relay"]);

  // The last ones are as good as their session.
  const { iceServers } = await pages[0].evaluate(() => globalThis.configurations.at(-1));
  assert.equal(await within(pages[1].evaluate(gather, iceServers), "a candidate"), "relay");
  await pages[0].evaluate(() => globalThis.entered.close());
  await eventually(async () => assert.equal(await within(pages[1].evaluate(gather, iceServers), "an answer"), 401));
  assert.ok(!isOver(iceServers[0].username), "and not for what they say");
});
