/** The page for calls: pictures and sound from door to door, and what is seen without a camera, or without a server. */

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { ALLOWED, DEVICES, REFUSED, address, connectedTo, eventually, inState, pictures, startBrowser, startServer, visit } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);
/** Here whoever is asked for the camera says no. */
const refusing = await startBrowser({ after }, [DEVICES, REFUSED]);

const THEIRS = '[data-testid="peer"] video';
const OWN = '[data-testid="myself"] video';

test("WebTransport calls WebSocket: pictures arrive on both sides, and everybody sees who is muted", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "call", name: "Emma", door: "webtransport" });
  const stella = await browser.newPage(t);
  await stella.addInitScript(() => {
    const Original = globalThis.RTCPeerConnection;
    globalThis.RTCPeerConnection = class extends Original {
      constructor(...args) {
        super(...args);
        globalThis.connection = this;
      }
    };
  });
  await stella.goto(address(server, { page: "call", name: "Stella", door: "websocket" }));
  await inState(stella, "inside");
  await connectedTo(emma, [{ name: "Stella", door: "websocket" }]);
  await connectedTo(stella, [{ name: "Emma", door: "webtransport" }]);
  for (const page of [emma, stella]) {
    const { width } = await pictures(page, THEIRS);
    assert.ok(width > 0);
    await pictures(page, OWN);
    assert.equal(await page.getByTestId("hint").isVisible(), false);
    assert.equal(await page.getByTestId("empty").isVisible(), false);
  }
  // Sound comes as well. It is counted, for Chromium's `muted` may stay true on a track whose packets came before its description was in force.
  assert.deepEqual(await stella.locator(THEIRS).evaluate((video) => video.srcObject.getAudioTracks().map(({ readyState }) => readyState)), ["live"]);
  const packets = () =>
    stella.evaluate(async () => {
      const report = [...(await globalThis.connection.getStats()).values()];
      return report.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio")?.packetsReceived ?? 0;
    });
  const heard = await packets();
  await eventually(async () => assert.ok((await packets()) > heard + 50, "no sound comes"));

  const emmasTile = stella.getByTestId("peer");
  await emma.getByTestId("mute").click();
  await emmasTile.getByText("muted").waitFor();
  assert.equal(await emma.getByTestId("mute").getAttribute("aria-pressed"), "true");
  await emma.getByTestId("mute").click();
  await emmasTile.getByText("muted").waitFor({ state: "hidden" });

  await emma.getByTestId("camera").click();
  await stella.waitForSelector('[data-testid="peer"][data-picture="letter"]');
  await emma.getByTestId("camera").click();
  await stella.waitForSelector('[data-testid="peer"][data-picture="video"]');
  await pictures(stella, THEIRS);

  await emma.getByTestId("leave").click();
  await inState(emma, "idle");
  await stella.getByTestId("empty").waitFor();
  assert.equal(await stella.getByTestId("peer").count(), 0);
});

test("a screen takes the place of the camera, and gives it back", async (t) => {
  const server = await startServer(t);
  const emma = await browser.newPage(t);
  // There is no screen where the tests run; a picture of another shape stands for it.
  await emma.addInitScript(() => {
    navigator.mediaDevices.getDisplayMedia = async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 400, height: 400 });
      const context = canvas.getContext("2d");
      setInterval(() => context.fillRect(Math.random() * 400, Math.random() * 400, 9, 9), 50);
      globalThis.shown = canvas.captureStream(20);
      return globalThis.shown;
    };
  });
  await emma.goto(address(server, { page: "call", name: "Emma" }));
  const stella = await visit(t, browser, server, { page: "call", name: "Stella" });
  await pictures(stella, THEIRS);
  const isSquare = async () => {
    const { width, height } = await pictures(stella, THEIRS, 1);
    return width === height;
  };
  await emma.getByTestId("screen").click();
  await stella.getByTestId("peer").getByText("screen", { exact: true }).waitFor();
  await eventually(async () => assert.equal(await isSquare(), true));
  // As by the browser's own button; `stop` fires nothing.
  await emma.evaluate(() => globalThis.shown.getVideoTracks()[0].dispatchEvent(new Event("ended")));
  await stella.getByTestId("peer").getByText("screen", { exact: true }).waitFor({ state: "hidden" });
  await eventually(async () => assert.equal(await isSquare(), false));
  assert.equal(await emma.getByTestId("screen").getAttribute("aria-pressed"), "false");
});

test("the statistics show which way a call takes, and how much passes", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "call", name: "Emma", query: { picture: "test" } });
  await emma.locator("#panel summary").click();
  await emma.locator("#statistics-empty").waitFor();
  await visit(t, browser, server, { page: "call", name: "Stella" });
  const row = emma.getByTestId("statistics-row");
  await eventually(async () => assert.match(await row.innerText({ timeout: 1_000 }), /Stella direct: \w+ ↔ \w+, UDP/));
  await eventually(async () => {
    const values = await row.locator(".plot-value").allInnerTexts();
    assert.match(values[0], /^[\d.]+ ms$/);
    for (const value of values.slice(1)) assert.match(value, /^[1-9][\d.,]* [kM]?bit\/s$/);
    assert.match(await row.locator("path.plot-line").nth(1).getAttribute("d"), /L/);
  });
});

test("who says no to the camera is seen with a test picture, and can be asked again", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, refusing, server, { page: "call", name: "Emma" });
  await emma.waitForSelector('#hint[data-code="refused"]:not([hidden])');
  assert.match(await emma.getByTestId("hint-text").innerText(), /not allowed.*test picture and do not hear you/s);
  assert.equal(await emma.getByTestId("mute").isDisabled(), true);
  await pictures(emma, OWN);
  const stella = await visit(t, browser, server, { page: "call", name: "Stella" });
  await pictures(stella, THEIRS);
  await stella.getByTestId("peer").getByText("muted").waitFor();
  await emma.getByTestId("hint-button").click();
  await emma.waitForSelector('#hint[data-code="refused"]:not([hidden])');
});

test("when the server is lost in a call, the pictures go on, and who was in the room is in it again by himself", async (t) => {
  const server = await startServer(t);
  const pages = [await visit(t, browser, server, { page: "call", name: "Emma" }), await visit(t, browser, server, { page: "call", name: "Stella" })];
  for (const page of pages) await pictures(page, THEIRS);
  await server.kill();
  for (const page of pages) {
    await inState(page, "lost");
    assert.match(await page.getByTestId("notice-text").innerText(), /Those you have a line to still hear you/);
    await pictures(page, THEIRS);
  }
  await startServer(t, {}, new URL(server.url).port);
  for (const page of pages) {
    await inState(page, "inside");
    await pictures(page, THEIRS);
    await eventually(async () => assert.equal(await page.locator('[data-testid="peer"][data-line="connected"]').count(), 1));
    assert.equal(await page.getByTestId("peer").count(), 1, "nobody is there twice");
  }
});
