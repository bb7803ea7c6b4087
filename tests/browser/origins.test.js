/** What a page of another origin gets: what Chromium says of it is what the server judges it by. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { eventually, serveElsewhere, startBrowser, startServer } from "./support.js";

const browser = await startBrowser({ after });

/** Tries every way in from the page, and tells of each whether it worked. */
async function tries(page, base, certificateHashes) {
  return page.evaluate(
    async ({ base, certificateHashes }) => {
      const works = (promise) => promise.then(() => true, () => false);
      const socket = (path) =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(base.replace("http", "ws") + path);
          socket.onopen = () => resolve(socket.close());
          socket.onerror = reject;
        });
      const session = async (path) => {
        const hashes = certificateHashes.map(({ algorithm, value }) => ({ algorithm, value: Uint8Array.from(atob(value), (char) => char.charCodeAt(0)) }));
        const session = new WebTransport(base.replace("http:", "https:") + path, { serverCertificateHashes: hashes });
        // A refused session rejects both.
        session.closed.catch(() => {});
        await session.ready;
        session.close();
      };
      const read = async (path, options) => (await fetch(base + path, options)).text();
      return {
        discovery: await works(read("/.well-known/switchboard")),
        ids: await works(read("/peerjs/id")),
        polling: await works(read("/socket.io/?EIO=4&transport=polling", { credentials: "include", headers: { "x-own": "1" } })),
        websocket: await works(socket("/ws")),
        tracker: await works(socket("/tracker")),
        socketio: await works(socket("/socket.io/?EIO=4&transport=websocket")),
        webtransport: await works(session("/wt")),
        modules: await works(import(`${base}/client.js`)),
        health: await works(read("/healthz")),
      };
    },
    { base, certificateHashes },
  );
}

test("a page of a strange origin gets in nowhere, and reads what is for everybody", async (t) => {
  const from = await serveElsewhere(t);
  const all = { discovery: true, ids: true, polling: true, websocket: true, tracker: true, socketio: true, webtransport: true, modules: true, health: true };
  const none = Object.fromEntries(Object.keys(all).map((way) => [way, way === "modules" || way === "health"]));
  for (const [origins, expected] of [
    ["same-host,localhost", all],
    [from, all],
    ["https://app.example.org,http://*.localhost", none],
  ]) {
    const server = await startServer(t, { SWITCHBOARD_ORIGINS: origins });
    // The test itself is no browser.
    const { transports } = await (await fetch(`${server.url}/.well-known/switchboard`)).json();
    const page = await browser.newPage(t);
    // No page of ours: those import nothing from elsewhere.
    await page.goto(`${from}/src/codes.js`);
    await eventually(async () => assert.deepEqual(await tries(page, server.url, transports[0].certificateHashes), expected));
  }
});

test("a page in a sandbox is let in only where that is named", async (t) => {
  for (const [origins, expected] of [
    ["same-host,localhost", false],
    ["null", true],
  ]) {
    const server = await startServer(t, { SWITCHBOARD_ORIGINS: origins });
    const page = await browser.newPage(t);
    await page.goto(`${server.url}/healthz`);
    const opened = await page.evaluate(
      (url) =>
        new Promise((resolve) => {
          addEventListener("message", ({ data }) => resolve(data));
          const frame = document.createElement("iframe");
          frame.sandbox = "allow-scripts";
          frame.srcdoc = `<script>
            const socket = new WebSocket("${url}");
            socket.onopen = () => parent.postMessage(true, "*");
            socket.onerror = () => parent.postMessage(false, "*");
          </script>`;
          document.body.append(frame);
        }),
      `${server.url.replace("http", "ws")}/ws`,
    );
    assert.equal(opened, expected, origins);
  }
});
