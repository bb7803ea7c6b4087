/** Calls through the server's own TURN server, by each of its ways, and by no other: UDP, TCP, TLS. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { eventually, startBrowser, startServer } from "./support.js";

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
      const only = (configuration) => ({
        ...configuration,
        iceServers: configuration.iceServers.map((server) => ({ ...server, urls: [server.urls].flat().filter((url) => pattern.test(url)) })),
      });
      const Everywhere = globalThis.RTCPeerConnection;
      globalThis.RTCPeerConnection = class extends Everywhere {
        constructor(configuration) {
          super(only(configuration));
        }
        setConfiguration(configuration) {
          super.setConfiguration(only(configuration));
        }
      };
      const { connect } = await import(`${base}/client.js`);
      const heard = [];
      const entered = await connect(base, { room: "shelter", transport: "websocket", mesh: true });
      entered.room.addEventListener("link", ({ detail: link }) => {
        globalThis.link = link;
        link.addEventListener("message", ({ detail }) => heard.push(detail));
      });
      Object.assign(globalThis, { heard, entered });
    },
    { base: server.url, way: way.source },
  );
  return page;
}

/** How many relays clients have there by this way. */
async function relays(server, way) {
  const token = (await readFile(server.adminToken, "utf8")).trim();
  const metrics = await (await fetch(`${server.admin}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).text();
  return Number(metrics.match(new RegExp(`^switchboard_turn_allocations{transport="${way}"} (\\d+)$`, "m"))?.[1]);
}

for (const [way, urls] of Object.entries(WAYS)) {
  test(`a call goes through the server itself by ${way}, and its relays go with its sessions`, { timeout: 90_000 }, async (t) => {
    const server = await startServer(t, {
      SWITCHBOARD_TURN_ENABLED: "true",
      SWITCHBOARD_TURN_LISTEN: "127.0.0.1:0",
      SWITCHBOARD_TURN_ALLOW: "127.0.0.1",
      SWITCHBOARD_TURN_GRACE_MS: "0",
      SWITCHBOARD_ICE_RELAY_ONLY_ROOMS: "shelter",
      SWITCHBOARD_ADMIN_LISTEN: "127.0.0.1:0",
      ...(way === "tls" ? certificate(t) : {}),
    });
    const pages = [await inRoom(t, server, urls), await inRoom(t, server, urls)];
    const connected = async () => {
      for (const page of pages) assert.ok(await page.evaluate(() => globalThis.link?.state === "connected"));
    };
    await eventually(connected, 30_000);
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
