/**
 * The example application that uses `useRoom`, as Vite builds it: once for production, and once for development, where StrictMode mounts
 * everything twice. A plain client in the same room sees what the others see of it.
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { QUICK, eventually, startBrowser, startServer, within } from "./support.js";

const EXAMPLE = fileURLToPath(new URL("../../web/examples/react/", import.meta.url));
const VITE = join(EXAMPLE, "node_modules/vite/bin/vite.js");
const MODES = ["production", "development"];
const BUILD_MS = 60_000;

const browser = await startBrowser({ after });

let builds;

before(async () => {
  builds = await mkdtemp(join(tmpdir(), "switchboard-react-"));
  for (const mode of MODES) {
    const args = [VITE, "build", "--mode", mode, "--outDir", join(builds, mode), "--emptyOutDir", "--logLevel", "warn"];
    await promisify(execFile)(process.execPath, args, { cwd: EXAMPLE, env: { ...process.env, NODE_ENV: mode }, timeout: BUILD_MS });
  }
});

after(() => builds && rm(builds, { recursive: true }));

for (const mode of MODES) {
  test(`two in a room see each other, talk, are renamed, and one leaves (built for ${mode})`, async (t) => {
    const server = await startServer(t);
    const site = await serve(t, join(builds, mode));
    const witness = await watch(t, server);
    const emma = await visit(t, { site, server, name: "Emma" });
    const stella = await visit(t, { site, server, name: "Stella" });
    await sees(emma, ["Stella", "Witness"]);
    await sees(stella, ["Emma", "Witness"]);

    await say(stella, "Hello? <b>☎</b>");
    await hears(emma, "Stella", "Hello? <b>☎</b>");
    await hears(stella, "Stella", "Hello? <b>☎</b>");

    stella.once("dialog", (dialog) => dialog.accept("Louise"));
    await stella.getByTestId("rename").click();
    await sees(emma, ["Louise", "Witness"]);
    await say(stella, "It is still me.");
    await hears(emma, "Louise", "It is still me.");

    // In the order of the server: whoever else had come meanwhile would stand before the new name.
    await eventually(async () => {
      const seen = await events(witness);
      const [first, second] = new Set(seen.map(([, peerId]) => peerId));
      const expected = [["peer-joined", first, "Emma"], ["peer-joined", second, "Stella"], ["peer-updated", second, "Louise"]];
      assert.deepEqual(seen, expected);
    });
    // Only a development build mounts twice; that it does is what makes the list above worth something.
    for (const page of [emma, stella]) assert.equal(await page.evaluate(() => globalThis.discoveries), mode === "development" ? 2 : 1);

    await stella.getByTestId("leave").click();
    await sees(emma, ["Witness"]);
    await stella.getByTestId("enter").click();
    await inState(stella, "connected");
    await sees(stella, ["Emma", "Witness"]);
    await stella.close();
    await sees(emma, ["Witness"]);
    await eventually(async () => assert.deepEqual((await events(witness)).slice(3).map(([type]) => type), ["peer-left", "peer-joined", "peer-left"]));
  });
}

test("when the server comes back, so does the room, by itself", async (t) => {
  const site = await serve(t, join(builds, "development"));
  const first = await startServer(t, QUICK);
  const emma = await visit(t, { site, server: first, name: "Emma" });
  const stella = await visit(t, { site, server: first, name: "Stella" });
  await sees(emma, ["Stella"]);
  await first.kill();
  for (const page of [emma, stella]) {
    await inState(page, "reconnecting");
    assert.match(await page.getByTestId("state").innerText(), /Connection lost.*\((connection-lost|unreachable): /);
  }
  await startServer(t, QUICK, new URL(first.url).port);
  for (const page of [emma, stella]) {
    await inState(page, "connected");
    assert.equal(await page.getByTestId("state").innerText(), "Connected");
  }
  await sees(emma, ["Stella"]);
  await sees(stella, ["Emma"]);
  await say(emma, "Here again.");
  await hears(stella, "Emma", "Here again.");
});

test("a room that is full and a server that is not there are told", async (t) => {
  const site = await serve(t, join(builds, "production"));
  const server = await startServer(t, { SWITCHBOARD_LIMITS_PEERS_PER_ROOM_MAX: "2" });
  for (const name of ["Emma", "Merle"]) await visit(t, { site, server, name });
  const late = await open(t, { site, server, name: "Stella" });
  await inState(late, "closed");
  assert.match(await late.getByTestId("state").innerText(), /^Not connected \(room-full: /);
  assert.equal(await late.getByTestId("say").isDisabled(), true);

  const nowhere = await open(t, { site, server: { url: site }, name: "Stella" });
  await inState(nowhere, "closed");
  assert.match(await nowhere.getByTestId("state").innerText(), /^Not connected \(not-switchboard: /);
});

/** Opens the application in a context of its own, inside the room. Counts how often it asks for the doors of the server. */
async function open(t, { site, server, name }) {
  const page = await browser.newPage(t);
  await page.addInitScript(() => {
    globalThis.discoveries = 0;
    const original = globalThis.fetch;
    globalThis.fetch = (url, ...rest) => {
      if (String(url).endsWith("/.well-known/switchboard")) globalThis.discoveries++;
      return original(url, ...rest);
    };
  });
  await page.goto(`${site}/?${new URLSearchParams({ server: server.url, room: "kitchen", name })}`);
  return page;
}

async function visit(t, options) {
  const page = await open(t, options);
  await inState(page, "connected");
  return page;
}

async function inState(page, state) {
  await page.waitForSelector(`main[data-state="${state}"]`).catch(async (error) => {
    throw new Error(`${error.message}\nthe page says: ${await page.innerText("body").catch(() => "nothing")}`);
  });
}

async function sees(page, names) {
  await eventually(async () => assert.deepEqual((await page.getByTestId("peer").allInnerTexts()).sort(), names));
}

async function say(page, text) {
  await page.getByTestId("text").fill(text);
  await page.getByTestId("say").click();
}

async function hears(page, name, text) {
  await eventually(async () => {
    const line = page.getByTestId("line").last();
    assert.deepEqual([await line.locator("b").innerText({ timeout: 1_000 }), await line.locator("span").innerText()], [name, text]);
  });
}

/** A client without React, which notes who comes, changes and goes. */
async function watch(t, server) {
  const page = await browser.newPage(t);
  await page.goto(`${server.url}/healthz`);
  const connected = page.evaluate(async (base) => {
    const { connect } = await import(`${base}/client.js`);
    globalThis.events = [];
    const client = await connect(base, { room: "kitchen", metadata: { name: "Witness" } });
    for (const type of ["peer-joined", "peer-updated", "peer-left"]) {
      client.addEventListener(type, ({ detail }) => globalThis.events.push([type, detail.peerId, detail.metadata?.name]));
    }
  }, server.url);
  await within(connected, "the witness in the room");
  return page;
}

const events = (witness) => witness.evaluate(() => globalThis.events);

/** Serves a folder; gives its origin. */
async function serve(t, folder) {
  const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };
  const site = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    try {
      const content = await readFile(join(folder, pathname === "/" ? "index.html" : pathname));
      response.writeHead(200, { "content-type": types[extname(pathname) || ".html"] ?? "application/octet-stream" }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await within(new Promise((resolve) => site.listen(0, "127.0.0.1", resolve)), "a port to serve the application from");
  t.after(() => {
    site.closeAllConnections();
    site.close();
  });
  return `http://127.0.0.1:${site.address().port}`;
}
