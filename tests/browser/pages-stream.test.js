/** The page for videos: watched while they arrive, from everybody who has pieces. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, test } from "node:test";

import { ALLOWED, DEVICES, address, eventually, inState, pictures, save, startBrowser, startServer, visit } from "./support.js";

const browser = await startBrowser({ after }, [DEVICES, ALLOWED]);

test("a video that was made in one tab is watched in two others while it arrives, and comes from both who have it", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "stream", name: "Emma", door: "webtransport" });
  await emma.getByTestId("nothing").waitFor();
  await emma.getByTestId("film").click();
  await emma.getByTestId("share").getByText("shared by you").waitFor();
  assert.equal(await emma.getByTestId("watch").count(), 0);

  const emmasId = await emma.getByTestId("myself").getAttribute("data-peer-id");
  const watch = async (name, door) => {
    const page = await visit(t, browser, server, { page: "stream", name, door });
    await page.getByTestId("watch").click();
    await page.waitForSelector('#stage[data-mode="streaming"]');
    await pictures(page, "#video", 5);
    await page.getByTestId("save").waitFor();
    return page;
  };
  const stella = await watch("Stella", "websocket");
  const [from] = await stella.getByTestId("legend").locator("li").evaluateAll((items) => items.map(({ dataset }) => dataset.from));
  assert.equal(from, emmasId);
  assert.match(await stella.getByTestId("legend").innerText(), /Emma: \d+ pieces?/);
  const cells = stella.getByTestId("cells").locator("i");
  assert.ok((await cells.count()) > 0);
  await eventually(async () => assert.deepEqual(await cells.evaluateAll((cells) => [...new Set(cells.map(({ dataset }) => dataset.state))]), ["there"]));
  const saved = await save(stella);
  assert.equal(saved.name, "Emma.webm");
  assert.equal(createHash("sha256").update(saved.bytes).digest("hex"), await emma.getByTestId("share").getAttribute("data-id"));

  // Emma may go: Stella has all of it.
  await stella.locator('[data-testid="peer"][data-line="connected"]').waitFor();
  await emma.close();
  const grace = await watch("Grace", "webtransport");
  await eventually(async () => assert.match(await grace.getByTestId("legend").innerText(), /^Stella: \d+ pieces?$/));
  await grace.getByTestId("stop").click();
  await grace.getByTestId("stage").waitFor({ state: "hidden" });
});

/** Of what this page sends in binary only so much goes out, until `release` is called. */
function holdBack(bytesMax) {
  const { send } = RTCDataChannel.prototype;
  const held = [];
  let sent = 0;
  RTCDataChannel.prototype.send = function (data) {
    if (typeof data !== "string") sent += data.byteLength;
    if (typeof data === "string" || sent <= bytesMax) send.call(this, data);
    else held.push(() => this.readyState === "open" && send.call(this, data));
  };
  globalThis.release = () => {
    bytesMax = Infinity;
    for (const late of held.splice(0)) late();
  };
}

async function heldBack(t, server) {
  const page = await browser.newPage(t);
  await page.addInitScript(holdBack, 400_000);
  await page.goto(address(server, { page: "stream", name: "Emma" }));
  await inState(page, "inside");
  return page;
}

test("the pictures move before the video is whole", async (t) => {
  const server = await startServer(t);
  const emma = await heldBack(t, server);
  await emma.getByTestId("film").click();
  await emma.getByTestId("share").waitFor();
  const stella = await visit(t, browser, server, { page: "stream", name: "Stella" });
  await stella.getByTestId("watch").click();
  await pictures(stella, "#video", 5);
  const [there, all] = await stella.locator("#progress").evaluate(({ value, max }) => [value, max]);
  assert.ok(there > 0 && there < all, `${there} of ${all} bytes`);
  const states = () => stella.getByTestId("cells").locator("i").evaluateAll((cells) => cells.map(({ dataset }) => dataset.state));
  assert.equal((await states())[0], "there");
  assert.notEqual((await states()).at(-1), "there");
  assert.equal(await stella.getByTestId("save").isVisible(), false);
  await emma.evaluate(() => globalThis.release());
  await stella.getByTestId("save").waitFor();
  await eventually(async () => assert.deepEqual([...new Set(await states())], ["there"]));
});

test("a file whose format has to be whole is played when it is, and a file that is no video can be saved", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "stream", name: "Emma" });
  const stella = await visit(t, browser, server, { page: "stream", name: "Stella" });
  // A sound of a tenth of a second, which every browser plays and Media Source does not know.
  const wav = Buffer.alloc(44 + 1_600);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(36 + 1_600, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(8_000, 24);
  wav.writeUInt32LE(16_000, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write("data", 36);
  wav.writeUInt32LE(1_600, 40);
  await emma.getByTestId("file").setInputFiles({ name: "tone <b>.wav", mimeType: "audio/wav", buffer: wav });
  await stella.getByTestId("share").getByText("tone <b>.wav").waitFor();
  await stella.getByTestId("watch").click();
  await stella.waitForSelector('#stage[data-mode="whole"]');
  await stella.getByTestId("save").waitFor();
  await eventually(async () => assert.ok(Math.abs((await stella.evaluate(() => document.getElementById("video").duration)) - 0.1) < 0.01));

  await emma.getByTestId("file").setInputFiles({ name: "page.html", mimeType: "text/html", buffer: Buffer.from("<script>alert(1)</script>") });
  await stella.getByTestId("share").filter({ hasText: "page.html" }).getByTestId("watch").click();
  await stella.getByTestId("title").getByText("page.html").waitFor();
  await stella.getByTestId("save").waitFor();
  // Opened by its address it must not be a page of ours.
  const url = await stella.getByTestId("save").getAttribute("href");
  assert.match(url, /^blob:/);
  assert.equal((await save(stella)).bytes.toString(), "<script>alert(1)</script>");
});

test("without anybody who has the rest, the page says so, and goes on when somebody comes back", async (t) => {
  const server = await startServer(t);
  const emma = await heldBack(t, server);
  const stella = await visit(t, browser, server, { page: "stream", name: "Stella" });
  const file = { name: "long.bin", mimeType: "video/webm", buffer: Buffer.alloc(2 * 1024 * 1024, 7) };
  await emma.getByTestId("file").setInputFiles(file);
  await stella.getByTestId("watch").click();
  const there = stella.getByTestId("cells").locator('i[data-state="there"]');
  await there.first().waitFor();
  await emma.getByTestId("leave").click();
  await stella.getByTestId("stalled").waitFor();
  assert.ok((await there.count()) < 8);
  await emma.evaluate(() => globalThis.release());
  await emma.getByTestId("enter").click();
  await inState(emma, "inside");
  await emma.getByTestId("file").setInputFiles(file);
  await stella.getByTestId("save").waitFor();
  await eventually(async () => assert.equal(await there.count(), 8));
  assert.equal(await stella.getByTestId("stalled").isVisible(), false);
});

/** It stood there as "shared by you", and nobody could watch it. */
test("a file that was changed on the disk is listed no longer, on either side, and whoever shared it is told", async (t) => {
  const server = await startServer(t);
  const emma = await visit(t, browser, server, { page: "stream", name: "Emma" });
  const stella = await visit(t, browser, server, { page: "stream", name: "Stella" });
  await emma.getByTestId("file").setInputFiles({ name: "notes.webm", mimeType: "video/webm", buffer: Buffer.alloc(1_000_000, 1) });
  await emma.getByTestId("share").getByText("shared by you").waitFor();
  await stella.getByTestId("share").waitFor();
  // What a browser says of a file that is not what was chosen.
  await emma.evaluate(() => {
    Blob.prototype.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("changed", "NotReadableError")) });
  });
  await stella.getByTestId("watch").click();
  await emma.waitForSelector('#hint[data-code="changed"]:not([hidden])');
  assert.match(await emma.getByTestId("hint-text").innerText(), /^notes\.webm has been changed/);
  assert.equal(await emma.getByText("shared by you").count(), 0);
  await eventually(async () => assert.equal(await stella.getByTestId("share").count(), 0));
  // Whoever watches it goes on to ask for it.
  await stella.getByTestId("stop").click();
  for (const page of [emma, stella]) await page.getByTestId("nothing").waitFor();
});
