/** The server introduces two browsers, whichever doors they came in by, and they talk over a direct line. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { connectedTo, hears, say, startBrowser, startServer, visit, within } from "./support.js";

const browser = await startBrowser({ after });

for (const [first, second] of [["webtransport", "websocket"], ["websocket", "webtransport"]]) {
  test(`${second} comes to ${first}, and they chat both ways`, async (t) => {
    const server = await startServer(t);
    const emma = await visit(t, browser, server, { door: first, name: "Emma" });
    const stella = await visit(t, browser, server, { door: second, name: "Stella" });
    await connectedTo(emma, [{ name: "Stella", door: second }]);
    await connectedTo(stella, [{ name: "Emma", door: first }]);
    await say(emma, "Hello? <b>☎</b>");
    await hears(stella, "Emma", "Hello? <b>☎</b>");
    await say(stella, "Hello, Emma.");
    await hears(emma, "Stella", "Hello, Emma.");
    await hears(stella, "You", "Hello, Emma.");
  });

  test(`${first} offers to ${second}: candidates trickle through the server, both ways`, async (t) => {
    const server = await startServer(t);
    const callee = await caller(t, server, second);
    const calling = await caller(t, server, first);
    const [said, heard] = await within(
      Promise.all([calling.evaluate(call, { begin: "one" }), callee.evaluate(call, { begin: "none" })]),
      "a message over the data channel, and a candidate from each side",
    );
    assert.equal(heard.message, `from ${said.peerId}`);
    assert.equal(said.message, `from ${heard.peerId}`);
    assert.deepEqual(said.signals.filter((type) => type !== "ice-candidate"), ["answer"]);
    assert.deepEqual(heard.signals.filter((type) => type !== "ice-candidate"), ["offer"]);
    assert.equal(heard.signals[0], "offer");
    assert.ok(said.signals.includes("ice-candidate"), "candidates came from the callee");
    assert.ok(heard.signals.includes("ice-candidate"), "candidates came from the caller");
  });
}

test("when both offer at once, the polite one yields, and there is one line", async (t) => {
  const server = await startServer(t);
  const pages = [await caller(t, server, "webtransport"), await caller(t, server, "websocket")];
  for (let round = 0; round < 5; round++) {
    const results = await within(Promise.all(pages.map((page) => page.evaluate(call, { begin: "both" }))), "a message over the data channel");
    assert.equal(results[0].message, `from ${results[1].peerId}`);
    assert.equal(results[1].message, `from ${results[0].peerId}`);
    for (const { signals } of results) assert.equal(signals.filter((type) => type === "offer").length, 1, "the offers met");
    const [polite, impolite] = results.sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
    assert.ok(!polite.signals.includes("answer") && impolite.signals.includes("answer"), "the impolite one's offer was answered");
    for (const page of pages) await page.evaluate(() => globalThis.hangUp());
    for (const page of pages) await page.evaluate(() => globalThis.enter());
  }
});

/** A page without anything of ours: only a client that is in a room. */
async function caller(t, server, transport) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  await page.evaluate(
    async ({ base, transport }) => {
      const { PeerLink, connect } = await import(`${base}/client.js`);
      globalThis.PeerLink = PeerLink;
      globalThis.enter = async () => {
        globalThis.client = await connect(base, { room: "calls", transport });
        globalThis.waiting = [];
        globalThis.take = (detail) => globalThis.waiting.push(detail);
        for (const type of ["offer", "answer", "ice-candidate"]) globalThis.client.addEventListener(type, ({ detail }) => globalThis.take(detail));
      };
      globalThis.hangUp = async () => {
        await globalThis.client.leave();
        globalThis.link.close();
        globalThis.client.close();
      };
      await globalThis.enter();
    },
    { base: server.url, transport },
  );
  return page;
}

/** In the page: connects to the one other peer and exchanges one message with it; tells which signals came. */
async function call({ begin }) {
  const { client, PeerLink } = globalThis;
  const others = () => client.peers("calls");
  if (others().length === 0) await new Promise((resolve) => client.addEventListener("peer-joined", resolve, { once: true }));
  const [{ peerId }] = others();
  const sent = {};
  const sending = (type) => new Promise((resolve) => (sent[type] = resolve));
  const [offering, trickling] = [sending("offer"), sending("ice-candidate")];
  const send = (type, payload) => {
    client.send(type, { to: peerId, payload });
    sent[type]?.();
  };
  const link = new PeerLink({ localId: client.peerId, remoteId: peerId, send });
  globalThis.link = link;
  const signals = [];
  const message = new Promise((resolve) => link.addEventListener("message", ({ detail }) => resolve(detail)));
  const connected = new Promise((resolve) => link.addEventListener("state", resolve, { once: true }));
  if (begin !== "none") link.start();
  // So that the offers are sure to meet, nothing is taken before our own is out.
  if (begin === "both") await offering;
  globalThis.take = async ({ type, payload }) => {
    signals.push(type);
    // Chromium gathers no more once it is connected, which either side can be by the other's candidates alone. Here each shows its own first.
    if (begin !== "both" && type === "ice-candidate") await trickling;
    await link.receive(type, payload);
  };
  for (const detail of globalThis.waiting.splice(0)) globalThis.take(detail);
  await connected;
  link.send(`from ${client.peerId}`);
  const heard = await message;
  // The line may be there before the last candidates are.
  if (begin !== "both" && !signals.includes("ice-candidate")) await new Promise((resolve) => client.addEventListener("ice-candidate", resolve, { once: true }));
  return { peerId: client.peerId, message: heard, signals };
}
