/** Who is in a room is the same for everybody in it, by whatever door, and however somebody leaves. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { QUICK, connectedTo, eventually, others, startBrowser, startServer, visit, within } from "./support.js";

const DOORS = ["webtransport", "websocket"];

const browser = await startBrowser({ after });

test("three on mixed doors see the same membership, while they come and go", async (t) => {
  const server = await startServer(t);
  const people = [
    { name: "Emma", door: "webtransport" },
    { name: "Louise", door: "websocket" },
    { name: "Stella", door: "webtransport" },
  ];
  const pages = [];
  for (const person of people) pages.push(await visit(t, browser, server, person));
  for (const [i, page] of pages.entries()) await connectedTo(page, people.filter((_, j) => j !== i));

  await pages[1].getByTestId("leave").click();
  await connectedTo(pages[0], [people[2]]);
  await connectedTo(pages[2], [people[0]]);
  const elsewhere = await visit(t, browser, server, { room: "cellar", name: "Oleanna" });
  assert.deepEqual(await others(elsewhere), []);

  // A reload is a goodbye and a new arrival.
  await pages[2].reload();
  await connectedTo(pages[2], [people[0]]);
  await connectedTo(pages[0], [people[2]]);
});

/**
 * Chromium gives up a QUIC connection one second before the idle time that was agreed on (SetNetworkTimeouts in its QuicConnection). With a
 * heartbeat of 500 ms and 2 s of silence that is after 500 ms, the very moment at which the server's keep-alive is due.
 */
test("a quiet peer on webtransport stays, where the time-outs are short", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_TIMEOUTS_HEARTBEAT_MS: "500", SWITCHBOARD_TIMEOUTS_SILENCE_MS: "2000" });
  const page = await visit(t, browser, server, { door: "webtransport" });
  // What is waited for is what must not happen.
  const lost = await page.waitForSelector('body[data-state="lost"]', { timeout: 8_000 }).catch(() => null);
  assert.equal(lost, null, "the session ended");
});

for (const door of DOORS) {
  test(`who is killed without a goodbye on ${door} disappears for the others, on each door`, async (t) => {
    const server = await startServer(t, QUICK);
    const witnesses = [];
    for (const witness of DOORS) witnesses.push(await visit(t, browser, server, { door: witness, name: witness }));
    const doomed = await startBrowser(t);
    await visit(t, doomed, server, { door, name: "Merle" });
    for (const page of witnesses) await eventually(async () => assert.equal((await others(page)).length, 2));
    await doomed.kill();
    for (const [i, page] of witnesses.entries()) await connectedTo(page, [{ name: DOORS[1 - i], door: DOORS[1 - i] }]);
  });
}

for (const [how, leave] of [
  ["closes its session", (page) => page.evaluate(() => globalThis.session.close({ closeCode: 0x102, reason: "bye" }))],
  ["closes its tab", (page) => page.close()],
]) {
  test(`who ${how} without ending its stream has left at once`, async (t) => {
    const server = await startServer(t);
    const witness = await browser.newPage(t);
    await witness.goto(`${server.url}/healthz`);
    // It is there before anybody comes who goes again.
    await witness.evaluate(async (base) => {
      const { connect } = await import(`${base}/client.js`);
      const client = await connect(base, { room: "hall", transport: "websocket" });
      globalThis.left = new Promise((resolve) => client.addEventListener("peer-left", ({ detail }) => resolve(detail.reason)));
    }, server.url);
    const left = witness.evaluate(() => globalThis.left);
    const page = await browser.newPage(t);
    await page.goto(`${server.url}/healthz`);
    await page.evaluate(async () => {
      const { transports } = await (await fetch("/.well-known/switchboard")).json();
      const { url, certificateHashes } = transports.find(({ type }) => type === "webtransport");
      const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
      globalThis.session = new WebTransport(url, { serverCertificateHashes: certificateHashes.map(({ algorithm, value }) => ({ algorithm, value: bytes(value) })) });
      const { readable, writable } = await globalThis.session.createBidirectionalStream();
      // {"type": "join", "room": "hall"}, in MessagePack behind its length.
      await writable.getWriter().write(Uint8Array.of(0, 0, 0, 21, 0x82, 0xa4, ...new TextEncoder().encode("type"), 0xa4, ...new TextEncoder().encode("join"), 0xa4, ...new TextEncoder().encode("room"), 0xa4, ...new TextEncoder().encode("hall")));
      // Past the welcome, it is in.
      let heard = "";
      for (const reader = readable.getReader(); !heard.includes("joined"); ) heard += new TextDecoder("latin1").decode((await reader.read()).value);
    });
    await leave(page);
    assert.equal(await within(left, "a peer-left"), "disconnected");
  });
}
