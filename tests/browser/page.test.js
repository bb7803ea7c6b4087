/** What every page of a room says in each of its states, shown on the one for phrases. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { QUICK, address, connectedTo, eventually, hears, inState, say, serveElsewhere, startBrowser, startServer, visit } from "./support.js";

const browser = await startBrowser({ after });

async function complains(page, code, text) {
  await page.waitForSelector(`#notice[data-code="${code}"]:not([hidden])`);
  assert.match(await page.getByTestId("notice-text").innerText(), text);
}

test("a person types a room, and a second one comes by the link in the empty room", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  await page.goto(server.url);
  await page.getByTestId("way-phrases").click();
  // The page is idle as it comes from the server, before its script has run.
  await eventually(async () => assert.equal(await page.evaluate(() => document.activeElement?.id), "room"));
  await page.getByTestId("room").fill("a room & more");
  await page.getByTestId("room").press("Enter");
  await inState(page, "inside");
  assert.match(await page.getByTestId("status").innerText(), /“a room & more” over WebTransport/);
  assert.equal(await page.getByTestId("empty").isVisible(), true);
  assert.equal(await page.getByTestId("text").isDisabled(), true);
  assert.match(await page.getByTestId("myself").locator(".id").innerText(), /^[0-9a-f]{8}$/);

  const second = page.waitForEvent("popup");
  await page.getByTestId("second").click();
  await inState(await second, "inside");
  await eventually(async () => assert.equal(await page.locator('[data-line="connected"]').count(), 1));
  assert.equal(await page.getByTestId("empty").isVisible(), false);

  await page.getByTestId("leave").click();
  await inState(page, "idle");
  assert.equal(new URL(page.url()).hash, "");
});

test("the link that is copied leads into the room", async (t) => {
  const server = await startServer(t);
  const page = await visit(t, browser, server, { room: "köln #1" });
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByTestId("copy").click();
  await page.getByTestId("copy").filter({ hasText: "Copied" }).waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const guest = await browser.newPage(t);
  await guest.goto(link);
  await inState(guest, "inside");
  assert.match(await guest.getByTestId("status").innerText(), /“köln #1”/);
});

test("without WebTransport in the browser, the page comes in by WebSocket", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  await page.addInitScript(() => delete globalThis.WebTransport);
  await page.goto(address(server));
  await inState(page, "inside");
  assert.match(await page.getByTestId("status").innerText(), /over WebSocket/);
  const stubborn = await browser.newPage(t);
  await stubborn.addInitScript(() => delete globalThis.WebTransport);
  await stubborn.goto(address(server, { door: "webtransport" }));
  await complains(stubborn, "unsupported", /Choose another door/);
});

test("where UDP goes nowhere, the page comes in by WebSocket within seconds", async (t) => {
  const server = await startServer(t);
  const page = await browser.newPage(t);
  // As a firewall does it: the session neither opens nor fails.
  await page.addInitScript(() => {
    globalThis.WebTransport = class {
      ready = new Promise(() => {});
      closed = new Promise(() => {});
      close() {}
    };
  });
  await page.goto(address(server));
  await inState(page, "inside");
  assert.match(await page.getByTestId("status").innerText(), /over WebSocket/);
});

test("the page works from another origin", async (t) => {
  const server = await startServer(t);
  const from = await serveElsewhere(t);
  for (const door of ["webtransport", "websocket"]) {
    const room = `from elsewhere by ${door}`;
    const page = await visit(t, browser, server, { door, room, from, name: "Julia" });
    const local = await visit(t, browser, server, { room, door, name: "Grace" });
    await connectedTo(page, [{ name: "Grace", door }]);
    await say(local, "Where are you?");
    await hears(page, "Grace", "Where are you?");
    assert.equal(new URL(page.url()).searchParams.get("server"), server.url);
  }
  const typed = await browser.newPage(t);
  await typed.goto(`${from}/phrases.html`);
  await typed.getByTestId("server").fill(`${server.url}/`);
  await typed.getByTestId("room").fill("typed");
  await typed.getByTestId("enter").click();
  await inState(typed, "inside");
});

test("a room that is full says so, and can be tried again", async (t) => {
  const server = await startServer(t, { SWITCHBOARD_LIMITS_PEERS_PER_ROOM_MAX: "2" });
  for (const door of ["webtransport", "websocket"]) {
    const guests = [await visit(t, browser, server, { room: door }), await visit(t, browser, server, { room: door })];
    const page = await browser.newPage(t);
    await page.goto(address(server, { door, room: door }));
    await complains(page, "room-full", /full/);
    await guests[0].getByTestId("leave").click();
    await inState(guests[0], "idle");
    await eventually(async () => assert.equal(await guests[1].getByTestId("peer").count(), 0));
    await page.getByTestId("reconnect").click();
    await inState(page, "inside");
  }
});

test("a bad room name says so, and offers nothing that cannot help", async (t) => {
  const server = await startServer(t);
  for (const door of ["webtransport", "websocket"]) {
    const page = await browser.newPage(t);
    await page.goto(address(server, { door, room: "x".repeat(129) }));
    await complains(page, "bad-room-name", /no good name/);
    assert.equal(await page.getByTestId("reconnect").isVisible(), false);
    assert.equal(await page.getByTestId("entrance").isVisible(), true);
  }
});

/** It stood below the form, out of sight. */
test("on a phone the page says in sight why one did not get in", async (t) => {
  const server = await startServer(t);
  const from = await serveElsewhere(t);
  await server.kill();
  const page = await browser.newPage(t, { viewport: { width: 375, height: 667 } });
  await page.goto(address(server, { from }));
  await complains(page, "unreachable", /No server answers at/);
  const [top, bottom, height] = await page.getByTestId("notice").evaluate((notice) => {
    const { top, bottom } = notice.getBoundingClientRect();
    return [top, bottom, innerHeight];
  });
  assert.ok(top >= 0 && bottom <= height, `from ${top} to ${bottom} of ${height}`);
});

test("where no server is, the page says so", async (t) => {
  const server = await startServer(t);
  const from = await serveElsewhere(t);
  await server.kill();
  const page = await browser.newPage(t);
  await page.goto(address(server, { from }));
  await complains(page, "unreachable", /No server answers at/);
  await page.getByTestId("server").fill(from);
  await page.getByTestId("enter").click();
  await complains(page, "not-switchboard", /not Switchboard/);
});

for (const door of ["webtransport", "websocket"]) {
  test(`when the server shuts down, ${door} hears its goodbye, the direct lines go on, and a new server is found by itself`, async (t) => {
    const server = await startServer(t);
    const emma = await visit(t, browser, server, { door, name: "Emma" });
    const stella = await visit(t, browser, server, { door, name: "Stella" });
    await connectedTo(emma, [{ name: "Stella", door }]);
    await connectedTo(stella, [{ name: "Emma", door }]);
    const goodbyes = [emma, stella].map(async (page) => {
      await complains(page, "draining", /shutting down.*still hear you/s);
      assert.equal(await page.evaluate(() => document.body.dataset.state), "lost");
    });
    assert.deepEqual(await server.terminate(), { code: 0, signal: null });
    await Promise.all(goodbyes);
    assert.match(await emma.getByTestId("status").innerText(), /Not connected/);
    await say(emma, "Still there?");
    await hears(stella, "Emma", "Still there?");
    assert.match(await emma.getByTestId("retry").innerText(), /next attempt in \d+ second|trying/);

    const next = await startServer(t, {}, new URL(server.url).port);
    assert.equal(next.url, server.url);
    for (const [page, name] of [[emma, "Stella"], [stella, "Emma"]]) {
      await inState(page, "inside");
      assert.equal(await page.getByTestId("notice").isVisible(), false);
      await connectedTo(page, [{ name, door }]);
    }
    await say(stella, "Still here.");
    await hears(emma, "Stella", "Still here.");
    assert.equal(await emma.getByTestId("line").count(), 2, "the visit went on");
  });

  test(`when the server is gone without a goodbye, ${door} says so, and can leave`, async (t) => {
    const server = await startServer(t, QUICK);
    const page = await visit(t, browser, server, { door });
    await server.kill();
    await inState(page, "lost");
    await page.waitForSelector("#notice[data-code]:not([hidden])");
    assert.match(await page.getByTestId("notice-text").innerText(), /lost|No server answers/);
    assert.equal(await page.getByTestId("reconnect").innerText(), "Try now");
    await page.getByTestId("leave").click();
    await inState(page, "idle");
    assert.equal(await page.getByTestId("notice").isVisible(), false);
    assert.equal(await page.evaluate(() => document.activeElement.id), "room");
  });
}
