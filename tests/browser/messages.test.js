/** What the application says through the server arrives equal, from codec to codec, and best effort as datagrams where there are any. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { startBrowser, startServer, within } from "./support.js";

const browser = await startBrowser({ after });

/** A page with a client in a room; what it hears is kept. */
async function listener(t, server, transport) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(
    async ({ base, transport }) => {
      const { connect } = await import(`${base}/client.js`);
      const client = await connect(base, { room: "hall", transport });
      const heard = [];
      let wake = () => {};
      client.addEventListener("message", ({ detail }) => {
        heard.push(detail);
        wake();
      });
      globalThis.client = client;
      globalThis.next = async () => {
        while (heard.length === 0) await new Promise((resolve) => (wake = resolve));
        const { payload, bestEffort, to } = heard.shift();
        return { payload: payload instanceof Uint8Array ? { bytes: [...payload] } : payload, bestEffort, to };
      };
    },
    { base: server.url, transport },
  );
  return { page, next: () => within(page.evaluate(() => globalThis.next()), "a message") };
}

test("a payload crosses from door to door as it was", async (t) => {
  const server = await startServer(t);
  const [wt, ws] = [await listener(t, server, "webtransport"), await listener(t, server, "websocket")];
  const payload = { text: "☎ \ufeff", list: [1, -1, 1.5, null, true, 2 ** 40], nested: { a: [{}] } };
  for (const [from, to] of [[wt, ws], [ws, wt]]) {
    await from.page.evaluate((payload) => globalThis.client.request("message", { payload }), payload);
    assert.deepEqual((await to.next()).payload, payload);
  }
  await wt.page.evaluate(() => globalThis.client.request("message", { payload: Uint8Array.of(1, 2, 255) }));
  assert.equal((await ws.next()).payload, "AQL/");
});

test("a message to one peer reaches it alone, and a wrong peer is refused", async (t) => {
  const server = await startServer(t);
  const [wt, ws] = [await listener(t, server, "webtransport"), await listener(t, server, "websocket")];
  const id = await ws.page.evaluate(() => globalThis.client.peerId);
  await wt.page.evaluate((to) => globalThis.client.request("message", { to, payload: "you" }), id);
  assert.deepEqual(await ws.next(), { payload: "you", bestEffort: undefined, to: id });
  for (const { page } of [wt, ws]) {
    const code = await page.evaluate(() => globalThis.client.request("offer", { to: "0".repeat(32), payload: 1 }).catch(({ code }) => code));
    assert.equal(code, "no-such-peer");
  }
});

test("best effort goes as a datagram to WebTransport, and as a frame to the others", async (t) => {
  const server = await startServer(t);
  const [from, wt, ws] = [
    await listener(t, server, "webtransport"),
    await listener(t, server, "webtransport"),
    await listener(t, server, "websocket"),
  ];
  // A datagram may be lost, so it is sent until one has arrived.
  await from.page.evaluate(() => (globalThis.sending = setInterval(() => globalThis.client.sendBestEffort({ payload: "quick" }), 50)));
  for (const to of [wt, ws]) assert.deepEqual(await to.next(), { payload: "quick", bestEffort: true, to: undefined });
  await from.page.evaluate(() => clearInterval(globalThis.sending));
  // From a WebSocket there are none: it is an ordinary message.
  await ws.page.evaluate(() => globalThis.client.sendBestEffort({ payload: "slow" }));
  assert.deepEqual(await from.next(), { payload: "slow", bestEffort: undefined, to: undefined });
});
